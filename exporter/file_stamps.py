"""Files that are followed: whether any of them has changed since it was read."""

from collections.abc import Iterable
from pathlib import Path

FileStamps = tuple[tuple[int, int, int] | None, ...]
"""Modification time, inode and size of each file; None if it does not exist."""


def stamp_files(files: Iterable[Path]) -> FileStamps:
    """Return the stamps of files. A link is followed: secrets of Kubernetes change by another link."""
    return tuple(map(_stamp_file, files))


def _stamp_file(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
