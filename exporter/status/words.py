"""Instants, ages, numbers and health as a person says them."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger import AccountState
from exporter.model import Unit

THIN = "\u202f"
"""The narrow space that parts thousands and units."""
FIRM = "\u00a0"
"""The space at which no line ends."""
REASONS = {
    "unreachable": "The portal cannot be reached",
    "rate_limit": "The portal asks us to slow down",
    "login": "The portal refuses the login",
    "response": "The portal answers in a way that is not understood",
    "bug": "A bug in this program",
    "ledger": "The readings cannot be kept",
}
_DECIMALS = {Unit.KW: 2, Unit.KVA: 2, Unit.CELSIUS: 1, "%": 0}


@dataclass(frozen=True, slots=True)
class Said:
    """An account's health: `kind` is `good`, `waiting` or `bad`; the lines explain the headline."""

    kind: str
    headline: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Number:
    """A number with its unit, the decimals apart, for they are another colour on a meter."""

    whole: str
    decimals: str
    unit: str

    def __str__(self) -> str:
        return f"{self.whole}{self.decimals}{THIN}{self.unit}".rstrip(THIN)


def day(at: datetime, zone: ZoneInfo, now: datetime) -> str:
    """Say a local day: Thu 19 Nov, with the year where it is another one."""
    local = at.astimezone(zone)
    year = f" {local.year}" if local.year != now.astimezone(zone).year else ""
    return f"{local:%a} {local.day} {local:%b}{year}".replace(" ", FIRM)


def instant(at: datetime, zone: ZoneInfo, now: datetime) -> str:
    """Say a local instant: Thu 19 Nov, 14:02."""
    return f"{day(at, zone, now)},{FIRM}{at.astimezone(zone):%H:%M}"


def age(distance: timedelta) -> str:
    """Say how long ago something was, or in how long it is."""
    seconds = abs(distance.total_seconds())
    if seconds < 60:
        return "just now"
    steps = ((2 * 365 * 86_400, 365 * 86_400, "years"), (172_800, 86_400, "days"), (5_400, 3_600, "h"), (0, 60, "min"))
    unit, name = next((unit, name) for least, unit, name in steps if seconds >= least)
    text = f"{round(seconds / unit)} {name}"
    return f"{text} ago" if distance > timedelta(0) else f"in {text}"


def length(span: timedelta) -> str:
    """Say how long something lasts, fit to follow `every` and `per`: hour, 30 min, 24 h, 7 days."""
    seconds = round(span.total_seconds())
    if seconds in (3_600, 60):
        return "hour" if seconds == 3_600 else "minute"
    for unit, name, least in ((86_400, "days", 2), (3_600, "h", 1), (60, "min", 1)):
        if seconds % unit == 0 and seconds >= least * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def count(number: int) -> str:
    """Write a whole number with parted thousands."""
    return f"{number:,}".replace(",", THIN)


def index(value: float, unit: str) -> Number:
    """Write what a register shows: m³ to the litre, anything else to seven digits and three decimals at most."""
    decimals = 3 if unit == Unit.M3 else min(3, max(0, 6 - math.floor(math.log10(max(abs(value), 1)))))
    text = _fixed(value, decimals)
    return _parted(text if unit in (Unit.M3, Unit.KWH) or "." not in text else text.rstrip("0").rstrip("."), unit)


def amount(value: float, unit: str) -> Number:
    """Write an amount or a power to the digits that mean something."""
    size = abs(value)
    decimals = _DECIMALS.get(unit)
    if decimals is None:
        steps = (10, 100, 1000) if unit == Unit.M3 else (0, 100, 1000)
        decimals = 3 - sum(size >= step for step in steps)
    return _parted(_fixed(value, decimals), unit)


def health(state: AccountState, every: timedelta, now: datetime, zone: ZoneInfo) -> Said:
    """Say how an account fares, and what follows."""
    if state.suspended_until and now < state.suspended_until:
        return _refused(state, state.suspended_until, now, zone)
    if state.up is None:
        return Said("waiting", "Not visited yet", (_next(state, now, zone),))
    if state.up:
        return Said("good", "Working", (f"Asked every {length(every)}.",))
    lines = [f"{_sentence(state.message)}"] if state.message else []
    if state.last_success:
        lines.append(f"It last worked {instant(state.last_success, zone, now)} ({age(now - state.last_success)}).")
    if state.failures > 1:
        lines.append(f"Tried {count(state.failures)} times since.")
    return Said("bad", REASONS.get(state.reason, "The last visit failed"), (*lines, _next(state, now, zone)))


def _refused(state: AccountState, until: datetime, now: datetime, zone: ZoneInfo) -> Said:
    since = instant(state.last_visit or now, zone, now)
    first = state.failures <= 1
    headline = f"Refused by the portal since {since}" if first else f"Refused by the portal again, {since}"
    lines = [_sentence(state.message)] if state.message else []
    lines.append(f"Not asked again until you change the configuration, or {instant(until, zone, now)}.")
    if state.last_success:
        lines.append(f"It last worked {instant(state.last_success, zone, now)}.")
    return Said("bad", headline, tuple(lines))


def _next(state: AccountState, now: datetime, zone: ZoneInfo) -> str:
    if state.next_visit is None or state.next_visit <= now:
        return "It is asked now."
    return f"It is asked again {instant(state.next_visit, zone, now)} ({age(now - state.next_visit)})."


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}".replace(",", THIN)
    return text.removeprefix("-") if float(f"{value:.{decimals}f}") == 0 else text.replace("-", "\u2212")


def _parted(text: str, unit: str) -> Number:
    whole, point, decimals = text.partition(".")
    return Number(whole, point + decimals, unit)


def utc(seconds: float) -> datetime:
    """Make an instant of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)
