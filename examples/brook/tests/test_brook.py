"""Visits to the simulated Brook, compared with its true values, and what can go wrong."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from brook_water.account import Brook
from brook_water.parser import ZONE
from brook_water.simulation import BrookSimulation

from exporter.commands import open_account
from exporter.config.loader import load_portals
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.ledger.ledger import Ledger
from exporter.models import Fact, Facts, Index, Interval
from exporter.poller import open_session
from exporter.simulators.base import run_simulation

NOW = datetime(2031, 3, 31, 9, 30, tzinfo=UTC)


@dataclass
class BrookFixture:
    """The simulated portal, and a ledger for its visits."""

    simulation: BrookSimulation
    url: str
    ledger: Ledger

    def account(self, **keys: Any) -> Brook:
        return Brook.model_validate(self.simulation.build_accounts(self.url)[0] | keys)

    async def visit(self, **keys: Any) -> list[Any]:
        account = self.account(**keys)
        open_account(self.ledger, account)
        async with open_session(account, self.ledger, lambda: NOW) as session:
            return list((await account.latest(session, self.ledger.get_stored_readings(account.name))).parts())

    async def run_import(self, first: date | None, last: date | None) -> list[Interval]:
        account = self.account()
        open_account(self.ledger, account)
        async with open_session(account, self.ledger, lambda: NOW) as session:
            chunks = await account.list_backfill_chunks(session, first, last)
            return [reading for chunk in chunks for reading in await account.fetch_backfill_chunk(session, chunk)]


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
    A visit returns the index, the flag and the days that are in, as the portal knows them; the second needs no login.
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


async def test_import(brook):
    """
    An import returns every requested day once.
    """
    intervals = await brook.run_import(date(2030, 12, 15), date(2031, 2, 10))

    assert len(intervals) == 58
    assert set(days_by_date(intervals).values()) == {brook.simulation.litres_on(date(2031, 1, day)) / 1000 for day in range(1, 8)}


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


async def test_a_changed_field_is_named(brook, monkeypatch):
    """
    When a day's amount is no number any more, the message names the field.
    """
    monkeypatch.setattr(brook.simulation, "litres_on", lambda _: "a lot")
    monkeypatch.setattr(brook.simulation, "current_index", lambda: (1.0, datetime(2031, 3, 31)))  # noqa: DTZ001

    with pytest.raises(ResponseError, match=r"list of days has changed: days\.0\.litres"):
        await brook.visit()
