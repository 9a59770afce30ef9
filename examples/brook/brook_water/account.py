"""An account at Brook Water: its configuration keys, and what it is asked."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr

from brook_water.parser import ZONE, BrookTokenResponse, parse_days, parse_meter
from exporter.client.login_attempts import post_password
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token, TokenCache
from exporter.duration import Duration
from exporter.errors import LoginError, ResponseError
from exporter.models import Discovery, Finding, Inventory, Unit, VisitResult
from exporter.portals.base import AccountConfig, Portal, RawCall, parse_response
from exporter.sync.feeds import Days, Feed, FeedResult

DAY = timedelta(days=1)


class BrookConfig(AccountConfig):
    """The configuration keys of an account at Brook Water."""

    min_every: ClassVar[timedelta] = timedelta(minutes=30)
    login_keys: ClassVar[tuple[str, ...]] = ("username", "password", "portal_url")

    username: Annotated[str, Field(min_length=1, description="The name of the login.")]
    password: Annotated[SecretStr, Field(min_length=1, description="Its password.")]
    contract: Annotated[str, Field(pattern="^C-[0-9]+$", description="The number of the contract, as on the bill: C-1042.")]
    every: Annotated[Duration, Field(description="Distance between visits; the meter is read at night.")] = timedelta(hours=6)
    portal_url: Annotated[str, Field(pattern="^https?://[^/]+$", description="Address of the portal.")] = "https://brook.example"


class Brook(Portal):
    """A contract at Brook Water: the index of its meter, and the volume of every day."""

    config: BrookConfig
    config_model: ClassVar = BrookConfig
    zone: ClassVar[ZoneInfo] = ZONE
    raw_calls: ClassVar[Mapping[str, RawCall]] = {
        "meter": RawCall("The meter of the contract."),
        "days": RawCall(
            "Days of the contract.", {"from": "first day, like 2031-03-09", "to": "last day"}, frozenset({"from", "to"})
        ),
    }

    async def fetch_latest(self, session: Session) -> VisitResult:
        """Return the index and the leak flag."""
        index, facts = parse_meter(self.config.contract, (await self._get_meter(session)).json(), session.now)
        return VisitResult(readings=[index], facts=[facts], inventory=Inventory((index.register.usage_point,)))

    def list_feeds(self) -> Sequence[Feed]:
        """Return the one feed: days, which come a day late, or are corrected within a week; Brook keeps two years."""
        digest = hashlib.sha256(self.config.contract.encode()).hexdigest()[:12]
        return [
            Feed(
                key=f"days:{digest}",
                zone=ZONE,
                chunk=Days(31),
                usage_points=(self.config.contract,),
                resolution="P1D",
                reach=730 * DAY,
                delay=1 * DAY,
                settles=7 * DAY,
            )
        ]

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        """Return the days [first, last]; what comes late, or is corrected, is stored on its own day."""
        response = await self._get_days(session, first, last)
        return parse_days(self.config.contract, response.json(), session.now.astimezone(ZONE).date())

    async def discover(self, session: Session) -> Discovery:
        """Return what Brook knows of the contract; it has no list of contracts."""
        response = await self._get_meter(session)
        index, _ = parse_meter(self.config.contract, response.json(), session.now)
        facts = {"meter": index.register.usage_point.meter, "index": f"{index.value:.3f} {Unit.M3}"}
        return Discovery((Finding(f"contract {self.config.contract}", facts),), f"contract: {self.config.contract}")

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return Brook's own JSON."""
        if call == "meter":
            return (await self._get_meter(session)).json()
        return (await self._get_days(session, parameters["from"], parameters["to"])).json()

    async def _get_meter(self, session: Session) -> Response:
        return await self._get(session, "meter", {})

    async def _get_days(self, session: Session, first: date | str, last: date | str) -> Response:
        return await self._get(session, "days", {"from": str(first), "to": str(last)})

    async def _get(self, session: Session, resource: str, query: Mapping[str, str]) -> Response:
        """Request something of the contract, with a token that is reused until it expires, over restarts too."""

        async def send(token: Token) -> Response:
            url = f"{self.config.portal_url}/contracts/{self.config.contract}/{resource}"
            return await session.get(url, params=query, headers={"Authorization": f"Bearer {token.value}"}, label=resource)

        response = await TokenCache(session, lambda _: self._log_in(session)).send(send, resource)
        if response.status == 404:
            raise ResponseError("contract: this login has no contract of that number")
        return response

    async def _log_in(self, session: Session) -> Token:
        form = {"user": self.config.username, "pass": self.config.password.get_secret_value()}
        response = await post_password(session, f"{self.config.portal_url}/login", data=form)
        if response.status in (401, 403):
            raise LoginError("Brook refuses user name or password")
        login = parse_response(BrookTokenResponse, response.json(), "the login")
        return Token(login.token, session.now + timedelta(seconds=login.seconds))
