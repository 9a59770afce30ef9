"""The days of usage points: sums of periods, gaps, and where the history begins.

Problem: after each midnight 100,000 usage points have a new day, and two years of days of each are too many for Python.
Idea: where days are derived from indexes, SQLite counts and sums those of a thousand usage points exactly in one query
(`DayStatistics`). Where that is not enough to tell which days are missing (several registers, none of them complete), and
where the portal states the days, they are read one by one (`DailyAggregates`). Both yield the same samples.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from exporter.account_status import AccountView
from exporter.ledger.database import from_ms, to_ms
from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import DaySums, SeriesRow, StoredReading
from exporter.models import DAY, Direction, Unit, strip_noise
from exporter.sync.feeds import Feed, Form

MAX_SILENCE = timedelta(days=14)
"""A series of days without a new one for this long no longer holds back the latest complete day of the others."""
GAP_WINDOW_DAYS = 60
FAR_FUTURE = datetime(9000, 1, 1, tzinfo=UTC)
AMOUNT_FAMILY_NAMES: Mapping[tuple[str, str], Mapping[str, str]] = {
    (Unit.KWH, Direction.CONSUMPTION): {
        "day": "utility_daily_consumption_kwh",
        "month": "utility_monthly_consumption_kwh",
        "year": "utility_yearly_consumption_kwh",
        "previous_month": "utility_previous_month_consumption_kwh",
        "previous_year": "utility_previous_year_consumption_kwh",
    },
    (Unit.M3, Direction.CONSUMPTION): {
        "day": "utility_daily_consumption_m3",
        "month": "utility_monthly_consumption_m3",
        "year": "utility_yearly_consumption_m3",
        "previous_month": "utility_previous_month_consumption_m3",
        "previous_year": "utility_previous_year_consumption_m3",
    },
    (Unit.KWH, Direction.INJECTION): {
        "day": "utility_daily_injection_kwh",
        "month": "utility_monthly_injection_kwh",
        "year": "utility_yearly_injection_kwh",
        "previous_month": "utility_previous_month_injection_kwh",
        "previous_year": "utility_previous_year_injection_kwh",
    },
}
"""Unit and direction -> period -> family."""
HistoryStarts = Mapping[tuple[str, Direction | None], date]
"""Usage point and direction (None: either) -> the first day of its history, where that is established: all before was asked for
and is empty. The usage point "" stands for all of the account: the history of each begins with its first known day."""
ALL_USAGE_POINTS = ""
UNITS = 1_000_000
"""Sums come as whole numbers of this fraction."""
DaySample = tuple[str, str | None, float]
"""Family, register (None: of the usage point), value."""


def list_history_starts(begins: Mapping[Feed, date]) -> HistoryStarts:
    """Return where histories begin, by the feeds that bring days."""
    starts: dict[tuple[str, Direction | None], date] = {}
    for feed, day in begins.items():
        if feed.resolution == "P1D" if feed.form is Form.INTERVAL else feed.resolution is None:
            for usage_point in feed.usage_points or (ALL_USAGE_POINTS,):
                key = usage_point, feed.direction
                starts[key] = min(starts.get(key, day), day) if usage_point else date.min
    return starts


@dataclass(frozen=True, slots=True)
class SampleContext:
    """What an account's samples depend on besides its readings."""

    view: AccountView
    month_start: datetime
    """When the running local month began."""
    history_starts: HistoryStarts = field(default_factory=dict)

    def find_history_start(self, usage_point: str, direction: Direction, first_known: date) -> date | None:
        """Return the first day of a history, or None where older days may still come."""
        starts = self.history_starts
        start = starts.get((usage_point, direction)) or starts.get((usage_point, None))
        if start is None:
            return first_known if (ALL_USAGE_POINTS, None) in starts else None
        return min(start, first_known)


def find_moved_starts(before: SampleContext, after: SampleContext, snapshot: Snapshot) -> frozenset[str]:
    """Return the usage points whose history begins elsewhere than before."""
    moved = frozenset(usage_point for (usage_point, _), _ in before.history_starts.items() ^ after.history_starts.items())
    if ALL_USAGE_POINTS in moved:
        return moved - {ALL_USAGE_POINTS} | snapshot.select_usage_points_with_days(after.view.account)
    return moved


