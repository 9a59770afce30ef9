"""The HTTP session of a visit: cookies, one timeout, bounded responses, and errors converted to our own."""

import asyncio
import base64
import math
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, Unpack
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from exporter.client.response import Response
from exporter.errors import PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.files import read_pem
from exporter.models import clean_label

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 8
StringMap = Mapping[str, str]
RequestBody = StringMap | bytes
"""A form, or raw bytes."""
COMPRESSED_PREFIX = "zlib:"
"""Marks a long text in an account's store that is compressed: to load a neighbour, SQLite reads past it."""
_PERSONAL = re.compile(r"\d{5}|@|%40")
"""What may be personal in a segment of a path: a meter's number, an EAN, a PRM, an e-mail address."""


class AccountStore(Protocol):
    """What an account stores between visits, restarts included: tokens, metadata, quotas."""

    @property
    def cache(self) -> dict[str, Any]:
        """Values derived from it that take long to compute: in this process only, dropped when the login changes."""

    async def get(self, key: str, now: datetime) -> Any | None:
        """Return the JSON value stored under `key`, or None if there is none or it has expired."""

    async def put(self, key: str, value: Any, expires_at: datetime | None = None) -> None:
        """Store a JSON value at once (it outlives a failed visit), until `expires_at`."""

    async def delete(self, key: str) -> None:
        """Delete a value."""

    async def record_calls(self, quota: str, at: datetime, calls: int = 1) -> None:
        """Record calls against a named quota."""

    async def count_calls(self, quota: str, since: datetime) -> int:
        """Return the number of calls of a quota since an instant."""


class RequestOptions(TypedDict, total=False):
    """What every request may have; see `Session.request`."""

    params: StringMap | None
    headers: StringMap | None
    follow_redirects: bool
    label: str
    raise_for_status: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it goes over the network: secrets and all, for the memory only."""

    method: str
    url: str = field(repr=False)
    label: str
    """What names it in messages."""
    params: StringMap | None = field(default=None, repr=False)
    headers: StringMap | None = field(default=None, repr=False)
    data: RequestBody | None = field(default=None, repr=False)
    json: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it."""

    request: Request
    response: Response | None
    """None when none came; `error` says why."""
    error: PortalError | None
    seconds: float


