"""Long texts in an account's store, compressed: to load a neighbour, SQLite reads past them."""

import base64
import zlib
from collections.abc import Iterable

PREFIX = "zlib:"


def compress_text(parts: Iterable[bytes]) -> str:
    """Return parts of a text as one compressed text; they may be made one after another, to save memory."""
    compressor = zlib.compressobj(1)
    return PREFIX + base64.b64encode(b"".join((*map(compressor.compress, parts), compressor.flush()))).decode()


def decompress_text(text: str) -> str | bytes:
    """Return what was compressed as UTF-8; a text that was not is returned as it is."""
    return zlib.decompress(base64.b64decode(text.removeprefix(PREFIX))) if text.startswith(PREFIX) else text
