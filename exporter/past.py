"""Bringing home the past: every piece that a portal still has, within its budget, stopped and continued at will."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import TypeVar

from exporter.duration import say_duration
from exporter.errors import EndOfPastError, NoDataError, RateLimitError, ResponseError, UnreachableError
from exporter.history.progress import progress
from exporter.ledger import Ledger
from exporter.model import Reading, Remember
from exporter.portals.base import Piece, Portal
from exporter.session import Session

OPEN = timedelta(days=14)
"""Days this young may still grow or change: their piece is done for today only."""
LONGEST_WAIT = timedelta(minutes=10)
"""A longer wait is better spent elsewhere: the import stops and says when to go on."""
RETRIES = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2))
"""Waits before trying again what was not reached."""
MOST_STRANGE = 3
"""So many answers in a row that we do not understand are no accident."""
Found = TypeVar("Found")
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Brought:
    """What an import has done so far."""

    pieces: int = 0
    done: int = 0
    """Pieces at home, those of earlier imports among them."""
    new: int = 0
    corrected: int = 0
    strange: list[ResponseError] = field(default_factory=list)
    """What pieces were answered with that we do not understand; they are asked again next time."""

    def __str__(self) -> str:
        return f"{self.done} of {self.pieces} pieces are home, {self.new} readings new, {self.corrected} corrected"


class Import:
    """One run of an import of an account's past."""

    def __init__(
        self, portal: Portal, ledger: Ledger, session: Session, sleep: Callable[[timedelta], Awaitable[None]] | None = None
    ) -> None:
        self._portal, self._ledger, self._session = portal, ledger, session
        self._sleep = sleep or _asleep
        self.brought = Brought()

    async def run(self, first: date | None, last: date | None) -> None:
        """Bring home days [first, last]; None is as far as the portal gives.

        Raises the portal's error that ended it early, LedgerError, and RateLimitError when it is better to come back later.
        What was brought until then is kept.
        """
        pieces = await self._trying(lambda: self._portal.pieces(self._session, first, last))
        names = await asyncio.to_thread(self._ledger.imported, self._portal.name)
        left = [piece for piece in pieces if names.isdisjoint(self._names(piece))]
        self.brought.pieces, self.brought.done = len(pieces), len(pieces) - len(left)
        with progress("importing", len(left), "pieces") as advance:
            await self._bring(left, advance)
        if self.brought.strange:
            raise self.brought.strange[0]

    async def _bring(self, pieces: Sequence[Piece], advance: Callable[[int], None]) -> None:
        ended: set[str] = set()
        in_a_row = 0
        for piece in pieces:
            if piece.line in ended:
                self.brought.pieces -= 1
            else:
                try:
                    in_a_row = 0 if await self._piece(piece) else in_a_row + 1
                except EndOfPastError:
                    ended.add(piece.line)
                    self.brought.pieces -= 1
            if in_a_row == MOST_STRANGE:
                raise self.brought.strange[-1]
            advance(1)

    async def _piece(self, piece: Piece) -> bool:
        """Bring one piece home; tells whether its answer was understood."""
        told: Sequence[Reading | Remember] = ()
        try:
            told = await self._trying(partial(self._portal.past, self._session, piece))
        except EndOfPastError:
            raise
        except NoDataError:
            pass
        except ResponseError as error:
            self.brought.strange.append(error)
            return False
        name = self._names(piece)[0 if self._settled(piece) else 1]
        done = await asyncio.to_thread(self._ledger.record_piece, self._portal.name, name, told, at=self._session.now)
        self.brought.done += 1
        self.brought.new += done.new
        self.brought.corrected += done.corrected
        return True

    async def _trying(self, ask: Callable[[], Awaitable[Found]]) -> Found:
        """Ask, and again after a while where the portal was not reached, or wants a short rest."""
        retries = iter(RETRIES)
        while True:
            try:
                return await ask()
            except UnreachableError as error:
                wait = next(retries, None)
                if wait is None:
                    raise
                log.warning("account %s: %s; trying again in %s", self._portal.name, error, say_duration(wait))
            except RateLimitError as error:
                wait = self._rest(error)
            await self._sleep(wait)

    def _rest(self, error: RateLimitError) -> timedelta:
        name, wait = self._portal.name, error.wait
        if wait is None or wait > LONGEST_WAIT:
            when = f" after {self._session.now + wait:%Y-%m-%d %H:%M} UTC" if wait else " later"
            raise RateLimitError(f"{error}; the same command goes on{when}", wait) from None
        log.info("account %s: %s; going on in %s", name, error, say_duration(wait))
        return max(wait, timedelta(seconds=1))

    def _settled(self, piece: Piece) -> bool:
        return piece.last < self._session.now.astimezone(self._portal.zone).date() - OPEN

    def _names(self, piece: Piece) -> tuple[str, str]:
        """Name a piece that is done for ever, and one that is done for today."""
        return piece.key, f"{piece.key} on {self._session.now.astimezone(self._portal.zone).date()}"


async def _asleep(length: timedelta) -> None:
    await asyncio.sleep(length.total_seconds())
