"""The API of Water-Link: three JSON calls with a bearer token."""

from datetime import date

from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import TokenCache
from exporter.errors import ResponseError
from exporter.portals.water_link.auth import BROWSER_HEADERS, renew_or_log_in
from exporter.portals.water_link.config import WaterLinkConfig


class RefusedMeterError(ResponseError):
    """The portal refuses this meter: it is another customer's, or it does not exist."""


class WaterLinkApiClient:
    """The calls of one account in one visit; `where` names the meter in the messages of errors."""

    def __init__(self, session: Session, config: WaterLinkConfig) -> None:
        self._session, self._url = session, config.portal_url
        self._tokens = TokenCache(session, lambda expired: renew_or_log_in(session, config, expired))

    async def log_in(self) -> None:
        """Log in if there is no valid token."""
        await self._tokens.get_token()

    async def get_meter(self, number: str, where: str) -> Response:
        """Return the state of a meter."""
        return await self._get_for_meter(f"/api/meters/{number}", {}, where)

    async def get_month(self, number: str, month: date, where: str) -> Response:
        """Return the daily volumes of the month that `month` is in."""
        return await self._get_for_meter(
            "/api/measurements/day", {"from": month.replace(day=1).isoformat(), "meterNumber": number}, where
        )

    async def get_alarms(self, number: str, where: str) -> Response:
        """Return the ten newest alarms; the format of an alarm is not known."""
        query = {"index": "0", "size": "10", "sortingDirection": "Desc", "sortBy": "StartTime"}
        return await self._get_for_meter(f"/api/alarms/{number}", query, where)

    async def _get_for_meter(self, path: str, query: dict[str, str], where: str) -> Response:
        subject = f"{path} {query.get('meterNumber', '')}"
        response = await self._tokens.send(lambda token: self._get(path, query, token.value), subject)
        if response.status in (403, 404):
            raise RefusedMeterError(f"{where} is not in this account ({response.status}): check the number")
        return response

    async def _get(self, path: str, query: dict[str, str], token: str) -> Response:
        headers = BROWSER_HEADERS | {"Authorization": f"Bearer {token}"}
        return await self._session.get(self._url + path, params=query, headers=headers)
