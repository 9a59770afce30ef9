"""A visit to a portal: cookies, one timeout, bounded answers, foreign errors made ours."""

import asyncio
import math
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from exporter.client.response import Response
from exporter.errors import PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.models import StoredInterval

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 8
StringMap = Mapping[str, str]
RequestBody = StringMap | bytes
"""A form, or bytes as they are."""
_PERSONAL_SEGMENT = re.compile(r"[^/]*(?:\d{5}|@|%40)[^/]*")
"""A part of a path that may be somebody's: a meter's number, an EAN, a PRM, an e-mail address."""


class AccountStore(Protocol):
    """What an account keeps between visits, restarts included: tokens, metadata, call budgets."""

    @property
    def cache(self) -> dict[str, Any]:
        """What was worked out of that and takes long: held in this process only, let go when the login changes."""

    async def get(self, key: str, now: datetime) -> Any | None:
        """Give the JSON value kept under `key`, or None when there is none or it has ended."""

    async def put(self, key: str, value: Any, expires_at: datetime | None = None) -> None:
        """Keep a JSON value at once (it outlives a failed visit), until `ends`."""

    async def delete(self, key: str) -> None:
        """Forget a value."""

    async def record_calls(self, quota: str, at: datetime, calls: int = 1) -> None:
        """Count calls against a named budget."""

    async def count_calls(self, quota: str, since: datetime) -> int:
        """How many calls a budget counts since an instant."""


class StoredReadings(Protocol):
    """What the ledger already holds of an account, for portals that ask only for what is missing."""

    async def intervals(
        self, usage_point: str, start: datetime, end: datetime, resolution: str | None = None
    ) -> list[StoredInterval]:
        """Give the kept intervals that start in [start, end), in order of their start."""

    async def span(self, usage_point: str, resolution: str) -> tuple[datetime, datetime] | None:
        """Give start and end of the first and last kept interval of a resolution (`P1D`, `PT30M`, ...)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it, as it went over the network: secrets and all, for the memory only."""

    method: str
    url: str
    params: StringMap | None
    headers: StringMap | None
    data: RequestBody | None
    json: Any
    response: Response | None
    """None when none came; `error` says why."""
    error: PortalError | None
    seconds: float


