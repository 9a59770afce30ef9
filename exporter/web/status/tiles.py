"""Tiles of meters: which values stand on the screen, and which below it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from exporter.account_status import AccountView
from exporter.models import DAY, Unit
from exporter.web.status.charts import BarValue, Chart, build_bar_chart
from exporter.web.status.formatting import (
    THIN_SPACE,
    FormattedNumber,
    format_amount,
    format_day,
    format_index,
    format_instant,
)
from exporter.web.status.meters import MeterSummary, Values, instant_from_seconds
from exporter.web.status.usage import DayUsage, compare_days

MAX_LINES = 4
CHART_DAYS = 30
_INDEXES = {
    "utility_consumption_index_kwh": ("", Unit.KWH),
    "utility_consumption_index_m3": ("", Unit.M3),
    "utility_injection_index_kwh": ("injection", Unit.KWH),
}
_INSTANT_VALUES = {
    "utility_temperature_celsius": ("temperature", Unit.CELSIUS),
    "utility_humidity_ratio": ("humidity", "%"),
    "utility_power_kw": ("power", Unit.KW),
}
_KIND_NAMES = {
    "LB_POCTYP_ELVT": "high tariff",
    "LB_POCTYP_ELNT": "low tariff",
    "LB_POCTYP_INTEP": "indoor temperature",
    "LB_POCTYP_OUTTEP": "outdoor temperature",
    "LB_POCTYP_VLH": "humidity",
    "LB_POCTYP_TLAKKPA": "pressure",
    "LB_POCTYP_CO2": "CO2",
}
"""What a portal's key of a kind of register means, where the unit does not say it."""
_LOAD_LABELS = {"utility_consumption_load_kw": "Load", "utility_injection_load_kw": "Load, injection"}
_AMOUNTS = {"consumption_kwh": ("", Unit.KWH), "consumption_m3": ("", Unit.M3), "injection_kwh": ("injection", Unit.KWH)}


@dataclass(frozen=True, slots=True)
class ScreenLine:
    """One line of a meter's screen; `label` is empty where there is only one thing it can be."""

    label: str
    number: FormattedNumber


@dataclass(frozen=True, slots=True)
class TileRow:
    """A line under the screen."""

    label: str
    text: str
    detail: str = ""
    number: FormattedNumber | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """One meter, ready to be rendered."""

    meter: MeterSummary
    lines: Sequence[ScreenLine]
    hidden_lines: int
    """How many lines do not fit on the screen."""
    rows: Sequence[TileRow]
    chart: Chart | None = None
    """The last 30 days."""


def build_tile(view: AccountView, meter: MeterSummary, now: datetime, usages: Sequence[DayUsage] = ()) -> Tile:
    """Return the tile of a meter; `usages` are its days, the preferred quantity first."""
    lines, rows = _build_lines_and_rows(view, meter.values, now)
    latest = _read_instant(meter.values, "utility_latest_day_timestamp_seconds")
    chart = None
    if usages and latest:
        day = latest.astimezone(view.zone).date()
        rows = [*rows[:1], *_build_comparison(usages[0], day), *rows[1:]]
        chart = build_day_chart(usages[0], day, now.astimezone(view.zone).date() - DAY, meter.title)
    return Tile(meter, lines[:MAX_LINES], max(0, len(lines) - MAX_LINES), rows, chart)


def build_day_chart(usage: DayUsage, latest: date, last: date, title: str, count: int = CHART_DAYS) -> Chart | None:
    """Return the bars of the days up to `last`; days after the latest complete one are pale."""
    days = [last - timedelta(days=number) for number in range(count - 1, -1, -1)]
    values = [
        BarValue(
            f"{day:%a} {day.day} {day:%b}: {format_amount(usage.days[day], usage.unit) if day in usage.days else 'not known'}",
            usage.days.get(day),
            is_partial=day > latest,
        )
        for day in days
    ]
    known = sum(value.value is not None for value in values)
    return build_bar_chart(values, f"{title}: {usage.direction} of the last {count} days, {known} of them known")


def _build_comparison(usage: DayUsage, latest: date) -> list[TileRow]:
    change = compare_days(usage, latest.replace(day=1), latest)
    if change is None:
        return []
    percent = round(abs(change) * 100)
    return [TileRow("Same days of last year", "as much" if not percent else f"{percent} % {'more' if change > 0 else 'less'}")]


def _build_lines_and_rows(view: AccountView, values: Values, now: datetime) -> tuple[list[ScreenLine], list[TileRow]]:
    """Choose what stands on the screen: the latest day, else indexes and what is measured now, else the load with its time."""
    latest, month = _build_period_rows(view, values, now)
    load, peaks = _build_load_rows(view, values, now), _build_peak_rows(view, values, now)
    indexes = _build_index_lines(values)
    lines: list[ScreenLine] = []
    for family, (what, unit) in _AMOUNTS.items():
        if found := values.get(f"utility_daily_{family}"):
            label = what if what or lines else latest[0].label
            lines.append(ScreenLine(label, format_amount(sum(found.values()), unit)))
    if lines:
        return lines, [
            *month,
            *(TileRow(f"Index{', ' if line.label else ''}{line.label}", str(line.number)) for line in indexes),
            *load,
            *peaks,
        ]
    if indexes:
        return indexes, [*load, *peaks]
    return [ScreenLine(f"{row.label}, {row.detail}", row.number) for row in load if row.number], peaks