def sum_exactly(values: Iterable[float]) -> float:
    """Return a sum without the noise of floats: as many digits as any meter has, and no more."""
    return strip_noise(math.fsum(values))


@dataclass(frozen=True, slots=True)
class Periods:
    """The periods that end with a day, and those before, each with its first day."""

    latest: date
    month: date
    year: date
    previous_month: date
    previous_year: date
    window: date
    """The first of the days whose gaps are counted."""

    @classmethod
    def ending_with(cls, latest: date) -> "Periods":
        """Return the periods up to a day, and those before."""
        month, year = latest.replace(day=1), latest.replace(month=1, day=1)
        previous_month, previous_year = (month - DAY).replace(day=1), year.replace(year=year.year - 1)
        return cls(latest, month, year, previous_month, previous_year, latest - (GAP_WINDOW_DAYS - 1) * DAY)

    @property
    def spans(self) -> Mapping[str, tuple[date, date]]:
        """Period -> its first and last day."""
        return {
            "day": (self.latest, self.latest),
            "month": (self.month, self.latest),
            "year": (self.year, self.latest),
            "previous_month": (self.previous_month, self.month - DAY),
            "previous_year": (self.previous_year, self.year - DAY),
        }

    @property
    def closed_lengths(self) -> Mapping[str, int]:
        """Period of which a sum needs every day -> its number of days."""
        return {
            "previous_month": (self.month - self.previous_month).days,
            "previous_year": (self.year - self.previous_year).days,
        }


@dataclass(frozen=True, slots=True)
class DirectionDays:
    """The days of one direction in one unit, over all its registers."""

    direction: Direction
    unit: str
    registers: Mapping[str, Mapping[date, float]]
    first_day: date
    known_days: frozenset[date]
    """Those since January of the year before the newest day, and all of them where older ones are missing."""
    history_start: date | None
    """The first day of the history, where it is established."""


@dataclass(frozen=True, slots=True)
class DailyAggregates:
    """The days of a usage point: the latest that is complete in all directions, sums up to it, and gaps."""

    directions: tuple[DirectionDays, ...]
    latest_complete: date
    newest_day: date
    latest_start: datetime
    newest_end: datetime
    """End of the newest day of any direction."""
    first_start: datetime
    """Start of the oldest day of any direction."""

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, series: Iterable[SeriesRow], context: SampleContext) -> "DailyAggregates | None":
        """Return the days since January of the year before the newest day; None without days."""
        grouped: dict[tuple[Direction, str], list[SeriesRow]] = defaultdict(list)
        newest = list[StoredReading]()
        for line in series:
            if found := snapshot.select_newest(line.id):  # days that are derived from indexes may have none yet
                newest += found
                grouped[line.direction, line.unit].append(line)
        if not newest:
            return None
        end = max(day.end for day in newest)
        zone = context.view.zone
        since = datetime(max(day.at for day in newest).astimezone(zone).year - 1, 1, 1, tzinfo=zone)
        read = [_read_direction(snapshot, key, group, since, context) for key, group in grouped.items()]
        directions = tuple(direction for direction, _ in read)
        starts = {day: start for _, found in read for day, start in found.items()}
        latest = _find_latest_complete(directions)
        return cls(directions, latest, max(starts), starts[latest], end, min(starts.values()))

    def sum_periods(self) -> Iterator[tuple[str, str, float]]:
        """Yield family, register and value of every sum up to the latest complete day."""
        periods = Periods.ending_with(self.latest_complete)
        for direction in self.directions:
            for period, family in AMOUNT_FAMILY_NAMES.get((direction.unit, direction.direction), {}).items():
                start, end = periods.spans[period]
                if period in periods.closed_lengths and not direction.known_days.issuperset(_iterate_days(start, end)):
                    continue
                for register, days in direction.registers.items():
                    if values := [value for day, value in days.items() if start <= day <= end]:
                        yield family, register, sum_exactly(values)

    def count_gaps(self, start: date, end: date, *, in_sum: bool) -> int:
        """Return the number of days of [start, end] that any direction lacks.

        Of a sum all days count from the established start of the history on, else those from the first known day on.
        """
        missing = set[date]()
        for direction in _select_live(self.directions):
            first = (direction.history_start or start) if in_sum else direction.first_day
            missing.update(day for day in _iterate_days(max(start, first), end) if day not in direction.known_days)
        return len(missing)

    def count_gap_families(self) -> Iterator[tuple[str, int]]:
        """Yield family and number of the missing days."""
        latest, newest = Periods.ending_with(self.latest_complete), Periods.ending_with(self.newest_day)
        yield "utility_monthly_day_gaps", self.count_gaps(latest.month, latest.latest, in_sum=True)
        yield "utility_yearly_day_gaps", self.count_gaps(latest.year, latest.latest, in_sum=True)
        yield "utility_day_gaps", self.count_gaps(newest.window, newest.latest, in_sum=False)
        first = min(direction.first_day for direction in self.directions)
        yield "utility_history_missing_days", self.count_gaps(first, newest.latest, in_sum=False)


