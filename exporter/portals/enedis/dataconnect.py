"""The client of Enedis Data Connect: an application's id and secret, tokens of three and a half hours."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import ClassVar, Literal

from pydantic import SecretStr

from exporter.client.quota import CallQuota
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token, TokenCache
from exporter.portals.enedis.auth import log_in
from exporter.portals.enedis.client import (
    RESOURCE_NAMES_2026,
    ApiRequest,
    ConfiguredPoint,
    EnedisApiClient,
    build_query_2026,
    describe_call,
)
from exporter.portals.enedis.measures import Measure

DATA_CONNECT_V5_PATHS: Mapping[str, str] = {
    "consumption_days": "metering_data_dc/v5/daily_consumption",
    "consumption_curve": "metering_data_clc/v5/consumption_load_curve",
    "consumption_max": "metering_data_dcmp/v5/daily_consumption_max_power",
    "production_days": "metering_data_dp/v5/daily_production",
    "production_curve": "metering_data_plc/v5/production_load_curve",
}


class DataConnectClient(EnedisApiClient):
    """Data Connect: 1000 calls an hour for the whole application."""

    quota: ClassVar[CallQuota] = CallQuota(900, timedelta(hours=1), reserved_for_visits=300, backfill_per_visit=30)

    def __init__(
        self,
        session: Session,
        base_url: str,
        *,
        client_id: str,
        client_secret: SecretStr,
        api: Literal["2026", "v5"],
        backfill: bool = False,
    ) -> None:
        super().__init__(session, base_url, backfill=backfill)
        self._client_id, self._client_secret, self._is_v5 = client_id, client_secret, api == "v5"
        self._tokens = TokenCache(session, self._log_in)

    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return the request to the measure API of 2026, or to one of the five of v5."""
        if not self._is_v5:
            url = f"{self._base_url}/mesure_synchrone_auto/v2/{RESOURCE_NAMES_2026[measure.key]}"
            return ApiRequest(url, describe_call(point, measure.key), build_query_2026(point, measure, first, end))
        query = {"usage_point_id": point.prm, "start": first.isoformat(), "end": end.isoformat()}
        return ApiRequest(f"{self._base_url}/{DATA_CONNECT_V5_PATHS[measure.key]}", describe_call(point, measure.key), query)

    def build_contract_request(self, point: ConfiguredPoint) -> ApiRequest:
        """Return the request for the contract; in 2026 the PRM is in the path, and a query is refused."""
        if not self._is_v5:
            return ApiRequest(f"{self._base_url}/situation_contrat_auto/v1/{point.prm}", describe_call(point, "contract"))
        query = {"usage_point_id": point.prm}
        return ApiRequest(f"{self._base_url}/customers_upc/v5/usage_points/contracts", describe_call(point, "contract"), query)

    async def _send(self, request: ApiRequest) -> Response:
        return await self._tokens.send(lambda token: self._send_get(request, {"Authorization": f"Bearer {token.value}"}))

    async def _log_in(self, _: Token | None) -> Token:
        return await log_in(self.session, self._base_url, self._client_id, self._client_secret)
