"""The portal class of CEM: the counters of a building or of a whole city under one login.

The lists of objects, meters, counters and types are cached for hours and days; a visit then requests only the last
values, in batches. What lies between is read by one feed of all counters.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from exporter.client.session import Session
from exporter.models import Commodity, Discovery, VisitResult
from exporter.portals.base import Portal, RawCall
from exporter.portals.cem.client import CemApiClient
from exporter.portals.cem.config import PRAGUE, CemConfig
from exporter.portals.cem.discover import discover_counters
from exporter.portals.cem.feeds import build_feed, read_feed, read_latest
from exporter.portals.cem.metadata import MetadataStore
from exporter.portals.cem.raw import RAW_CALLS, REDACTION, fetch_raw
from exporter.sync.feeds import Feed, FeedResult, Pace


class Cem(Portal):
    """A login at CEM."""

    config: CemConfig
    config_model: ClassVar = CemConfig
    zone: ClassVar[ZoneInfo] = PRAGUE
    stale_after: ClassVar = dict.fromkeys(Commodity, timedelta(days=1))
    """Counters send by the hour."""
    max_response_bytes: ClassVar[int] = 64 * 1024 * 1024  # a city's 100,000 counters come in one response
    derives_days: ClassVar[bool] = True
    raw_calls: ClassVar[Mapping[str, RawCall]] = RAW_CALLS
    redaction: ClassVar = REDACTION

    async def fetch_latest(self, session: Session) -> VisitResult:
        """Return the holder, the inventory and the last value of every selected counter."""
        return await read_latest(self.config, MetadataStore(CemApiClient(self.config, session), self.config))

    def list_feeds(self) -> Sequence[Feed]:
        """Return the one feed of all counters."""
        return (build_feed(self.config),)

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        """Make the requests for local days [first, last] of all selected counters."""
        return await read_feed(self.config, MetadataStore(CemApiClient(self.config, session), self.config), first, last)

    @property
    def pace(self) -> Pace:
        """How fast the engine may ask: no limit of the portal is known, but two weeks of a building are a large response."""
        return Pace(requests=3, pause=timedelta(seconds=15))

    async def discover(self, session: Session) -> Discovery:
        """Return all objects, meters and counters, hidden ones too; last values as the list of counters states them."""
        return await discover_counters(MetadataStore(CemApiClient(self.config, session), self.config, renew=True))

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the portal's own JSON; parameters that the call does not know are not sent."""
        return await fetch_raw(CemApiClient(self.config, session), call, parameters)
