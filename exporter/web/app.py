"""The web application: metrics, status page, health, remote read, and lifecycle calls."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from aiohttp import web

from exporter.errors import BusyError, ConfigError, LedgerError, LoginError, RequestError
from exporter.history.read_worker import RemoteReader
from exporter.metrics.cache import MetricsPage
from exporter.poller_group import PollerGroup
from exporter.web.access_control import AccessControl
from exporter.web.connections import find_peer, track_request
from exporter.web.negotiation import accepts_gzip, negotiate
from exporter.web.status.page import StatusPage, StatusQuery
from exporter.web.status.usage import PERIODS

Rendered = TypeVar("Rendered")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REMOTE_READER: web.AppKey[RemoteReader] = web.AppKey("remote_reader", RemoteReader)
MAX_READ_SECONDS = 300
"""Seconds after which a remote read is aborted: a client that stops reading keeps a snapshot of the ledger open."""
MAX_BODY_SECONDS = 10
"""Seconds in which the body of a remote read, a megabyte at most, has to arrive."""
MAX_STALL_SECONDS = 5
"""Seconds a client may take to accept a further chunk: meanwhile the write-ahead log cannot be folded into the file."""
log = logging.getLogger(__name__)
Application = web.Application
WRITE_CHUNK_BYTES = 1 << 18
"""A page is sent in chunks of up to this size: as much of it waits in memory for each client that does not read."""
LARGE_PART_BYTES = 1 << 16
"""A page up to this size is sent as a whole; a part of at least this size is sent by itself, to avoid a copy."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers of pages for browsers; the web configuration may override them."""
STATUS_PAGE: web.AppKey[StatusPage] = web.AppKey("status_page", StatusPage)
MAX_WAITING_RENDERS = 32


class RenderQueue:
    """Renders what people look at in a thread, one after the other: many busy threads would delay the event loop.

    A client that hangs up while its page is rendered keeps its turn until that has ended; of those that wait, no work begins.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def run(self, render: Callable[[], Rendered], *, is_first: bool = True) -> Rendered:
        """Return what a function returns; raise HTTPServiceUnavailable where too many wait, for the first part of a response."""
        if is_first and self._waiting >= MAX_WAITING_RENDERS:
            raise web.HTTPServiceUnavailable(text="Too many pages are waiting to be rendered.\n", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        work = asyncio.get_running_loop().run_in_executor(None, render)
        work.add_done_callback(self._end)
        return await asyncio.shield(work)

    def _end(self, work: asyncio.Future[Rendered]) -> None:
        self._lock.release()
        if not work.cancelled():
            work.exception()  # nobody may be left to be told


RENDER_QUEUE: web.AppKey[RenderQueue] = web.AppKey("render_queue", RenderQueue)


def add_access_control(app: web.Application, access_control: AccessControl) -> None:
    """Check every request to an application."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        peer = find_peer(request.remote or "")
        refusal = await access_control.check_request(request.headers.get("Authorization"), certificate, peer)
        return await handler(request) if refusal is None else refusal

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(access_control.headers)

    app.middlewares.insert(0, check)
    app.on_response_prepare.append(add_headers)


def add_remote_read(app: web.Application, reader: RemoteReader) -> None:
    """Add the endpoint of Prometheus's remote read."""
    app[REMOTE_READER] = reader
    app.router.add_post("/api/v1/read", handle_remote_read)


async def handle_remote_read(request: web.Request) -> web.StreamResponse:
    """Stream the response to a remote read; errors before the first chunk have their own status."""
    body = await _read_body(request)
    response = web.StreamResponse(headers={"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"})
    chunks = request.app[REMOTE_READER].read(body, find_peer(request.remote or ""), partial(_set_xor_chunk_headers, response))
    try:
        async with asyncio.timeout(MAX_READ_SECONDS), aclosing(chunks):
            async for chunk in chunks:
                if not response.prepared:
                    await response.prepare(request)
                async with asyncio.timeout(MAX_STALL_SECONDS):
                    await response.write(chunk)
    except (RequestError, BusyError) as error:
        raise _build_refusal(error) from None
    except (LedgerError, TimeoutError) as error:
        log.warning("remote read aborted: %s", str(error) or "it took too long")
        if not response.prepared:
            raise web.HTTPServiceUnavailable(text="The ledger cannot be read now.\n") from None
        response.force_close()
        if request.transport:
            request.transport.abort()
    return response


def _build_refusal(error: RequestError | BusyError) -> web.HTTPException:
    if isinstance(error, RequestError):
        return web.HTTPBadRequest(text=f"{error}\n")
    return web.HTTPServiceUnavailable(text=f"Try again later: {error}.\n", headers={"Retry-After": "5"})


def _set_xor_chunk_headers(response: web.StreamResponse) -> None:
    response.headers["Content-Type"] = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    del response.headers["Content-Encoding"]


