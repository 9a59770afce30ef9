"""What is kept of an account besides readings: its health, its memory, its call budgets, what was imported."""

import asyncio
import json
import sqlite3
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from exporter.ledger.database import Database, from_ms, optional_from_ms, optional_to_ms, to_ms
from exporter.models import Holder

QUOTA_RETENTION = timedelta(days=8)
"""No budget counts calls that are older."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account's health as of its last visit; all instants aware, in UTC; None where it never happened."""

    last_visit: datetime | None = None
    last_success: datetime | None = None
    last_new_data: datetime | None = None
    next_visit: datetime | None = None
    suspended_until: datetime | None = None
    """While in the future, the portal has refused the login and is not asked."""
    duration: float | None = None
    """Seconds the last visit took."""
    up: bool | None = None
    failures: int = 0
    """Failed visits since the last good one."""
    reason: str = ""
    """Why the last visit failed; empty when it did not."""
    message: str = ""
    notes: tuple[str, ...] = ()
    holder: Holder = field(default_factory=Holder)
    readings: int = 0
    corrections: int = 0
    thinned: int = 0
    """Readings that grew old and went."""


def open_account(database: Database, name: str, portal: str, zone: str, login: str) -> AccountState:
    """Find or begin an account; a changed login lifts a suspension and forgets what the old one was told."""
    with database.write() as db:
        row = db.execute("SELECT id, portal, login FROM account WHERE name = ?", (name,)).fetchone()
        if row is None:
            db.execute("INSERT INTO account (name, portal, zone, login) VALUES (?, ?, ?, ?)", (name, portal, zone, login))
        elif row[1:] != (portal, login):
            db.execute("DELETE FROM memory WHERE account = ?", (row[0],))
            db.execute(
                "UPDATE account SET portal = ?, zone = ?, login = ?, failures = 0, reason = '', message = '',"
                " next_visit = CASE WHEN suspended_until IS NULL THEN next_visit END, suspended_until = NULL WHERE id = ?",
                (portal, zone, login, row[0]),
            )
        else:
            db.execute("UPDATE account SET zone = ? WHERE id = ? AND zone <> ?", (zone, row[0], zone))
        return load_state(db, name)


def load_state(db: sqlite3.Connection, name: str) -> AccountState:
    """Read an account's state; an account never seen has an empty one."""
    asked = db.execute("SELECT * FROM account WHERE name = ?", (name,))
    if (row := asked.fetchone()) is None:
        return AccountState()
    kept = dict(zip((column[0] for column in asked.description), row, strict=True))
    instants: dict[str, Any] = {
        key: optional_from_ms(kept[key])
        for key in ("last_visit", "last_success", "last_new_data", "next_visit", "suspended_until")
    }
    plain = {key: kept[key] for key in ("duration", "failures", "reason", "message", "readings", "corrections", "thinned")}
    return AccountState(
        **instants,
        **plain,
        up=None if kept["up"] is None else bool(kept["up"]),
        notes=tuple(json.loads(kept["notes"])),
        holder=_parse_holder(json.loads(kept["holder"])),
    )


def save_health(db: sqlite3.Connection, name: str, state: AccountState) -> None:
    """Write an account's health (not its readings' counts, which `record` keeps)."""
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
    """Write by which login an account is visited: another process may have opened it with another one meanwhile."""
    db.execute("UPDATE account SET login = ? WHERE name = ? AND login <> ?", (login, name, login))


def suspend(db: sqlite3.Connection, name: str, reason: str, until: datetime) -> None:
    """Write that an account's login was refused, and nothing else of its health."""
    db.execute(
        "UPDATE account SET suspended_until = ?, up = 0, reason = 'login', message = ? WHERE name = ?",
        (to_ms(until), reason, name),
    )


def select_suspension(database: Database, name: str, login: str) -> tuple[datetime, str] | None:
    """Give until when an account is suspended and why, where it was this very login that was refused."""
    with database.read() as db:
        row = db.execute(
            "SELECT suspended_until, message FROM account WHERE name = ? AND login = ? AND suspended_until IS NOT NULL",
            (name, login),
        ).fetchone()
    return (from_ms(row[0]), row[1]) if row else None


