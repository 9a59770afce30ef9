"""What is stored of an account besides readings: its health, its key-value store, its calls, the coverage of its feeds.

A coverage is written in the transaction of the readings that a request brought, so it never claims more than is stored.
"""

import asyncio
import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from exporter.ledger.database import Database, from_ms, optional_from_ms, optional_to_ms, to_ms
from exporter.models import Holder
from exporter.sync.coverage import Coverage

NOTE_LIFETIME = timedelta(days=1)
"""A note stays until its feed is answered without it, and at least so long."""
QUOTA_RETENTION = timedelta(days=8)
"""No quota counts calls that are older."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """What the ledger keeps of an account besides its readings; instants are aware, in UTC; None: it never happened."""

    last_visit: datetime | None = None
    last_success: datetime | None = None
    last_new_data: datetime | None = None
    next_visit: datetime | None = None
    """When the next visit is planned."""
    suspended_until: datetime | None = None
    """While in the future, no visits are made: the portal refused the login."""
    duration: float | None = None
    """Seconds, of the last visit."""
    up: bool | None = None
    failures: int = 0
    """Failed visits since the last successful one."""
    reason: str = ""
    """Why the last visit failed; empty if it did not."""
    message: str = ""
    notes: tuple[str, ...] = ()
    holder: Holder = field(default_factory=Holder)
    readings: int = 0
    corrections: int = 0
    thinned: int = 0
    """Old readings that were deleted."""
    token_expires: datetime | None = None
    """End of the present access token, which the program renews itself."""


def open_account(database: Database, name: str, portal: str, zone: str, login: str) -> AccountState:
    """Return an account's state, creating it if new; a changed login lifts a suspension and empties the store."""
    with database.write() as db:
        row = db.execute("SELECT id, portal, login FROM account WHERE name = ?", (name,)).fetchone()
        if row is None:
            db.execute("INSERT INTO account (name, portal, zone, login) VALUES (?, ?, ?, ?)", (name, portal, zone, login))
        elif row[1:] != (portal, login):
            db.execute("DELETE FROM memory WHERE account = ?", (row[0],))
            _forget_refusals(db, row[0])
            db.execute(
                "UPDATE account SET portal = ?, zone = ?, login = ?, failures = 0, reason = '', message = '',"
                " next_visit = CASE WHEN suspended_until IS NULL THEN next_visit END, suspended_until = NULL WHERE id = ?",
                (portal, zone, login, row[0]),
            )
        else:
            db.execute("UPDATE account SET zone = ? WHERE id = ? AND zone <> ?", (zone, row[0], zone))
        return load_state(db, name)


def load_state(db: sqlite3.Connection, name: str) -> AccountState:
    """Return an account's state; that of an unknown account is empty."""
    cursor = db.execute("SELECT * FROM account WHERE name = ?", (name,))
    if (row := cursor.fetchone()) is None:
        return AccountState()
    columns = dict(zip((column[0] for column in cursor.description), row, strict=True))
    instants: dict[str, Any] = {
        key: optional_from_ms(columns[key])
        for key in ("last_visit", "last_success", "last_new_data", "next_visit", "suspended_until")
    }
    plain = {key: columns[key] for key in ("duration", "failures", "reason", "message", "readings", "corrections", "thinned")}
    return AccountState(
        **instants,
        **plain,
        up=None if columns["up"] is None else bool(columns["up"]),
        notes=tuple(dict.fromkeys([*json.loads(columns["notes"]), *_select_feed_notes(db, name)])),
        holder=_parse_holder(json.loads(columns["holder"])),
        token_expires=_select_token_expiry(db, columns["id"]),
    )


def save_state(db: sqlite3.Connection, name: str, state: AccountState) -> None:
    """Write an account's state (not the counts of its readings, which `write_visit` updates)."""
    db.execute(
        "UPDATE account SET last_visit = ?, last_success = ?, next_visit = ?, suspended_until = ?, duration = ?, up = ?,"
        " failures = ?, reason = ?, message = ? WHERE name = ?",
        (
            optional_to_ms(state.last_visit),
            optional_to_ms(state.last_success),
            optional_to_ms(state.next_visit),
            optional_to_ms(state.suspended_until),
            state.duration,
            state.up,
            state.failures,
            state.reason,
            state.message,
            name,
        ),
    )


def save_login(db: sqlite3.Connection, name: str, login: str) -> None:
    """Write with which login an account is visited: another process may have opened it with another one meanwhile."""
    db.execute("UPDATE account SET login = ? WHERE name = ? AND login <> ?", (login, name, login))


