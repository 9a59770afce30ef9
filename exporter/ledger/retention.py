"""Counters' readings as they grow old: kept as read for a while, then the last one of each local day. Nothing else goes.

Done series by series in small transactions, so that no visit waits; each series remembers how far it has come.

What goes is gone, so no single reading of the clock decides how old something is: see `present` and `clear_spending`.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger.account_state import QUOTA_RETENTION
from exporter.ledger.database import from_ms, to_ms

MAX_SERIES_PER_TRANSACTION, MAX_READINGS_PER_TRANSACTION = 500, 5000
"""After so many a transaction ends."""
MIN_FREE_PAGES_RATIO = 10
"""The file is made shorter when more than one page in so many is free; until then new readings take the room."""
DAYS_SEEN = 7
"""So many of the newest days with something written are not believed to be past."""
DAY = 86_400_000


def select_superfluous(instants: Sequence[int], zone: ZoneInfo) -> list[int]:
    """Give those instants (milliseconds, in order) that have a later one on the same local day."""
    days = [from_ms(at).astimezone(zone).date() for at in instants]
    return [at for at, day, following in zip(instants, days, days[1:], strict=False) if day == following]


def present(db: sqlite3.Connection, now: datetime) -> dict[int, datetime]:
    """Return account -> the instant that the age of its readings counts from, at most `now`.

    It is no later than the account's newest reading, nor than the seventh newest day with a visit that brought something:
    a clock that runs ahead would have to do so on seven days, and the portal's with it. An account without readings, and
    all before there were visits on seven days, are left out.
    """
    days = [day for (day,) in db.execute(f"SELECT DISTINCT at / {DAY} AS day FROM visit ORDER BY day DESC LIMIT {DAYS_SEEN}")]
    if len(days) < DAYS_SEEN:
        return {}
    latest = min(to_ms(now), days[-1] * DAY)
    return {account: from_ms(min(at, latest)) for account, at in db.execute(_NEWEST) if at is not None}


def thin_readings(db: sqlite3.Connection, present: Mapping[int, datetime], keep_days: int, after_series: int) -> int | None:
    """Thin the next few series with a number above `after`; gives how far it came, or None when there are no more.

    Ages count from each account's `present`.
    """
    rows = db.execute(_SELECT_INDEX_SERIES, (after_series, MAX_SERIES_PER_TRANSACTION)).fetchall()
    gone = 0
    for number, account, zone, begin in rows:
        if account not in present:
            continue
        end = _local_midnight(present[account], keep_days, ZoneInfo(zone))
        if begin < end:
            gone += _thin_series(db, number, account, (begin, end), ZoneInfo(zone))
        if gone >= MAX_READINGS_PER_TRANSACTION:
            return int(number)
    return int(rows[-1][0]) if len(rows) == MAX_SERIES_PER_TRANSACTION else None


def clear_spending(db: sqlite3.Connection, now: datetime) -> None:
    """Forget calls that are too old to count against any budget, by the clock and by the seventh newest day with calls."""
    days = [day for (day,) in db.execute(f"SELECT DISTINCT at / {DAY} AS day FROM spending ORDER BY day DESC LIMIT {DAYS_SEEN}")]
    if len(days) == DAYS_SEEN:
        latest = min(to_ms(now), days[-1] * DAY)
        db.execute("DELETE FROM spending WHERE at < ?", (latest - round(QUOTA_RETENTION / timedelta(milliseconds=1)),))


def vacuum(db: sqlite3.Connection, max_pages: int = 500) -> bool:
    """Give some free pages back to the disk; says whether there is more of it to do."""
    free, all_pages = _count_pages(db)
    if free * MIN_FREE_PAGES_RATIO <= all_pages:
        return False
    for _ in range(max_pages):  # one at a time: Python takes one step of a statement without columns, and each frees a page
        db.execute("PRAGMA incremental_vacuum(1)")
    return _count_pages(db)[0] < free  # a file that could not be written anew at the start frees nothing


def _count_pages(db: sqlite3.Connection) -> tuple[int, int]:
    """Give how many pages are free, and how many there are."""
    (free,), (all_pages,) = (db.execute(f"PRAGMA {what}").fetchone() for what in ("freelist_count", "page_count"))
    return free, all_pages


def _thin_series(db: sqlite3.Connection, series: int, account: int, span: tuple[int, int], zone: ZoneInfo) -> int:
    instants = [at for (at,) in db.execute(_SELECT_INSTANTS, (series, *span))]
    gone = select_superfluous(instants, zone)
    db.executemany("DELETE FROM reading WHERE series = ? AND at = ?", ((series, at) for at in gone))
    db.execute("UPDATE series SET thinned = ? WHERE id = ?", (span[1], series))
    if gone:
        db.execute(
            "UPDATE account SET readings = readings - ?, thinned = thinned + ? WHERE id = ?", (len(gone), len(gone), account)
        )
    return len(gone)


def _local_midnight(now: datetime, keep_days: int, zone: ZoneInfo) -> int:
    """Give the local midnight before which readings are thinned: no day is ever thinned in halves."""
    day = now.astimezone(zone).date() - timedelta(days=keep_days)
    return to_ms(datetime.combine(day, time(), zone))


_SELECT_INDEX_SERIES = (
    "SELECT series.id, account.id, zone, thinned_to FROM (SELECT id, point, thinned AS thinned_to FROM series"
    " WHERE id > ? AND form = 'index' ORDER BY id LIMIT ?) AS series"
    " JOIN point ON point.id = series.point JOIN account ON account.id = point.account ORDER BY series.id"
)
_NEWEST = (
    "SELECT point.account, max((SELECT max(at) FROM reading WHERE reading.series = series.id))"
    " FROM series JOIN point ON point.id = series.point GROUP BY point.account"
)
_SELECT_INSTANTS = "SELECT at FROM reading WHERE series = ? AND at >= ? AND at < ? ORDER BY at"
