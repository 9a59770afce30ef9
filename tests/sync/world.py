"""Days of a simulation: visits and steps on a moved clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from exporter.sync.engine import Engine, StepResult
from exporter.sync.feeds import Feed
from tests.sync.memory_store import MemoryStore
from tests.sync.messy_portal import Mess, MessyPortal

START = datetime(2025, 6, 10, 7, tzinfo=UTC)


@dataclass
class World:
    """An account's engine, its portal and its ledger."""

    feeds: Sequence[Feed]
    mess: Mess = field(default_factory=Mess)
    every: timedelta = timedelta(hours=3)
    start: datetime = START

    def __post_init__(self) -> None:
        self.portal = MessyPortal(self.feeds, self.mess, self.start, self.start)
        self.store = MemoryStore(self.feeds)
        self.engine = self.restarted()
        self.now = self.start

    def restarted(self) -> Engine[None]:
        self.engine = Engine(self.portal, self.store, every=self.every)
        return self.engine

    async def visit(self) -> StepResult:
        self.portal.now = self.now
        self.store.record(await self.portal.fetch_latest(None))
        return await self.engine.visit(None, self.now)

    async def step(self, at: datetime) -> StepResult:
        self.portal.now = at
        return await self.engine.step(None, at)

    async def run(self, days: float, each: Callable[[], None] = lambda: None) -> None:
        """Live so many days; a step that is wanted before the next visit is made."""
        end = self.now + timedelta(days=days)
        while self.now < end:
            following = self.now + self.every
            if not 0 <= (self.now - self.start).days - self.mess.off < 25 or self.mess.off < 0:
                result = await self.visit()
                while result.next_step and result.next_step < following:
                    result = await self.step(result.next_step)
                each()
            self.now = following
