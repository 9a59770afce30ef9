"""The process that reads the ledger for remote read, so that no read ever holds up the page.

Python runs one thread at a time: a thread that reads a million rows would make a scrape wait at its every step. This
process has a lower priority besides. It is started by the first read and ends with the process that started it.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from exporter.errors import ExporterError, LedgerError
from exporter.history.read import Reader, RequestError
from exporter.history.series import Aliases
from exporter.ledger import Ledger

NICENESS = 10
ASKED = struct.Struct("<qI")
"""What is asked begins with the instant in milliseconds, and the length of the body that follows."""
PART = struct.Struct("<cI")
"""An answer is parts, each with its kind and its length: pieces, and then its end or what went wrong."""
PIECE, END, REFUSED, FAILED = b"p", b"e", b"r", b"f"


class Helper:
    """A running helper, seen from the process that started it."""

    def __init__(self, folder: Path, aliases: Aliases, most: int) -> None:
        """Start it, which may take a moment: not for the event loop."""
        self.made_for = aliases, most
        self.ended = False
        """Whether somebody has found it gone."""
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-c", f"from {__name__} import main; main()", str(theirs.fileno())]
        paths = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603  # Python itself, with a number
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
                pass_fds=[theirs.fileno()],
            )
        assert self.process.stdin
        with self.process.stdin as begin, suppress(BrokenPipeError):
            begin.write(json.dumps({"folder": str(folder.absolute()), "aliases": aliases, "most": most}, default=dict).encode())

    def connect(self) -> socket.socket:
        """Give a connection for one question; where nobody is there any more it ends at once."""
        ours, theirs = socket.socketpair()
        with theirs, suppress(OSError):
            socket.send_fds(self._control, [b"?"], [theirs.fileno()])
        return ours

    def close(self) -> None:
        """Let it finish what it is answering and end."""
        self._control.close()
        threading.Thread(target=self.process.wait, daemon=True).start()


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


if __name__ == "__main__":
    main()
