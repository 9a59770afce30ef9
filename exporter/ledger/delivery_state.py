"""What each receiver of the true-time series was sent, and what it is still owed.

Delivery goes in rounds. A round is all that was learned up to the visit `upto` and has settled: what was learned by a
later visit than the round before (`after`), and what has settled since. It is sent oldest first, window by window of
`at`, and within a window series by series, so that a place in it is four numbers. Where in a series a target's next
round has to look is kept as a span of `at`, one for each series that anything new is known of: late days and
corrections widen it, wherever they lie.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from exporter.ledger.database import Database
from exporter.ledger.queries import TimestampRule

MAX_STAMP_DELAY = 32 * 86_400_000
"""No stamp lies later than this after its `at`."""
PendingRange = tuple[int, int, int]
"""Series, first and last `at` in milliseconds."""
PendingSample = tuple[int, int, float]
"""Series, stamp and value."""
PendingReading = tuple[int, int, float, int, int]
"""Series, stamp, value, `at`, and the visit that learned it."""


@dataclass(frozen=True, slots=True)
class DeliveryRound:
    """A round under way, and how far it has come: in the window [first, last), up to `stamp` of `series`."""

    upto: int
    begun: int
    settled: Mapping[str, int]
    """Form -> end of the last period that counts as settled, in milliseconds."""
    since: int | None = None
    """All with stamps from here on, in milliseconds, is sent again."""
    first: int | None = None
    last: int = 0
    series: int = 0
    stamp: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryProgress:
    """What a target has: all that was learned up to the visit `after` and had settled by then."""

    after: int = 0
    settled: Mapping[str, int] = field(default_factory=dict)
    round: DeliveryRound | None = None
    success: int | None = None
    """When it last took something, in milliseconds."""


class DeliveryState:
    """The books of all targets, by their keys. Methods block on the disk, and raise LedgerError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_targets(self, keys: Collection[str]) -> None:
        """Keep books for these targets and no others: one that is new is owed everything.

        One that comes back is looked through from end to end once, and sent what it does not have.
        """
        with self._database.write() as db:
            known = {key: (number, followed) for number, key, followed in db.execute("SELECT id, key, followed FROM target")}
            for key in sorted(known.keys() - set(keys)):
                db.execute("UPDATE target SET followed = 0 WHERE id = ? AND followed", (known[key][0],))
                db.execute("DELETE FROM owed WHERE target = ?", (known[key][0],))
            for key in keys:
                number, followed = known.get(key, (0, 0))
                if not number:
                    number = db.execute("INSERT INTO target (key, followed) VALUES (?, 1)", (key,)).lastrowid or 0
                if not followed:
                    db.execute("UPDATE target SET followed = 1 WHERE id = ?", (number,))
                    db.execute(_INSERT_ALL_PENDING, {"target": number, "since": None})

    def get_progress(self, key: str) -> DeliveryProgress:
        """Give what a target has."""
        with self._database.read() as db:
            return _load_progress(db, key)[1]

    def has_pending(self, key: str) -> bool:
        """Tell whether something was learned, or asked for again, since the last round began."""
        with self._database.read() as db:
            number, progress, again = _load_progress(db, key)
            (newest,) = db.execute("SELECT max(visit) FROM owed WHERE target = ?", (number,)).fetchone()
        return again is not None or bool(progress.round) or (newest or 0) > progress.after

    def begin_round(self, key: str, now: int, settled: Mapping[str, int]) -> DeliveryProgress:
        """Begin a round, unless one is under way."""
        with self._database.write() as db:
            number, progress, again = _load_progress(db, key)
            if progress.round:
                return progress
            if again is not None:
                db.execute(_INSERT_ALL_PENDING, {"target": number, "since": again - MAX_STAMP_DELAY})
                db.execute("UPDATE target SET again = NULL WHERE id = ?", (number,))
            (newest,) = db.execute("SELECT max(id) FROM visit").fetchone()
            progress = replace(progress, round=DeliveryRound(newest or 0, now, settled, again))
            _save_progress(db, number, progress)
        return progress

    def save_progress(self, key: str, progress: DeliveryProgress) -> None:
        """Remember how far a round has come."""
        with self._database.write() as db:
            _save_progress(db, _load_progress(db, key)[0], progress)

    def finish_round(self, key: str, progress: DeliveryProgress, still_pending: Iterable[PendingRange]) -> DeliveryProgress:
        """End a round: `unsettled` is what the target is owed of it nevertheless."""
        assert progress.round is not None
        upto = progress.round.upto
        with self._database.write() as db:
            number = _load_progress(db, key)[0]
            done = replace(progress, after=upto, settled=progress.round.settled, round=None)
            db.execute("DELETE FROM owed WHERE target = ? AND visit <= ?", (number, upto))
            db.executemany(
                "INSERT INTO owed VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                ((number, series, upto, first, last) for series, first, last in still_pending),
            )
            _save_progress(db, number, done)
        return done

    def request_resend(self, key: str, since: int) -> bool:
        """Have everything with stamps from `since` on sent again; False for a target that was never sent anything."""
        with self._database.write() as db:
            done = db.execute(
                "UPDATE target SET again = min(coalesce(again, :since), :since) WHERE key = :key", {"key": key, "since": since}
            )
            return done.rowcount > 0


def mark_pending(db: sqlite3.Connection, visit: int, spans: Iterable[PendingRange]) -> None:
    """Owe to all targets what a visit has learned, within its transaction."""
    targets = [number for (number,) in db.execute("SELECT id FROM target WHERE followed")]
    if targets:
        spans = list(spans)
        db.executemany(_INSERT_PENDING, ((target, series, visit, *span) for target in targets for series, *span in spans))