def _build_index_lines(values: Values) -> list[ScreenLine]:
    found = [
        (register, what, format_index(value, unit))
        for family, (what, unit) in _INDEXES.items()
        for (register,), value in values.get(family, {}).items()
    ]
    found += [
        (register, what, format_amount(value * 100 if unit == "%" else value, unit))
        for family, (what, unit) in _INSTANT_VALUES.items()
        for (register,), value in values.get(family, {}).items()
    ]
    other = values.get("utility_register_value", {})
    found += [(register, "", format_index(value, unit)) for (register, unit), value in other.items()]
    return [
        ScreenLine(_label_register(values, register, what, alone=len(found) == 1), number) for register, what, number in found
    ]


def _label_register(values: Values, register: str, quantity: str, *, alone: bool) -> str:
    """Return a register's label: its description, or its own name where that is informative."""
    infos = values.get("utility_register_info", {})
    description = next((labels[4] or _KIND_NAMES.get(labels[2], "") for labels in infos if labels[0] == register), "")
    if quantity and description == quantity:
        description = ""
    is_informative = register != "total" and not (register.isdecimal() and (alone or quantity))
    return ", ".join(text for text in (description or (register if is_informative else ""), quantity) if text)


def _build_period_rows(view: AccountView, values: Values, now: datetime) -> tuple[list[TileRow], list[TileRow]]:
    """Return rows for the latest day, by its date, and for its month up to it."""
    latest = _read_instant(values, "utility_latest_day_timestamp_seconds")
    if latest is None:
        return [], []
    local, today = latest.astimezone(view.zone), now.astimezone(view.zone).date()
    day = format_day(latest, view.zone, now)
    day = f"Yesterday, {day}" if local.date() == today - timedelta(days=1) else day
    month = f"1\u2013{local.day} {local:%B}" if local.day > 1 else f"1 {local:%B}"
    gaps = int(values.get("utility_monthly_day_gaps", {}).get((), 0))
    missing = f"{gaps} day{'s' * (gaps != 1)} missing" if gaps else ""
    return _build_sum_rows(values, "daily", day), _build_sum_rows(values, "monthly", month, missing)


def _build_sum_rows(values: Values, period: str, label: str, detail: str = "") -> list[TileRow]:
    """Return the amounts of a period, all registers together; one commodity in two units is one row."""
    texts: dict[str, list[str]] = defaultdict(list)
    for family, (what, unit) in _AMOUNTS.items():
        if found := values.get(f"utility_{period}_{family}"):
            texts[what].append(str(format_amount(sum(found.values()), unit)))
    return [TileRow(what or label, " · ".join(amounts), "" if what else detail) for what, amounts in texts.items()]


def _build_load_rows(view: AccountView, values: Values, now: datetime) -> list[TileRow]:
    at = _read_instant(values, "utility_load_timestamp_seconds")
    when = format_instant(at, view.zone, now) if at else ""
    return [
        TileRow(label, str(format_amount(value, Unit.KW)), when, format_amount(value, Unit.KW))
        for family, label in _LOAD_LABELS.items()
        for value in values.get(family, {}).values()
    ]


def _build_peak_rows(view: AccountView, values: Values, now: datetime) -> list[TileRow]:
    rows = []
    for family, unit, label in (("monthly_peak", Unit.KW, "Month's peak"), ("daily_peak", Unit.KVA, "Day's peak")):
        power, at = (
            _read_value(values, f"utility_{family}_{unit.lower()}"),
            _read_instant(values, f"utility_{family}_timestamp_seconds"),
        )
        if power is not None:
            title = f"{at.astimezone(view.zone):%B}'s peak" if at and family == "monthly_peak" else label
            rows.append(TileRow(title, str(format_amount(power, unit)), format_instant(at, view.zone, now) if at else ""))
    if (average := _read_value(values, "utility_average_monthly_peak_kw")) is not None:
        months = int(_read_value(values, "utility_average_monthly_peak_months") or 0)
        rows.append(TileRow("Average peak", str(format_amount(average, Unit.KW)), f"{months} month{'s' * (months != 1)}"))
    if (subscribed := _read_value(values, "utility_subscribed_power_kva")) is not None:
        rows.append(TileRow("Subscribed", f"{subscribed:g}{THIN_SPACE}{Unit.KVA}"))
    return rows


def _read_value(values: Values, family: str) -> float | None:
    return values.get(family, {}).get(())


def _read_instant(values: Values, family: str) -> datetime | None:
    seconds = _read_value(values, family)
    return None if seconds is None else instant_from_seconds(seconds)
