"""The clients of Enedis, one for each access: Data Connect, the Conso API (conso.boris.sh), MyElectricalData in two versions.

Data Connect is Enedis's own API, for an application's id and secret; the two others are gateways to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import SecretStr

from exporter.client.quota import CallQuota
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token, TokenCache
from exporter.errors import LoginError, NoDataError, PortalError, RateLimitError, ResponseError, TooOldError
from exporter.models import DAY
from exporter.portals.base import ResponseModel, parse_response
from exporter.portals.enedis.auth import log_in, parse_access, parse_token_claims
from exporter.portals.enedis.measures import ConfiguredPoint, Measure, MeasureKind
from exporter.portals.enedis.parser import ParsedReadings, parse_readings
from exporter.portals.enedis.refusals import ConsentError, RefusalReason, raise_for_refusal


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One GET request."""

    url: str
    label: str
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None


class EnedisApiClient(ABC):
    """One access, for one visit. Calls count against the quota; refusals are raised as PortalErrors."""

    quota: ClassVar[CallQuota]
    base_url_hint: ClassVar[str] = "check base_url"
    """What to do when the address is not that of the API."""
    curve_stamps_are_starts: ClassVar[bool] = False
    """Whether timestamps of load curves are starts of intervals, not ends."""
    hides_curve_refusals: ClassVar[bool] = False
    """Whether any refusal of a load curve comes as "no data"."""

    def __init__(self, session: Session, base_url: str, *, is_settled: bool = False) -> None:
        """Make a client; with `is_settled` the calls reserved for days that are not settled are left to them."""
        self.session, self._base_url, self._is_settled = session, base_url, is_settled
        self.calls_made = 0

    @abstractmethod
    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return the request for local days [first, end) of a series."""

    def build_contract_request(self, point: ConfiguredPoint) -> ApiRequest | None:
        """Return the request for the contract; None where this access has none."""
        return None

    async def check_access(self, point: ConfiguredPoint) -> datetime | None:
        """Return when the access to a usage point expires, if known.

        Raise LoginError and ConsentError without access, and RateLimitError.
        """
        return None

    async def fetch_measure(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ParsedReadings:
        """Return the readings of local days [first, end) of a series, and what was left out.

        Raise PortalErrors, also those of `refusals`.
        """
        body = await self.fetch_json(self.build_measure_request(point, measure, first, end))
        return parse_readings(body, point.prm, measure, stamps_are_starts=self.curve_stamps_are_starts)

    async def fetch_contract(self, point: ConfiguredPoint) -> Any:
        """Return the response about the contract."""
        if (request := self.build_contract_request(point)) is None:
            raise NoDataError("this access has no contract")
        return await self.fetch_json(request)

    async def fetch_json(self, request: ApiRequest) -> Any:
        """Return the JSON of a response, without its envelope."""
        await self.quota.spend(self.session, for_settled_days=self._is_settled)
        self.calls_made += 1
        response = await self._send(request)
        try:
            return raise_for_refusal(response, self.session.now, self._find_own_reason)
        except ResponseError as error:
            # A path that does not exist, or a web page: another address than that of the API.
            is_elsewhere = response.status in (404, 405) or (response.status < 400 and response.json_or_none() is None)
            if is_elsewhere:
                raise ResponseError(f"{error}; {self.base_url_hint}") from None
            raise

    async def _send(self, request: ApiRequest) -> Response:
        return await self._send_get(request, request.headers or {})

    async def _send_get(self, request: ApiRequest, headers: Mapping[str, str]) -> Response:
        accept = {"Accept": "application/json", **headers}
        return await self.session.get(
            request.url, params=request.params, headers=accept, label=request.label, raise_for_status=False
        )

    def _find_own_reason(self, status: int, code: str, body: Any) -> RefusalReason | None:
        """Return the reason of a refusal where it differs from the common meaning."""
        return None


def describe_call(point: ConfiguredPoint, call: str) -> str:
    """Return the name of a call in messages: not its path, which can contain the PRM."""
    return f"{call} of {point.display_name}"


RESOURCE_NAMES_2026: Mapping[str, str] = {
    "consumption_days": "consommation_quotidienne",
    "consumption_curve": "courbe_de_charge_consommation",
    "consumption_max": "puissance_conso_max_quotidienne",
    "consumption_index": "index_consommation",
    "production_days": "production_quotidienne",
    "production_curve": "courbe_de_charge_production",
    "production_index": "index_production",
}
"""The resources of 2026, as named by Enedis and the Conso API."""


def _build_query_2026(point: ConfiguredPoint, measure: Measure, first: date, end: date) -> dict[str, str]:
    """Return the query of 2026; the end is excluded. An unknown or missing parameter results in status 500."""
    query = {"pointId": point.prm, "dateDebut": first.isoformat(), "dateFin": end.isoformat()}
    return query | ({"mesuresPas": "P1D", "grandeurPhysique": "PMA"} if measure.kind == "max" else {})


DATA_CONNECT_V5_PATHS: Mapping[str, str] = {
    "consumption_days": "metering_data_dc/v5/daily_consumption",
    "consumption_curve": "metering_data_clc/v5/consumption_load_curve",
    "consumption_max": "metering_data_dcmp/v5/daily_consumption_max_power",
    "production_days": "metering_data_dp/v5/daily_production",
    "production_curve": "metering_data_plc/v5/production_load_curve",
}


class DataConnectClient(EnedisApiClient):
    """Data Connect: 1000 calls an hour for the whole application; tokens of three and a half hours."""

    quota: ClassVar[CallQuota] = CallQuota(900, timedelta(hours=1), reserved_for_visits=300, calls_per_step=30)

    def __init__(
        self,
        session: Session,
        base_url: str,
        *,
        client_id: str,
        client_secret: SecretStr,
        api: Literal["2026", "v5"],
        is_settled: bool = False,
    ) -> None:
        super().__init__(session, base_url, is_settled=is_settled)
        self._client_id, self._client_secret, self._is_v5 = client_id, client_secret, api == "v5"
        self._tokens = TokenCache(session, self._log_in)

    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return the request to the measure API of 2026, or to one of the five of v5."""
        if not self._is_v5:
            url = f"{self._base_url}/mesure_synchrone_auto/v2/{RESOURCE_NAMES_2026[measure.key]}"
            return ApiRequest(url, describe_call(point, measure.key), _build_query_2026(point, measure, first, end))
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


