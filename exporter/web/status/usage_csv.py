"""Days and months of usage points as CSV, some hundred usage points at a time."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from math import fsum

from exporter.account_status import AccountView
from exporter.ledger.queries import UsagePointRow
from exporter.metrics.aggregates import display_name
from exporter.models import clean_label
from exporter.web.status.meters import OpenSnapshot, choose_title
from exporter.web.status.usage import DayUsage, last_of_month, read_day_usage

PERIODS = ("days", "months")
USAGE_POINTS_AT_A_TIME = 200
BYTE_ORDER_MARK = "\ufeff"
"""Without it spreadsheets take the text for one of another encoding."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a formula of a cell; the last four are the full-width forms."""


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