class Session:
    """One visit's way to the network. Use it as an async context manager.

    `counted` is told the class of every HTTP answer (`2xx` ... `5xx`, `error`); `clock` gives the present instant.
    Redirects are followed only when asked for, and only within the same scheme, host and port.
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
        self._client: aiohttp.ClientSession | None = None

    @property
    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return self._clock()

    async def __aenter__(self) -> Self:
        self._client = self._new_client()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client:
            await self._client.close()

    async def clear_cookies(self) -> None:
        """Start with a fresh cookie jar: a login form does not come to one who still has a session."""
        if self._client:
            self._client.cookie_jar.clear()

    def get_cookie(self, url: str, name: str) -> str | None:
        """Give the value of a cookie that would be sent to `url`."""
        assert self._client is not None
        morsel = self._client.cookie_jar.filter_cookies(URL(url)).get(name)
        return morsel.value if morsel else None

    async def get(
        self,
        url: str,
        *,
        params: StringMap | None = None,
        headers: StringMap | None = None,
        follow_redirects: bool = False,
        label: str = "",
        raise_for_status: bool = True,
    ) -> Response:
        """Ask with GET; see `request`."""
        return await self.request(
            "GET",
            url,
            params=params,
            headers=headers,
            follow_redirects=follow_redirects,
            label=label,
            raise_for_status=raise_for_status,
        )

    async def post(
        self,
        url: str,
        *,
        data: RequestBody | None = None,
        json: Any = None,
        params: StringMap | None = None,
        headers: StringMap | None = None,
        follow_redirects: bool = False,
        raise_for_status: bool = True,
    ) -> Response:
        """Send a form or bytes (`data`), or JSON, with POST; see `request`."""
        return await self.request(
            "POST",
            url,
            params=params,
            headers=headers,
            data=data,
            json=json,
            follow_redirects=follow_redirects,
            raise_for_status=raise_for_status,
        )

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
        """Make one call and read its answer whole.

        `what` names the call in messages where its path holds something personal. With `checked=False` an answer of 429
        or 5xx is given, not raised, for portals that explain themselves in its body.
        Raises UnreachableError (network, timeout, 5xx), RateLimitError (429) and ResponseError (an answer that is too
        large, or a redirect to another host).
        """
        once = partial(self._send, headers=headers, label=label, raise_for_status=raise_for_status)
        answer = await once(method, url, params=params, data=data, json=json)
        for _ in range(MAX_REDIRECTS if follow_redirects else 0):
            if answer.status not in (301, 302, 303, 307, 308) or not (target := answer.location):
                break
            if _parse_origin(target) != _parse_origin(answer.url):
                raise ResponseError(f"{answer.label} redirects to another host")
            again = method if answer.status in (307, 308) else "GET"
            same = {"data": data, "json": json} if again == method else {}
            answer = await once(again, target, **same)
        else:
            if follow_redirects:
                raise ResponseError(f"{answer.label} redirects without end")
        return answer

    async def _send(
        self,
        method: str,
        url: str,
        *,
        params: StringMap | None = None,
        headers: StringMap | None = None,
        data: RequestBody | None = None,
        json: Any = None,
        label: str = "",
        raise_for_status: bool = True,
    ) -> Response:
        label = label or f"{method} {_PERSONAL_SEGMENT.sub('…', urlsplit(url).path) or '/'}"
        await self._wait_for_gap()
        started, response, failure = time.monotonic(), None, None
        try:
            response = await self._receive(method, url, params=params, headers=headers, data=data, json=json, label=label)
        except PortalError as error:
            failure = error
            raise
        finally:
            if self._on_exchange and (response or failure):
                seconds = time.monotonic() - started
                self._on_exchange(Exchange(method, url, params, headers, data, json, response, failure, seconds))
        return self._raise_for_status(response) if raise_for_status else response

    async def _receive(
        self,
        method: str,
        url: str,
        *,
        params: StringMap | None,
        headers: StringMap | None,
        data: RequestBody | None,
        json: Any,
        label: str,
    ) -> Response:
        assert self._client is not None, "a session is entered before it is used"
        try:
            async with asyncio.timeout(self._timeout), self._open(method, url, params, headers, data, json) as response:
                body = await self._read_body(response, label)
                answer = Response(response.status, str(response.url), response.headers, body, label)
        except TimeoutError:
            self._on_response("error")
            raise UnreachableError(f"{label} did not answer within {self._timeout:g} s") from None
        except (ssl.SSLCertVerificationError, aiohttp.ClientConnectorCertificateError):
            self._on_response("error")
            raise UnreachableError(f"{label}: the certificate of {urlsplit(url).hostname} cannot be verified") from None
        except (aiohttp.ClientError, OSError) as error:
            self._on_response("error")
            raise UnreachableError(f"{label} failed: {_describe_error(error)}") from None
        except ValueError:  # aiohttp's word for a token or an address that no request can carry
            self._on_response("error")
            raise ResponseError(f"{label} cannot be asked: what the portal gave for it fits no request") from None
        self._on_response(f"{answer.status // 100}xx")
        return answer

    def _open(
        self, method: str, url: str, params: StringMap | None, headers: StringMap | None, data: RequestBody | None, json: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._client is not None
        return self._client.request(method, url, params=params, headers=headers, data=data, json=json, allow_redirects=False)

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
                f"{response.label} asks us to slow down", parse_retry_after(response.headers.get("Retry-After"), self.now)
            )
        if response.status >= 500:
            raise UnreachableError(f"{response.label} answered with status {response.status}")
        return response

    async def _wait_for_gap(self) -> None:
        if not self._min_request_gap:
            return
        loop = asyncio.get_running_loop()
        async with self._request_lock:
            if (wait := self._last_request + self._min_request_gap - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._last_request = loop.time()

    def _new_client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            # Portals behind Azure AD B2C want cookie values unquoted; an IP address is what tests and private portals have.
            cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),
            connector=aiohttp.TCPConnector(ssl=self._build_tls_context(), limit=8),
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=16384,
            max_field_size=16384,
        )

    def _build_tls_context(self) -> ssl.SSLContext | bool:
        if not self._verify_tls:
            return False
        if not self._ca_file:
            return True
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except OSError:
            raise UnreachableError(f"{self._ca_file} cannot be read, or holds no certificate to trust") from None


def parse_retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Understand a Retry-After header: seconds, or an HTTP date; None for anything else."""
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


def _parse_origin(url: str) -> tuple[str, str | None, int | None]:
    parts = URL(url)
    return parts.scheme, parts.host, parts.port


def _describe_error(error: Exception) -> str:
    """Say a network error in words of our own: its text could hold an address with a query."""
    names = {
        aiohttp.ClientConnectorDNSError: "the host name is not known",
        aiohttp.ClientConnectorError: "no connection",
        aiohttp.ServerDisconnectedError: "the connection was closed",
        aiohttp.ClientPayloadError: "the answer broke off",
        aiohttp.ClientResponseError: "the answer is no HTTP",
        aiohttp.InvalidURL: "the address is not usable",
        ConnectionResetError: "the connection was reset",
    }
    return next((said for kind, said in names.items() if isinstance(error, kind)), type(error).__name__)


def _too_large_error(label: str, max_bytes: int) -> ResponseError:
    return ResponseError(f"{label} answered with more than {max_bytes} bytes")
