"""The client of the Conso API (conso.boris.sh): one token, created on the site, stands for all consents."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import SecretStr

from exporter.client.quota import CallQuota
from exporter.client.session import Session
from exporter.errors import LoginError
from exporter.portals.enedis.auth import parse_token_claims
from exporter.portals.enedis.client import (
    RESOURCE_NAMES_2026,
    ApiRequest,
    ConfiguredPoint,
    EnedisApiClient,
    build_query_2026,
    describe_call,
)
from exporter.portals.enedis.measures import Measure
from exporter.portals.enedis.refusals import ConsentError, RefusalReason

CONSO_V5_NAMES: Mapping[str, str] = {
    "consumption_days": "daily_consumption",
    "consumption_curve": "consumption_load_curve",
    "consumption_max": "consumption_max_power",
    "production_days": "daily_production",
    "production_curve": "production_load_curve",
}


class ConsoClient(EnedisApiClient):
    """The Conso API: 100 calls in 12 hours ban the IP address; a visit of a usage point makes 4 to 7."""

    base_url_hint: ClassVar[str] = "check base_url, it usually ends in /api"
    quota: ClassVar[CallQuota] = CallQuota(80, timedelta(hours=12), reserved_for_visits=25, backfill_per_visit=12)

    def __init__(
        self, session: Session, base_url: str, *, token: SecretStr, api: Literal["2026", "v5"], backfill: bool = False
    ) -> None:
        super().__init__(session, base_url, backfill=backfill)
        self._token, self._resource_names = token, RESOURCE_NAMES_2026 if api == "2026" else CONSO_V5_NAMES

    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return `GET TYPE`; the types of v5 accept the parameters of 2026 that all of them know."""
        query = build_query_2026(point, measure, first, end)
        if self._resource_names is CONSO_V5_NAMES:
            query = {key: query[key] for key in ("pointId", "dateDebut", "dateFin")}
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        return ApiRequest(
            f"{self._base_url}/{self._resource_names[measure.key]}", describe_call(point, measure.key), query, headers
        )

    async def check_access(self, point: ConfiguredPoint) -> datetime | None:
        """Return when the token expires; this needs no call. Raise LoginError and ConsentError."""
        claims = parse_token_claims(self._token)
        if claims.expires_at and claims.expires_at <= self.session.now:
            raise LoginError(f"the token expired on {claims.expires_at:%Y-%m-%d}; create a new one on the site")
        if claims.prms and point.prm not in claims.prms:
            raise ConsentError(f"the token was not made for {point.display_name}")
        return claims.expires_at

    def _find_own_reason(self, status: int, code: str, body: Any) -> RefusalReason | None:
        if code in ("900901", "900902"):
            return RefusalReason.OUTAGE  # of the gateway's own token
        if status == 401:
            return RefusalReason.NO_RIGHT
        return RefusalReason.INVALID_REQUEST if status == 400 and not code and body else None
