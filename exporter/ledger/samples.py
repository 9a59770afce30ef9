"""The samples of history series: readings with their timestamps, and what is calculated from days when it is read.

Problem: the language of dashboards knows no calendar, so whoever draws months needs sums since the first of a month or year as
samples.
Idea: the days of a register are read from the first of the period on, and added up; a period is known up to the first missing
day. The amounts of whole months are calculated alike, and stored (`derived_months`).
Invariants: a day is known when any register of the same usage point, direction and unit has an amount of it, as on the page; a
sample lies on the last millisecond of its last day, wherever that day begins (gas days at six); amounts are added exactly.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from enum import StrEnum
from functools import lru_cache, partial
from zoneinfo import ZoneInfo

from exporter.ledger.database import from_ms
from exporter.models import DAY

ROWS_PER_FETCH = 4096
"""How many rows are fetched at a time."""
KEPT_USAGE_POINTS = 8
"""Of how many usage points the days stay at hand: those of a home, whose registers are calculated one after the other."""
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


_EXACT = Context(prec=700)
"""Rounds no sum of amounts: of the largest and the smallest float, one has 309 digits before, the other 340 behind the point."""


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


class SampleReader:
    """Reads the samples of one snapshot; the days of a usage point are read once for all its registers."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._read_days = lru_cache(KEPT_USAGE_POINTS)(partial(_read_days, db))

    def count(self, series_id: int, rule: TimestampRule, first: int, last: int) -> int:
        """Return the number of a series' samples with timestamps in [first, last]."""
        if rule.calendar:
            return len(self.calculate(series_id, rule.calendar, first, last))
        statement, values = _build_sample_query(series_id, rule, first, last)
        counting = _COUNT_SHIFTED_SAMPLES if statement is _SHIFTED_SAMPLES else f"SELECT count(*) FROM ({statement})"
        (count,) = self._db.execute(counting, values).fetchone()
        return int(count)

    def iterate(self, series_id: int, rule: TimestampRule, first: int, last: int) -> Iterator[SampleRows]:
        """Yield a series' samples with timestamps in [first, last], in slices."""
        if rule.calendar:
            rows = self.calculate(series_id, rule.calendar, first, last)
            yield from (rows[start : start + ROWS_PER_FETCH] for start in range(0, len(rows), ROWS_PER_FETCH))
            return
        cursor = self._db.execute(*_build_sample_query(series_id, rule, first, last))
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            yield rows

    def calculate(self, series_id: int, rule: CalendarRule, first: int, last: int) -> SampleRows:
        """Return the samples with timestamps in [first, last] that are calculated from the days of a series."""
        days, amounts = self._read_days(rule.zone, rule.companions, first - _MAX_PERIOD_MS[rule.calendar], last)
        own_amounts, rows = amounts[series_id], SampleRows()
        previous, total, has_any = None, Decimal(0), False
        for day, end in days:
            if day.day == 1 and (rule.calendar is not Calendar.YEAR_TO_DATE or day.month == 1):
                total, has_any = Decimal(0), False
            elif previous is None or previous + DAY != day:
                previous = None
                continue
            previous = day
            if (amount := own_amounts.get(day)) is not None:
                total, has_any = _EXACT.add(total, Decimal(repr(amount))), True
            if has_any and first < end <= last + 1 and (rule.calendar is not Calendar.MONTH or (day + DAY).day == 1):
                rows.append((end - 1, float(total)))
        return rows


@lru_cache(maxsize=8192)
def local_day(zone: ZoneInfo, at: int) -> date:
    """Return the local day of an instant in milliseconds."""
    return from_ms(at).astimezone(zone).date()


def _read_days(
    db: sqlite3.Connection, zone: ZoneInfo, series_ids: tuple[int, ...], first: int, last: int
) -> tuple[list[tuple[date, int]], dict[int, dict[date, float]]]:
    """Return the days known of any of these series, each with its end, and the amounts of each series by day."""
    ends, amounts = dict[date, int](), dict[int, dict[date, float]]()
    for series_id in series_ids:
        own_amounts = amounts[series_id] = {}
        for at, end, value in db.execute(_SELECT_DAYS, (series_id, first, last)):
            day = local_day(zone, at)
            own_amounts[day] = value
            if end > ends.get(day, 0):
                ends[day] = end
    return sorted(ends.items()), amounts


def _build_sample_query(series_id: int, rule: TimestampRule, first: int, last: int) -> tuple[str, dict[str, int | str]]:
    bounds = {"from": first - _MAX_BEFORE_STAMP, "to": last + _MAX_AFTER_STAMP, "first": first, "last": last}
    if rule.estimated:
        return _ESTIMATED_SAMPLES, {"series": json.dumps(rule.estimated), **bounds}
    if rule.shift is not None:
        shift = rule.shift
        return _SHIFTED_SAMPLES, {"series": series_id, "shift": shift, "first": first - shift, "last": last - shift}
    return _SPAN_SAMPLES, {"series": series_id, "offset": rule.offset, **bounds}


_SELECT_DAYS = "SELECT at, at + span * 1000, value FROM reading WHERE series = ? AND at BETWEEN ? AND ? ORDER BY at"
# CROSS JOIN: otherwise SQLite goes through all readings of a series for the few that are estimates.
_ESTIMATED_SAMPLES = (
    "SELECT DISTINCT at + span * 1000 - 1 AS stamp, 1.0 FROM json_each(:series) CROSS JOIN estimate"
    " ON estimate.series = json_each.value CROSS JOIN reading USING (series, at)"
    " WHERE at BETWEEN :from AND :to AND stamp BETWEEN :first AND :last ORDER BY stamp"
)
_SHIFTED_SAMPLES = "SELECT at + :shift, value FROM reading WHERE series = :series AND at BETWEEN :first AND :last ORDER BY at"
# Twice as fast as counting the rows of the former.
_COUNT_SHIFTED_SAMPLES = "SELECT count(*) FROM reading WHERE series = :series AND at BETWEEN :first AND :last"
_SPAN_SAMPLES = (
    "SELECT at + span * 1000 - :offset AS stamp, max(value) FROM reading WHERE series = :series AND at BETWEEN :from AND :to"
    " AND at + span * 1000 - :offset BETWEEN :first AND :last GROUP BY stamp ORDER BY stamp"
)
