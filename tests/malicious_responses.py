"""Malicious responses of a portal: on the wire, as a redirect, as a body, or as a valid response with bad values."""

import asyncio
import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from exporter.simulators.base import Handler
from tests.fault_proxy import Attack

MANY_VALUES = 50_000
OVERSIZED_BYTES = 1 << 21
"""More than the tests allow a response to have."""


def send_raw(*parts: bytes, again: bytes = b"", every: float = 0.0) -> Attack:
    """Write bytes to the connection; then `again` without end, or close it."""

    async def strike(request: web.Request, handler: Handler | None) -> web.StreamResponse:
        transport = request.transport  # the request forgets it when the client leaves
        assert transport is not None
        for part in parts:
            transport.write(part)
        while again and not transport.is_closing():
            transport.write(again)
            await asyncio.sleep(every)
        transport.close()
        return web.Response()

    return strike


def respond_with_body(content: bytes | str, kind: str = "application/json", status: int = 200, **headers: str) -> Attack:
    """Respond with a body."""
    content = content.encode() if isinstance(content, str) else content

    async def strike(request: web.Request, handler: Handler | None) -> web.StreamResponse:
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=content, headers=made | {"Content-Type": kind}, status=status)

    return strike


def respond_with_redirect(status: int, target: str = "") -> Attack:
    """Respond with a redirect; without a target, to the request's own URL."""

    async def strike(request: web.Request, handler: Handler | None) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": target or request.path_qs})

    return strike


def add_cookies(count: int) -> Attack:
    """Respond as the portal does, with additional cookies."""

    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        for number in range(count):
            answer.headers.add("Set-Cookie", f"c{number}={'x' * 100}; Path=/")
        return answer

    return strike


async def never_respond(request: web.Request, handler: Handler | None) -> web.StreamResponse:
    """Never respond."""
    await asyncio.sleep(3600)
    return web.Response()


