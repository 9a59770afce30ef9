"""Protobuf encoding of samples, and of the messages around them.

Labels, requests and frames are encoded by the protobuf library; samples are not, for two reasons. The library makes an object of
each, which is ten times slower. And it knows a message's length only when it is whole: here each sample takes the same 18 bytes,
so that the length is known before the first sample is read, and a response of any size is sent as it is read.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from exporter.history.remote_pb2 import TimeSeries
from exporter.ledger.queries import SampleRows

SAMPLE_BYTES = 18
_SAMPLE_TEMPLATE = b"\x12\x10\x09" + bytes(8) + b"\x10" + bytes(6)
"""samples = 2, 16 bytes: value = 1 as eight bytes, timestamp = 2 as a varint of six."""
_VALUE_OFFSET, _TIMESTAMP_OFFSET = 3, 12
_SEVEN_BIT_MASKS = [0x7F << 7 * part for part in range(6)]
_CONTINUATION_BITS = 0x80_80_80_80_80
"""Every byte of a varint but the last has its highest bit set."""


def encode_samples(rows: SampleRows) -> bytes:
    """Encode samples; timestamps must lie within [MIN_TIMESTAMP_MS, MAX_TIMESTAMP_MS]."""
    return encode_columns([timestamp for timestamp, _ in rows], [value for _, value in rows])


def encode_columns(timestamps: Sequence[int], values: Sequence[float]) -> bytes:
    """Encode samples from equally long columns; timestamps must lie within [MIN_TIMESTAMP_MS, MAX_TIMESTAMP_MS].

    The timestamps are one long number of 64 bits each: six masks and shifts encode all of them as varints at once.
    """
    count = len(timestamps)
    ones = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * count, "little")
    whole = int.from_bytes(struct.pack(f"<{count}q", *timestamps), "little")
    spread = ones * _CONTINUATION_BITS
    for part, mask in enumerate(_SEVEN_BIT_MASKS):
        spread |= (whole & ones * mask) << part
    numbers, varints = struct.pack(f"<{count}d", *values), spread.to_bytes(8 * count, "little")
    out = bytearray(_SAMPLE_TEMPLATE * count)
    for byte in range(8):
        out[_VALUE_OFFSET + byte :: SAMPLE_BYTES] = numbers[byte::8]
    for byte in range(6):
        out[_TIMESTAMP_OFFSET + byte :: SAMPLE_BYTES] = varints[byte::8]
    return bytes(out)


def encode_labels(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Encode the labels of a series: a TimeSeries, or a ChunkedSeries, without its samples."""
    return TimeSeries(labels=[{"name": name, "value": value} for name, value in pairs]).SerializeToString()


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
