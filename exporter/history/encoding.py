"""The bytes of remote read and write: protobuf encoding of samples and of what is around them, and snappy's block format.

Labels, requests and frames are encoded by the protobuf library; samples are not, for two reasons. The library makes an object of
each, which is ten times slower. And it knows a message's length only when it is whole: here each sample takes the same 18 bytes,
so that the length is known before the first sample is read, and a response of any size is sent as it is read. Decompression bombs
are refused by their declared size, and large responses are compressed as they are produced.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import cramjam

from exporter.history.remote_pb2 import TimeSeries
from exporter.ledger.samples import SampleRows

SAMPLE_BYTES = 18
_SAMPLE_TEMPLATE = b"\x12\x10\x09" + bytes(8) + b"\x10" + bytes(6)
"""samples = 2, 16 bytes: value = 1 as eight bytes, timestamp = 2 as a varint of six."""
_VALUE_OFFSET, _TIMESTAMP_OFFSET = 3, 12
CHUNK_BYTES = 64 * 1024
"""How many bytes of a large response are compressed at a time."""
MAX_BLOCK_BYTES = (1 << 32) - 1
"""The limit of snappy's block format."""


def encode_samples(rows: SampleRows) -> bytes:
    """Encode samples; timestamps must lie within [MIN_TIMESTAMP_MS, MAX_TIMESTAMP_MS]."""
    return encode_columns([timestamp for timestamp, _ in rows], [value for _, value in rows])


def encode_columns(timestamps: Sequence[int], values: Sequence[float]) -> bytes:
    """Encode samples from equally long columns; timestamps must lie within [MIN_TIMESTAMP_MS, MAX_TIMESTAMP_MS].

    The timestamps are one long number of 64 bits each: six masks and shifts encode all of them as varints at once.
    """
    count = len(timestamps)
    spread, masks = _build_masks(count)
    whole = int.from_bytes(struct.pack(f"<{count}q", *timestamps), "little")
    for part, mask in enumerate(masks):
        spread |= (whole & mask) << part
    numbers, varints = struct.pack(f"<{count}d", *values), spread.to_bytes(8 * count, "little")
    out = bytearray(_SAMPLE_TEMPLATE * count)
    for byte in range(8):
        out[_VALUE_OFFSET + byte :: SAMPLE_BYTES] = numbers[byte::8]
    for byte in range(6):
        out[_TIMESTAMP_OFFSET + byte :: SAMPLE_BYTES] = varints[byte::8]
    return bytes(out)


@lru_cache(maxsize=4)
def _build_masks(count: int) -> tuple[int, list[int]]:
    """Return the continuation bits of so many varints of six bytes, and the masks of their groups of seven bits."""
    ones = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * count, "little")
    return ones * 0x80_80_80_80_80, [ones * (0x7F << 7 * part) for part in range(6)]


def encode_labels(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Encode the labels of a series: a TimeSeries, or a ChunkedSeries, without its samples."""
    return TimeSeries(labels=[{"name": name, "value": value} for name, value in pairs]).SerializeToString()


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


def regroup(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield bytes that come in parts of any length in parts of `size`; only the last is shorter, and none is empty."""
    pending = bytearray()
    for part in parts:
        pending += part
        while len(pending) >= size:
            yield bytes(pending[:size])
            del pending[:size]
    if pending:
        yield bytes(pending)


@lru_cache(maxsize=4096)
def encode_field_header(number: int, length: int) -> bytes:
    """Encode the tag and length of a field of `length` bytes."""
    return bytes((number << 3 | 2,)) + encode_varint(length)


def encode_varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _compress_elements(chunk: bytes) -> bytes:
    return compress(chunk)[len(encode_varint(len(chunk))) :]
