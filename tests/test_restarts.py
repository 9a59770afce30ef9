"""Every portal over restarts: a wrong password costs one attempt, a good one serves on its kept token."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from exporter.config import load
from exporter.demo.base import Simulation, running
from exporter.demo.runner import simulations
from exporter.ledger import Ledger
from exporter.metrics import Page
from exporter.poller import AccountPoller
from tests.between import LOGINS
from tests.conftest import NOW, Clock


class Watch:
    """The clock of the test, as the poller wants it; nobody sleeps."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock

    async def sleep(self, length: timedelta) -> None:
        raise AssertionError("a visit does not sleep")


class House:
    """One account at one simulation, started again and again on the same ledger."""

    def __init__(self, folder: Path, portal: Simulation, url: str, clock: Clock) -> None:
        self.folder, self.portal, self.url, self.clock = folder, portal, url, clock

    async def start(self, **keys: object) -> AccountPoller:
        """Start as a process does; visit if it is due, and end."""
        (self.folder / "config.yaml").write_text(json.dumps({"accounts": [self.portal.accounts(self.url)[0] | keys]}))
        (account,) = load(self.folder / "config.yaml").accounts
        with Ledger(self.folder / "data") as ledger:
            poller = AccountPoller(account, ledger, Page(ledger, self.clock, "0"), Watch(self.clock))
            await poller.open()
            if poller.state.next_visit is None or poller.state.next_visit <= self.clock():
                await poller.visit()
        return poller


@pytest.fixture(params=LOGINS)
async def house(request, tmp_path, clock):
    (portal,) = [one for one in simulations(clock) if one.portal == request.param]
    async with running(portal) as url:
        yield House(tmp_path, portal, url, clock)


async def test_a_wrong_password_costs_one_attempt_over_ten_restarts(house):
    """
    Ten restarts within a day cost one attempt at the login; the right password is tried at once.
    """
    for _ in range(10):
        poller = await house.start(password="not the password")
        assert (poller.state.up, poller.state.reason) == (False, "login")
        house.clock.move(hours=2)
    assert LOGINS[house.portal.portal](house.portal) == 1
    poller = await house.start()

    assert (poller.state.up, poller.state.reason) == (True, ""), poller.state.message
    assert LOGINS[house.portal.portal](house.portal) == 2


async def test_one_login_for_as_long_as_the_token_lives(house):
    """
    Visits within a token's life, each in a process of its own, share one login.
    """
    for _ in range(5):
        poller = await house.start(every="15m")
        assert poller.state.up, poller.state.message
        house.clock.at = max(poller.state.next_visit, house.clock())
        if house.clock() > NOW + timedelta(minutes=50):
            break

    assert LOGINS[house.portal.portal](house.portal) == 1


async def test_messages_name_no_secret(house):
    """
    What a failed login leaves in the state names neither user nor password.
    """
    poller = await house.start(password="not the password")

    assert "not the password" not in poller.state.message
    assert house.portal.accounts(house.url)[0]["username"] not in poller.state.message
