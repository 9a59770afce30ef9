"""Calls that a visit can do without, such as those for names and contracts: a failure is a note, and the readings come."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from exporter.client.session import Session
from exporter.errors import LoginError, PortalError, RateLimitError

NOTE_MEMORY = timedelta(days=7)
"""How long the failure of a call stays a note, unless the call succeeds before."""
ResultT = TypeVar("ResultT")


class SideCalls:
    """The optional calls of one account, by name; the note on a failed one is stored for a week, or until it succeeds."""

    def __init__(self, session: Session, key: str = "side-calls") -> None:
        self._session, self._key = session, key

    async def attempt(self, name: str, call: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """Return what a call and the parsing of its response return; None when either fails.

        Raise LoginError and RateLimitError: the calls for readings would meet them too.
        """
        try:
            result = await call()
        except (LoginError, RateLimitError):
            raise
        except PortalError as error:
            await self.record(name, str(error))
            return None
        await self.record(name, "")
        return result

    async def record(self, name: str, text: str) -> None:
        """Store the note of a call, in place of its last one; an empty text removes it."""
        stored, now = await self._load(), self._session.now
        others = {key: note for key, note in stored.items() if key != name}
        if text:
            others[name] = text, (now + NOTE_MEMORY).timestamp()
        if others != stored:
            await self._session.store.put(self._key, others, now + NOTE_MEMORY)

    async def list_notes(self) -> tuple[str, ...]:
        """Return the notes of this visit and of those of the last week."""
        return tuple(text for text, _ in (await self._load()).values())

    async def _load(self) -> dict[str, tuple[str, float]]:
        stored, now = await self._session.store.get(self._key, self._session.now) or {}, self._session.now.timestamp()
        return {name: (text, until) for name, (text, until) in stored.items() if 0 < until - now <= NOTE_MEMORY.total_seconds()}
