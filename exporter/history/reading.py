"""What runs in the helper's process: questions come by a socket, each with a connection for its answer."""

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from exporter.errors import ExporterError, LedgerError, RequestError
from exporter.history.helper import ASKED, END, FAILED, PART, PIECE, REFUSED
from exporter.history.read import Reader
from exporter.ledger import Ledger

NICENESS = 10


def serve(control: socket.socket, reader: Reader) -> None:
    """Answer each connection that is handed over, until the other end of `control` is closed."""
    while True:
        said, connections, _, _ = socket.recv_fds(control, 1, 1)
        if not said:
            return
        for connection in connections:
            threading.Thread(target=_answer, args=(socket.socket(fileno=connection), reader)).start()


def _answer(connection: socket.socket, reader: Reader) -> None:
    # Whoever asked may hang up at any time.
    with connection, suppress(OSError), connection.makefile("rwb") as stream:
        head = stream.read(ASKED.size)
        if len(head) < ASKED.size:
            return
        now, length = ASKED.unpack(head)
        body = stream.read(length)
        end = END, b""
        try:
            for piece in reader.answer(body, now):
                stream.write(PART.pack(PIECE, len(piece)) + piece)
        except RequestError as error:
            end = REFUSED, str(error).encode()
        except ExporterError as error:
            end = FAILED, str(error).encode()
        stream.write(PART.pack(end[0], len(end[1])) + end[1])


def main() -> None:
    """Be the helper: the settings come by standard input, the questions by the socket that the argument names."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    begin = json.load(sys.stdin)
    try:
        reader = Reader(Ledger(Path(begin["folder"]), read_only=True), begin["aliases"], begin["most"])
    except LedgerError as error:
        sys.exit(str(error))
    serve(socket.socket(fileno=int(sys.argv[1])), reader)
