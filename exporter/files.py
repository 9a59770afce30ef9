"""Files that the user names: read without waiting, followed for changes, and whether others may read or write them."""

import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

FileStamp = tuple[int, ...] | None
FileStamps = Mapping[Path, FileStamp]
"""Modification time, inode, size, mode and owners of each file; None if it is not there, or its folder may not be entered."""
MAX_PEM_BYTES = 1 << 20


def read_file(file: Path, max_bytes: int) -> bytes:
    """Return the content of a file; raise ValueError that says what is wrong, without any content.

    A pipe or a device is refused: it could keep its reader waiting for ever.
    """
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("is a folder" if stat.S_ISDIR(mode) else "is not a regular file")
        with file.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or type(error).__name__).lower()}") from None
    if len(content) > max_bytes:
        raise ValueError(f"is larger than {max_bytes >> 10} KiB")
    return content


def read_pem(file: Path) -> str:
    """Return the text of a PEM file; raise ValueError. What is not ASCII can only be a comment."""
    return read_file(file, MAX_PEM_BYTES).decode("ascii", "replace").replace("\ufffd", "?")


def stamp_files(files: Iterable[Path]) -> dict[Path, FileStamp]:
    """Return the stamps of files. A link is followed: secrets of Kubernetes change by another link."""
    return {file: _stamp_file(file) for file in files}


def find_exposure(file: Path, *, holds_secret: bool, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return a warning with its cure if others may write a file, or read one that holds a secret.

    Bits of the group count only where the file is ours: somebody else's is open to us by them. Nothing is said of a file that
    nobody can change where it is: secrets of Kubernetes and compose are mounted read-only, with a mode of the platform's; and of
    a credential of systemd, whose ACL looks like permissions of a group.
    """
    try:
        found = file.stat()
        is_read_only = bool(os.statvfs(file).f_flag & os.ST_RDONLY)
    except OSError:
        return None
    if is_read_only or str(file.parent) == environment.get("CREDENTIALS_DIRECTORY"):
        return None
    is_ours = found.st_uid == os.geteuid()
    bits = found.st_mode & (stat.S_IRWXG | stat.S_IRWXO if is_ours else stat.S_IRWXO)
    may_read, may_write = holds_secret and bool(bits & 0o044), bool(bits & 0o022)
    if not (may_read or may_write):
        return None
    what, name = " and ".join(["read the secrets in it"] * may_read + ["write to it"] * may_write), shlex.quote(str(file))
    cure = f"chmod 600 {name}" if holds_secret else f"chmod go-w {name}"
    owner = "" if is_ours or not holds_secret else f"chown {os.geteuid()} {name} && "
    return f"{file}: others on this machine may {what}; fix it with: {owner}{cure}"


def slugify(account: str) -> str:
    """Return an account's name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", account)[:40].strip("-") or "account"


def _stamp_file(file: Path) -> FileStamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode, found.st_uid, found.st_gid
