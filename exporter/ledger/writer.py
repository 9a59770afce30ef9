"""Writes readings and the other results of a visit: SQLite finds which readings are new, corrected or unchanged."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, islice
from zoneinfo import ZoneInfo

from exporter.ledger.account_state import put_value, serialize_holder
from exporter.ledger.catalog import AccountCatalog, ReadingForm
from exporter.ledger.database import to_ms
from exporter.ledger.delivery_state import mark_pending
from exporter.ledger.derived_days import DayDeriver, DerivedDays, delete_void
from exporter.ledger.derived_months import MonthDeriver
from exporter.models import (
    Facts,
    Index,
    Interval,
    Reading,
    Register,
    VisitResult,
    format_resolution,
)

ROWS_PER_INSERT = 50
"""How many readings one INSERT has: half the cost of a row is the call."""
ReadingRow = tuple[int, int, float, int | None]
"""Series, `at`, value, `span`."""


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """How many readings were written, and of which series."""

    new: int = 0
    corrected: int = 0
    backwards: int = 0
    """Counters that decreased without a change of meter."""
    series: frozenset[int] = frozenset()
    """The series that have a new or corrected reading."""
    usage_points: frozenset[str] = frozenset()
    """Their usage points."""
    index_only_usage_points: frozenset[str] = frozenset()
    """Usage points with new indexes only: no stored day, interval or peak changed, and any days are derived ones."""


def write_readings(
    db: sqlite3.Connection,
    rows: Iterable[ReadingRow],
    create_visit: Callable[[], int],
    *,
    is_import: bool,
    on_changed: Callable[[], None] = lambda: None,
) -> WriteCounts:
    """Write readings that differ from the stored ones; `create_visit` is called, for the visit's ID, only if there are any.

    Of two readings of one series and instant the last one counts. `on_changed` is called before they are written.
    """
    for table in ("incoming", "changed"):
        db.execute(_CREATE_TEMP_TABLE.format(table))
    _insert_incoming(db, rows)
    db.execute(_SELECT_CHANGED)
    db.execute("DELETE FROM incoming")
    series = frozenset(series_id for (series_id,) in db.execute("SELECT DISTINCT series FROM changed"))
    if not series:
        return WriteCounts()
    on_changed()
    with_periods, with_indexes = set[str](), set[str]()
    for usage_point, has_periods in db.execute(_CHANGED_USAGE_POINTS):
        (with_periods if has_periods else with_indexes).add(usage_point)
    usage_points, index_only = frozenset(with_periods | with_indexes), frozenset(with_indexes - with_periods)
    visit = create_visit()
    mark_pending(db, visit, db.execute(_CHANGED_SPANS))
    corrected = db.execute(_INSERT_CORRECTIONS, (visit,)).rowcount
    if corrected:
        db.execute(_REPLACE_CORRECTED, (visit,))
        db.execute(_DELETE_CORRECTED)
    new = db.execute(_INSERT_NEW, (visit,)).rowcount
    (backwards,) = db.execute(_COUNT_BACKWARDS).fetchone() if new else (0,)
    if is_import:
        db.execute(_RESET_THINNED)
    db.execute("DELETE FROM changed")
    return WriteCounts(new, corrected, int(backwards), series, usage_points, index_only)


def _insert_incoming(db: sqlite3.Connection, rows: Iterable[ReadingRow]) -> None:
    remaining = iter(rows)
    while len(batch := list(islice(remaining, ROWS_PER_INSERT))) == ROWS_PER_INSERT:
        db.execute(_INSERT_INCOMING_MANY, list(chain.from_iterable(batch)))
    db.executemany(_INSERT_INCOMING, batch)


_CREATE_TEMP_TABLE = (
    "CREATE TEMP TABLE IF NOT EXISTS {} (series INTEGER, at INTEGER, value REAL, span INTEGER, PRIMARY KEY (series, at))"
    " WITHOUT ROWID"
)
_INSERT_INCOMING = "INSERT OR REPLACE INTO incoming VALUES (?, ?, ?, ?)"
_INSERT_INCOMING_MANY = _INSERT_INCOMING + ", (?, ?, ?, ?)" * (ROWS_PER_INSERT - 1)
_CHANGED_USAGE_POINTS = (
    "SELECT DISTINCT usage_point, form <> 'index' OR point.id IN (SELECT point FROM series WHERE form <> 'index'"
    " AND derived_from IS NULL) FROM (SELECT DISTINCT series AS id FROM changed) JOIN series USING (id)"
    " JOIN point ON point.id = series.point"
)
_CHANGED_SPANS = "SELECT series, min(at), max(at) FROM changed GROUP BY series"
_SAME_READING = "FROM reading WHERE reading.series = changed.series AND reading.at = changed.at"
# Most incoming readings are unchanged, and deleting all rows of a table costs nothing. What differs in the sixteenth digit is
# no correction by a portal: the same value was converted in another way.
_SELECT_CHANGED = (
    "INSERT INTO changed SELECT incoming.* FROM incoming LEFT JOIN reading USING (series, at)"
    " WHERE reading.value IS NULL OR abs(reading.value - incoming.value) > 1e-14 * abs(incoming.value)"
    " OR reading.span IS NOT incoming.span"
)
_INSERT_CORRECTIONS = (
    "INSERT INTO correction (series, at, value, span, learned_by, replaced_by)"
    " SELECT series, at, reading.value, reading.span, visit, ? FROM changed JOIN reading USING (series, at)"
)
_REPLACE_CORRECTED = (
    "INSERT OR REPLACE INTO reading SELECT series, at, changed.value, changed.span, ?"
    " FROM changed JOIN reading USING (series, at)"
)
_DELETE_CORRECTED = f"DELETE FROM changed WHERE EXISTS (SELECT 1 {_SAME_READING})"
_INSERT_NEW = "INSERT INTO reading SELECT series, at, value, span, ? FROM changed ORDER BY series, at"
_RESET_THINNED = (
    "UPDATE series SET thinned = 0 WHERE form = 'index' AND id IN (SELECT series FROM changed)"
    " AND thinned > (SELECT min(at) FROM changed WHERE changed.series = series.id)"
)
_VALUE_OF_SERIES = "SELECT value FROM reading WHERE reading.series = changed.series AND reading.at"
_COUNT_BACKWARDS = (
    "SELECT count(DISTINCT changed.series) FROM changed JOIN series ON series.id = changed.series"
    " WHERE form = 'index' AND nature = 'counter'"
    f" AND (({_VALUE_OF_SERIES} < changed.at ORDER BY at DESC LIMIT 1) > changed.value"
    f" OR ({_VALUE_OF_SERIES} > changed.at ORDER BY at LIMIT 1) < changed.value)"
)


FUTURE_NOTE = "skipped readings with timestamps in the future, by the clock of this computer"
_INSERT_ESTIMATE = "INSERT OR IGNORE INTO estimate VALUES (?, ?)"
_DELETE_ESTIMATE = "DELETE FROM estimate WHERE series = ? AND at = ?"
MAX_CLOCK_AHEAD = timedelta(minutes=5)
"""How far a portal's clock may be ahead of ours; readings further ahead are not stored."""
HISTORY_AGE = timedelta(days=14)
"""Readings older than this are history: a visit that brings only such has no new data."""
INDEX_FORM: ReadingForm = ("index", "")


