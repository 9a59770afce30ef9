"""Staying small and quick: one heap for all threads, what a visit took given back, and threads that give way."""

import ctypes
import gc
import sys
from contextlib import suppress

_M_ARENA_MAX = -8
"""`M_ARENA_MAX` of mallopt(3). A heap for every thread costs a town a hundred MB, and our threads take turns anyway."""


_GC_THRESHOLDS = 2000, 10, 200
"""How often Python looks for garbage in circles: a town's visit makes half a million things and hardly a circle."""
_SWITCH_INTERVAL = 0.001
"""Seconds after which a thread gives way to the event loop, which takes several turns to answer a scrape."""


def tune_interpreter() -> None:
    """Have threads give way sooner, and look for garbage more seldom, than Python does by itself."""
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_INTERVAL)


def limit_arenas() -> None:
    """Have all threads share one heap; to be called before there are threads."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim_memory() -> None:
    """Give free pages back to the system: some ten milliseconds for a town, not on the event loop."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
