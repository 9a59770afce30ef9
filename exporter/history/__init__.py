"""The true-time series: every reading on the instant it describes, for remote read, export and remote write."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from exporter.history.matchers import Shelf
from exporter.history.read import LARGEST_REQUEST, RequestError, answer, understand
from exporter.history.series import Aliases, catalogue
from exporter.history.settings import HistorySettings
from exporter.ledger import Ledger, Look, to_ms

__all__ = ["LARGEST_REQUEST", "Aliases", "History", "HistorySettings", "RequestError"]

THREADS = 2
MOST_READS = 4
"""Reads under way at once; further ones wait."""


class History:
    """The history of all accounts, read off the event loop by a few threads."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger, self._clock = ledger, clock
        self._settings = HistorySettings()
        self._aliases: Aliases = {}
        self._shelf: tuple[tuple[int, ...], Aliases, Shelf] | None = None
        self._threads = ThreadPoolExecutor(THREADS, "history")
        self._places = asyncio.Semaphore(MOST_READS)

    def follow(self, settings: HistorySettings, aliases: Aliases) -> None:
        """Take the configuration's word from now on."""
        self._settings, self._aliases = settings, aliases

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def read(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Answer a remote read, a piece at a time.

        Raises RequestError and LedgerError, both before the first piece unless the ledger breaks under way.
        """
        async with self._places:
            loop, pieces = asyncio.get_running_loop(), _Pieces(self._answer(body))
            try:
                while piece := await loop.run_in_executor(self._threads, pieces.next):
                    yield piece
            finally:
                loop.run_in_executor(self._threads, pieces.close)

    def _answer(self, body: bytes) -> Generator[bytes, None, None]:
        queries = understand(body)
        with self._ledger.look() as look:
            yield from answer(look, self._arranged(look), queries, self._settings.max_samples, to_ms(self._clock()))

    def _arranged(self, look: Look) -> Shelf:
        """Give the list of series, made anew when it has changed."""
        shape, aliases, kept = look.shape(), self._aliases, self._shelf
        if kept is None or kept[:2] != (shape, aliases):
            kept = self._shelf = shape, aliases, Shelf(catalogue(look, aliases))
        return kept[2]


class _Pieces:
    """A generator that threads take turns in: who stops listening may do so while the next piece is being made."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces, self._turn = pieces, threading.Lock()

    def next(self) -> bytes:
        """Make the next piece; none is empty but the one after the last."""
        with self._turn:
            return next(self._pieces, b"")

    def close(self) -> None:
        with self._turn:
            self._pieces.close()
