"""Remote read's worker process, as the exporter sees it; `read_worker_main` runs in it.

Python runs one thread at a time: a thread that reads a million rows would delay every scrape. The worker also has a lower
priority, and only it loads what reads need. It is started by the first read of a metric that has a history, and ends with the
process that started it.

Each read has a connection of `multiprocessing`, passed to the worker over the control connection, and a thread, so that the event
loop never waits for the worker. The request is one message; then come those of the response, until the worker closes the
connection: its work has ended. If the client disconnects early, our side shuts down writing; the worker sees EOF and stops. Then
the slot is freed, and the thread that used the connection closes it.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from types import ModuleType
from typing import Self, TypeVar

from exporter.errors import BusyError, LedgerError, RequestError
from exporter.history.config import HistorySettings
from exporter.history.series import Aliases
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger

MAX_CONCURRENT_READS = 4
"""Reads at once; further ones wait."""
MAX_WAIT_SECONDS = 10
"""How long a read waits for its turn."""
FOREIGN_READS = "exporter.history.foreign_reads"
T = TypeVar("T")


class MessageKind(bytes, Enum):
    """The first byte of each message of a response: data messages, then the end or an error."""

    XOR_CHUNKS = b"x"
    """Sent first if the data is STREAMED_XOR_CHUNKS, not SAMPLES."""
    DATA = b"d"
    END = b"e"
    BAD_REQUEST = b"b"
    FAILURE = b"f"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is started with, passed to it as JSON."""

    folder: str
    """The ledger's, absolute."""
    aliases: Aliases
    max_samples: int
    external_labels: tuple[str, ...]

    def serialize(self) -> bytes:
        """Return the settings as JSON."""
        return json.dumps(asdict(self), default=dict).encode()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the settings of a JSON text."""
        fields = json.loads(text)
        return cls(fields["folder"], fields["aliases"], fields["max_samples"], tuple(fields["external_labels"]))


class ReadWorker:
    """A running worker process, seen from the process that started it. It ends once its control connection is closed."""

    def __init__(self, settings: WorkerSettings, process: subprocess.Popen[bytes], control: Connection) -> None:
        self.settings, self.process, self._control = settings, process, control
        self._control_lock = threading.Lock()

    @classmethod
    def start(cls, settings: WorkerSettings) -> Self:
        """Start a process; raise OSError. Blocks, so not for the event loop."""
        control, worker_end = Pipe()
        descriptor = worker_end.fileno()
        # -P: a file of the current folder is never taken for a module.
        command = [sys.executable, "-P", "-c", "from exporter.history.read_worker_main import main; main()", str(descriptor)]
        paths = os.pathsep.join(path for path in sys.path if path)
        with worker_end:
            process = subprocess.Popen(  # noqa: S603  # Python itself, with a number
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
                pass_fds=[descriptor],
            )
        assert process.stdin
        with process.stdin as stdin, suppress(BrokenPipeError):
            stdin.write(settings.serialize())
        return cls(settings, process, control)

    def pass_connection(self, worker_end: Connection) -> None:
        """Pass the worker's end of a request's connection to the process, and close it here; raise OSError. May block."""
        with worker_end, self._control_lock:
            try:
                send_handle(self._control, worker_end.fileno(), self.process.pid)
            except RuntimeError as error:  # macOS: not acknowledged
                raise ConnectionError(str(error)) from None

    def send_request(self, connection: Connection, worker_end: Connection, body: bytes, now: datetime) -> None:
        """Send a request as of an instant over a new connection; raise OSError. May block."""
        self.pass_connection(worker_end)
        connection.send((body, to_ms(now)))

    def close(self) -> None:
        """End the process, which has no request any more."""
        self._control.close()
        threading.Thread(target=self.process.wait, daemon=True).start()

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()


class ReadSlots:
    """The slots of reads under way, shared out so that one client's address never has all of them.

    An address gets a further slot while more are free than it has: alone it gets half of them, the next one half of the rest.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}

    async def acquire(self, peer: str) -> None:
        """Wait for a slot; those who have fewest are served first."""
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
        """Free a slot."""
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


@dataclass(frozen=True, slots=True)
class _Read:
    """A read under way, and what it holds until its work has ended."""

    peer: str
    worker: ReadWorker
    connection: Connection
    worker_end: Connection
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "remote-read"))
    """One for each read: what it is asked for is done in that order, even after a cancellation."""

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function that may block."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)


