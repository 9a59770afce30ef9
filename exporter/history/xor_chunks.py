"""Streamed chunks of remote read: Prometheus's XOR chunks of samples, and the frames that carry them.

A chunk holds times as differences of differences and values as differences in bits, so a sample of a regular series takes a few
bits. Each frame is a message of its own, with one series: neither side holds more than one at a time.
"""

import struct
from collections.abc import Iterable, Iterator

import google_crc32c

from exporter.history.encoding import encode_varint
from exporter.history.remote_pb2 import Chunk, ChunkedReadResponse, ChunkedSeries
from exporter.ledger.samples import SampleRows

MAX_CHUNK_SAMPLES = 120
MAX_FRAME_BYTES = 32 << 20
"""A frame is ended by the chunk that reaches this size, millions of samples. Prometheus takes each frame for a whole series, and
refuses those of more than 50 MB."""
_TIME_RANGES = ((14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4))
"""Widths of a difference of times, each with the prefix that announces it and the prefix's own width."""
_MAX_LEADING_ZEROS = 31
"""Their number is written in five bits."""


def encode_frames(labels: bytes, slices: Iterable[SampleRows], query_index: int) -> Iterator[bytes]:
    """Yield the frames of a series with encoded labels, one unless it has millions of samples."""
    series, size = ChunkedSeries.FromString(labels), 0
    for rows in _split_rows(slices):
        if size >= MAX_FRAME_BYTES:
            yield _encode_frame(series, query_index)
            series, size = ChunkedSeries.FromString(labels), 0
        data = encode_chunk(rows)
        series.chunks.add(min_time_ms=rows[0][0], max_time_ms=rows[-1][0], type=Chunk.XOR, data=data)
        size += len(data)
    yield _encode_frame(series, query_index)


def encode_chunk(rows: SampleRows) -> bytes:
    """Encode up to 65,535 samples in time order, at least one, as a chunk; timestamps must not be negative."""
    (time, value), *others = rows
    bits, step = int.from_bytes(struct.pack(">d", value)), 0
    head = struct.pack(">H", len(rows)) + encode_varint(time << 1)  # signed, so twice the number
    out, width = bits, 64  # what follows the head is one long number
    leading, significant = -1, 0
    for number, (next_time, value) in enumerate(others):
        next_step = next_time - time
        if number:
            code, length = _encode_time(next_step - step)
        else:
            varint = encode_varint(next_step)
            code, length = int.from_bytes(varint), 8 * len(varint)
        out, width = out << length | code, width + length
        time, step = next_time, next_step

        next_bits = int.from_bytes(struct.pack(">d", value))
        difference, bits = bits ^ next_bits, next_bits
        if not difference:
            out, width = out << 1, width + 1
            continue
        zeros = min(64 - difference.bit_length(), _MAX_LEADING_ZEROS)
        trailing = (difference & -difference).bit_length() - 1
        if 0 <= leading <= zeros and trailing >= 64 - leading - significant:
            prefix, length = 0b10, 2
        else:
            leading, significant = zeros, 64 - zeros - trailing
            prefix, length = 0b11 << 11 | leading << 6 | significant & 0x3F, 13  # all 64 are written as none
        out = (out << length | prefix) << significant | difference >> 64 - leading - significant
        width += length + significant
    padding = -width % 8
    return head + (out << padding).to_bytes((width + padding) // 8)


def _encode_time(change: int) -> tuple[int, int]:
    """Return how much a step differs from the one before, as bits, and how many."""
    if not change:
        return 0, 1
    for width, prefix, length in _TIME_RANGES:
        if -(1 << width - 1) < change <= 1 << width - 1:
            return prefix << width | change & (1 << width) - 1, length + width
    return 0b1111 << 64 | change & (1 << 64) - 1, 68


def _encode_frame(series: ChunkedSeries, query_index: int) -> bytes:
    message = ChunkedReadResponse(chunked_series=[series], query_index=query_index).SerializeToString()
    return encode_varint(len(message)) + struct.pack(">I", google_crc32c.value(message)) + message


def _split_rows(slices: Iterable[SampleRows]) -> Iterator[SampleRows]:
    """Yield samples that come in slices of any length in slices of MAX_CHUNK_SAMPLES."""
    pending: SampleRows = []
    for rows in slices:
        pending += rows
        complete = len(pending) - len(pending) % MAX_CHUNK_SAMPLES
        yield from (pending[start : start + MAX_CHUNK_SAMPLES] for start in range(0, complete, MAX_CHUNK_SAMPLES))
        del pending[:complete]
    if pending:
        yield pending
