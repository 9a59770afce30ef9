"""Limits of connections: silent ones are closed, and there is always room for a scrape.

aiohttp counts no connections, and lets one that never sends a request, or reads no response, stay for ever. Each of its
protocols is therefore wrapped: the wrapper knows whether a request is under way, and whether the client accepts its response. A
connection without a request, or whose response is stuck, is silent. Once all places are taken, the address that has most silent
ones makes room for the new one, with that which has been silent for longest; where none is silent, the address that has the most
gives up one, unless it is the new one's. TLS begins here and not in asyncio's server, which shows a connection only after the
handshake: one that never finishes it is silent like any other.
"""

import asyncio
import logging
import resource
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_address, ip_network
from operator import itemgetter
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

FIRST_REQUEST_SECONDS = 10
"""How long a new connection may take until its first request is complete, its body excepted."""
IDLE_SECONDS = 300
"""How long a connection may stay open between two requests: longer than anybody's scrape interval."""
STALL_SECONDS = 60
"""How long a client may take to accept what was sent."""
MAX_STALLED = 32
"""How many clients may be slow to accept a response at once: each keeps up to a megabyte of it in memory."""
SWEEP_SECONDS = 1.0
MAX_CONNECTIONS = 512
RESERVED_DESCRIPTORS = 256
"""Descriptors that connections never take: files, the ledger, portals, remote write."""
TLS_SHUTDOWN_SECONDS = 5.0
"""How long a client may take to agree to the end of a connection."""
GetTlsContext = Callable[[], ssl.SSLContext | None]
"""The context of a new connection; None is plain HTTP."""
log = logging.getLogger(__name__)