def suspend(db: sqlite3.Connection, name: str, reason: str, until: datetime) -> None:
    """Write that an account's login was refused, and nothing else of its health."""
    db.execute(
        "UPDATE account SET suspended_until = ?, up = 0, reason = 'login', message = ? WHERE name = ?",
        (to_ms(until), reason, name),
    )


def lift_suspension(db: sqlite3.Connection, name: str) -> None:
    """Write that an account's login is good again: it is visited at once."""
    db.execute(
        "UPDATE account SET suspended_until = NULL, next_visit = NULL, failures = 0, reason = '', message = ''"
        " WHERE name = ? AND suspended_until IS NOT NULL",
        (name,),
    )


def has_login(db: sqlite3.Connection, name: str, login: str) -> bool:
    """Return whether an account was last opened or visited with a login."""
    return db.execute("SELECT 1 FROM account WHERE name = ? AND login = ?", (name, login)).fetchone() is not None


_HOLDER_INSTANTS = ("access_expires", "login_valid_from")


def serialize_holder(holder: Holder) -> str:
    """Return a holder as JSON."""
    fields = {name: getattr(holder, name) for name in ("name", "company", "company_id", "customer_id", "person_id")}
    return json.dumps(fields | {name: optional_to_ms(getattr(holder, name)) for name in _HOLDER_INSTANTS})


def _parse_holder(fields: dict[str, Any]) -> Holder:
    return replace(Holder(), **fields | {name: optional_from_ms(fields.get(name)) for name in _HOLDER_INSTANTS})


def _select_token_expiry(db: sqlite3.Connection, account: int) -> datetime | None:
    row = db.execute(
        "SELECT json_extract(value, '$.ends') FROM memory WHERE account = ? AND key = 'token'", (account,)
    ).fetchone()
    return from_ms(round(row[0] * 1000)) if row and row[0] else None


def select_account_id(db: sqlite3.Connection, name: str) -> int:
    """Return an account's ID."""
    return int(db.execute("SELECT id FROM account WHERE name = ?", (name,)).fetchone()[0])


def put_value(db: sqlite3.Connection, account: int, key: str, value: object, expires_at: datetime | None) -> None:
    """Store a JSON value under a key of an account, until it expires."""
    db.execute(
        "INSERT OR REPLACE INTO memory (account, key, value, ends) VALUES (?, ?, ?, ?)",
        (account, key, json.dumps(value, ensure_ascii=False, separators=(",", ":")), optional_to_ms(expires_at)),
    )


class LedgerAccountStore:
    """An account's key-value store and calls on disk: for its session, written at once and off the event loop."""

    def __init__(self, database: Database, account: str, cache: dict[str, Any] | None = None) -> None:
        self._database, self._account = database, account
        self.cache = {} if cache is None else cache
        """What a portal caches in this process only."""

    async def get(self, key: str, now: datetime) -> Any | None:
        """Return the value of a key, or None if there is none or it has expired."""
        return await asyncio.to_thread(self._get, key, to_ms(now))

    async def put(self, key: str, value: Any, expires_at: datetime | None = None) -> None:
        """Store a JSON value, until it expires."""
        await asyncio.to_thread(self._put, key, value, expires_at)

    async def delete(self, key: str) -> None:
        """Delete a value."""
        await asyncio.to_thread(self._delete, key)

    async def record_calls(self, quota: str, at: datetime, calls: int = 1) -> None:
        """Count calls against a quota."""
        await asyncio.to_thread(self._record_calls, quota, at, calls)

    async def count_calls(self, quota: str, since: datetime) -> int:
        """Return how many calls a quota counts since an instant."""
        return await asyncio.to_thread(self.count_calls_blocking, quota, since)

    def count_calls_blocking(self, quota: str, since: datetime) -> int:
        """Return how many calls a quota counts since an instant; blocks.

        Calls far in the future were counted by a wrong clock: each counts as of the last call before it that is not.
        """
        far = to_ms(since + 2 * QUOTA_RETENTION)
        with self._database.read() as db:
            found = db.execute(
                _COUNT_CALLS, {"budget": quota, "since": to_ms(since), "far": far, "name": self._account}
            ).fetchone()
        return int(found[0] or 0)

    def _put(self, key: str, value: Any, expires_at: datetime | None) -> None:
        with self._database.write() as db:
            put_value(db, select_account_id(db, self._account), key, value, expires_at)

    def _get(self, key: str, now: int) -> Any | None:
        with self._database.read() as db:
            row = db.execute(
                "SELECT value FROM memory JOIN account ON account.id = memory.account"
                " WHERE account.name = ? AND key = ? AND (ends IS NULL OR ends > ?)",
                (self._account, key, now),
            ).fetchone()
        return json.loads(row[0]) if row else None

    def _delete(self, key: str) -> None:
        with self._database.write() as db:
            db.execute(
                "DELETE FROM memory WHERE key = ? AND account = (SELECT id FROM account WHERE name = ?)", (key, self._account)
            )

    def _record_calls(self, quota: str, at: datetime, calls: int) -> None:
        with self._database.write() as db:
            db.execute(
                "INSERT INTO spending (account, budget, at, calls) SELECT id, ?, ?, ? FROM account WHERE name = ?",
                (quota, to_ms(at), calls, self._account),
            )


