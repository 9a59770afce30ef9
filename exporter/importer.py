"""Bringing home the past: every piece that a portal still has, within its budget, stopped and continued at will."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import TypeVar

from exporter.client.session import Session
from exporter.duration import format_duration
from exporter.errors import HistoryExhaustedError, NoDataError, RateLimitError, ResponseError, UnavailableError, UnreachableError
from exporter.ledger.ledger import Ledger
from exporter.models import Reading, StateUpdate
from exporter.portals.base import BackfillChunk, Portal
from exporter.progress import show_progress

SETTLING_PERIOD = timedelta(days=14)
"""Days this young may still grow or change: their piece is done for today only."""
MAX_WAIT = timedelta(minutes=10)
"""A longer wait is better spent elsewhere: the import stops and says when to go on."""
RETRY_WAITS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2))
"""Waits before trying again what was not reached."""
MAX_CONSECUTIVE_ERRORS = 3
"""So many answers in a row that we do not understand are no accident."""
Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(slots=True)
class ImportProgress:
    """What an import has done so far."""

    chunks: int = 0
    chunks_done: int = 0
    """Pieces at home, those of earlier imports among them."""
    new_readings: int = 0
    corrected_readings: int = 0
    errors: list[ResponseError] = field(default_factory=list)
    """What pieces were answered with that we do not understand; they are asked again next time."""

    def __str__(self) -> str:
        done = f"{self.chunks_done} of {self.chunks} pieces are home"
        return f"{done}, {self.new_readings} readings new, {self.corrected_readings} corrected"


class HistoryImport:
    """One run of an import of an account's past."""

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
        """Bring home days [first, last]; None is as far as the portal gives.

        Raises the portal's error that ended it early, LedgerError, and RateLimitError when it is better to come back later.
        What was brought until then is kept.
        """
        pieces = await self._retry(lambda: self._portal.list_backfill_chunks(self._session, first, last))
        names = await asyncio.to_thread(self._ledger.get_imported_chunks, self._portal.name)
        left = [piece for piece in pieces if names.isdisjoint(self._chunk_names(piece))]
        self.progress.chunks, self.progress.chunks_done = len(pieces), len(pieces) - len(left)
        with nullcontext(lambda _: None) if self._quiet else show_progress("importing", len(left), "pieces") as advance:
            await self._import_chunks(left, advance)
        if self.progress.errors:
            raise self.progress.errors[0]

    async def _import_chunks(self, chunks: Sequence[BackfillChunk], advance: Callable[[int], None]) -> None:
        ended: set[str] = set()
        in_a_row = 0
        for piece in chunks:
            if piece.feed in ended:
                self.progress.chunks -= 1
            else:
                try:
                    in_a_row = 0 if await self._import_chunk(piece) else in_a_row + 1
                except (HistoryExhaustedError, UnavailableError):
                    ended.add(piece.feed)
                    self.progress.chunks -= 1
            if in_a_row == MAX_CONSECUTIVE_ERRORS:
                raise self.progress.errors[-1]
            advance(1)

    async def _import_chunk(self, chunk: BackfillChunk) -> bool:
        """Bring one piece home; tells whether its answer was understood."""
        told: Sequence[Reading | StateUpdate] = ()
        try:
            told = await self._retry(partial(self._portal.fetch_backfill_chunk, self._session, chunk))
        except (HistoryExhaustedError, UnavailableError):
            raise
        except NoDataError:
            pass
        except ResponseError as error:
            self.progress.errors.append(error)
            return False
        name = self._chunk_names(chunk)[0 if self._is_settled(chunk) else 1]
        done = await asyncio.to_thread(self._ledger.record_chunk, self._portal.name, name, told, at=self._session.now)
        self.progress.chunks_done += 1
        self.progress.new_readings += done.new
        self.progress.corrected_readings += done.corrected
        return True

    async def _retry(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Ask, and again after a while where the portal was not reached, or wants a short rest."""
        retries = iter(RETRY_WAITS)
        while True:
            try:
                return await request()
            except UnreachableError as error:
                wait = next(retries, None)
                if wait is None:
                    raise
                log.warning("account %s: %s; trying again in %s", self._portal.name, error, format_duration(wait))
            except RateLimitError as error:
                wait = self._rate_limit_wait(error)
            await self._sleep(wait)

    def _rate_limit_wait(self, error: RateLimitError) -> timedelta:
        name, wait = self._portal.name, error.retry_after
        if wait is None or wait > MAX_WAIT:
            when = f" after {self._session.now + wait:%Y-%m-%d %H:%M} UTC" if wait else " later"
            raise RateLimitError(f"{error}; the same command goes on{when}", wait) from None
        log.info("account %s: %s; going on in %s", name, error, format_duration(wait))
        return max(wait, timedelta(seconds=1))

    def _is_settled(self, chunk: BackfillChunk) -> bool:
        return chunk.last < self._session.now.astimezone(self._portal.zone).date() - SETTLING_PERIOD

    def _chunk_names(self, chunk: BackfillChunk) -> tuple[str, str]:
        """Name a piece that is done for ever, and one that is done for today."""
        return chunk.key, f"{chunk.key} on {self._session.now.astimezone(self._portal.zone).date()}"


async def _sleep(length: timedelta) -> None:
    await asyncio.sleep(length.total_seconds())
