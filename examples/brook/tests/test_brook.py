"""Visits to the simulated Brook, compared with its truth, and what can go wrong there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from brook_water import Brook
from brook_water.answers import LOCAL
from brook_water.simulation import BrookSimulation

from exporter.config import portals
from exporter.demo.base import running
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.ledger import Ledger
from exporter.model import Fact, Facts, Index, Interval
from exporter.oneoff import open_quietly
from exporter.poller import session_for
from exporter.portals.base import Wanted

NOW = datetime(2031, 3, 31, 9, 30, tzinfo=UTC)


@dataclass
class Home:
    """The simulated portal, a way to visit it, and a ledger that keeps its tokens."""

    portal: BrookSimulation
    url: str
    ledger: Ledger

    def account(self, **keys: Any) -> Brook:
        return Brook.model_validate(self.portal.accounts(self.url)[0] | keys)

    async def visit(self, **keys: Any) -> list[Any]:
        account = self.account(**keys)
        open_quietly(self.ledger, account)
        async with session_for(account, self.ledger, lambda: NOW) as session:
            return [told async for told in account.fetch(session, Wanted(self.ledger.known(account.name)))]

    async def bring(self, first: date | None, last: date | None) -> list[Interval]:
        account = self.account()
        open_quietly(self.ledger, account)
        async with session_for(account, self.ledger, lambda: NOW) as session:
            pieces = await account.pieces(session, first, last)
            return [reading for piece in pieces for reading in await account.past(session, piece)]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    simulation = BrookSimulation(lambda: NOW)
    with Ledger(tmp_path) as ledger:
        async with running(simulation) as url:
            yield Home(simulation, url, ledger)


def days(told: list[Any]) -> dict[date, float]:
    return {one.start.astimezone(LOCAL).date(): one.amount for one in told if isinstance(one, Interval)}


def test_it_is_installed():
    """
    The exporter finds the portal by its entry point.
    """

    assert portals()["brook"] is Brook


async def test_a_visit(home):
    """
    A visit tells the index, the flag and the days that are in, as the portal knows them; the second needs no login.
    """
    home.portal.leak, home.portal.late = True, 2
    told = await home.visit()
    await home.visit()

    value, at = home.portal.index()
    assert [(one.value, one.at) for one in told if isinstance(one, Index)] == [(value, at.replace(tzinfo=LOCAL).astimezone(UTC))]
    assert [one.values for one in told if isinstance(one, Facts)] == [{Fact.DIVERGENT_CONSUMPTION: 1.0}]
    assert days(told) == {date(2031, 3, day): home.portal.litres(date(2031, 3, day)) / 1000 for day in range(24, 29)}
    assert home.portal.logins == 1


async def test_the_day_the_clocks_change(home):
    """
    The 30th of March 2031 has 23 hours.
    """
    home.portal.late = 0
    told = await home.visit()

    assert [one.end - one.start for one in told if isinstance(one, Interval)][-1].total_seconds() == 23 * 3600


async def test_the_past(home):
    """
    An import brings every day asked for, once.
    """
    brought = await home.bring(date(2030, 12, 15), date(2031, 2, 10))

    assert len(brought) == 58
    assert set(days(brought).values()) == {home.portal.litres(date(2031, 1, day)) / 1000 for day in range(1, 8)}


@pytest.mark.parametrize(
    ("where", "what", "error"),
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
async def test_what_can_go_wrong(home, where, what, error):
    """
    Whatever goes wrong raises one of the exporter's errors, and no message holds a secret.
    """
    home.portal.faults.set(where, what)

    with pytest.raises(error) as raised:
        await home.visit()
    assert "stony" not in str(raised.value)


async def test_a_wrong_password_and_a_wrong_contract(home):
    """
    A refused password is a LoginError, so that it is not tried again; a wrong contract says which key to mend.
    """
    with pytest.raises(LoginError):
        await home.visit(password="wrong")
    with pytest.raises(PortalError, match="contract: "):
        await home.visit(contract="C-7")


async def test_a_changed_field_is_named(home, monkeypatch):
    """
    When a day's amount is no number any more, the message says where.
    """
    monkeypatch.setattr(home.portal, "litres", lambda _: "a lot")
    monkeypatch.setattr(home.portal, "index", lambda: (1.0, datetime(2031, 3, 31)))  # noqa: DTZ001

    with pytest.raises(ResponseError, match=r"list of days has changed: days\.0\.litres"):
        await home.visit()
