"""The main module of remote read's worker process: each request arrives as a connection over a control socket."""

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from exporter.errors import ExporterError, LedgerError, RequestError
from exporter.history.read_worker import (
    BAD_REQUEST,
    DATA,
    END,
    FAILURE,
    FINISH,
    FRAMES_FOLLOW,
    MAX_MESSAGE_BYTES,
)
from exporter.history.remote_read import RemoteReadHandler
from exporter.ledger.ledger import Ledger

NICENESS = 10
CHECK_SECONDS = 0.2
"""How often a read looks whether anybody still waits for it."""
MAX_STALL_SECONDS = 60
"""A read whose reader takes nothing for so long is given up: `serve` itself gives up its clients far sooner."""


class AbandonedError(Exception):
    """Nobody waits for the response any more."""


def serve_connections(control_socket: socket.socket, handler: RemoteReadHandler) -> bool:
    """Handle the connections received over the control socket; return whether its other end said that no more will come.

    `serve` sends a few at once: it is told when the work of each has ended.
    """
    threads = set[threading.Thread]()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control_socket, MAX_MESSAGE_BYTES, 2)
        if not descriptors:
            for thread in threads if message == FINISH else ():
                thread.join(MAX_STALL_SECONDS)
            return message == FINISH
        connection, ending = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        thread = threading.Thread(target=_handle_connection, args=(connection, ending, int(message), handler), daemon=True)
        threads = {thread, *filter(threading.Thread.is_alive, threads)}
        thread.start()


def _handle_connection(connection: socket.socket, ending: socket.socket, now: int, handler: RemoteReadHandler) -> None:
    connection.settimeout(MAX_STALL_SECONDS)
    # The client may disconnect at any time.
    with ending, connection, suppress(OSError, AbandonedError):
        body = b"".join(iter(partial(connection.recv, MAX_MESSAGE_BYTES), b""))
        check, end = _build_check(connection), END
        try:
            for chunk in handler.handle_request(body, now, check, partial(connection.send, FRAMES_FOLLOW)):
                connection.send(DATA + chunk)
        except RequestError as error:
            end = BAD_REQUEST + str(error).encode()
        except ExporterError as error:
            end = FAILURE + str(error).encode()
        connection.send(end)


def _build_check(connection: socket.socket) -> Callable[[], None]:
    """Return a function that raises AbandonedError once the other end is closed."""
    poll = select.poll()
    poll.register(connection, 0)  # with no event: only that it is closed
    next_check = 0.0  # at once: it may have waited for its turn

    def check() -> None:
        nonlocal next_check
        if time.monotonic() < next_check:
            return
        next_check = time.monotonic() + CHECK_SECONDS
        if poll.poll(0):
            raise AbandonedError

    return check


def main() -> None:
    """Run the worker: settings are read from standard input, requests from the socket whose descriptor is the argument."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    settings = json.load(sys.stdin)
    try:
        ledger = Ledger(Path(settings["folder"]), read_only=True)
    except LedgerError as error:
        sys.exit(str(error))
    handler = RemoteReadHandler(ledger, settings["aliases"], settings["max_samples"], settings["external_labels"])
    serve_connections(socket.socket(fileno=int(sys.argv[1])), handler)
    os._exit(0)  # threads that still read the ledger end with the process
