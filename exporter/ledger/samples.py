"""The samples of history series: readings with their timestamps, and what is calculated from days when it is read.

Problem: the language of dashboards knows no calendar, so whoever draws months needs sums since the first of a month or year as
samples.
Idea: the days of a register are read from the first of the period on, and added up; a period is known up to the first missing
day. The amounts of whole months are calculated alike, and stored (`derived_months`).
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
from itertools import islice
from zoneinfo import ZoneInfo

from exporter.ledger.database import from_ms
from exporter.models import DAY

ROWS_PER_FETCH = 4096
"""How many rows are fetched at a time."""
_MAX_BEFORE_STAMP, _MAX_AFTER_STAMP = 32 * 86_400_000, 86_400_000
"""The maximum time from the start of a period to its timestamp, and, for irregular portals, from the timestamp to the start."""

SampleRows = list[tuple[int, float]]
"""Timestamps in milliseconds since 1970 with their values, in time order, without duplicates."""


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


@dataclass(frozen=True, slots=True)
class TimestampRule:
    """The timestamp of a reading's sample: `at + shift` if all periods have the same length, else `at + span - offset`.

    Both are in milliseconds. Of two samples with the same timestamp the higher value is used. With `calendar` the samples are
    calculated from days; `estimated` selects, of these series, the readings that the portal calls estimates.
    """

    shift: int | None = None
    offset: int = 0
    calendar: CalendarRule | None = None
    estimated: tuple[int, ...] = ()


def count_samples(db: sqlite3.Connection, series_id: int, rule: TimestampRule, first: int, last: int) -> int:
    """Return the number of a series' samples with timestamps in [first, last]."""
    if rule.calendar:
        return sum(1 for _ in iterate_calendar_samples(db, series_id, rule.calendar, first, last))
    statement, values = _build_sample_query(series_id, rule, first, last)
    (count,) = db.execute(f"SELECT count(*) FROM ({statement})", values).fetchone()
    return int(count)


def iterate_samples(db: sqlite3.Connection, series_id: int, rule: TimestampRule, first: int, last: int) -> Iterator[SampleRows]:
    """Yield a series' samples with timestamps in [first, last], in slices."""
    if rule.calendar:
        samples = iterate_calendar_samples(db, series_id, rule.calendar, first, last)
        while rows := list(islice(samples, ROWS_PER_FETCH)):
            yield rows
        return
    cursor = db.execute(*_build_sample_query(series_id, rule, first, last))
    while rows := cursor.fetchmany(ROWS_PER_FETCH):
        yield rows


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


@lru_cache(maxsize=8192)
def local_day(zone: ZoneInfo, at: int) -> date:
    """Return the local day of an instant in milliseconds."""
    return from_ms(at).astimezone(zone).date()


def _select_known_days(db: sqlite3.Connection, rule: CalendarRule, since: int, last: int) -> dict[date, int]:
    """Return the days known of any register, each with its end."""
    known: dict[date, int] = {}
    for companion in rule.companions:
        for at, end in db.execute(_SELECT_ENDS, (companion, since, last)):
            day = local_day(rule.zone, at)
            known[day] = max(end, known.get(day, end))
    return known


def _build_sample_query(series_id: int, rule: TimestampRule, first: int, last: int) -> tuple[str, dict[str, int]]:
    if rule.estimated:
        bounds = {"first": first, "last": last, "from": first - _MAX_BEFORE_STAMP, "to": last + _MAX_AFTER_STAMP}
        return _ESTIMATED_SAMPLES.format(",".join(map(str, rule.estimated))), bounds
    if rule.shift is not None:
        shift = rule.shift
        return _SHIFTED_SAMPLES, {"series": series_id, "shift": shift, "first": first - shift, "last": last - shift}
    bounds = {"from": first - _MAX_BEFORE_STAMP, "to": last + _MAX_AFTER_STAMP}
    return _SPAN_SAMPLES, bounds | {"series": series_id, "offset": rule.offset, "first": first, "last": last}


_SELECT_DAYS = "SELECT at, value FROM reading WHERE series = ? AND at BETWEEN ? AND ? ORDER BY at"
_SELECT_ENDS = "SELECT at, at + span * 1000 FROM reading WHERE series = ? AND at BETWEEN ? AND ?"
_ESTIMATED_SAMPLES = (
    "SELECT DISTINCT at + span * 1000 - 1 AS stamp, 1.0 FROM estimate JOIN reading USING (series, at) WHERE series IN ({})"
    " AND at BETWEEN :from AND :to AND stamp BETWEEN :first AND :last ORDER BY stamp"
)
_SHIFTED_SAMPLES = "SELECT at + :shift, value FROM reading WHERE series = :series AND at BETWEEN :first AND :last ORDER BY at"
_SPAN_SAMPLES = (
    "SELECT at + span * 1000 - :offset AS stamp, max(value) FROM reading WHERE series = :series AND at BETWEEN :from AND :to"
    " AND at + span * 1000 - :offset BETWEEN :first AND :last GROUP BY stamp ORDER BY stamp"
)
