"""Sorting what was told into what is known already, what is new and what is corrected: by SQLite, in one go."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice

from exporter.ledger.delivery import note

TOGETHER = 50
"""So many readings are handed to SQLite at once: half of what one costs is the handing over."""
ReadingRow = tuple[int, int, float, int | None]
"""Series, `at`, value, `span`."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """What was written."""

    new: int = 0
    corrected: int = 0
    backwards: int = 0
    """Counters that went down with the same meter."""
    series: frozenset[int] = frozenset()
    """The series that have a new or corrected reading."""
    points: frozenset[str] = frozenset()
    """Their usage points."""


def write(db: sqlite3.Connection, told: Iterable[ReadingRow], visit: Callable[[], int], *, past: bool) -> Sorted:
    """Write readings where they differ from what is kept; `visit` gives the number of the visit, asked for only then.

    Of two readings of one series and instant the later one told counts.
    """
    for table in ("heard", "told"):
        db.execute(_TABLE.format(table))
    _hear(db, told)
    db.execute(_UNKNOWN)
    db.execute("DELETE FROM heard")
    series = frozenset(line for (line,) in db.execute("SELECT DISTINCT series FROM told"))
    if not series:
        return Sorted()
    points = frozenset(usage_point for (usage_point,) in db.execute(_POINTS))
    number = visit()
    note(db, number, db.execute(_SPANS))
    corrected = db.execute(_CORRECTIONS, (number,)).rowcount
    if corrected:
        db.execute(_CORRECT, (number,))
        db.execute(_CORRECTED)
    new = db.execute(_NEW, (number,)).rowcount
    (backwards,) = db.execute(_BACKWARDS).fetchone() if new else (0,)
    if past:
        db.execute(_NOT_THIN)
    db.execute("DELETE FROM told")
    return Sorted(new, corrected, int(backwards), series, points)


def _hear(db: sqlite3.Connection, told: Iterable[ReadingRow]) -> None:
    rows = iter(told)
    while len(some := list(islice(rows, TOGETHER))) == TOGETHER:
        db.execute(_HEAR_MANY, list(chain.from_iterable(some)))
    db.executemany(_HEAR, some)


_TABLE = (
    "CREATE TEMP TABLE IF NOT EXISTS {} (series INTEGER, at INTEGER, value REAL, span INTEGER, PRIMARY KEY (series, at))"
    " WITHOUT ROWID"
)
_HEAR = "INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?)"
_HEAR_MANY = _HEAR + ", (?, ?, ?, ?)" * (TOGETHER - 1)
_POINTS = "SELECT DISTINCT usage_point FROM told JOIN series ON series.id = told.series JOIN point ON point.id = series.point"
_SPANS = "SELECT series, min(at), max(at) FROM told GROUP BY series"
_SAME = "FROM reading WHERE reading.series = told.series AND reading.at = told.at"
# What is known already is most of it, and a table is emptied whole at no cost.
_UNKNOWN = (
    "INSERT INTO told SELECT heard.* FROM heard LEFT JOIN reading USING (series, at)"
    " WHERE reading.value IS NOT heard.value OR reading.span IS NOT heard.span"
)
_CORRECTIONS = (
    "INSERT INTO correction (series, at, value, span, learned_by, replaced_by)"
    " SELECT series, at, reading.value, reading.span, visit, ? FROM told JOIN reading USING (series, at)"
)
_CORRECT = "INSERT OR REPLACE INTO reading SELECT series, at, told.value, told.span, ? FROM told JOIN reading USING (series, at)"
_CORRECTED = f"DELETE FROM told WHERE EXISTS (SELECT 1 {_SAME})"
_NEW = "INSERT INTO reading SELECT series, at, value, span, ? FROM told ORDER BY series, at"
_NOT_THIN = (
    "UPDATE series SET thinned = 0 WHERE form = 'index' AND id IN (SELECT series FROM told)"
    " AND thinned > (SELECT min(at) FROM told WHERE told.series = series.id)"
)
_OF_SERIES = "SELECT value FROM reading WHERE reading.series = told.series AND reading.at"
_BACKWARDS = (
    "SELECT count(DISTINCT told.series) FROM told JOIN series ON series.id = told.series"
    " WHERE form = 'index' AND nature = 'counter'"
    f" AND (({_OF_SERIES} < told.at ORDER BY at DESC LIMIT 1) > told.value"
    f" OR ({_OF_SERIES} > told.at ORDER BY at LIMIT 1) < told.value)"
)
