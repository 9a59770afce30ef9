"""The base class of the clients for each access to Enedis."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar

from pydantic import SecretStr

from exporter.client.quota import CallQuota
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.errors import NoDataError, ResponseError
from exporter.models import Direction, Reading
from exporter.portals.enedis.measures import MEASURES, Measure, MeasureKind
from exporter.portals.enedis.parser import parse_readings
from exporter.portals.enedis.refusals import RefusalReason, raise_for_refusal


@dataclass(frozen=True, slots=True)
class ConfiguredPoint:
    """A usage point that is read: its number, its name in messages, and its series."""

    prm: str
    display_name: str
    production: bool = False
    load_curve: bool = True
    token: SecretStr | None = None
    consumption: bool = True
    registers: bool = True
    """Whether the access has registers."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The series that are read."""
        return tuple(measure for measure in MEASURES if self._reads(measure))

    def _reads(self, measure: Measure) -> bool:
        is_offered = self.registers or measure.kind is not MeasureKind.INDEX
        is_wanted = self.load_curve or measure.kind is not MeasureKind.CURVE
        return is_offered and is_wanted and (self.consumption if measure.direction is Direction.CONSUMPTION else self.production)


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

    def __init__(self, session: Session, base_url: str, *, backfill: bool = False) -> None:
        """Make a client; with `backfill` the calls that visits of the day need are left to them."""
        self.session, self._base_url, self._backfill = session, base_url, backfill
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

    async def fetch_measure(
        self, point: ConfiguredPoint, measure: Measure, first: date, end: date, skipped: Counter[str] | None = None
    ) -> list[Reading]:
        """Return the readings of local days [first, end) of a series; what is left out is counted in `skipped`, by field.

        Raise PortalErrors, also those of `refusals`.
        """
        body = await self.fetch_json(self.build_measure_request(point, measure, first, end))
        return parse_readings(body, point.prm, measure, stamps_are_starts=self.curve_stamps_are_starts, skipped=skipped)

    async def fetch_contract(self, point: ConfiguredPoint) -> Any:
        """Return the response about the contract."""
        if (request := self.build_contract_request(point)) is None:
            raise NoDataError("this access has no contract")
        return await self.fetch_json(request)

    async def fetch_json(self, request: ApiRequest) -> Any:
        """Return the JSON of a response, without its envelope."""
        await self.quota.spend(self.session, backfill=self._backfill)
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


def build_query_2026(point: ConfiguredPoint, measure: Measure, first: date, end: date) -> dict[str, str]:
    """Return the query of 2026; the end is excluded. An unknown or missing parameter results in status 500."""
    query = {"pointId": point.prm, "dateDebut": first.isoformat(), "dateFin": end.isoformat()}
    return query | ({"mesuresPas": "P1D", "grandeurPhysique": "PMA"} if measure.kind == "max" else {})
