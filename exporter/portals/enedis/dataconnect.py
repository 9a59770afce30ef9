"""Enedis Data Connect itself, for those with a contract: a client and its secret give a token for three hours and a half."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr

from exporter.answer import Answer
from exporter.errors import LoginError
from exporter.portals.base import AnswerShape, understand
from exporter.portals.enedis.budget import Budget
from exporter.portals.enedis.measures import Measure
from exporter.portals.enedis.refusals import Why, said
from exporter.portals.enedis.way import NEW_NAMES, Ask, Point, Way, named, new_query
from exporter.session import Session
from exporter.tokens import Token, Tokens

OLD_PATHS: Mapping[str, str] = {
    "consumption_days": "metering_data_dc/v5/daily_consumption",
    "consumption_curve": "metering_data_clc/v5/consumption_load_curve",
    "consumption_max": "metering_data_dcmp/v5/daily_consumption_max_power",
    "production_days": "metering_data_dp/v5/daily_production",
    "production_curve": "metering_data_plc/v5/production_load_curve",
}


class _TokenAnswer(AnswerShape):
    access_token: Annotated[str, Field(min_length=1)]
    # One document types it as text.
    expires_in: Annotated[int, Field(gt=0)]


def _refused(status: int, code: str, body: Any) -> Why | None:
    credentials = code in {"invalid_client", "unauthorized_client", "invalid_grant", "access_denied"}
    return Why.TOKEN if credentials or (status == 401 and body) else None


class DataConnect(Way):
    """1000 calls an hour for the whole application."""

    budget: ClassVar[Budget] = Budget(900, timedelta(hours=1), spare=300, trickle=30)

    def __init__(
        self,
        session: Session,
        base: str,
        *,
        client_id: str,
        client_secret: SecretStr,
        api: Literal["2026", "v5"],
        past: bool = False,
    ) -> None:
        super().__init__(session, base, past=past)
        self._id, self._secret, self._v5 = client_id, client_secret, api == "v5"
        self._tokens = Tokens(session, self._log_in)

    def offers(self, measure: Measure) -> bool:
        """Whether the application's API has it."""
        return measure.key in (OLD_PATHS if self._v5 else NEW_NAMES)

    def measure(self, point: Point, measure: Measure, first: date, end: date) -> Ask:
        """Ask the measure API of 2026, or the five of v5."""
        if not self._v5:
            url = f"{self._base}/mesure_synchrone_auto/v2/{NEW_NAMES[measure.key]}"
            return Ask(url, named(point, measure.key), new_query(point, measure, first, end))
        query = {"usage_point_id": point.prm, "start": first.isoformat(), "end": end.isoformat()}
        return Ask(f"{self._base}/{OLD_PATHS[measure.key]}", named(point, measure.key), query)

    def contract(self, point: Point) -> Ask:
        """Ask for the contract; in 2026 the number stands in the path, and a query is refused."""
        if not self._v5:
            return Ask(f"{self._base}/situation_contrat_auto/v1/{point.prm}", named(point, "contract"))
        query = {"usage_point_id": point.prm}
        return Ask(f"{self._base}/customers_upc/v5/usage_points/contracts", named(point, "contract"), query)

    async def _call(self, ask: Ask) -> Answer:
        return await self._tokens.call(lambda token: self._get(ask, {"Authorization": f"Bearer {token.value}"}))

    async def _log_in(self, _: Token | None) -> Token:
        """Ask for a token with the secret in the body: queries end up in logs."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self._id,
            "client_secret": self._secret.get_secret_value(),
        }
        answer = await self.session.post(f"{self._base}/oauth2/v3/token", data=form, checked=False)
        try:
            found = understand(_TokenAnswer, said(answer, self.session.now, _refused), "the token")
        except LoginError:
            raise LoginError("Enedis refuses client_id and client_secret") from None
        return Token(found.access_token, self.session.now + timedelta(seconds=found.expires_in))
