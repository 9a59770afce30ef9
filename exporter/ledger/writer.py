"""Sorting what was told into what is known already, what is new and what is corrected: by SQLite, in one go."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, islice

from exporter.ledger.account_state import put_value, serialize_holder
from exporter.ledger.catalog import AccountCatalog, ReadingForm
from exporter.ledger.database import to_ms
from exporter.ledger.delivery_state import mark_pending
from exporter.models import (
    Facts,
    Holder,
    Index,
    Interval,
    Inventory,
    Note,
    Peak,
    Reading,
    Register,
    StateUpdate,
    VisitPart,
    format_resolution,
)

ROWS_PER_INSERT = 50
"""So many readings are handed to SQLite at once: half of what one costs is the handing over."""
ReadingRow = tuple[int, int, float, int | None]
"""Series, `at`, value, `span`."""


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """What was written."""

    new: int = 0
    corrected: int = 0
    backwards: int = 0
    """Counters that went down with the same meter."""
    series: frozenset[int] = frozenset()
    """The series that have a new or corrected reading."""
    usage_points: frozenset[str] = frozenset()
    """Their usage points."""


def write_readings(
    db: sqlite3.Connection, rows: Iterable[ReadingRow], create_visit: Callable[[], int], *, is_import: bool
) -> WriteCounts:
    """Write readings where they differ from what is kept; `visit` gives the number of the visit, asked for only then.

    Of two readings of one series and instant the later one told counts.
    """
    for table in ("heard", "told"):
        db.execute(_CREATE_TEMP_TABLE.format(table))
    _insert_incoming(db, rows)
    db.execute(_SELECT_CHANGED)
    db.execute("DELETE FROM heard")
    series = frozenset(line for (line,) in db.execute("SELECT DISTINCT series FROM told"))
    if not series:
        return WriteCounts()
    points = frozenset(usage_point for (usage_point,) in db.execute(_CHANGED_USAGE_POINTS))
    number = create_visit()
    mark_pending(db, number, db.execute(_CHANGED_SPANS))
    corrected = db.execute(_INSERT_CORRECTIONS, (number,)).rowcount
    if corrected:
        db.execute(_REPLACE_CORRECTED, (number,))
        db.execute(_DELETE_CORRECTED)
    new = db.execute(_INSERT_NEW, (number,)).rowcount
    (backwards,) = db.execute(_COUNT_BACKWARDS).fetchone() if new else (0,)
    if is_import:
        db.execute(_RESET_THINNED)
    db.execute("DELETE FROM told")
    return WriteCounts(new, corrected, int(backwards), series, points)


def _insert_incoming(db: sqlite3.Connection, new_rows: Iterable[ReadingRow]) -> None:
    rows = iter(new_rows)
    while len(some := list(islice(rows, ROWS_PER_INSERT))) == ROWS_PER_INSERT:
        db.execute(_INSERT_INCOMING_MANY, list(chain.from_iterable(some)))
    db.executemany(_INSERT_INCOMING, some)


_CREATE_TEMP_TABLE = (
    "CREATE TEMP TABLE IF NOT EXISTS {} (series INTEGER, at INTEGER, value REAL, span INTEGER, PRIMARY KEY (series, at))"
    " WITHOUT ROWID"
)
_INSERT_INCOMING = "INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?)"
_INSERT_INCOMING_MANY = _INSERT_INCOMING + ", (?, ?, ?, ?)" * (ROWS_PER_INSERT - 1)
_CHANGED_USAGE_POINTS = (
    "SELECT DISTINCT usage_point FROM told JOIN series ON series.id = told.series JOIN point ON point.id = series.point"
)
_CHANGED_SPANS = "SELECT series, min(at), max(at) FROM told GROUP BY series"
_SAME_READING = "FROM reading WHERE reading.series = told.series AND reading.at = told.at"
# What is known already is most of it, and a table is emptied whole at no cost.
_SELECT_CHANGED = (
    "INSERT INTO told SELECT heard.* FROM heard LEFT JOIN reading USING (series, at)"
    " WHERE reading.value IS NOT heard.value OR reading.span IS NOT heard.span"
)
_INSERT_CORRECTIONS = (
    "INSERT INTO correction (series, at, value, span, learned_by, replaced_by)"
    " SELECT series, at, reading.value, reading.span, visit, ? FROM told JOIN reading USING (series, at)"
)
_REPLACE_CORRECTED = (
    "INSERT OR REPLACE INTO reading SELECT series, at, told.value, told.span, ? FROM told JOIN reading USING (series, at)"
)
_DELETE_CORRECTED = f"DELETE FROM told WHERE EXISTS (SELECT 1 {_SAME_READING})"
_INSERT_NEW = "INSERT INTO reading SELECT series, at, value, span, ? FROM told ORDER BY series, at"
_RESET_THINNED = (
    "UPDATE series SET thinned = 0 WHERE form = 'index' AND id IN (SELECT series FROM told)"
    " AND thinned > (SELECT min(at) FROM told WHERE told.series = series.id)"
)
_VALUE_OF_SERIES = "SELECT value FROM reading WHERE reading.series = told.series AND reading.at"
_COUNT_BACKWARDS = (
    "SELECT count(DISTINCT told.series) FROM told JOIN series ON series.id = told.series"
    " WHERE form = 'index' AND nature = 'counter'"
    f" AND (({_VALUE_OF_SERIES} < told.at ORDER BY at DESC LIMIT 1) > told.value"
    f" OR ({_VALUE_OF_SERIES} > told.at ORDER BY at LIMIT 1) < told.value)"
)


MAX_CLOCK_AHEAD = timedelta(minutes=5)
"""How far a portal's clock may run before ours; what lies further ahead is not kept."""
INDEX_FORM: ReadingForm = ("index", "")
READING_TYPES = (Index, Interval, Peak)


