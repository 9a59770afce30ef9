"""Asking the portal for one meter's data: signed in once, every refusal named by its entry in the configuration."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from exporter.answer import Answer
from exporter.errors import LoginError, PortalError, ResponseError
from exporter.portals.fluvius.days import Window
from exporter.portals.fluvius.grant import refreshed
from exporter.portals.fluvius.keys import Keys, Meter
from exporter.portals.fluvius.login import sign_in
from exporter.portals.fluvius.said import step
from exporter.session import Session
from exporter.tokens import Token, Tokens


class Desk:
    """One visit's way to the data.

    `before` is awaited before each request for data, for those that keep to a budget.
    """

    def __init__(self, keys: Keys, session: Session, before: Callable[[], Awaitable[None]] | None = None) -> None:
        self.keys, self.session = keys, session
        self._before = before
        self._tokens = Tokens(session, self._log_in)
        self._failed: PortalError | None = None

    async def open(self) -> None:
        """Sign in if needed; raises what the sign-in raises."""
        if not self.keys.token:
            await self._tokens.token()

    async def history(self, meter: Meter, serial: str | None, window: Window, code: int) -> Any:
        """Ask for the amounts of a window in records of a length; the answer is a list."""
        path = "meter-measurement-history" if self.keys.api == 2025 else "consumption-histories"
        return await self._list(meter, serial, path, window, {"granularity": str(code)})

    async def spikes(self, meter: Meter, serial: str | None, window: Window) -> Any:
        """Ask for the monthly peaks of a window; the answer is a list."""
        path = "meter-measurement-spikes" if self.keys.api == 2025 else "consumption-spikes"
        more = {} if self.keys.api == 2025 else {"granularity": str(self.keys.day_code())}
        return await self._list(meter, serial, path, window, more)

    def place(self, meter: Meter, serial: str | None = None) -> str:
        """Name a meter by its entry in the configuration, never by its number."""
        named = f"meters[{self.keys.meters.index(meter)}]"
        return f"{named}.serial[{meter.serial.index(serial)}]" if serial and len(meter.serial) > 1 else named

    async def _list(self, meter: Meter, serial: str | None, path: str, window: Window, more: Mapping[str, str]) -> Any:
        query = {**(window.local() if self.keys.api == 2025 else window.utc()), **more, "asServiceProvider": "false"}
        if serial and self.keys.api == 2025:
            query |= {"meterSerialNumber": serial, "mandateDisplayMode": "1"}
        if self._before:
            await self._before()
        with step(self.place(meter, serial)):
            answer = await self._ask(f"{self.keys.portal_url}/verbruik/api/{path}/{meter.ean}", query)
            if answer.status in (400, 403, 404):
                raise ResponseError(f"the portal refuses the EAN or the serial (status {answer.status}): check both")
            if not isinstance(found := answer.json(), list):
                raise ResponseError(f"{answer.what} has changed: a list is due")
            return found

    async def _ask(self, url: str, query: Mapping[str, str]) -> Answer:
        async def ask(token: str) -> Answer:
            headers = {**self.keys.headers(), "Authorization": f"Bearer {token}", "Accept": "application/json"}
            return await self.session.get(url, params=query, headers=headers)

        if not self.keys.token:
            return await self._tokens.call(lambda token: ask(token.value))
        answer = await ask(self.keys.token.get_secret_value())
        if answer.status == 401:
            raise LoginError("the token given by hand is refused: it has ended, or was not copied whole")
        return answer

    async def _log_in(self, old: Token | None) -> Token:
        """Renew by refresh token, else sign in; once a sign-in has failed, this visit tries no other."""
        if self._failed:
            raise self._failed
        try:
            return await refreshed(self.keys, self.session, old) or await sign_in(self.keys, self.session)
        except PortalError as error:
            self._failed = error
            raise
