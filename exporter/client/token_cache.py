"""Logins stored: one for as long as its token lives, over restarts and in parallel calls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.client.response import Response
from exporter.client.session import Session
from exporter.errors import PortalError, ResponseError


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
    long: other callers get the same error.
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

    async def send(self, request: Callable[[Token], Awaitable[Response]]) -> Response:
        """Send a request with the token; on a 401 log in again and repeat it once.

        Raise ResponseError if a token made in this visit is refused, and whatever the login raises.
        """
        token = await self.get_token()
        response = await request(token)
        if response.status != 401:
            return response
        response = await request(await self._replace_refused(token, response))
        if response.status == 401:
            raise ResponseError(f"{response.label} refused the token of a new login")
        return response

    async def get_token(self) -> Token:
        """Return the current token; log in if there is none or it is about to expire."""
        async with self._lock:
            stored, made = await self._load()
            if stored and (
                stored is self._current or self._session.now < max(stored.expires_at - self._renew_before, made + self._min_age)
            ):
                return stored
            return await self._renew(stored)

    async def _replace_refused(self, refused: Token, response: Response) -> Token:
        async with self._lock:
            stored, made = await self._load()
            if stored and stored.value != refused.value:
                return stored
            if stored is not None and stored is self._current:
                raise ResponseError(f"{response.label} refused the token of a new login")
            if timedelta(0) <= self._session.now - made < self._min_age:
                raise ResponseError(
                    f"{response.label} refused a token younger than {self._min_age}; not logging in again so soon"
                )
            return await self._renew(stored)

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
        try:
            token = await self._log_in(old)
        except PortalError as error:
            self._last_failure = error, made
            raise
        if not (token.value.isascii() and token.value.isprintable()):
            raise ResponseError("the login returned a token that cannot be sent")
        stored = {"value": token.value, "ends": token.expires_at.timestamp(), "made": made.timestamp(), "more": token.extra}
        # Stored for a while after its expiry: its refresh token may outlive it.
        await self._session.store.put(self._key, stored, max(token.expires_at, made + self._min_age) + timedelta(days=1))
        self._current = token
        return token


def _from_timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
