"""Snappy's block format, in slices: bombs are seen before they burst, and large answers are sent as they are made."""

from collections.abc import Iterable, Iterator

import cramjam

from exporter.history.encode import varint

PIECE = 64 * 1024
LONGEST = (1 << 32) - 1
"""The format's own limit."""


def expand(block: bytes, largest: int) -> bytes:
    """Decompress a block; raises ValueError for one that is broken, or says it is larger than `largest` bytes."""
    length, _ = _length(block)
    if length > largest:
        raise ValueError(f"it says it holds {length} bytes, and {largest} are allowed")
    try:
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError:
        raise ValueError("it is not snappy's block format") from None


def compress(body: bytes) -> bytes:
    """Compress a whole body."""
    return bytes(cramjam.snappy.compress_raw(body))


def stream(length: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Compress `length` bytes that come in parts into one block.

    A block is its length and then elements that look back at what came before. Elements made from one piece look back no
    further than that piece, so those of several pieces stand one after the other.
    """
    waiting, out = bytearray(), varint(length)
    for part in parts:
        waiting += part
        while len(waiting) >= PIECE:
            yield out + _elements(bytes(waiting[:PIECE]))
            del waiting[:PIECE]
            out = b""
    yield out + (_elements(bytes(waiting)) if waiting else b"")


def _elements(piece: bytes) -> bytes:
    block = compress(piece)
    return block[_length(block)[1] :]


def _length(block: bytes) -> tuple[int, int]:
    """Read the length at the front of a block, and how many bytes it takes; raises ValueError when there is none."""
    length = 0
    for place, byte in enumerate(block[:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return length, place + 1
    raise ValueError("it has no length")
