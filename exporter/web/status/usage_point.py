"""The page of one usage point, and its days and months as CSV; made from the ledger."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import fsum

from exporter.account_status import AccountView
from exporter.ledger.ledger import Snapshot
from exporter.models import DAY, Direction, Unit
from exporter.web.status.charts import BarValue, Chart, build_bar_chart, build_line_chart
from exporter.web.status.formatting import format_amount, format_count, format_day, format_index, format_instant
from exporter.web.status.meters import MeterSummary
from exporter.web.status.tiles import Tile, build_day_chart, build_tile
from exporter.web.status.usage import DayUsage, MonthUsage, last_of_month, list_months, read_day_usage

MONTHS, DAYS = 13, 31
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a formula of a cell; the last four are the full-width forms."""
CURVE_WIDTH = 1440
"""A load curve has a unit of width for each minute."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of a table: what it is about, its amount, and what is to be said of it."""

    label: str
    amount: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Quantity:
    """All that is shown of one direction and unit."""

    title: str
    months: Chart | None
    month_rows: Sequence[TableRow]
    days: Chart | None
    day_rows: Sequence[TableRow]


@dataclass(frozen=True, slots=True)
class UsagePointPage:
    """Everything on the page of a usage point."""

    account: str
    meter: MeterSummary
    tile: Tile
    quantities: Sequence[Quantity]
    curve: Chart | None
    curve_title: str
    registers: Sequence[TableRow]
    facts: Sequence[TableRow]


def build_usage_point_page(snapshot: Snapshot, view: AccountView, meter: MeterSummary, now: datetime) -> UsagePointPage:
    """Return the page of a usage point; reads the ledger, so not for the event loop."""
    stored = meter.id
    usages = read_day_usage(snapshot, view.account, view.zone, [stored]).get(stored, [])
    curve, curve_title = _build_curve(snapshot, view, stored, now)
    latest = meter.values.get("utility_latest_day_timestamp_seconds", {}).get(())
    latest_day = datetime.fromtimestamp(latest, view.zone).date() if latest is not None else None
    return UsagePointPage(
        account=view.account,
        meter=meter,
        tile=build_tile(view, meter, now, usages),
        quantities=[
            _build_quantity(usage, meter.title, latest_day or max(usage.days), now.astimezone(view.zone).date())
            for usage in usages
        ],
        curve=curve,
        curve_title=curve_title,
        registers=[
            TableRow(
                row.description or row.register,
                str(format_index(row.value, row.unit)),
                format_instant(datetime.fromtimestamp(row.at_ms / 1000, UTC), view.zone, now),
            )
            for row in snapshot.select_register_readings(view.account, stored)
        ],
        facts=list(_list_facts(snapshot, view, stored, usages, now)),
    )


def _build_quantity(usage: DayUsage, title: str, latest: date, today: date) -> Quantity:
    what = "Injection" if usage.direction == Direction.INJECTION else "Consumption"
    months = list_months(usage, latest, MONTHS)
    bars = [
        BarValue(
            _describe_month(month, usage.unit),
            month.value,
            is_partial=month.missing > 0,
            paler=month.year_before,
            label=f"{month.month:%b}",
        )
        for month in months
    ]
    days = [latest - timedelta(days=number) for number in range(DAYS)]
    return Quantity(
        title=f"{what} in {usage.unit}",
        months=build_bar_chart(bars, f"{title}: {what.lower()} by month, beside the year before", width=20),
        month_rows=[_build_month_row(month, usage.unit, latest) for month in reversed(months)],
        days=build_day_chart(usage, latest, max(latest, today - DAY), title, DAYS),
        day_rows=[
            TableRow(f"{day:%a} {day.day} {day:%B}", str(format_amount(usage.days[day], usage.unit)))
            if day in usage.days
            else TableRow(f"{day:%a} {day.day} {day:%B}", "–", "not known")
            for day in days
        ],
    )


def _describe_month(month: MonthUsage, unit: str) -> str:
    amount = "not known" if month.value is None else str(format_amount(month.value, unit))
    before = "" if month.year_before is None else f"; the year before {format_amount(month.year_before, unit)}"
    return f"{month.month:%B %Y}: {amount}{_describe_missing(month.missing)}{before}"


