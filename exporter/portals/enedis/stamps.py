"""Local French time without offset, made instants: days, and intervals on both days of a clock change."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")
HOUR, NONE = timedelta(hours=1), timedelta(0)
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Stamp:
    """One end of an interval, in local time without offset (or with one), its length and its value."""

    at: datetime
    length: timedelta
    value: float


@dataclass(frozen=True, slots=True)
class Placed:
    """A value in [start, end) (aware, UTC)."""

    start: datetime
    end: datetime
    value: float


def midnight(day: date) -> datetime:
    """Give the instant at which a local day begins."""
    return datetime.combine(day, time(), PARIS).astimezone(UTC)


def day_span(day: date) -> Span:
    """Give the instants between which a local day lies: 23, 24 or 25 hours."""
    return midnight(day), midnight(day + timedelta(days=1))


def local_day(at: datetime) -> date:
    """Give the local day of an instant."""
    return at.astimezone(PARIS).date()


def instant(text: str) -> datetime:
    """Read "2026-11-01 19:42:11", "2026-11-01" or an ISO instant with offset; without one it is local time.

    Raises ValueError.
    """
    return to_utc(naive_or_aware(text))


def naive_or_aware(text: str) -> datetime:
    """Read a date, a local time or an instant, as it stands. Raises ValueError, also for what is not of our time."""
    at = datetime.fromisoformat(text.strip())
    if not 2000 <= at.year < 9000:
        raise ValueError("not a date of our time")
    return at


def to_utc(at: datetime, fold: int = 0) -> datetime:
    """Place a local time; of a doubled one `fold` 0 is summer time, 1 winter time."""
    return (at if at.tzinfo else at.replace(tzinfo=PARIS, fold=fold)).astimezone(UTC)


def intervals_by_end(stamps: Sequence[Stamp]) -> list[Placed]:
    """Place intervals whose stamps are their ends."""
    return _walk(stamps, _until)


def intervals_by_start(stamps: Sequence[Stamp]) -> list[Placed]:
    """Place intervals whose stamps were moved from their ends to their starts.

    Whether the move respected a clock change is not documented: of both readings the one is taken in which more
    intervals join.
    """
    respected = _walk(stamps, _from)
    naive = intervals_by_end([replace(stamp, at=stamp.at + stamp.length) for stamp in stamps])
    return max(respected, naive, key=_joints)


def _until(stamp: Stamp, fold: int) -> Placed:
    end = to_utc(stamp.at, fold)
    return Placed(end - stamp.length, end, stamp.value)


def _from(stamp: Stamp, fold: int) -> Placed:
    start = to_utc(stamp.at, fold)
    return Placed(start, start + stamp.length, stamp.value)


def _joints(placed: Sequence[Placed]) -> int:
    return sum(later.start == earlier.end for earlier, later in pairwise(placed))


def _walk(stamps: Sequence[Stamp], place: Callable[[Stamp, int], Placed]) -> list[Placed]:
    """Place each stamp: of a doubled local time the first is summer, the second winter; a single one joins the one before."""
    ordered = _in_order(stamps)
    times = Counter(stamp.at for stamp in ordered)
    seen: Counter[datetime] = Counter()
    placed: list[Placed] = []
    for stamp in ordered:
        summer, winter = place(stamp, 0), place(stamp, 1)
        if times[stamp.at] > 1:
            placed.append(winter if seen[stamp.at] else summer)
        else:
            placed.append(winter if placed and winter.start == placed[-1].end else summer)
        seen[stamp.at] += 1
    return placed


def _in_order(stamps: Sequence[Stamp]) -> Sequence[Stamp]:
    """Sort what is not in order; a step back of an hour is what a clock change looks like, and stays."""
    steps = [later.at.replace(tzinfo=None) - earlier.at.replace(tzinfo=None) for earlier, later in pairwise(stamps)]
    if len(steps) > 1 and sum(step < NONE for step in steps) > len(steps) / 2:
        return _in_order(stamps[::-1])
    if all(step >= -HOUR for step in steps):
        return stamps
    return sorted(stamps, key=lambda stamp: to_utc(stamp.at))
