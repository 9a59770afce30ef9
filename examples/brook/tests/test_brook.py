"""Visits to the simulated Brook, compared with its true values, and what can go wrong."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from brook_water.account import Brook, BrookConfig
from brook_water.parser import ZONE
from brook_water.simulation import BrookSimulation

from exporter.clock import WallClock
from exporter.config.loader import load_portals
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.models import Fact, Facts, Index, Interval
from exporter.poller import AccountPoller
from exporter.simulators.base import run_simulation
from exporter.visit import open_account, open_session

NOW = datetime(2031, 3, 31, 9, 30, tzinfo=UTC)


@dataclass
class BrookFixture:
    """The simulated portal, and a ledger for its visits."""

    simulation: BrookSimulation
    url: str
    ledger: Ledger

    def account(self, **keys: Any) -> Brook:
        return Brook(BrookConfig.model_validate(self.simulation.build_accounts(self.url)[0] | keys))

    async def visit(self, **keys: Any) -> list[Any]:
        account = self.account(**keys)
        open_account(self.ledger, account)
        async with open_session(account, self.ledger, lambda: NOW) as session:
            latest = await account.fetch_latest(session)
            days = await account.read(
                session, account.list_feeds()[0], NOW.date() - timedelta(days=7), NOW.date() - timedelta(days=1)
            )
            return [*latest.readings, *latest.facts, *days.readings]

    async def read_history(self) -> set[date]:
        """Visit as the exporter does, and go on with the history; return the days that are stored."""
        poller = AccountPoller(self.account(), self.ledger, MetricsPage(self.ledger, lambda: NOW, "0"), StillClock())
        await poller.open()
        await poller.visit()
        for _ in range(2):
            await poller.step()
        with self.ledger.snapshot() as snapshot:
            (series,) = (line for line in snapshot.select_series() if line.resolution == "P1D")
            return {row.at.astimezone(ZONE).date() for row in snapshot.select_readings(series.id, NOW - timedelta(days=900), NOW)}


class StillClock(WallClock):
    """A clock that stands."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
async def brook(tmp_path: Path) -> AsyncIterator[BrookFixture]:
    simulation = BrookSimulation(lambda: NOW)
    with Ledger(tmp_path) as ledger:
        async with run_simulation(simulation) as url:
            yield BrookFixture(simulation, url, ledger)


def days_by_date(readings: list[Any]) -> dict[date, float]:
    return {part.start.astimezone(ZONE).date(): part.amount for part in readings if isinstance(part, Interval)}


def test_it_is_installed():
    """
    The exporter finds the portal by its entry point.
    """

    assert load_portals()["brook"] is Brook


async def test_a_visit(brook):
    """
    A visit returns the index and the flag, a request of the feed the days that are in, as the portal knows them; the second
    visit needs no login.
    """
    brook.simulation.has_leak, brook.simulation.late_days = True, 2
    parts = await brook.visit()
    await brook.visit()

    value, at = brook.simulation.current_index()
    assert [(part.value, part.at) for part in parts if isinstance(part, Index)] == [
        (value, at.replace(tzinfo=ZONE).astimezone(UTC))
    ]
    assert [part.values for part in parts if isinstance(part, Facts)] == [{Fact.DIVERGENT_CONSUMPTION: 1.0}]
    assert days_by_date(parts) == {
        date(2031, 3, day): brook.simulation.litres_on(date(2031, 3, day)) / 1000 for day in range(24, 29)
    }
    assert brook.simulation.login_count == 1


async def test_the_day_the_clocks_change(brook):
    """
    The 30th of March 2031 has 23 hours.
    """
    brook.simulation.late_days = 0
    parts = await brook.visit()

    assert [part.end - part.start for part in parts if isinstance(part, Interval)][-1].total_seconds() == 23 * 3600


async def test_the_history_comes_by_itself(brook):
    """
    The exporter asks for every day of the two years that Brook keeps, those that are late too once they are in.
    """
    brook.simulation.late_days = 2
    days = await brook.read_history()

    assert (min(days), max(days), len(days)) == (date(2029, 3, 30), date(2031, 3, 28), 729)


@pytest.mark.parametrize(
    ("pattern", "fault", "error"),
    [
        ("/login", "status:401", LoginError),
        ("/login", "status:503", UnreachableError),
        ("/login", "garbage", ResponseError),
        ("/meter", "html", ResponseError),
        ("/meter", "empty", ResponseError),
        ("/meter", "retry:60", RateLimitError),
        ("/days", "cut", UnreachableError),
    ],
)
async def test_what_can_go_wrong(brook, pattern, fault, error):
    """
    Whatever goes wrong raises one of the exporter's errors, and no message holds a secret.
    """
    brook.simulation.faults.add(pattern, fault)

    with pytest.raises(error) as raised:
        await brook.visit()
    assert "stony" not in str(raised.value)


async def test_a_wrong_password_and_a_wrong_contract(brook):
    """
    A refused password is a LoginError, so that it is not tried again; a wrong contract names the key to fix.
    """
    with pytest.raises(LoginError):
        await brook.visit(password="wrong")
    with pytest.raises(PortalError, match="contract: "):
        await brook.visit(contract="C-7")


async def test_one_odd_day_costs_one_day(brook, monkeypatch):
    """
    It is left out, and the others are stored.
    """
    brook.simulation.late_days = 0
    true_litres = brook.simulation.litres_on
    odd = NOW.date() - timedelta(days=3)
    monkeypatch.setattr(brook.simulation, "litres_on", lambda day: "a lot" if day == odd else true_litres(day))
    monkeypatch.setattr(brook.simulation, "current_index", lambda: (1.0, datetime(2031, 3, 31)))  # noqa: DTZ001

    days = days_by_date(await brook.visit())
    assert len(days) == 6
    assert odd not in days


async def test_a_changed_field_is_named(brook, monkeypatch):
    """
    When no day's amount is a number any more, the message names the field.
    """
    brook.simulation.late_days = 0
    monkeypatch.setattr(brook.simulation, "litres_on", lambda _: "a lot")
    monkeypatch.setattr(brook.simulation, "current_index", lambda: (1.0, datetime(2031, 3, 31)))  # noqa: DTZ001

    with pytest.raises(ResponseError, match=r"list of days has changed: days\.0\.litres"):
        await brook.visit()
