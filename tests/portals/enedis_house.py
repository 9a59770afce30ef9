"""What the tests of Enedis share: an account on the simulation, and visits of which is kept what a ledger would keep."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from exporter.demo.base import running
from exporter.demo.enedis import EnedisSimulation
from exporter.errors import PortalError
from exporter.model import Index, Interval, NextVisit, Peak, Reading, Remember, Told
from exporter.portals.enedis import Enedis
from exporter.portals.enedis.stamps import PARIS, local_day
from exporter.session import Session
from tests.conftest import EVERYTHING, Clock, DictMemory

PRM = "01234567890123"
FIXTURES = Path(__file__).parent.parent / "fixtures" / "enedis"
WAYS = [
    ("conso", "2026"),
    ("conso", "v5"),
    ("dataconnect", "2026"),
    ("dataconnect", "v5"),
    ("myelectricaldata", "v2"),
    ("myelectricaldata", "v1"),
]
Kind = TypeVar("Kind")


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@dataclass
class House:
    """An account, its simulation, and what its ledger would hold."""

    portal: Enedis
    simulation: EnedisSimulation
    clock: Clock
    memory: DictMemory
    kept: dict[Any, Reading] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)

    @asynccontextmanager
    async def session(self, **more: Any) -> AsyncIterator[Session]:
        async with Session(
            **{
                "memory": self.memory,
                "clock": self.clock,
                "timeout": timedelta(seconds=5),
                "user_agent": self.portal.agent(),
            }
            | more
        ) as session:
            yield session

    async def visit(self, **more: Any) -> list[Told]:
        """Make a visit; what it told is kept only when it ends well."""
        self.told = []
        async with self.session(**more) as session:
            async for told in self.portal.fetch(session, EVERYTHING):
                self.told.append(told)
        await self.keep(self.told)
        return self.told

    async def refused(self, **more: Any) -> PortalError:
        """Make a visit that fails; gives its error."""
        try:
            await self.visit(**more)
        except PortalError as error:
            return error
        raise AssertionError("the visit did not fail")

    async def keep(self, told: Sequence[Told]) -> None:
        for each in told:
            if isinstance(each, Remember):
                await self.memory.put(each.key, json.loads(json.dumps(each.value)), each.ends)
            elif isinstance(each, Index | Interval | Peak):
                self.kept[key(each)] = each

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Give what the last visit told of a kind."""
        return [each for each in self.told if isinstance(each, kind)]

    def next_visit(self) -> datetime:
        (told,) = self.of(NextVisit)
        return told.at

    @property
    def today(self) -> date:
        return local_day(self.clock.at)

    def days(self, *, producing: bool = False, prm: str = "") -> dict[date, float]:
        """Give the energy of the days kept of a home."""
        return {
            reading.start.astimezone(PARIS).date(): reading.amount
            for reading in self.intervals(producing=producing, prm=prm)
            if reading.end - reading.start >= timedelta(hours=23)
        }

    def curve(self, day: date, *, producing: bool = False, prm: str = "") -> list[tuple[datetime, datetime, float]]:
        """Give the intervals kept of a day of a home."""
        return sorted(
            (reading.start, reading.end, reading.amount)
            for reading in self.intervals(producing=producing, prm=prm)
            if reading.end - reading.start <= timedelta(hours=1) and local_day(reading.start) == day
        )

    def intervals(self, *, producing: bool, prm: str) -> list[Interval]:
        prm = prm or self.simulation.producing.prm
        direction = "injection" if producing else "consumption"
        found = [reading for reading in self.kept.values() if isinstance(reading, Interval)]
        return [each for each in found if each.register.point.id == prm and each.register.direction == direction]

    def week_calls(self) -> list[Any]:
        """Give the calls seen that asked for the newest days, by the Conso API."""
        return [seen for seen in self.simulation.seen if seen.query.get("dateFin") == str(local_day(seen.at))]


def key(reading: Reading) -> Any:
    if isinstance(reading, Interval):
        return reading.register, reading.end - reading.start, reading.start
    if isinstance(reading, Index):
        return reading.register, reading.at
    return reading.point, reading.start


@asynccontextmanager
async def house(access: str = "conso", api: str = "2026", *, clock: Clock | None = None, **keys: Any) -> AsyncIterator[House]:
    """Run the simulation and make an account on it."""
    clock = clock or Clock()
    simulation = EnedisSimulation(clock)
    async with running(simulation) as url:
        yield House(Enedis(**simulation.account(url, access, api) | keys), simulation, clock, DictMemory())


def only(home: House, *points: dict[str, Any]) -> None:
    """Let an account of the Conso API read only these usage points."""
    keys = home.portal.model_dump() | {"token": home.simulation.conso.token, "usage_points": points}
    home.portal = Enedis(**keys)