CONSO_V5_NAMES: Mapping[str, str] = {
    "consumption_days": "daily_consumption",
    "consumption_curve": "consumption_load_curve",
    "consumption_max": "consumption_max_power",
    "production_days": "daily_production",
    "production_curve": "production_load_curve",
}


class ConsoClient(EnedisApiClient):
    """The Conso API: one token, created on the site, stands for all consents.

    100 calls in 12 hours ban the IP address; a visit of a usage point makes 4 to 7.
    """

    base_url_hint: ClassVar[str] = "check base_url, it usually ends in /api"
    quota: ClassVar[CallQuota] = CallQuota(80, timedelta(hours=12), reserved_for_visits=25, calls_per_step=12)

    def __init__(
        self, session: Session, base_url: str, *, token: SecretStr, api: Literal["2026", "v5"], is_settled: bool = False
    ) -> None:
        super().__init__(session, base_url, is_settled=is_settled)
        self._token, self._resource_names = token, RESOURCE_NAMES_2026 if api == "2026" else CONSO_V5_NAMES

    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return `GET TYPE`; the types of v5 accept the parameters of 2026 that all of them know."""
        query = _build_query_2026(point, measure, first, end)
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


class MyElectricalDataV1Client(EnedisApiClient):
    """MyElectricalData, version 1: 500 cached calls a day, 50 direct ones; each usage point has a token of its own."""

    quota: ClassVar[CallQuota] = CallQuota(400, DAY, reserved_for_visits=100, calls_per_step=20)

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


class MyElectricalDataV2Client(EnedisApiClient):
    """MyElectricalData, version 2: 1000 cached calls a day; timestamps of curves are starts; refusals come with status 200."""

    base_url_hint: ClassVar[str] = "check base_url, it usually ends in /api"
    quota: ClassVar[CallQuota] = CallQuota(800, DAY, reserved_for_visits=200, calls_per_step=30)
    curve_stamps_are_starts: ClassVar[bool] = True
    hides_curve_refusals: ClassVar[bool] = True

    def __init__(self, session: Session, base_url: str, *, token: SecretStr, is_settled: bool = False) -> None:
        super().__init__(session, base_url, is_settled=is_settled)
        self._headers = {"Authorization": f"Bearer {token.get_secret_value()}", "X-MED-Format": "2026"}

    def build_measure_request(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ApiRequest:
        """Return the request to the gateway's cache, which fetches from Enedis what it lacks."""
        query = {"start": first.isoformat(), "end": end.isoformat(), "use_cache": "true"}
        return self._build_request(f"{PATHS_V2[measure.key]}/{point.prm}", describe_call(point, measure.key), query)

    def build_contract_request(self, point: ConfiguredPoint) -> ApiRequest:
        """Return the request for the contract."""
        return self._build_request(f"contract/{point.prm}", describe_call(point, "contract"), {"use_cache": "true"})

    async def fetch_measure(self, point: ConfiguredPoint, measure: Measure, first: date, end: date) -> ParsedReadings:
        """Return the readings of local days [first, end) of a series.

        Raise TooOldError for several days without a value: the gateway hides that the first one is before the activation.
        """
        try:
            return await super().fetch_measure(point, measure, first, end)
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