@dataclass(frozen=True, slots=True)
class LedgerChanges:
    """What a visit changed in the ledger."""

    new: int = 0
    corrected: int = 0
    backwards: int = 0
    """Counters that decreased without a change of meter."""
    future: int = 0
    """Readings skipped because their timestamps are in the future."""
    series: frozenset[int] = frozenset()
    """The series that have a new or corrected reading."""
    usage_points: frozenset[str] = frozenset()
    """The usage points of which readings, facts, descriptions or the inventory changed."""
    index_only_usage_points: frozenset[str] = frozenset()
    """Usage points with new indexes only: no stored day, interval or peak changed, and any days are derived ones."""
    described_usage_points: frozenset[str] = frozenset()
    """Those of them of which more than readings changed."""
    notes: tuple[str, ...] = ()
    """The notes that the previous visit did not have."""


def merge_changes(changes: Sequence[LedgerChanges]) -> LedgerChanges:
    """Return the changes of several transactions as those of one."""
    others = frozenset[str]().union(*(one.usage_points - one.index_only_usage_points for one in changes))
    return LedgerChanges(
        new=sum(one.new for one in changes),
        corrected=sum(one.corrected for one in changes),
        backwards=sum(one.backwards for one in changes),
        future=sum(one.future for one in changes),
        series=frozenset[int]().union(*(one.series for one in changes)),
        usage_points=frozenset[str]().union(*(one.usage_points for one in changes)),
        index_only_usage_points=frozenset[str]().union(*(one.index_only_usage_points for one in changes)) - others,
        described_usage_points=frozenset[str]().union(*(one.described_usage_points for one in changes)),
        notes=tuple(dict.fromkeys(note for one in changes for note in one.notes)),
    )