def find_peer(address: str) -> str:
    """Return whom an address belongs to: of IPv6 its network, for one machine has as many addresses there as it likes."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:  # a socket in the file system has none
        return address
    found = getattr(found, "ipv4_mapped", None) or found
    return str(found if isinstance(found, IPv4Address) else ip_network((found, 64), strict=False))


class ConnectionLimiter:
    """All connections of a server, with their limits."""

    def __init__(self, max_connections: int | None = None) -> None:
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_connections = max_connections or max(16, min(MAX_CONNECTIONS, soft_limit - RESERVED_DESCRIPTORS))
        self._open: set[_LimitedProtocol] = set()
        self._stalled: dict[_LimitedProtocol, None] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def wrap(
        self, build_protocol: Callable[[], asyncio.Protocol], get_tls_context: GetTlsContext
    ) -> Callable[[], asyncio.Protocol]:
        """Return a protocol factory whose connections are limited."""
        return lambda: _LimitedProtocol(build_protocol(), self, get_tls_context())

    def admit(self, connection: "_LimitedProtocol") -> bool:
        """Count a new connection; return False where there is no room for it."""
        if len(self._open) >= self._max_connections:
            candidates = self._list_silent() or self._list_largest_share(connection.peer)
            if not candidates:
                return False
            self._close(min(candidates, key=lambda one: one.since))
        self._open.add(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._close_silent)
        return True

    def release(self, connection: "_LimitedProtocol") -> None:
        """Count a connection no longer."""
        self._open.discard(connection)
        self._stalled.pop(connection, None)

    def begin_stall(self, connection: "_LimitedProtocol") -> None:
        """Note that a client does not accept its response; where many do not, close the connection of the first."""
        self._stalled[connection] = None
        if len(self._stalled) > MAX_STALLED:
            self._close(next(iter(self._stalled)))

    def end_stall(self, connection: "_LimitedProtocol") -> None:
        """Note that a client accepts its response again."""
        self._stalled.pop(connection, None)

    def _list_silent(self) -> list["_LimitedProtocol"]:
        """Return the silent connections of the address that has most of them: those of others wait for their next scrape."""
        silent = [one for one in self._open if one.is_silent]
        largest = max(Counter(one.peer for one in silent).items(), key=itemgetter(1), default=("", 0))[0]
        return [one for one in silent if one.peer == largest]

    def _list_largest_share(self, peer: str) -> list["_LimitedProtocol"]:
        """Return the connections of the address that has the most; none if it would then have fewer than another one."""
        counts = Counter(one.peer for one in self._open)
        largest, count = counts.most_common(1)[0]
        return [one for one in self._open if one.peer == largest] if count > counts[peer] + 1 else []

    def _close(self, connection: "_LimitedProtocol") -> None:
        self.release(connection)
        connection.abort()

    def _close_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in [one for one in self._open if one.is_silent and one.deadline < now]:
            self._close(connection)
        more = self._open
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._close_silent) if more else None


class _LimitedProtocol(asyncio.Protocol):
    """aiohttp's protocol of a connection, and what the limiter needs to know of it."""

    __slots__ = (
        "_early_data", "_handshake", "_inner", "_is_busy", "_is_open", "_is_stalled", "_limiter", "_request_count",
        "_tls_context", "_transport", "peer", "since",
    )  # fmt: skip

    def __init__(self, inner: asyncio.Protocol, limiter: ConnectionLimiter, tls_context: ssl.SSLContext | None) -> None:
        self._inner, self._limiter, self._tls_context = inner, limiter, tls_context
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._is_open = False
        self._early_data = bytearray()
        self._request_count = 0
        self._is_busy = self._is_stalled = False
        self.peer = ""
        """Whom the client's address belongs to."""
        self.since = 0.0
        """Since when it is what it is, silent or not, by the loop's clock."""

    @property
    def is_silent(self) -> bool:
        """Return whether no request is under way, or its response is not accepted."""
        return self._is_stalled or not self._is_busy

    @property
    def deadline(self) -> float:
        """When it is closed if it stays silent."""
        seconds = STALL_SECONDS if self._is_stalled else IDLE_SECONDS if self._request_count else FIRST_REQUEST_SECONDS
        return self.since + seconds

    def begin_request(self) -> None:
        """Note that a request is under way."""
        self._is_busy, self.since = True, asyncio.get_running_loop().time()
        self._request_count += 1

    def end_request(self) -> None:
        """Note that the request has been answered."""
        self._is_busy, self.since = False, asyncio.get_running_loop().time()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.since = asyncio.get_running_loop().time()
        address = transport.get_extra_info("peername")
        self.peer = find_peer(str(address[0])) if address else ""
        if not self._limiter.admit(self):
            self._transport.abort()
        elif self._tls_context is None:
            self._open(self._transport)
        else:
            self._transport.pause_reading()
            self._handshake = asyncio.create_task(self._start_tls(self._transport, self._tls_context))

    async def _start_tls(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=FIRST_REQUEST_SECONDS,
                ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS,
            )
        except OSError as error:
            log.debug("TLS handshake failed: %s", getattr(error, "reason", None) or type(error).__name__)
            encrypted = None
        if encrypted is None or encrypted.is_closing():
            self._limiter.release(self)
        else:
            self._open(encrypted)

    def _open(self, transport: asyncio.Transport) -> None:
        self._transport, self._is_open = transport, True
        self._inner.connection_made(transport)
        if self._early_data:
            self._inner.data_received(bytes(self._early_data))
            self._early_data.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limiter.release(self)
        if self._is_open:
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            self._inner.data_received(data)
        else:  # sent along with the end of the handshake
            self._early_data += data

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._is_open else None

    def pause_writing(self) -> None:
        self._is_stalled, self.since = True, asyncio.get_running_loop().time()
        self._limiter.begin_stall(self)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._is_stalled, self.since = False, asyncio.get_running_loop().time()
        self._limiter.end_stall(self)
        self._inner.resume_writing()


class LimitedRunner(web.AppRunner):
    """A runner whose sites accept limited connections."""

    def __init__(
        self,
        app: web.Application,
        limiter: ConnectionLimiter | None = None,
        get_tls_context: GetTlsContext = lambda: None,
        **options: object,
    ) -> None:
        super().__init__(app, **options)  # type: ignore[arg-type]  # the options of AppRunner as they are
        self._limiter, self._get_tls_context = limiter or ConnectionLimiter(), get_tls_context

    @property
    def server(self) -> web.Server | None:
        """What sites build their protocols with."""
        server = super().server
        build_protocol = cast(Callable[[], asyncio.Protocol], server)
        return server and cast(web.Server, self._limiter.wrap(build_protocol, self._get_tls_context))


@web.middleware
async def track_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Count the requests of a connection for its limiter."""
    protocol = request.transport.get_protocol() if request.transport else None
    if not isinstance(protocol, _LimitedProtocol):
        return await handler(request)
    protocol.begin_request()
    try:
        return await handler(request)
    finally:
        protocol.end_request()


def is_worth_logging(record: logging.LogRecord) -> bool:
    """Return False for aiohttp's traceback of an invalid request or a client that has disconnected; log it for debugging."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | ConnectionError):
        log.debug("invalid request or client disconnected: %s", type(error).__name__)
        return False
    return True
