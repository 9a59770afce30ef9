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
from pathlib import Path

from exporter.errors import ExporterError, LedgerError, RequestError
from exporter.history.read_worker import (
    BAD_REQUEST,
    CHUNK_HEADER,
    CONNECTION,
    DATA,
    END,
    FAILURE,
    FINISH,
    FRAMES_FOLLOW,
    MAX_CONCURRENT_READS,
    REQUEST_HEADER,
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

    A few are handled at once. Further ones wait: work whose client has hung up has its place until it has ended.
    """
    slots, threads = threading.BoundedSemaphore(MAX_CONCURRENT_READS), set[threading.Thread]()
    while True:
        data, connections, _, _ = socket.recv_fds(control_socket, 1, 1)
        for connection in connections:
            slots.acquire()  # released by the thread
            thread = threading.Thread(
                target=_run_and_release, args=(socket.socket(fileno=connection), handler, slots), daemon=True
            )
            threads = {thread, *filter(threading.Thread.is_alive, threads)}
            thread.start()
        if data != CONNECTION:
            for thread in threads if data == FINISH else ():
                thread.join(MAX_STALL_SECONDS)
            return data == FINISH


def _run_and_release(connection: socket.socket, handler: RemoteReadHandler, slots: threading.BoundedSemaphore) -> None:
    try:
        _handle_connection(connection, handler)
    finally:
        slots.release()


def _handle_connection(connection: socket.socket, handler: RemoteReadHandler) -> None:
    connection.settimeout(MAX_STALL_SECONDS)
    # The client may disconnect at any time.
    with connection, suppress(OSError, AbandonedError), connection.makefile("rwb") as stream:
        head = stream.read(REQUEST_HEADER.size)
        if len(head) < REQUEST_HEADER.size:
            return
        now, length = REQUEST_HEADER.unpack(head)
        body = stream.read(length)
        end = END, b""

        def announce_frames() -> None:
            stream.write(CHUNK_HEADER.pack(FRAMES_FOLLOW, 0))

        try:
            for chunk in handler.handle_request(body, now, _build_check(connection), announce_frames):
                stream.write(CHUNK_HEADER.pack(DATA, len(chunk)) + chunk)
                stream.flush()
        except RequestError as error:
            end = BAD_REQUEST, str(error).encode()
        except ExporterError as error:
            end = FAILURE, str(error).encode()
        stream.write(CHUNK_HEADER.pack(end[0], len(end[1])) + end[1])


def _build_check(connection: socket.socket) -> Callable[[], None]:
    """Return a function that raises AbandonedError once the other end is closed."""
    next_check = time.monotonic() + CHECK_SECONDS

    def check() -> None:
        nonlocal next_check
        if time.monotonic() < next_check:
            return
        next_check = time.monotonic() + CHECK_SECONDS
        if select.select([connection], [], [], 0)[0] and not connection.recv(1, socket.MSG_PEEK):
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
