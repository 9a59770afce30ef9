"""The true-time series: every reading on the instant it describes, for remote read, export and remote write."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import datetime

from exporter.errors import LedgerError, RequestError
from exporter.history.helper import ASKED, FAILED, PART, PIECE, REFUSED, Helper
from exporter.history.senders import Senders
from exporter.history.series import Aliases
from exporter.history.settings import LARGEST_REQUEST, HistorySettings
from exporter.ledger import Ledger, to_ms

__all__ = ["LARGEST_REQUEST", "Aliases", "History", "HistorySettings", "Senders"]

MOST_READS = 4
"""Reads under way at once; further ones wait."""


class History:
    """The history of all accounts, read by a process of its own."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger, self._clock = ledger, clock
        self._settings = HistorySettings()
        self._aliases: Aliases = {}
        self._helper: Helper | None = None
        self._places, self._starting = asyncio.Semaphore(MOST_READS), asyncio.Lock()

    def follow(self, settings: HistorySettings, aliases: Aliases) -> None:
        """Take the configuration's word from now on."""
        self._settings, self._aliases = settings, aliases

    def close(self) -> None:
        """Let the helper go; it ends with what it is answering."""
        if self._helper:
            self._helper.close()
        self._helper = None

    async def read(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Answer a remote read, a piece at a time.

        Raises RequestError and LedgerError, both before the first piece unless the ledger breaks under way.
        """
        async with self._places:
            helper = await self._present()
            reader, writer = await asyncio.open_connection(sock=helper.connect())
            try:
                writer.write(ASKED.pack(to_ms(self._clock()), len(body)) + body)
                while piece := await _piece(reader):
                    yield piece
            except (asyncio.IncompleteReadError, ConnectionError):
                helper.ended = True
                raise LedgerError("the process that reads the ledger has ended") from None
            finally:
                writer.close()

    async def _present(self) -> Helper:
        async with self._starting:
            wanted = self._aliases, self._settings.max_samples
            if self._helper is None or self._helper.made_for != wanted or self._helper.ended:
                self.close()
                self._helper = await asyncio.to_thread(Helper, self._ledger.folder, *wanted)
            return self._helper


async def _piece(reader: asyncio.StreamReader) -> bytes:
    kind, length = PART.unpack(await reader.readexactly(PART.size))
    piece = await reader.readexactly(length)
    if kind == PIECE:
        return piece
    if kind == REFUSED:
        raise RequestError(piece.decode())
    if kind == FAILED:
        raise LedgerError(piece.decode())
    return b""
