"""Remote read's worker process, as the exporter sees it; `read_worker_main` runs in it.

Python runs one thread at a time: a thread that reads a million rows would delay every scrape. The worker
also has a lower priority, and only it loads what reads need. It is started by the first read and ends with the process that
started it.

They speak over sockets that keep messages apart (SOCK_SEQPACKET), so neither side frames anything. macOS has none: there is no
remote read there. `multiprocessing.connection`
is not used: what it receives it waits for, message by message, which would take a thread for each read that no cancellation ends.
"""

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from exporter.errors import BusyError, ExporterError, LedgerError, RequestError, UnsupportedError
from exporter.history.config import HistorySettings
from exporter.history.series import Aliases
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger

DATA, END, BAD_REQUEST, FAILURE, FRAMES_FOLLOW = b"p", b"e", b"r", b"f", b"x"
"""A response is a sequence of messages, each with its kind in the first byte: data, then the end or an error. Before data that is
frames of XOR chunks, not one block of samples, comes a message that says so."""
PART_BYTES = 64 * 1024
"""The size of the parts in which a request is sent; a shutdown for writing ends it."""
MAX_MESSAGE_BYTES = 128 * 1024
"""More than any message has, and less than a socket holds."""
FINISH = b"finish"
"""What arrives over the control socket when no more requests will come; before, each message has a connection for a request, a
socket to close once its work has ended, and the current instant in milliseconds. When the control socket is closed without it,
the process that started the worker has ended, and the worker ends at once."""
_NO_SUCH_SOCKETS = errno.EPROTONOSUPPORT, errno.EPROTOTYPE, errno.ESOCKTNOSUPPORT
"""The errors of a system without SOCK_SEQPACKET."""
MAX_CONCURRENT_READS = 4
"""Reads at once; further ones wait."""
MAX_WAIT_SECONDS = 10
"""How long a read waits for its turn."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is started with."""

    aliases: Aliases
    max_samples: int
    external_labels: tuple[str, ...]


class ReadWorker:
    """A running worker process, seen from the process that started it."""

    def __init__(self, folder: Path, settings: WorkerSettings) -> None:
        """Start the process, or raise OSError; blocks, so not for the event loop."""
        self.settings = settings
        self.has_ended = False
        """Whether the process was found to have ended."""
        self._control_socket, remote = socket.socketpair(type=socket.SOCK_SEQPACKET)
        # -P: a file of the current folder is never taken for a module.
        command = [sys.executable, "-P", "-c", "from exporter.history.read_worker_main import main; main()", str(remote.fileno())]
        paths = os.pathsep.join(path for path in sys.path if path)
        with remote:
            self.process = subprocess.Popen(  # noqa: S603  # Python itself, with a number
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
                pass_fds=[remote.fileno()],
            )
        assert self.process.stdin
        with self.process.stdin as begin, suppress(BrokenPipeError):
            begin.write(json.dumps({"folder": str(folder.absolute()), **asdict(settings)}, default=dict).encode())

    def connect(self, now: datetime) -> tuple[socket.socket, socket.socket]:
        """Return a connection for one request as of an instant, and a socket that is closed once its work has ended.

        Both are closed at once if the process has ended. Raise OSError where there can be no more sockets.
        """
        local, remote = socket.socketpair(type=socket.SOCK_SEQPACKET)
        ending, remote_ending = socket.socketpair()
        local.setblocking(False)
        ending.setblocking(False)
        with remote, remote_ending, suppress(OSError):
            socket.send_fds(self._control_socket, [str(to_ms(now)).encode()], [remote.fileno(), remote_ending.fileno()])
        return local, ending

    def retire(self) -> None:
        """Let the process finish its responses and end: a new one has taken over."""
        with suppress(OSError):
            self._control_socket.send(FINISH)
        threading.Thread(target=self._wait_and_close, daemon=True).start()

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self._control_socket.close()
        self.process.wait()

    def _wait_and_close(self) -> None:
        self.process.wait()
        self._control_socket.close()


