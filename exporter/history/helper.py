"""The process that reads the ledger for remote read, as the exporter sees it; `reading` is what runs in it.

Python runs one thread at a time: a thread that reads a million rows would make a scrape wait at its every step. This
process has a lower priority besides, and alone loads what only reads need. It is started by the first read and ends with
the process that started it.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from exporter.history.series import Aliases

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
        command = [sys.executable, "-c", "from exporter.history.reading import main; main()", str(theirs.fileno())]
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