@dataclass(frozen=True, slots=True)
class LedgerChanges:
    """What a visit changed in the ledger."""

    new: int = 0
    corrected: int = 0
    backwards: int = 0
    """Counters that went down with the same meter."""
    future: int = 0
    """Readings left out because they lie ahead of us."""
    series: frozenset[int] = frozenset()
    """The series that have a new or corrected reading."""
    usage_points: frozenset[str] = frozenset()
    """The usage points of which anything is known otherwise than before: readings, facts, names, what is shown."""
    described_usage_points: frozenset[str] = frozenset()
    """Those of them of which more is known otherwise than readings."""
    notes: tuple[str, ...] = ()
    """The notes that the visit before did not have."""


def write_visit(
    db: sqlite3.Connection,
    catalog: AccountCatalog,
    parts: Sequence[VisitPart],
    *,
    at: datetime,
    keep_personal: bool,
    is_import: bool,
) -> LedgerChanges:
    """Write what was told; `past` is an import: it changes neither facts nor what is shown nor notes."""
    writer = _VisitWriter(db, catalog, at, keep_personal=keep_personal)
    done = writer.write_readings([item for item in parts if isinstance(item, READING_TYPES)], is_import=is_import)
    rest = [item for item in parts if not isinstance(item, READING_TYPES)]
    for item in rest:
        if isinstance(item, StateUpdate):
            put_value(db, catalog.account, item.key, item.value, item.expires_at)
    if not is_import:
        done = replace(done, notes=writer.write_circumstances(rest))
    if done.new or done.corrected:
        db.execute(
            "UPDATE account SET readings = readings + ?, corrections = corrections + ?,"
            " last_new_data = CASE WHEN ? THEN last_new_data ELSE ? END WHERE id = ?",
            (done.new, done.corrected, is_import, to_ms(at), catalog.account),
        )
    return replace(
        done,
        usage_points=done.usage_points | catalog.changed_usage_points,
        described_usage_points=frozenset(catalog.changed_usage_points),
    )


class _VisitWriter:
    def __init__(self, db: sqlite3.Connection, catalog: AccountCatalog, at: datetime, *, keep_personal: bool) -> None:
        self._db, self._account, self._at, self._keep_personal = db, catalog.account, at, keep_personal
        self._catalog = catalog
        self._future_readings = 0

    def write_readings(self, readings: Iterable[Reading], *, is_import: bool) -> LedgerChanges:
        done = write_readings(self._db, self._build_rows(readings), self._insert_visit, is_import=is_import)
        return LedgerChanges(done.new, done.corrected, done.backwards, self._future_readings, done.series, done.usage_points)

    def write_circumstances(self, parts: Sequence[VisitPart]) -> tuple[str, ...]:
        for item in parts:
            if isinstance(item, Facts):
                self._write_facts(item)
            elif isinstance(item, Holder):
                holder = item if self._keep_personal else Holder(access_expires=item.access_expires)
                self._db.execute("UPDATE account SET holder = ? WHERE id = ?", (serialize_holder(holder), self._account))
            elif isinstance(item, Inventory):
                self._catalog.show_inventory(item)
        return self._write_notes(tuple(dict.fromkeys(item.text for item in parts if isinstance(item, Note))))

    def _build_rows(self, readings: Iterable[Reading]) -> Iterator[ReadingRow]:
        limit = to_ms(self._at + MAX_CLOCK_AHEAD)
        for reading in readings:
            register, form, at, value, span, last = _split_reading(reading)
            if last > limit:
                self._future_readings += 1
            else:
                yield self._catalog.get_series_id(register, form), at, value, span

    def _write_facts(self, facts: Facts) -> None:
        point = self._catalog.get_usage_point_id(facts.usage_point)
        kept = dict(self._db.execute("SELECT fact, value FROM fact WHERE point = ?", (point,)))
        if kept != facts.values:
            self._db.execute("DELETE FROM fact WHERE point = ?", (point,))
            self._db.executemany("INSERT INTO fact VALUES (?, ?, ?)", ((point, *pair) for pair in facts.values.items()))
            self._catalog.changed_usage_points.add(facts.usage_point.id)

    def _write_notes(self, notes: tuple[str, ...]) -> tuple[str, ...]:
        (kept,) = self._db.execute("SELECT notes FROM account WHERE id = ?", (self._account,)).fetchone()
        before = json.loads(kept)
        if list(notes) != before:
            self._db.execute("UPDATE account SET notes = ? WHERE id = ?", (json.dumps(notes), self._account))
        return tuple(note for note in notes if note not in before)

    def _insert_visit(self) -> int:
        done = self._db.execute("INSERT INTO visit (account, at) VALUES (?, ?)", (self._account, to_ms(self._at)))
        return int(done.lastrowid or 0)


def _split_reading(reading: Reading) -> tuple[Register, ReadingForm, int, float, int | None, int]:
    """Give register, form, `at`, value, `span`, and the last instant the reading speaks of."""
    if isinstance(reading, Index):
        at = to_ms(reading.at)
        return reading.register, INDEX_FORM, at, float(reading.value), None, at
    if isinstance(reading, Interval):
        length = reading.end - reading.start
        form = ("interval", format_resolution(length))
        return (
            reading.register,
            form,
            to_ms(reading.start),
            float(reading.amount),
            round(length.total_seconds()),
            to_ms(reading.end),
        )
    register = Register(reading.usage_point, reading.unit, name="peak")
    form = ("peak", format_resolution(reading.end - reading.start))
    offset = round((reading.at - reading.start).total_seconds()) if reading.at else None
    return register, form, to_ms(reading.start), float(reading.power), offset, to_ms(reading.at or reading.start)
