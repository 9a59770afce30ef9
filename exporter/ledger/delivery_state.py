"""What each receiver of remote write was sent, and what is still pending.

Delivery goes in rounds. A round covers all that was learned up to the visit `upto` and has settled: what was learned by a later
visit than the previous round's (`after`), and what has settled since. It is sent oldest first, in windows of `at`, and within a
window by series, so that the position in a round is four numbers. The readings that a target's next round covers are stored as
one range of `at` for each series with anything new; late days and corrections widen the range, wherever they are.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from exporter.ledger.database import Database
from exporter.ledger.samples import TimestampRule

MAX_STAMP_DELAY = 32 * 86_400_000
"""The maximum time from `at` to the timestamp of a sample."""
PendingRange = tuple[int, int, int]
"""Series, first and last `at` in milliseconds."""
PendingSample = tuple[int, int, float]
"""Series, timestamp and value."""
PendingReading = tuple[int, int, float, int, int]
"""Series, timestamp, value, `at`, and the visit that learned it."""


@dataclass(frozen=True, slots=True)
class DeliveryRound:
    """A round in progress, and its position: in the window [first, last), up to `stamp` of `series`."""

    upto: int
    begun: int
    settled: Mapping[str, int]
    """Form -> end of the last period that counts as settled, in milliseconds."""
    since: int | None = None
    """Samples with timestamps from here on, in milliseconds, are sent again."""
    first: int | None = None
    last: int = 0
    series: int = 0
    stamp: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryProgress:
    """What a target was sent: all that was learned up to the visit `after` and had settled by then."""

    after: int = 0
    settled: Mapping[str, int] = field(default_factory=dict)
    success: int | None = None
    """When it last accepted a request, in milliseconds."""


class DeliveryState:
    """The delivery state of all targets, by key. Methods block on the disk, and raise LedgerError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_targets(self, keys: Collection[str]) -> None:
        """Follow these targets and no others: for a new one everything is pending.

        For one that returns all readings are compared once, and it is sent what it does not have.
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

    def has_pending(self, key: str) -> bool:
        """Return whether anything was learned, or requested again, since the last round began."""
        with self._database.read() as db:
            number, progress, delivery_round, again = _load_progress(db, key)
            (newest,) = db.execute("SELECT max(visit) FROM owed WHERE target = ?", (number,)).fetchone()
        return again is not None or bool(delivery_round) or (newest or 0) > progress.after

    def begin_round(self, key: str, now: int, settled: Mapping[str, int]) -> tuple[DeliveryProgress, DeliveryRound]:
        """Return what was sent, and the round in progress; a new one is begun if there is none."""
        with self._database.write() as db:
            number, progress, delivery_round, again = _load_progress(db, key)
            if delivery_round:
                return progress, delivery_round
            if again is not None:
                db.execute(_INSERT_ALL_PENDING, {"target": number, "since": again - MAX_STAMP_DELAY})
                db.execute("UPDATE target SET again = NULL WHERE id = ?", (number,))
            (newest,) = db.execute("SELECT max(id) FROM visit").fetchone()
            delivery_round = DeliveryRound(newest or 0, now, settled, again)
            _save_progress(db, number, progress, delivery_round)
        return progress, delivery_round

    def save_progress(self, key: str, progress: DeliveryProgress, delivery_round: DeliveryRound) -> None:
        """Store the position of a round."""
        with self._database.write() as db:
            _save_progress(db, _load_progress(db, key)[0], progress, delivery_round)

    def finish_round(
        self, key: str, progress: DeliveryProgress, delivery_round: DeliveryRound, still_pending: Iterable[PendingRange]
    ) -> None:
        """End a round; `still_pending` is what the next one must cover again."""
        upto = delivery_round.upto
        with self._database.write() as db:
            number = _load_progress(db, key)[0]
            db.execute("DELETE FROM owed WHERE target = ? AND visit <= ?", (number, upto))
            db.executemany(
                "INSERT INTO owed VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                ((number, series, upto, first, last) for series, first, last in still_pending),
            )
            _save_progress(db, number, replace(progress, after=upto, settled=delivery_round.settled), None)

    def request_resend(self, key: str, since: int) -> bool:
        """Request that samples from `since` on are sent again; return False for an unknown target."""
        with self._database.write() as db:
            cursor = db.execute(
                "UPDATE target SET again = min(coalesce(again, :since), :since) WHERE key = :key", {"key": key, "since": since}
            )
            return cursor.rowcount > 0


def mark_pending(db: sqlite3.Connection, visit: int, spans: Iterable[PendingRange]) -> None:
    """Mark what a visit learned as pending for all targets, within its transaction."""
    targets = [number for (number,) in db.execute("SELECT id FROM target WHERE followed")]
    if targets:
        spans = list(spans)
        db.executemany(_INSERT_PENDING, ((target, series, visit, *span) for target in targets for series, *span in spans))


def pending_ranges(db: sqlite3.Connection, key: str) -> list[PendingRange]:
    """Return the ranges that a target's next round covers, ordered by series."""
    return db.execute(
        "SELECT series, first, last FROM owed JOIN target ON target.id = owed.target WHERE key = ? ORDER BY series", (key,)
    ).fetchall()


