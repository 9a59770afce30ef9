"""Users with bcrypt passwords: checked off the event loop, one at a time, and a verified pair remembered."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import bcrypt

MOST_WAITING = 32
"""Passwords that wait for their check; above it the door is busy."""
_NOBODY = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
"""Salt and digest that an unknown user's password is compared with."""


class Users:
    """Who may come in.

    An unknown user costs what the costliest known one does. A pair found good is remembered under a keyed digest of its
    parts, each digested apart, so that no two pairs share a key.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name.encode(): _as_2b(text) for name, text in hashes.items()}
        highest = max((text[4:6] for text in self._hashes.values()), default=b"10")
        self._nobody = b"$2b$" + highest + b"$" + _NOBODY.encode()
        self._key = secrets.token_bytes(32)
        self._good: set[bytes] = set()
        self._waiting = 0

    def __bool__(self) -> bool:
        return bool(self._hashes)

    @property
    def busy(self) -> bool:
        """Whether too many passwords wait for their check already."""
        return self._waiting >= MOST_WAITING

    def remembers(self, name: bytes, password: bytes) -> bool:
        """Say whether this pair was found good before."""
        return self._digest(name, password) in self._good

    async def allow(self, name: bytes, password: bytes, thread: ThreadPoolExecutor) -> bool:
        """Check a name and its password on a thread of its own: this takes 50 ms and more."""
        digest = self._digest(name, password)
        if digest in self._good:
            return True
        expected = self._hashes.get(name, self._nobody)
        self._waiting += 1
        try:
            good = await asyncio.get_running_loop().run_in_executor(thread, _matches, password, expected)
        finally:
            self._waiting -= 1
        if good and name in self._hashes:
            self._good.add(digest)
            return True
        return False

    def _digest(self, name: bytes, password: bytes) -> bytes:
        parts = (name, self._hashes.get(name, b""), password)
        return hmac.digest(self._key, b"".join(hashlib.sha256(part).digest() for part in parts), "sha256")


def read_basic(header: str | None) -> tuple[bytes, bytes] | None:
    """Read an Authorization header; None for what is no Basic one."""
    kind, _, coded = (header or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None


def _as_2b(text: str) -> bytes:
    """Write a hash with the one prefix of its family: 2, 2a, 2x and 2y are counted the same way today."""
    return b"$2b$" + text.split("$", 2)[2].encode()


def _matches(password: bytes, expected: bytes) -> bool:
    # bcrypt looks at 72 bytes and no further; the library refuses longer ones, Go's does not.
    return bcrypt.checkpw(password[:72], expected)
