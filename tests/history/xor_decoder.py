"""A decoder of ChunkedReadResponse frames and of XOR chunks, written from the format, for tests."""

import struct
from dataclasses import dataclass

import google_crc32c


@dataclass
class SeriesFrame:
    """A frame: one series, its chunks as they came and decoded, and the place of its query."""

    labels: dict[str, str]
    encoded: list[bytes]
    chunks: list[list[tuple[int, float]]]
    query: int

    @property
    def samples(self) -> list[tuple[int, float]]:
        return [sample for chunk in self.chunks for sample in chunk]


class BitReader:
    def __init__(self, data: bytes) -> None:
        self._bits, self._at = "".join(f"{byte:08b}" for byte in data), 0

    def read(self, count: int) -> int:
        assert self._at + count <= len(self._bits), "the chunk ends early"
        self._at += count
        return int(self._bits[self._at - count : self._at] or "0", 2)

    def read_varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.read(8)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def read_signed(self, count: int) -> int:
        """A difference of times: its greatest value has the highest bit set, and no other."""
        number = self.read(count)
        return number - (1 << count) if number > 1 << count - 1 else number

    def expect_end(self) -> None:
        """What is left are the unused bits of the last byte; Prometheus may leave a whole one."""
        rest = self._bits[self._at :]
        assert len(rest) <= 8
        assert set(rest) <= {"0"}


def decode_chunk(data: bytes) -> list[tuple[int, float]]:
    (count,), bits = struct.unpack(">H", data[:2]), BitReader(data[2:])
    found: list[tuple[int, float]] = []
    at = step = value = leading = trailing = 0
    for number in range(count):
        if number == 0:
            zigzag = bits.read_varint()
            at, value = (zigzag >> 1) ^ -(zigzag & 1), bits.read(64)
        else:
            step = bits.read_varint() if number == 1 else step + _read_change(bits)
            at += step
            if bits.read(1):
                if bits.read(1):
                    leading = bits.read(5)
                    trailing = 64 - leading - (bits.read(6) or 64)
                value ^= bits.read(64 - leading - trailing) << trailing
        found.append((at, struct.unpack(">d", value.to_bytes(8))[0]))
    bits.expect_end()
    return found


def _read_change(bits: BitReader) -> int:
    for width in (0, 14, 17, 20):
        if not bits.read(1):
            return bits.read_signed(width) if width else 0
    return bits.read_signed(64)


def parse_frames(body: bytes) -> list[SeriesFrame]:
    found = []
    at = 0
    while at < len(body):
        length, at = _read_varint(body, at)
        (checksum,), message = struct.unpack_from(">I", body, at), body[at + 4 : at + 4 + length]
        assert len(message) == length
        assert google_crc32c.value(message) == checksum
        found.append(_parse_message(message))
        at += 4 + length
    return found


def _parse_message(message: bytes) -> SeriesFrame:
    fields = _parse_fields(message)
    (series,), query = fields.pop(1), fields.pop(2, [0])[0]
    assert not fields
    assert isinstance(series, bytes)
    inside = _parse_fields(series)
    labels = dict(_parse_label(label) for label in inside.pop(1))
    frame = SeriesFrame(labels, [], [], query)
    for chunk in inside.pop(2, []):
        parts = _parse_fields(chunk)
        (first,), (last,), (kind,), (data,) = parts.pop(1), parts.pop(2), parts.pop(3), parts.pop(4)
        rows = decode_chunk(data)
        assert (first, last, kind, parts) == (rows[0][0], rows[-1][0], 1, {})
        frame.encoded.append(data)
        frame.chunks.append(rows)
    assert not inside
    return frame


def _parse_label(label: bytes) -> tuple[str, str]:
    fields = _parse_fields(label)
    return fields[1][0].decode(), fields[2][0].decode()


def _parse_fields(message: bytes) -> dict[int, list]:
    """Every field's contents by its number: numbers, and the bytes of what has a length."""
    found: dict[int, list] = {}
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        content, at = _read_varint(message, at)
        if tag & 7 == 2:
            content, at = message[at : at + content], at + content
        found.setdefault(tag >> 3, []).append(content)
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