class Session:
    """The HTTP session of one visit; an async context manager.

    `on_response` is called with the class of every response (`2xx` ... `5xx`, `error`); `clock` returns the present instant.
    Redirects are followed only on request, and only within the same scheme, host and port.
    """

    def __init__(
        self,
        *,
        store: AccountStore,
        clock: Callable[[], datetime],
        timeout: timedelta = timedelta(seconds=30),
        min_request_gap: timedelta = timedelta(0),
        ca_file: str | None = None,
        verify_tls: bool = True,
        on_response: Callable[[str], None] = lambda _: None,
        on_exchange: Callable[[Exchange], None] | None = None,
        user_agent: str = "utility-exporter",
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self.store = store
        self._clock = clock
        self._timeout = timeout.total_seconds()
        self._min_request_gap = min_request_gap.total_seconds()
        self._ca_file, self._verify_tls = ca_file, verify_tls
        self._on_response, self._on_exchange = on_response, on_exchange
        self._headers = {"User-Agent": user_agent}
        self._max_response_bytes = max_response_bytes
        self._request_lock = asyncio.Lock()
        self._last_request = -math.inf

    @property
    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return self._clock()

    async def __aenter__(self) -> Self:
        self._client  # noqa: B018  # reads the certificates now: a file without any fails the visit, not a request
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if "_client" in self.__dict__:
            await self._client.close()

    async def clear_cookies(self) -> None:
        """Delete all cookies: a portal shows no login form while it knows the session."""
        self._client.cookie_jar.clear()

    async def get(self, url: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a GET request; see `request`."""
        return await self.request("GET", url, **options)

    async def post(
        self, url: str, *, data: RequestBody | None = None, json: Any = None, **options: Unpack[RequestOptions]
    ) -> Response:
        """Send a POST request with a form or bytes (`data`), or with JSON; see `request`."""
        return await self.request("POST", url, data=data, json=json, **options)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: StringMap | None = None,
        headers: StringMap | None = None,
        data: RequestBody | None = None,
        json: Any = None,
        follow_redirects: bool = False,
        label: str = "",
        raise_for_status: bool = True,
    ) -> Response:
        """Send one request and read its response completely.

        `label` names the request in messages if its path holds something personal. With `raise_for_status=False` a
        response of 429 or 5xx is returned, not raised, for portals that explain errors in the body.
        Raise UnreachableError (network, timeout, 5xx), RateLimitError (429) and ResponseError (a response that is too
        large, or a redirect to another host).
        """
        request = Request(method, url, label or _name_request(method, url), params, headers, data, json)
        response = await self._send(request, raise_for_status=raise_for_status)
        for _ in range(MAX_REDIRECTS if follow_redirects else 0):
            if response.status not in (301, 302, 303, 307, 308) or not (target := response.location):
                break
            if _parse_origin(target) != _parse_origin(response.url):
                raise ResponseError(f"{response.label} redirects to another host")
            next_method = request.method if response.status in (307, 308) else "GET"
            body = {} if next_method == request.method else {"data": None, "json": None}
            next_label = label or _name_request(next_method, target)
            request = replace(request, method=next_method, url=target, label=next_label, params=None, **body)
            response = await self._send(request, raise_for_status=raise_for_status)
        else:
            if follow_redirects:
                raise ResponseError(f"{response.label} redirects without end")
        return response

    async def _send(self, request: Request, *, raise_for_status: bool) -> Response:
        await self._wait_for_gap()
        started, response, failure = time.monotonic(), None, None
        try:
            response = await self._receive(request)
        except PortalError as error:
            failure = error
            raise
        finally:
            if self._on_exchange and (response or failure):
                self._on_exchange(Exchange(request, response, failure, time.monotonic() - started))
        return self._raise_for_status(response) if raise_for_status else response

    async def _receive(self, request: Request) -> Response:
        progress, label = _Progress(), request.label
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.request(
                    request.method,
                    request.url,
                    params=request.params,
                    headers=request.headers,
                    data=request.data,
                    json=request.json,
                    allow_redirects=False,
                    trace_request_ctx=progress,
                ) as raw,
            ):
                body = await self._read_body(raw, label)
                response = Response(raw.status, str(raw.url), raw.headers, body, label)
        except TimeoutError:
            self._on_response("error")
            message = f"{label} timed out after {self._timeout:g} s"
            raise UnreachableError(message, was_sent=progress.is_body_sent) from None
        except (ssl.SSLCertVerificationError, aiohttp.ClientConnectorCertificateError):
            self._on_response("error")
            message = f"{label}: the certificate of {urlsplit(request.url).hostname} cannot be verified"
            raise UnreachableError(message, was_sent=progress.is_body_sent) from None
        except (aiohttp.ClientError, OSError) as error:
            self._on_response("error")
            raise UnreachableError(f"{label} failed: {_describe_error(error)}", was_sent=progress.is_body_sent) from None
        except ValueError:  # raised by aiohttp for a header or an address that no request can carry
            self._on_response("error")
            raise ResponseError(f"{label} cannot be sent: the portal supplied an invalid header or address") from None
        self._on_response(f"{response.status // 100}xx")
        return response

    async def _read_body(self, response: aiohttp.ClientResponse, label: str) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            body += chunk
            if len(body) > self._max_response_bytes:
                raise _too_large_error(label, self._max_response_bytes)
        return bytes(body)

    def _raise_for_status(self, response: Response) -> Response:
        if response.status == 429:
            raise RateLimitError(
                f"{response.label} returned status 429 (too many requests)",
                parse_retry_after(response.headers.get("Retry-After"), self.now),
            )
        if response.status >= 500:
            raise UnreachableError(f"{response.label} returned status {response.status}", response.status)
        return response

    async def _wait_for_gap(self) -> None:
        if not self._min_request_gap:
            return
        loop = asyncio.get_running_loop()
        async with self._request_lock:
            if (wait := self._last_request + self._min_request_gap - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._last_request = loop.time()

    @cached_property
    def _client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            # Portals behind Azure AD B2C require unquoted cookie values; tests and private portals use IP addresses.
            cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),
            connector=aiohttp.TCPConnector(ssl=self._build_tls_context(), limit=8),
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=16384,
            max_field_size=16384,
            trace_configs=[_build_trace()],
        )

    def _build_tls_context(self) -> ssl.SSLContext | bool:
        if not self._verify_tls:
            return False
        if not self._ca_file:
            return True
        try:
            # Without any text this would trust the system's authorities.
            return ssl.create_default_context(cadata=read_pem(Path(self._ca_file)) or "\n")
        except (ValueError, OSError):
            raise UnreachableError(f"{self._ca_file} cannot be read, or holds no certificate to trust") from None


@dataclass(slots=True)
class _Progress:
    """How far a request is."""

    is_body_sent: bool = False


def _build_trace() -> aiohttp.TraceConfig:
    """Return what notes in a request's `_Progress` that its body was handed to the network."""

    async def note_sent(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceRequestChunkSentParams) -> None:
        context.trace_request_ctx.is_body_sent = True

    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(note_sent)
    return trace


def compress_text(parts: Iterable[bytes]) -> str:
    """Return parts of a text as one compressed text; they may be made one after another, to save memory."""
    compressor = zlib.compressobj(1)
    return COMPRESSED_PREFIX + base64.b64encode(b"".join((*map(compressor.compress, parts), compressor.flush()))).decode()


def decompress_text(text: str) -> str | bytes:
    """Return what was compressed as UTF-8; a text that was not is returned as it is."""
    return zlib.decompress(base64.b64decode(text.removeprefix(COMPRESSED_PREFIX))) if text.startswith(COMPRESSED_PREFIX) else text


def mask_path(path: str) -> str:
    """Return a path for messages, with … for what may be personal. A portal's may be as long as its page."""
    segments = path[:1000].split("/")
    return clean_label("/".join("…" if _PERSONAL.search(segment) else segment for segment in segments)) or "/"


def parse_retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Return the wait of a Retry-After header: seconds, or an HTTP date; None for anything else."""
    if not header:
        return None
    if header.strip().isdecimal():
        return timedelta(seconds=min(int(header.strip()[:9]), 7 * 86400))
    try:
        at = parsedate_to_datetime(header)
    except (TypeError, ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(at - now, timedelta(0)), timedelta(days=7))


def _name_request(method: str, url: str) -> str:
    return f"{method} {mask_path(urlsplit(url).path)}"


def _parse_origin(url: str) -> tuple[str, str | None, int | None]:
    parts = URL(url)
    return parts.scheme, parts.host, parts.port


def _describe_error(error: Exception) -> str:
    """Return a network error in our own words: its message could hold a URL with a query."""
    names = {
        aiohttp.ClientConnectorDNSError: "the host name is not known",
        aiohttp.ClientConnectorError: "could not connect",
        aiohttp.ServerDisconnectedError: "the connection was closed",
        aiohttp.ClientPayloadError: "the response was cut off",
        aiohttp.ClientResponseError: "the response is not HTTP",
        aiohttp.InvalidURL: "the address is not usable",
        ConnectionResetError: "the connection was reset",
    }
    return next((name for type_, name in names.items() if isinstance(error, type_)), type(error).__name__)


def _too_large_error(label: str, max_bytes: int) -> ResponseError:
    return ResponseError(f"{label} returned more than {max_bytes} bytes")
