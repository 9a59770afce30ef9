"""A portal whose visits return what a test scripts, for tests of everything around portals."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr

from exporter.client.session import Session
from exporter.duration import Duration
from exporter.models import Commodity, Index, Interval, Register, Unit, UsagePoint, VisitResult
from exporter.portals.base import AccountConfig, Portal
from tests.visit_parts import VisitPart, build_result

POINT = UsagePoint("B-1", Commodity.WATER, meter="S-17", site="Mill", name="Kitchen")
REGISTER = Register(POINT, Unit.M3)
ZONE = ZoneInfo("Europe/Brussels")


@dataclass
class VisitScript:
    """What the next visits do: each entry is returned, raised, or called."""

    steps: list[Any] = field(default_factory=list)
    visits: list[datetime] = field(default_factory=list)


SCRIPTS: dict[str, VisitScript] = {}


class ScriptedConfig(AccountConfig):
    login_keys: ClassVar[tuple[str, ...]] = ("password",)

    portal: str = "brook"
    every: Annotated[Duration, Field()] = timedelta(hours=1)
    password: SecretStr = SecretStr("pw")


class ScriptedPortal(Portal):
    """A contract at Brook Water."""

    config: ScriptedConfig
    config_model: ClassVar = ScriptedConfig
    zone: ClassVar[ZoneInfo] = ZONE

    async def fetch_latest(self, session: Session) -> VisitResult:
        script = SCRIPTS[self.name]
        script.visits.append(session.now)
        step = script.steps.pop(0) if script.steps else []
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Callable):  # type: ignore[arg-type]
            step = await step(session)
        return build_result(step)


def build_portal(name: str = "home", **keys: Any) -> ScriptedPortal:
    return ScriptedPortal(ScriptedConfig(name=name, **keys))


async def hang_forever(session: Session) -> list[VisitPart]:
    """Never return."""
    await asyncio.sleep(3600)
    return []


def build_index(value: float, at: datetime, register: Register = REGISTER) -> Index:
    return Index(register, value, at)


def build_day(text: str, amount: float, register: Register = REGISTER, zone: ZoneInfo = ZONE) -> Interval:
    """Return a local day: build_day("2026-03-29", 0.2) has 23 hours."""
    start = datetime.fromisoformat(text)
    end = start + timedelta(days=1)
    return Interval(register, start.replace(tzinfo=zone).astimezone(UTC), end.replace(tzinfo=zone).astimezone(UTC), amount)