async def _read_body(request: web.Request) -> bytes:
    if request.headers.get("Content-Encoding", "snappy").lower() != "snappy":
        raise web.HTTPUnsupportedMediaType(text="The request must be compressed with snappy.\n")
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="The request's body did not arrive in time.\n") from None


@dataclass(frozen=True, slots=True)
class WebContext:
    """What the handlers use."""

    metrics_page: MetricsPage
    pollers: PollerGroup
    reload: Callable[[], Awaitable[None]] | None = None
    """Reload the configuration; raise ConfigError. None if lifecycle calls are disabled."""
    telemetry_path: str = "/metrics"
    access_control: AccessControl | None = None
    """None allows every request."""
    status_page: StatusPage | None = None
    """None removes `/`."""
    remote_reader: RemoteReader | None = None
    """None removes remote read."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once every account is on the page."""


WEB_CONTEXT: web.AppKey[WebContext] = web.AppKey("context", WebContext)


def make_app(context: WebContext) -> web.Application:
    """Build the web application; `/-/ready` answers 503 until `context.ready` is set."""
    app = web.Application()
    app[WEB_CONTEXT], app[RENDER_QUEUE] = context, RenderQueue()
    app.router.add_get(context.telemetry_path, handle_metrics)
    if context.status_page and context.telemetry_path != "/":
        app[STATUS_PAGE] = context.status_page
        app.router.add_get("/", handle_status)
        app.router.add_get("/usage-point", handle_usage_point)
        app.router.add_get("/usage-point.csv", handle_csv)
        app.router.add_get("/static/status.css", handle_stylesheet)
        app.router.add_get("/static/icon.svg", handle_icon)
    if context.remote_reader:
        add_remote_read(app, context.remote_reader)
    app.router.add_get("/-/healthy", handle_healthy)
    app.router.add_get("/-/ready", handle_ready)
    app.router.add_route("*", "/-/reload", handle_reload)
    app.router.add_route("*", "/-/visit", handle_visit)
    if context.access_control:
        add_access_control(app, context.access_control)
    app.middlewares.insert(0, track_request)
    return app


async def handle_metrics(request: web.Request) -> web.StreamResponse:
    """Serve the metrics page from memory; 503 until all accounts are on it: a part would look like series that end."""
    if not request.app[WEB_CONTEXT].ready.is_set():
        return web.Response(status=503, text="Not ready yet.\n", headers={"Retry-After": "1"})
    page, negotiated = request.app[WEB_CONTEXT].metrics_page, negotiate(request.headers.get("Accept"))
    compressed = accepts_gzip(request.headers.get("Accept-Encoding", ""))
    headers = {"Content-Type": negotiated.content_type, "Vary": "Accept, Accept-Encoding"}
    return await _send_body(
        request,
        page.render_parts(negotiated.format, compress=compressed),
        headers | ({"Content-Encoding": "gzip"} if compressed else {}),
    )


async def handle_status(request: web.Request) -> web.Response:
    """Serve the status page, rendered off the event loop."""
    compressed = accepts_gzip(request.headers.get("Accept-Encoding", ""))
    render = partial(_get_status_page(request).render, StatusQuery.from_query(request.query), compressed=compressed)
    body = await request.app[RENDER_QUEUE].run(render)
    headers = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    return web.Response(body=body, headers=SECURITY_HEADERS | headers | ({"Content-Encoding": "gzip"} if compressed else {}))


async def handle_usage_point(request: web.Request) -> web.Response:
    """Serve the page of a usage point."""
    render = _get_status_page(request).render_usage_point
    body = await _render_from_ledger(request, render, request.query.get("account", ""), request.query.get("usage_point", ""))
    headers = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}
    return web.Response(body=body, headers=SECURITY_HEADERS | headers)


async def handle_csv(request: web.Request) -> web.StreamResponse:
    """Stream the days or months of a usage point, or of all of an account, as CSV."""
    account, usage_point = request.query.get("account", ""), request.query.get("usage_point", "")
    period = request.query.get("by", PERIODS[0])
    if period not in PERIODS:
        raise web.HTTPBadRequest(text="by must be days or months.\n")
    parts = await _render_from_ledger(request, _get_status_page(request).start_csv, account, usage_point, period)
    name = "-".join(text for text in (account, usage_point, period) if text)
    headers = {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f"attachment; filename=\"{period}.csv\"; filename*=UTF-8''{quote(name, safe='')}.csv",
        "Cache-Control": "no-store",
    }
    response = web.StreamResponse(headers=SECURITY_HEADERS | headers)
    try:
        async with asyncio.timeout(MAX_READ_SECONDS):
            while part := await request.app[RENDER_QUEUE].run(partial(next, parts, b""), is_first=False):
                if not response.prepared:
                    await response.prepare(request)
                await response.write(part)
    except (LedgerError, TimeoutError) as error:
        log.warning("CSV aborted: %s", str(error) or "it took too long")
        response.force_close()
        if request.transport:
            request.transport.abort()
    return response


