"""Checks that the files of an open ledger are still those that were opened."""

from contextlib import suppress
from pathlib import Path

from exporter.errors import LedgerError


class OpenFiles:
    """The database file, its write-ahead log and the log's index, as they were when they were opened.

    They are checked by name and never opened: closing any descriptor of a file ends all locks of the process on it.
    """

    def __init__(self, path: Path) -> None:
        """Record the files' identities; a connection to the ledger must be open."""
        self._path = path
        self._opened = {file: _get_identity(file) for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm"))}

    def check(self) -> None:
        """Raise LedgerError if a file was removed or replaced: what is written now would be lost."""
        for file, opened in self._opened.items():
            if opened and _get_identity(file) != opened:
                raise LedgerError(
                    f"{file} was removed or replaced while it was in use, and nothing can be stored:"
                    " restart the exporter, or restore the same file"
                )


def _get_identity(file: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        found = file.stat()
        return found.st_dev, found.st_ino
    return None
