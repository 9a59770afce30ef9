"""Staying small: glibc's malloc is told to keep one heap, and to give back what a visit took; elsewhere nothing happens."""

import ctypes
from contextlib import suppress

_ARENA_MAX = -8
"""`M_ARENA_MAX` of mallopt(3). A heap for every thread costs a town a hundred MB, and our threads take turns anyway."""


def keep_one() -> None:
    """Have all threads share one heap; to be called before there are threads."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Give free pages back to the system: some ten milliseconds for a town, not on the event loop."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
