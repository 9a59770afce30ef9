"""An account at CEM: its configuration keys, and what a visit and an import do.

The lists of objects, meters, counters and types are cached for hours and days; a visit then requests only the last
values, in batches.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr

from exporter.client.session import Session, StoredReadings
from exporter.duration import Duration
from exporter.errors import PortalError, RateLimitError
from exporter.models import Commodity, Discovery, PartialFailure, Reading, VisitPart, VisitResult
from exporter.portals.base import BackfillChunk, BaseUrl, Portal, RawCall
from exporter.portals.cem import feeds, raw
from exporter.portals.cem.catalog import CounterSelection
from exporter.portals.cem.client import CemApiClient
from exporter.portals.cem.config import NumberSelection, Parallelism
from exporter.portals.cem.discover import build_discovery
from exporter.portals.cem.metadata import MetadataStore
from exporter.portals.cem.parser import convert_indexes
from exporter.portals.cem.redaction import REDACTION


class Cem(Portal):
    """A login at CEM."""

    zone: ClassVar[ZoneInfo] = ZoneInfo("Europe/Prague")
    stale_after: ClassVar = dict.fromkeys(Commodity, timedelta(days=1))
    """Counters send by the hour."""
    derives_days: ClassVar[bool] = True
    max_response_bytes: ClassVar[int] = 64 * 1024 * 1024  # a city's 100,000 counters come in one response
    login_keys: ClassVar[tuple[str, ...]] = ("username", "password", "base_url")
    raw_calls: ClassVar[Mapping[str, RawCall]] = raw.RAW_CALLS
    redaction: ClassVar = REDACTION

    username: Annotated[str, Field(min_length=1, description="The name of the login.")]
    password: Annotated[SecretStr, Field(description="Its password.")]
    base_url: Annotated[BaseUrl, Field(description="Address of the API, host and path.")] = "https://cemapi.unimonitor.eu/api"
    every: Annotated[Duration, Field(description="Distance between visits.")] = timedelta(minutes=30)
    ca_file: Annotated[Path | None, Field(description="Certificates to trust instead of the system's (PEM).")] = None
    verify_tls: Annotated[
        bool, Field(description="Check the portal's certificate. Without it anybody in between can read the password.")
    ] = True
    metadata_every: Annotated[Duration, Field(description="How often account, objects, meters and counters are requested.")] = (
        timedelta(hours=12)
    )
    types_every: Annotated[Duration, Field(description="How often counter types and units are requested.")] = timedelta(days=7)
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="Counters in one request.")] = 500
    parallel: Annotated[Parallelism, Field(description="Requests in flight at the same time.")] = 2
    counters: Annotated[
        NumberSelection, Field(description="Counters by var_id; those included are shown even if hidden otherwise.")
    ] = NumberSelection()
    objects: Annotated[NumberSelection, Field(description="Objects by mis_id, with everything below them.")] = NumberSelection()
    include_states: Annotated[bool, Field(description="Show states, such as door contacts.")] = False
    include_removed: Annotated[bool, Field(description="Show the counters of removed meters.")] = False
    history_days: Annotated[int, Field(ge=1, le=366, description="Maximum days in one request of an import.")] = 14
    history_limit: Annotated[Duration, Field(description="How far back an import goes.")] = timedelta(days=3 * 365)
    history_gap: Annotated[Duration, Field(description="How long a gap in the readings ends an import.")] = timedelta(days=90)
    history_by: Annotated[
        Literal["auto", "account", "counter"], Field(description="Import all counters at once, or one by one.")
    ] = "auto"

    def tls_settings(self) -> tuple[str | None, bool]:
        """Return the account's own certificate authorities, and whether to verify at all."""
        return str(self.ca_file) if self.ca_file else None, self.verify_tls

    async def latest(self, session: Session, stored: StoredReadings) -> VisitResult:
        """Return the holder, the inventory and the last value of every selected counter."""
        return VisitResult.from_parts([part async for part in self.fetch(session, stored)])

    async def fetch(self, session: Session, stored: StoredReadings) -> AsyncIterator[VisitPart]:
        """Yield holder, inventory and the last value of every selected counter, at the instant that the portal states."""
        metadata = self._build_metadata_store(session)
        selected, stated = await metadata.load_selected(self._build_selection())
        if holder := await metadata.load_holder():
            yield holder
        yield selected.inventory
        for note in selected.notes:
            yield note
        feed = feeds.LastValuesFeed(metadata.client, batch_size=self.batch_size, parallel=self.parallel)
        readings = feeds.VisitReadings(selected)
        async for values in feed.fetch(list(selected.registers)):
            for part in readings.convert(values):
                yield part
        failures = [*feed.failures, *metadata.failures]
        if feed.failures and not readings.response_count:
            raise _select_worst_failure(failures)
        for part in readings.convert_remaining(session.now, stated):
            yield part
        if failures:
            yield PartialFailure(_select_worst_failure(failures))

    async def discover(self, session: Session) -> Discovery:
        """Return all objects, meters and counters, hidden ones too; last values as the list of counters states them."""
        metadata = self._build_metadata_store(session, renew=True)
        catalog = await metadata.load_catalog(self._build_selection())
        return build_discovery(catalog, await metadata.load_value_type_names(), [str(failure) for failure in metadata.failures])

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the portal's own JSON; parameters that the call does not know are not sent."""
        return await raw.fetch_raw(self._build_client(session), call, parameters)

    async def list_backfill_chunks(self, session: Session, first: date | None, last: date | None) -> list[BackfillChunk]:
        """Return the requests of an import, newest first; how far back the portal goes is not known."""
        selected, _ = await self._build_metadata_store(session).load_selected(self._build_selection())
        today = session.now.astimezone(self.zone).date()
        last = min(last or today, today)
        first = first or today - self.history_limit
        days = feeds.choose_chunk_days(selected.counter_count, len(selected.registers), self.history_days)
        if self.history_by == "account" or (days and self.history_by == "auto"):
            spans = feeds.split_days(first, last, days or self.history_days)
            return list(feeds.build_account_chunks(spans, self._build_selection(), today))
        return list(feeds.build_counter_chunks(feeds.split_days(first, last, self.history_days), selected.registers, today))

    async def fetch_backfill_chunk(self, session: Session, chunk: BackfillChunk) -> list[Reading]:
        """Return the readings of one counter or of all; raise HistoryExhaustedError after a long gap."""
        metadata = self._build_metadata_store(session)
        selected, _ = await metadata.load_selected(self._build_selection())
        values = await feeds.fetch_chunk_values(metadata.client, chunk)
        readings: list[Reading] = list(convert_indexes(values, selected.registers))
        await feeds.record_empty_chunk(session, chunk, not readings, self.history_gap)
        return readings

    def _build_client(self, session: Session) -> CemApiClient:
        return CemApiClient(session, self.base_url, self.username, self.password)

    def _build_metadata_store(self, session: Session, *, renew: bool = False) -> MetadataStore:
        return MetadataStore(
            self._build_client(session), self.metadata_every, self.types_every, keep_personal_data=self.personal_data, renew=renew
        )

    def _build_selection(self) -> CounterSelection:
        return CounterSelection(
            counters=self.counters.include,
            excluded_counters=self.counters.exclude,
            objects=self.objects.include,
            excluded_objects=self.objects.exclude,
            include_states=self.include_states,
            include_removed=self.include_removed,
        )


def _select_worst_failure(failures: list[PortalError]) -> PortalError:
    """Return the failure that decides when to retry: a rate limit, else the first one."""
    return next((failure for failure in failures if isinstance(failure, RateLimitError)), failures[0])
