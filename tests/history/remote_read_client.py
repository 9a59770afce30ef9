"""A client of the remote read endpoint, with the protobuf library's encoder and decoder."""

import io
from collections.abc import Sequence
from typing import Any

import aiohttp
import cramjam

from exporter.history.remote_pb2 import ReadRequest, ReadResponse

MIN_TIME, MAX_TIME = 0, 4_000_000_000_000
Matchers = Sequence[tuple[int, str, str]]
EQUAL, NOT_EQUAL, REGEXP, NOT_REGEXP = range(4)


def build_request(
    *queries: tuple[int, int, Matchers], accepted: Sequence[int] = (), function: str = "", hints: tuple[int, int] = (0, 0)
) -> bytes:
    """Return a compressed ReadRequest; `hints` are the first and last instant that are needed of it."""
    message = ReadRequest(accepted_response_types=accepted)
    for first, last, matchers in queries:
        query = message.queries.add(start_timestamp_ms=first, end_timestamp_ms=last)
        for kind, name, value in matchers:
            query.matchers.add(type=kind, name=name, value=value)
        if function:
            query.hints.func = function
        if any(hints):
            query.hints.start_ms, query.hints.end_ms = hints
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


async def post_request(client: aiohttp.ClientSession, base_url: str, body: bytes | io.BytesIO, **more: Any) -> tuple[int, bytes]:
    async with client.post(f"{base_url}/api/v1/read", data=body, **more) as answer:
        return answer.status, await answer.read()


ReadResult = list[list[tuple[dict[str, str], list[tuple[int, float]]]]]
"""Each query's series with their samples, in the order they came."""


def parse_response(body: bytes) -> ReadResult:
    """Parse a ReadResponse."""
    message = ReadResponse.FromString(bytes(cramjam.snappy.decompress_raw(body)))
    return [
        [
            (
                {label.name: label.value for label in series.labels},
                [(sample.timestamp, sample.value) for sample in series.samples],
            )
            for series in result.timeseries
        ]
        for result in message.results
    ]


async def read_series(
    client: aiohttp.ClientSession, base_url: str, *queries: tuple[int, int, Matchers], **more: Any
) -> ReadResult:
    status, body = await post_request(client, base_url, build_request(*queries, **more))
    assert status == 200, body
    return parse_response(body)
