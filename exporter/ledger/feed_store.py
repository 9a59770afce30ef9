"""What the sync engine reads and writes in the ledger: coverage, and the periods of stored readings."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from exporter.ledger.account_state import select_coverage
from exporter.ledger.database import Database, from_ms, to_ms
from exporter.ledger.writer import LedgerChanges, merge_changes
from exporter.sync.feeds import Feed, FeedResult, Form, Period

MAX_SERIES_PER_QUERY = 500
WriteResult = Callable[[Mapping[str, str], FeedResult | None, datetime, str], LedgerChanges]


class LedgerFeedStore:
    """What the engine stores of one account; `write` is the ledger's transaction."""

    def __init__(self, database: Database, account: str, write: WriteResult) -> None:
        self._database, self._account, self._write = database, account, write
        self._changes: list[LedgerChanges] = []

    async def load_coverage(self) -> Mapping[str, str]:
        """Return the stored coverage of all feeds, by key."""
        return await asyncio.to_thread(self._load_coverage)

    async def read_periods(self, feeds: Sequence[Feed], start: datetime, end: datetime) -> Mapping[str, Sequence[Period]]:
        """Return by key what is stored of each feed's readings that begin in [start, end): sorted, each period once."""
        return await asyncio.to_thread(self._read_periods, feeds, to_ms(start), to_ms(end))

    async def save(
        self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = ""
    ) -> LedgerChanges:
        """Store coverages and what a request brought, in one transaction."""
        changes = await asyncio.to_thread(self._write, coverage, result, at, refusal)
        if result is not None or refusal:
            self._changes.append(changes)
        return changes

    def collect_changes(self) -> LedgerChanges:
        """Return what was changed since the last call."""
        collected, self._changes = self._changes, []
        return merge_changes(collected)

    def _load_coverage(self) -> dict[str, str]:
        with self._database.read() as db:
            return select_coverage(db, self._account)

    def _read_periods(self, feeds: Sequence[Feed], start: int, end: int) -> dict[str, list[Period]]:
        with self._database.read() as db:
            series = db.execute(_SELECT_SERIES, (self._account,)).fetchall()
            return {feed.key: sorted(set(_select_periods(db, feed, series, start, end))) for feed in feeds}


def _select_periods(
    db: sqlite3.Connection, feed: Feed, series: Sequence[tuple[int, str, str, str, str]], start: int, end: int
) -> Iterator[Period]:
    form = "index" if feed.form is Form.VISIT else feed.form.value
    ids = [
        row_id
        for row_id, usage_point, direction, series_form, resolution in series
        if series_form == form
        and (not feed.usage_points or usage_point in feed.usage_points)
        and (feed.direction is None or form == "peak" or direction == feed.direction)
        and (form == "index" or not feed.resolutions or resolution in feed.resolutions)
    ]
    for place in range(0, len(ids), MAX_SERIES_PER_QUERY):
        some = ids[place : place + MAX_SERIES_PER_QUERY]
        rows = db.execute(_SELECT_READINGS.format(", ".join("?" * len(some))), (*some, start, end))
        if form == "peak":
            yield from ((at // 1000, _peak_end(feed, at)) for at, _ in rows)
        else:
            yield from ((at // 1000, at // 1000 + (span or 0)) for at, span in rows)


def _peak_end(feed: Feed, at: int) -> int:
    """Return when the month or day that begins at `at` ends; of a peak the ledger has the instant instead."""
    if feed.resolution == "P1D":
        return feed.start(feed.day_at(at // 1000) + 1)
    local = from_ms(at).astimezone(feed.zone)
    following = (local.replace(day=28) + timedelta(days=6)).replace(day=local.day, tzinfo=feed.zone)
    return round(following.astimezone(UTC).timestamp())


_SELECT_SERIES = (
    "SELECT series.id, usage_point, direction, form, resolution FROM series JOIN point ON point.id = series.point"
    " JOIN account ON account.id = point.account WHERE account.name = ?"
)
_SELECT_READINGS = "SELECT DISTINCT at, span FROM reading WHERE series IN ({}) AND at >= ? AND at < ?"