def pending_ranges(db: sqlite3.Connection, key: str) -> list[PendingRange]:
    """Give where a target's next round has to look, in the order of the series."""
    return db.execute(
        "SELECT series, first, last FROM owed JOIN target ON target.id = owed.target WHERE key = ? ORDER BY series", (key,)
    ).fetchall()


@dataclass(frozen=True, slots=True)
class PendingQuery:
    """Which readings a target is owed: `at` in [first, last], stamps from `floor` on.

    Of those learned up to the visit `upto`: what was learned after `after`, and all that lies beyond `fresh`.
    """

    key: str
    rule: TimestampRule
    first: int
    last: int
    floor: int
    after: int
    upto: int
    fresh: int


def select_pending(db: sqlite3.Connection, query: PendingQuery, series_ids: Iterable[int], limit: int) -> list[PendingSample]:
    """Give what is owed of these series, series by series in the order given, each in the order of `at`; `most` at most."""
    stamp, values = _build_pending_query(query, series_ids)
    return db.execute(
        f"SELECT reading.series, {stamp} AS stamp, reading.value {_WHERE_PENDING} LIMIT :most", values | {"most": limit}
    ).fetchall()


def iterate_pending_readings(db: sqlite3.Connection, query: PendingQuery, series_ids: Iterable[int]) -> Iterator[PendingReading]:
    """Give the same with `at` and visit, as it is read."""
    stamp, values = _build_pending_query(query, series_ids)
    return db.execute(f"SELECT reading.series, {stamp} AS stamp, reading.value, at, reading.visit {_WHERE_PENDING}", values)


def count_pending(db: sqlite3.Connection, query: PendingQuery, series_ids: Iterable[int], done_until: int) -> int:
    """Count what is owed and not `done`, which is how far in `at` the round has come, and all that was learned later."""
    stamp, values = _build_pending_query(query, series_ids)
    (found,) = db.execute(
        f"SELECT count(*) {_FROM_PENDING} AND {stamp} >= :floor"
        " AND (reading.visit > :upto OR (at >= :done AND (reading.visit > :after OR at > :fresh)))",
        values | {"done": done_until},
    ).fetchone()
    return int(found)


def select_corrected(db: sqlite3.Connection, after: int, up_to: int | None = None) -> dict[int, set[int]]:
    """Give series -> `at` of what was known by the visit `after` and replaced since, up to the visit `upto`."""
    found: dict[int, set[int]] = defaultdict(set)
    for series, at, learned, replaced in _iterate_corrections(db):
        if replaced <= after:
            break
        if learned <= after and (up_to is None or replaced <= up_to):
            found[series].add(at)
    return found


def _iterate_corrections(db: sqlite3.Connection) -> Iterator[tuple[int, int, int, int]]:
    return db.execute("SELECT series, at, learned_by, replaced_by FROM correction ORDER BY id DESC")


def _build_pending_query(query: PendingQuery, series_ids: Iterable[int]) -> tuple[str, dict[str, object]]:
    names = ("key", "first", "last", "floor", "after", "upto", "fresh")
    values = {name: getattr(query, name) for name in names} | {"lines": json.dumps(list(series_ids))}
    stamping = query.rule
    if stamping.shift is not None:
        return f"at + {stamping.shift:d}", values
    return f"at + span * 1000 - {stamping.offset:d}", values


def _load_progress(db: sqlite3.Connection, key: str) -> tuple[int, DeliveryProgress, int | None]:
    row = db.execute("SELECT id, progress, again FROM target WHERE key = ?", (key,)).fetchone()
    assert row, "a target is followed before it is sent anything"
    number, text, again = row
    kept = json.loads(text)
    under_way = kept.pop("round", None)
    return number, DeliveryProgress(**kept, round=DeliveryRound(**under_way) if under_way else None), again


def _save_progress(db: sqlite3.Connection, number: int, progress: DeliveryProgress) -> None:
    db.execute("UPDATE target SET progress = ? WHERE id = ?", (json.dumps(asdict(progress)), number))


_FROM_PENDING = (
    "FROM json_each(:lines) AS line CROSS JOIN owed ON owed.target = (SELECT id FROM target WHERE key = :key)"
    " AND owed.series = line.value CROSS JOIN reading ON reading.series = owed.series"
    " AND at BETWEEN max(owed.first, :first) AND min(owed.last, :last) WHERE 1"
)
"""The joins are crossed so that SQLite keeps to their order."""
_WHERE_PENDING = f"{_FROM_PENDING} AND stamp >= :floor AND reading.visit <= :upto AND (reading.visit > :after OR at > :fresh)"
_MERGE_RANGES = (
    " ON CONFLICT (target, series) DO UPDATE SET visit = max(visit, excluded.visit),"
    " first = min(first, excluded.first), last = max(last, excluded.last)"
)
_INSERT_PENDING = f"INSERT INTO owed (target, series, visit, first, last) VALUES (?, ?, ?, ?, ?){_MERGE_RANGES}"
_INSERT_ALL_PENDING = (
    "INSERT INTO owed (target, series, visit, first, last)"
    " SELECT :target, series.id, (SELECT coalesce(max(id), 0) FROM visit), oldest, newest FROM ("
    " SELECT id, max((SELECT min(at) FROM reading WHERE series = series.id), coalesce(:since, -9e15)) AS oldest,"
    " (SELECT max(at) FROM reading WHERE series = series.id) AS newest FROM series) AS series"
    f" WHERE oldest <= newest{_MERGE_RANGES}"
)
