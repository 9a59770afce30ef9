"""The truth behind the simulated portal: an invented household, and when each of its days is shown.

Everything follows from the meter's number and the date alone, so any year is alive: holidays without use, a leak in
March, September and November, days that come late and out of order, a week that comes all at once, days corrected later.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from random import Random
from zoneinfo import ZoneInfo

LOCAL = ZoneInfo("Europe/Brussels")
DAY = timedelta(days=1)
NOON = time(12)


def midnight(day: date) -> datetime:
    """Begin of a Belgian day, aware and local."""
    return datetime.combine(day, time(), LOCAL)


@dataclass(frozen=True, slots=True)
class Household:
    """One meter's household: `since` is the first day after the meter was mounted, at `start` litres."""

    number: str
    address: object
    since: date = date(2025, 1, 1)
    start: int = 180_250
    flow_limitation: bool | None = False

    def litres(self, day: date) -> int:
        """What was used on a day."""
        return _litres(self.number, day) if day >= self.since else 0

    def index(self, day: date) -> int:
        """What the register shows, in litres, as a day begins."""
        return self.start + sum(self.litres(self.since + n * DAY) for n in range((day - self.since).days))

    def used_so_far(self, at: datetime) -> int:
        """How much of a day's use has passed at an instant of it."""
        start = midnight(at.astimezone(LOCAL).date())
        whole = midnight(start.date() + DAY).astimezone(UTC) - start.astimezone(UTC)
        return int(self.litres(start.date()) * ((at - start.astimezone(UTC)) / whole))

    def shown_from(self, day: date) -> datetime:
        """When the portal first shows a day: at noon of the next one, or later."""
        if day.month % 3 == 2 and 11 <= day.day <= 17:
            return datetime.combine(day.replace(day=20), NOON, LOCAL)
        late = Random(f"{self.number} late {day}")
        wait = late.randint(3, 5) if late.random() < 0.1 else 1
        return datetime.combine(day + wait * DAY, NOON, LOCAL)

    def shown(self, day: date, at: datetime) -> int | None:
        """The litres that the portal gives for a day; None before it does. Day 3 is first too low, till noon of day 9."""
        if not self.since <= day or at < self.shown_from(day):
            return None
        corrected = day.day != 3 or at >= datetime.combine(day.replace(day=9), NOON, LOCAL)
        return self.litres(day) if corrected else self.litres(day) * 8 // 10

    def latest(self, at: datetime) -> date | None:
        """The newest day shown."""
        today = at.astimezone(LOCAL).date()
        return next((day for n in range(1, 60) if self.shown(day := today - n * DAY, at) is not None), None)

    def state(self, at: datetime) -> dict[str, object]:
        """What the portal states of the meter: the nine fields of its answer."""
        latest = self.latest(at)
        offset = (at.astimezone(LOCAL).date() - latest).days if latest else None
        index = f"{self.index(latest + DAY) / 1000:.3f}".replace(".", ",") if latest else ""
        return {
            "meterReading": index,
            "latestMeterReading": f"{latest + DAY}T00:00:00" if latest else None,
            "isActive": True,
            "hasFlowLimitation": self.flow_limitation,
            "isUpToDate": offset is not None and offset <= 2,
            "address": self.address,
            "divergentConsumption": latest is not None and leaking(latest),
            "daysOffset": offset,
            "noDataPermission": False,
        }


def leaking(day: date) -> bool:
    """Whether a pipe leaks: five days in March and September, and from the 18th to the 22nd of November."""
    return (day.month in (3, 9) and 5 <= day.day <= 9) or (day.month == 11 and 18 <= day.day <= 22)


def away(day: date) -> bool:
    """Whether nobody is at home: two weeks of July, and Christmas."""
    return (day.month == 7 and 13 <= day.day <= 26) or (day.month == 12 and 24 <= day.day <= 29)


@lru_cache(maxsize=50_000)
def _litres(number: str, day: date) -> int:
    if away(day):
        return 0
    chance = Random(f"{number} {day}")
    use = chance.randint(120, 310) + (80 if day.weekday() >= 5 else 0)
    return use + (chance.randint(1000, 1500) if leaking(day) else 0)
