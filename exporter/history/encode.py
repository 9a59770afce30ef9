"""Series and samples in protobuf's bytes, by the thousand.

Each sample takes the same 18 bytes, so that a message's length is known before the first sample is read: an answer of
any size is sent as it is read. The library would make an object of each, and its lengths are known only at the end.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from exporter.history.series import Labels
from exporter.ledger import Rows

FIRST, LAST = 1 << 35, (1 << 42) - 1
"""Stamps between them (1971 to 2109) take six bytes as a varint."""
SAMPLE = 18
_BLANK = b"\x12\x10\x09" + bytes(8) + b"\x10" + bytes(6)
"""samples = 2, 16 bytes: value = 1 as eight bytes, timestamp = 2 as a varint of six."""
_VALUE, _STAMP = 3, 12
_SEVENS = [0x7F << 7 * part for part in range(6)]
_GO_ON = 0x80_80_80_80_80
"""Every byte of a varint but the last has its highest bit set."""


def samples(rows: Rows) -> bytes:
    """Encode samples; stamps lie within [FIRST, LAST]."""
    return columns([stamp for stamp, _ in rows], [value for _, value in rows])


def columns(stamps: Sequence[int], values: Sequence[float]) -> bytes:
    """Encode samples, as many values as stamps; stamps lie within [FIRST, LAST].

    The stamps are one long number of 64 bits each: six masks and shifts make varints of all of them at once.
    """
    count = len(stamps)
    ones = int.from_bytes(b"\x01\0\0\0\0\0\0\0" * count, "little")
    whole = int.from_bytes(struct.pack(f"<{count}q", *stamps), "little")
    spread = ones * _GO_ON
    for part, mask in enumerate(_SEVENS):
        spread |= (whole & ones * mask) << part
    numbers, varints = struct.pack(f"<{count}d", *values), spread.to_bytes(8 * count, "little")
    out = bytearray(_BLANK * count)
    for byte in range(8):
        out[_VALUE + byte :: SAMPLE] = numbers[byte::8]
    for byte in range(6):
        out[_STAMP + byte :: SAMPLE] = varints[byte::8]
    return bytes(out)


def labels(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Encode the labels of a series."""
    return b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in pairs)


def series(named: Labels, rows: Rows) -> bytes:
    """Encode a whole TimeSeries."""
    return labels(named) + (samples(rows) if rows else b"")


def field(number: int, body: bytes) -> bytes:
    """Encode a field that holds bytes."""
    return head(number, len(body)) + body


@lru_cache(maxsize=4096)
def head(number: int, length: int) -> bytes:
    """Encode the beginning of a field that holds `length` bytes."""
    return bytes((number << 3 | 2,)) + varint(length)


def varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
