"""Streamed chunks: what is decoded by the format is what was encoded, and the two kinds of response hold the same samples."""

import struct
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.history import xor_chunks
from exporter.history.config import HistorySettings
from exporter.history.encoding import encode_labels, regroup
from exporter.history.export import ExportSelection, export_series
from exporter.history.remote_read import RemoteReadHandler
from tests.history import programs
from tests.history.remote_read_client import EQUAL, MAX_TIME, MIN_TIME, REGEXP, build_request, post_request, read_series
from tests.history.sample_history import NOW, SampleHistory
from tests.history.xor_decoder import decode_chunk, parse_frames

EVERY = [(REGEXP, "__name__", ".+")]
SAMPLES, STREAMED = 0, 1
STREAMED_TYPE = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
DAY = 86_400_000
EDGES = [edge + near for bits in (14, 17, 20) for edge in (1 << bits - 1, 1 << bits) for near in (-1, 0, 1)]
"""Steps at which a difference just fits, or no longer fits, into its number of bits."""
steps = st.one_of(st.integers(1, 1 << 36), st.sampled_from([900_000, 1_800_000, DAY]), st.sampled_from(EDGES))
eighths = st.integers(0, 10_000).map(lambda number: number / 8)
values = st.one_of(st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1.5, 1.25]), eighths)


