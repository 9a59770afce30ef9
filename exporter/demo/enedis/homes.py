"""Two invented homes: what they use, feed in and reach at most, computed from the day, never stored."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zlib import crc32
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
DAY = timedelta(days=1)
CONSUMING = (3, 2, 2, 2, 2, 3, 5, 8, 7, 5, 4, 4, 6, 5, 4, 4, 4, 5, 8, 10, 9, 7, 5, 4)
"""How a day's use spreads over its local hours."""
SUNNY = (0, 0, 0, 0, 0, 0, 0, 1, 3, 6, 8, 10, 11, 11, 9, 6, 3, 1, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class TariffClass:
    """A tariff class, its share of a day in percent, and the code of its dial."""

    id: str
    label: str
    percent: int


@dataclass(frozen=True, slots=True)
class Home:
    """A usage point: since when it is measured, what its contract says, and how its meter records."""

    prm: str
    activation: date
    kva: int
    classes: tuple[TariffClass, ...]
    producing: bool = False
    hourly_since: date | None = None
    """First day of which a load curve is collected; None: never."""
    quarters_since: date = field(default=date.max)
    """From this day on intervals last 15 minutes, 30 before."""

    def minutes(self, day: date) -> int:
        """How long the intervals of a day are."""
        return 15 if day >= self.quarters_since else 30


@dataclass(frozen=True, slots=True)
class Block:
    """Mean power (W) of one interval [start, end)."""

    start: datetime
    end: datetime
    watts: int

    @property
    def kwh(self) -> float:
        """Energy of the interval."""
        return self.watts * ((self.end - self.start) / timedelta(hours=1)) / 1000


def homes(today: date) -> tuple[Home, Home]:
    """Make the homes as they stand on a day."""
    producing = Home(
        "09000000000017",
        date(2019, 3, 4),
        9,
        (TariffClass("HC", "Heures Creuses", 35), TariffClass("HP", "Heures Pleines", 65)),
        producing=True,
        hourly_since=date(2020, 1, 1),
    )
    young = Home(
        "22500000000034",
        today - timedelta(days=400),
        6,
        (TariffClass("BASE", "Base", 100),),
        hourly_since=today - timedelta(days=390),
        quarters_since=today - timedelta(days=40),
    )
    return producing, young


def chance(*of: object) -> int:
    """Give a number that looks random and is the same tomorrow."""
    return crc32("|".join(map(str, of)).encode())


def midnight(day: date) -> datetime:
    """Give the instant a local day begins."""
    return datetime.combine(day, time(), PARIS).astimezone(UTC)


@lru_cache(maxsize=20000)
def day_wh(home: Home, producing: bool, day: date) -> int:
    """Give the energy of a day in Wh, by the registers."""
    season = math.cos((day.timetuple().tm_yday - 15) / 365 * 2 * math.pi)
    if producing:
        overcast = chance(home.prm, "sky", day) % 11 == 0
        return 0 if overcast else round(6000 - 3500 * season) + chance(home.prm, "sun", day) % 1500
    return round(10000 + 4000 * season) + chance(home.prm, "use", day) % 2500


@lru_cache(maxsize=4000)
def curve(home: Home, producing: bool, day: date) -> tuple[Block, ...]:
    """Give the load curve of a local day of 23, 24 or 25 hours."""
    return tuple(_blocks(home, producing, day))


def _blocks(home: Home, producing: bool, day: date) -> Iterator[Block]:
    step = timedelta(minutes=home.minutes(day))
    start, end = midnight(day), midnight(day + DAY)
    while start < end:
        yield Block(start, start + step, _watts(home, producing, day, start))
        start += step


def _watts(home: Home, producing: bool, day: date, start: datetime) -> int:
    shape = SUNNY if producing else CONSUMING
    noise = 80 + chance(home.prm, producing, start.isoformat()) % 41
    mean = day_wh(home, producing, day) * shape[start.astimezone(PARIS).hour] / sum(shape)
    return round(mean * noise / 100)


def peak(home: Home, day: date) -> tuple[datetime, int]:
    """Give instant and VA of the highest power of a day: above the mean of its interval."""
    highest = max(curve(home, False, day), key=lambda block: block.watts)
    second = chance(home.prm, "peak", day) % (home.minutes(day) * 60)
    return highest.start + timedelta(seconds=second), highest.watts * 5 // 4 + 130


def class_wh(home: Home, producing: bool, day: date) -> dict[str, int]:
    """Give how a day's energy falls on the tariff classes; production has none."""
    total = day_wh(home, producing, day)
    if producing:
        return {"": total}
    parts = {each.id: total * each.percent // 100 for each in home.classes[:-1]}
    return parts | {home.classes[-1].id: total - sum(parts.values())}


@lru_cache(maxsize=20000)
def index(home: Home, producing: bool, day: date) -> dict[str, int]:
    """Give what the registers show (Wh) as a day begins, by tariff class."""
    if day <= home.activation:
        return dict.fromkeys(class_wh(home, producing, home.activation), 0)
    # From the first of a month to the first of the next: each is worked out once.
    passed = max((day - DAY).replace(day=1), home.activation)
    shown = dict(index(home, producing, passed))
    while passed < day:
        for name, wh in class_wh(home, producing, passed).items():
            shown[name] += wh
        passed += DAY
    return shown
