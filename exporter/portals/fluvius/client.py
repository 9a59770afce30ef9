"""Requests to Fluvius's data API; errors name a meter by its entry in the configuration."""

from collections.abc import Mapping
from typing import Any

from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token, TokenCache
from exporter.errors import LoginError, ResponseError
from exporter.portals.base import prefix_errors
from exporter.portals.fluvius.auth import log_in, renew_token
from exporter.portals.fluvius.config import FluviusConfig, MeterConfig
from exporter.portals.fluvius.days import DayRange


class FluviusApiClient:
    """The data API of one account.

    Requests count against the hourly quota, of which a part is reserved for days that are not settled. With `is_settled` None,
    for what a command asks, they do not count.
    """

    def __init__(self, config: FluviusConfig, session: Session, *, is_settled: bool | None = None) -> None:
        self.config, self.session = config, session
        self.request_count = 0
        """How many requests for data were made."""
        self._is_settled = is_settled
        self._tokens = TokenCache(session, self._renew_or_log_in)

    async def log_in(self) -> None:
        """Log in if there is no valid token. Raise what the login raises."""
        if not self.config.token:
            await self._tokens.get_token()

    async def fetch_history(self, meter: MeterConfig, serial: str | None, days: DayRange, granularity: int) -> Any:
        """Return the amounts of a range of days, a list of records of one length."""
        path = "meter-measurement-history" if self.config.api == 2025 else "consumption-histories"
        return await self._fetch_list(meter, serial, path, days, {"granularity": str(granularity)})

    async def fetch_peaks(self, meter: MeterConfig, serial: str | None, days: DayRange) -> Any:
        """Return the monthly peaks of a range of days, a list."""
        path = "meter-measurement-spikes" if self.config.api == 2025 else "consumption-spikes"
        parameters = {} if self.config.api == 2025 else {"granularity": str(self.config.get_day_granularity())}
        return await self._fetch_list(meter, serial, path, days, parameters)

    async def _fetch_list(
        self, meter: MeterConfig, serial: str | None, path: str, days: DayRange, parameters: Mapping[str, str]
    ) -> Any:
        query = {
            **(days.format_local_query() if self.config.api == 2025 else days.format_utc_query()),
            **parameters,
            "asServiceProvider": "false",
        }
        if serial and self.config.api == 2025:
            query |= {"meterSerialNumber": serial, "mandateDisplayMode": "1"}
        if self._is_settled is not None:
            await self.config.quota.spend(self.session, for_settled_days=self._is_settled)
        self.request_count += 1
        with prefix_errors(self.config.describe_meter(meter, serial)):
            url = f"{self.config.portal_url}/verbruik/api/{path}/{meter.ean}"
            response = await self._request(url, query, subject=f"{meter.ean} {serial}")
            if response.status in (400, 403, 404):
                serials = f" or serial {_mask(serial)}" if serial else ""
                raise ResponseError(f"EAN {_mask(meter.ean)}{serials} refused ({response.status}): check the configuration")
            if not isinstance(body := response.json(), list):
                raise ResponseError(f"{response.label} has changed: expected a list")
            return body

    async def _request(self, url: str, query: Mapping[str, str], subject: str) -> Response:
        async def send(token: str) -> Response:
            headers = {**self.config.build_headers(), "Authorization": f"Bearer {token}", "Accept": "application/json"}
            return await self.session.get(url, params=query, headers=headers)

        if not self.config.token:
            return await self._tokens.send(lambda token: send(token.value), subject)
        response = await send(self.config.token.get_secret_value())
        if response.status == 401:
            raise LoginError("the configured token is refused: it has expired, or was not copied completely")
        return response

    async def _renew_or_log_in(self, expired: Token | None) -> Token:
        return await renew_token(self.config, self.session, expired) or await log_in(self.config, self.session)


def _mask(number: str) -> str:
    """Return the last digits of a number, by which its owner knows it."""
    return f"…{number[-4:]}"
