"""Logins kept: one for as long as its token lives, over restarts and in parallel calls."""

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
    """Proof of a login: what is sent, and until when (aware, UTC); `more` is what else a portal wants kept with it."""

    value: str = field(repr=False)
    expires_at: datetime
    extra: Mapping[str, Any] | None = field(default=None, repr=False)


class TokenCache:
    """One login for as long as its token lives, over restarts and in parallel calls.

    `log_in` makes a new token, given the old one (a refresh token may be in its `more`). A token is renewed `margin`
    before its end, and never sooner than `least` after it was made. A login that fails is not tried again for as long:
    whoever else wants the token is told the same.
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
        """Ask with the token; on a 401 log in anew once and repeat once.

        Raises ResponseError when a token made in this very visit is refused, and whatever the login raises.
        """
        token = await self.get_token()
        answer = await request(token)
        if answer.status != 401:
            return answer
        answer = await request(await self._replace_refused(token, answer))
        if answer.status == 401:
            raise ResponseError(f"{answer.label} refuses the token that a new login has just given")
        return answer

    async def get_token(self) -> Token:
        """Give the present token, logging in when there is none or it is about to end."""
        async with self._lock:
            kept, made = await self._load()
            if kept and (
                kept is self._current or self._session.now < max(kept.expires_at - self._renew_before, made + self._min_age)
            ):
                return kept
            return await self._renew(kept)

    async def _replace_refused(self, refused: Token, response: Response) -> Token:
        async with self._lock:
            kept, made = await self._load()
            if kept and kept.value != refused.value:
                return kept
            if kept is not None and kept is self._current:
                raise ResponseError(f"{response.label} refuses the token that a new login has just given")
            if timedelta(0) <= self._session.now - made < self._min_age:
                raise ResponseError(
                    f"{response.label} refuses a token that is younger than {self._min_age}: no login so soon again"
                )
            return await self._renew(kept)

    async def _load(self) -> tuple[Token | None, datetime]:
        if self._current:
            return self._current, self._session.now
        kept = await self._session.store.get(self._key, self._session.now)
        if not kept:
            return None, datetime.min.replace(tzinfo=UTC)
        return Token(kept["value"], _from_timestamp(kept["ends"]), kept["more"]), _from_timestamp(kept["made"])

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
            raise ResponseError("the portal's answer to the login holds a token that cannot be sent")
        kept = {"value": token.value, "ends": token.expires_at.timestamp(), "made": made.timestamp(), "more": token.extra}
        # Kept a while past its end: its refresh token may outlive it.
        await self._session.store.put(self._key, kept, max(token.expires_at, made + self._min_age) + timedelta(days=1))
        self._current = token
        return token


def _from_timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