async def reset_connection(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Reset the connection in the middle of a valid response."""
    whole = await handler(request)
    assert isinstance(whole, web.Response)
    assert request.transport is not None
    body = whole.body if isinstance(whole.body, bytes) else b""
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) + 100) + body[: len(body) // 2])
    await asyncio.sleep(0)
    request.transport.abort()
    return whole


def change_values(change: Callable[[Any], Any]) -> Attack:
    """Respond as the portal does, with every value of the JSON changed; other bodies are unchanged."""

    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        try:
            body = json.loads(answer.body)
        except ValueError:
            return answer
        # A number too large for Python's encoder is inserted as text, and its quotes are removed.
        answer.body = re.sub(r'"bare:([^"]*)"', r"\1", json.dumps(map_values(body, change))).encode()
        return answer

    return strike


def redirect_elsewhere(target: str, status: int) -> Attack:
    """Send the client to another host: by a redirect, or (status 200) by every URL in the valid response."""

    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        if status != 200:
            return web.Response(status=status, headers={"Location": target + request.path_qs})
        answer = await handler(request)
        here = re.compile(rb"https?://127\.0\.0\.1:\d+|(?<=action=['\"])(?=/)")
        if isinstance(answer, web.Response) and isinstance(answer.body, bytes):
            answer.body = here.sub(target.encode(), answer.body)
        if location := answer.headers.get("Location"):
            answer.headers["Location"] = target + location[location.find("/", 8) :]
        return answer

    return strike


def map_values(data: Any, change: Callable[[Any], Any]) -> Any:
    """Change every value that holds no others."""
    if isinstance(data, dict):
        return {key: map_values(value, change) for key, value in data.items()}
    return [map_values(value, change) for value in data] if isinstance(data, list) else change(data)


def replace_numbers(value: str) -> Attack:
    """Every number is this one; digits in text too."""

    def change(was: Any) -> Any:
        if isinstance(was, (int, float)) and not isinstance(was, bool):
            return f"bare:{value}"
        if isinstance(was, str) and re.fullmatch(r"-?\d+([.,]\d+)?", was):
            return value
        return was

    return change_values(change)


def replace_texts(value: str) -> Attack:
    """Every text is this one."""
    return change_values(lambda was: value if isinstance(was, str) else was)


def replace_days(value: str) -> Attack:
    """Every text that begins with a date is this one; large whole numbers, which may be milliseconds, are of the year 1."""

    def change(was: Any) -> Any:
        if isinstance(was, str) and re.match(r"\d{4}-\d\d-\d\d", was):
            return value
        if type(was) is int and was > 1 << 33:
            return -62_135_596_800_000
        return was

    return change_values(change)


def replace_everything(value: Any) -> Attack:
    """Every value is this one."""
    return change_values(lambda _: value)


def replace_key(number: int, value: Any, keys: list[str]) -> Attack:
    """Respond as the portal does, with every value under one of its keys changed; `keys` receives the keys."""

    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        with contextlib.suppress(ValueError):
            body = json.loads(answer.body)
            keys[:] = sorted(set(_list_keys(body)))
            if number < len(keys):
                answer.body = json.dumps(_set_key(body, keys[number], value)).encode()
        return answer

    return strike


def _list_keys(value: Any) -> Iterator[str]:
    for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _list_keys(below)
    yield from value if isinstance(value, dict) else ()


def _set_key(body: Any, key: str, value: Any) -> Any:
    if isinstance(body, dict):
        return {name: value if name == key else _set_key(below, key, value) for name, below in body.items()}
    return [_set_key(below, key, value) for below in body] if isinstance(body, list) else body


def respond_with_bomb(size: int, coding: str = "gzip") -> Attack:
    """Respond with a body that unpacks to `size` zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return respond_with_body(packed, Content_Encoding=coding)


RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

CONNECTION_ATTACKS: dict[str, tuple[Attack, str]] = {
    "never answers": (never_respond, "unreachable"),
    "an endless answer": (send_raw(RESPONSE_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", again=CHUNK), "response"),
    "an answer too large": (
        send_raw(RESPONSE_HEAD + b"Content-Length: %d\r\n\r\n" % OVERSIZED_BYTES, b" " * OVERSIZED_BYTES),
        "response",
    ),
    "a slow drip": (send_raw(RESPONSE_HEAD + b"Content-Length: 1000000\r\n\r\n", again=b" ", every=0.01), "unreachable"),
    "a slow drip of headers": (send_raw(RESPONSE_HEAD, again=b"X-A: b\r\n", every=0.01), "unreachable"),
    "headers without end": (send_raw(RESPONSE_HEAD, again=b"X-A: b\r\n" * 1000), "unreachable"),
    "a header without end": (send_raw(RESPONSE_HEAD + b"X-A: ", again=b"x" * 65536), "unreachable"),
    "ten thousand cookies": (add_cookies(10_000), "unreachable"),
    "continue, for ever": (send_raw(b"", again=b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "unreachable"),
    "no HTTP": (send_raw(b"\x16\x03\x01 who is there\r\n" * 10), "unreachable"),
    "an impossible length": (send_raw(RESPONSE_HEAD + b"Content-Length: -5\r\n\r\n{}"), "unreachable"),
    "an impossible chunk": (send_raw(RESPONSE_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"), "unreachable"),
    "reset in the middle": (reset_connection, "unreachable"),
    "a compressed bomb": (respond_with_bomb(1 << 26), "response"),
    "a deflated bomb": (respond_with_bomb(1 << 26, "deflate"), "response"),
    "broken compression": (respond_with_body(gzip.compress(b"{}")[:-12] + b"x" * 99, Content_Encoding="gzip"), "unreachable"),
}
REDIRECT_TARGETS = {
    "in a circle": "",
    "into a file": "file:///etc/passwd",
    "into a script": "javascript:alert(1)",
    "to no host": "https://",
    "to no address": "http://[::1",
    "to a strange port": "http://127.0.0.1:99999999/",
}
REDIRECT_ATTACKS: dict[str, tuple[Attack, str]] = {
    f"{status} {name}": (respond_with_redirect(status, target), "response")
    for status in (302, 307)
    for name, target in REDIRECT_TARGETS.items()
}
TIMEOUT_ATTACKS = {"never answers", "a slow drip", "a slow drip of headers", "continue, for ever"}
"""What nothing but the time limit ends."""
ATTACKS_ON_EVERY_REQUEST = {"never answers", "an endless answer", "302 in a circle", "302 into a file", "302 to no host"}
EQUIVALENT_ATTACKS = {
    *CONNECTION_ATTACKS,
    *REDIRECT_ATTACKS,
    "Infinity",
    "gone wrong",
    "no such status",
} - ATTACKS_ON_EVERY_REQUEST
"""Of what the session makes the same error as of another one: a portal cannot tell them apart, wherever they come."""
DEEP_LISTS = "[" * MANY_VALUES
BODY_ATTACKS: dict[str, tuple[Attack, str]] = {
    "deep lists": (respond_with_body(DEEP_LISTS), "response"),
    "deep objects": (respond_with_body('{"a":' * MANY_VALUES), "response"),
    "deep and whole": (respond_with_body("[" * 900 + "]" * 900), "response"),
    "many values": (respond_with_body("[" + "{}," * (MANY_VALUES * 3) + "{}]"), "response"),
    "a deep page": (respond_with_body("<div>" * MANY_VALUES, "text/html"), "response"),
    "a page of forms": (respond_with_body("<form><input name=a type=password>" * 3000, "text/html"), "response"),
    "a page of comments": (respond_with_body("<!--" * 50_000, "text/html"), "response"),
    "a page of open tags": (respond_with_body("<a " * 50_000 + "<!DOCTYPE html" * 99, "text/html"), "response"),
    "a page of settings": (respond_with_body("<script>" + 'SETTINGS={"a":' * 50_000, "text/html"), "response"),
    "a page of many settings": (respond_with_body("<script>" + "SETTINGS = {" * 50_000, "text/html"), "response"),
    "NaN": (respond_with_body('{"a": NaN}'), "response"),
    "Infinity": (respond_with_body("[-Infinity]"), "response"),
    "a number too long": (respond_with_body("9" * 100_000), "response"),
    "nothing": (respond_with_body(b""), "response"),
    "null": (respond_with_body("null"), "response"),
    "an empty list": (respond_with_body("[]"), "response"),
    "an empty object": (respond_with_body("{}"), "response"),
    "a text": (respond_with_body('"x"'), "response"),
    "a number": (respond_with_body("1"), "response"),
    "lists of lists": (respond_with_body("[[[]], [], 1, null, {}]"), "response"),
    "no data": (respond_with_body('{"data": null}'), "response"),
    "bytes that are no text": (respond_with_body(b'{"a": "\xff\xfe"}'), "response"),
    "half a character": (respond_with_body(b'{"a": "\xed\xa0\x80"}'), "response"),
    "an unknown charset": (respond_with_body(b"<html>\xe9", "text/html; charset=x-none"), "response"),
    "a charset that is no text": (respond_with_body(b"<html>\xe9", "text/html; charset=zlib"), "response"),
    "a slow charset": (respond_with_body(b"<" + b"a-" * 300_000, "text/html; charset=punycode"), "response"),
    "not found": (respond_with_body("{}", status=404), "response"),
    "gone wrong": (respond_with_body("{}", status=500), "unreachable"),
    "no such status": (respond_with_body("{}", status=999), "unreachable"),
    "too many": (respond_with_body("{}", status=429, Retry_After="999999999999"), "rate_limit"),
}
TERMINAL_TEXT = '\x1b[31m\x9b2J\u202eevil\u2066\x00\r\nlevel=error\u0085msg="x"\ud800'
"""What a terminal, a log or a page might obey: colours, erasing, writing backwards, a line of its own, half a character."""
SINGLE_VALUES: dict[str, Any] = {
    "without end": 1e308,
    "that rules a screen": TERMINAL_TEXT,
}
VALUE_ATTACKS: dict[str, Attack] = {
    "numbers without end": replace_numbers("1e308"),
    "numbers without end below zero": replace_numbers("-1e308"),
    "numbers beyond all": replace_numbers("1" + "0" * 400),
    "numbers of many digits": replace_numbers("123456789" * 500),
    "numbers that are none": replace_numbers("NaN"),
    "numbers below zero": replace_numbers("-1"),
    "numbers so small": replace_numbers("5e-324"),
    "zero": replace_numbers("0"),
    "nothing but null": replace_everything(None),
    "nothing but true": replace_everything(True),
    "nothing but text": replace_everything("x"),
    "nothing but lists": replace_everything([]),
    "nothing but objects": replace_everything({"a": {"b": 1}}),
    "texts that rule a screen": replace_texts(TERMINAL_TEXT),
    "long texts": replace_texts("long " * 4000),
    "long digits": replace_texts("7" * 5000),
    "empty texts": replace_texts(""),
    "markup": replace_texts("<script>alert(1)</script>\"'\\{}"),
    "days before all": replace_days("0001-01-01T00:00:00"),
    "days after all": replace_days("9999-12-31T23:59:59.999Z"),
    "days that are none": replace_days("2026-02-30"),
    "strange offsets": replace_days("2026-11-19T00:00:00+23:59"),
}
