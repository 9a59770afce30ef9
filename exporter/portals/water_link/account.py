"""An account at Water-Link: its configuration keys, and what a visit and an import do."""

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr

from exporter.client.session import Session, StoredReadings
from exporter.duration import Duration
from exporter.errors import PortalError
from exporter.models import (
    DAY,
    Commodity,
    Discovery,
    Facts,
    Interval,
    Inventory,
    PartialFailure,
    Reading,
    Register,
    Unit,
    VisitPart,
    VisitResult,
)
from exporter.portals.base import BackfillChunk, BaseUrl, Portal, RawCall
from exporter.portals.water_link import discover, feeds, raw
from exporter.portals.water_link.auth import OAuthClient
from exporter.portals.water_link.client import WaterLinkApiClient
from exporter.portals.water_link.config import IDENTITY_URL, PORTAL_URL, MeterNumbers
from exporter.portals.water_link.days import ZONE, list_months, local_day
from exporter.portals.water_link.parser import build_usage_point, parse_month


class WaterLink(Portal):
    """An account at "Mijn Water-Link": one or more digital water meters.

    Each has an index, flags, and the volume of every day, which the portal may add or correct many days later.
    """

    zone = ZONE
    min_every = timedelta(minutes=15)
    stale_after: ClassVar = {Commodity.WATER: timedelta(days=7)}
    login_keys: ClassVar = ("username", "password", "portal_url", "identity_url", "client_id", "redirect_uri")
    raw_calls: ClassVar[Mapping[str, RawCall]] = raw.RAW_CALLS

    portal: Literal["water-link"] = "water-link"
    username: Annotated[str, Field(min_length=1, description="The e-mail address of the portal's account.")]
    password: Annotated[SecretStr, Field(min_length=1, description="Its password.")]
    meters: Annotated[
        MeterNumbers, Field(description="Their numbers: six digits, from the portal's address /water-meter/XXXXXX.")
    ]
    every: Annotated[Duration, Field(description="Distance between visits; new values come once a day.")] = timedelta(hours=2)
    history_days: Annotated[int, Field(ge=1, le=3660, description="How far back an import goes.")] = 365
    portal_url: Annotated[BaseUrl, Field(description="Address of the portal and its API.")] = PORTAL_URL
    identity_url: Annotated[BaseUrl, Field(description="Address of the identity provider.")] = IDENTITY_URL
    client_id: Annotated[str, Field(min_length=1, description="The portal's OAuth 2 client.")] = (
        "07967700-64cf-4f26-825c-b13042574400"
    )
    redirect_uri: Annotated[str, Field(min_length=1, description="The redirect URI of that client.")] = PORTAL_URL
    scope: Annotated[str, Field(min_length=1, description="The scope that client requests.")] = "openid"

    def configured_usage_points(self) -> frozenset[str]:
        """Return the numbers of all meters."""
        return frozenset(self.meters)

    async def latest(self, session: Session, stored: StoredReadings) -> VisitResult:
        """Return every meter's facts, index and days of the previous and the current month."""
        return VisitResult.from_parts([part async for part in self.fetch(session, stored)])

    async def fetch(self, session: Session, stored: StoredReadings) -> AsyncIterator[VisitPart]:
        """Yield every meter's facts, index and days of the previous and the current month, then the inventory.

        Both months are requested each time: a day that comes late, or is corrected, is stored on its own date.
        """
        points = {number: build_usage_point(number) for number in self.meters}
        has_data, failures = False, list[PortalError]()
        async for part in feeds.fetch_meters(self._build_client(session), self.meters, session.now):
            yield part
            match part:
                case Facts(point):
                    points[point.id], has_data = point, True
                case Interval():
                    has_data = True
                case PartialFailure(error):
                    failures.append(error)
        if failures and not has_data:
            raise failures[0]
        yield Inventory(tuple(points.values()), tuple(Register(point, Unit.M3) for point in points.values()))

    async def discover(self, session: Session) -> Discovery:
        """Return what the portal states of each configured meter."""
        return await discover.discover_meters(
            self._build_client(session), self.meters, self.portal_url, session.now, show_personal_data=self.personal_data
        )

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the portal's own JSON about one meter, configured or not."""
        return await raw.fetch_raw(self._build_client(session), call, parameters, default_meter=self.meters[0], now=session.now)

    async def list_backfill_chunks(self, session: Session, first: date | None, last: date | None) -> list[BackfillChunk]:
        """Return the months of each meter, newest first, no further back than `history_days`."""
        today = local_day(session.now)
        oldest, newest = today - timedelta(days=self.history_days), today - DAY
        months = list_months(max(first or oldest, oldest), min(last or newest, newest))
        return [feeds.build_month_chunk(number, month, today) for number in self.meters for month in months]

    async def fetch_backfill_chunk(self, session: Session, chunk: BackfillChunk) -> list[Reading]:
        """Return one meter's month; one without measured days is empty, and older ones may still have some."""
        number = chunk.parameters["meter"]
        where = f"meters[{self.meters.index(number)}]"
        response = await self._build_client(session).get_month(number, chunk.first, where)
        return [*parse_month(build_usage_point(number), chunk.first, response.json(), where, local_day(session.now))]

    def _build_client(self, session: Session) -> WaterLinkApiClient:
        client = OAuthClient(self.portal_url, self.identity_url, self.client_id, self.redirect_uri, self.scope)
        return WaterLinkApiClient(session, client, self.username, self.password)
