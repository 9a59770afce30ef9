"""Snappy's block format, in chunks.

Decompression bombs are refused by their declared size, and large responses are compressed as they are produced.
"""

from collections.abc import Iterable, Iterator

import cramjam

from exporter.history.encoding import encode_varint, regroup

CHUNK_BYTES = 64 * 1024
MAX_LENGTH = (1 << 32) - 1
"""The format's own limit."""


def decompress(block: bytes, max_size: int) -> bytes:
    """Decompress a block; raise ValueError if it is corrupt or declares more than `max_size` bytes."""
    try:
        length = cramjam.snappy.decompress_raw_len(block)
        if length > max_size:
            raise ValueError(f"it declares {length} bytes, more than the limit of {max_size}")
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError:
        raise ValueError("it is not in snappy's block format") from None


def compress(body: bytes) -> bytes:
    """Compress a whole body."""
    return bytes(cramjam.snappy.compress_raw(body))


def compress_stream(length: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Compress `length` bytes, passed in chunks, into one block.

    A block is its length followed by elements that refer back to earlier bytes. Elements made from one chunk refer back only
    within that chunk, so the elements of several chunks can be concatenated.
    """
    head = encode_varint(length)
    for chunk in regroup(chunks, CHUNK_BYTES):
        yield head + _compress_elements(chunk)
        head = b""
    if head:
        yield head


def _compress_elements(chunk: bytes) -> bytes:
    return compress(chunk)[len(encode_varint(len(chunk))) :]
