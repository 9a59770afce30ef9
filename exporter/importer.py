"""Import of past readings: every chunk that a portal still has, within its quota, interruptible at any time."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import TypeVar

from exporter.client.session import Session
from exporter.duration import format_duration
from exporter.errors import (
    HistoryExhaustedError,
    NoDataError,
    PortalError,
    RateLimitError,
    ResponseError,
    UnavailableError,
    UnreachableError,
)
from exporter.ledger.feed_store import LedgerFeedStore
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges
from exporter.models import Reading, StateUpdate
from exporter.portals.base import BackfillChunk, Portal
from exporter.progress import show_progress, show_requests
from exporter.sync.engine import Engine
from exporter.sync.feeds import Feed, FeedResult, Period
from exporter.sync.importer import Importer, Progress

SETTLING_PERIOD = timedelta(days=14)
"""Days younger than this may still change: their chunk is done for today only."""
MAX_WAIT = timedelta(minutes=10)
"""For a longer wait the import stops and reports when to continue."""
RETRY_WAITS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2))
"""Waits between attempts to reach the portal."""
MAX_CONSECUTIVE_ERRORS = 3
"""After this many responses in a row that cannot be parsed, the import stops."""
Result = TypeVar("Result")
log = logging.getLogger(__name__)


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


async def import_feeds(
    portal: Portal, ledger: Ledger, session: Session, options: ImportOptions, *, oldest: date | None, quiet: bool = False
) -> None:
    """Import the days of an account's feeds, and report the progress on stderr however it ends, unless `quiet`.

    `oldest` is the day before which nothing is asked for, unless the options have a first day. Raise LoginError,
    UnreachableError, LedgerError, and the first failure of a feed once the others are read; what was read is stored.
    """
    store = ledger.get_feed_store(portal.name, keep_personal=portal.personal_data)
    engine = Engine[Session](portal, store, every=portal.every, pace=portal.pace, oldest=None if options.first else oldest)
    with nullcontext(lambda *_: None) if quiet else show_requests(f"importing {portal.name}") as show:
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
            if not quiet:
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
    engine = Engine[Session](portal, store, every=portal.every, pace=portal.pace)
    result = await engine.visit(session, session.now)
    return store.readings, [*([result.stopped] if result.stopped else []), *result.failures.values()]


@dataclass(slots=True)
class ImportProgress:
    """The progress of an import."""

    chunks: int = 0
    chunks_done: int = 0
    """Chunks imported, including those of earlier imports."""
    new_readings: int = 0
    corrected_readings: int = 0
    errors: list[ResponseError] = field(default_factory=list)
    """Errors of chunks whose response cannot be parsed; they are requested again next time."""

    def __str__(self) -> str:
        readings = f"{self.new_readings} readings new, {self.corrected_readings} corrected"
        return f"{self.chunks_done} of {self.chunks} chunks imported, {readings}"


class HistoryImport:
    """One run of an import of an account's past readings."""

    def __init__(
        self,
        portal: Portal,
        ledger: Ledger,
        session: Session,
        sleep: Callable[[timedelta], Awaitable[None]] | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        self._portal, self._ledger, self._session = portal, ledger, session
        self._sleep, self._quiet = sleep or _sleep, quiet
        self.progress = ImportProgress()

    async def run(self, first: date | None, last: date | None) -> None:
        """Import days [first, last]; None is as far as the portal goes.

        Raise the portal's error that ended the import early, LedgerError, and RateLimitError if it is to be continued later.
        What was imported until then is stored.
        """
        chunks = await self._retry(lambda: self._portal.list_backfill_chunks(self._session, first, last))
        names = await asyncio.to_thread(self._ledger.get_imported_chunks, self._portal.name)
        missing = [chunk for chunk in chunks if names.isdisjoint(self._chunk_names(chunk))]
        self.progress.chunks, self.progress.chunks_done = len(chunks), len(chunks) - len(missing)
        with nullcontext(lambda _: None) if self._quiet else show_progress("importing", len(missing), "chunks") as advance:
            await self._import_chunks(missing, advance)
        if self.progress.errors:
            raise self.progress.errors[0]

    async def _import_chunks(self, chunks: Sequence[BackfillChunk], advance: Callable[[int], None]) -> None:
        ended_feeds: set[str] = set()
        consecutive_errors = 0
        for chunk in chunks:
            if chunk.feed in ended_feeds:
                self.progress.chunks -= 1
            else:
                try:
                    consecutive_errors = 0 if await self._import_chunk(chunk) else consecutive_errors + 1
                except (HistoryExhaustedError, UnavailableError):
                    ended_feeds.add(chunk.feed)
                    self.progress.chunks -= 1
            if consecutive_errors == MAX_CONSECUTIVE_ERRORS:
                raise self.progress.errors[-1]
            advance(1)

    async def _import_chunk(self, chunk: BackfillChunk) -> bool:
        """Import one chunk; return whether its response could be parsed."""
        readings: Sequence[Reading | StateUpdate] = ()
        try:
            readings = await self._retry(partial(self._portal.fetch_backfill_chunk, self._session, chunk))
        except (HistoryExhaustedError, UnavailableError):
            raise
        except NoDataError:
            pass
        except ResponseError as error:
            self.progress.errors.append(error)
            return False
        name = self._chunk_names(chunk)[0 if self._is_settled(chunk) else 1]
        changes = await asyncio.to_thread(self._ledger.record_chunk, self._portal.name, name, readings, at=self._session.now)
        self.progress.chunks_done += 1
        self.progress.new_readings += changes.new
        self.progress.corrected_readings += changes.corrected
        return True

    async def _retry(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Send a request; repeat it after a wait if the portal was not reached or asks for a short one."""
        retries = iter(RETRY_WAITS)
        while True:
            try:
                return await request()
            except UnreachableError as error:
                wait = next(retries, None)
                if wait is None:
                    raise
                log.warning("account %s: %s; retrying in %s", self._portal.name, error, format_duration(wait))
            except RateLimitError as error:
                wait = self._rate_limit_wait(error)
            await self._sleep(wait)

    def _rate_limit_wait(self, error: RateLimitError) -> timedelta:
        name, wait = self._portal.name, error.retry_after
        if wait is None or wait > MAX_WAIT:
            when = f" after {self._session.now + wait:%Y-%m-%d %H:%M} UTC" if wait else " later"
            raise RateLimitError(f"{error}; run the same command{when} to continue", wait) from None
        log.info("account %s: %s; continuing in %s", name, error, format_duration(wait))
        return max(wait, timedelta(seconds=1))

    def _is_settled(self, chunk: BackfillChunk) -> bool:
        return chunk.last < self._session.now.astimezone(self._portal.zone).date() - SETTLING_PERIOD

    def _chunk_names(self, chunk: BackfillChunk) -> tuple[str, str]:
        """Return the names under which a chunk is recorded as done for ever, and as done for today."""
        return chunk.key, f"{chunk.key} on {self._session.now.astimezone(self._portal.zone).date()}"


async def _sleep(length: timedelta) -> None:
    await asyncio.sleep(length.total_seconds())
