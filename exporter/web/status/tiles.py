"""Tiles of meters: which values stand on the screen, and which below it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.models import DAY, Direction, Nature, Unit
from exporter.web.status.charts import BarValue, Chart, build_bar_chart
from exporter.web.status.formatting import (
    THIN_SPACE,
    FormattedNumber,
    PageClock,
    RegisterText,
    format_amount,
    format_day,
    format_day_range,
    format_days,
    format_reading,
    list_register_names,
)
from exporter.web.status.meters import MeterSummary, Values, instant_from_seconds
from exporter.web.status.usage import DayUsage, compare_days

MAX_LINES = 4
CHART_DAYS = 30
_INDEXES: Mapping[str, str] = {
    "utility_consumption_index_kwh": Unit.KWH,
    "utility_consumption_index_m3": Unit.M3,
    "utility_injection_index_kwh": Unit.KWH,
    "utility_temperature_celsius": Unit.CELSIUS,
    "utility_humidity_ratio": Unit.RELATIVE_HUMIDITY,
    "utility_power_kw": Unit.KW,
}
_LOAD_LABELS = {"utility_consumption_load_kw": "Load", "utility_injection_load_kw": "Injected load"}
_AMOUNTS = {"consumption_kwh": ("", Unit.KWH), "consumption_m3": ("", Unit.M3), "injection_kwh": ("Injection", Unit.KWH)}


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


def build_tile(meter: MeterSummary, clock: PageClock, zone: ZoneInfo, usages: Sequence[DayUsage] = ()) -> Tile:
    """Return the tile of a meter; days are those of `zone`; `usages` are its days, the preferred quantity first."""
    latest = _read_instant(meter.values, "utility_latest_day_timestamp_seconds")
    day = latest.astimezone(zone).date() if latest else None
    lines, rows = _build_lines_and_rows(meter, clock, day, usages, zone)
    chart = build_day_chart(usages[0], day, clock.now.astimezone(zone).date() - DAY, meter.title) if usages and day else None
    return Tile(meter, lines[:MAX_LINES], max(0, len(lines) - MAX_LINES), rows, chart)


def build_day_chart(
    usage: DayUsage, latest: date, last: date, title: str, count: int = CHART_DAYS, *, is_labelled: bool = False
) -> Chart | None:
    """Return the bars of the days up to `last`; days after the latest complete one are pale."""
    days = [last - timedelta(days=number) for number in range(count - 1, -1, -1)]
    values = [
        BarValue(
            f"{day:%a} {day.day} {day:%b}: {format_amount(usage.days[day], usage.unit) if day in usage.days else 'not known'}"
            f"{', not complete yet' if day > latest and day in usage.days else ''}",
            usage.days.get(day),
            is_partial=day > latest,
            label=str(day.day) if is_labelled else "",
        )
        for day in days
    ]
    known = sum(value.value is not None for value in values)
    return build_bar_chart(values, f"{title}: {usage.direction} of the last {count} days, {known} of them known")


def _build_lines_and_rows(
    meter: MeterSummary, clock: PageClock, day: date | None, usages: Sequence[DayUsage], zone: ZoneInfo
) -> tuple[list[ScreenLine], list[TileRow]]:
    """Choose what stands on the screen: the latest day, else indexes and what is measured now, else the load with its time."""
    load, peaks = _build_load_rows(meter.values, clock), _build_peak_rows(meter, clock)
    indexes = list_index_lines(meter.values)
    lines: list[ScreenLine] = []
    for family, (what, unit) in _AMOUNTS.items():
        if day and (found := meter.values.get(f"utility_daily_{family}")):
            label = what if what or lines else _format_latest_day(day, clock.now.astimezone(zone).date())
            lines.append(ScreenLine(label, format_amount(sum(found.values()), unit)))
    if lines and day:
        index_rows = [TileRow(f"Index{', ' if line.label else ''}{line.label}", str(line.number)) for line in indexes]
        return lines, [*_build_month_rows(meter.values, day, usages), *index_rows, *load, *peaks]
    if indexes:
        return indexes, [*load, *peaks]
    return [ScreenLine(f"{row.label}, {row.detail}", row.number) for row in load if row.number], peaks


def list_index_lines(values: Values) -> list[ScreenLine]:
    """Return what the registers of a usage point show, each with its name."""
    found = [
        (register, family, unit, value)
        for family, unit in _INDEXES.items()
        for (register,), value in values.get(family, {}).items()
    ]
    found += [(register, "", unit, value) for (register, unit), value in values.get("utility_register_value", {}).items()]
    infos = {labels[0]: labels for labels in values.get("utility_register_info", {})}
    names = list_register_names(
        [
            RegisterText(register, info[2], info[4], unit, is_injection=Direction.INJECTION in family)
            for register, family, unit, _ in found
            for info in [infos.get(register, ("",) * 7)]
        ]
    )
    return [
        ScreenLine(name, format_reading(value, unit, Nature.COUNTER if "index" in family else Nature.MOMENTARY))
        for name, (_, family, unit, value) in zip(names, found, strict=True)
    ]


def _format_latest_day(day: date, today: date) -> str:
    text = format_day(day, today)
    return f"Yesterday, {text}" if day == today - DAY else text


def _build_month_rows(values: Values, day: date, usages: Sequence[DayUsage]) -> list[TileRow]:
    """Return the month of the latest day, from its first known day on, beside the same days of last year.

    All registers together; one commodity in two units is one row.
    """
    first = day.replace(day=1)
    known = [one for usage in usages[:1] for one in usage.days if first <= one <= day]
    span = format_day_range(min(known, default=first), day)
    gaps = int(values.get("utility_monthly_day_gaps", {}).get((), 0))
    texts: dict[str, list[str]] = defaultdict(list)
    for family, (what, unit) in _AMOUNTS.items():
        if found := values.get(f"utility_monthly_{family}"):
            texts[what].append(str(format_amount(sum(found.values()), unit)))
    rows = [
        TileRow(f"{what}, {span}" if what else span, " · ".join(amounts), f"{format_days(gaps)} missing" if gaps else "")
        for what, amounts in texts.items()
    ]
    change = compare_days(usages[0], first, day) if usages else None
    return [*rows[:1], *([TileRow("Same days of last year", _format_change(change))] if change is not None else []), *rows[1:]]


def _format_change(change: float) -> str:
    percent = round(abs(change) * 100)
    return f"{percent}{THIN_SPACE}% {'more' if change > 0 else 'less'}" if percent else "as much"


def _build_load_rows(values: Values, clock: PageClock) -> list[TileRow]:
    at = _read_instant(values, "utility_load_timestamp_seconds")
    when = clock.format(at) if at else ""
    return [
        TileRow(label, str(format_amount(value, Unit.KW)), when, format_amount(value, Unit.KW))
        for family, label in _LOAD_LABELS.items()
        for value in values.get(family, {}).values()
    ]


def _build_peak_rows(meter: MeterSummary, clock: PageClock) -> list[TileRow]:
    rows, values = [], meter.values
    for family, unit, label in (("monthly_peak", Unit.KW, "Month's peak"), ("daily_peak", Unit.KVA, "Day's peak")):
        power, at = (
            _read_value(values, f"utility_{family}_{unit.lower()}"),
            _read_instant(values, f"utility_{family}_timestamp_seconds"),
        )
        if power is not None:
            title = f"{meter.monthly_peaks[0][0]:%B}'s peak" if meter.monthly_peaks and family == "monthly_peak" else label
            rows.append(TileRow(title, str(format_amount(power, unit)), clock.format(at) if at else ""))
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
