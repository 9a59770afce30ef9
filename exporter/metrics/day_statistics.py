"""The days of many registers at once: sums and counts by SQLite, for usage points whose days are derived.

Problem: after each midnight 100,000 usage points have a new day, and two years of days of each are too many for Python.
Idea: counts and exact sums of a thousand usage points come from one query; where these are not enough to tell which days are
missing (several registers, none of them complete) the days are read one by one, as in `DailyAggregates`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

from exporter.ledger.database import from_ms, to_ms
from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import DaySums, SeriesRow
from exporter.metrics.days import AMOUNT_FAMILY_NAMES, GAP_WINDOW_DAYS, SampleContext
from exporter.models import DAY, Direction

UNITS = 1_000_000
"""Sums come as whole numbers of this fraction."""
DaySample = tuple[str, str | None, float]
"""Family, register (None: of the usage point), value."""


@dataclass(frozen=True, slots=True)
class Periods:
    """The periods that end with a day."""

    latest: date
    month: date
    year: date
    previous_month: date
    previous_year: date
    window: date

    @classmethod
    def ending_with(cls, latest: date) -> "Periods":
        """Return the periods up to a day, and those before."""
        month, year = latest.replace(day=1), latest.replace(month=1, day=1)
        previous_month, previous_year = (month - DAY).replace(day=1), year.replace(year=year.year - 1)
        return cls(latest, month, year, previous_month, previous_year, latest - (GAP_WINDOW_DAYS - 1) * DAY)


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
            is_whole = {
                "previous_month": (periods.month - periods.previous_month).days,
                "previous_year": (periods.year - periods.previous_year).days,
            }
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
                for period, days in is_whole.items()
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


def _list_amounts(families: Mapping[str, str], periods: Periods, registers: Mapping[str, DaySums]) -> Iterator[DaySample]:
    days = {
        "previous_month": (periods.month - periods.previous_month).days,
        "previous_year": (periods.year - periods.previous_year).days,
    }
    for period in ("daily", "monthly", "yearly", "previous_month", "previous_year"):
        key = {"daily": "day", "monthly": "month", "yearly": "year"}.get(period, period)
        if period in days and max(getattr(one, f"{key}_count") for one in registers.values()) < days[period]:
            continue
        for register, one in registers.items():
            if (amount := getattr(one, f"{key}_sum")) is not None:
                yield families[period], register, amount / UNITS
