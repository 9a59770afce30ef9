"""The main module of remote read's worker process: each request arrives as a connection over a control socket."""

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from exporter.errors import ExporterError, LedgerError, RequestError
from exporter.history.read_worker import BAD_REQUEST, CHUNK_HEADER, DATA, END, FAILURE, REQUEST_HEADER
from exporter.history.remote_read import RemoteReadHandler
from exporter.ledger.ledger import Ledger

NICENESS = 10


def serve_connections(control_socket: socket.socket, handler: RemoteReadHandler) -> None:
    """Handle each connection received over the control socket, until its other end is closed."""
    while True:
        data, connections, _, _ = socket.recv_fds(control_socket, 1, 1)
        if not data:
            return
        for connection in connections:
            threading.Thread(target=_handle_connection, args=(socket.socket(fileno=connection), handler)).start()


def _handle_connection(connection: socket.socket, handler: RemoteReadHandler) -> None:
    # The client may disconnect at any time.
    with connection, suppress(OSError), connection.makefile("rwb") as stream:
        head = stream.read(REQUEST_HEADER.size)
        if len(head) < REQUEST_HEADER.size:
            return
        now, length = REQUEST_HEADER.unpack(head)
        body = stream.read(length)
        end = END, b""
        try:
            for chunk in handler.handle_request(body, now):
                stream.write(CHUNK_HEADER.pack(DATA, len(chunk)) + chunk)
        except RequestError as error:
            end = BAD_REQUEST, str(error).encode()
        except ExporterError as error:
            end = FAILURE, str(error).encode()
        stream.write(CHUNK_HEADER.pack(end[0], len(end[1])) + end[1])


def main() -> None:
    """Run the worker: settings are read from standard input, requests from the socket whose descriptor is the argument."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    settings = json.load(sys.stdin)
    try:
        handler = RemoteReadHandler(
            Ledger(Path(settings["folder"]), read_only=True), settings["aliases"], settings["max_samples"]
        )
    except LedgerError as error:
        sys.exit(str(error))
    serve_connections(socket.socket(fileno=int(sys.argv[1])), handler)
