"""CEM: what lies between two visits, and before the first one, through the program's own poller and import."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.history import ImportOptions, import_feeds
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.portals.cem.account import Cem
from exporter.portals.cem.config import PRAGUE, CemConfig
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from exporter.visit import open_session
from tests.conftest import NOW, FakeClock
from tests.fault_proxy import list_readings

NAMES = ("gas", "leak")


@dataclass
class Home:
    """A simulated portal, and a folder in which the program keeps its ledger."""

    simulation: CemSimulation
    url: str
    folder: Path
    clock: FakeClock

    def build_portal(self, **keys: Any) -> Cem:
        (account,) = self.simulation.build_accounts(self.url)
        numbers = [self.simulation.named_counters[name] for name in NAMES]
        return Cem(
            CemConfig(**(account | {"counters": {"include": numbers}, "history_limit": "60d", "history_gap": "30d"} | keys))
        )

    async def run(self, hours: float, every: float = 0.5) -> None:
        """Start the program, let it visit for some hours, and stop it."""
        with Ledger(self.folder) as ledger:
            portal = self.build_portal()
            poller = AccountPoller(portal, ledger, MetricsPage(ledger, self.clock, "0"), self.clock, lambda: 0.5)
            await poller.open()
            end = self.clock.at + timedelta(hours=hours)
            while self.clock.at < end:
                await poller.visit()
                assert poller.state.up, poller.state.message
                self.clock.advance(hours=every)

    async def run_import(self) -> None:
        with Ledger(self.folder) as ledger:
            portal = self.build_portal()
            ledger.open_account(
                portal.name, portal=portal.config.portal, zone=portal.zone.key, login=portal.config.build_login_digest()
            )
            async with open_session(portal, ledger, self.clock) as session:
                await import_feeds(portal, ledger, session, ImportOptions(), oldest=None)

    def find_missing(self, start: datetime, end: datetime) -> list[datetime]:
        """Return the readings of the portal that the ledger lacks, or has otherwise."""
        with Ledger(self.folder) as ledger:
            stored = {(key[2], key[-1]): value for key, value in list_readings(ledger)}
        missing = []
        for name in NAMES:
            counter = self.simulation.named_counters[name]
            for at, value in self.simulation.list_readings(counter, start, end):
                if stored.get((str(counter), at)) != value:
                    missing.append(at)
        return missing

    def count_requests(self, since: int) -> Counter[str]:
        return Counter(f"{one.method} {one.query['id']}" for one in self.simulation.requests[since:])


@pytest.fixture
async def home(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Home]:
    simulation = CemSimulation(clock, flats=2)
    async with run_simulation(simulation) as url:
        yield Home(simulation, url, tmp_path, clock)


async def test_off_for_twenty_hours_leaves_no_hole(home: Home) -> None:
    """
    A program that was off for 20 hours has every hour of them after its next visit, by one request.
    """
    await home.run(hours=8)
    off_from = home.clock()
    home.clock.advance(hours=20)
    requests = len(home.simulation.requests)
    await home.run(hours=0.5)

    assert not home.find_missing(off_from - timedelta(hours=4), NOW + timedelta(hours=28))
    assert home.count_requests(requests)["GET 20"] == 1


async def test_a_start_reads_the_running_months_first(home: Home) -> None:
    """
    The first visits bring the past by themselves, newest days first, until all of it is there.
    """
    await home.run(hours=0.5)
    month = datetime(2026, 11, 1, tzinfo=PRAGUE).astimezone(UTC)
    assert not home.find_missing(month, NOW)
    await home.run(hours=2)

    assert not home.find_missing(NOW - timedelta(days=59), NOW)


async def test_no_request_for_the_past_in_a_quiet_day(home: Home) -> None:
    """
    Once all was asked, a day of visits costs the last values alone, beside the logins and the lists of the account.
    """
    await home.run(hours=4)
    requests = len(home.simulation.requests)
    await home.run(hours=24)
    counts = home.count_requests(requests)

    assert counts["GET 20"] == counts["GET 3"] == 0
    assert counts["POST 8"] == 48
    assert sum(counts.values()) <= 48 + 26 + 8 + 1  # a token lasts an hour; four lists twice; types once a week


async def test_an_import_brings_what_the_portal_lacked(home: Home) -> None:
    """
    Days that the portal did not have when they were asked come with the same import later.
    """
    lost = datetime(2026, 10, 20, tzinfo=PRAGUE).astimezone(UTC), datetime(2026, 10, 24, tzinfo=PRAGUE).astimezone(UTC)
    home.simulation.lost_span = lost
    await home.run(hours=0.5)
    await home.run_import()
    assert not home.find_missing(NOW - timedelta(days=59), NOW)  # all that it has
    home.simulation.lost_span = None
    assert home.find_missing(*lost)
    home.clock.advance(days=10)
    await home.run_import()

    assert not home.find_missing(*lost)


async def test_history_by_counter_where_all_at_once_is_refused(home: Home) -> None:
    """
    A portal that refuses id=20 fails no visit: the same readings come by id=3.
    """
    home.simulation.faults.add("api?id=20", "status:404")
    await home.run(hours=0.5)
    month = datetime(2026, 11, 10, tzinfo=PRAGUE).astimezone(UTC)

    assert not home.find_missing(month, NOW)
