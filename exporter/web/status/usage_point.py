"""The page of one usage point, made from the ledger."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from exporter.account_status import AccountView
from exporter.ledger.ledger import Snapshot
from exporter.ledger.usage_queries import Amount, RegisterReading
from exporter.models import DAY, Direction, Unit
from exporter.web.status.charts import BarValue, Chart, build_bar_chart, build_line_chart
from exporter.web.status.formatting import (
    THIN_SPACE,
    PageClock,
    RegisterText,
    format_amount,
    format_count,
    format_day,
    format_days,
    format_reading,
    list_register_names,
)
from exporter.web.status.meters import MeterSummary
from exporter.web.status.tiles import Tile, build_day_chart, build_tile
from exporter.web.status.usage import (
    DayUsage,
    MonthUsage,
    list_missing_ranges,
    list_months,
    read_day_usage,
)

MONTHS, DAYS, MAX_GAPS = 13, 31, 12


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
    highest_month: str
    highest_day: str


@dataclass(frozen=True, slots=True)
class LoadCurve:
    """The load of a day."""

    title: str
    chart: Chart | None
    highest: str


@dataclass(frozen=True, slots=True)
class UsagePointPage:
    """Everything on the page of a usage point."""

    account: str
    meter: MeterSummary
    tile: Tile
    quantities: Sequence[Quantity]
    curve: LoadCurve | None
    tables: Sequence[tuple[str, Sequence[TableRow]]]
    """Caption and rows: registers, peaks, facts, history."""


def build_usage_point_page(snapshot: Snapshot, view: AccountView, meter: MeterSummary, clock: PageClock) -> UsagePointPage:
    """Return the page of a usage point; reads the ledger, so not for the event loop."""
    usages = read_day_usage(snapshot, view.account, view.zone, [meter.id]).get(meter.id, [])
    today = clock.now.astimezone(view.zone).date()
    latest = meter.values.get("utility_latest_day_timestamp_seconds", {}).get(())
    latest_day = datetime.fromtimestamp(latest, view.zone).date() if latest is not None else None
    tables = {
        "Registers": [
            *_list_registers(snapshot.select_register_readings(view.account, meter.id), clock),
            *_list_day_registers(meter, latest_day, today),
        ],
        "Highest quarter-hour": [
            TableRow(f"{month:%B %Y}", str(format_amount(power, Unit.KW))) for month, power in meter.monthly_peaks[:MONTHS]
        ],
        "Facts": list(_list_facts(meter)),
        "History": list(_list_history(usages, snapshot.count_corrections(view.account, meter.id), today)),
    }
    return UsagePointPage(
        account=view.account,
        meter=meter,
        tile=build_tile(meter, clock, view.zone, usages),
        quantities=[_build_quantity(usage, meter.title, latest_day or max(usage.days), today) for usage in usages],
        curve=_build_curve(snapshot, view, meter.id, today),
        tables=[(caption, rows) for caption, rows in tables.items() if rows],
    )


def _build_quantity(usage: DayUsage, title: str, latest: date, today: date) -> Quantity:
    what = "Injection" if usage.direction == Direction.INJECTION else "Consumption"
    months = list_months(usage, latest, MONTHS)
    bars = [
        BarValue(
            _describe_month(month.month, month.value, month.missing, usage.unit),
            month.value,
            is_partial=month.missing > 0,
            paler=month.year_before,
            paler_title=_describe_month(
                month.month.replace(year=month.month.year - 1), month.year_before, month.missing_before, usage.unit
            ),
            is_paler_partial=month.missing_before > 0,
            label=f"{month.month:%b}",
        )
        for month in months
    ]
    days = [latest - timedelta(days=number) for number in range(DAYS)]
    return Quantity(
        title=f"{what} in {usage.unit}",
        months=build_bar_chart(bars, f"{title}: {what.lower()} by month, beside the year before", width=20),
        month_rows=[_build_month_row(month, usage.unit, latest) for month in reversed(months)],
        days=build_day_chart(usage, latest, max(latest, today - DAY), title, DAYS, is_labelled=True),
        day_rows=[
            TableRow(
                format_day(day, today),
                str(format_amount(usage.days[day], usage.unit)) if day in usage.days else "–",
                "" if day in usage.days else "not known",
            )
            for day in days
        ],
        highest_month=_format_highest((one for bar in bars for one in (bar.value, bar.paler)), usage.unit),
        highest_day=_format_highest((usage.days.get(day) for day in days), usage.unit),
    )


def _format_highest(values: Iterable[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    return f"at most {format_amount(max(known), unit)}" if known else ""


def _describe_month(month: date, value: float | None, missing: int, unit: str) -> str:
    amount = "not known" if value is None else f"{format_amount(value, unit)}{_describe_missing(missing)}"
    return f"{month:%B %Y}: {amount}"


def _describe_missing(days: int) -> str:
    return f", {format_days(days)} missing" if days else ""


def _build_month_row(month: MonthUsage, unit: str, latest: date) -> TableRow:
    is_running = month.month == latest.replace(day=1) and (latest + DAY).month == latest.month
    label = f"{month.month:%B %Y}" + (f", 1\u2013{latest.day}" if is_running and latest.day > 1 else "")
    remarks = [_describe_missing(month.missing).removeprefix(", ")] if month.missing and month.value is not None else []
    if month.change is not None:
        remarks.append(f"{round(month.change * 100):+d}{THIN_SPACE}% on the year before".replace("-", "\u2212"))
    amount = "–" if month.value is None else str(format_amount(month.value, unit))
    return TableRow(label, amount, ", ".join(remarks))


def _build_curve(snapshot: Snapshot, view: AccountView, stored: str, today: date) -> LoadCurve | None:
    """Return the load of the newest local day that has amounts of less than a day."""
    newest = snapshot.select_newest_curve_start(view.account, stored)
    if newest is None:
        return None
    day = datetime.fromtimestamp(newest / 1000, view.zone).date()
    start, end = (datetime.combine(one, time(), view.zone) for one in (day, day + DAY))
    by_quantity = defaultdict[tuple[bool, bool], list[Amount]](list)
    for amount in snapshot.select_curve_amounts(view.account, stored, start, end):
        by_quantity[amount.direction != Direction.CONSUMPTION, amount.unit != Unit.KWH].append(amount)
    if not by_quantity:
        return None
    amounts = by_quantity[min(by_quantity)]  # consumption before injection, energy before volume
    unit = Unit.KW if amounts[0].unit == Unit.KWH else f"{amounts[0].unit}/h"
    points: list[tuple[float, float]] = []
    for amount in amounts:
        power = amount.value * 3_600_000 / (amount.end_ms - amount.start_ms)
        points += [((at - start.timestamp() * 1000) / 60_000, power) for at in (amount.start_ms, amount.end_ms)]
    what = "Injected load" if amounts[0].direction == Direction.INJECTION else "Load"
    title, highest = f"{what} on {format_day(day, today)}", _format_highest((power for _, power in points), unit)
    minutes = round((end.timestamp() - start.timestamp()) / 60)
    return LoadCurve(title, build_line_chart(points, minutes, f"{title}, {highest}"), highest)


def _list_registers(readings: Sequence[RegisterReading], clock: PageClock) -> Iterator[TableRow]:
    names = list_register_names(
        [
            RegisterText(row.register, row.kind, row.description, row.unit, is_injection=row.direction == Direction.INJECTION)
            for row in readings
        ]
    )
    for name, row in zip(names, readings, strict=True):
        at = clock.format(datetime.fromtimestamp(row.at_ms / 1000, UTC))
        yield TableRow(name or "index", str(format_reading(row.value, row.unit, row.nature)), at)


def _list_day_registers(meter: MeterSummary, latest: date | None, today: date) -> Iterator[TableRow]:
    """Yield the latest day of each register, where there are several."""
    for family, unit, what in (
        ("utility_daily_consumption_kwh", Unit.KWH, ""),
        ("utility_daily_consumption_m3", Unit.M3, ""),
        ("utility_daily_injection_kwh", Unit.KWH, "injection"),
    ):
        values = meter.values.get(family, {})
        if latest and len(values) > 1:
            names = list_register_names([RegisterText(register, is_injection=bool(what)) for (register,) in values])
            for name, value in zip(names, values.values(), strict=True):
                yield TableRow(name, str(format_amount(value, unit)), format_day(latest, today))


def _list_facts(meter: MeterSummary) -> Iterator[TableRow]:
    for family, (label, texts) in _FACT_TEXTS.items():
        if (value := meter.values.get(family, {}).get(())) is not None:
            yield TableRow(label, texts[bool(value)])
    if (power := meter.values.get("utility_subscribed_power_kva", {}).get(())) is not None:
        yield TableRow("Subscribed power", f"{power:g}{THIN_SPACE}{Unit.KVA}")


_FACT_TEXTS = {
    "utility_meter_active": ("In service", ("no", "yes")),
    "utility_up_to_date": ("Up to date", ("no", "yes")),
    "utility_divergent_consumption": ("Unusual consumption", ("no", "yes")),
    "utility_flow_limitation": ("Flow limited", ("no", "yes")),
    "utility_no_data_permission": ("Data withheld by the portal", ("no", "yes")),
}
"""Family -> what it is about, and how 0 and 1 are said."""


def _list_history(usages: Sequence[DayUsage], corrections: int, today: date) -> Iterator[TableRow]:
    for usage in usages:
        first, last = min(usage.days), max(usage.days)
        ranges = list_missing_ranges(usage, first, last)
        missing = f"{format_days(usage.count_missing(first, last))} missing" if ranges else "no day missing"
        yield TableRow(f"{usage.direction.capitalize()} in {usage.unit}", f"since {format_day(first, today)}", missing)
        for begin, end in ranges[:MAX_GAPS]:
            days = format_day(begin, today) if begin == end else f"{format_day(begin, today)} to {format_day(end, today)}"
            yield TableRow("", f"{format_days((end - begin).days + 1)} missing", days)
        if rest := ranges[MAX_GAPS:]:
            yield TableRow("", "", f"and {len(rest)} older gap{'s' * (len(rest) != 1)}")
    if corrections:
        yield TableRow("Corrected by the portal", f"{format_count(corrections)} value{'s' * (corrections != 1)}")
