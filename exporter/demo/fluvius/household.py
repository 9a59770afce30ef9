"""An invented household in Flanders: what its meters truly measured, and when the portal publishes it.

Everything is worked out from the instant asked about; nothing is stored. Amounts are whole numbers (Wh, litres of gas, tenths
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
TAKEN, INJECTED = 1, 2
TOTAL, DAY, NIGHT = 0, 1, 2
KWH, CUBIC_METRES = 3, 5
ESTIMATED, GOOD = 1, 2
Code = tuple[int, int, int]
"""Direction, register and unit, as the portal numbers them."""
SCALE = {("electricity", KWH): 1000, ("gas", CUBIC_METRES): 1000, ("gas", KWH): 10000}


@dataclass(frozen=True)
class Device:
    """A meter mounted at a place in [mounted, removed)."""

    serial: str
    mounted: datetime
    removed: datetime


@dataclass(frozen=True)
class Place:
    """A usage point: what is measured there, by which devices, since when, and since when in intervals."""

    ean: str
    commodity: str
    devices: tuple[Device, ...]
    since: date
    intervals_since: date | None = None
    split: bool = False
    solar: bool = False

    def edge(self, day: date) -> datetime:
        """The instant at which a metering day begins."""
        return datetime.combine(day, time(6 if self.commodity == "gas" else 0), BRUSSELS).astimezone(UTC)

    def day_of(self, at: datetime) -> date:
        """The metering day of an instant."""
        wall = at.astimezone(BRUSSELS).replace(tzinfo=None)
        return (wall - timedelta(hours=6 if self.commodity == "gas" else 0)).date()

    def step(self) -> timedelta:
        """The length of an interval."""
        return HOUR if self.commodity == "gas" else QUARTER

    def published(self, day: date) -> datetime:
        """When the portal shows a day: electricity in the course of the next one, some later; gas after 72 hours."""
        ready = self.edge(day + timedelta(days=1)) + timedelta(minutes=7 * 60 + self._chance(day, "published") % (8 * 60))
        if self.commodity == "gas":
            return ready + timedelta(hours=65)
        return ready + timedelta(days=1 + self._chance(day, "how late") % 2) if self.late(day) else ready

    def due(self, day: date) -> datetime:
        """When the portal should show a day; until it does, a late day has a record without values."""
        return self.published(day) - (timedelta(days=2) if self.late(day) else timedelta())

    def late(self, day: date) -> bool:
        """Whether a day is published late, after its followers perhaps."""
        return self.commodity != "gas" and self._chance(day, "late") % 13 == 0

    def estimated(self, day: date, at: datetime) -> bool:
        """Whether a day is still an estimate: some are at first, and are corrected three days later."""
        return self._chance(day, "estimated") % 9 == 0 and at < self.published(day) + timedelta(days=3)

    def _chance(self, day: date, what: str) -> int:
        return crc32(f"{self.ean} {day} {what}".encode())


def shown(place: Place, unit: int, amount: int) -> float:
    """Turn a whole number into what the portal shows."""
    return amount / SCALE[place.commodity, unit]


@lru_cache(maxsize=8192)
def steps(place: Place, day: date) -> tuple[tuple[datetime, Mapping[Code, int]], ...]:
    """Give the intervals of a metering day: start, and amounts by code; 92 to 100 quarter-hours, 23 to 25 gas hours."""
    start, end = place.edge(day), place.edge(day + timedelta(days=1))
    count = (end - start) // place.step()
    return tuple((at, _measured(place, at)) for at in (start + n * place.step() for n in range(count)))


def of_device(place: Place, device: Device, day: date) -> Iterator[tuple[datetime, Mapping[Code, int]]]:
    """Give the intervals of a day that a device measured."""
    return ((at, amounts) for at, amounts in steps(place, day) if device.mounted <= at < device.removed)


@lru_cache(maxsize=8192)
def day_sums(place: Place, device: Device, day: date) -> Mapping[Code, int]:
    """Give what a device measured on a day; a register that the place does not have is not in it."""
    sums: Counter[Code] = Counter()
    touched = False
    for _, amounts in of_device(place, device, day):
        touched = True
        sums.update(amounts)
    if not touched:
        return {}
    registers = [(TAKEN, dc, KWH) for dc in ((DAY, NIGHT) if place.split else (TOTAL,))] if place.commodity != "gas" else []
    registers += [(INJECTED, dc, KWH) for _, dc, _ in tuple(registers) if place.solar]
    return {code: sums[code] for code in registers or sums}


@lru_cache(maxsize=8192)
def day_peak(place: Place, device: Device, day: date) -> tuple[int, datetime] | None:
    """Give the highest power of a day in W, and the quarter-hour it was in."""
    found = [
        (4 * amount, at) for at, amounts in of_device(place, device, day) for code, amount in amounts.items() if code[0] == TAKEN
    ]
    return max(found, key=lambda one: (one[0], -one[1].timestamp())) if found else None


def estimate(amounts: Mapping[Code, int]) -> Mapping[Code, int]:
    """Give what the portal shows before it knows: a tenth too much."""
    return {code: amount * 11 // 10 for code, amount in amounts.items()}


def _measured(place: Place, at: datetime) -> Mapping[Code, int]:
    chance = crc32(f"{place.ean} {at.timestamp():.0f}".encode())
    wall = at.astimezone(BRUSSELS)
    if place.commodity == "gas":
        litres = int(120 + 500 * _cold(wall.date()) + chance % 180) if wall.hour >= 6 else chance % 90
        return {(TAKEN, TOTAL, CUBIC_METRES): litres, (TAKEN, TOTAL, KWH): litres * _coefficient(wall) // 10}
    tariff = (DAY if wall.weekday() < 5 and 7 <= wall.hour < 22 else NIGHT) if place.split else TOTAL
    used = 30 + chance % 90 + (chance // 90 % 260 if 17 <= wall.hour < 22 else 0) + (900 if chance % 331 == 0 else 0)
    sun = int(_sun(wall) * (400 + chance // 7 % 300)) if place.solar else 0
    amounts = {(TAKEN, tariff, KWH): max(0, used - sun)}
    return amounts | {(INJECTED, tariff, KWH): max(0, sun - used)} if place.solar else amounts


def _coefficient(wall: datetime) -> int:
    """Hundredths of a kWh in a m³ of gas: another one each month."""
    return 1120 + (wall.year * 12 + wall.month) * 7 % 23


@lru_cache(maxsize=2048)
def _cold(day: date) -> float:
    return (1 + math.cos((day.timetuple().tm_yday - 15) / 58.1)) / 2


def _sun(wall: datetime) -> float:
    if not 6 <= wall.hour < 18:
        return 0.0
    return math.sin((wall.hour + wall.minute / 60 - 6) / 12 * math.pi) * (1.2 - _cold(wall.date()))
