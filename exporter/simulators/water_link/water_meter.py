"""A simulated water meter: its true consumption, and when the portal shows each of its days.

Everything follows from the meter's number and the date alone: every year has holidays without consumption, leaks in
March, September and November, days that come late and out of order, a week that comes at once, and corrected days.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from random import Random
from zoneinfo import ZoneInfo

BRUSSELS = ZoneInfo("Europe/Brussels")
DAY = timedelta(days=1)
NOON = time(12)


def day_start(day: date) -> datetime:
    """Return when a Belgian day begins, aware and local."""
    return datetime.combine(day, time(), BRUSSELS)


@dataclass(frozen=True, slots=True)
class WaterMeter:
    """One meter: `since` is the first day after it was mounted, at `start_litres`."""

    number: str
    address: object
    since: date = date(2025, 1, 1)
    start_litres: int = 180_250
    flow_limitation: bool | None = False

    def get_litres(self, day: date) -> int:
        """Return the consumption of a day."""
        return _compute_litres(self.number, day) if day >= self.since else 0

    def compute_index(self, day: date) -> int:
        """Return what the register shows when a day begins, in litres."""
        return self.start_litres + sum(self.get_litres(self.since + n * DAY) for n in range((day - self.since).days))

    def compute_litres_so_far(self, at: datetime) -> int:
        """Return the consumption of a day up to an instant of it."""
        start = day_start(at.astimezone(BRUSSELS).date())
        whole = day_start(start.date() + DAY).astimezone(UTC) - start.astimezone(UTC)
        return int(self.get_litres(start.date()) * ((at - start.astimezone(UTC)) / whole))

    def shown_at(self, day: date) -> datetime:
        """Return when the portal first shows a day: at noon of the next one, or later."""
        if day.month % 3 == 2 and 11 <= day.day <= 17:
            return datetime.combine(day.replace(day=20), NOON, BRUSSELS)
        random = Random(f"{self.number} late {day}")
        delay = random.randint(3, 5) if random.random() < 0.1 else 1
        return datetime.combine(day + delay * DAY, NOON, BRUSSELS)

    def get_shown_litres(self, day: date, at: datetime) -> int | None:
        """Return the litres that the portal shows for a day, if any; the third day is too low until noon of the ninth."""
        if not self.since <= day or at < self.shown_at(day):
            return None
        is_corrected = day.day != 3 or at >= datetime.combine(day.replace(day=9), NOON, BRUSSELS)
        return self.get_litres(day) if is_corrected else self.get_litres(day) * 8 // 10

    def find_latest_shown_day(self, at: datetime) -> date | None:
        """Return the newest day shown."""
        today = at.astimezone(BRUSSELS).date()
        return next((day for n in range(1, 60) if self.get_shown_litres(day := today - n * DAY, at) is not None), None)

    def build_state(self, at: datetime) -> dict[str, object]:
        """Return the portal's JSON of the meter's state."""
        latest = self.find_latest_shown_day(at)
        offset = (at.astimezone(BRUSSELS).date() - latest).days if latest else None
        index = f"{self.compute_index(latest + DAY) / 1000:.3f}".replace(".", ",") if latest else ""
        return {
            "meterReading": index,
            "latestMeterReading": f"{latest + DAY}T00:00:00" if latest else None,
            "isActive": True,
            "hasFlowLimitation": self.flow_limitation,
            "isUpToDate": offset is not None and offset <= 2,
            "address": self.address,
            "divergentConsumption": latest is not None and is_leaking(latest),
            "daysOffset": offset,
            "noDataPermission": False,
        }


def is_leaking(day: date) -> bool:
    """Return whether a pipe leaks: five days in March and September, and from the 18th to the 22nd of November."""
    return (day.month in (3, 9) and 5 <= day.day <= 9) or (day.month == 11 and 18 <= day.day <= 22)


def is_away(day: date) -> bool:
    """Return whether nobody is at home: two weeks of July, and Christmas."""
    return (day.month == 7 and 13 <= day.day <= 26) or (day.month == 12 and 24 <= day.day <= 29)


@lru_cache(maxsize=50_000)
def _compute_litres(number: str, day: date) -> int:
    if is_away(day):
        return 0
    random = Random(f"{number} {day}")
    litres = random.randint(120, 310) + (80 if day.weekday() >= 5 else 0)
    return litres + (random.randint(1000, 1500) if is_leaking(day) else 0)
