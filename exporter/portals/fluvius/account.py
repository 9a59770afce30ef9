"""The portal class of Mijn Fluvius: electricity and gas in Flanders by day, quarter-hour and monthly peak."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property
from typing import Any, ClassVar

from exporter.client.session import Session
from exporter.models import Commodity, Discovery, Inventory, VisitResult
from exporter.portals.base import Portal, RawCall
from exporter.portals.fluvius.client import FluviusApiClient
from exporter.portals.fluvius.config import FluviusConfig
from exporter.portals.fluvius.days import ZONE
from exporter.portals.fluvius.discover import discover_meters
from exporter.portals.fluvius.feeds import MeterFeed, build_feeds, read_feed
from exporter.portals.fluvius.raw import RAW_CALLS, REDACTION, fetch_raw
from exporter.sync.feeds import Feed, FeedResult, Pace


class Fluvius(Portal):
    """A personal account at Mijn Fluvius: e-mail and password, no second factor."""

    config: FluviusConfig
    config_model: ClassVar = FluviusConfig
    zone = ZONE
    stale_after: ClassVar = {Commodity.GAS: timedelta(days=6)}
    """Gas is published three days late."""
    raw_calls: ClassVar[Mapping[str, RawCall]] = RAW_CALLS
    redaction: ClassVar = REDACTION

    @cached_property
    def _meter_feeds(self) -> Mapping[str, MeterFeed]:
        return build_feeds(self.config)

    async def fetch_latest(self, session: Session) -> VisitResult:
        """Log in and return the usage points; all readings come by the feeds."""
        await FluviusApiClient(self.config, session).log_in()
        return VisitResult(inventory=Inventory(tuple(meter.usage_point for meter in self.config.meters)))

    def list_feeds(self) -> Sequence[Feed]:
        """Return days, monthly peaks and intervals of each meter."""
        return [entry.feed for entry in self._meter_feeds.values()]

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        """Make the requests for days [first, last] of a feed, within the hourly quota."""
        is_settled = last.toordinal() < feed.first_unsettled_day(int(session.now.timestamp()))
        client = FluviusApiClient(self.config, session, is_settled=is_settled)
        return await read_feed(client, self._meter_feeds[feed.key], first, last)

    @property
    def pace(self) -> Pace:
        """How fast the engine may ask for feeds."""
        return Pace(requests=self.config.interval_requests)

    async def discover(self, session: Session) -> Discovery:
        """Return what each configured meter has."""
        return await discover_meters(self.config, session)

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the portal's own response. Raise ConfigError for invalid parameters."""
        return await fetch_raw(self.config, session, call, parameters)

    def list_quotas(self) -> Mapping[str, tuple[int, timedelta]]:
        """Return the quota of requests for data."""
        quota = self.config.quota
        return {quota.name: (quota.calls, quota.period)}
