"""The portal's three JSON calls, each with a token that is kept for as long as it lives."""

from datetime import date

from pydantic import SecretStr

from exporter.answer import Answer
from exporter.errors import ResponseError
from exporter.portals.water_link.login import BROWSER, Client, log_in
from exporter.session import Session
from exporter.tokens import Tokens


class RefusedMeterError(ResponseError):
    """The portal does not give us this meter: it is another customer's, or there is none of that number."""


class Api:
    """The calls of one account in one visit: each raises the PortalErrors, `where` naming the meter in their messages."""

    def __init__(self, session: Session, client: Client, username: str, password: SecretStr) -> None:
        self._session, self._url = session, client.portal_url
        self._tokens = Tokens(session, lambda _: log_in(session, client, username, password))

    async def enter(self) -> None:
        """See that there is a token, logging in when there is none."""
        await self._tokens.token()

    async def meter(self, number: str, where: str) -> Answer:
        """The state of a meter."""
        return await self._ask(f"/api/meters/{number}", {}, where)

    async def days(self, number: str, month: date, where: str) -> Answer:
        """The daily volumes of the month that `month` is in."""
        return await self._ask("/api/measurements/day", {"from": month.replace(day=1).isoformat(), "meterNumber": number}, where)

    async def alarms(self, number: str, where: str) -> Answer:
        """The ten newest alarms; their shape is not known to us."""
        query = {"index": "0", "size": "10", "sortingDirection": "Desc", "sortBy": "StartTime"}
        return await self._ask(f"/api/alarms/{number}", query, where)

    async def _ask(self, path: str, query: dict[str, str], where: str) -> Answer:
        answer = await self._tokens.call(lambda token: self._get(path, query, token.value))
        if answer.status in (403, 404):
            raise RefusedMeterError(f"{where}: the portal does not give us this meter (status {answer.status})")
        return answer

    async def _get(self, path: str, query: dict[str, str], token: str) -> Answer:
        headers = BROWSER | {"Authorization": f"Bearer {token}"}
        return await self._session.get(self._url + path, params=query, headers=headers)