class RemoteReader:
    """Answers remote reads through a worker process."""

    def __init__(
        self, ledger: Ledger, clock: Callable[[], datetime], settings: HistorySettings, aliases: Aliases | None = None
    ) -> None:
        self._folder, self._clock = str(ledger.folder.absolute()), clock
        self.configure(settings, aliases or {})
        self._worker: ReadWorker | None = None
        """Where the next read goes."""
        self._reads: dict[ReadWorker, int] = {}
        """Every running worker, with how many reads it has."""
        self._slots, self._start_lock = ReadSlots(MAX_CONCURRENT_READS), asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    def configure(self, settings: HistorySettings, aliases: Aliases) -> None:
        """Use other settings from the next read on."""
        self._worker_settings = WorkerSettings(self._folder, aliases, settings.max_samples, settings.external_labels)

    def close(self) -> None:
        """End the workers, and the reads under way with them."""
        for worker in self._reads:
            worker.kill()
        self._replace_worker(None)

    async def read(self, body: bytes, peer: str, on_xor_chunks: Callable[[], None]) -> AsyncGenerator[bytes, None]:
        """Yield the response to an address's remote read in chunks.

        `on_xor_chunks` is called before the first chunk if the response is STREAMED_XOR_CHUNKS.

        Raise RequestError, BusyError and LedgerError, before the first chunk unless the ledger fails midway.
        """
        if (response := (await _load_foreign_reads()).build_empty_response(body)) is not None:
            yield response
            return
        read = await self._begin_read(peer)
        try:
            await read.run(read.worker.send_request, read.connection, read.worker_end, body, self._clock())
            while (message := await read.run(read.connection.recv_bytes)) != MessageKind.END:
                if message == MessageKind.XOR_CHUNKS:
                    on_xor_chunks()
                else:
                    yield _parse_data(message)
        except (EOFError, ConnectionError):
            if read.worker is self._worker:
                self._replace_worker(None)
            raise LedgerError("the process that reads the ledger ended unexpectedly") from None
        except OSError as error:
            raise _build_connection_error(error) from None
        finally:
            _shut_down_sending(read.connection)
            ending = asyncio.create_task(self._end_read(read))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _begin_read(self, peer: str) -> _Read:
        """Wait for a slot; raise BusyError and LedgerError."""
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self._slots.acquire(peer)
        except TimeoutError:
            raise BusyError("other remote reads are under way") from None
        try:
            worker = await self._ensure_worker()
            connection, worker_end = Pipe()
        except OSError as error:
            self._slots.release(peer)
            raise _build_connection_error(error) from None
        except BaseException:
            self._slots.release(peer)
            raise
        self._reads[worker] += 1
        return _Read(peer, worker, connection, worker_end)

    async def _end_read(self, read: _Read) -> None:
        """Free the slot once the worker has stopped, which may be later than its client has disconnected."""
        try:
            await read.run(_receive_rest, read.connection, read.worker_end)
        finally:
            read.thread.shutdown(wait=False)
            self._slots.release(read.peer)
            self._reads[read.worker] -= 1
            self._close_idle_workers()

    async def _ensure_worker(self) -> ReadWorker:
        async with self._start_lock:
            worker, settings = self._worker, self._worker_settings
            if worker is None or worker.settings != settings:
                worker = await asyncio.to_thread(ReadWorker.start, settings)
                self._replace_worker(worker)
            return worker

    def _replace_worker(self, worker: ReadWorker | None) -> None:
        """Send further reads to another worker, or to one that is started then; the former ends after its last read."""
        self._worker = worker
        if worker:
            self._reads[worker] = 0
        self._close_idle_workers()

    def _close_idle_workers(self) -> None:
        for worker in [worker for worker, count in self._reads.items() if not count and worker is not self._worker]:
            del self._reads[worker]
            worker.close()


async def _load_foreign_reads() -> ModuleType:
    """Return the module, which loads protobuf: in a thread, and only where somebody reads."""
    if FOREIGN_READS in sys.modules:
        return sys.modules[FOREIGN_READS]
    return await asyncio.to_thread(import_module, FOREIGN_READS)


def _build_connection_error(error: OSError) -> LedgerError:
    return LedgerError(f"the process that reads the ledger cannot be reached: {error.strerror}")


def _parse_data(message: bytes) -> bytes:
    """Return the data of a message; raise RequestError and LedgerError."""
    kind, data = message[:1], message[1:]
    if kind == MessageKind.BAD_REQUEST:
        raise RequestError(data.decode())
    if kind == MessageKind.FAILURE:
        raise LedgerError(data.decode())
    return data


def _shut_down_sending(connection: Connection) -> None:
    """Let the worker know that nobody waits for the response; also ends a request that is still being sent."""
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=connection.fileno())
    try:
        with suppress(OSError):
            local.shutdown(socket.SHUT_WR)
    finally:
        local.detach()


def _receive_rest(connection: Connection, worker_end: Connection) -> None:
    """Wait until the worker has closed a connection, and close it."""
    with connection, suppress(EOFError, OSError):
        worker_end.close()
        while True:
            connection.recv_bytes()
