"""Accounts on a simulation of Fluvius, asked by the engine, and their readings as a ledger would store them."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from exporter.client.session import Session
from exporter.errors import PortalError
from exporter.models import Interval, Peak, Reading, format_resolution
from exporter.portals.fluvius.account import Fluvius
from exporter.portals.fluvius.config import FluviusConfig
from exporter.portals.fluvius.feeds import FeedKind, build_feeds
from exporter.simulators.base import run_simulation
from exporter.simulators.fluvius.simulation import FluviusSimulation, TrueAmount
from exporter.sync.engine import Engine, StepResult
from exporter.sync.feeds import Feed, FeedResult, Period
from tests.conftest import FakeClock, OpenSession
from tests.visit_parts import Note, PartialFailure, VisitPart


@asynccontextmanager
async def run_account(clock: Any, **overrides: Any) -> AsyncIterator[tuple[FluviusSimulation, Fluvius]]:
    """Run a simulation and build an account on it; `overrides` are keys of the account, or arguments of the simulation.

    A visit makes six requests of backlog where nothing else is given.
    """
    overrides = {"interval_requests": 6} | overrides
    arguments = {key: overrides.pop(key) for key in ("since", "replaced_at", "intervals_since") if key in overrides}
    simulation = FluviusSimulation(clock, **arguments)
    async with run_simulation(simulation) as url:
        yield simulation, Fluvius(FluviusConfig(**(simulation.build_accounts(url)[0] | overrides)))


@dataclass
class Saved:
    """What a transaction changed."""

    new: int = 0
    corrected: int = 0


@dataclass
class StoredAccount:
    """What the ledger holds of an account: readings and coverage."""

    readings: dict[tuple[Any, ...], Reading] = field(default_factory=dict)
    """By usage point, register, direction, unit, resolution and start."""
    coverage: dict[str, str] = field(default_factory=dict)
    last: list[Reading] = field(default_factory=list)
    """What came since it was cleared."""
    notes: set[str] = field(default_factory=set)
    errors: list[PortalError] = field(default_factory=list)

    async def load_coverage(self) -> Mapping[str, str]:
        return self.coverage

    async def read_periods(self, feeds: Sequence[Feed], start: datetime, end: datetime) -> Mapping[str, Sequence[Period]]:
        since, until = start.timestamp(), end.timestamp()
        return {
            feed.key: sorted(
                {period for one in self.readings.values() if (period := feed.period(one)) and since <= period[0] < until}
            )
            for feed in feeds
        }

    async def save(self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = "") -> Saved:
        self.coverage |= coverage
        self.notes |= set(result.notes if result else ())
        saved = Saved()
        for one in result.readings if result else ():
            key = build_key(one)
            saved.new += key not in self.readings
            saved.corrected += key in self.readings and self.readings[key] != one
            self.readings[key] = one
            self.last.append(one)
        return saved

    def select(self, resolution: str, *eans: str) -> set[TrueAmount]:
        """Return the stored amounts of a resolution, of these usage points or of all."""
        return build_amounts(one for key, one in self.readings.items() if key[4] == resolution and (not eans or key[0] in eans))

    def select_peaks(self, ean: str) -> list[Peak]:
        found = (one for one in self.readings.values() if isinstance(one, Peak) and one.usage_point.id == ean)
        return sorted(found, key=lambda one: one.start)


def build_key(reading: Reading) -> tuple[Any, ...]:
    if isinstance(reading, Peak):
        return (reading.usage_point.id, "peak", "", "kW", "P1M", reading.start)
    assert isinstance(reading, Interval)
    register = reading.register
    length = format_resolution(reading.end - reading.start)
    return (register.usage_point.id, register.name, register.direction, register.unit, length, reading.start)


async def ask(account: Fluvius, session: Session, stored: StoredAccount) -> StepResult:
    """Make a visit as the poller does: what is asked at each, then the feeds."""
    await account.fetch_latest(session)
    engine = Engine(account, stored, every=account.config.every, pace=account.pace)
    return await engine.visit(session, session.now)


async def run_visit(account: Fluvius, session: Session, stored: StoredAccount | None = None) -> list[VisitPart]:
    """Make a visit and return all that came of it."""
    stored = stored or StoredAccount()
    stored.last.clear()
    latest = await account.fetch_latest(session)
    assert latest.inventory
    result = await Engine(account, stored, every=account.config.every, pace=account.pace).visit(session, session.now)
    failures = [*result.failures.values(), *([result.stopped] if result.stopped else [])]
    unique = {id(error): error for error in failures}.values()
    return [latest.inventory, *stored.last, *map(Note, result.notes), *map(PartialFailure, unique)]


async def read(account: Fluvius, session: Session, ean: str, kind: FeedKind, first: date, last: date) -> list[VisitPart]:
    """Return the readings of days [first, last] of a feed."""
    [feed] = [entry.feed for entry in build_feeds(account.config).values() if entry.meter.ean == ean and entry.kind is kind]
    return [*(await account.read(session, feed, first, last)).readings]


def list_errors(results: Iterable[VisitPart]) -> list[PortalError]:
    return [one.error for one in results if isinstance(one, PartialFailure)]


async def catch_up(account: Fluvius, visit: OpenSession, stored: StoredAccount) -> int:
    """Make a visit and all steps of the backlog, each at the instant it is due; return how many steps there were."""
    steps = 0
    async with visit() as session:
        clock = session._clock
        assert isinstance(clock, FakeClock)
        await account.fetch_latest(session)
        engine = Engine(account, stored, every=account.config.every, pace=account.pace)
        result = await engine.visit(session, session.now)
        while result.next_step and result.pending:
            clock.at = max(result.next_step, clock.at)
            result = await engine.step(session, session.now)
            steps += 1
    return steps


async def live(account: Fluvius, visit: OpenSession, stored: StoredAccount, clock: FakeClock, *, days: float, hours: int) -> None:
    """Visit every so many hours, for so many days; each visit is one of a new process."""
    for _ in range(round(days * 24 / hours)):
        async with visit() as session:
            result = await ask(account, session, stored)
            stored.errors += result.failures.values()
        clock.advance(hours=hours)


def list_truth(simulation: FluviusSimulation, eans: Iterable[str], first: date, last: date) -> set[TrueAmount]:
    """Return the true amounts of days [first, last]."""
    return {one for ean in eans for one in simulation.list_true_days(ean, first, last)}


def list_true_intervals(simulation: FluviusSimulation, ean: str, first: date, last: date) -> set[TrueAmount]:
    """Return the true intervals of days [first, last]."""
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return {one for day in days for one in simulation.list_true_intervals(ean, day)}


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
