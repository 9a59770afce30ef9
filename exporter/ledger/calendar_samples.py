"""Samples that are calculated from days when they are read: months, and sums since the first of the month or year.

Problem: the language of dashboards knows no calendar, so whoever draws months needs them as samples.
Idea: the days of a register are read from the first of the period on, and added up; a period is known up to the first
missing day.
Invariants: a day is known when any register of the same usage point, direction and unit has an amount of it, as on the page; a
sample lies on the last millisecond of its last day, wherever that day begins (gas days at six); amounts are added exactly.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

from exporter.ledger.database import from_ms
from exporter.models import DAY


class Calendar(StrEnum):
    """What is calculated from days."""

    MONTH = "month"
    MONTH_TO_DATE = "month_to_date"
    YEAR_TO_DATE = "year_to_date"


_MAX_PERIOD_MS = {
    Calendar.MONTH: 33 * 86_400_000,
    Calendar.MONTH_TO_DATE: 33 * 86_400_000,
    Calendar.YEAR_TO_DATE: 368 * 86_400_000,
}
"""The longest period, and a day more on both sides: so much before the first sample are the days that it is the sum of."""


@dataclass(frozen=True, slots=True)
class CalendarRule:
    """Which samples are calculated from the days of a series."""

    calendar: Calendar
    zone: ZoneInfo
    companions: tuple[int, ...]
    """All series of days of the same usage point, direction and unit, this one included."""


def iterate_calendar_samples(
    db: sqlite3.Connection, series_id: int, rule: CalendarRule, first: int, last: int
) -> Iterator[tuple[int, float]]:
    """Yield timestamp and value of the calculated samples with timestamps in [first, last] milliseconds, in order."""
    since = first - _MAX_PERIOD_MS[rule.calendar]
    amounts = {local_day(rule.zone, at): value for at, value in db.execute(_SELECT_DAYS, (series_id, since, last))}
    previous, total, has_any = None, Fraction(0), False
    for day, end in sorted(_select_known_days(db, rule, since, last).items()):
        if day.day == 1 and (rule.calendar is not Calendar.YEAR_TO_DATE or day.month == 1):
            total, has_any = Fraction(0), False
        elif previous is None or previous + DAY != day:
            previous = None
            continue
        previous = day
        if day in amounts:
            total, has_any = total + Fraction(repr(amounts[day])), True
        if has_any and first < end <= last + 1 and (rule.calendar is not Calendar.MONTH or (day + DAY).day == 1):
            yield end - 1, float(total)


def _select_known_days(db: sqlite3.Connection, rule: CalendarRule, since: int, last: int) -> dict[date, int]:
    """Return the days known of any register, each with its end."""
    known: dict[date, int] = {}
    for companion in rule.companions:
        for at, end in db.execute(_SELECT_ENDS, (companion, since, last)):
            day = local_day(rule.zone, at)
            known[day] = max(end, known.get(day, end))
    return known


@lru_cache(maxsize=8192)
def local_day(zone: ZoneInfo, at: int) -> date:
    """Return the local day of an instant in milliseconds."""
    return from_ms(at).astimezone(zone).date()


_SELECT_DAYS = "SELECT at, value FROM reading WHERE series = ? AND at BETWEEN ? AND ? ORDER BY at"
_SELECT_ENDS = "SELECT at, at + span * 1000 FROM reading WHERE series = ? AND at BETWEEN ? AND ?"