class ReadPlaces:
    """The places of reads under way, shared out so that one client's address never has all of them.

    An address gets a further place while more are free than it has: alone it gets half of them, the next one half of the rest.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}

    async def acquire(self, peer: str) -> None:
        """Wait for a place; those who have fewest are served first."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = peer
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(peer)
            raise
        finally:
            del self._waiting[turn]

    def release(self, peer: str) -> None:
        """Free a place."""
        self._free += 1
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]
        self._hand_out()

    def _hand_out(self) -> None:
        for turn, peer in sorted(self._waiting.items(), key=lambda waiting: self._held[waiting[1]]):
            if not turn.done() and self._held[peer] < self._free:
                self._free -= 1
                self._held[peer] += 1
                turn.set_result(None)


class RemoteReader:
    """Answers remote reads through a worker process."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger, self._clock = ledger, clock
        self._settings = HistorySettings()
        self._aliases: Aliases = {}
        self._worker: ReadWorker | None = None
        self._places, self._start_lock = ReadPlaces(MAX_CONCURRENT_READS), asyncio.Lock()
        self._held_places: set[asyncio.Task[None]] = set()

    def configure(self, settings: HistorySettings, aliases: Aliases) -> None:
        """Use a new configuration from now on."""
        self._settings, self._aliases = settings, aliases

    def close(self) -> None:
        """End the worker, and the reads under way with it."""
        if self._worker:
            self._worker.close()
        self._worker = None

    async def read(self, body: bytes, peer: str, announce_frames: Callable[[], None]) -> AsyncGenerator[bytes, None]:
        """Yield the response to an address's remote read in chunks.

        `announce_frames` is called before the first if they are not snappy's.

        Raise RequestError, BusyError, UnsupportedError and LedgerError, before the first chunk unless the ledger fails midway.
        """
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self._places.acquire(peer)
        except TimeoutError:
            raise BusyError("other remote reads are under way") from None
        try:
            worker = await self._ensure_worker()
            connection, ending = worker.connect(self._clock())
        except OSError as error:
            self._places.release(peer)
            raise _describe_start_error(error) from None
        except BaseException:
            self._places.release(peer)
            raise
        holding = asyncio.create_task(self._hold_place(peer, ending))
        self._held_places.add(holding)
        holding.add_done_callback(self._held_places.discard)
        with connection:
            try:
                await send_request(connection, body)
                while chunk := await receive_chunk(connection, announce_frames):
                    yield chunk
            except ConnectionError:
                worker.has_ended = True
                raise LedgerError("the process that reads the ledger ended unexpectedly") from None

    async def _hold_place(self, peer: str, ending: socket.socket) -> None:
        """Hold a place until the work has ended, which may be later than its client has left."""
        try:
            with ending:
                await asyncio.get_running_loop().sock_recv(ending, 1)
        finally:
            self._places.release(peer)

    async def _ensure_worker(self) -> ReadWorker:
        async with self._start_lock:
            wanted = WorkerSettings(self._aliases, self._settings.max_samples, self._settings.external_labels)
            if self._worker is None or self._worker.settings != wanted or self._worker.has_ended:
                if self._worker:
                    self._worker.retire()
                self._worker = await asyncio.to_thread(ReadWorker, self._ledger.folder, wanted)
            return self._worker


def _describe_start_error(error: OSError) -> ExporterError:
    """Return why no worker can be started or reached."""
    if error.errno in _NO_SUCH_SOCKETS:
        return UnsupportedError("remote read needs sockets that this system lacks (SOCK_SEQPACKET); use remote write or export")
    return LedgerError(f"the process that reads the ledger cannot be reached: {error.strerror}")


async def send_request(connection: socket.socket, body: bytes) -> None:
    """Send a request over a connection; raise ConnectionError if the worker has ended."""
    for start in range(0, len(body), PART_BYTES):
        await asyncio.get_running_loop().sock_sendall(connection, body[start : start + PART_BYTES])
    connection.shutdown(socket.SHUT_WR)


async def receive_chunk(connection: socket.socket, announce_frames: Callable[[], None] = lambda: None) -> bytes:
    """Return the next chunk of a response, empty at its end; raise RequestError, LedgerError and ConnectionError."""
    message = await asyncio.get_running_loop().sock_recv(connection, MAX_MESSAGE_BYTES)
    kind, data = message[:1], message[1:]
    if kind == FRAMES_FOLLOW:
        announce_frames()
        return await receive_chunk(connection)
    if kind == BAD_REQUEST:
        raise RequestError(data.decode())
    if kind == FAILURE:
        raise LedgerError(data.decode())
    if not kind:
        raise ConnectionError("the response ends early")
    return data
