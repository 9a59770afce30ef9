"""Accounts on a simulation of Fluvius, and their readings as a ledger would store them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from exporter.models import Interval, Peak, StoredInterval, VisitPart, format_resolution
from exporter.portals.fluvius.account import Fluvius
from exporter.simulators.base import run_simulation
from exporter.simulators.fluvius.simulation import FluviusSimulation, TrueAmount


@asynccontextmanager
async def run_account(clock: Any, **overrides: Any) -> AsyncIterator[tuple[FluviusSimulation, Fluvius]]:
    """Run a simulation and build an account on it; `overrides` are keys of the account, or arguments of the simulation."""
    arguments = {key: overrides.pop(key) for key in ("since", "replaced_at", "intervals_since") if key in overrides}
    simulation = FluviusSimulation(clock, **arguments)
    async with run_simulation(simulation) as url:
        yield simulation, Fluvius(**(simulation.build_accounts(url)[0] | overrides))


@dataclass
class StoredIntervals:
    """The stored intervals, as far as a portal may query them."""

    readings: dict[tuple[Any, ...], StoredInterval] = field(default_factory=dict)

    def store(self, results: Iterable[VisitPart], now: datetime) -> None:
        for result in results:
            if isinstance(result, Interval):
                register = result.register
                key = (
                    register.usage_point.id,
                    register.name,
                    register.direction,
                    register.unit,
                    format_resolution(result.end - result.start),
                    result.start,
                )
                known = StoredInterval(
                    register.name, register.direction, register.unit, result.start, result.end, result.amount, now
                )
                self.readings[key] = known

    async def intervals(
        self, usage_point: str, start: datetime, end: datetime, resolution: str | None = None
    ) -> list[StoredInterval]:
        found = [
            known
            for key, known in self.readings.items()
            if key[0] == usage_point and start <= known.start < end and resolution in (None, key[4])
        ]
        return sorted(found, key=lambda known: known.start)

    async def span(self, usage_point: str, resolution: str) -> tuple[datetime, datetime] | None:
        raise AssertionError("not asked by Fluvius")


async def run_visit(account: Fluvius, session: Any, stored: StoredIntervals | None = None) -> list[VisitPart]:
    """Make a whole visit and store its results."""
    stored = stored or StoredIntervals()
    results = [result async for result in account.fetch(session, stored)]
    stored.store(results, session.now)
    return results


def build_amounts(results: Iterable[VisitPart]) -> set[TrueAmount]:
    """Return intervals as the simulation's true amounts, to compare them."""
    return {
        TrueAmount(
            result.register.usage_point.id,
            result.register.name,
            str(result.register.direction),
            str(result.register.unit),
            result.start,
            result.end,
            result.amount,
        )
        for result in results
        if isinstance(result, Interval)
    }


def select_peaks(results: Iterable[VisitPart]) -> list[Peak]:
    return [result for result in results if isinstance(result, Peak)]
