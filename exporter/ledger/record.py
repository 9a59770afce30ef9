"""Writing home what a visit told: what is new, what changed, what is shown; in one transaction, only what differs."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

from exporter.ledger.instants import to_ms
from exporter.ledger.state import remember, say_holder
from exporter.model import (
    Facts,
    Holder,
    Index,
    Interval,
    Inventory,
    Nature,
    Note,
    Peak,
    Reading,
    Register,
    Remember,
    Told,
    UsagePoint,
    resolution,
)

AHEAD = timedelta(minutes=5)
"""How far a portal's clock may run before ours; what lies further ahead is not kept."""

Line = tuple[str, str, str, str, str, str]
"""Usage point, register, direction, unit, form, resolution."""


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
    notes: tuple[str, ...] = ()
    """The notes that the visit before did not have."""


@dataclass(slots=True)
class _Batch:
    """Readings of one series: at -> (value, span)."""

    register: Register
    readings: dict[int, tuple[float, int | None]] = field(default_factory=dict)


def record(db: sqlite3.Connection, account: str, told: Sequence[Told], *, at: datetime, personal: bool, past: bool) -> Recorded:
    """Write what was told; `past` is an import: it changes neither facts nor what is shown nor notes."""
    (account_id,) = db.execute("SELECT id FROM account WHERE name = ?", (account,)).fetchone()
    writer = _Writer(db, account_id, at, personal)
    done = writer.readings([item for item in told if isinstance(item, Index | Interval | Peak)])
    for item in told:
        if isinstance(item, Remember):
            remember(db, account, item.key, item.value, item.ends)
    if not past:
        done = replace(done, notes=writer.circumstances(told))
    if done.new or done.corrected:
        db.execute(
            "UPDATE account SET readings = readings + ?, corrections = corrections + ?,"
            " last_new_data = CASE WHEN ? THEN last_new_data ELSE ? END WHERE id = ?",
            (done.new, done.corrected, past, to_ms(at), account_id),
        )
    return done