@dataclass(frozen=True, slots=True)
class PendingQuery:
    """Which readings are pending: `at` in [first, last], timestamps from `floor` on.

    Of those learned up to the visit `upto`: what was learned after `after`, and all with `at` beyond `fresh`.
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
    """Return up to `limit` pending samples of these series, in the order of `series_ids` and then of `at`."""
    stamp, values = _build_pending_query(query, series_ids)
    return db.execute(
        f"SELECT reading.series, {stamp} AS stamp, reading.value {_WHERE_PENDING} LIMIT :limit", values | {"limit": limit}
    ).fetchall()


def iterate_pending_readings(db: sqlite3.Connection, query: PendingQuery, series_ids: Iterable[int]) -> Iterator[PendingReading]:
    """Yield the pending readings of these series, with `at` and visit."""
    stamp, values = _build_pending_query(query, series_ids)
    return db.execute(f"SELECT reading.series, {stamp} AS stamp, reading.value, at, reading.visit {_WHERE_PENDING}", values)


def count_pending(db: sqlite3.Connection, query: PendingQuery, series_ids: Iterable[int], done_until: int) -> int:
    """Return the number of pending readings: of the round those from `done_until` (of `at`) on, and all learned later."""
    stamp, values = _build_pending_query(query, series_ids)
    (count,) = db.execute(
        f"SELECT count(*) {_FROM_PENDING} AND {stamp} >= :floor"
        " AND (reading.visit > :upto OR (at >= :done AND (reading.visit > :after OR at > :fresh)))",
        values | {"done": done_until},
    ).fetchone()
    return int(count)


def select_corrected(db: sqlite3.Connection, after: int, up_to: int | None = None) -> dict[int, set[int]]:
    """Return series -> `at` of readings known by the visit `after` and corrected since, up to the visit `up_to`."""
    corrected: dict[int, set[int]] = defaultdict(set)
    for series, at, learned, replaced in _iterate_corrections(db):
        if replaced <= after:
            break
        if learned <= after and (up_to is None or replaced <= up_to):
            corrected[series].add(at)
    return corrected


def _iterate_corrections(db: sqlite3.Connection) -> Iterator[tuple[int, int, int, int]]:
    return db.execute("SELECT series, at, learned_by, replaced_by FROM correction ORDER BY id DESC")


def _build_pending_query(query: PendingQuery, series_ids: Iterable[int]) -> tuple[str, dict[str, object]]:
    names = ("key", "first", "last", "floor", "after", "upto", "fresh")
    values = {name: getattr(query, name) for name in names} | {"lines": json.dumps(list(series_ids))}
    if query.rule.shift is not None:
        return f"at + {query.rule.shift:d}", values
    return f"at + span * 1000 - {query.rule.offset:d}", values


def _load_progress(db: sqlite3.Connection, key: str) -> tuple[int, DeliveryProgress, DeliveryRound | None, int | None]:
    """Return a target's number, what it was sent, the round in progress, and from when on everything is sent again."""
    row = db.execute("SELECT id, progress, again FROM target WHERE key = ?", (key,)).fetchone()
    assert row, "a target is followed before it is sent anything"
    number, text, again = row
    fields = json.loads(text)
    round_fields = fields.pop("round", None)
    return number, DeliveryProgress(**fields), DeliveryRound(**round_fields) if round_fields else None, again


def _save_progress(db: sqlite3.Connection, number: int, progress: DeliveryProgress, delivery_round: DeliveryRound | None) -> None:
    fields = asdict(progress) | {"round": asdict(delivery_round) if delivery_round else None}
    db.execute("UPDATE target SET progress = ? WHERE id = ?", (json.dumps(fields), number))


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
