"""Enedis (France, electricity): Linky meters, by Data Connect or one of two gateways in front of it."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, model_validator

from exporter.errors import NotNowError
from exporter.model import Commodity, Discovery, Holder, Inventory, NextVisit, Reading, Remember, Told, UsagePoint
from exporter.portals.base import Call, Duration, Piece, Portal, Wanted
from exporter.portals.enedis.conso import Conso, read_pass
from exporter.portals.enedis.dataconnect import DataConnect
from exporter.portals.enedis.keys import (
    ADDRESSES,
    APIS,
    Access,
    Address,
    Api,
    ApiKey,
    Contact,
    UsagePointKeys,
    WindowText,
    unusable,
)
from exporter.portals.enedis.look import look
from exporter.portals.enedis.myelectricaldata import MyElectricalDataV1, MyElectricalDataV2
from exporter.portals.enedis.outcome import Outcome
from exporter.portals.enedis.past import pieces_of, read_piece, trickle
from exporter.portals.enedis.questions import CALLS, ask
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.schedule import Window, next_visit, own_minute
from exporter.portals.enedis.stamps import PARIS, local_day
from exporter.portals.enedis.terms import terms_of
from exporter.portals.enedis.way import Point, Way
from exporter.portals.enedis.week import newest
from exporter.session import Session

HOUR = timedelta(hours=1)


class Enedis(Portal):
    """Linky meters behind one consent, one application, or one gateway token."""

    zone: ClassVar[ZoneInfo] = PARIS
    least_every: ClassVar[timedelta] = timedelta(minutes=30)
    login_keys: ClassVar[tuple[str, ...]] = ("access", "token", "client_id", "client_secret", "base_url")
    calls: ClassVar[Mapping[str, Call]] = CALLS

    every: Annotated[Duration, Field(description="Distance between visits while yesterday is awaited.")] = HOUR
    access: Annotated[Access, Field(description="The way to the measures: a gateway, or an application of your own.")]
    api: Annotated[
        ApiKey,
        Field(description="The form of the API: 2026 or v5; with myelectricaldata v2 or v1; the first of each when left out."),
    ] = None
    token: Annotated[SecretStr | None, Field(description="conso, myelectricaldata v2: the gateway's token.")] = None
    client_id: Annotated[str | None, Field(description="dataconnect: the application.")] = None
    client_secret: Annotated[SecretStr | None, Field(description="dataconnect: its secret.")] = None
    usage_points: Annotated[
        tuple[UsagePointKeys, ...], Field(description="What is read; with conso, all that the token names when left out.")
    ] = ()
    base_url: Annotated[Address | None, Field(description="Address of the API, when it is not the usual one.")] = None
    window: Annotated[WindowText, Field(description="Local hours in which visits happen.")] = "05:00-20:00"
    minute: Annotated[int | None, Field(ge=0, le=59, description="Minute of the hour; chosen at random when left out.")] = None
    calls_per_second: Annotated[
        float, Field(ge=0.1, le=5, description="Most calls in a second; a whole gateway is allowed 5, so leave it at 1.")
    ] = 1
    contact: Annotated[Contact, Field(description="Named to the gateway: an address or a page to reach you by.")] = ""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        given = {key: bool(getattr(self, key)) for key in ("token", "client_id", "client_secret", "usage_points")}
        if reason := unusable(given, self.access, self._api, [bool(point.token) for point in self.usage_points]):
            raise ValueError(reason)
        prms = [point.prm for point in self.usage_points]
        if len(set(prms)) < len(prms):
            raise ValueError("usage_points: the same prm stands there twice")
        if not self._points:
            raise ValueError("usage_points: is needed, the token does not tell any")
        return self

    async def fetch(self, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
        """Read the last seven days of what is still awaited, then a few calls of the past; see `week` and `past`."""
        outcome = await Outcome.begin(self._way(session), self._points)
        yield Inventory(tuple(UsagePoint(point.prm, Commodity.ELECTRICITY) for point in self._points))
        async for told in newest(outcome):
            yield told
        await outcome.raise_if_all_refused()
        async for reading in trickle(outcome):
            yield reading
        for records in outcome.records.values():
            for progress in records:
                yield progress.remember()
        if outcome.ends:
            yield Holder(access_expires=min(outcome.ends))
        yield NextVisit(await self._next(outcome))
        for failed in outcome.shortfall():
            yield failed

    async def discover(self, session: Session) -> Discovery:
        """Ask every series once: which there are, how far back, in what intervals, with what holes."""
        return await look(self._way(session), self._points)

    async def raw(self, session: Session, call: str, keys: Mapping[str, str]) -> Any:
        """Give the answer to one call: `usage_point` by its place or alias, local days `from` and `to`."""
        return await ask(self._way(session), self._points, call, keys)

    async def pieces(self, session: Session, first: date | None, last: date | None) -> list[Piece]:
        """List what neither a visit nor an import has asked yet; a load curve comes in pieces of a week."""
        yesterday = local_day(session.now) - timedelta(days=1)
        return await pieces_of(self._way(session), self._points, first, min(last or yesterday, yesterday))

    async def past(self, session: Session, piece: Piece) -> Sequence[Reading | Remember]:
        """Read one piece; leaves calls to spare for visits. One usage point refused among several is left aside."""
        way, point = self._way(session, past=True), self._points[piece.ask["point"]]
        try:
            await way.admission(point)
            return await read_piece(way, point, piece, (await terms_of(way, point)).activation)
        except ConsentError as refusal:
            if len(self._points) == 1:
                raise
            raise NotNowError(str(refusal)) from None

    def visiting_time(self, at: datetime) -> datetime:
        """Move an instant into the window; not all installations come at its opening."""
        own = int(self.login_digest()[:8], 16) % 60 if self.minute is None else self.minute
        return Window.read(self.window).moved_in(at, own)

    def named_points(self) -> frozenset[str]:
        """The PRMs that are configured or that the token names."""
        return frozenset(point.prm for point in self._points)

    def budgets(self) -> Mapping[str, tuple[int, timedelta]]:
        """Give the one budget of this way in."""
        budget = _WAYS[self.access, self._api].budget
        return {budget.name: (budget.calls, budget.per)}

    @property
    def pace(self) -> timedelta:
        """The least distance between two requests."""
        return timedelta(seconds=1 / self.calls_per_second)

    def agent(self) -> str:
        """Name the program and whom to ask about it, as the gateways wish."""
        return f"{super().agent()} ({self.contact})" if self.contact else super().agent()

    def login_digest(self) -> str:
        """Include the tokens of usage points."""
        tokens = [point.token.get_secret_value() if point.token else "" for point in self.usage_points]
        return hashlib.sha256("\n".join([super().login_digest(), *tokens]).encode()).hexdigest()

    @property
    def _api(self) -> Api:
        return self.api or APIS[self.access][0]

    @property
    def _points(self) -> list[Point]:
        """Give what is read, and how messages call it: by its alias, or by its place in the configuration."""
        listed = self.usage_points
        if not listed and self.token:
            listed = tuple(UsagePointKeys(prm=prm) for prm in read_pass(self.token).prms)
        return [
            Point(each.prm, self.aliases.get(each.prm, f"usage_points[{place}]"), each.production, each.load_curve, each.token)
            for place, each in enumerate(listed)
        ]

    async def _next(self, outcome: Outcome) -> datetime:
        session = outcome.way.session
        minute = await own_minute(session) if self.minute is None else self.minute
        left = await outcome.way.budget.left(session)
        return next_visit(Window.read(self.window), minute, self.every, session.now, awaited=outcome.awaited, left=left)

    def _way(self, session: Session, *, past: bool = False) -> Way:
        base = self.base_url or ADDRESSES[self.access, self._api]
        api: Literal["2026", "v5"] = "v5" if self._api == "v5" else "2026"
        if self.client_id and self.client_secret:
            return DataConnect(session, base, client_id=self.client_id, client_secret=self.client_secret, api=api, past=past)
        if not self.token:
            return MyElectricalDataV1(session, base, past=past)
        if self.access is Access.CONSO:
            return Conso(session, base, token=self.token, api=api, past=past)
        return MyElectricalDataV2(session, base, token=self.token, past=past)


_WAYS: Mapping[tuple[Access, Api], type[Way]] = {
    (Access.CONSO, "2026"): Conso,
    (Access.CONSO, "v5"): Conso,
    (Access.DATACONNECT, "2026"): DataConnect,
    (Access.DATACONNECT, "v5"): DataConnect,
    (Access.MYELECTRICALDATA, "v2"): MyElectricalDataV2,
    (Access.MYELECTRICALDATA, "v1"): MyElectricalDataV1,
}
