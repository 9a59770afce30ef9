"""The files of an open ledger: whether they are still those that were opened."""

from contextlib import suppress
from pathlib import Path

from exporter.errors import LedgerError


class Files:
    """A ledger's file, its write-ahead log and the log's index, as they were when they were opened.

    They are looked at by name and never opened: closing any descriptor of a file ends all locks of the process on it.
    """

    def __init__(self, path: Path) -> None:
        """Remember them; a connection to the ledger is open."""
        self._path = path
        self._opened = {file: _identity(file) for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm"))}

    def check(self) -> None:
        """Raise LedgerError when one was removed, or another stands in its place: what is written now nobody would find."""
        for file, opened in self._opened.items():
            if opened and _identity(file) != opened:
                raise LedgerError(
                    f"{file} was removed or replaced while it was in use, and nothing is kept any more:"
                    " restart the exporter, or put the same file back"
                )


def _identity(file: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        found = file.stat()
        return found.st_dev, found.st_ino
    return None
