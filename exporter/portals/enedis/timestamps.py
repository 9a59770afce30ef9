"""Local French times without offset, converted to instants, also on both days of a clock change."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
HOUR, ZERO = timedelta(hours=1), timedelta(0)
TimeSpan = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class StampedValue:
    """One end of an interval, in local time without offset (or with one), its length and its value."""

    at: datetime
    length: timedelta
    value: float


@dataclass(frozen=True, slots=True)
class PlacedValue:
    """A value in [start, end) (aware, UTC)."""

    start: datetime
    end: datetime
    value: float


def day_start(day: date) -> datetime:
    """Return the instant at which a local day begins."""
    return datetime.combine(day, time(), PARIS).astimezone(UTC)


def day_span(day: date) -> TimeSpan:
    """Return the instants between which a local day lies: 23, 24 or 25 hours."""
    return day_start(day), day_start(day + timedelta(days=1))


def local_day(at: datetime) -> date:
    """Return the local day of an instant."""
    return at.astimezone(PARIS).date()


def parse_instant(text: str) -> datetime:
    """Parse "2026-11-01 19:42:11", "2026-11-01" or an ISO instant with offset; without one it is local time.

    Raise ValueError.
    """
    return to_utc(parse_stamp(text))


def parse_stamp(text: str) -> datetime:
    """Parse a date, a local time or an instant. Raise ValueError, also for an implausible year."""
    at = datetime.fromisoformat(text.strip())
    if not 2000 <= at.year < 9000:
        raise ValueError("implausible year")
    return at


def to_utc(at: datetime, fold: int = 0) -> datetime:
    """Convert a local time to UTC; of an ambiguous one `fold` 0 is summer time, 1 winter time."""
    return (at if at.tzinfo else at.replace(tzinfo=PARIS, fold=fold)).astimezone(UTC)


def place_by_end(stamps: Sequence[StampedValue]) -> list[PlacedValue]:
    """Place intervals whose stamps are their ends."""
    return _place_all(stamps, _place_end)


def place_by_start(stamps: Sequence[StampedValue]) -> list[PlacedValue]:
    """Place intervals whose stamps were moved from their ends to their starts.

    MyElectricalData moves the wall clock's time, so that two pairs of the night in October share a text; whether a clock
    change was respected shows by the interpretation with more adjacent intervals.
    """
    ends = [replace(stamp, at=stamp.at + stamp.length) for stamp in stamps]
    paired = _drop_unpaired(ends)
    naive = place_by_end(paired)
    if len(paired) < len(ends) and len({stamp.at for stamp in stamps}) == len(stamps):
        return naive
    return max(naive, _place_all(stamps, _place_start), key=_count_joins)


def _drop_unpaired(stamps: Sequence[StampedValue]) -> list[StampedValue]:
    """Leave out the stamps of the doubled hour that come once: of a store that keeps one of the two it is not known which."""
    times = Counter(stamp.at for stamp in stamps)
    return [stamp for stamp in stamps if times[stamp.at] > 1 or to_utc(stamp.at, 0) >= to_utc(stamp.at, 1)]


def _place_end(stamp: StampedValue, fold: int) -> PlacedValue:
    end = to_utc(stamp.at, fold)
    return PlacedValue(end - stamp.length, end, stamp.value)


def _place_start(stamp: StampedValue, fold: int) -> PlacedValue:
    start = to_utc(stamp.at, fold)
    return PlacedValue(start, start + stamp.length, stamp.value)


def _count_joins(placed: Sequence[PlacedValue]) -> int:
    """Return how many intervals begin where another one ends."""
    return len({each.start for each in placed} & {each.end for each in placed})


def _place_all(stamps: Sequence[StampedValue], place_stamp: Callable[[StampedValue, int], PlacedValue]) -> list[PlacedValue]:
    """Place each stamp: of an ambiguous time the first is summer, the second winter; a single one follows its predecessor."""
    ordered = _sort_stamps(stamps)
    times = Counter(stamp.at for stamp in ordered)
    seen: Counter[datetime] = Counter()
    placed: list[PlacedValue] = []
    for stamp in ordered:
        summer, winter = place_stamp(stamp, 0), place_stamp(stamp, 1)
        if times[stamp.at] > 1:
            placed.append(winter if seen[stamp.at] else summer)
        else:
            placed.append(winter if placed and winter.start == placed[-1].end else summer)
        seen[stamp.at] += 1
    return placed


def _sort_stamps(stamps: Sequence[StampedValue]) -> Sequence[StampedValue]:
    """Sort timestamps that are out of order; a step back of an hour is a clock change, and stays."""
    steps = [later.at.replace(tzinfo=None) - earlier.at.replace(tzinfo=None) for earlier, later in pairwise(stamps)]
    if len(steps) > 1 and sum(step < ZERO for step in steps) > len(steps) / 2:
        return _sort_stamps(stamps[::-1])
    if all(step >= -HOUR for step in steps):
        return stamps
    return sorted(stamps, key=lambda stamp: to_utc(stamp.at))
