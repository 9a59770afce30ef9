"""The web face: the live page, health, a landing page, and a person's word to visit now."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from exporter.errors import ConfigError, LoginError
from exporter.metrics import Page, negotiate
from exporter.poller import Pollers
from exporter.server.guard import guard
from exporter.server.listen import Address, inherited_sockets, listen
from exporter.server.remote_read import offer_history
from exporter.status import Asked, Status
from exporter.webconfig import Door

Application = web.Application
__all__ = ["FACE", "READY", "Address", "Application", "Face", "inherited_sockets", "listen", "make_app", "offer_history"]

PIECE = 1 << 20
"""Small parts of a page are sent together, in pieces of up to this size."""
LARGE = 1 << 16
"""A page up to this size is sent as a whole; a part from this size on is sent as it is, for joining it would copy it."""
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers of what a browser shows; the web configuration may say otherwise."""


@dataclass(frozen=True, slots=True)
class Face:
    """What the web face shows, and what it may do."""

    page: Page
    pollers: Pollers
    reload: Callable[[], Awaitable[None]] | None = None
    """Reads the configuration again; raises ConfigError. None where lifecycle calls are not enabled."""
    telemetry_path: str = "/metrics"
    door: Door | None = None
    """Who may come in; None is everybody."""
    status: Status | None = None
    """The page for people; None leaves out `/`."""


READY: web.AppKey[list[bool]] = web.AppKey("ready", list)
FACE: web.AppKey[Face] = web.AppKey("face", Face)
TURN: web.AppKey[asyncio.Lock] = web.AppKey("turn", asyncio.Lock)
"""One page for people is made at a time: many threads at work would hold up the event loop."""


def make_app(face: Face) -> web.Application:
    """Make the web application; `/-/ready` says no until `app[READY]` is filled."""
    app = web.Application()
    app[FACE], app[READY], app[TURN] = face, [], asyncio.Lock()
    app.router.add_get(face.telemetry_path, metrics)
    if face.status and face.telemetry_path != "/":
        app.router.add_get("/", status)
        app.router.add_get("/static/status.css", style)
        app.router.add_get("/static/icon.svg", icon)
    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/-/ready", ready)
    app.router.add_route("*", "/-/reload", reload)
    app.router.add_route("*", "/-/visit", visit)
    if face.door:
        guard(app, face.door)
    return app


async def metrics(request: web.Request) -> web.StreamResponse:
    """Serve the live page from memory; 503 until all accounts are on it, for a part of them would look like series that end."""
    if not request.app[READY]:
        return web.Response(status=503, text="Not ready yet.\n", headers={"Retry-After": "1"})
    page, content_type = request.app[FACE].page, negotiate(request.headers.get("Accept"))
    zipped = _takes_gzip(request.headers.get("Accept-Encoding", ""))
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    return await _sent(request, page.body(content_type, gzip=zipped), headers | ({"Content-Encoding": "gzip"} if zipped else {}))


async def status(request: web.Request) -> web.Response:
    """Serve the page for people, made off the event loop."""
    zipped = _takes_gzip(request.headers.get("Accept-Encoding", ""))
    async with request.app[TURN]:
        body = await asyncio.to_thread(_status(request).render, Asked.of(request.query), zipped=zipped)
    headers = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    return web.Response(body=body, headers=SAFE | headers | ({"Content-Encoding": "gzip"} if zipped else {}))


async def style(request: web.Request) -> web.Response:
    """Serve the page's style; its address changes with it."""
    return _lasting(_status(request).dress.style, "text/css; charset=utf-8")


async def icon(request: web.Request) -> web.Response:
    """Serve the page's icon."""
    return _lasting(_status(request).dress.icon, "image/svg+xml")


async def healthy(request: web.Request) -> web.Response:
    """Say that the process serves; a portal has no part in it."""
    return web.Response(text="Healthy.\n")


async def ready(request: web.Request) -> web.Response:
    """Say whether the configuration is loaded and the page can be shown."""
    is_ready = bool(request.app[READY])
    return web.Response(text="Ready.\n" if is_ready else "Not ready yet.\n", status=200 if is_ready else 503)


async def reload(request: web.Request) -> web.Response:
    """Read the configuration again."""
    _only(request, "POST", "PUT")
    if (again := request.app[FACE].reload) is None:
        raise web.HTTPForbidden(text="Lifecycle calls are not enabled: start with --web.enable-lifecycle.\n")
    try:
        await again()
    except ConfigError as error:
        return web.Response(status=500, text=f"{error}\nThe configuration before stays in force.\n")
    return web.Response(text="Reloaded.\n")


async def visit(request: web.Request) -> web.Response:
    """Visit an account soon, by a person's word."""
    _only(request, "POST")
    face = request.app[FACE]
    if face.reload is None:
        raise web.HTTPForbidden(text="Lifecycle calls are not enabled: start with --web.enable-lifecycle.\n")
    poller = face.pollers.of(request.query.get("account", ""))
    if poller is None:
        raise web.HTTPNotFound(text="There is no such account.\n")
    try:
        wait = poller.ask()
    except LoginError as error:
        raise web.HTTPConflict(text=f"{error}\n") from None
    if wait is not None:
        seconds = str(int(wait / timedelta(seconds=1)) + 1)
        raise web.HTTPTooManyRequests(text="The last visit is less than a minute ago.\n", headers={"Retry-After": seconds})
    return web.Response(status=202, text="The account is visited soon.\n")


def _status(request: web.Request) -> Status:
    shown = request.app[FACE].status
    assert shown is not None, "its routes are there only with it"
    return shown


def _lasting(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, headers=SAFE | {"Content-Type": content_type, "Cache-Control": "max-age=86400"})


def _only(request: web.Request, *methods: str) -> None:
    if request.method not in methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)


async def _sent(request: web.Request, parts: Sequence[bytes], headers: Mapping[str, str]) -> web.StreamResponse:
    """Send a body in its parts: a large one in one piece would be copied again and again on its way into the socket."""
    length = sum(map(len, parts))
    if length < LARGE or request.method == "HEAD":
        return web.Response(body=b"".join(parts), headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = length
    await response.prepare(request)
    for piece in _pieces(parts):
        await response.write(piece)
    await response.write_eof()
    return response


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small parts, and leave large ones as they are."""
    piece = bytearray()
    for part in parts:
        if piece and (len(part) >= LARGE or len(piece) + len(part) > PIECE):
            yield bytes(piece)
            piece.clear()
        if len(part) >= LARGE:
            yield part
        else:
            piece += part
    if piece:
        yield bytes(piece)


def _takes_gzip(accept: str) -> bool:
    for part in accept.lower().split(","):
        coding, *parameters = (piece.strip().replace(" ", "") for piece in part.split(";"))
        if coding in ("gzip", "*"):
            return not any(parameter in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters)
    return False
