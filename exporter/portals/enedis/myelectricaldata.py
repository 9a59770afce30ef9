"""MyElectricalData: version 2 with an account's secret, version 1 with a token for each usage point."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SecretStr

from exporter.errors import RateLimitError
from exporter.portals.base import AnswerShape, understand
from exporter.portals.enedis.budget import Budget
from exporter.portals.enedis.measures import Measure
from exporter.portals.enedis.refusals import ConsentError, Why
from exporter.portals.enedis.stamps import instant
from exporter.portals.enedis.way import Ask, Point, Way, named
from exporter.session import Session

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
DAY = timedelta(days=1)


class MyElectricalDataV2(Way):
    """1000 calls a day through the store; stamps of curves are starts; refusals come with status 200."""

    budget: ClassVar[Budget] = Budget(800, DAY, spare=200, trickle=30)
    starts: ClassVar[bool] = True

    def __init__(self, session: Session, base: str, *, token: SecretStr, past: bool = False) -> None:
        super().__init__(session, base, past=past)
        self._headers = {"Authorization": f"Bearer {token.get_secret_value()}", "X-MED-Format": "2026"}

    def offers(self, measure: Measure) -> bool:
        """Whether there is a path for it; registers have none."""
        return measure.key in PATHS_V2

    def measure(self, point: Point, measure: Measure, first: date, end: date) -> Ask:
        """Ask the gateway's store, which asks Enedis for what it has not."""
        query = {"start": first.isoformat(), "end": end.isoformat(), "use_cache": "true"}
        return self._ask(f"{PATHS_V2[measure.key]}/{point.prm}", named(point, measure.key), query)

    def contract(self, point: Point) -> Ask:
        """Ask for the contract."""
        return self._ask(f"contract/{point.prm}", named(point, "contract"), {"use_cache": "true"})

    async def json(self, ask: Ask) -> Any:
        """Take the answer out of its envelope."""
        return understand(_Envelope, await super().json(ask), ask.what).data

    def _ask(self, path: str, what: str, query: Mapping[str, str]) -> Ask:
        return Ask(f"{self._base}/enedis/{path}", what, query, self._headers)


class _Envelope(AnswerShape):
    success: bool
    data: Any


def _local(text: Any) -> Any:
    """Read an instant without offset as local time, of which this gateway's documents say nothing."""
    return instant(text) if isinstance(text, str) and text else None


Instant = Annotated[datetime | None, BeforeValidator(_local)]


class _Access(AnswerShape):
    valid: bool
    quota_reached: bool = False
    ban: bool = False
    quota_reset_at: Instant = None
    consent_expiration_date: Instant = None


class MyElectricalDataV1(Way):
    """500 calls a day through the store, 50 past it; each usage point has a token of its own."""

    budget: ClassVar[Budget] = Budget(400, DAY, spare=100, trickle=20)

    def offers(self, measure: Measure) -> bool:
        """Whether there is a service for it; registers have none."""
        return measure.key in SERVICES_V1

    def measure(self, point: Point, measure: Measure, first: date, end: date) -> Ask:
        """Ask the gateway's store: `/cache` counts against the larger quota."""
        path = f"{SERVICES_V1[measure.key]}/{point.prm}/start/{first}/end/{end}/cache"
        return self._ask(point, path, measure.key)

    def contract(self, point: Point) -> Ask:
        """Ask for the contract."""
        return self._ask(point, f"contracts/{point.prm}/cache", "contract")

    async def admission(self, point: Point) -> datetime | None:
        """Ask once a day whether token, consent and quota are good."""
        key, now = f"access:{point.prm}", self.session.now
        if (kept := await self.session.memory.get(key, now)) is not None:
            return datetime.fromtimestamp(kept, UTC) if kept else None
        access = understand(_Access, await self.json(self.access(point)), named(point, "valid_access"))
        if access.ban or not access.valid:
            raise ConsentError(f"{named(point, 'valid_access')}: {'banned' if access.ban else 'token or consent is not valid'}")
        if access.quota_reached:
            raise RateLimitError(f"{named(point, 'valid_access')}: {Why.DAILY_QUOTA}", _until(access.quota_reset_at, now))
        ends = access.consent_expiration_date
        await self.session.memory.put(key, ends.timestamp() if ends else 0, now + DAY)
        return ends

    def access(self, point: Point) -> Ask:
        """Say how the state of token and consent is asked for."""
        return self._ask(point, f"valid_access/{point.prm}/cache", "valid_access")

    def _ask(self, point: Point, path: str, what: str) -> Ask:
        token = point.token.get_secret_value() if point.token else ""
        # No "Bearer" before the token.
        return Ask(f"{self._base}/{path}", named(point, what), None, {"Authorization": token})

    def _own(self, status: int, code: str, body: Any) -> Why | None:
        unknown_path = isinstance(body, dict) and body.get("detail") == "Not Found"
        meant = {401: Why.NO_RIGHT, 403: Why.NO_RIGHT, 404: Why.NO_DATA, 409: Why.DAILY_QUOTA, 422: Why.OUR_BUG}
        return None if code or unknown_path or body is None else meant.get(status)


def _until(reset: datetime | None, now: datetime) -> timedelta:
    return min(max(reset - now, timedelta(minutes=1)), DAY) if reset else timedelta(hours=1)
