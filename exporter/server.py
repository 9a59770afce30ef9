"""The web face: the live page, health, a landing page, and a person's word to visit now."""

import asyncio
import html
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from aiohttp import web

from exporter.errors import ConfigError, LedgerError, LoginError
from exporter.history import History, RequestError
from exporter.metrics import Page, negotiate
from exporter.poller import Pollers

LANDING = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>utility-exporter</title>
<h1>utility-exporter</h1>
<p>Readings of utility meters, out of the customer portals.</p>
<ul><li><a href="{metrics}">Metrics</a></li><li><a href="/-/healthy">Healthy</a></li><li><a href="/-/ready">Ready</a></li></ul>
</html>
"""
LONGEST_READ = 300
"""Seconds in which a remote read is answered, or broken off: a listener that sleeps holds a view of the ledger open."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every interface."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`, `:PORT` or `[::1]:PORT`; raises ValueError that says the form."""
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and bare == host):
            raise ValueError(f"{text!r} is not HOST:PORT, :PORT or [IPV6]:PORT")
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Face:
    """What the web face shows, and what it may do."""

    page: Page
    pollers: Pollers
    reload: Callable[[], Awaitable[None]] | None = None
    """Reads the configuration again; raises ConfigError. None where lifecycle calls are not enabled."""
    telemetry_path: str = "/metrics"


HISTORY: web.AppKey[History] = web.AppKey("history", History)
READY: web.AppKey[list[bool]] = web.AppKey("ready", list)
FACE: web.AppKey[Face] = web.AppKey("face", Face)


def make_app(face: Face) -> web.Application:
    """Make the web application; `/-/ready` says no until `app[READY]` is filled."""
    app = web.Application()
    app[FACE], app[READY] = face, []
    app.router.add_get(face.telemetry_path, metrics)
    if face.telemetry_path != "/":
        app.router.add_get("/", landing)
    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/-/ready", ready)
    app.router.add_route("*", "/-/reload", reload)
    app.router.add_route("*", "/-/visit", visit)
    return app


def offer_history(app: web.Application, history: History) -> None:
    """Answer Prometheus's remote read."""
    app[HISTORY] = history
    app.router.add_route("*", "/api/v1/read", remote_read)


async def metrics(request: web.Request) -> web.Response:
    """Serve the live page from memory."""
    page, content_type = request.app[FACE].page, negotiate(request.headers.get("Accept"))
    zipped = _takes_gzip(request.headers.get("Accept-Encoding", ""))
    body = (page.render_gzip if zipped else page.render)(content_type)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    return web.Response(body=body, headers=headers | ({"Content-Encoding": "gzip"} if zipped else {}))


async def landing(request: web.Request) -> web.Response:
    """Serve a page for people."""
    text = LANDING.format(metrics=html.escape(request.app[FACE].telemetry_path))
    return web.Response(text=text, content_type="text/html")


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


async def remote_read(request: web.Request) -> web.StreamResponse:
    """Answer a remote read as it is read; what goes wrong before the first piece has a status of its own."""
    _only(request, "POST")
    if request.headers.get("Content-Encoding", "snappy").lower() != "snappy":
        raise web.HTTPUnsupportedMediaType(text="The request must be compressed with snappy.\n")
    response = web.StreamResponse(headers={"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"})
    try:
        async with asyncio.timeout(LONGEST_READ), aclosing(request.app[HISTORY].read(await request.read())) as pieces:
            async for piece in pieces:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(piece)
    except RequestError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    except (LedgerError, TimeoutError) as error:
        log.warning("a remote read was broken off: %s", error or "it took too long")
        if not response.prepared:
            raise web.HTTPServiceUnavailable(text="The ledger cannot be read now.\n") from None
        response.force_close()
        if request.transport:
            request.transport.abort()
    return response


async def listen(app: web.Application, addresses: list[Address], stack: AsyncExitStack) -> list[Address]:
    """Serve on all addresses until the stack is left; gives them with the ports that were taken.

    Raises OSError that names the address.
    """
    # No body that comes here is gzip: left to aiohttp, a broken one would end as a traceback.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2, handler_cancellation=True, auto_decompress=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    taken = []
    for address in addresses:
        try:
            site = web.TCPSite(runner, address.host or None, address.port)
            await site.start()
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error.strerror or error}") from None
        taken.append(_taken(site, address))
    return taken


def _taken(site: web.TCPSite, address: Address) -> Address:
    server = site._server  # aiohttp gives the port that the system chose nowhere else
    assert isinstance(server, asyncio.Server)
    found: socket.socket = server.sockets[0]
    return Address(address.host, found.getsockname()[1])


def _only(request: web.Request, *methods: str) -> None:
    if request.method not in methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)


def _takes_gzip(accept: str) -> bool:
    for part in accept.lower().split(","):
        coding, *parameters = (piece.strip().replace(" ", "") for piece in part.split(";"))
        if coding in ("gzip", "*"):
            return not any(parameter in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters)
    return False
