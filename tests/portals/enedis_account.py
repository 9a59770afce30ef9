"""An account on the simulation of Enedis, and the results of its visits as a ledger would store them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from exporter.client.session import Session
from exporter.errors import PortalError, RateLimitError
from exporter.models import Index, Interval, Peak, Reading, VisitResult
from exporter.portals.enedis.account import Enedis
from exporter.portals.enedis.config import EnedisConfig
from exporter.portals.enedis.timestamps import PARIS, local_day
from exporter.simulators.base import run_simulation
from exporter.simulators.enedis.simulation import EnedisSimulation
from exporter.sync.engine import Engine, StepResult
from exporter.sync.feeds import FeedResult
from exporter.sync.planner import RequestKind
from tests.conftest import FakeClock, InMemoryAccountStore
from tests.sync.memory_store import MemoryStore, Saved

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


def load_fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


class AccountStore(MemoryStore):
    """The feeds' side of a ledger, with the notes of feeds."""

    def __init__(self, account: "EnedisAccount") -> None:
        super().__init__(account.portal.list_feeds())
        self.account = account
        self.notes: dict[str, tuple[str, ...]] = {}

    async def save(self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = "") -> Saved:
        for key in coverage:
            if result is not None or refusal:
                self.notes[key] = result.notes if result else (refusal,)
        if result:
            for reading in result.readings:
                self.account.readings[build_key(reading)] = reading
        return await super().save(coverage, result, at, refusal=refusal)


@dataclass
class EnedisAccount:
    """An account, its simulation, its engine, and what its ledger would hold."""

    portal: Enedis
    simulation: EnedisSimulation
    clock: FakeClock
    account_store: InMemoryAccountStore
    readings: dict[Any, Reading] = field(default_factory=dict)
    latest: VisitResult = field(default_factory=VisitResult)
    result: StepResult = field(default_factory=StepResult)
    error: PortalError | None = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, **keys: Any) -> None:
        """Start again with an empty ledger of feeds, and with changed keys of the configuration."""
        if keys:
            self.portal = Enedis(EnedisConfig.model_validate(dict(self.portal.config) | keys))
        self.store = AccountStore(self)
        self.resume()

    def resume(self) -> None:
        """Start the program again with the same ledger."""
        self.portal = Enedis(self.portal.config)
        self.engine = Engine[Session](self.portal, self.store, every=self.portal.config.every, pace=self.portal.pace)

    @asynccontextmanager
    async def open_session(self, **more: Any) -> AsyncIterator[Session]:
        async with Session(
            **{
                "store": self.account_store,
                "clock": self.clock,
                "timeout": timedelta(seconds=5),
                "user_agent": self.portal.config.build_user_agent(),
            }
            | more
        ) as session:
            yield session

    async def visit(self, **more: Any) -> None:
        """Make a visit as the poller does; `error` is how it failed, if it did."""
        self.latest, self.result, self.error = VisitResult(), StepResult(), None
        async with self.open_session(**more) as session:
            try:
                self.latest = await self.portal.fetch_latest(session)
            except PortalError as error:
                self.error = error
                return
            self.result = await self.engine.visit(session, self.clock.at)
        stopped = self.result.stopped
        if isinstance(stopped, RateLimitError) and self.result.stopped_in is not RequestKind.DUE:
            stopped = None
        self.error = stopped or next(iter(self.result.failures.values()), None)

    async def visit_and_fail(self, **more: Any) -> PortalError:
        """Make a visit that fails and return its error."""
        await self.visit(**more)
        assert self.error, "the visit did not fail"
        return self.error

    async def step(self) -> StepResult:
        async with self.open_session() as session:
            return await self.engine.step(session, self.clock.at)

    async def read_backlog(self) -> int:
        """Go on with the backlog until nothing is left to ask before the next visit; return the number of requests."""
        requests, result = 0, self.result
        while result.next_step and result.requests | self.result.requests:
            self.clock.at = max(self.clock.at, result.next_step)
            result = await self.step()
            requests += result.requests
        return requests

    async def live(self, days: float, every: timedelta = timedelta(hours=6)) -> None:
        """Live so many days: visits, and the steps that are wanted before the next one."""
        end = self.clock.at + timedelta(days=days)
        while self.clock.at < end:
            following = self.clock.at + every
            await self.visit()
            result = self.result
            while result.next_step and result.next_step < following:
                self.clock.at = result.next_step
                result = await self.step()
            self.clock.at = following

    @property
    def notes(self) -> list[str]:
        """What the account's user is told."""
        return list(dict.fromkeys([*self.latest.notes, *(note for notes in self.store.notes.values() for note in notes)]))

    @property
    def peaks(self) -> list[Peak]:
        return [reading for reading in self.readings.values() if isinstance(reading, Peak)]

    @property
    def indexes(self) -> list[Index]:
        return [reading for reading in self.readings.values() if isinstance(reading, Index)]

    @property
    def intervals(self) -> list[Interval]:
        return [reading for reading in self.readings.values() if isinstance(reading, Interval)]

    def get_own_token(self, prm: str) -> dict[str, str]:
        """Return the key of a usage point that has a token of its own."""
        return {"token": self.simulation.v1_tokens[prm]} if self.portal.config.api_version == "v1" else {}

    def get_next_visit(self) -> datetime:
        assert self.latest.next_visit
        return self.latest.next_visit

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
        return [each for each in self.intervals if each.register.usage_point.id == prm and each.register.direction == direction]

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
            Enedis(EnedisConfig(**simulation.build_account(url, access, api) | overrides)),
            simulation,
            clock,
            InMemoryAccountStore(),
        )


def restrict_usage_points(account: EnedisAccount, *points: dict[str, Any]) -> None:
    """Restrict an account to these usage points."""
    account.restart(usage_points=points)
