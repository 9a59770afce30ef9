"""The portal class of Enedis: electricity in France, by Data Connect or one of two gateways to it."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from exporter.client.session import Session
from exporter.errors import LoginError
from exporter.models import Commodity, Discovery, Fact, Facts, Holder, Inventory, UsagePoint, VisitResult
from exporter.portals.base import Portal, RawCall
from exporter.portals.enedis.client import (
    ConsoClient,
    DataConnectClient,
    EnedisApiClient,
    MyElectricalDataV1Client,
    MyElectricalDataV2Client,
)
from exporter.portals.enedis.config import AccessMethod, ApiVersion, EnedisConfig
from exporter.portals.enedis.contract import load_terms
from exporter.portals.enedis.discover import discover_points
from exporter.portals.enedis.feeds import EnedisFeeds
from exporter.portals.enedis.raw import RAW_CALLS, REDACTION, fetch_raw
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.timestamps import PARIS, local_day
from exporter.portals.enedis.visit_hours import choose_next_visit, load_own_minute
from exporter.sync.feeds import Feed, FeedResult, Pace


class Enedis(Portal):
    """Linky meters behind one consent, one application, or one gateway token."""

    config: EnedisConfig
    config_model: ClassVar = EnedisConfig
    zone: ClassVar[ZoneInfo] = PARIS
    raw_calls: ClassVar[Mapping[str, RawCall]] = RAW_CALLS
    redaction: ClassVar = REDACTION

    def __init__(self, config: EnedisConfig) -> None:
        super().__init__(config)
        self._feeds = EnedisFeeds(tuple(config.points))

    async def fetch_latest(self, session: Session) -> VisitResult:
        """Return contracts and the end of the access: all measures are feeds."""
        client, notes, facts, expiries = self._build_client(session), list[str](), list[Facts](), list[datetime]()
        refusals = list[ConsentError]()
        for point in self.config.points:
            try:
                if ends := await client.check_access(point):
                    expiries.append(ends)
            except ConsentError as refusal:
                refusals.append(refusal)
                continue
            terms = await load_terms(client, point)
            self._feeds.record_terms(point, terms)
            if terms.power_kva is not None:
                facts.append(Facts(UsagePoint(point.prm, Commodity.ELECTRICITY), {Fact.SUBSCRIBED_POWER: terms.power_kva}))
            notes += [terms.unavailable_reason] if terms.unavailable_reason else []
        if len(refusals) == len(self.config.points):
            raise LoginError(str(refusals[0])) from None
        return VisitResult(
            facts=facts,
            inventory=Inventory(tuple(UsagePoint(point.prm, Commodity.ELECTRICITY) for point in self.config.points)),
            holder=Holder(access_expires=min(expiries)) if expiries else None,
            notes=[*map(str, refusals), *notes],
            next_visit=await self._choose_next_visit(client),
        )

    def list_feeds(self) -> Sequence[Feed]:
        """Return a feed for each series of each usage point."""
        return self._feeds.list_feeds()

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        """Return the readings of local days [first, last] of a feed. Raise PortalErrors."""
        is_settled = last.toordinal() < feed.first_unsettled_day(int(session.now.timestamp()))
        return await self._feeds.read(self._build_client(session, is_settled=is_settled), feed, first, last)

    @property
    def pace(self) -> Pace:
        """A part of the quota for each step."""
        return Pace(requests=self._client_type.quota.calls_per_step)

    async def discover(self, session: Session) -> Discovery:
        """Return which series there are, how far back, in what intervals and with what holes."""
        return await discover_points(self._build_client(session), self.config.points)

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the response to one call: `usage_point` by its position or alias, local days `from` and `to`."""
        return await fetch_raw(self._build_client(session), self.config.points, call, parameters)

    def adjust_visit_time(self, at: datetime) -> datetime:
        """Return the instant moved into the window; installations are spread over the hour after its opening."""
        minute = int(self.config.build_login_digest()[:8], 16) % 60 if self.config.minute is None else self.config.minute
        return self.config.visit_window.move_inside(at, minute)

    def list_quotas(self) -> Mapping[str, tuple[int, timedelta]]:
        """Return the quota of this access."""
        quota = self._client_type.quota
        return {quota.name: (quota.calls, quota.period)}

    async def _choose_next_visit(self, client: EnedisApiClient) -> datetime:
        session = client.session
        minute = await load_own_minute(session) if self.config.minute is None else self.config.minute
        return choose_next_visit(
            self.config.visit_window,
            minute,
            self.config.every,
            session.now,
            awaited=self._feeds.count_awaited(local_day(session.now)),
            remaining=await client.quota.remaining(session),
        )

    @property
    def _client_type(self) -> type[EnedisApiClient]:
        return _CLIENT_TYPES[self.config.access, self.config.api_version]

    def _build_client(self, session: Session, *, is_settled: bool = False) -> EnedisApiClient:
        config = self.config
        base = config.api_base_url
        api: Literal["2026", "v5"] = "v5" if config.api_version == "v5" else "2026"
        if config.client_id and config.client_secret:
            return DataConnectClient(
                session,
                base,
                client_id=config.client_id,
                client_secret=config.client_secret,
                api=api,
                is_settled=is_settled,
            )
        if not config.token:
            return MyElectricalDataV1Client(session, base, is_settled=is_settled)
        if config.access is AccessMethod.CONSO:
            return ConsoClient(session, base, token=config.token, api=api, is_settled=is_settled)
        return MyElectricalDataV2Client(session, base, token=config.token, is_settled=is_settled)


_CLIENT_TYPES: Mapping[tuple[AccessMethod, ApiVersion], type[EnedisApiClient]] = {
    (AccessMethod.CONSO, "2026"): ConsoClient,
    (AccessMethod.CONSO, "v5"): ConsoClient,
    (AccessMethod.DATACONNECT, "2026"): DataConnectClient,
    (AccessMethod.DATACONNECT, "v5"): DataConnectClient,
    (AccessMethod.MYELECTRICALDATA, "v2"): MyElectricalDataV2Client,
    (AccessMethod.MYELECTRICALDATA, "v1"): MyElectricalDataV1Client,
}
