"""The stored coverage of feeds: which days were asked, and the notes of each feed.

It is written in the transaction of the readings that a request brought, so it never claims more than is stored.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from exporter.ledger.database import to_ms
from exporter.sync.coverage import Coverage

NOTE_LIFETIME = timedelta(days=1)
"""A note stays until its feed is answered without it, and at least so long."""


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


def select_feed_notes(db: sqlite3.Connection, account: str) -> list[str]:
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


def forget_refusals(db: sqlite3.Connection, account: int) -> None:
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
