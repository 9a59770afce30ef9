"""An account at Water-Link: what a visit, a feed and the commands request."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, ClassVar

from exporter.client.session import Session
from exporter.errors import FeedRefusedError
from exporter.models import Commodity, Discovery, VisitResult
from exporter.portals.base import Portal, RawCall
from exporter.portals.water_link import discover, feeds, raw
from exporter.portals.water_link.client import RefusedMeterError, WaterLinkApiClient
from exporter.portals.water_link.config import WaterLinkConfig
from exporter.portals.water_link.parser import ZONE, build_usage_point
from exporter.sync.feeds import Feed, FeedResult


class WaterLink(Portal):
    """An account at "Mijn Water-Link": one or more digital water meters.

    Each has an index, flags, and the volume of every day, which the portal may add or correct many days later.
    """

    config: WaterLinkConfig
    config_model: ClassVar = WaterLinkConfig
    zone = ZONE
    stale_after: ClassVar = {Commodity.WATER: timedelta(days=7)}
    raw_calls: ClassVar[Mapping[str, RawCall]] = raw.RAW_CALLS
    redaction: ClassVar = raw.REDACTION

    async def fetch_latest(self, session: Session) -> VisitResult:
        """Return every meter's facts and index."""
        return await feeds.fetch_states(WaterLinkApiClient(session, self.config), self.config.meters, session.now)

    def list_feeds(self) -> Sequence[Feed]:
        """Return the days of each meter."""
        reach = timedelta(days=self.config.history_days)
        return [feeds.build_feed(number, f"meters[{index}]", reach) for index, number in enumerate(self.config.meters)]

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        """Return the days of one calendar month."""
        (number,) = feed.usage_points
        where = f"meters[{self.config.meters.index(number)}]"
        client = WaterLinkApiClient(session, self.config)
        try:
            return await feeds.read_month(client, build_usage_point(number), first, where, session.now)
        except RefusedMeterError as error:
            raise FeedRefusedError(str(error)) from None

    async def discover(self, session: Session) -> Discovery:
        """Return what the portal states of each configured meter."""
        return await discover.discover_meters(WaterLinkApiClient(session, self.config), self.config, session.now)

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the portal's own JSON about one meter, configured or not."""
        client = WaterLinkApiClient(session, self.config)
        return await raw.fetch_raw(client, call, parameters, default_meter=self.config.meters[0], now=session.now)
