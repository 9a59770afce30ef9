"""The Conso API (conso.boris.sh): one token, made by its user on the site, stands for his consents."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError

from exporter.errors import LoginError
from exporter.portals.base import AnswerShape
from exporter.portals.enedis.budget import Budget
from exporter.portals.enedis.measures import Measure
from exporter.portals.enedis.refusals import ConsentError, Why
from exporter.portals.enedis.way import NEW_NAMES, Ask, Point, Way, named, new_query
from exporter.session import Session

OLD_NAMES: Mapping[str, str] = {
    "consumption_days": "daily_consumption",
    "consumption_curve": "consumption_load_curve",
    "consumption_max": "consumption_max_power",
    "production_days": "daily_production",
    "production_curve": "production_load_curve",
}


class _Payload(AnswerShape):
    sub: Annotated[list[str], BeforeValidator(lambda sub: [sub] if isinstance(sub, str) else sub)] = Field(default_factory=list)
    exp: Annotated[float, Field(gt=0, lt=1e11)] | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """What a token says of itself, its signature not verified: its usage points, and when it ends (aware, UTC)."""

    prms: tuple[str, ...] = ()
    ends: datetime | None = None


def read_pass(token: SecretStr) -> Pass:
    """Read the payload of a JSON Web Token; a token that is none says nothing."""
    parts = token.get_secret_value().split(".")
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        found = _Payload.model_validate(payload)
    except (IndexError, ValueError, RecursionError, ValidationError):
        return Pass()
    prms = tuple(dict.fromkeys(prm for prm in found.sub if len(prm) == 14 and prm.isascii() and prm.isdecimal()))
    return Pass(prms, datetime.fromtimestamp(found.exp, UTC) if found.exp else None)


class Conso(Way):
    """100 calls in 12 hours ban the address; a whole visit of a usage point is 4 to 7."""

    budget: ClassVar[Budget] = Budget(80, timedelta(hours=12), spare=25, trickle=12)

    def __init__(self, session: Session, base: str, *, token: SecretStr, api: Literal["2026", "v5"], past: bool = False) -> None:
        super().__init__(session, base, past=past)
        self._token, self._names = token, NEW_NAMES if api == "2026" else OLD_NAMES

    def offers(self, measure: Measure) -> bool:
        """Whether there is a type for it."""
        return measure.key in self._names

    def measure(self, point: Point, measure: Measure, first: date, end: date) -> Ask:
        """Ask `GET /api/TYPE`; the old types take the new keys, and only those all of them know."""
        query = new_query(point, measure, first, end)
        if self._names is OLD_NAMES:
            query = {key: query[key] for key in ("pointId", "dateDebut", "dateFin")}
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        return Ask(f"{self._base}/api/{self._names[measure.key]}", named(point, measure.key), query, headers)

    async def admission(self, point: Point) -> datetime | None:
        """Read the token itself, which needs no call."""
        seen = read_pass(self._token)
        if seen.ends and seen.ends <= self.session.now:
            raise LoginError(f"the token has expired on {seen.ends:%Y-%m-%d}; make a new one on the site")
        if seen.prms and point.prm not in seen.prms:
            raise ConsentError(f"the token was not made for {point.called}")
        return seen.ends

    def _own(self, status: int, code: str, body: Any) -> Why | None:
        if code in ("900901", "900902"):
            return Why.TROUBLE  # the gateway's own token
        if status == 401:
            return Why.NO_RIGHT
        return Why.OUR_BUG if status == 400 and not code and body else None
