"""A portal that says what a test tells it to, for tests of the house around portals."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr

from exporter.model import Commodity, Index, Interval, Register, Told, Unit, UsagePoint
from exporter.portals.base import Duration, Portal, Wanted
from exporter.session import Session

POINT = UsagePoint("B-1", Commodity.WATER, meter="S-17", site="Mill", name="Kitchen")
WATER = Register(POINT, Unit.M3)
ZONE = ZoneInfo("Europe/Brussels")


@dataclass
class Script:
    """What the next visits do: each entry is told, raised, or called."""

    steps: list[Any] = field(default_factory=list)
    visits: list[datetime] = field(default_factory=list)


SCRIPTS: dict[str, Script] = {}


class Brook(Portal):
    """A contract at Brook Water."""

    zone: ClassVar[ZoneInfo] = ZONE
    login_keys: ClassVar[tuple[str, ...]] = ("password",)

    portal: str = "brook"
    every: Annotated[Duration, Field()] = timedelta(hours=1)
    password: SecretStr = SecretStr("pw")

    async def fetch(self, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
        script = SCRIPTS[self.name]
        script.visits.append(session.now)
        step = script.steps.pop(0) if script.steps else []
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Callable):  # type: ignore[arg-type]
            step = await step(session)
        for item in step:
            yield item


async def hang(session: Session) -> list[Told]:
    """Never come back."""
    await asyncio.sleep(3600)
    return []


def index(value: float, at: datetime, register: Register = WATER) -> Index:
    return Index(register, value, at)


def day(text: str, amount: float, register: Register = WATER, zone: ZoneInfo = ZONE) -> Interval:
    """Give a local day: day("2026-03-29", 0.2) has 23 hours."""
    start = datetime.fromisoformat(text)
    end = start + timedelta(days=1)
    return Interval(register, start.replace(tzinfo=zone).astimezone(UTC), end.replace(tzinfo=zone).astimezone(UTC), amount)
