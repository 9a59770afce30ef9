"""The main module of remote read's worker process: each request arrives as a connection over the control connection."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path

from exporter.errors import ExporterError, LedgerError, RequestError
from exporter.history.read_worker import MessageKind, WorkerSettings
from exporter.history.remote_read import RemoteReadHandler
from exporter.ledger.ledger import Ledger

NICENESS = 10
CHECK_SECONDS = 0.2
"""How often a read checks whether its client has disconnected."""


class AbandonedError(Exception):
    """Nobody waits for the response any more."""


def serve_connections(control: Connection, handler: RemoteReadHandler) -> None:
    """Handle the connections received over the control connection, until it is closed.

    `serve` sends a few at once: it is told when the work of each has ended.
    """
    # A control connection that was closed before it was read may be reset.
    with suppress(EOFError, ConnectionError):
        while True:
            connection = Connection(recv_handle(control))
            threading.Thread(target=_handle_connection, args=(connection, handler), daemon=True).start()


def _handle_connection(connection: Connection, handler: RemoteReadHandler) -> None:
    # The client may disconnect at any time.
    with connection, suppress(EOFError, OSError, AbandonedError):
        body, now = connection.recv()
        end: bytes = MessageKind.END
        try:
            for chunk in handler.handle_request(
                body, now, _build_check(connection), partial(connection.send_bytes, MessageKind.XOR_CHUNKS)
            ):
                connection.send_bytes(MessageKind.DATA + chunk)
        except RequestError as error:
            end = MessageKind.BAD_REQUEST + str(error).encode()
        except ExporterError as error:
            end = MessageKind.FAILURE + str(error).encode()
        connection.send_bytes(end)


def _build_check(connection: Connection) -> Callable[[], None]:
    """Return a function that raises AbandonedError once nobody waits: after the request, all that arrives is its end."""
    next_check = 0.0  # at once: it may have waited for its turn

    def check() -> None:
        nonlocal next_check
        if time.monotonic() < next_check:
            return
        next_check = time.monotonic() + CHECK_SECONDS
        if connection.poll():
            raise AbandonedError

    return check


def main() -> None:
    """Run the worker: settings are read from standard input, requests from the connection whose descriptor is the argument."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    settings = WorkerSettings.parse(sys.stdin.buffer.read())
    try:
        ledger = Ledger(Path(settings.folder), read_only=True)
    except LedgerError as error:
        sys.exit(str(error))
    handler = RemoteReadHandler(ledger, settings.aliases, settings.max_samples, settings.external_labels)
    serve_connections(Connection(int(sys.argv[1])), handler)
    os._exit(0)  # threads that still read the ledger end with the process