async def _render_from_ledger(request: web.Request, render: Callable[..., Rendered | None], *arguments: str) -> Rendered:
    try:
        body = await request.app[RENDER_QUEUE].run(partial(render, *arguments))
    except LedgerError:
        raise web.HTTPServiceUnavailable(text="The ledger cannot be read now.\n") from None
    if body is None:
        missing = await request.app[RENDER_QUEUE].run(_get_status_page(request).render_missing)
        raise web.HTTPNotFound(text=missing.decode(), content_type="text/html", headers=SECURITY_HEADERS)
    return body


async def handle_stylesheet(request: web.Request) -> web.Response:
    """Serve the status page's stylesheet; its URL changes with its content."""
    return _make_cacheable_response(_get_status_page(request).theme.stylesheet, "text/css; charset=utf-8")


async def handle_icon(request: web.Request) -> web.Response:
    """Serve the status page's icon."""
    return _make_cacheable_response(_get_status_page(request).theme.icon, "image/svg+xml")


async def handle_healthy(request: web.Request) -> web.Response:
    """Report that the process serves; the state of portals does not matter."""
    return web.Response(text="Healthy.\n")


async def handle_ready(request: web.Request) -> web.Response:
    """Report whether the configuration is loaded and the metrics page complete."""
    is_ready = request.app[WEB_CONTEXT].ready.is_set()
    return web.Response(text="Ready.\n" if is_ready else "Not ready yet.\n", status=200 if is_ready else 503)


async def handle_reload(request: web.Request) -> web.Response:
    """Reload the configuration."""
    _require_method(request, "POST", "PUT")
    _refuse_other_origins(request)
    if (reload := request.app[WEB_CONTEXT].reload) is None:
        raise web.HTTPForbidden(text="Lifecycle calls are disabled; enable them with --web.enable-lifecycle.\n")
    try:
        await reload()
    except ConfigError as error:
        return web.Response(status=500, text=f"{error}\nReload failed, keeping the previous configuration.\n")
    return web.Response(text="Reloaded.\n")


async def handle_visit(request: web.Request) -> web.Response:
    """Visit an account soon, on request."""
    _require_method(request, "POST")
    _refuse_other_origins(request)
    context = request.app[WEB_CONTEXT]
    if context.reload is None:
        raise web.HTTPForbidden(text="Lifecycle calls are disabled; enable them with --web.enable-lifecycle.\n")
    poller = context.pollers.get(request.query.get("account", ""))
    if poller is None:
        raise web.HTTPNotFound(text="No such account.\n")
    try:
        wait = poller.request_visit()
    except LoginError as error:
        raise web.HTTPConflict(text=f"{error}\n") from None
    if wait is not None:
        seconds = str(int(wait / timedelta(seconds=1)) + 1)
        raise web.HTTPTooManyRequests(text="The last visit was less than a minute ago.\n", headers={"Retry-After": seconds})
    return web.Response(status=202, text="The account will be visited soon.\n")


def _get_status_page(request: web.Request) -> StatusPage:
    return request.app[STATUS_PAGE]


def _make_cacheable_response(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, headers=SECURITY_HEADERS | {"Content-Type": content_type, "Cache-Control": "max-age=86400"})


def _require_method(request: web.Request, *methods: str) -> None:
    if request.method not in methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)


def _refuse_other_origins(request: web.Request) -> None:
    """Refuse a call that a browser makes for the page of another site; programs send neither of these headers."""
    origin = request.headers.get("Origin")
    is_foreign = request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    if is_foreign or (origin is not None and origin.partition("://")[2] != request.host):
        raise web.HTTPForbidden(text="Calls from pages of other sites are refused.\n")


async def _send_body(request: web.Request, parts: Sequence[bytes], headers: Mapping[str, str]) -> web.StreamResponse:
    """Send a body in its parts: a large one as a whole would be copied repeatedly on its way into the socket."""
    length = sum(map(len, parts))
    if length < LARGE_PART_BYTES or request.method == "HEAD":
        return web.Response(body=b"".join(parts), headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = length
    await response.prepare(request)
    for chunk in _divide_parts(parts):
        await response.write(chunk)
    await response.write_eof()
    return response


def _divide_parts(parts: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Yield chunks: small parts joined, and large ones divided."""
    chunk = bytearray()
    for part in parts:
        if chunk and (len(part) >= LARGE_PART_BYTES or len(chunk) + len(part) > WRITE_CHUNK_BYTES):
            yield bytes(chunk)
            chunk.clear()
        if len(part) >= LARGE_PART_BYTES:
            for start in range(0, len(part), WRITE_CHUNK_BYTES):
                yield memoryview(part)[start : start + WRITE_CHUNK_BYTES]
        else:
            chunk += part
    if chunk:
        yield bytes(chunk)
