"""How often a login is tried: one that is neither accepted nor refused is repeated after growing waits, over restarts.

A password is counted before it is sent, so that a process that dies meanwhile has counted it. What fails before it is sent,
such as a portal that cannot be reached, does not count: that is tried again at the next visit.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.client.response import Response
from exporter.client.session import RequestBody, Session, StringMap
from exporter.errors import LoginError, PortalError, ResponseError, UnreachableError

ATTEMPTS_SUFFIX = "-retries"
"""Ends the keys of an account's store under which its failed logins stand."""
RESPONSE_WAITS = (timedelta(minutes=20), timedelta(hours=3), timedelta(hours=8), timedelta(days=1))
"""The waits after logins that were not understood: at most four on the first day, then one a day."""
UNREACHABLE_WAITS = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=6))
"""The waits after passwords that a server failed at or did not answer: at most six on the first day, then four a day."""


class LoginAttempts:
    """The failed logins of an account since the last good one, stored with the account."""

    def __init__(self, session: Session, key: str = "token") -> None:
        self._session, self._key = session, f"{key}{ATTEMPTS_SUFFIX}"

    async def check(self) -> None:
        """Raise the last error with its message while the next login is not due."""
        stored = await self._load()
        if stored and self._session.now.timestamp() < stored["due"]:
            raise _build_error(stored)

    async def count(self) -> int:
        """Return how many have failed."""
        stored = await self._load()
        return int(stored["count"]) if stored else 0

    async def begin(self) -> None:
        """Count a password that is about to be sent."""
        await self._store(await self.count() + 1, "the login did not end", UnreachableError.reason, UNREACHABLE_WAITS)

    async def undo(self) -> None:
        """Count the last one out again: it was not sent."""
        count = await self.count() - 1
        if count > 0:
            await self._store(count, "the portal could not be reached", UnreachableError.reason, (timedelta(0),))
        else:
            await self.clear()

    async def end(self, error: PortalError, count_before: int) -> PortalError:
        """Store how a login failed, and with it when the next one is due; `count_before` is what counted before it.

        Return the error to raise: of a password that a server failed at it says when the next one is sent.
        """
        count = await self.count()
        if isinstance(error, LoginError):  # the account is suspended, by rules of its own
            await self.clear()
        elif isinstance(error, ResponseError):
            await self._store(max(count, count_before + 1), str(error), error.reason, RESPONSE_WAITS)
        elif count > count_before:
            await self._store(count, str(error), UnreachableError.reason, UNREACHABLE_WAITS)
            if isinstance(error, UnreachableError) and (stored := await self._load()):
                return _build_error(stored)
        return error

    async def clear(self) -> None:
        """Forget them, so that the next login may be at once."""
        if await self._session.store.get(self._key, self._session.now):
            await self._session.store.delete(self._key)

    async def _store(self, count: int, message: str, reason: str, waits: tuple[timedelta, ...]) -> None:
        now = self._session.now
        due = now + waits[min(count, len(waits)) - 1]
        record = {"count": count, "at": now.timestamp(), "due": due.timestamp(), "message": message, "reason": reason}
        await self._session.store.put(self._key, record, due + timedelta(days=1))

    async def _load(self) -> Mapping[str, Any] | None:
        """Return the record, if any; one of a clock that ran ahead does not count."""
        stored = await self._session.store.get(self._key, self._session.now)
        return stored if stored and stored["at"] <= self._session.now.timestamp() else None


def _build_error(stored: Mapping[str, Any]) -> PortalError:
    message = f"{stored['message']}; next login not before {datetime.fromtimestamp(stored['due'], UTC):%Y-%m-%d %H:%M} UTC"
    return UnreachableError(message) if stored.get("reason") == UnreachableError.reason else ResponseError(message)


async def post_password(
    session: Session, url: str, *, data: RequestBody, params: StringMap | None = None, headers: StringMap | None = None
) -> Response:
    """Send a form with a password, which counts as an attempt to log in; raise what `Session.post` raises."""
    attempts = LoginAttempts(session)
    await attempts.begin()
    try:
        return await session.post(url, data=data, params=params, headers=headers)
    except UnreachableError as error:
        if not error.was_sent:
            await attempts.undo()
        raise


async def allow_login(session: Session) -> None:
    """Forget earlier logins that failed: a person wants the next one now."""
    await LoginAttempts(session).clear()