class DayStatistics:
    """Sums and counts of the days of some series, as of the newest day of each."""

    def __init__(self, snapshot: Snapshot, series: Iterable[int], context: SampleContext) -> None:
        self._context, self._sums = context, dict[int, DaySums]()
        self._gaps: dict[tuple[object, ...], list[tuple[str, int | None]]] = {}
        """Most registers have the same days: what is missing of one is missing of all that are like it."""
        self._dates: dict[int, date] = {}
        self._periods: dict[int, Periods] = {}
        by_newest = defaultdict[int, list[int]](list)
        for series_id, newest in snapshot.select_newest_starts(list(series)):
            by_newest[newest].append(series_id)
        for newest, series_ids in by_newest.items():
            periods = self._periods[newest] = Periods.ending_with(self._local_date(newest))
            starts = (periods.month, periods.year, periods.previous_month, periods.previous_year, periods.window)
            bounds = [self._start(day) for day in starts]
            self._sums |= {sums.series: sums for sums in snapshot.select_day_sums(series_ids, newest, bounds)}

    def summarize(self, series: Sequence[SeriesRow]) -> tuple[list[DaySample], datetime] | None:
        """Return the samples of a usage point's days, and the end of the newest; None where the days must be read."""
        sums = [self._sums.get(line.id) for line in series]
        found = [one for one in sums if one is not None]
        if len(found) < len(sums) or len({one.newest for one in found}) != 1:
            return None
        periods = self._periods[found[0].newest]
        groups = defaultdict[tuple[Direction, str], dict[str, DaySums]](dict)
        for line, one in zip(series, found, strict=True):
            groups[line.direction, line.unit][line.register] = one
        gaps = self._find_gaps(periods, groups, series[0].usage_point, found)
        if any(count is None for _, count in gaps):
            return None
        samples: list[DaySample] = [(family, None, count or 0) for family, count in gaps]
        for (direction, unit), registers in groups.items():
            if families := AMOUNT_FAMILY_NAMES.get((unit, direction)):
                samples += _list_amounts(families, periods, registers)
        first = min(one.first for one in found)
        samples.append(("utility_latest_day_timestamp_seconds", None, found[0].newest / 1000))
        samples.append(("utility_history_start_timestamp_seconds", None, first / 1000))
        return samples, from_ms(self._start(periods.latest + DAY))

    def _find_gaps(
        self,
        periods: Periods,
        groups: Mapping[tuple[Direction, str], Mapping[str, DaySums]],
        usage_point: str,
        sums: Sequence[DaySums],
    ) -> list[tuple[str, int | None]]:
        one = sums[0]
        if len(sums) > 1:
            return list(self._count_gaps(periods, groups, usage_point))
        ((direction, _),) = groups
        start = self._context.find_history_start(usage_point, direction, self._local_date(one.first))
        counts = one.month_count, one.year_count, one.window_count, one.known_count
        key = one.newest, one.first, start, *counts
        if (gaps := self._gaps.get(key)) is None:
            gaps = self._gaps[key] = list(self._count_gaps(periods, groups, usage_point))
        return gaps

    def _count_gaps(
        self, periods: Periods, groups: Mapping[tuple[Direction, str], Mapping[str, DaySums]], usage_point: str
    ) -> Iterator[tuple[str, int | None]]:
        """Yield family and number of missing days; None where counts do not tell it."""
        expected = defaultdict[str, list[int | None]](list)
        for (direction, _), registers in groups.items():
            first = self._local_date(min(one.first for one in registers.values()))
            start = self._context.find_history_start(usage_point, direction, first) or date.min
            for family, begin, count in (
                ("utility_monthly_day_gaps", max(periods.month, start), "month_count"),
                ("utility_yearly_day_gaps", max(periods.year, start), "year_count"),
                ("utility_day_gaps", max(periods.window, first), "window_count"),
                ("utility_history_missing_days", first, "known_count"),
            ):
                days = (periods.latest - begin).days + 1
                known = max(getattr(one, count) for one in registers.values())
                expected[family].append(days - known if len(registers) == 1 or known == days else None)
            if len(registers) > 1 and not all(
                max(getattr(one, f"{period}_count") for one in registers.values()) in {0, days}
                for period, days in periods.closed_lengths.items()
            ):
                expected["utility_day_gaps"].append(None)
        for family, missing in expected.items():
            unknown = None in missing or sum(bool(count) for count in missing) > 1
            yield family, None if unknown else sum(count or 0 for count in missing)

    def _local_date(self, at: int) -> date:
        if (found := self._dates.get(at)) is None:
            found = self._dates[at] = from_ms(at).astimezone(self._context.view.zone).date()
        return found

    def _start(self, day: date) -> int:
        return to_ms(datetime.combine(day, time(), self._context.view.zone))


