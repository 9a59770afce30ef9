"""Counters' readings as they grow old: kept as read for a while, then the last one of each local day. Nothing else goes.

Done series by series in small transactions, so that no visit waits; each series remembers how far it has come.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger.instants import from_ms, to_ms

MOST_SERIES, MOST_READINGS = 500, 5000
"""After so many a transaction ends."""
FREE = 10
"""The file is made shorter when more than one page in so many is free; until then new readings take the room."""


def superfluous(instants: Sequence[int], zone: ZoneInfo) -> list[int]:
    """Give those instants (milliseconds, in order) that have a later one on the same local day."""
    days = [from_ms(at).astimezone(zone).date() for at in instants]
    return [at for at, day, following in zip(instants, days, days[1:], strict=False) if day == following]


def thin(db: sqlite3.Connection, now: datetime, days: int, after: int) -> int | None:
    """Thin the next few series with a number above `after`; gives how far it came, or None when there are no more."""
    rows = db.execute(_SERIES, (after, MOST_SERIES)).fetchall()
    gone = 0
    for number, account, zone, begin in rows:
        end = _midnight(now, days, ZoneInfo(zone))
        if begin < end:
            gone += _thin_one(db, number, account, (begin, end), ZoneInfo(zone))
        if gone >= MOST_READINGS:
            return int(number)
    return int(rows[-1][0]) if len(rows) == MOST_SERIES else None


def shorten(db: sqlite3.Connection, pages: int = 500) -> bool:
    """Give some free pages back to the disk; says whether there is more of it to do."""
    free, all_pages = _pages(db)
    if free * FREE <= all_pages:
        return False
    for _ in range(pages):  # one at a time: Python takes one step of a statement without columns, and each frees a page
        db.execute("PRAGMA incremental_vacuum(1)")
    return _pages(db)[0] < free  # a file that could not be written anew at the start frees nothing


def _pages(db: sqlite3.Connection) -> tuple[int, int]:
    """Give how many pages are free, and how many there are."""
    (free,), (all_pages,) = (db.execute(f"PRAGMA {what}").fetchone() for what in ("freelist_count", "page_count"))
    return free, all_pages


def _thin_one(db: sqlite3.Connection, series: int, account: int, span: tuple[int, int], zone: ZoneInfo) -> int:
    instants = [at for (at,) in db.execute(_INSTANTS, (series, *span))]
    gone = superfluous(instants, zone)
    db.executemany("DELETE FROM reading WHERE series = ? AND at = ?", ((series, at) for at in gone))
    db.execute("UPDATE series SET thinned = ? WHERE id = ?", (span[1], series))
    if gone:
        db.execute(
            "UPDATE account SET readings = readings - ?, thinned = thinned + ? WHERE id = ?", (len(gone), len(gone), account)
        )
    return len(gone)


def _midnight(now: datetime, days: int, zone: ZoneInfo) -> int:
    """Give the local midnight before which readings are thinned: no day is ever thinned in halves."""
    day = now.astimezone(zone).date() - timedelta(days=days)
    return to_ms(datetime.combine(day, time(), zone))


_SERIES = (
    "SELECT series.id, account.id, zone, thinned_to FROM (SELECT id, point, thinned AS thinned_to FROM series"
    " WHERE id > ? AND form = 'index' ORDER BY id LIMIT ?) AS series"
    " JOIN point ON point.id = series.point JOIN account ON account.id = point.account ORDER BY series.id"
)
_INSTANTS = "SELECT at FROM reading WHERE series = ? AND at >= ? AND at < ? ORDER BY at"