def select_coverage(db: sqlite3.Connection, account: str) -> dict[str, str]:
    """Return the stored coverage of an account's feeds, by key."""
    return dict(
        db.execute("SELECT feed, value FROM coverage JOIN account ON account.id = coverage.account WHERE name = ?", (account,))
    )


def write_coverage(
    db: sqlite3.Connection,
    account: int,
    coverage: Mapping[str, str],
    notes: Collection[str] | None,
    at: datetime,
    *,
    refusal: str = "",
) -> tuple[str, ...]:
    """Write coverages; with the `notes` of a response, or the `refusal` of one, return those that its feed did not have."""
    db.executemany(_UPSERT, [(account, key, value) for key, value in coverage.items()])
    new = list[str]()
    for key in coverage if refusal or notes is not None else ():
        (text,) = db.execute("SELECT notes FROM coverage WHERE account = ? AND feed = ?", (account, key)).fetchone()
        before: dict[str, int] = json.loads(text)
        fresh = to_ms(at - NOTE_LIFETIME)
        after = {note: last for note, last in before.items() if last > fresh} | dict.fromkeys(notes or (), to_ms(at))
        after |= {refusal: 0} if refusal else {}
        if after != before:
            _update_notes(db, account, key, after)
        new += (note for note in after if note not in before)
    return tuple(new)


def _select_feed_notes(db: sqlite3.Connection, account: str) -> list[str]:
    """Return the notes of an account's feeds."""
    rows = db.execute(
        "SELECT coverage.notes FROM coverage JOIN account ON account.id = coverage.account"
        " WHERE name = ? AND coverage.notes <> '{}'",
        (account,),
    )
    return [note for (notes,) in rows for note in json.loads(notes)]


def drop_notes_of_other_feeds(db: sqlite3.Connection, account: int, feeds: Collection[str]) -> None:
    """Drop the notes of feeds that the account does not have any more; their coverage stays, they may come back."""
    rows = db.execute("SELECT feed FROM coverage WHERE account = ? AND notes <> '{}'", (account,)).fetchall()
    for (key,) in rows:
        if key not in feeds:
            _update_notes(db, account, key, {})


def _forget_refusals(db: sqlite3.Connection, account: int) -> None:
    """Let every feed be asked at once again: another login may be given what this one was refused."""
    for key, text in db.execute("SELECT feed, value FROM coverage WHERE account = ?", (account,)).fetchall():
        with suppress(ValueError, TypeError):  # written by a newer version
            value = replace(Coverage.decode(text), failures=0, retry_at=0).encode()
            db.execute(_UPSERT, (account, key, value))
            _update_notes(db, account, key, {})


def _update_notes(db: sqlite3.Connection, account: int, key: str, notes: Mapping[str, int]) -> None:
    text = json.dumps(notes, ensure_ascii=False, separators=(",", ":"))
    db.execute("UPDATE coverage SET notes = ? WHERE account = ? AND feed = ?", (text, account, key))


_UPSERT = (
    "INSERT INTO coverage (account, feed, value) VALUES (?, ?, ?)"
    " ON CONFLICT (account, feed) DO UPDATE SET value = excluded.value"
)
_COUNT_CALLS = (
    "SELECT sum(calls) FROM spending JOIN account ON account.id = spending.account"
    " WHERE name = :name AND budget = :budget AND at >= :since AND (at < :far OR EXISTS ("
    " SELECT 1 FROM spending AS before WHERE before.account = spending.account AND before.budget = spending.budget"
    " AND before.at >= :since AND before.at < :far AND before.rowid < spending.rowid))"
)
