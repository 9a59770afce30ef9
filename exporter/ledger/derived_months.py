"""Whole months of registers whose days are known: written like stated readings, so that they are sent, read and exported as such.

Problem: a store that is written to can calculate no local months, and must get each once, when it is whole.
Idea: the transaction that completes a month, or changes a day of it, writes its amount as a reading of its own series.
Invariants: a month counts as in `samples`; a month that is not whole any more has no reading.
"""

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import chain
from zoneinfo import ZoneInfo

from exporter.ledger.database import DAY_MS, from_ms, to_ms
from exporter.ledger.derived_days import INSERT_DERIVED_SERIES, DerivedDays, DerivedRow
from exporter.ledger.samples import Calendar, CalendarRule, SampleReader, local_day
from exporter.models import next_month


class MonthDeriver:
    """Derives the months of one account's registers, in the transaction of a visit."""

    def __init__(self, db: sqlite3.Connection, zone: ZoneInfo) -> None:
        self._db, self._zone = db, zone
        self._spans = array("q")
        """A series of days, the first and last `at` that have changed, the newest of it: four numbers each."""

    def collect_changed(self) -> None:
        """Collect the series of days from the table of changed readings, which are not written yet."""
        self._spans.extend(chain.from_iterable(self._db.execute(_SELECT_CHANGED_SPANS)))

    def collect_void(self, void: Sequence[tuple[int, int]]) -> None:
        """Collect days that have no amount any more."""
        self._spans.extend(chain.from_iterable((series, at, at, at) for series, at in void))

    def collect_all(self, account: int) -> None:
        """Collect all days of an account."""
        self._spans.extend(chain.from_iterable(self._db.execute(_SELECT_ALL_SPANS, (account,))))

    def derive(self) -> DerivedDays:
        """Return the months that changed days concern, after these were written."""
        months: dict[int, set[date]] = {}
        spans, self._spans = self._spans, array("q")
        for place in range(0, len(spans), 4):
            series, first, last, newest = spans[place : place + 4]
            closed = self._local_date(max(newest, last)) + timedelta(days=1)
            for month in _list_months(self._local_date(first), self._local_date(last)):
                if next_month(month) <= closed:
                    months.setdefault(series, set()).add(month)
        derived = DerivedDays()
        done = set[int]()
        for series in months:
            if series in done:
                continue
            companions = [row_id for (row_id,) in self._db.execute(_SELECT_COMPANIONS, (series,))]
            done.update(companions)
            concerned = sorted(set[date]().union(*(months.get(companion, ()) for companion in companions)))
            for companion in companions:
                for row in self._derive_series(companion, tuple(companions), concerned):
                    derived.add(row)
        return derived

    def _derive_series(self, series: int, companions: tuple[int, ...], months: Sequence[date]) -> Iterator[DerivedRow]:
        rule = CalendarRule(Calendar.MONTH, self._zone, companions)
        first, last = self._start(months[0]), self._start(next_month(months[-1])) + DAY_MS
        amounts = dict[date, tuple[int, float]]()
        for stamp, value in SampleReader(self._db).calculate(series, rule, first, last):
            amounts[(self._local_date(stamp + 1) - timedelta(days=1)).replace(day=1)] = stamp + 1, value
        target: int | None = None
        for month in months:
            target = target or self._find_target(series, create=month in amounts)
            if target is None:
                continue
            if month not in amounts:
                bounds = self._start(month), self._start(month) + DAY_MS
                yield from ((target, at, None, 0) for (at,) in self._db.execute(_SELECT_STORED, (target, *bounds)).fetchall())
                continue
            end, value = amounts[month]
            # A month of gas begins at six, as it ends.
            begin = to_ms(datetime.combine(month, from_ms(end).astimezone(self._zone).time(), self._zone))
            yield target, begin, value, (end - begin) // 1000

    def _find_target(self, series: int, *, create: bool) -> int | None:
        """Return the series of the months of a series of days; None where there is none, or the portal states months."""
        if create:
            self._db.execute(INSERT_DERIVED_SERIES, ("P1M", series))
        row = self._db.execute("SELECT id FROM series WHERE derived_from = ?", (series,)).fetchone()
        return int(row[0]) if row else None

    def _local_date(self, at: int) -> date:
        return local_day(self._zone, at)

    def _start(self, day: date) -> int:
        return to_ms(datetime(day.year, day.month, day.day, tzinfo=self._zone))


def _list_months(first: date, last: date) -> Iterator[date]:
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = next_month(month)


_IS_DAYS = "form = 'interval' AND resolution = 'P1D' AND unit IN ('kWh', 'm³')"
_SELECT_CHANGED_SPANS = (
    "SELECT id, first, last, max(last, coalesce((SELECT max(at) FROM reading WHERE reading.series = id), last))"
    " FROM (SELECT series, min(at) AS first, max(at) AS last FROM changed GROUP BY series) AS span"
    f" CROSS JOIN series ON id = span.series WHERE {_IS_DAYS}"
)
_SELECT_ALL_SPANS = (
    "SELECT series.id, (SELECT min(at) FROM reading WHERE series = series.id) AS first,"
    " (SELECT max(at) FROM reading WHERE series = series.id) AS last, (SELECT max(at) FROM reading WHERE series = series.id)"
    f" FROM series JOIN point ON point.id = point WHERE account = ? AND {_IS_DAYS} AND first IS NOT NULL"
)
_SELECT_COMPANIONS = (
    "SELECT other.id FROM series JOIN series AS other USING (point, direction, unit) WHERE series.id = ?"
    " AND other.form = 'interval' AND other.resolution = 'P1D' ORDER BY other.id"
)
_SELECT_STORED = "SELECT at FROM reading WHERE series = ? AND at >= ? AND at < ?"
