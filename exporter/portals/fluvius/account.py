"""The portal class of Mijn Fluvius: electricity and gas in Flanders by day, quarter-hour and monthly peak."""

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from typing import Any, ClassVar

from exporter.client.session import Session, StoredReadings
from exporter.models import Commodity, Discovery, Reading, VisitPart, VisitResult
from exporter.portals.base import BackfillChunk, RawCall
from exporter.portals.fluvius.config import FluviusConfig
from exporter.portals.fluvius.discover import discover_meters
from exporter.portals.fluvius.feeds import (
    QUOTA_NAME,
    QUOTA_PERIOD,
    fetch_backfill_chunk,
    fetch_visit,
    list_backfill_chunks,
)
from exporter.portals.fluvius.raw import RAW_CALLS, fetch_raw
from exporter.portals.fluvius.redaction import REDACTION


class Fluvius(FluviusConfig):
    """A personal account at Mijn Fluvius: e-mail and password, no second factor."""

    stale_after: ClassVar = {Commodity.GAS: timedelta(days=6)}
    """Gas is published three days late."""
    raw_calls: ClassVar[Mapping[str, RawCall]] = RAW_CALLS
    redaction: ClassVar = REDACTION

    async def latest(self, session: Session, stored: StoredReadings) -> VisitResult:
        """Return the last days, the monthly peaks and missing intervals."""
        return VisitResult.from_parts([part async for part in self.fetch(session, stored)])

    async def fetch(self, session: Session, stored: StoredReadings) -> AsyncIterator[VisitPart]:
        """Return the last days, the monthly peaks and missing intervals."""
        async for part in fetch_visit(self, session, stored):
            yield part

    async def discover(self, session: Session) -> Discovery:
        """Return what each configured meter has."""
        return await discover_meters(self, session)

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the portal's own response. Raise ConfigError for invalid parameters."""
        return await fetch_raw(self, session, call, parameters)

    async def list_backfill_chunks(self, session: Session, first: date | None, last: date | None) -> list[BackfillChunk]:
        """Return the requests of an import, the newest days first."""
        return list_backfill_chunks(self, session.now, first, last)

    async def fetch_backfill_chunk(self, session: Session, chunk: BackfillChunk) -> list[Reading]:
        """Make the requests of one chunk, within the hourly quota."""
        return await fetch_backfill_chunk(self, session, chunk)

    def configured_usage_points(self) -> frozenset[str]:
        """Return the EANs of all meters."""
        return frozenset(meter.ean for meter in self.meters)

    def quotas(self) -> Mapping[str, tuple[int, timedelta]]:
        """Return the quota of an import."""
        return {QUOTA_NAME: (self.past_requests, QUOTA_PERIOD)}