class _Writer:
    def __init__(self, db: sqlite3.Connection, account: int, at: datetime, personal: bool) -> None:
        self._db, self._account, self._at, self._personal = db, account, at, personal
        self._visit: int | None = None
        self._points: dict[str, tuple[int, tuple[str, ...]]] = {
            row[1]: (row[0], row[2:]) for row in db.execute(_POINTS, (account,))
        }
        self._series = {row[1:7]: (row[0], row[7:]) for row in db.execute(_SERIES, (account,))}

    def readings(self, readings: Iterable[Reading]) -> Recorded:
        batches, future = self._sorted(readings)
        new = corrected = backwards = 0
        series: set[int] = set()
        for line, batch in batches.items():
            line_id = self._line(line, batch.register)
            added, changed = self._write(line_id, batch.readings)
            if added and batch.register.nature is Nature.COUNTER and line[4] == "index":
                backwards += self._ran_backwards(line_id, min(batch.readings), max(batch.readings))
            new, corrected = new + added, corrected + changed
            if added or changed:
                series.add(line_id)
        return Recorded(new, corrected, backwards, future, frozenset(series))

    def circumstances(self, told: Sequence[Told]) -> tuple[str, ...]:
        for item in told:
            if isinstance(item, Facts):
                self._facts(item)
            elif isinstance(item, Holder):
                holder = item if self._personal else Holder(access_expires=item.access_expires)
                self._db.execute("UPDATE account SET holder = ? WHERE id = ?", (say_holder(holder), self._account))
            elif isinstance(item, Inventory):
                self._inventory(item)
        return self._notes(tuple(dict.fromkeys(item.text for item in told if isinstance(item, Note))))

    def _sorted(self, readings: Iterable[Reading]) -> tuple[dict[Line, _Batch], int]:
        batches: dict[Line, _Batch] = {}
        limit, future = to_ms(self._at + AHEAD), 0
        for reading in readings:
            line, register, at, value, span, last = _taken_apart(reading)
            if last > limit:
                future += 1
                continue
            if (batch := batches.get(line)) is None:
                batch = batches[line] = _Batch(register)
            batch.readings[at] = value, span
        return batches, future

    def _write(self, line: int, readings: dict[int, tuple[float, int | None]]) -> tuple[int, int]:
        kept = {
            at: (value, span, visit)
            for at, value, span, visit in self._db.execute(
                "SELECT at, value, span, visit FROM reading WHERE series = ? AND at BETWEEN ? AND ?",
                (line, min(readings), max(readings)),
            )
        }
        new = [(line, at, value, span) for at, (value, span) in readings.items() if at not in kept]
        changed = [
            (line, at, value, span, *kept[at])
            for at, (value, span) in readings.items()
            if at in kept and kept[at][:2] != (value, span)
        ]
        if new:
            visit = self._this_visit()
            self._db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?)", ((*row, visit) for row in new))
        for series, at, value, span, *was in changed:
            self._correct(series, at, (value, span), was)
        return len(new), len(changed)

    def _correct(self, line: int, at: int, now: tuple[float, int | None], was: list[object]) -> None:
        visit = self._this_visit()
        self._db.execute(
            "INSERT INTO correction (series, at, value, span, learned_by, replaced_by) VALUES (?, ?, ?, ?, ?, ?)",
            (line, at, *was, visit),
        )
        self._db.execute("UPDATE reading SET value = ?, span = ?, visit = ? WHERE series = ? AND at = ?", (*now, visit, line, at))

    def _ran_backwards(self, line: int, first: int, last: int) -> bool:
        values = [value for (value,) in self._db.execute(_AROUND, {"series": line, "first": first, "last": last})]
        return any(later < earlier for earlier, later in pairwise(values))

    def _line(self, line: Line, register: Register) -> int:
        shown = (register.nature, register.kind, register.portal_unit, register.description)
        found = self._series.get(line)
        self._point(register.point)
        if found is None:
            point = self._points[line[0]][0]
            done = self._db.execute(_NEW_SERIES, (point, *line[1:], *shown))
            found = self._series[line] = int(done.lastrowid or 0), shown
        elif found[1] != shown:
            self._db.execute(
                "UPDATE series SET nature = ?, kind = ?, portal_unit = ?, description = ? WHERE id = ?", (*shown, found[0])
            )
            self._series[line] = found[0], shown
        return int(found[0])

    def _point(self, point: UsagePoint) -> int:
        key, known = self._points.get(point.id, (0, ("",) * 5))
        # A part of an answer that says less of the point than another did must not make it forgotten.
        told = (point.commodity, point.meter, point.site, point.name, point.address)
        *shown, address = (new or old for new, old in zip(told, known, strict=True))
        shown.append(address if self._personal else "")
        if not key:
            key = int(self._db.execute(_NEW_POINT, (self._account, point.id, *shown)).lastrowid or 0)
        elif tuple(shown) != known:
            self._db.execute(
                "UPDATE point SET commodity = ?, meter = ?, site = ?, name = ?, address = ? WHERE id = ?", (*shown, key)
            )
        self._points[point.id] = key, tuple(shown)
        return key

    def _facts(self, facts: Facts) -> None:
        point = self._point(facts.point)
        kept = dict(self._db.execute("SELECT fact, value FROM fact WHERE point = ?", (point,)))
        if kept != facts.values:
            self._db.execute("DELETE FROM fact WHERE point = ?", (point,))
            self._db.executemany("INSERT INTO fact VALUES (?, ?, ?)", ((point, *pair) for pair in facts.values.items()))

    def _inventory(self, inventory: Inventory) -> None:
        held = {self._point(point) for point in inventory.points}
        self._show("point", "SELECT id, shown FROM point WHERE account = ?", held)
        if inventory.registers is None:
            lines = {found[0] for line, found in self._series.items() if self._points[line[0]][0] in held}
        else:
            names = {(register.point.id, register.name, register.direction, register.unit) for register in inventory.registers}
            for register in inventory.registers:
                for form in ("index", "interval"):
                    line = (register.point.id, register.name, register.direction, register.unit, form, "")
                    if line in self._series:
                        self._line(line, register)
            lines = {
                found[0]
                for line, found in self._series.items()
                if line[:4] in names or (line[4] == "peak" and self._points[line[0]][0] in held)
            }
        self._show(
            "series", "SELECT series.id, series.shown FROM series JOIN point ON point.id = series.point WHERE account = ?", lines
        )

    def _show(self, table: str, question: str, held: set[int]) -> None:
        changed = [
            (key in held, key) for key, shown in self._db.execute(question, (self._account,)) if (key in held) != bool(shown)
        ]
        self._db.executemany(f"UPDATE {table} SET shown = ? WHERE id = ?", changed)  # noqa: S608  # `point` or `series`

    def _notes(self, notes: tuple[str, ...]) -> tuple[str, ...]:
        (kept,) = self._db.execute("SELECT notes FROM account WHERE id = ?", (self._account,)).fetchone()
        before = json.loads(kept)
        if list(notes) != before:
            self._db.execute("UPDATE account SET notes = ? WHERE id = ?", (json.dumps(notes), self._account))
        return tuple(note for note in notes if note not in before)

    def _this_visit(self) -> int:
        if self._visit is None:
            done = self._db.execute("INSERT INTO visit (account, at) VALUES (?, ?)", (self._account, to_ms(self._at)))
            self._visit = int(done.lastrowid or 0)
        return self._visit


def _taken_apart(reading: Reading) -> tuple[Line, Register, int, float, int | None, int]:
    """Give line, register, `at`, value, `span`, and the last instant the reading speaks of."""
    if isinstance(reading, Index):
        register, at = reading.register, to_ms(reading.at)
        return (*_named(register), "index", ""), register, at, float(reading.value), None, at
    if isinstance(reading, Interval):
        register, length = reading.register, reading.end - reading.start
        line = (*_named(register), "interval", resolution(length))
        return line, register, to_ms(reading.start), float(reading.amount), round(length.total_seconds()), to_ms(reading.end)
    register = Register(reading.point, reading.unit, name="peak")
    line = (*_named(register), "peak", resolution(reading.end - reading.start))
    offset = round((reading.at - reading.start).total_seconds())
    return line, register, to_ms(reading.start), float(reading.power), offset, to_ms(reading.at)


def _named(register: Register) -> tuple[str, str, str, str]:
    return register.point.id, register.name, str(register.direction), str(register.unit)


_POINTS = "SELECT id, usage_point, commodity, meter, site, name, address FROM point WHERE account = ?"
_SERIES = (
    "SELECT series.id, usage_point, register, direction, unit, form, resolution, nature, kind, portal_unit, description"
    " FROM series JOIN point ON point.id = series.point WHERE account = ?"
)
_NEW_POINT = "INSERT INTO point (account, usage_point, commodity, meter, site, name, address) VALUES (?, ?, ?, ?, ?, ?, ?)"
_NEW_SERIES = (
    "INSERT INTO series (point, register, direction, unit, form, resolution, nature, kind, portal_unit, description)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_AROUND = (
    "SELECT value FROM reading WHERE series = :series"
    " AND at >= coalesce((SELECT max(at) FROM reading WHERE series = :series AND at < :first), :first)"
    " AND at <= coalesce((SELECT min(at) FROM reading WHERE series = :series AND at > :last), :last) ORDER BY at"
)