@st.composite
def sample_rows(draw, max_rows: int = 300):
    """Samples with random gaps and runs of equal values and equal gaps."""
    at, rows = draw(st.integers(1 << 35, 1 << 40)), []
    for step, value, times in draw(st.lists(st.tuples(steps, values, st.integers(1, 40)), min_size=1, max_size=max_rows // 40)):
        for _ in range(times):
            rows.append((at, value))
            at += step
    return rows


def bits_of(rows: list[tuple[int, float]]) -> list[tuple[int, bytes]]:
    """Values by their bits: zero and its negative are two."""
    return [(at, struct.pack(">d", value)) for at, value in rows]


@given(sample_rows())
def test_a_chunk_holds_what_was_encoded(rows):
    """
    Whatever the gaps and values, a decoder written from the format gives every sample back, to the last bit.
    """
    assert bits_of(decode_chunk(xor_chunks.encode_chunk(rows))) == bits_of(rows)


def test_a_chunk_as_the_format_has_it():
    """
    Three samples, bit by bit: the head, an unchanged value, and one that differs in its two highest bits of the fraction.
    """
    chunk = xor_chunks.encode_chunk([(1000, 1.0), (1060, 1.0), (1120, 1.75)])

    head = b"\x00\x03" + b"\xd0\x0f" + struct.pack(">d", 1.0) + b"\x3c"
    tail = "0" + "0" + "11" + f"{12:05b}" + f"{2:06b}" + "11"
    assert chunk == head + int(tail.ljust(24, "0"), 2).to_bytes(3)


@given(sample_rows(2000), st.lists(st.integers(0, 500), max_size=4), st.integers(0, 63))
def test_frames_hold_a_series(rows, cuts, query):
    """
    However a series comes in slices, its frame has it in chunks of at most 120 samples, with its labels and its query.
    """
    places = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    slices = [rows[first:last] for first, last in pairwise(places)]
    labels = encode_labels([("__name__", "x"), ("account", "home")])
    ((found,),) = [parse_frames(b"".join(xor_chunks.encode_frames(labels, slices, query)))]

    assert (found.labels, found.query) == ({"__name__": "x", "account": "home"}, query)
    assert [len(chunk) for chunk in found.chunks] == [120] * (len(rows) // 120) + [len(rows) % 120] * (len(rows) % 120 > 0)
    assert bits_of(found.samples) == bits_of(rows)


def test_a_very_long_series_has_several_frames(monkeypatch):
    """
    A series that exceeds the size of a frame continues in the next, with its labels.
    """
    monkeypatch.setattr(xor_chunks, "MAX_FRAME_BYTES", 5000)
    rows = [(NOW_MS + 60_000 * number, number / 7) for number in range(3000)]
    frames = list(xor_chunks.encode_frames(encode_labels([("__name__", "x")]), [rows], 1))
    found = parse_frames(b"".join(frames))

    assert len(frames) == len(found) > 3
    assert max(map(len, frames)) < 5000 + 120 * 20
    assert {(*part.labels.items(), part.query) for part in found} == {(("__name__", "x"), 1)}
    assert [row for part in found for row in part.samples] == rows


NOW_MS = int(NOW.timestamp() * 1000)


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_regroup(parts, size):
    """
    Bytes come out as they went in, in parts of one size.
    """
    found = list(regroup(parts, size))

    assert b"".join(found) == b"".join(parts)
    assert all(len(part) == size for part in found[:-1])
    assert all(found)


QUERIES = [
    (MIN_TIME, MAX_TIME, EVERY),
    (MIN_TIME, MAX_TIME, [(EQUAL, "account", "nobody")]),
    (NOW_MS - 100 * DAY, NOW_MS - 30 * DAY - 1, [(EQUAL, "account", "home")]),
]


async def post(client: aiohttp.ClientSession, base_url: str, *queries, **more) -> tuple[str, str | None, bytes]:
    async with client.post(f"{base_url}/api/v1/read", data=build_request(*queries, **more)) as answer:
        assert answer.status == 200
        return answer.headers["Content-Type"], answer.headers.get("Content-Encoding"), await answer.read()


def by_query(body: bytes, count: int) -> list[list[tuple[dict[str, str], list[tuple[int, float]]]]]:
    found = parse_frames(body)
    assert [part.query for part in found] == sorted(part.query for part in found)
    return [[(part.labels, part.samples) for part in found if part.query == number] for number in range(count)]


async def test_streamed_is_what_is_sampled(sample_history: SampleHistory, base_url, client):
    """
    Over the whole history the chunks hold the samples of the other kind of response: series by series, sample by sample.
    """
    sampled = await read_series(client, base_url, *QUERIES, accepted=[SAMPLES])
    kind, encoding, body = await post(client, base_url, *QUERIES, accepted=[STREAMED])

    assert (kind, encoding) == (STREAMED_TYPE, None)
    assert by_query(body, len(QUERIES)) == sampled
    assert {frozenset(labels.items()): dict(samples) for labels, samples in sampled[0]} == sample_history.all_samples


async def test_day_by_day(sample_history: SampleHistory, base_url, client):
    """
    Read day by day, each up to a millisecond before the next, as vmctl does with its steps of a day, the history is complete.
    """
    stamps = [at for samples in sample_history.all_samples.values() for at in samples]
    days = range(min(stamps) // DAY, max(stamps) // DAY + 1)
    queries = [(DAY * day, DAY * (day + 1) - 1, EVERY) for day in days]
    found: dict[frozenset[tuple[str, str]], dict[int, float]] = {}
    count = 0
    for first in range(0, len(queries), 64):
        _, _, body = await post(client, base_url, *queries[first : first + 64], accepted=[STREAMED])
        for part in parse_frames(body):
            found.setdefault(frozenset(part.labels.items()), {}).update(part.samples)
            count += len(part.samples)

    assert found == sample_history.all_samples
    assert count == len(stamps)


@pytest.mark.parametrize(
    ("accepted", "limit", "streamed"),
    [
        ([], 0, False),
        ([SAMPLES], 0, False),
        ([STREAMED, SAMPLES], 1 << 24, False),
        ([STREAMED, SAMPLES], 1000, True),
        ([STREAMED, 7], 1 << 24, True),
    ],
)
def test_which_kind_is_sent(sample_history: SampleHistory, monkeypatch, accepted, limit, streamed):
    """
    Who accepts samples gets them, unless they are too many and chunks are accepted too.
    """
    monkeypatch.setattr("exporter.history.remote_read.MAX_SAMPLED_BYTES", limit)
    announced: list[bool] = []
    handler = RemoteReadHandler(sample_history.ledger, {}, 1_000_000)
    request = build_request((MIN_TIME, MAX_TIME, EVERY), accepted=accepted)
    list(handler.handle_request(request, MAX_TIME, on_xor_chunks=lambda: announced.append(True)))

    assert announced == [True] * streamed


async def test_other_kinds_and_empty_answers(sample_history, history, base_url, client):
    """
    An unknown kind alone is refused; no series is an empty body of the right kind; limits hold for chunks too.
    """
    refused = await post_request(client, base_url, build_request((MIN_TIME, MAX_TIME, EVERY), accepted=[7]))
    nothing = await post(client, base_url, QUERIES[1], accepted=[STREAMED])
    _, _, names = await post(client, base_url, QUERIES[0], accepted=[STREAMED], function="series")
    history.configure(HistorySettings(max_samples=10), {})
    many = await post_request(client, base_url, build_request((MIN_TIME, MAX_TIME, EVERY), accepted=[STREAMED]))

    assert (refused[0], b"STREAMED_XOR_CHUNKS" in refused[1]) == (400, True)
    assert nothing == (STREAMED_TYPE, None, b"")
    assert {frozenset(part.labels.items()) for part in parse_frames(names)} == set(sample_history.all_samples)
    assert all(part.chunks == [] for part in parse_frames(names))
    assert (many[0], b"history.max_samples" in many[1]) == (400, True)


async def test_prometheus_has_the_same_chunks(sample_history: SampleHistory, base_url, client, tmp_path: Path):
    """
    Prometheus, asked for chunks of what it has loaded from an export, sends the same samples, and encodes each chunk as we do.
    """
    _, _, ours = await post(client, base_url, QUERIES[0], accepted=[STREAMED])
    file, folder = tmp_path / "history.om", tmp_path / "p"
    export_series(sample_history.ledger, {}, ExportSelection(), NOW, file)
    programs.run_promtool("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=744h", file, folder / "tsdb")
    async with programs.run_prometheus(client, folder) as prometheus:
        kind, encoding, theirs = await post(client, prometheus.url, QUERIES[0], accepted=[STREAMED])
    found, expected = parse_frames(theirs), parse_frames(ours)

    assert (kind, encoding or None) == (STREAMED_TYPE, None)
    assert [(part.labels, part.samples) for part in found] == [(part.labels, part.samples) for part in expected]
    for chunk, encoded in ((c, e) for part in found for c, e in zip(part.chunks, part.encoded, strict=True)):
        again = xor_chunks.encode_chunk(chunk)
        assert encoded in (again, again + b"\0")  # where the last bit ends a byte, Prometheus has already begun the next
