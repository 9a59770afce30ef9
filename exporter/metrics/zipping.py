"""Gzip in members: parts compressed apart, which one after the other are one gzip stream again (RFC 1952, section 2.2).

Where ISA-L is installed (`pip install utility-exporter[fast]`) it takes a tenth of zlib's time, at the same size.
"""

import zlib
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_engine: ModuleType
try:
    _engine = import_module("isal.isal_zlib")
except ImportError:
    _engine = zlib
_compress: Callable[..., bytes] = _engine.compress
_begin: Callable[..., Any] = _engine.compressobj
LEVEL = 1
"""The lines of a page are so alike that higher levels take three times as long for a tenth less."""
GZIP = 31
SMALL, SMALL_GZIP, SMALL_MEMORY = 16 * 1024, 29, 6
"""Up to this size a small table does, which is made in a third of the time: what moves is compressed at each scrape."""


def zipped(text: bytes) -> bytes:
    """Compress a part into a member of its own; the same text gives the same bytes."""
    if len(text) > SMALL:
        return _compress(text, LEVEL, GZIP)
    if not text:
        return b""
    small = _begin(LEVEL, zlib.DEFLATED, SMALL_GZIP, SMALL_MEMORY)
    return bytes(small.compress(text) + small.flush())