def write_visit(
    db: sqlite3.Connection,
    catalog: AccountCatalog,
    result: VisitResult,
    *,
    at: datetime,
    keep_personal: bool,
) -> LedgerChanges:
    """Write a visit's result."""
    writer = _VisitWriter(db, catalog, at, keep_personal=keep_personal)
    changes = writer.write_readings(result.readings, is_import=False)
    for update in result.state:
        put_value(db, catalog.account, update.key, update.value, update.expires_at)
    changes = replace(changes, notes=writer.write_statements(result))
    return _count_changes(db, catalog, changes, at, is_new_data=True)


def write_feed_readings(
    db: sqlite3.Connection, catalog: AccountCatalog, readings: Sequence[Reading], *, at: datetime, keep_personal: bool
) -> LedgerChanges:
    """Write the readings that a request of a feed brought."""
    changes = _VisitWriter(db, catalog, at, keep_personal=keep_personal).write_readings(readings, is_import=True)
    is_recent = any(_split_reading(reading)[-1] > to_ms(at - HISTORY_AGE) for reading in readings)
    return _count_changes(db, catalog, changes, at, is_new_data=is_recent)


def _count_changes(
    db: sqlite3.Connection, catalog: AccountCatalog, changes: LedgerChanges, at: datetime, *, is_new_data: bool
) -> LedgerChanges:
    """Add the changes to the account's numbers, and return them with the usage points that were described anew."""
    if changes.new or changes.corrected:
        db.execute(
            "UPDATE account SET readings = readings + ?, corrections = corrections + ?,"
            " last_new_data = CASE WHEN ? THEN ? ELSE last_new_data END WHERE id = ?",
            (changes.new, changes.corrected, is_new_data, to_ms(at), catalog.account),
        )
    return replace(
        changes,
        usage_points=changes.usage_points | catalog.changed_usage_points,
        index_only_usage_points=changes.index_only_usage_points - catalog.changed_usage_points,
        described_usage_points=frozenset(catalog.changed_usage_points),
    )


def start_deriving_days(db: sqlite3.Connection, catalog: AccountCatalog, at: datetime) -> None:
    """Derive days of an account's registers from now on; once also those of all readings that are stored."""
    if db.execute("UPDATE account SET derives_days = 1 WHERE id = ? AND NOT derives_days", (catalog.account,)).rowcount:
        _VisitWriter(db, catalog, at, keep_personal=False).derive_all(days=True)


def derive_older_months(db: sqlite3.Connection, catalog: AccountCatalog, at: datetime) -> None:
    """Derive the months of an account that was stored before months were."""
    if db.execute("UPDATE account SET derives_months = 1 WHERE id = ? AND NOT derives_months", (catalog.account,)).rowcount:
        _VisitWriter(db, catalog, at, keep_personal=False).derive_all(days=False)


