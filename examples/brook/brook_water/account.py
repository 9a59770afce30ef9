"""An account at Brook Water: its configuration keys, and what a visit and an import do."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr

from brook_water.parser import ZONE, BrookTokenResponse, build_register, parse_days, parse_meter
from exporter.client.response import Response
from exporter.client.session import Session, StoredReadings
from exporter.client.token_cache import Token, TokenCache
from exporter.duration import Duration
from exporter.errors import LoginError, ResponseError
from exporter.models import Discovery, Finding, Inventory, Reading, Unit, VisitResult
from exporter.portals.base import BackfillChunk, Portal, RawCall, parse_response

DAY = timedelta(days=1)
RECENT_DAYS = 7
"""Days that may still come, or be corrected: every visit requests them all."""


class Brook(Portal):
    """A contract at Brook Water: the index of its meter, and the volume of every day."""

    zone: ClassVar[ZoneInfo] = ZONE
    min_every: ClassVar[timedelta] = timedelta(minutes=30)
    login_keys: ClassVar[tuple[str, ...]] = ("username", "password", "portal_url")
    raw_calls: ClassVar[Mapping[str, RawCall]] = {
        "meter": RawCall("The meter of the contract."),
        "days": RawCall(
            "Days of the contract.", {"from": "first day, like 2031-03-09", "to": "last day"}, frozenset({"from", "to"})
        ),
    }

    username: Annotated[str, Field(min_length=1, description="The name of the login.")]
    password: Annotated[SecretStr, Field(min_length=1, description="Its password.")]
    contract: Annotated[str, Field(pattern="^C-[0-9]+$", description="The number of the contract, as on the bill: C-1042.")]
    every: Annotated[Duration, Field(description="Distance between visits; the meter is read at night.")] = timedelta(hours=6)
    portal_url: Annotated[str, Field(pattern="^https?://[^/]+$", description="Address of the portal.")] = "https://brook.example"

    async def latest(self, session: Session, stored: StoredReadings) -> VisitResult:
        """Return the index, the leak flag and the last days; what comes late, or is corrected, is stored on its own day."""
        today = session.now.astimezone(ZONE).date()
        meter = await self._get_meter(session)
        days = await self._get_days(session, today - RECENT_DAYS * DAY, today - DAY)
        index, facts = parse_meter(self.contract, meter.json(), session.now)
        return VisitResult(
            readings=[index, *parse_days(self.contract, days.json(), today)],
            facts=[facts],
            inventory=Inventory((build_register(self.contract).usage_point,)),
        )

    async def discover(self, session: Session) -> Discovery:
        """Return what Brook knows of the contract; it has no list of contracts."""
        response = await self._get_meter(session)
        index, _ = parse_meter(self.contract, response.json(), session.now)
        facts = {"meter": index.register.usage_point.meter, "index": f"{index.value:.3f} {Unit.M3}"}
        return Discovery((Finding(f"contract {self.contract}", facts),), f"contract: {self.contract}")

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return Brook's own JSON."""
        if call == "meter":
            return (await self._get_meter(session)).json()
        return (await self._get_days(session, parameters["from"], parameters["to"])).json()

    async def list_backfill_chunks(self, session: Session, first: date | None, last: date | None) -> list[BackfillChunk]:
        """Return the requests of an import: a month each, newest first; Brook keeps two years."""
        yesterday = session.now.astimezone(ZONE).date() - DAY
        oldest, day = max(first or date.min, yesterday - 730 * DAY), min(last or yesterday, yesterday)
        chunks = []
        while day >= oldest:
            start = max(day.replace(day=1), oldest)
            chunks.append(BackfillChunk(f"{self.contract}/{start}/{day}", self.contract, start, day))
            day = start - DAY
        return chunks

    async def fetch_backfill_chunk(self, session: Session, chunk: BackfillChunk) -> Sequence[Reading]:
        """Return the days of one request."""
        response = await self._get_days(session, chunk.first, chunk.last)
        return parse_days(self.contract, response.json(), session.now.astimezone(ZONE).date())

    async def _get_meter(self, session: Session) -> Response:
        return await self._get(session, "meter", {})

    async def _get_days(self, session: Session, first: date | str, last: date | str) -> Response:
        return await self._get(session, "days", {"from": str(first), "to": str(last)})

    async def _get(self, session: Session, resource: str, query: Mapping[str, str]) -> Response:
        """Request something of the contract, with a token that is reused until it expires, over restarts too."""

        async def send(token: Token) -> Response:
            url = f"{self.portal_url}/contracts/{self.contract}/{resource}"
            return await session.get(url, params=query, headers={"Authorization": f"Bearer {token.value}"}, label=resource)

        response = await TokenCache(session, lambda _: self._log_in(session)).send(send)
        if response.status == 404:
            raise ResponseError("contract: this login has no contract of that number")
        return response

    async def _log_in(self, session: Session) -> Token:
        form = {"user": self.username, "pass": self.password.get_secret_value()}
        response = await session.post(f"{self.portal_url}/login", data=form)
        if response.status in (401, 403):
            raise LoginError("Brook refuses user name or password")
        login = parse_response(BrookTokenResponse, response.json(), "the login")
        return Token(login.token, session.now + timedelta(seconds=login.seconds))
