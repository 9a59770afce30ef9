"""Instants, ages, numbers and registers as text for people."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from exporter.models import Nature, Unit
from exporter.portals.register_kinds import find_kind

THIN_SPACE = "\u202f"
"""The narrow space between thousands and before units."""
NO_BREAK_SPACE = "\u00a0"
"""A space at which no line breaks."""
_DECIMALS = {Unit.KW: 2, Unit.KVA: 2, Unit.CELSIUS: 1, "%": 0}
_UNIT_NAMES: Mapping[str, str] = {Unit.CELSIUS: "temperature", Unit.RELATIVE_HUMIDITY: "humidity", Unit.KW: "power"}
"""What is measured in a unit, where nothing else tells it."""


@dataclass(frozen=True, slots=True)
class FormattedNumber:
    """A number with its unit; the decimals apart, for a meter shows them in another colour."""

    whole: str
    decimals: str
    unit: str

    def __str__(self) -> str:
        return f"{self.whole}{self.decimals}{THIN_SPACE}{self.unit}".rstrip(THIN_SPACE)


def format_day(day: date, today: date) -> str:
    """Return a day: Thu 19 Nov, with the year if it is another one."""
    year = f" {day.year}" if day.year != today.year else ""
    return f"{day:%a} {day.day} {day:%b}{year}".replace(" ", NO_BREAK_SPACE)


def format_instant(at: datetime, zone: tzinfo, now: datetime) -> str:
    """Return a local instant: Thu 19 Nov, 14:02."""
    local = at.astimezone(zone)
    return f"{format_day(local.date(), now.astimezone(zone).date())},{NO_BREAK_SPACE}{local:%H:%M}"


def format_day_range(first: date, last: date) -> str:
    """Return days of one month: 19-28 November, with a dash; or 1 November."""
    days = f"{first.day}\u2013\u2060{last.day}" if first != last else f"{last.day}"
    return f"{days} {last:%B}".replace(" ", NO_BREAK_SPACE)


def format_days(count: int) -> str:
    """Return a number of days: 1 day, 2 days."""
    return f"{format_count(count)} day{'s' * (count != 1)}"


@dataclass(frozen=True, slots=True)
class PageClock:
    """The instant of a page, and the one time zone of all its instants."""

    now: datetime
    zone: tzinfo

    def format(self, at: datetime) -> str:
        """Return an instant as the page shows all of them."""
        return format_instant(at, self.zone, self.now)


def format_age(elapsed: timedelta) -> str:
    """Return how long ago something was, or how far ahead it is."""
    if abs(elapsed) < timedelta(minutes=1):
        return "just now"
    text = format_length(abs(elapsed))
    return f"{text} ago" if elapsed > timedelta(0) else f"in {text}"


def format_length(length: timedelta) -> str:
    """Return about how long something takes: 3 min, 14 h, 2 days."""
    seconds = length.total_seconds()
    steps = ((2 * 365 * 86_400, 365 * 86_400, "years"), (172_800, 86_400, "days"), (5_400, 3_600, "h"), (0, 60, "min"))
    unit, name = next((unit, name) for minimum, unit, name in steps if seconds >= minimum)
    return f"{max(round(seconds / unit), 1)} {name}"


def format_duration(duration: timedelta) -> str:
    """Return a duration, fit to follow `every` and `per`: hour, 30 min, 24 h, 7 days."""
    seconds = round(duration.total_seconds())
    if seconds in (3_600, 60):
        return "hour" if seconds == 3_600 else "minute"
    for unit, name, minimum in ((86_400, "days", 2), (3_600, "h", 1), (60, "min", 1)):
        if seconds % unit == 0 and seconds >= minimum * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def format_count(number: int) -> str:
    """Return a whole number with its thousands separated."""
    return f"{number:,}".replace(",", THIN_SPACE)


def format_index(value: float, unit: str) -> FormattedNumber:
    """Return an index: m³ to the litre, anything else to seven digits and three decimals at most."""
    decimals = 3 if unit == Unit.M3 else min(3, max(0, 6 - math.floor(math.log10(max(abs(value), 1)))))
    text = _format_fixed(value, decimals)
    return _split_number(text if unit in (Unit.M3, Unit.KWH) or "." not in text else text.rstrip("0").rstrip("."), unit)


def format_amount(value: float, unit: str) -> FormattedNumber:
    """Return an amount or a power with three significant digits or so."""
    size = abs(value)
    decimals = _DECIMALS.get(unit)
    if decimals is None:
        steps = (10, 100, 1000) if unit == Unit.M3 else (0, 100, 1000)
        decimals = 3 - sum(size >= step for step in steps)
    return _split_number(_format_fixed(value, decimals), unit)


@dataclass(frozen=True, slots=True)
class RegisterText:
    """A register, and what it is called by."""

    register: str
    kind: str = ""
    description: str = ""
    unit: str = ""
    is_injection: bool = False


def list_register_names(registers: Sequence[RegisterText]) -> list[str]:
    """Return what registers of one usage point are called; the only one of a usage point needs no name."""
    names = [_name_register(register, alone=len(registers) == 1) for register in registers]
    uses = Counter(names)
    return [
        f"{name} {register.register}" if uses[name] > 1 and register.register not in name else name
        for name, register in zip(names, registers, strict=True)
    ]


def format_reading(value: float, unit: str, nature: str = Nature.COUNTER) -> FormattedNumber:
    """Return what a register shows."""
    if unit == Unit.RELATIVE_HUMIDITY:
        return format_amount(value * 100, "%")
    if unit in {Unit.CELSIUS, Unit.KW} and nature == Nature.MOMENTARY:
        return format_amount(value, unit)
    return format_index(value, unit)


def _format_fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}".replace(",", THIN_SPACE)
    return text.removeprefix("-") if float(f"{value:.{decimals}f}") == 0 else text.replace("-", "\u2212")


def _split_number(text: str, unit: str) -> FormattedNumber:
    whole, point, decimals = text.partition(".")
    return FormattedNumber(whole, point + decimals, unit)


def _name_register(text: RegisterText, *, alone: bool) -> str:
    kind = find_kind(text.kind)
    quantity = _UNIT_NAMES.get(text.unit, "")
    is_number = text.register.isdecimal()
    own = "" if text.register == "total" or (is_number and (alone or quantity)) else text.register
    unit_suffices = alone and not quantity and text.unit in {Unit.KWH, Unit.M3}
    name = text.description or (own if own and not is_number else "" if unit_suffices else kind or quantity or own)
    return _join([name, "injection" if text.is_injection and "injection" not in name else ""])


def _join(texts: Iterable[str]) -> str:
    return ", ".join(filter(None, texts))
