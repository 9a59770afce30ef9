"""An account on the simulation of Enedis, and the results of its visits as a ledger would store them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from exporter.client.session import Session
from exporter.errors import PortalError
from exporter.models import Index, Interval, NextVisit, PartialFailure, Peak, Reading, StateUpdate, VisitPart
from exporter.portals.enedis.account import Enedis
from exporter.portals.enedis.timestamps import PARIS, local_day
from exporter.simulators.base import run_simulation
from exporter.simulators.enedis.simulation import EnedisSimulation
from tests.conftest import NO_STORED_READINGS, FakeClock, InMemoryAccountStore

PRM = "01234567890123"
FIXTURES = Path(__file__).parent.parent / "fixtures" / "enedis"
ACCESS_METHODS = [
    ("conso", "2026"),
    ("conso", "v5"),
    ("dataconnect", "2026"),
    ("dataconnect", "v5"),
    ("myelectricaldata", "v2"),
    ("myelectricaldata", "v1"),
]
ResultT = TypeVar("ResultT")


def load_fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@dataclass
class EnedisAccount:
    """An account, its simulation, and what its ledger would hold."""

    portal: Enedis
    simulation: EnedisSimulation
    clock: FakeClock
    account_store: InMemoryAccountStore
    readings: dict[Any, Reading] = field(default_factory=dict)
    results: list[VisitPart] = field(default_factory=list)

    @asynccontextmanager
    async def open_session(self, **more: Any) -> AsyncIterator[Session]:
        async with Session(
            **{
                "store": self.account_store,
                "clock": self.clock,
                "timeout": timedelta(seconds=5),
                "user_agent": self.portal.build_user_agent(),
            }
            | more
        ) as session:
            yield session

    async def visit(self, **more: Any) -> list[VisitPart]:
        """Make a visit; its results are stored only when it succeeds."""
        self.results = []
        async with self.open_session(**more) as session:
            async for result in self.portal.fetch(session, NO_STORED_READINGS):
                self.results.append(result)
        await self.store(self.results)
        return self.results

    async def visit_and_fail(self, **more: Any) -> PortalError:
        """Make a visit that fails and return its error."""
        try:
            await self.visit(**more)
        except PortalError as error:
            return error
        raise AssertionError("the visit did not fail")

    async def visit_in_part(self) -> PortalError:
        """Make a visit that fails, be it in part, and return its error."""
        try:
            await self.visit()
        except PortalError as error:
            return error
        return self.select_results(PartialFailure)[0].error

    async def store(self, results: Sequence[VisitPart]) -> None:
        for each in results:
            if isinstance(each, StateUpdate):
                await self.account_store.put(each.key, json.loads(json.dumps(each.value)), each.expires_at)
            elif isinstance(each, Index | Interval | Peak):
                self.readings[build_key(each)] = each

    def select_results(self, kind: type[ResultT]) -> list[ResultT]:
        """Return the results of the last visit of one type."""
        return [each for each in self.results if isinstance(each, kind)]

    def get_next_visit(self) -> datetime:
        (next_visit,) = self.select_results(NextVisit)
        return next_visit.at

    @property
    def today(self) -> date:
        return local_day(self.clock.at)

    def get_days(self, *, producing: bool = False, prm: str = "") -> dict[date, float]:
        """Return the stored daily energy of a home."""
        return {
            reading.start.astimezone(PARIS).date(): reading.amount
            for reading in self.list_intervals(producing=producing, prm=prm)
            if reading.end - reading.start >= timedelta(hours=23)
        }

    def get_curve(self, day: date, *, producing: bool = False, prm: str = "") -> list[tuple[datetime, datetime, float]]:
        """Return the stored intervals of a day of a home."""
        return sorted(
            (reading.start, reading.end, reading.amount)
            for reading in self.list_intervals(producing=producing, prm=prm)
            if reading.end - reading.start <= timedelta(hours=1) and local_day(reading.start) == day
        )

    def list_intervals(self, *, producing: bool, prm: str) -> list[Interval]:
        prm = prm or self.simulation.producer.prm
        direction = "injection" if producing else "consumption"
        found = [reading for reading in self.readings.values() if isinstance(reading, Interval)]
        return [each for each in found if each.register.usage_point.id == prm and each.register.direction == direction]

    def list_newest_calls(self) -> list[Any]:
        """Return the requests for the newest days, by the Conso API."""
        return [seen for seen in self.simulation.requests if seen.query.get("dateFin") == str(local_day(seen.received_at))]


def build_key(reading: Reading) -> Any:
    if isinstance(reading, Interval):
        return reading.register, reading.end - reading.start, reading.start
    if isinstance(reading, Index):
        return reading.register, reading.at
    return reading.usage_point, reading.start


@asynccontextmanager
async def run_account(
    access: str = "conso", api: str = "2026", *, clock: FakeClock | None = None, **overrides: Any
) -> AsyncIterator[EnedisAccount]:
    """Run the simulation and build an account on it."""
    clock = clock or FakeClock()
    simulation = EnedisSimulation(clock)
    async with run_simulation(simulation) as url:
        yield EnedisAccount(
            Enedis(**simulation.build_account(url, access, api) | overrides), simulation, clock, InMemoryAccountStore()
        )


def restrict_usage_points(account: EnedisAccount, *points: dict[str, Any]) -> None:
    """Restrict an account of the Conso API to these usage points."""
    keys = account.portal.model_dump() | {"token": account.simulation.conso.token, "usage_points": points}
    account.portal = Enedis(**keys)
