"""The portal class of Enedis: electricity in France, by Data Connect or one of two gateways to it."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, model_validator

from exporter.client.session import Session, StoredReadings
from exporter.duration import Duration
from exporter.errors import UnavailableError
from exporter.models import (
    DAY,
    Commodity,
    Discovery,
    Holder,
    Inventory,
    NextVisit,
    Reading,
    StateUpdate,
    UsagePoint,
    VisitPart,
    VisitResult,
)
from exporter.portals.base import BackfillChunk, BaseUrl, Portal, RawCall
from exporter.portals.enedis.auth import parse_token_claims
from exporter.portals.enedis.client import ConfiguredPoint, EnedisApiClient
from exporter.portals.enedis.config import (
    API_VERSIONS,
    BASE_URLS,
    AccessMethod,
    ApiVersion,
    HeaderText,
    OptionalApiVersion,
    UsagePointConfig,
    WindowText,
    find_conflict,
)
from exporter.portals.enedis.conso import ConsoClient
from exporter.portals.enedis.contract import load_terms
from exporter.portals.enedis.dataconnect import DataConnectClient
from exporter.portals.enedis.discover import discover_points
from exporter.portals.enedis.feeds import fetch_backfill_chunk, fetch_newest, fetch_some_backlog, list_backfill_chunks
from exporter.portals.enedis.myelectricaldata import MyElectricalDataV1Client, MyElectricalDataV2Client
from exporter.portals.enedis.raw import RAW_CALLS, fetch_raw
from exporter.portals.enedis.redaction import REDACTION
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.schedule import VisitWindow, choose_next_visit, load_own_minute
from exporter.portals.enedis.sync_state import SyncState
from exporter.portals.enedis.timestamps import PARIS, local_day

DEFAULT_VISIT_INTERVAL = timedelta(hours=1)


class Enedis(Portal):
    """Linky meters behind one consent, one application, or one gateway token."""

    zone: ClassVar[ZoneInfo] = PARIS
    min_every: ClassVar[timedelta] = timedelta(minutes=30)
    login_keys: ClassVar[tuple[str, ...]] = ("access", "token", "client_id", "client_secret", "base_url")
    raw_calls: ClassVar[Mapping[str, RawCall]] = RAW_CALLS
    redaction: ClassVar = REDACTION

    every: Annotated[Duration, Field(description="Distance between visits while yesterday is awaited.")] = DEFAULT_VISIT_INTERVAL
    access: Annotated[AccessMethod, Field(description="The way to the measures: a gateway, or an application of your own.")]
    api: Annotated[
        OptionalApiVersion,
        Field(description="The form of the API: 2026 or v5; with myelectricaldata v2 or v1; the first of each when left out."),
    ] = None
    token: Annotated[SecretStr | None, Field(description="conso, myelectricaldata v2: the gateway's token.")] = None
    client_id: Annotated[str | None, Field(description="dataconnect: the application.")] = None
    client_secret: Annotated[SecretStr | None, Field(description="dataconnect: its secret.")] = None
    usage_points: Annotated[
        tuple[UsagePointConfig, ...], Field(description="What is read; with conso, all that the token names when left out.")
    ] = ()
    base_url: Annotated[
        BaseUrl | None, Field(description="The address to which the documented paths are added, when it is not the usual one.")
    ] = None
    window: Annotated[WindowText, Field(description="Local hours in which visits happen.")] = "05:00-20:00"
    minute: Annotated[int | None, Field(ge=0, le=59, description="Minute of the hour; chosen at random when left out.")] = None
    calls_per_second: Annotated[
        float, Field(ge=0.1, le=5, description="Most calls in a second; a whole gateway is allowed 5, so leave it at 1.")
    ] = 1
    contact: Annotated[HeaderText, Field(description="Named to the gateway: an address or a page to reach you by.")] = ""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        configured = {key: bool(getattr(self, key)) for key in ("token", "client_id", "client_secret", "usage_points")}
        if reason := find_conflict(
            configured, self.access, self._api_version, [bool(point.token) for point in self.usage_points]
        ):
            raise ValueError(reason)
        prms = [point.prm for point in self.usage_points]
        if len(set(prms)) < len(prms):
            raise ValueError("usage_points: contains the same prm twice")
        if not self._configured_points:
            raise ValueError("usage_points: is needed, the token names none")
        return self

    async def latest(self, session: Session, stored: StoredReadings) -> VisitResult:
        """Return the last seven days of each awaited series, and some of the backlog."""
        return VisitResult.from_parts([part async for part in self.fetch(session, stored)])

    async def fetch(self, session: Session, stored: StoredReadings) -> AsyncIterator[VisitPart]:
        """Return the last seven days of each awaited series, then some of the backlog."""
        state = await SyncState.load(self._build_client(session), self._configured_points)
        yield Inventory(tuple(UsagePoint(point.prm, Commodity.ELECTRICITY) for point in self._configured_points))
        async for result in fetch_newest(state):
            yield result
        await state.raise_if_all_refused()
        async for reading in fetch_some_backlog(state):
            yield reading
        for records in state.series.values():
            for progress in records:
                yield progress.build_state_update()
        if state.access_expiries:
            yield Holder(access_expires=min(state.access_expiries))
        yield NextVisit(await self._choose_next_visit(state))
        for failure in state.list_failures():
            yield failure

    async def discover(self, session: Session) -> Discovery:
        """Return which series there are, how far back, in what intervals and with what holes."""
        return await discover_points(self._build_client(session), self._configured_points)

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the response to one call: `usage_point` by its position or alias, local days `from` and `to`."""
        return await fetch_raw(self._build_client(session), self._configured_points, call, parameters)

    async def list_backfill_chunks(self, session: Session, first: date | None, last: date | None) -> list[BackfillChunk]:
        """Return what was never requested; the chunks of a load curve are weeks."""
        yesterday = local_day(session.now) - DAY
        return await list_backfill_chunks(
            self._build_client(session), self._configured_points, first, min(last or yesterday, yesterday)
        )

    async def fetch_backfill_chunk(self, session: Session, chunk: BackfillChunk) -> Sequence[Reading | StateUpdate]:
        """Return the readings of one chunk, leaving calls for visits. Of several usage points a refused one is skipped."""
        client, point = self._build_client(session, backfill=True), self._configured_points[chunk.parameters["point"]]
        try:
            await client.check_access(point)
            return await fetch_backfill_chunk(client, point, chunk, (await load_terms(client, point)).activation_day)
        except ConsentError as refusal:
            if len(self._configured_points) == 1:
                raise
            raise UnavailableError(str(refusal)) from None

    def adjust_visit_time(self, at: datetime) -> datetime:
        """Return the instant moved into the window; installations are spread over the hour after its opening."""
        minute = int(self.login_digest()[:8], 16) % 60 if self.minute is None else self.minute
        return VisitWindow.parse(self.window).move_inside(at, minute)

    def configured_usage_points(self) -> frozenset[str]:
        """Return the PRMs that are configured or named by the token."""
        return frozenset(point.prm for point in self._configured_points)

    def quotas(self) -> Mapping[str, tuple[int, timedelta]]:
        """Return the quota of this access."""
        quota = _CLIENT_TYPES[self.access, self._api_version].quota
        return {quota.name: (quota.calls, quota.period)}

    @property
    def min_request_gap(self) -> timedelta:
        """The minimum time between two requests."""
        return timedelta(seconds=1 / self.calls_per_second)

    def build_user_agent(self) -> str:
        """Return the User-Agent, with the contact that the gateways ask for."""
        return f"{super().build_user_agent()} ({self.contact})" if self.contact else super().build_user_agent()

    def login_digest(self) -> str:
        """Return the digest of the login, including the tokens of usage points."""
        tokens = [point.token.get_secret_value() if point.token else "" for point in self.usage_points]
        return hashlib.sha256("\n".join([super().login_digest(), *tokens]).encode()).hexdigest()

    @property
    def _api_version(self) -> ApiVersion:
        return self.api or API_VERSIONS[self.access][0]

    @property
    def _configured_points(self) -> list[ConfiguredPoint]:
        """The usage points that are read, each named by its alias or its position in the configuration."""
        listed = self.usage_points
        if not listed and self.token:
            listed = tuple(UsagePointConfig(prm=prm) for prm in parse_token_claims(self.token).prms)
        return [
            ConfiguredPoint(
                each.prm,
                self.aliases.get(each.prm, f"usage_points[{position}]"),
                each.production,
                each.load_curve,
                each.token,
                each.consumption,
            )
            for position, each in enumerate(listed)
        ]

    async def _choose_next_visit(self, state: SyncState) -> datetime:
        session = state.client.session
        minute = await load_own_minute(session) if self.minute is None else self.minute
        remaining = await state.client.quota.remaining(session)
        return choose_next_visit(
            VisitWindow.parse(self.window), minute, self.every, session.now, awaited=state.awaited_series, remaining=remaining
        )

    def _build_client(self, session: Session, *, backfill: bool = False) -> EnedisApiClient:
        base = self.base_url or BASE_URLS[self.access, self._api_version]
        api: Literal["2026", "v5"] = "v5" if self._api_version == "v5" else "2026"
        if self.client_id and self.client_secret:
            return DataConnectClient(
                session, base, client_id=self.client_id, client_secret=self.client_secret, api=api, backfill=backfill
            )
        if not self.token:
            return MyElectricalDataV1Client(session, base, backfill=backfill)
        if self.access is AccessMethod.CONSO:
            return ConsoClient(session, base, token=self.token, api=api, backfill=backfill)
        return MyElectricalDataV2Client(session, base, token=self.token, backfill=backfill)


_CLIENT_TYPES: Mapping[tuple[AccessMethod, ApiVersion], type[EnedisApiClient]] = {
    (AccessMethod.CONSO, "2026"): ConsoClient,
    (AccessMethod.CONSO, "v5"): ConsoClient,
    (AccessMethod.DATACONNECT, "2026"): DataConnectClient,
    (AccessMethod.DATACONNECT, "v5"): DataConnectClient,
    (AccessMethod.MYELECTRICALDATA, "v2"): MyElectricalDataV2Client,
    (AccessMethod.MYELECTRICALDATA, "v1"): MyElectricalDataV1Client,
}
