"""Two simulated homes: consumption, injection and peaks, computed from the day, never stored."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zlib import crc32
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
DAY = timedelta(days=1)
CONSUMPTION_SHAPE = (3, 2, 2, 2, 2, 3, 5, 8, 7, 5, 4, 4, 6, 5, 4, 4, 4, 5, 8, 10, 9, 7, 5, 4)
"""The shares of a day's consumption by local hour."""
PRODUCTION_SHAPE = (0, 0, 0, 0, 0, 0, 0, 1, 3, 6, 8, 10, 11, 11, 9, 6, 3, 1, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class SimulatedTariffClass:
    """A tariff class, its share of a day in percent, and the code of its dial."""

    id: str
    label: str
    percent: int


@dataclass(frozen=True, slots=True)
class SimulatedHome:
    """A usage point: since when it is measured, what its contract says, and how its meter records."""

    prm: str
    activation: date
    subscribed_kva: int
    classes: tuple[SimulatedTariffClass, ...]
    is_producer: bool = False
    production_activation: date | None = None
    """Since when production is measured; None: since consumption is."""
    hourly_since: date | None = None
    """First day of which a load curve is collected; None: never."""
    quarters_since: date = field(default=date.max)
    """From this day on intervals last 15 minutes, 30 before."""

    @property
    def production_since(self) -> date:
        """Since when production is measured."""
        return self.production_activation or self.activation

    def get_interval_minutes(self, day: date) -> int:
        """Return the length of the intervals of a day."""
        return 15 if day >= self.quarters_since else 30


@dataclass(frozen=True, slots=True)
class CurveInterval:
    """Mean power (W) of one interval [start, end)."""

    start: datetime
    end: datetime
    watts: int

    @property
    def energy_kwh(self) -> float:
        """Energy of the interval."""
        return self.watts * ((self.end - self.start) / timedelta(hours=1)) / 1000


def build_homes(today: date) -> tuple[SimulatedHome, SimulatedHome]:
    """Return the homes on a day."""
    producer = SimulatedHome(
        "09000000000017",
        date(2019, 3, 4),
        9,
        (SimulatedTariffClass("HC", "Heures Creuses", 35), SimulatedTariffClass("HP", "Heures Pleines", 65)),
        is_producer=True,
        hourly_since=date(2020, 1, 1),
    )
    recent_customer = SimulatedHome(
        "22500000000034",
        today - timedelta(days=400),
        6,
        (SimulatedTariffClass("BASE", "Base", 100),),
        hourly_since=today - timedelta(days=390),
        quarters_since=today - timedelta(days=40),
    )
    return producer, recent_customer


def pseudo_random(*parts: object) -> int:
    """Return a number that looks random and never changes."""
    return crc32("|".join(map(str, parts)).encode())


def day_start(day: date) -> datetime:
    """Return the instant a local day begins."""
    return datetime.combine(day, time(), PARIS).astimezone(UTC)


@lru_cache(maxsize=20000)
def compute_day_wh(home: SimulatedHome, producing: bool, day: date) -> int:
    """Return the energy of a day in Wh, by the registers."""
    season = math.cos((day.timetuple().tm_yday - 15) / 365 * 2 * math.pi)
    if producing:
        overcast = pseudo_random(home.prm, "sky", day) % 11 == 0
        return 0 if overcast else round(6000 - 3500 * season) + pseudo_random(home.prm, "sun", day) % 1500
    return round(10000 + 4000 * season) + pseudo_random(home.prm, "use", day) % 2500


@lru_cache(maxsize=4000)
def build_curve(home: SimulatedHome, producing: bool, day: date) -> tuple[CurveInterval, ...]:
    """Return the load curve of a local day of 23, 24 or 25 hours."""
    return tuple(_build_intervals(home, producing, day))


def _build_intervals(home: SimulatedHome, producing: bool, day: date) -> Iterator[CurveInterval]:
    step = timedelta(minutes=home.get_interval_minutes(day))
    start, end = day_start(day), day_start(day + DAY)
    while start < end:
        yield CurveInterval(start, start + step, _compute_watts(home, producing, day, start))
        start += step


def _compute_watts(home: SimulatedHome, producing: bool, day: date, start: datetime) -> int:
    shape = PRODUCTION_SHAPE if producing else CONSUMPTION_SHAPE
    noise = 80 + pseudo_random(home.prm, producing, start.isoformat()) % 41
    mean = compute_day_wh(home, producing, day) * shape[start.astimezone(PARIS).hour] / sum(shape)
    return round(mean * noise / 100)


def find_peak(home: SimulatedHome, day: date) -> tuple[datetime, int]:
    """Return instant and VA of the highest power of a day: above the mean of its interval."""
    highest = max(build_curve(home, False, day), key=lambda interval: interval.watts)
    second = pseudo_random(home.prm, "peak", day) % (home.get_interval_minutes(day) * 60)
    return highest.start + timedelta(seconds=second), highest.watts * 5 // 4 + 130


def split_by_class(home: SimulatedHome, producing: bool, day: date) -> dict[str, int]:
    """Return a day's energy by tariff class; production has none."""
    total = compute_day_wh(home, producing, day)
    if producing:
        return {"": total}
    parts = {each.id: total * each.percent // 100 for each in home.classes[:-1]}
    return parts | {home.classes[-1].id: total - sum(parts.values())}


@lru_cache(maxsize=20000)
def compute_index(home: SimulatedHome, producing: bool, day: date) -> dict[str, int]:
    """Return what the registers show (Wh) as a day begins, by tariff class."""
    if day <= home.activation:
        return dict.fromkeys(split_by_class(home, producing, home.activation), 0)
    # From the first of a month to the first of the next: each is computed once.
    passed = max((day - DAY).replace(day=1), home.activation)
    shown = dict(compute_index(home, producing, passed))
    while passed < day:
        for name, wh in split_by_class(home, producing, passed).items():
            shown[name] += wh
        passed += DAY
    return shown
