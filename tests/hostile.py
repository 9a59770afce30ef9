"""What a hostile portal may answer: on the wire, as a redirect, as a body, or as a good answer with bad values in it."""

import asyncio
import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from exporter.demo.base import Handler
from tests.between import Attack

MANY = 50_000
LARGE = 1 << 21
"""More than the tests let an answer be."""


def raw(*parts: bytes, again: bytes = b"", every: float = 0.0) -> Attack:
    """Write bytes on the connection as they are; then `again` without end, or close it."""

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


def body(content: bytes | str, kind: str = "application/json", status: int = 200, **headers: str) -> Attack:
    """Answer with a body."""
    content = content.encode() if isinstance(content, str) else content

    async def strike(request: web.Request, handler: Handler | None) -> web.StreamResponse:
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=content, headers=made | {"Content-Type": kind}, status=status)

    return strike


def redirect(status: int, target: str = "") -> Attack:
    """Answer with a redirect; without a target to where the request came."""

    async def strike(request: web.Request, handler: Handler | None) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": target or request.path_qs})

    return strike


def cookies(count: int) -> Attack:
    """Give the good answer, and cookies."""

    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        for number in range(count):
            answer.headers.add("Set-Cookie", f"c{number}={'x' * 100}; Path=/")
        return answer

    return strike


async def hang(request: web.Request, handler: Handler | None) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(3600)
    return web.Response()


