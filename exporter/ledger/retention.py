"""Retention: old index readings are thinned to the last one of each local day; nothing else is deleted.

Series are thinned in small transactions, so that no visit waits; each series stores how far it was thinned.

Deletion is final, so one wrong clock must not decide how old a reading is: see `select_reference_times`, `delete_old_calls`.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger.account_state import QUOTA_RETENTION
from exporter.ledger.database import DAY_MS, from_ms, to_ms

MAX_SERIES_PER_TRANSACTION, MAX_READINGS_PER_TRANSACTION = 500, 5000
"""A transaction ends after so many."""
MIN_FREE_PAGES_RATIO = 10
"""The file is vacuumed when more than one page in so many is free; until then new readings reuse the free pages."""
RECENT_DAYS = 7
"""So many of the newest days with visits or calls never count as past."""


def select_superfluous(instants: Sequence[int], zone: ZoneInfo) -> list[int]:
    """Return the instants (milliseconds, in order) that have a later one on the same local day."""
    days = [from_ms(at).astimezone(zone).date() for at in instants]
    return [at for at, day, following in zip(instants, days, days[1:], strict=False) if day == following]


def select_reference_times(db: sqlite3.Connection, now: datetime) -> dict[int, datetime]:
    """Return account ID -> the instant from which the age of its readings counts, at most `now`.

    It is no later than the account's newest reading, nor than the seventh newest day with a visit that changed something: a
    clock that is fast deletes nothing unless it is fast on seven days, and the portal's clock too. An account without readings
    has no reference time, nor has any account before there were visits on seven days.
    """
    days = _select_recent_days(db, "visit")
    if len(days) < RECENT_DAYS:
        return {}
    latest = min(to_ms(now), days[-1] * DAY_MS)
    return {account: from_ms(min(at, latest)) for account, at in db.execute(_SELECT_NEWEST) if at is not None}


def thin_readings(
    db: sqlite3.Connection, reference_times: Mapping[int, datetime], keep_days: int, after_series: int
) -> int | None:
    """Thin the next few series after `after_series`; return the last one's ID, or None when there are no more."""
    rows = db.execute(_SELECT_INDEX_SERIES, (after_series, MAX_SERIES_PER_TRANSACTION)).fetchall()
    deleted = 0
    for series, account, zone, begin in rows:
        if account not in reference_times:
            continue
        end = _local_midnight(reference_times[account], keep_days, ZoneInfo(zone))
        if begin < end:
            deleted += _thin_series(db, series, account, (begin, end), ZoneInfo(zone))
        if deleted >= MAX_READINGS_PER_TRANSACTION:
            return int(series)
    return int(rows[-1][0]) if len(rows) == MAX_SERIES_PER_TRANSACTION else None


def delete_old_calls(db: sqlite3.Connection, now: datetime) -> None:
    """Delete calls that are too old to count against any quota, by the clock and by the seventh newest day with calls."""
    days = _select_recent_days(db, "spending")
    if len(days) == RECENT_DAYS:
        latest = min(to_ms(now), days[-1] * DAY_MS)
        db.execute("DELETE FROM spending WHERE at < ?", (latest - round(QUOTA_RETENTION / timedelta(milliseconds=1)),))


def vacuum(db: sqlite3.Connection, max_pages: int = 500) -> bool:
    """Release some free pages to the disk; return whether more remain."""
    free, all_pages = _count_pages(db)
    if free * MIN_FREE_PAGES_RATIO <= all_pages:
        return False
    for _ in range(max_pages):  # one page each: Python executes only one step of a statement without columns
        db.execute("PRAGMA incremental_vacuum(1)")
    return _count_pages(db)[0] < free  # a file that could not be rewritten at startup frees nothing


def _select_recent_days(db: sqlite3.Connection, table: str) -> list[int]:
    """Return the newest UTC days with rows, newest first, as days since 1970."""
    rows = db.execute(f"SELECT DISTINCT at / {DAY_MS} AS day FROM {table} ORDER BY day DESC LIMIT {RECENT_DAYS}")
    return [day for (day,) in rows]


def _count_pages(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the numbers of free pages and of all pages."""
    (free,), (all_pages,) = (db.execute(f"PRAGMA {what}").fetchone() for what in ("freelist_count", "page_count"))
    return free, all_pages


def _thin_series(db: sqlite3.Connection, series: int, account: int, span: tuple[int, int], zone: ZoneInfo) -> int:
    instants = [at for (at,) in db.execute(_SELECT_INSTANTS, (series, *span))]
    superfluous = select_superfluous(instants, zone)
    db.executemany("DELETE FROM reading WHERE series = ? AND at = ?", ((series, at) for at in superfluous))
    db.execute("UPDATE series SET thinned = ? WHERE id = ?", (span[1], series))
    count = len(superfluous)
    if count:
        db.execute("UPDATE account SET readings = readings - ?, thinned = thinned + ? WHERE id = ?", (count, count, account))
    return count


def _local_midnight(now: datetime, keep_days: int, zone: ZoneInfo) -> int:
    """Return the local midnight before which readings are thinned: a day is thinned as a whole."""
    day = now.astimezone(zone).date() - timedelta(days=keep_days)
    return to_ms(datetime.combine(day, time(), zone))


_SELECT_INDEX_SERIES = (
    "SELECT series.id, account.id, zone, thinned_to FROM (SELECT id, point, thinned AS thinned_to FROM series"
    " WHERE id > ? AND form = 'index' ORDER BY id LIMIT ?) AS series"
    " JOIN point ON point.id = series.point JOIN account ON account.id = point.account ORDER BY series.id"
)
_SELECT_NEWEST = (
    "SELECT point.account, max((SELECT max(at) FROM reading WHERE reading.series = series.id))"
    " FROM series JOIN point ON point.id = series.point GROUP BY point.account"
)
_SELECT_INSTANTS = "SELECT at FROM reading WHERE series = ? AND at >= ? AND at < ? ORDER BY at"
