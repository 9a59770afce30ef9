"""Logins kept: one for as long as its token lives, over restarts and in parallel calls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.answer import Answer
from exporter.errors import PortalError, ResponseError
from exporter.session import Session


@dataclass(frozen=True, slots=True)
class Token:
    """Proof of a login: what is sent, and until when (aware, UTC); `more` is what else a portal wants kept with it."""

    value: str = field(repr=False)
    ends: datetime
    more: Mapping[str, Any] | None = field(default=None, repr=False)


class Tokens:
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
        margin: timedelta = timedelta(minutes=1),
        least: timedelta = timedelta(minutes=5),
        key: str = "token",
    ) -> None:
        self._session, self._log_in = session, log_in
        self._margin, self._least, self._key = margin, least, key
        self._lock = asyncio.Lock()
        self._fresh: Token | None = None
        self._failed: tuple[PortalError, datetime] | None = None

    async def call(self, ask: Callable[[Token], Awaitable[Answer]]) -> Answer:
        """Ask with the token; on a 401 log in anew once and repeat once.

        Raises ResponseError when a token made in this very visit is refused, and whatever the login raises.
        """
        token = await self.token()
        answer = await ask(token)
        if answer.status != 401:
            return answer
        answer = await ask(await self._after_refusal(token, answer))
        if answer.status == 401:
            raise ResponseError(f"{answer.what} refuses the token that a new login has just given")
        return answer

    async def token(self) -> Token:
        """Give the present token, logging in when there is none or it is about to end."""
        async with self._lock:
            kept, made = await self._kept()
            if kept and (kept is self._fresh or self._session.now < max(kept.ends - self._margin, made + self._least)):
                return kept
            return await self._renew(kept)

    async def _after_refusal(self, refused: Token, answer: Answer) -> Token:
        async with self._lock:
            kept, made = await self._kept()
            if kept and kept.value != refused.value:
                return kept
            if kept is not None and kept is self._fresh:
                raise ResponseError(f"{answer.what} refuses the token that a new login has just given")
            if timedelta(0) <= self._session.now - made < self._least:
                raise ResponseError(f"{answer.what} refuses a token that is younger than {self._least}: no login so soon again")
            return await self._renew(kept)

    async def _kept(self) -> tuple[Token | None, datetime]:
        if self._fresh:
            return self._fresh, self._session.now
        kept = await self._session.memory.get(self._key, self._session.now)
        if not kept:
            return None, datetime.min.replace(tzinfo=UTC)
        return Token(kept["value"], _instant(kept["ends"]), kept["more"]), _instant(kept["made"])

    async def _renew(self, old: Token | None) -> Token:
        made = self._session.now
        if self._failed and timedelta(0) <= made - self._failed[1] < self._least:
            raise self._failed[0]
        try:
            token = await self._log_in(old)
        except PortalError as error:
            self._failed = error, made
            raise
        if not (token.value.isascii() and token.value.isprintable()):
            raise ResponseError("the portal's answer to the login holds a token that cannot be sent")
        kept = {"value": token.value, "ends": token.ends.timestamp(), "made": made.timestamp(), "more": token.more}
        # Kept a while past its end: its refresh token may outlive it.
        await self._session.memory.put(self._key, kept, max(token.ends, made + self._least) + timedelta(days=1))
        self._fresh = token
        return token


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
