"""The faces of meters: which values stand on the screen, and which under it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from exporter.metrics import Shown
from exporter.model import Unit
from exporter.status.meters import Meter, Shelf, Values
from exporter.status.words import THIN, Number, amount, day, index, instant, utc

MOST_LINES = 4
_INDEXES = {
    "utility_consumption_index_kwh": ("", Unit.KWH),
    "utility_consumption_index_m3": ("", Unit.M3),
    "utility_injection_index_kwh": ("fed in", Unit.KWH),
}
_MOMENTARY = {
    "utility_temperature_celsius": ("temperature", Unit.CELSIUS),
    "utility_humidity_ratio": ("humidity", "%"),
    "utility_power_kw": ("power", Unit.KW),
}
_LOADS = {"utility_consumption_load_kw": "Load", "utility_injection_load_kw": "Load, fed in"}
_AMOUNTS = {"consumption_kwh": ("", Unit.KWH), "consumption_m3": ("", Unit.M3), "injection_kwh": ("fed in", Unit.KWH)}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a meter's screen; `label` is empty where there is only one thing it can be."""

    label: str
    number: Number


@dataclass(frozen=True, slots=True)
class Row:
    """A line under the screen."""

    label: str
    text: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One meter, ready to be shown."""

    meter: Meter
    lines: Sequence[Line]
    left_out: int
    """How many lines the screen has no room for."""
    rows: Sequence[Row]


def tile(shelf: Shelf, meter: Meter) -> Tile:
    """Make the tile of a meter."""
    lines, rows = _lines_and_rows(shelf.shown, shelf.values(meter), shelf.now)
    return Tile(meter, lines[:MOST_LINES], max(0, len(lines) - MOST_LINES), rows)


def _lines_and_rows(shown: Shown, values: Values, now: datetime) -> tuple[list[Line], list[Row]]:
    """Choose what stands on the screen: indexes, else what is measured now, else the latest day."""
    latest, month = _period_rows(shown, values, now)
    load, peaks = _load_rows(shown, values, now), _peak_rows(shown, values, now)
    if lines := _indexes(values):
        return lines, [*latest, *month, *load, *peaks]
    for family, label in _LOADS.items():
        lines += [Line(label, amount(value, Unit.KW)) for value in values.get(family, {}).values()]
    if lines:
        return lines, [*latest, *month, *peaks]
    for family, (what, unit) in _AMOUNTS.items():
        if found := values.get(f"utility_daily_{family}"):
            label = what if what or lines else latest[0].label
            lines.append(Line(label, amount(sum(found.values()), unit)))
    return lines, [*month, *peaks]


def _indexes(values: Values) -> list[Line]:
    found = [
        (register, what, index(value, unit))
        for family, (what, unit) in _INDEXES.items()
        for (register,), value in values.get(family, {}).items()
    ]
    found += [
        (register, what, amount(value * 100 if unit == "%" else value, unit))
        for family, (what, unit) in _MOMENTARY.items()
        for (register,), value in values.get(family, {}).items()
    ]
    other = values.get("utility_register_value", {})
    found += [(register, "", index(value, unit)) for (register, unit), value in other.items()]
    return [Line(_label(values, register, what, alone=len(found) == 1), number) for register, what, number in found]


def _label(values: Values, register: str, what: str, *, alone: bool) -> str:
    """Name a register: by its description, or its own name where that says something."""
    infos = values.get("utility_register_info", {})
    description = next((labels[4] for labels in infos if labels[0] == register), "")
    telling = register != "total" and not (register.isdecimal() and (alone or what))
    return ", ".join(text for text in (description or (register if telling else ""), what) if text)


def _period_rows(shown: Shown, values: Values, now: datetime) -> tuple[list[Row], list[Row]]:
    """Say the latest day, by its date, and its month up to it."""
    latest = _at(values, "utility_latest_day_timestamp_seconds")
    if latest is None:
        return [], []
    local, today = latest.astimezone(shown.zone), now.astimezone(shown.zone).date()
    named = day(latest, shown.zone, now)
    named = f"Yesterday, {named}" if local.date() == today - timedelta(days=1) else named
    month = f"1\u2013{local.day} {local:%B}" if local.day > 1 else f"1 {local:%B}"
    gaps = int(values.get("utility_monthly_day_gaps", {}).get((), 0))
    missing = f"{gaps} day{'s' * (gaps != 1)} missing" if gaps else ""
    return _sums(values, "daily", named), _sums(values, "monthly", month, missing)


def _sums(values: Values, period: str, label: str, more: str = "") -> list[Row]:
    """Say the amounts of a period, all registers together; one commodity in two units is one row."""
    texts: dict[str, list[str]] = defaultdict(list)
    for family, (what, unit) in _AMOUNTS.items():
        if found := values.get(f"utility_{period}_{family}"):
            texts[what].append(str(amount(sum(found.values()), unit)))
    return [Row(what or label, " · ".join(said), "" if what else more) for what, said in texts.items()]


def _load_rows(shown: Shown, values: Values, now: datetime) -> list[Row]:
    at = _at(values, "utility_load_timestamp_seconds")
    when = instant(at, shown.zone, now) if at else ""
    return [
        Row(label, str(amount(value, Unit.KW)), when)
        for family, label in _LOADS.items()
        for value in values.get(family, {}).values()
    ]


def _peak_rows(shown: Shown, values: Values, now: datetime) -> list[Row]:
    rows = []
    for family, unit, label in (("monthly_peak", Unit.KW, "Month's peak"), ("daily_peak", Unit.KVA, "Day's peak")):
        power, at = _one(values, f"utility_{family}_{unit.lower()}"), _at(values, f"utility_{family}_timestamp_seconds")
        if power is not None:
            rows.append(Row(label, str(amount(power, unit)), instant(at, shown.zone, now) if at else ""))
    if (average := _one(values, "utility_average_monthly_peak_kw")) is not None:
        months = int(_one(values, "utility_average_monthly_peak_months") or 0)
        rows.append(Row("Average peak", str(amount(average, Unit.KW)), f"{months} month{'s' * (months != 1)}"))
    if (subscribed := _one(values, "utility_subscribed_power_kva")) is not None:
        rows.append(Row("Subscribed", f"{subscribed:g}{THIN}{Unit.KVA}"))
    return rows


def _one(values: Values, family: str) -> float | None:
    return values.get(family, {}).get(())


def _at(values: Values, family: str) -> datetime | None:
    seconds = _one(values, family)
    return None if seconds is None else utc(seconds)
