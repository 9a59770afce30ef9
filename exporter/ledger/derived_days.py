"""Days of registers that a portal states only as an index, every hour or so: the difference between two local midnights.

Problem: amounts of days, months and years are wanted of such registers too, of 100,000 of them, at little cost.
Idea: the amount of a day is written as a reading like a stated one, in the transaction that completes the day; so all that
reads days reads these too, and old days stay when the indexes they came from are thinned. A visit looks at the series of
which the newest reading was not yet of today, or that got older readings; at all others no local midnight has passed.
Invariants: what a register showed at midnight is known from a reading then, or linearly from the two around it if they are
at most `MAX_DISTANCE_MS` apart. A day in which the register ran backwards has no amount. Days before `thinned` stay as they are.
"""

import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from itertools import chain, pairwise
from zoneinfo import ZoneInfo

from exporter.ledger.database import DAY_MS, from_ms, to_ms

MAX_DISTANCE_MS = 6 * 3_600_000
"""Readings around a midnight that lie further apart say nothing about it."""
DECIMALS = 6
"""An amount is rounded to a milliwatt-hour or a millilitre; sums of amounts are exact in these."""
ROWS_AT_A_TIME = 5000


DerivedRow = tuple[int, int, float | None, int]
"""Series, start, amount (None: none any more), seconds."""


@dataclass(slots=True)
class DerivedDays:
    """What readings that have changed mean for days."""

    rows: list[tuple[int, int, float, int]] = field(default_factory=list)
    """Series, start, amount, seconds."""
    void: list[tuple[int, int]] = field(default_factory=list)
    """Series and start of days that may have had an amount, and have none now."""

    def add(self, row: DerivedRow) -> None:
        """Add a day or a month."""
        series, start, amount, seconds = row
        if amount is None:
            self.void.append((series, start))
        else:
            self.rows.append((series, start, amount, seconds))


def derive_days(instants: Sequence[int], values: Sequence[float], midnights: Iterable[int]) -> list[float | None]:
    """Return the amount between each two neighbouring midnights, by the readings of a register in time order."""
    shown = [_read_at(instants, values, midnight) for midnight in midnights]
    amounts: list[float | None] = []
    for start, end in pairwise(shown):
        if start is None or end is None:
            amounts.append(None)
            continue
        between = list(values[start[1] : end[2] + 1])
        is_forward = between == sorted(between)
        amounts.append(round(end[0] - start[0], DECIMALS) if is_forward else None)
    return amounts


def _read_at(instants: Sequence[int], values: Sequence[float], at: int) -> tuple[float, int, int] | None:
    """Return what a register showed at an instant, and the positions of the readings before and after it."""
    after = bisect_left(instants, at)
    if after == len(instants):
        return None
    if instants[after] == at:
        return values[after], after, after
    before = after - 1
    if before < 0 or instants[after] - instants[before] > MAX_DISTANCE_MS:
        return None
    share = (at - instants[before]) / (instants[after] - instants[before])
    return values[before] + share * (values[after] - values[before]), before, after


class DayDeriver:
    """Derives the days of one account's registers, in the transaction of a visit.

    What 100,000 registers need is kept as plain numbers, and derived some thousand days at a time.
    """

    def __init__(self, db: sqlite3.Connection, zone: ZoneInfo, now: datetime) -> None:
        self._db, self._zone = db, zone
        self._today = to_ms(datetime.combine(now.astimezone(zone).date(), time(), zone))
        self._spans = array("q")
        """Series, first and last `at`, newest `at` before: four numbers each."""
        self._midnights: list[int] = []

    def collect_changed(self) -> None:
        """Collect the series to look at from the table of changed readings, which are not written yet."""
        self._spans.extend(chain.from_iterable(self._db.execute(_SELECT_CHANGED_SPANS, (self._today,))))

    def collect_all(self, account: int) -> None:
        """Collect all series with all their readings."""
        self._spans.extend(chain.from_iterable(self._db.execute(_SELECT_ALL_SPANS, (account,))))

    def derive(self) -> Iterator[DerivedDays]:
        """Yield the days of the collected series that changed readings concern, after these were written."""
        spans, self._spans = self._spans, array("q")
        if not spans:
            return
        self._midnights = list(list_midnights(min(spans[1::4]) - DAY_MS, max(spans[2::4]) + DAY_MS, self._zone))
        derived = DerivedDays()
        for place in range(0, len(spans), 4):
            for day in self._derive_series(*spans[place : place + 4]):
                derived.add(day)
            if len(derived.rows) >= ROWS_AT_A_TIME:
                yield derived
                derived = DerivedDays()
        yield derived

    def _derive_series(self, series: int, first: int, last: int, newest: int) -> Iterator[DerivedRow]:
        is_append = newest < first
        before, after = (newest, None) if is_append else self._select_neighbours(series, first, last)
        # Neighbours that are more than a day away say nothing about any midnight.
        since = first if before is None else max(before, first - DAY_MS)
        until = last if after is None else min(after, last + DAY_MS)
        start, end = bisect_right(self._midnights, since) - 1, bisect_right(self._midnights, until) + 1
        midnights = self._midnights[start:end]
        if is_append and len(midnights) == 2:  # all of it in one day, which goes on
            return
        bounds = midnights[0] - MAX_DISTANCE_MS, midnights[-1] + MAX_DISTANCE_MS
        rows = self._db.execute(_SELECT_READINGS, (series, *bounds)).fetchall()
        amounts = derive_days([at for at, _ in rows], [value for _, value in rows], midnights)
        if is_append and not any(amount is not None for amount in amounts):
            return
        if (target := self._find_target(series)) is None:
            return
        days_series, thinned = target
        for (begin, finish), amount in zip(pairwise(midnights), amounts, strict=True):
            if begin < thinned:
                continue
            if amount is not None or (not is_append and first <= finish and last >= begin):
                yield days_series, begin, amount, (finish - begin) // 1000

    def _select_neighbours(self, series: int, first: int, last: int) -> tuple[int | None, int | None]:
        """Return the `at` of the readings before the first changed one and after the last."""
        before, after = self._db.execute(_SELECT_NEIGHBOURS, (series, first, series, last)).fetchone()
        return before, after

    def _find_target(self, series: int) -> tuple[int, int] | None:
        """Return the series of a register's days, created if new, and until when its indexes were thinned.

        None where the portal states its days.
        """
        if (row := self._db.execute(_SELECT_TARGET, (series,)).fetchone()) is None:
            self._db.execute(INSERT_DERIVED_SERIES, ("P1D", series))
            row = self._db.execute(_SELECT_TARGET, (series,)).fetchone()
        return (row[0], row[1]) if row else None