def _describe_missing(days: int) -> str:
    return f", {days} day{'s' * (days != 1)} missing" if days else ""


def _build_month_row(month: MonthUsage, unit: str, latest: date) -> TableRow:
    is_running = month.month == latest.replace(day=1) and (latest + DAY).month == latest.month
    label = f"{month.month:%B %Y}" + (f", 1\u2013{latest.day}" if is_running and latest.day > 1 else "")
    remarks = [_describe_missing(month.missing).removeprefix(", ")] if month.missing and month.value is not None else []
    if month.value is not None and month.year_before:
        change = round((month.value / month.year_before - 1) * 100)
        remarks.append(f"{change:+d} % on the year before" if not month.missing else "")
    amount = "–" if month.value is None else str(format_amount(month.value, unit))
    return TableRow(label, amount, ", ".join(filter(None, remarks)))


def _build_curve(snapshot: Snapshot, view: AccountView, stored: str, now: datetime) -> tuple[Chart | None, str]:
    """Return the load of the newest local day that has amounts of less than a day."""
    newest = snapshot.select_newest_curve_start(view.account, stored)
    if newest is None:
        return None, ""
    day = datetime.fromtimestamp(newest / 1000, view.zone).date()
    start, end = (datetime.combine(one, time(), view.zone) for one in (day, day + DAY))
    amounts = [
        amount
        for amount in snapshot.select_curve_amounts(view.account, stored, start, end)
        if amount.direction == Direction.CONSUMPTION and amount.unit == Unit.KWH
    ]
    points: list[tuple[float, float]] = []
    for amount in amounts:
        power = amount.value * 3_600_000 / (amount.end_ms - amount.start_ms)
        points += [((at - start.timestamp() * 1000) / 60_000, power) for at in (amount.start_ms, amount.end_ms)]
    peak = max((power for _, power in points), default=0.0)
    title = f"Load on {format_day(start, view.zone, now)}"
    return build_line_chart(points, CURVE_WIDTH, f"{title}, at most {format_amount(peak, Unit.KW)}"), title


def _list_facts(
    snapshot: Snapshot, view: AccountView, stored: str, usages: Sequence[DayUsage], now: datetime
) -> Iterator[TableRow]:
    if usages:
        first, last = min(usages[0].days), max(usages[0].days)
        missing = usages[0].count_missing(first, last)
        since = format_day(datetime.combine(first, time(), view.zone), view.zone, now)
        yield TableRow(
            "History since", since, f"{format_count(missing)} day{'s' * (missing != 1)} missing" if missing else "no day missing"
        )
    if corrections := snapshot.count_corrections(view.account, stored):
        yield TableRow("Corrected by the portal", f"{format_count(corrections)} value{'s' * (corrections != 1)}")


def format_csv(
    snapshot: Snapshot, view: AccountView, names: Mapping[str, str], usage_points: Sequence[str] | None, period: str
) -> str:
    """Return the days or months of usage points as CSV; `names` are their titles.

    A month has an amount only if every day of it is known.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([period.removesuffix("s"), "usage_point", "name", "direction", "unit", "amount"])
    for stored, usages in read_day_usage(snapshot, view.account, view.zone, usage_points).items():
        shown = view.aliases.get(stored, stored)
        for usage in usages:
            for label, value in _list_periods(usage, period):
                amount = f"{value:.6f}".rstrip("0").rstrip(".")
                writer.writerow([label, _defuse(shown), _defuse(names.get(stored, "")), usage.direction, usage.unit, amount])
    return out.getvalue()


def _list_periods(usage: DayUsage, period: str) -> Iterator[tuple[str, float]]:
    if period == "days":
        yield from ((day.isoformat(), value) for day, value in sorted(usage.days.items()))
        return
    for first in sorted({day.replace(day=1) for day in usage.days}):
        last = last_of_month(first)
        if not usage.count_missing(first, last):
            yield f"{first:%Y-%m}", fsum(value for day, value in usage.days.items() if first <= day <= last)


def _defuse(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: names come from a portal."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
