"""Every portal over restarts: a wrong password costs one attempt, a good one serves on its kept token."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from exporter.commands.demo import build_simulations
from exporter.config.loader import load_config
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.simulators.base import Simulation, run_simulation
from tests.conftest import NOW, FakeClock
from tests.fault_proxy import LOGINS


class SimulatedAccount:
    """An account on one simulation, started again and again on the same ledger."""

    def __init__(self, folder: Path, simulation: Simulation, url: str, clock: FakeClock) -> None:
        self.folder, self.simulation, self.url, self.clock = folder, simulation, url, clock

    async def start(self, **keys: object) -> AccountPoller:
        """Start as a process does; visit if it is due, and end."""
        (self.folder / "config.yaml").write_text(json.dumps({"accounts": [self.simulation.build_accounts(self.url)[0] | keys]}))
        (account,) = load_config(self.folder / "config.yaml").accounts
        with Ledger(self.folder / "data") as ledger:
            poller = AccountPoller(account, ledger, MetricsPage(ledger, self.clock, "0"), self.clock)
            await poller.open()
            if poller.state.next_visit is None or poller.state.next_visit <= self.clock():
                await poller.visit()
        return poller


@pytest.fixture(params=LOGINS)
async def account(request, tmp_path, clock):
    (simulation,) = [each for each in build_simulations(clock) if each.portal == request.param]
    async with run_simulation(simulation) as url:
        yield SimulatedAccount(tmp_path, simulation, url, clock)


async def test_a_wrong_password_costs_one_attempt_over_ten_restarts(account):
    """
    Ten restarts within a day cost one attempt at the login; the right password is tried at once.
    """
    for _ in range(10):
        poller = await account.start(password="not the password")
        assert (poller.state.up, poller.state.reason) == (False, "login")
        account.clock.advance(hours=2)
    assert LOGINS[account.simulation.portal](account.simulation) == 1
    poller = await account.start()

    assert (poller.state.up, poller.state.reason) == (True, ""), poller.state.message
    assert LOGINS[account.simulation.portal](account.simulation) == 2


async def test_one_login_for_as_long_as_the_token_lives(account):
    """
    Visits within a token's life, each in a process of its own, share one login.
    """
    for _ in range(5):
        poller = await account.start(every="15m")
        assert poller.state.up, poller.state.message
        account.clock.at = max(poller.state.next_visit, account.clock())
        if account.clock() > NOW + timedelta(minutes=50):
            break

    assert LOGINS[account.simulation.portal](account.simulation) == 1


async def test_messages_name_no_secret(account):
    """
    What a failed login leaves in the state names neither user nor password.
    """
    poller = await account.start(password="not the password")

    assert "not the password" not in poller.state.message
    assert account.simulation.build_accounts(account.url)[0]["username"] not in poller.state.message
