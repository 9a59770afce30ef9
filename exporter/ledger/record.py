"""Writing home what a visit told: what is new, what changed, what is shown; in one transaction, only what differs."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from exporter.ledger.directory import Directory, Form
from exporter.ledger.instants import to_ms
from exporter.ledger.sorting import ReadingRow, write
from exporter.ledger.state import remember, say_holder
from exporter.model import (
    Facts,
    Holder,
    Index,
    Interval,
    Inventory,
    Note,
    Peak,
    Reading,
    Register,
    Remember,
    Told,
    resolution,
)

AHEAD = timedelta(minutes=5)
"""How far a portal's clock may run before ours; what lies further ahead is not kept."""
INDEX: Form = ("index", "")
READINGS = (Index, Interval, Peak)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a visit changed in the ledger."""

    new: int = 0
    corrected: int = 0
    backwards: int = 0
    """Counters that went down with the same meter."""
    future: int = 0
    """Readings left out because they lie ahead of us."""
    series: frozenset[int] = frozenset()
    """The series that have a new or corrected reading."""
    points: frozenset[str] = frozenset()
    """The usage points of which anything is known otherwise than before: readings, facts, names, what is shown."""
    described: frozenset[str] = frozenset()
    """Those of them of which more is known otherwise than readings."""
    notes: tuple[str, ...] = ()
    """The notes that the visit before did not have."""


def record(
    db: sqlite3.Connection, directory: Directory, told: Sequence[Told], *, at: datetime, personal: bool, past: bool
) -> Recorded:
    """Write what was told; `past` is an import: it changes neither facts nor what is shown nor notes."""
    writer = _Writer(db, directory, at, personal=personal)
    done = writer.readings([item for item in told if isinstance(item, READINGS)], past=past)
    rest = [item for item in told if not isinstance(item, READINGS)]
    for item in rest:
        if isinstance(item, Remember):
            remember(db, directory.account, item.key, item.value, item.ends)
    if not past:
        done = replace(done, notes=writer.circumstances(rest))
    if done.new or done.corrected:
        db.execute(
            "UPDATE account SET readings = readings + ?, corrections = corrections + ?,"
            " last_new_data = CASE WHEN ? THEN last_new_data ELSE ? END WHERE id = ?",
            (done.new, done.corrected, past, to_ms(at), directory.account),
        )
    return replace(done, points=done.points | directory.touched, described=frozenset(directory.touched))


class _Writer:
    def __init__(self, db: sqlite3.Connection, directory: Directory, at: datetime, *, personal: bool) -> None:
        self._db, self._account, self._at, self._personal = db, directory.account, at, personal
        self._directory = directory
        self._future = 0

    def readings(self, readings: Iterable[Reading], *, past: bool) -> Recorded:
        done = write(self._db, self._rows(readings), self._this_visit, past=past)
        return Recorded(done.new, done.corrected, done.backwards, self._future, done.series, done.points)

    def circumstances(self, told: Sequence[Told]) -> tuple[str, ...]:
        for item in told:
            if isinstance(item, Facts):
                self._facts(item)
            elif isinstance(item, Holder):
                holder = item if self._personal else Holder(access_expires=item.access_expires)
                self._db.execute("UPDATE account SET holder = ? WHERE id = ?", (say_holder(holder), self._account))
            elif isinstance(item, Inventory):
                self._directory.hold(item)
        return self._notes(tuple(dict.fromkeys(item.text for item in told if isinstance(item, Note))))

    def _rows(self, readings: Iterable[Reading]) -> Iterator[ReadingRow]:
        limit = to_ms(self._at + AHEAD)
        for reading in readings:
            register, form, at, value, span, last = _taken_apart(reading)
            if last > limit:
                self._future += 1
            else:
                yield self._directory.series(register, form), at, value, span

    def _facts(self, facts: Facts) -> None:
        point = self._directory.point(facts.point)
        kept = dict(self._db.execute("SELECT fact, value FROM fact WHERE point = ?", (point,)))
        if kept != facts.values:
            self._db.execute("DELETE FROM fact WHERE point = ?", (point,))
            self._db.executemany("INSERT INTO fact VALUES (?, ?, ?)", ((point, *pair) for pair in facts.values.items()))
            self._directory.touched.add(facts.point.id)

    def _notes(self, notes: tuple[str, ...]) -> tuple[str, ...]:
        (kept,) = self._db.execute("SELECT notes FROM account WHERE id = ?", (self._account,)).fetchone()
        before = json.loads(kept)
        if list(notes) != before:
            self._db.execute("UPDATE account SET notes = ? WHERE id = ?", (json.dumps(notes), self._account))
        return tuple(note for note in notes if note not in before)

    def _this_visit(self) -> int:
        done = self._db.execute("INSERT INTO visit (account, at) VALUES (?, ?)", (self._account, to_ms(self._at)))
        return int(done.lastrowid or 0)


def _taken_apart(reading: Reading) -> tuple[Register, Form, int, float, int | None, int]:
    """Give register, form, `at`, value, `span`, and the last instant the reading speaks of."""
    if isinstance(reading, Index):
        at = to_ms(reading.at)
        return reading.register, INDEX, at, float(reading.value), None, at
    if isinstance(reading, Interval):
        length = reading.end - reading.start
        form = ("interval", resolution(length))
        return (
            reading.register,
            form,
            to_ms(reading.start),
            float(reading.amount),
            round(length.total_seconds()),
            to_ms(reading.end),
        )
    register = Register(reading.point, reading.unit, name="peak")
    form = ("peak", resolution(reading.end - reading.start))
    offset = round((reading.at - reading.start).total_seconds())
    return register, form, to_ms(reading.start), float(reading.power), offset, to_ms(reading.at)