class _VisitWriter:
    def __init__(self, db: sqlite3.Connection, catalog: AccountCatalog, at: datetime, *, keep_personal: bool) -> None:
        self._db, self._account, self._at, self._keep_personal = db, catalog.account, at, keep_personal
        self._catalog = catalog
        self._future_readings = 0
        self._visit: int | None = None
        self._intervals: list[Interval] = []

    def write_readings(self, readings: Iterable[Reading], *, is_import: bool) -> LedgerChanges:
        days, months = self._build_derivers()

        def on_changed() -> None:
            months.collect_changed()
            if days:
                days.collect_changed()

        counts = write_readings(self._db, self._build_rows(readings), self._get_visit, is_import=is_import, on_changed=on_changed)
        self._mark_estimates()
        series, usage_points, index_only = counts.series, counts.usage_points, counts.index_only_usage_points
        if series:
            for derived_series, derived_usage_points in self._write_periods(days, months):
                series, usage_points = series | derived_series, usage_points | derived_usage_points
                index_only -= derived_usage_points
        return LedgerChanges(
            counts.new, counts.corrected, counts.backwards, self._future_readings, series, usage_points, index_only
        )

    def derive_all(self, *, days: bool) -> None:
        """Derive the days, or else the months, of an account that was stored without them."""
        day_deriver, months = self._build_derivers()
        if days and day_deriver:
            day_deriver.collect_all(self._account)
        else:
            months.collect_all(self._account)
        for _ in self._write_periods(day_deriver, months):
            pass

    def _build_derivers(self) -> tuple[DayDeriver | None, MonthDeriver]:
        derives_days, key = self._db.execute("SELECT derives_days, zone FROM account WHERE id = ?", (self._account,)).fetchone()
        zone = ZoneInfo(key)
        return DayDeriver(self._db, zone, self._at) if derives_days else None, MonthDeriver(self._db, zone)

    def _write_periods(self, days: DayDeriver | None, months: MonthDeriver) -> Iterator[tuple[frozenset[int], frozenset[str]]]:
        """Write derived days and then months; yield the series and usage points of those that changed."""
        for derived in days.derive() if days else ():
            yield self._write_derived(derived, months.collect_changed)
            months.collect_void(derived.void)
        yield self._write_derived(months.derive())

    def _write_derived(
        self, derived: DerivedDays, on_changed: Callable[[], None] = lambda: None
    ) -> tuple[frozenset[int], frozenset[str]]:
        counts = write_readings(self._db, derived.rows, self._get_visit, is_import=False, on_changed=on_changed)
        deleted = delete_void(self._db, derived.void)
        return (
            counts.series | {series for series, _ in deleted},
            counts.usage_points | {usage_point for _, usage_point in deleted},
        )

    def _mark_estimates(self) -> None:
        """Store which of the intervals the portal calls estimates, now that it has stated them again."""
        (has_any,) = self._db.execute("SELECT EXISTS (SELECT 1 FROM estimate)").fetchone()
        for statement, is_estimated in ((_INSERT_ESTIMATE, True), (_DELETE_ESTIMATE, False)):
            if is_estimated or has_any:
                rows = (self._key(one) for one in self._intervals if one.is_estimated is is_estimated)
                self._db.executemany(statement, rows)
        self._intervals.clear()

    def _key(self, interval: Interval) -> tuple[int, int]:
        form = "interval", format_resolution(interval.end - interval.start)
        return self._catalog.get_series_id(interval.register, form), to_ms(interval.start)

    def write_statements(self, result: VisitResult) -> tuple[str, ...]:
        """Write what a result has besides readings; return the notes that are new."""
        for facts in result.facts:
            self._write_facts(facts)
        if holder := result.holder:
            shown = holder if self._keep_personal else holder.without_personal_data()
            self._db.execute("UPDATE account SET holder = ? WHERE id = ?", (serialize_holder(shown), self._account))
        if result.inventory:
            self._catalog.show_inventory(result.inventory)
        notes = list(result.notes)
        if self._future_readings:
            notes.append(FUTURE_NOTE)
        return self._write_notes(tuple(dict.fromkeys(notes)))

    def _build_rows(self, readings: Iterable[Reading]) -> Iterator[ReadingRow]:
        limit = to_ms(self._at + MAX_CLOCK_AHEAD)
        for reading in readings:
            if isinstance(reading, Interval):
                self._intervals.append(reading)
            register, form, at, value, span, end = _split_reading(reading)
            if end > limit:
                self._future_readings += 1
            else:
                yield self._catalog.get_series_id(register, form), at, value, span

    def _write_facts(self, facts: Facts) -> None:
        point = self._catalog.get_usage_point_id(facts.usage_point)
        stored = dict(self._db.execute("SELECT fact, value FROM fact WHERE point = ?", (point,)))
        if stored != facts.values:
            self._db.execute("DELETE FROM fact WHERE point = ?", (point,))
            self._db.executemany("INSERT INTO fact VALUES (?, ?, ?)", ((point, *pair) for pair in facts.values.items()))
            self._catalog.mark_changed(facts.usage_point.id)

    def _write_notes(self, notes: tuple[str, ...]) -> tuple[str, ...]:
        (stored,) = self._db.execute("SELECT notes FROM account WHERE id = ?", (self._account,)).fetchone()
        previous = json.loads(stored)
        if list(notes) != previous:
            self._db.execute("UPDATE account SET notes = ? WHERE id = ?", (json.dumps(notes), self._account))
        return tuple(note for note in notes if note not in previous)

    def _get_visit(self) -> int:
        if self._visit is None:
            cursor = self._db.execute("INSERT INTO visit (account, at) VALUES (?, ?)", (self._account, to_ms(self._at)))
            self._visit = int(cursor.lastrowid or 0)
        return self._visit


def _split_reading(reading: Reading) -> tuple[Register, ReadingForm, int, float, int | None, int]:
    """Return register, form, `at`, value, `span`, and the end of a reading."""
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
