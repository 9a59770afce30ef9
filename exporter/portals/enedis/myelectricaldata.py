"""The clients of MyElectricalData: version 2 with an account's secret, version 1 with a token for each usage point."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from pydantic import SecretStr

from exporter.client.quota import CallQuota
from exporter.client.session import Session
from exporter.errors import NoDataError, PortalError, RateLimitError, TooOldError
from exporter.models import DAY, Reading
from exporter.portals.base import ResponseModel, parse_response
from exporter.portals.enedis.auth import parse_access
from exporter.portals.enedis.client import ApiRequest, ConfiguredPoint, EnedisApiClient, describe_call
from exporter.portals.enedis.measures import Measure, MeasureKind
from exporter.portals.enedis.refusals import ConsentError, RefusalReason

SERVICES_V1: Mapping[str, str] = {
    "consumption_days": "daily_consumption",
    "consumption_curve": "consumption_load_curve",
    "consumption_max": "daily_consumption_max_power",
    "production_days": "daily_production",
    "production_curve": "production_load_curve",
}
PATHS_V2: Mapping[str, str] = {
    "consumption_days": "consumption/daily",
    "consumption_curve": "consumption/detail",
    "consumption_max": "power",
    "production_days": "production/daily",
    "production_curve": "production/detail",
}


class MyElectricalDataV2Client(EnedisApiClient):
    """Version 2: 1000 cached calls a day; timestamps of curves are starts; refusals come with status 200."""

    base_url_hint: ClassVar[str] = "check base_url, it usually ends in /api"
    quota: ClassVar[CallQuota] = CallQuota(800, DAY, reserved_for_visits=200, backfill_per_visit=30)
    curve_stamps_are_starts: ClassVar[bool] = True
    hides_curve_refusals: ClassVar[bool] = True

    def __init__(self, session: Session, base_url: str, *, token: SecretStr, backfill: bool = False) -> None:
        super().__init__(session, base_url, backfill=backfill)
        self._headers = {"Authorization": f"Bearer {token.get_secret_value()}", "X-MED-Format": "2026"}

    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return the request to the gateway's cache, which fetches from Enedis what it lacks."""
        query = {"start": first.isoformat(), "end": end.isoformat(), "use_cache": "true"}
        return self._build_request(f"{PATHS_V2[measure.key]}/{point.prm}", describe_call(point, measure.key), query)

    def build_contract_request(self, point: ConfiguredPoint) -> ApiRequest:
        """Return the request for the contract."""
        return self._build_request(f"contract/{point.prm}", describe_call(point, "contract"), {"use_cache": "true"})

    async def fetch_measure(
        self, point: ConfiguredPoint, measure: Measure, first: date, end: date, skipped: Counter[str] | None = None
    ) -> list[Reading]:
        """Return the readings of local days [first, end) of a series.

        Raise TooOldError for several days without a value: the gateway hides that the first one is before the activation.
        """
        try:
            return await super().fetch_measure(point, measure, first, end, skipped)
        except NoDataError as nothing:
            if end - first <= DAY or measure.kind is MeasureKind.CURVE:
                raise
            raise TooOldError(f"{describe_call(point, measure.key)}: {nothing}") from None

    async def fetch_json(self, request: ApiRequest) -> Any:
        """Return the JSON of a response, without its envelope."""
        return parse_response(_EnvelopeResponse, await super().fetch_json(request), request.label).data

    def _build_request(self, path: str, label: str, query: Mapping[str, str]) -> ApiRequest:
        return ApiRequest(f"{self._base_url}/enedis/{path}", label, query, self._headers)


class _EnvelopeResponse(ResponseModel):
    success: bool
    data: Any


class MyElectricalDataV1Client(EnedisApiClient):
    """Version 1: 500 cached calls a day, 50 direct ones; each usage point has a token of its own."""

    quota: ClassVar[CallQuota] = CallQuota(400, DAY, reserved_for_visits=100, backfill_per_visit=20)

    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return the request to the gateway's cache: `/cache` counts against the larger quota."""
        path = f"{SERVICES_V1[measure.key]}/{point.prm}/start/{first}/end/{end}/cache"
        return self._build_request(point, path, measure.key)

    def build_contract_request(self, point: ConfiguredPoint) -> ApiRequest:
        """Return the request for the contract."""
        return self._build_request(point, f"contracts/{point.prm}/cache", "contract")

    async def check_access(self, point: ConfiguredPoint) -> datetime | None:
        """Return when the consent expires, requested once a day. Raise ConsentError and RateLimitError.

        The measures do without it: a response that is not understood is asked for again tomorrow.
        """
        key, now = f"access:{point.prm}", self.session.now
        if (kept := await self.session.store.get(key, now)) is not None:
            return datetime.fromtimestamp(kept, UTC) if kept else None
        try:
            body = await self.fetch_json(self.build_access_request(point))
            ends = parse_access(body, describe_call(point, "valid_access"), now)
        except (ConsentError, RateLimitError):
            raise
        except PortalError:
            ends = None
        await self.session.store.put(key, ends.timestamp() if ends else 0, now + DAY)
        return ends

    def build_access_request(self, point: ConfiguredPoint) -> ApiRequest:
        """Return the request for the state of token and consent."""
        return self._build_request(point, f"valid_access/{point.prm}/cache", "valid_access")

    def _build_request(self, point: ConfiguredPoint, path: str, call: str) -> ApiRequest:
        token = point.token.get_secret_value() if point.token else ""
        # No "Bearer" before the token.
        return ApiRequest(f"{self._base_url}/{path}", describe_call(point, call), None, {"Authorization": token})

    def _find_own_reason(self, status: int, code: str, body: Any) -> RefusalReason | None:
        unknown_path = isinstance(body, dict) and body.get("detail") == "Not Found"
        reasons = {
            401: RefusalReason.NO_RIGHT,
            403: RefusalReason.NO_RIGHT,
            404: RefusalReason.NO_DATA,
            409: RefusalReason.DAILY_QUOTA,
            422: RefusalReason.INVALID_REQUEST,
        }
        return None if code or unknown_path or body is None else reasons.get(status)