def list_midnights(first: int, last: int, zone: ZoneInfo) -> Iterator[int]:
    """Yield the local midnights from the one at or before `first` to the second one after `last`, all in milliseconds."""
    day, end = (from_ms(at).astimezone(zone).date() for at in (first, last))
    while day <= end + timedelta(days=2):
        yield to_ms(datetime.combine(day, time(), zone))
        day += timedelta(days=1)


def delete_void(db: sqlite3.Connection, void: Iterable[tuple[int, int]]) -> set[tuple[int, str]]:
    """Delete days that have no amount any more; return series and usage points that had some."""
    found = set[tuple[int, str]]()
    for series, at in void:
        if db.execute("DELETE FROM reading WHERE series = ? AND at = ?", (series, at)).rowcount:
            found.add((series, db.execute(_SELECT_USAGE_POINT, (series,)).fetchone()[0]))
    return found


_IS_COUNTER = "form = 'index' AND nature = 'counter' AND unit IN ('kWh', 'm³')"
_SELECT_CHANGED_SPANS = (
    "WITH span AS MATERIALIZED (SELECT series, min(at) AS first, max(at) AS last FROM changed GROUP BY series),"
    " counter AS MATERIALIZED (SELECT id, first, last, (SELECT max(at) FROM reading WHERE reading.series = id) AS newest"
    f" FROM span CROSS JOIN series ON id = span.series WHERE {_IS_COUNTER})"
    " SELECT id, first, last, coalesce(newest, first - 1) FROM counter"
    " WHERE newest < ? OR first <= newest OR (newest IS NULL AND first < last)"
)
_SELECT_ALL_SPANS = (
    "SELECT series.id, (SELECT min(at) FROM reading WHERE series = series.id) AS first,"
    " (SELECT max(at) FROM reading WHERE series = series.id), (SELECT min(at) - 1 FROM reading WHERE series = series.id)"
    f" FROM series JOIN point ON point.id = point WHERE account = ? AND {_IS_COUNTER} AND first IS NOT NULL"
)
_SELECT_NEIGHBOURS = (
    "SELECT (SELECT max(at) FROM reading WHERE series = ? AND at < ?), (SELECT min(at) FROM reading WHERE series = ? AND at > ?)"
)
_SELECT_READINGS = "SELECT at, value FROM reading WHERE series = ? AND at BETWEEN ? AND ? ORDER BY at"
_SELECT_TARGET = (
    "SELECT days.id, source.thinned FROM series AS days JOIN series AS source ON source.id = days.derived_from"
    " WHERE days.derived_from = ?"
)
INSERT_DERIVED_SERIES = (
    "INSERT OR IGNORE INTO series (point, register, direction, unit, form, resolution, nature, kind, portal_unit, description,"
    " part_of, value_type, type_id, shown, derived_from) SELECT point, register, direction, unit, 'interval', ?, nature,"
    " kind, portal_unit, description, part_of, value_type, type_id, shown, id FROM series WHERE id = ?"
)
_SELECT_USAGE_POINT = "SELECT usage_point FROM series JOIN point ON point.id = point WHERE series.id = ?"