def serialize_holder(holder: Holder) -> str:
    """Write a holder as JSON."""
    facts = {name: getattr(holder, name) for name in ("name", "company", "company_id", "customer_id", "person_id")}
    return json.dumps(facts | {"access_expires": optional_to_ms(holder.access_expires)})


def _parse_holder(kept: dict[str, Any]) -> Holder:
    return replace(Holder(), **kept | {"access_expires": optional_from_ms(kept.get("access_expires"))})


def select_account_id(db: sqlite3.Connection, name: str) -> int:
    """Give an account's number."""
    return int(db.execute("SELECT id FROM account WHERE name = ?", (name,)).fetchone()[0])


def put_value(db: sqlite3.Connection, account: int, key: str, value: object, expires_at: datetime | None) -> None:
    """Keep a JSON value in an account's memory, until `ends`."""
    db.execute(
        "INSERT OR REPLACE INTO memory (account, key, value, ends) VALUES (?, ?, ?, ?)",
        (account, key, json.dumps(value, ensure_ascii=False, separators=(",", ":")), optional_to_ms(expires_at)),
    )


class LedgerAccountStore:
    """An account's memory on disk: what a session reads and writes during a visit, at once and off the event loop."""

    def __init__(self, database: Database, account: str, cache: dict[str, Any] | None = None) -> None:
        self._database, self._account = database, account
        self.cache = {} if cache is None else cache
        """What a portal has worked out and holds in this process only."""

    async def get(self, key: str, now: datetime) -> Any | None:
        """Give the value kept under `key`, or None when there is none or it has ended."""
        return await asyncio.to_thread(self._get, key, to_ms(now))

    async def put(self, key: str, value: Any, expires_at: datetime | None = None) -> None:
        """Keep a JSON value, until `ends`."""
        await asyncio.to_thread(self._put, key, value, expires_at)

    async def delete(self, key: str) -> None:
        """Forget a value."""
        await asyncio.to_thread(self._delete, key)

    async def record_calls(self, quota: str, at: datetime, calls: int = 1) -> None:
        """Count calls against a budget."""
        await asyncio.to_thread(self._record_calls, quota, at, calls)

    async def count_calls(self, quota: str, since: datetime) -> int:
        """How many calls a budget counts since an instant."""
        return await asyncio.to_thread(self.count_calls_blocking, quota, since)

    def count_calls_blocking(self, quota: str, since: datetime) -> int:
        """Return the same, not for the event loop.

        What lies far ahead was counted by a wrong clock: such calls count as of the last call before them that does not.
        """
        far = to_ms(since + 2 * QUOTA_RETENTION)
        with self._database.read() as db:
            found = db.execute(_SPENT, {"budget": quota, "since": to_ms(since), "far": far, "name": self._account}).fetchone()
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


def select_imported_chunks(database: Database, account: str) -> set[str]:
    """Name the pieces of the past that an import has brought home."""
    with database.read() as db:
        found = db.execute(
            "SELECT piece FROM imported JOIN account ON account.id = imported.account WHERE account.name = ?", (account,)
        )
        return {piece for (piece,) in found}


def mark_chunk_imported(db: sqlite3.Connection, account: str, chunk: str) -> None:
    """Remember a piece of the past as brought home."""
    db.execute("INSERT OR IGNORE INTO imported (account, piece) SELECT id, ? FROM account WHERE name = ?", (chunk, account))


_SPENT = (
    "SELECT sum(calls) FROM spending JOIN account ON account.id = spending.account"
    " WHERE name = :name AND budget = :budget AND at >= :since AND (at < :far OR EXISTS ("
    " SELECT 1 FROM spending AS before WHERE before.account = spending.account AND before.budget = spending.budget"
    " AND before.at >= :since AND before.at < :far AND before.rowid < spending.rowid))"
)
