"""What was used, as people ask for it: days and months of usage points, read from the ledger, and as CSV."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from math import fsum
from zoneinfo import ZoneInfo

from exporter.account_status import AccountView
from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import UsagePointRow
from exporter.ledger.usage_queries import Amount
from exporter.metrics.aggregates import display_name
from exporter.models import DAY, Direction, Unit, clean_label, next_month
from exporter.web.status.meters import OpenSnapshot, choose_title

UNITS = (Unit.KWH, Unit.M3)
"""In this order a quantity is preferred: gas is shown as energy where both are known."""
PERIODS = ("days", "months")
USAGE_POINTS_AT_A_TIME = 200
BYTE_ORDER_MARK = "\ufeff"
"""Without it spreadsheets take the text for one of another encoding."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a formula of a cell; the last four are the full-width forms."""


@dataclass(frozen=True, slots=True)
class DayUsage:
    """The amounts of a usage point in one direction and unit, by local day."""

    direction: str
    unit: str
    days: Mapping[date, float] = field(default_factory=dict)

    def sum_days(self, first: date, last: date) -> float | None:
        """Return the sum of the known days in [first, last]; None if none is known."""
        found = [value for day, value in self.days.items() if first <= day <= last]
        return fsum(found) if found else None

    def count_missing(self, first: date, last: date) -> int:
        """Return how many days in [first, last] are not known."""
        return (last - first).days + 1 - sum(first <= day <= last for day in self.days)


@dataclass(frozen=True, slots=True)
class MonthUsage:
    """The amount of a month, and of the same month a year before."""

    month: date
    value: float | None
    year_before: float | None
    missing: int
    """Days of the month without an amount, up to the latest known day."""
    missing_before: int
    """The same of the year before."""

    @property
    def change(self) -> float | None:
        """The change against the year before, as a ratio; None where days of either are missing."""
        if self.value is None or not self.year_before or self.missing or self.missing_before:
            return None
        return self.value / self.year_before - 1


def read_day_usage(
    snapshot: Snapshot,
    account: str,
    zone: ZoneInfo,
    usage_points: Sequence[str] | None,
    spans: Sequence[tuple[date, date]] = (),
) -> dict[str, list[DayUsage]]:
    """Return the days of usage points, the preferred quantity of each direction first; injection comes last.

    `spans` are the first and last days that are read; none is all of them.
    """
    found: dict[str, dict[tuple[str, str], dict[date, float]]] = defaultdict(dict)
    bounds: list[tuple[datetime | None, datetime | None]] = [
        (datetime.combine(first, time(), zone), datetime.combine(last + DAY, time(), zone)) for first, last in spans
    ]
    for amount in (
        amount
        for start, end in bounds or [(None, None)]
        for amount in snapshot.select_day_amounts(account, usage_points, start, end)
    ):
        days = found[amount.usage_point].setdefault((amount.direction, amount.unit), {})
        days[local_day(amount, zone)] = amount.value
    return {
        point: sorted((DayUsage(*key, days) for key, days in quantities.items()), key=_preference)
        for point, quantities in found.items()
    }


def list_missing_ranges(usage: DayUsage, first: date, last: date) -> list[tuple[date, date]]:
    """Return the first and last days of the gaps in [first, last], the newest gap first."""
    ranges: list[tuple[date, date]] = []
    for number in range((last - first).days + 1):
        day = last - number * DAY
        if day in usage.days:
            continue
        if ranges and ranges[-1][0] == day + DAY:
            ranges[-1] = day, ranges[-1][1]
        else:
            ranges.append((day, day))
    return ranges


def list_months(usage: DayUsage, last_day: date, count: int) -> list[MonthUsage]:
    """Return `count` months up to that of `last_day`, the oldest first."""
    months, first = [], last_day.replace(day=1)
    for _ in range(count):
        end = min(last_of_month(first), last_day)
        before = _shift_year(first)
        before_end = last_of_month(before) if end == last_of_month(first) else before + (end - first)
        months.append(
            MonthUsage(
                first,
                usage.sum_days(first, end),
                usage.sum_days(before, before_end),
                usage.count_missing(first, end),
                usage.count_missing(before, before_end),
            )
        )
        first = (first - DAY).replace(day=1)
    return months[::-1]


def compare_days(usage: DayUsage, first: date, last: date) -> float | None:
    """Return the change of the days in [first, last] against the same days a year before, as a ratio, of those known in both."""
    pairs = [
        (usage.days[day], usage.days[before])
        for day in (first + timedelta(days=number) for number in range((last - first).days + 1))
        if day in usage.days and (before := _shift_year(day)) in usage.days
    ]
    past = fsum(before for _, before in pairs)
    return fsum(value for value, _ in pairs) / past - 1 if past > 0 else None


def local_day(amount: Amount, zone: ZoneInfo) -> date:
    """Return the local day of an amount of a day; a gas day is that of its 06:00."""
    return datetime.fromtimestamp(amount.start_ms / 1000, zone).date()


def last_of_month(first: date) -> date:
    """Return the last day of the month that begins at `first`."""
    return next_month(first) - DAY


def iterate_csv(
    open_snapshot: OpenSnapshot, view: AccountView, usage_points: Sequence[UsagePointRow], period: str, today: date
) -> Iterator[bytes]:
    """Yield the days or months of usage points; blocks, and raises LedgerError.

    A month has an amount only if every day of it is known; else it has the number of missing days. The running one is left out.
    """
    header = [period.removesuffix("s"), "usage_point", "site", "name", "direction", "unit", "amount"]
    yield (BYTE_ORDER_MARK + _format_rows([[*header, "missing_days"] if period == "months" else header])).encode()
    for start in range(0, len(usage_points), USAGE_POINTS_AT_A_TIME):
        rows = usage_points[start : start + USAGE_POINTS_AT_A_TIME]
        with open_snapshot() as snapshot:
            found = read_day_usage(snapshot, view.account, view.zone, [row.usage_point for row in rows])
        lines = [
            [label, *names, usage.direction, usage.unit, *cells]
            for row in rows
            for names in [_list_names(view, row)]
            for usage in found.get(row.usage_point, ())
            for label, *cells in (_list_days(usage) if period == "days" else _list_months(usage, today))
        ]
        if lines:
            yield _format_rows(lines).encode()


def _shift_year(day: date) -> date:
    """Return the same day a year before; 28 February for the 29th."""
    return day.replace(year=day.year - 1, day=min(day.day, 28 if day.month == 2 else 31))


def _preference(usage: DayUsage) -> tuple[bool, int]:
    return usage.direction != Direction.CONSUMPTION, UNITS.index(Unit(usage.unit)) if usage.unit in UNITS else len(UNITS)


def _list_names(view: AccountView, row: UsagePointRow) -> list[str]:
    names = display_name(view, row.usage_point), clean_label(row.site), choose_title(view, row)[0]
    return [f"'{text}" if text.startswith(FORMULA_STARTS) else text for text in names]


def _format_rows(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue()


def _list_days(usage: DayUsage) -> Iterator[tuple[str, str]]:
    yield from ((day.isoformat(), _format_amount(value)) for day, value in sorted(usage.days.items()))


def _list_months(usage: DayUsage, today: date) -> Iterator[tuple[str, str, str]]:
    by_month = defaultdict[date, list[float]](list)
    for day, value in usage.days.items():
        by_month[day.replace(day=1)].append(value)
    by_month.pop(today.replace(day=1), None)
    for first, values in sorted(by_month.items()):
        missing = last_of_month(first).day - len(values)
        yield f"{first:%Y-%m}", "" if missing else _format_amount(fsum(values)), str(missing)


def _format_amount(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