async def reset(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Reset the connection in the middle of a good answer."""
    whole = await handler(request)
    assert isinstance(whole, web.Response)
    assert request.transport is not None
    said = whole.body if isinstance(whole.body, bytes) else b""
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(said) + 100) + said[: len(said) // 2])
    await asyncio.sleep(0)
    request.transport.abort()
    return whole


def changed(change: Callable[[Any], Any]) -> Attack:
    """Give the good answer with every value in its JSON changed; what is no JSON stays as it is."""

    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        try:
            told = json.loads(answer.body)
        except ValueError:
            return answer
        # A number too large for Python's own writer is put in as text, and its quotes are taken away.
        said = re.sub(r'"bare:([^"]*)"', r"\1", json.dumps(each(told, change)))
        answer.body = said.encode()
        return answer

    return strike


def elsewhere(target: str, status: int) -> Attack:
    """Send the client to another host: by a redirect, or (status 200) by every address in the good answer."""

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


def each(told: Any, change: Callable[[Any], Any]) -> Any:
    """Change every value that holds no others."""
    if isinstance(told, dict):
        return {key: each(value, change) for key, value in told.items()}
    return [each(value, change) for value in told] if isinstance(told, list) else change(told)


def numbers(value: str) -> Attack:
    """Every number is this one; digits in text too."""

    def change(was: Any) -> Any:
        if isinstance(was, (int, float)) and not isinstance(was, bool):
            return f"bare:{value}"
        if isinstance(was, str) and re.fullmatch(r"-?\d+([.,]\d+)?", was):
            return value
        return was

    return changed(change)


def texts(value: str) -> Attack:
    """Every text is this one."""
    return changed(lambda was: value if isinstance(was, str) else was)


def days(value: str) -> Attack:
    """Every text that begins with a date is this one; large whole numbers, which may be milliseconds, are of the year 1."""

    def change(was: Any) -> Any:
        if isinstance(was, str) and re.match(r"\d{4}-\d\d-\d\d", was):
            return value
        if type(was) is int and was > 1 << 33:
            return -62_135_596_800_000
        return was

    return changed(change)


def everything(value: Any) -> Attack:
    """Every value is this one."""
    return changed(lambda _: value)


def keyed(number: int, value: Any, keys: list[str]) -> Attack:
    """Give the good answer with every value under one of its keys changed; `keys` is told which there are."""

    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        with contextlib.suppress(ValueError):
            told = json.loads(answer.body)
            keys[:] = sorted(set(_keys(told)))
            if number < len(keys):
                answer.body = json.dumps(_put(told, keys[number], value)).encode()
        return answer

    return strike


def _keys(told: Any) -> Iterator[str]:
    for below in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
        yield from _keys(below)
    yield from told if isinstance(told, dict) else ()


def _put(told: Any, key: str, value: Any) -> Any:
    if isinstance(told, dict):
        return {name: value if name == key else _put(below, key, value) for name, below in told.items()}
    return [_put(below, key, value) for below in told] if isinstance(told, list) else told


def bomb(size: int, coding: str = "gzip") -> Attack:
    """Answer with a body that unpacks to `size` zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return body(packed, Content_Encoding=coding)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

WIRE: dict[str, tuple[Attack, str]] = {
    "never answers": (hang, "unreachable"),
    "an endless answer": (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", again=CHUNK), "response"),
    "an answer too large": (raw(HEAD + b"Content-Length: %d\r\n\r\n" % LARGE, b" " * LARGE), "response"),
    "a slow drip": (raw(HEAD + b"Content-Length: 1000000\r\n\r\n", again=b" ", every=0.01), "unreachable"),
    "a slow drip of headers": (raw(HEAD, again=b"X-A: b\r\n", every=0.01), "unreachable"),
    "headers without end": (raw(HEAD, again=b"X-A: b\r\n" * 1000), "unreachable"),
    "a header without end": (raw(HEAD + b"X-A: ", again=b"x" * 65536), "unreachable"),
    "ten thousand cookies": (cookies(10_000), "unreachable"),
    "continue, for ever": (raw(b"", again=b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "unreachable"),
    "no HTTP": (raw(b"\x16\x03\x01 who is there\r\n" * 10), "unreachable"),
    "an impossible length": (raw(HEAD + b"Content-Length: -5\r\n\r\n{}"), "unreachable"),
    "an impossible chunk": (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"), "unreachable"),
    "reset in the middle": (reset, "unreachable"),
    "a compressed bomb": (bomb(1 << 26), "response"),
    "a deflated bomb": (bomb(1 << 26, "deflate"), "response"),
    "broken compression": (body(gzip.compress(b"{}")[:-12] + b"x" * 99, Content_Encoding="gzip"), "unreachable"),
}
TARGETS = {
    "in a circle": "",
    "into a file": "file:///etc/passwd",
    "into a script": "javascript:alert(1)",
    "to no host": "https://",
    "to no address": "http://[::1",
    "to a strange port": "http://127.0.0.1:99999999/",
}
REDIRECTS: dict[str, tuple[Attack, str]] = {
    f"{status} {name}": (redirect(status, target), "response") for status in (302, 307) for name, target in TARGETS.items()
}
BY_TIME = {"never answers", "a slow drip", "a slow drip of headers", "continue, for ever"}
"""What nothing but the time limit ends."""
EVERYWHERE = {"never answers", "an endless answer", "302 in a circle", "302 into a file", "302 to no host"}
ALIKE = {*WIRE, *REDIRECTS, "Infinity", "gone wrong", "no such status"} - EVERYWHERE
"""Of what the session makes the same error as of another one: a portal cannot tell them apart, wherever they come."""
DEEP = "[" * MANY
BODIES: dict[str, tuple[Attack, str]] = {
    "deep lists": (body(DEEP), "response"),
    "deep objects": (body('{"a":' * MANY), "response"),
    "deep and whole": (body("[" * 900 + "]" * 900), "response"),
    "many values": (body("[" + "{}," * (MANY * 3) + "{}]"), "response"),
    "a deep page": (body("<div>" * MANY, "text/html"), "response"),
    "a page of forms": (body("<form><input name=a type=password>" * 3000, "text/html"), "response"),
    "a page of comments": (body("<!--" * 50_000, "text/html"), "response"),
    "a page of open tags": (body("<a " * 50_000 + "<!DOCTYPE html" * 99, "text/html"), "response"),
    "a page of settings": (body("<script>" + 'SETTINGS={"a":' * 50_000, "text/html"), "response"),
    "a page of many settings": (body("<script>" + "SETTINGS = {" * 50_000, "text/html"), "response"),
    "NaN": (body('{"a": NaN}'), "response"),
    "Infinity": (body("[-Infinity]"), "response"),
    "a number too long": (body("9" * 100_000), "response"),
    "nothing": (body(b""), "response"),
    "null": (body("null"), "response"),
    "an empty list": (body("[]"), "response"),
    "an empty object": (body("{}"), "response"),
    "a text": (body('"x"'), "response"),
    "a number": (body("1"), "response"),
    "lists of lists": (body("[[[]], [], 1, null, {}]"), "response"),
    "no data": (body('{"data": null}'), "response"),
    "bytes that are no text": (body(b'{"a": "\xff\xfe"}'), "response"),
    "half a character": (body(b'{"a": "\xed\xa0\x80"}'), "response"),
    "an unknown charset": (body(b"<html>\xe9", "text/html; charset=x-none"), "response"),
    "a charset that is no text": (body(b"<html>\xe9", "text/html; charset=zlib"), "response"),
    "a slow charset": (body(b"<" + b"a-" * 300_000, "text/html; charset=punycode"), "response"),
    "not found": (body("{}", status=404), "response"),
    "gone wrong": (body("{}", status=500), "unreachable"),
    "no such status": (body("{}", status=999), "unreachable"),
    "too many": (body("{}", status=429, Retry_After="999999999999"), "rate_limit"),
}
SCREEN = '\x1b[31m\x9b2J\u202eevil\u2066\x00\r\nlevel=error\u0085msg="x"\ud800'
"""What a terminal, a log or a page might obey: colours, erasing, writing backwards, a line of its own, half a character."""
SINGLE: dict[str, Any] = {
    "without end": 1e308,
    "that rules a screen": SCREEN,
}
VALUES: dict[str, Attack] = {
    "numbers without end": numbers("1e308"),
    "numbers without end below zero": numbers("-1e308"),
    "numbers beyond all": numbers("1" + "0" * 400),
    "numbers of many digits": numbers("123456789" * 500),
    "numbers that are none": numbers("NaN"),
    "numbers below zero": numbers("-1"),
    "numbers so small": numbers("5e-324"),
    "zero": numbers("0"),
    "nothing but null": everything(None),
    "nothing but true": everything(True),
    "nothing but text": everything("x"),
    "nothing but lists": everything([]),
    "nothing but objects": everything({"a": {"b": 1}}),
    "texts that rule a screen": texts(SCREEN),
    "long texts": texts("long " * 4000),
    "long digits": texts("7" * 5000),
    "empty texts": texts(""),
    "markup": texts("<script>alert(1)</script>\"'\\{}"),
    "days before all": days("0001-01-01T00:00:00"),
    "days after all": days("9999-12-31T23:59:59.999Z"),
    "days that are none": days("2026-02-30"),
    "strange offsets": days("2026-11-19T00:00:00+23:59"),
}
