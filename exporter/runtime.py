"""Tuning of the interpreter and the allocator: one heap, memory returned after visits, short thread switches."""

import ctypes
import gc
import sys
from contextlib import suppress

_M_ARENA_MAX = -8
"""`M_ARENA_MAX` of mallopt(3). A heap for each thread costs 100 MB at 100,000 usage points, and our threads take turns."""
_M_MMAP_THRESHOLD = -3
_MIN_OWN_MAPPING = 1 << 20
"""Bytes from which a block is a mapping of its own, returned as soon as it is free: glibc raises this to 32 MB as such blocks
are freed, and those of a large visit then leave holes in the heap."""
_GC_THRESHOLDS = 2000, 10, 200
"""Thresholds of the cyclic garbage collector: a large visit makes half a million objects and hardly a cycle."""
_SWITCH_INTERVAL = 0.001
"""Seconds after which a thread yields to the event loop, which needs several turns to answer a scrape."""


def tune_interpreter() -> None:
    """Switch threads sooner, and collect cyclic garbage less often, than by default."""
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_INTERVAL)


def limit_arenas() -> None:
    """Make all threads share one heap without large blocks; to be called before there are threads."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _MIN_OWN_MAPPING)


def trim_memory() -> None:
    """Return free pages to the system; takes some ten milliseconds at 100,000 usage points, so not on the event loop."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
