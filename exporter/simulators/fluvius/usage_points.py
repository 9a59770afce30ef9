"""Simulated usage points in Flanders: what their meters measured, and when the portal publishes it.

Everything is computed from the requested instant; nothing is stored. Amounts are whole numbers (Wh, litres of gas, tenths
of a Wh of gas) until they are shown, so that sums are exact.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zlib import crc32
from zoneinfo import ZoneInfo

BRUSSELS = ZoneInfo("Europe/Brussels")
QUARTER, HOUR = timedelta(minutes=15), timedelta(hours=1)
CONSUMPTION, INJECTION = 1, 2
TOTAL, DAY, NIGHT = 0, 1, 2
KWH, CUBIC_METRES = 3, 5
ESTIMATED, VALIDATED = 1, 2
RegisterCode = tuple[int, int, int]
"""Direction, register and unit, as the portal numbers them."""
SCALE = {("electricity", KWH): 1000, ("gas", CUBIC_METRES): 1000, ("gas", KWH): 10000}


@dataclass(frozen=True)
class MountedMeter:
    """A meter mounted at a usage point in [mounted, removed)."""

    serial: str
    mounted: datetime
    removed: datetime


@dataclass(frozen=True)
class SimulatedUsagePoint:
    """A usage point: what is measured there, by which meters, since when, and since when in intervals."""

    ean: str
    commodity: str
    meters: tuple[MountedMeter, ...]
    since: date
    intervals_since: date | None = None
    has_day_and_night: bool = False
    has_solar: bool = False

    def day_start(self, day: date) -> datetime:
        """Return the instant at which a metering day begins."""
        return datetime.combine(day, time(6 if self.commodity == "gas" else 0), BRUSSELS).astimezone(UTC)

    def metering_day(self, at: datetime) -> date:
        """Return the metering day of an instant."""
        wall = at.astimezone(BRUSSELS).replace(tzinfo=None)
        return (wall - timedelta(hours=6 if self.commodity == "gas" else 0)).date()

    def interval_length(self) -> timedelta:
        """Return the length of an interval."""
        return HOUR if self.commodity == "gas" else QUARTER

    def published_at(self, day: date) -> datetime:
        """Return when the portal publishes a day: electricity in the course of the next one, some later; gas after 72 hours."""
        ready = self.day_start(day + timedelta(days=1)) + timedelta(
            minutes=7 * 60 + self._pseudo_random(day, "published") % (8 * 60)
        )
        if self.commodity == "gas":
            return ready + timedelta(hours=65)
        return ready + timedelta(days=1 + self._pseudo_random(day, "how late") % 2) if self.is_late(day) else ready

    def due_at(self, day: date) -> datetime:
        """Return when a day should be published; until then a late day has a record without values."""
        return self.published_at(day) - (timedelta(days=2) if self.is_late(day) else timedelta())

    def is_late(self, day: date) -> bool:
        """Return whether a day is published late, perhaps after the next ones."""
        return self.commodity != "gas" and self._pseudo_random(day, "late") % 13 == 0

    def is_estimated(self, day: date, at: datetime) -> bool:
        """Return whether a day is still an estimate: some are at first, and are corrected three days later."""
        return self._pseudo_random(day, "estimated") % 9 == 0 and at < self.published_at(day) + timedelta(days=3)

    def _pseudo_random(self, day: date, purpose: str) -> int:
        return crc32(f"{self.ean} {day} {purpose}".encode())


def to_shown_value(usage_point: SimulatedUsagePoint, unit: int, amount: int) -> float:
    """Return a whole number as the portal shows it."""
    return amount / SCALE[usage_point.commodity, unit]


@lru_cache(maxsize=8192)
def list_intervals(usage_point: SimulatedUsagePoint, day: date) -> tuple[tuple[datetime, Mapping[RegisterCode, int]], ...]:
    """Return the intervals of a metering day: start, and amounts by code; 92 to 100 quarter-hours, 23 to 25 gas hours."""
    start, end = usage_point.day_start(day), usage_point.day_start(day + timedelta(days=1))
    count = (end - start) // usage_point.interval_length()
    return tuple((at, _measure(usage_point, at)) for at in (start + n * usage_point.interval_length() for n in range(count)))


def list_meter_intervals(
    usage_point: SimulatedUsagePoint, meter: MountedMeter, day: date
) -> Iterator[tuple[datetime, Mapping[RegisterCode, int]]]:
    """Return the intervals of a day that a meter measured."""
    return ((at, amounts) for at, amounts in list_intervals(usage_point, day) if meter.mounted <= at < meter.removed)


@lru_cache(maxsize=8192)
def sum_day(usage_point: SimulatedUsagePoint, meter: MountedMeter, day: date) -> Mapping[RegisterCode, int]:
    """Return what a meter measured on a day, by the registers of the usage point."""
    sums: Counter[RegisterCode] = Counter()
    was_mounted = False
    for _, amounts in list_meter_intervals(usage_point, meter, day):
        was_mounted = True
        sums.update(amounts)
    if not was_mounted:
        return {}
    registers = (
        [(CONSUMPTION, dc, KWH) for dc in ((DAY, NIGHT) if usage_point.has_day_and_night else (TOTAL,))]
        if usage_point.commodity != "gas"
        else []
    )
    registers += [(INJECTION, dc, KWH) for _, dc, _ in tuple(registers) if usage_point.has_solar]
    return {code: sums[code] for code in registers or sums}


@lru_cache(maxsize=8192)
def find_day_peak(usage_point: SimulatedUsagePoint, meter: MountedMeter, day: date) -> tuple[int, datetime] | None:
    """Return the highest power of a day in W, and the quarter-hour it was in."""
    found = [
        (4 * amount, at)
        for at, amounts in list_meter_intervals(usage_point, meter, day)
        for code, amount in amounts.items()
        if code[0] == CONSUMPTION
    ]
    return max(found, key=lambda peak: (peak[0], -peak[1].timestamp())) if found else None


def overestimate(amounts: Mapping[RegisterCode, int]) -> Mapping[RegisterCode, int]:
    """Return the estimate that the portal shows at first: a tenth too much."""
    return {code: amount * 11 // 10 for code, amount in amounts.items()}


def _measure(usage_point: SimulatedUsagePoint, at: datetime) -> Mapping[RegisterCode, int]:
    chance = crc32(f"{usage_point.ean} {at.timestamp():.0f}".encode())
    wall = at.astimezone(BRUSSELS)
    if usage_point.commodity == "gas":
        litres = int(120 + 500 * _coldness(wall.date()) + chance % 180) if wall.hour >= 6 else chance % 90
        return {(CONSUMPTION, TOTAL, CUBIC_METRES): litres, (CONSUMPTION, TOTAL, KWH): litres * _gas_coefficient(wall) // 10}
    tariff = (DAY if wall.weekday() < 5 and 7 <= wall.hour < 22 else NIGHT) if usage_point.has_day_and_night else TOTAL
    used = 30 + chance % 90 + (chance // 90 % 260 if 17 <= wall.hour < 22 else 0) + (900 if chance % 331 == 0 else 0)
    sun = int(_sunshine(wall) * (400 + chance // 7 % 300)) if usage_point.has_solar else 0
    amounts = {(CONSUMPTION, tariff, KWH): max(0, used - sun)}
    return amounts | {(INJECTION, tariff, KWH): max(0, sun - used)} if usage_point.has_solar else amounts


def _gas_coefficient(wall: datetime) -> int:
    """Return the hundredths of a kWh in a m³ of gas; they differ each month."""
    return 1120 + (wall.year * 12 + wall.month) * 7 % 23


@lru_cache(maxsize=2048)
def _coldness(day: date) -> float:
    return (1 + math.cos((day.timetuple().tm_yday - 15) / 58.1)) / 2


def _sunshine(wall: datetime) -> float:
    if not 6 <= wall.hour < 18:
        return 0.0
    return math.sin((wall.hour + wall.minute / 60 - 6) / 12 * math.pi) * (1.2 - _coldness(wall.date()))
