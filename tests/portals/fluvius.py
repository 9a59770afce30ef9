"""What the tests of Fluvius share: a simulation on the test's clock, accounts that visit it, and a ledger in a list."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from exporter.demo.base import running
from exporter.demo.fluvius import Amount, FluviusSimulation
from exporter.model import Interval, KnownInterval, Peak, Told, resolution
from exporter.portals.base import Wanted
from exporter.portals.fluvius import Fluvius


@asynccontextmanager
async def portal(clock: Any, **more: Any) -> AsyncIterator[tuple[FluviusSimulation, Fluvius]]:
    """Run a simulation, and give it with the account that visits it; `more` are keys of the account, or of the simulation."""
    own = {key: more.pop(key) for key in ("since", "swapped", "intervals_since") if key in more}
    simulation = FluviusSimulation(clock, **own)
    async with running(simulation) as url:
        yield simulation, Fluvius(**(simulation.accounts(url)[0] | more))


@dataclass
class Kept:
    """A ledger of intervals, as far as a portal may ask it."""

    readings: dict[tuple[Any, ...], KnownInterval] = field(default_factory=dict)

    def keep(self, told: Iterable[Told], now: datetime) -> None:
        for one in told:
            if isinstance(one, Interval):
                line = one.register
                key = (line.point.id, line.name, line.direction, line.unit, resolution(one.end - one.start), one.start)
                known = KnownInterval(line.name, line.direction, line.unit, one.start, one.end, one.amount, now)
                self.readings[key] = known

    async def intervals(
        self, usage_point: str, start: datetime, end: datetime, resolution: str | None = None
    ) -> list[KnownInterval]:
        wanted = [
            known
            for key, known in self.readings.items()
            if key[0] == usage_point and start <= known.start < end and resolution in (None, key[4])
        ]
        return sorted(wanted, key=lambda known: known.start)

    async def span(self, usage_point: str, resolution: str) -> tuple[datetime, datetime] | None:
        raise AssertionError("not asked by Fluvius")


async def collect(account: Fluvius, session: Any, kept: Kept | None = None) -> list[Told]:
    """Make a whole visit, and keep what it told."""
    kept = kept or Kept()
    told = [one async for one in account.fetch(session, Wanted(kept))]
    kept.keep(told, session.now)
    return told


def amounts(told: Iterable[Told]) -> set[Amount]:
    """Say readings in the simulation's words, to compare them with its truth."""
    return {
        Amount(
            one.register.point.id,
            one.register.name,
            str(one.register.direction),
            str(one.register.unit),
            one.start,
            one.end,
            one.amount,
        )
        for one in told
        if isinstance(one, Interval)
    }


def peaks(told: Iterable[Told]) -> list[Peak]:
    return [one for one in told if isinstance(one, Peak)]