def _read_direction(
    snapshot: Snapshot, key: tuple[Direction, str], series: list[SeriesRow], since: datetime, context: SampleContext
) -> tuple[DirectionDays, dict[date, datetime]]:
    """Return the days of one direction, and when each of them starts."""
    registers: dict[str, dict[date, float]] = {}
    starts: dict[date, datetime] = {}
    zone = context.view.zone
    for line in series:
        days = registers.setdefault(line.register, {})
        for day in snapshot.select_readings(line.id, since, FAR_FUTURE):
            local = day.at.astimezone(zone).date()
            days[local] = day.value
            starts[local] = day.at
    for start in snapshot.select_starts([line.id for line in series], since):
        starts[start.astimezone(zone).date()] = start
    first = min(starts)
    history_start = context.find_history_start(series[0].usage_point, key[0], first)
    return DirectionDays(*key, registers, first, frozenset(starts), history_start), starts


def _select_live(directions: Iterable[DirectionDays]) -> list[DirectionDays]:
    with_days = [direction for direction in directions if direction.known_days]
    newest = max(max(direction.known_days) for direction in with_days)
    return [direction for direction in with_days if max(direction.known_days) > newest - MAX_SILENCE]


def _find_latest_complete(directions: Iterable[DirectionDays]) -> date:
    live = _select_live(directions)
    common = frozenset.intersection(*(direction.known_days for direction in live))
    return max(common) if common else max(max(direction.known_days) for direction in live)


def _iterate_days(start: date, end: date) -> Iterator[date]:
    return (start + number * DAY for number in range((end - start).days + 1))


def _list_amounts(families: Mapping[str, str], periods: Periods, registers: Mapping[str, DaySums]) -> Iterator[DaySample]:
    lengths = periods.closed_lengths
    for period, family in families.items():
        if period in lengths and max(getattr(one, f"{period}_count") for one in registers.values()) < lengths[period]:
            continue
        for register, one in registers.items():
            if (amount := getattr(one, f"{period}_sum")) is not None:
                yield family, register, amount / UNITS
