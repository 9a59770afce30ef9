"""The web face: the live page, health, a landing page, and a person's word to visit now."""

import html
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from exporter.errors import ConfigError, LoginError
from exporter.metrics import Page, negotiate
from exporter.poller import Pollers
from exporter.server.guard import guard
from exporter.server.listen import Address, inherited_sockets, listen
from exporter.webconfig import Door

Application = web.Application
__all__ = ["FACE", "READY", "Address", "Application", "Face", "inherited_sockets", "listen", "make_app"]

LANDING = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>utility-exporter</title>
<h1>utility-exporter</h1>
<p>Readings of utility meters, out of the customer portals.</p>
<ul><li><a href="{metrics}">Metrics</a></li><li><a href="/-/healthy">Healthy</a></li><li><a href="/-/ready">Ready</a></li></ul>
</html>
"""


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
    if face.door:
        guard(app, face.door)
    return app


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


def _only(request: web.Request, *methods: str) -> None:
    if request.method not in methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)


def _takes_gzip(accept: str) -> bool:
    for part in accept.lower().split(","):
        coding, *parameters = (piece.strip().replace(" ", "") for piece in part.split(";"))
        if coding in ("gzip", "*"):
            return not any(parameter in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters)
    return False
