"""An import of an account's history in the foreground, and what a visit would read, without storing it."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from exporter.client.session import Session
from exporter.errors import (
    PortalError,
)
from exporter.ledger.feed_store import LedgerFeedStore
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges
from exporter.models import Reading
from exporter.portals.base import Portal
from exporter.progress import show_requests
from exporter.sync.engine import Engine
from exporter.sync.feeds import Feed, FeedResult, Period
from exporter.sync.importer import Importer, Progress


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Which days an import asks for."""

    first: date | None = None
    """None: as far back as the portal goes."""
    last: date | None = None
    again: bool = False
    """Also days that are complete and settled."""
    wait: bool = False
    """Wait until the portal's limits end instead of pausing."""


async def import_feeds(portal: Portal, ledger: Ledger, session: Session, options: ImportOptions, *, oldest: date | None) -> None:
    """Import the days of an account's feeds, and report the progress on stderr however it ends.

    `oldest` is the day before which nothing is asked for, unless the options have a first day. Raise LoginError,
    UnreachableError, LedgerError, and the first failure of a feed once the others are read; what was read is stored.
    """
    store = ledger.get_feed_store(portal.name, keep_personal=portal.config.personal_data)
    engine = Engine[Session](portal, store, every=portal.config.every, pace=portal.pace, oldest=None if options.first else oldest)
    with show_requests(f"importing {portal.name}") as show:
        importer = Importer[Session](
            engine,
            now=lambda: session.now,
            sleep=_sleep,
            first=options.first,
            last=options.last,
            again=options.again,
            wait=options.wait,
            report=lambda progress: show(progress.done, progress.total, progress.waits_until),
        )
        try:
            await importer.run(session)
        finally:
            progress = importer.progress
            _print_end(portal.name, progress, session.now)
    if progress.failures and not progress.paused:
        raise next(iter(progress.failures.values()))


def _print_end(account: str, progress: Progress, now: datetime) -> None:
    notes = dict.fromkeys([*progress.notes, *map(str, progress.refused.values())])
    lines = [*(f"note: {note}" for note in notes), describe_import(progress, now)]
    sys.stderr.write("".join(f"{account}: {line}\n" for line in lines))


def describe_import(progress: Progress, now: datetime) -> str:
    """Return how an import ended."""
    readings = f"{progress.new} readings new, {progress.corrected} corrected"
    if paused := progress.paused:
        when = f" after {now + paused.retry_after:%Y-%m-%d %H:%M} UTC" if paused.retry_after else " by itself"
        return f"paused: {progress} requests, {readings}; {paused}; `serve` continues{when}, and so does this command"
    return f"{progress} requests, {readings}"


class _DryFeedStore:
    """What is stored, and in memory what a visit would add to it."""

    def __init__(self, store: LedgerFeedStore) -> None:
        self._store = store
        self.readings: list[Reading] = []

    async def load_coverage(self) -> Mapping[str, str]:
        return await self._store.load_coverage()

    async def read_periods(self, feeds: Sequence[Feed], start: datetime, end: datetime) -> Mapping[str, Sequence[Period]]:
        return await self._store.read_periods(feeds, start, end)

    async def save(
        self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = ""
    ) -> LedgerChanges:
        self.readings += result.readings if result else ()
        return LedgerChanges()


async def read_feeds_dry(portal: Portal, ledger: Ledger, session: Session) -> tuple[list[Reading], list[PortalError]]:
    """Return what a visit would read of the feeds, and how they failed; nothing is stored."""
    if not portal.feeds():
        return [], []
    store = _DryFeedStore(ledger.get_feed_store(portal.name))
    engine = Engine[Session](portal, store, every=portal.config.every, pace=portal.pace)
    result = await engine.visit(session, session.now)
    return store.readings, [*([result.stopped] if result.stopped else []), *result.failures.values()]


async def _sleep(length: timedelta) -> None:
    await asyncio.sleep(length.total_seconds())
