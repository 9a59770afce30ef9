"""Stored logins: one for as long as its token lives, over restarts and in parallel calls.

A session that ended before its date is recognised by its responses, and renewed once.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.client.login_attempts import LoginAttempts
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.errors import PortalError, ResponseError

FORBIDDEN_MEMORY, PAGE_MEMORY = timedelta(days=7), timedelta(hours=12)
"""How long it is remembered that a new login did not help against a 403, or against a redirect or HTML."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and its expiry (aware, UTC); `extra` is what a portal stores with it, such as a refresh token."""

    value: str = field(repr=False)
    expires_at: datetime
    extra: Mapping[str, Any] | None = field(default=None, repr=False)


class TokenCache:
    """One login for as long as its token lives, over restarts and in parallel calls.

    `log_in` returns a new token for the old one (a refresh token may be in its `extra`). A token is renewed
    `renew_before` its expiry, and never sooner than `min_age` after it was made. A failed login is not repeated for as
    long: other callers get the same error. How often it is tried again is decided in `login_attempts`.
    """

    def __init__(
        self,
        session: Session,
        log_in: Callable[[Token | None], Awaitable[Token]],
        *,
        renew_before: timedelta = timedelta(minutes=1),
        min_age: timedelta = timedelta(minutes=5),
        key: str = "token",
    ) -> None:
        self._session, self._log_in = session, log_in
        self._renew_before, self._min_age, self._key = renew_before, min_age, key
        self._lock = asyncio.Lock()
        self._current: Token | None = None
        self._last_failure: tuple[PortalError, datetime] | None = None
        self._refusals = _Refusals(session, f"{key}-refusals")
        self._proven: str | None = None
        """A token that was accepted in this visit: a later refusal is not the end of its session."""

    async def send(self, request: Callable[[Token], Awaitable[Response]], subject: str = "") -> Response:
        """Send a request with the token; if the session may have ended, log in again and repeat it once.

        A session that has ended is answered with 401, or with 403, a redirect or HTML. The latter may as well be the
        response for one meter or function, the `subject` of the request: if a new login does not help, that is
        remembered, and the response is returned. Raise ResponseError if a token made in this visit is answered with 401,
        and whatever the login raises.
        """
        token = await self.get_token()
        response = await request(token)
        kind = _find_session_end(response)
        if kind is None:
            return await self._accept(token, response, subject)
        if response.status != 401 and (self._proven == token.value or await self._refusals.includes(subject)):
            return response
        if (renewed := await self._replace_refused(token, response)) is None:
            await self._refusals.remember(subject, kind)
            return response
        response = await request(renewed)
        if response.status == 401:
            raise ResponseError(f"{response.label} refused the token of a new login")
        if (kind := _find_session_end(response)) is None:
            return await self._accept(renewed, response, subject)
        await self._refusals.remember(subject, kind)
        return response

    async def get_token(self) -> Token:
        """Return the current token; log in if there is none or it is about to expire."""
        async with self._lock:
            stored, made = await self._load()
            if stored and (
                stored is self._current
                or self._session.now + self._renew_before < stored.expires_at
                or self._session.now < made + self._min_age
            ):
                return stored
            return await self._renew(stored)

    async def _replace_refused(self, refused: Token, response: Response) -> Token | None:
        """Return a new token; None if the refused one is too new to have ended, and the status is not 401."""
        async with self._lock:
            stored, made = await self._load()
            if stored and stored.value != refused.value:
                return stored
            is_new = stored is not None and stored is self._current
            if not is_new and not timedelta(0) <= self._session.now - made < self._min_age:
                return await self._renew(stored)
            if response.status != 401:
                return None
            if is_new:
                raise ResponseError(f"{response.label} refused the token of a new login")
            raise ResponseError(f"{response.label} refused a token younger than {self._min_age}; not logging in again so soon")

    async def _accept(self, token: Token, response: Response, subject: str) -> Response:
        if 200 <= response.status < 300:
            self._proven = token.value
            if subject:
                await self._refusals.forget(subject)
        return response

    async def _load(self) -> tuple[Token | None, datetime]:
        if self._current:
            return self._current, self._session.now
        stored = await self._session.store.get(self._key, self._session.now)
        if not stored:
            return None, datetime.min.replace(tzinfo=UTC)
        return Token(stored["value"], _from_timestamp(stored["ends"]), stored["more"]), _from_timestamp(stored["made"])

    async def _renew(self, old: Token | None) -> Token:
        made = self._session.now
        if self._last_failure and timedelta(0) <= made - self._last_failure[1] < self._min_age:
            raise self._last_failure[0]
        attempts = LoginAttempts(self._session, self._key)
        await attempts.check()
        count_before = await attempts.count()
        try:
            token = await self._log_in(old)
            if not (token.value.isascii() and token.value.isprintable()):
                raise ResponseError("the login returned a token that cannot be sent")
        except PortalError as failure:
            error = await attempts.end(failure, count_before)
            self._last_failure = error, made
            raise error from None
        await attempts.clear()
        stored = {"value": token.value, "ends": token.expires_at.timestamp(), "made": made.timestamp(), "more": token.extra}
        # Stored for a while after its expiry: its refresh token may outlive it.
        await self._session.store.put(self._key, stored, max(token.expires_at, made + self._min_age) + timedelta(days=1))
        self._current = token
        return token


class _Refusals:
    """The subjects that are refused even after a new login, and until when that is remembered, by digest."""

    def __init__(self, session: Session, key: str) -> None:
        self._session, self._key = session, key
        self._until: dict[str, float] | None = None

    async def includes(self, subject: str) -> bool:
        """Return whether a subject is refused with every token; not if a clock that ran ahead recorded it."""
        left = (await self._load()).get(_digest(subject), 0) - self._session.now.timestamp()
        return 0 < left <= FORBIDDEN_MEMORY.total_seconds()

    async def remember(self, subject: str, kind: str) -> None:
        """Record that a new login does not help."""
        now = self._session.now
        until = {key: value for key, value in (await self._load()).items() if value > now.timestamp()}
        self._until = until | {_digest(subject): (now + _MEMORY[kind]).timestamp()}
        await self._session.store.put(self._key, self._until, now + FORBIDDEN_MEMORY)

    async def forget(self, subject: str) -> None:
        """Delete a subject that is answered again."""
        if (await self._load()).pop(_digest(subject), None):
            await self._session.store.put(self._key, self._until, self._session.now + FORBIDDEN_MEMORY)

    async def _load(self) -> dict[str, float]:
        if self._until is None:
            self._until = await self._session.store.get(self._key, self._session.now) or {}
        return self._until


_MEMORY = {"forbidden": FORBIDDEN_MEMORY, "page": PAGE_MEMORY}


def _find_session_end(response: Response) -> str | None:
    """Return the kind of a response that may mean that the session has ended, else None."""
    if response.status in (401, 403):
        return "forbidden"
    is_page = response.status == 200 and response.body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"
    return "page" if is_page or response.status in (301, 302, 303, 307, 308) else None


def _digest(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()[:16]


def _from_timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
