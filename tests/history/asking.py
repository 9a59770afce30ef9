"""Asking the read endpoint directly, in the protocol's words, with the library's own encoder and decoder."""

import io
from collections.abc import Sequence
from typing import Any

import aiohttp
import cramjam

from exporter.history.messages import MESSAGES

FIRST, LAST = 0, 4_000_000_000_000
Matchers = Sequence[tuple[int, str, str]]
EQUAL, NOT_EQUAL, REGEXP, NOT_REGEXP = range(4)


def request(*queries: tuple[int, int, Matchers], accepted: Sequence[int] = (), function: str = "") -> bytes:
    """Write a ReadRequest, compressed."""
    message = MESSAGES["ReadRequest"](accepted_response_types=accepted)
    for first, last, matchers in queries:
        query = message.queries.add(start_timestamp_ms=first, end_timestamp_ms=last)
        for kind, name, value in matchers:
            query.matchers.add(type=kind, name=name, value=value)
        if function:
            query.hints.func = function
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


async def post(client: aiohttp.ClientSession, face: str, body: bytes | io.BytesIO, **more: Any) -> tuple[int, bytes]:
    async with client.post(f"{face}/api/v1/read", data=body, **more) as answer:
        return answer.status, await answer.read()


Answer = list[list[tuple[dict[str, str], list[tuple[int, float]]]]]
"""Each query's series with their samples, in the order they came."""


def response(body: bytes) -> Answer:
    """Read a ReadResponse."""
    message = MESSAGES["ReadResponse"].FromString(bytes(cramjam.snappy.decompress_raw(body)))
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


async def ask(client: aiohttp.ClientSession, face: str, *queries: tuple[int, int, Matchers], **more: Any) -> Answer:
    status, body = await post(client, face, request(*queries, **more))
    assert status == 200, body
    return response(body)
