"""Water-Link: digital water meters in Antwerp, from the customer portal "Mijn Water-Link"."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr

from exporter.answer import Answer
from exporter.errors import PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.model import (
    DAY,
    Commodity,
    Discovery,
    Facts,
    Finding,
    Index,
    Interval,
    Inventory,
    Reading,
    Register,
    Shortfall,
    Told,
    Unit,
)
from exporter.portals.base import Call, Duration, Piece, Portal, Wanted
from exporter.portals.water_link.answers import bare_point, parse_meter, parse_month
from exporter.portals.water_link.api import Api, RefusedMeterError
from exporter.portals.water_link.keys import IDENTITY, SITE, Address, Meters, meter_number
from exporter.portals.water_link.login import Client
from exporter.portals.water_link.months import ZONE, local_day, month_before, month_end, months_back, read_month
from exporter.session import Session


class WaterLink(Portal):
    """An account at "Mijn Water-Link": one or more digital water meters.

    Each gives its index, its flags, and the volume of every day, which the portal may add, or correct, many days late.
    """

    zone = ZONE
    least_every = timedelta(minutes=15)
    patience: ClassVar = {Commodity.WATER: timedelta(days=7)}
    login_keys: ClassVar = ("username", "password", "portal_url", "identity_url", "client_id", "redirect_uri")
    calls: ClassVar = {
        "meter": Call("The state of a meter.", {"meter": "six digits; the first configured one"}),
        "days": Call("The volumes of a month.", {"meter": "six digits; the first configured one", "month": "YYYY-MM; this one"}),
        "alarms": Call("The ten newest alarms.", {"meter": "six digits; the first configured one"}),
    }

    portal: Literal["water-link"] = "water-link"
    username: Annotated[str, Field(min_length=1, description="The e-mail address of the portal's account.")]
    password: Annotated[SecretStr, Field(min_length=1, description="Its password.")]
    meters: Annotated[Meters, Field(description="Their numbers: six digits, from the portal's address /water-meter/XXXXXX.")]
    every: Annotated[Duration, Field(description="Distance between visits; new values come once a day.")] = timedelta(hours=2)
    history_days: Annotated[int, Field(ge=1, le=3660, description="How far back an import asks.")] = 365
    portal_url: Annotated[Address, Field(description="Address of the portal and its API.")] = SITE
    identity_url: Annotated[Address, Field(description="Address of the identity provider.")] = IDENTITY
    client_id: Annotated[str, Field(min_length=1, description="The portal's OAuth 2 client.")] = (
        "07967700-64cf-4f26-825c-b13042574400"
    )
    redirect_uri: Annotated[str, Field(min_length=1, description="Where that client has its codes sent.")] = SITE
    scope: Annotated[str, Field(min_length=1, description="What that client asks for.")] = "openid"

    def named_points(self) -> frozenset[str]:
        """The numbers of all meters."""
        return frozenset(self.meters)

    async def fetch(self, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
        """Tell every meter's facts, index and days of the running and the previous month, then the inventory.

        Both months are read each time: a day that comes late, or is corrected, lands on its own date.
        """
        points, good, failed = {number: bare_point(number) for number in self.meters}, False, list[PortalError]()
        async for told in self._meters(session):
            yield told
            match told:
                case Facts(point):
                    points[point.id], good = point, True
                case Interval():
                    good = True
                case Shortfall(error):
                    failed.append(error)
        if failed and not good:
            raise failed[0]
        yield Inventory(tuple(points.values()), tuple(Register(point, Unit.M3) for point in points.values()))

    async def _meters(self, session: Session) -> AsyncIterator[Told]:
        """Tell of meter after meter; a refused login is raised, another failure leaves what the others tell."""
        api, unreachable = self._api(session), 0
        await api.enter()
        for place, number in enumerate(self.meters):
            try:
                async for told in _meter(api, number, f"meters[{place}]", session.now):
                    yield told
            except RefusedMeterError as error:
                yield Shortfall(error)
            except UnreachableError as error:
                yield Shortfall(error)
                if (unreachable := unreachable + 1) == 2:  # it is not the meter, it is the portal
                    return
            except (RateLimitError, ResponseError) as error:
                yield Shortfall(error)
                return

    async def discover(self, session: Session) -> Discovery:
        """Look at the configured meters: the portal has no list of an account's meters that we know of."""
        api, tree, good = self._api(session), list[Finding](), list[str]()
        for place, number in enumerate(self.meters):
            try:
                told = [told async for told in _meter(api, number, f"meters[{place}]", session.now)]
            except RefusedMeterError as error:
                tree.append(_finding(number, [Shortfall(error)], self.personal_data))
            else:
                tree.append(_finding(number, told, self.personal_data))
                good.append(number)
        chosen = ", ".join(f'"{number}"' for number in good or self.meters)
        note = f"The portal lists no meters: a meter's number is in its address there, {self.portal_url}/water-meter/XXXXXX."
        return Discovery(tuple(tree), f"meters: [{chosen}]", (note,))

    async def raw(self, session: Session, call: str, keys: Mapping[str, str]) -> Any:
        """Give the portal's own answer about one meter, configured or not."""
        try:
            number = str(meter_number(keys.get("meter", self.meters[0])))
            month = read_month(keys["month"]) if "month" in keys else local_day(session.now)
        except ValueError as error:
            raise PortalError(str(error)) from None
        api = self._api(session)
        match call:
            case "meter":
                answer = await api.meter(number, "meter")
            case "days":
                answer = await api.days(number, month, "meter")
            case "alarms":
                answer = await api.alarms(number, "meter")
            case _:
                raise PortalError(f"there is no such call; there are {', '.join(self.calls)}")
        return answer.json()

    async def pieces(self, session: Session, first: date | None, last: date | None) -> list[Piece]:
        """List the months of each meter, newest first, no further back than `history_days`."""
        today = local_day(session.now)
        oldest, newest = today - timedelta(days=self.history_days), today - DAY
        months = months_back(max(first or oldest, oldest), min(last or newest, newest))
        return [_piece(number, month, today) for number in self.meters for month in months]

    async def past(self, session: Session, piece: Piece) -> list[Reading]:
        """Read one meter's month; one without a measured day gives none, and older ones may still have some."""
        number, where = piece.ask["meter"], f"meters[{self.meters.index(piece.ask['meter'])}]"
        answer = await self._api(session).days(number, piece.first, where)
        return [*parse_month(bare_point(number), piece.first, answer.json(), where, local_day(session.now))]

    def _api(self, session: Session) -> Api:
        client = Client(self.portal_url, self.identity_url, self.client_id, self.redirect_uri, self.scope)
        return Api(session, client, self.username, self.password)


async def _meter(api: Api, number: str, where: str, now: datetime) -> AsyncIterator[Told]:
    """Tell all of one meter. An answer that changed is a Shortfall, and the next one is read; a failed call is raised."""
    point = bare_point(number)
    state = await api.meter(number, where)
    for told in _readable(state, partial(parse_meter, number, where=where, now=now)):
        point = told.point if isinstance(told, Facts) else point
        yield told
    today = local_day(now)
    for month in (month_before(today), today):
        chart = await api.days(number, month, where)
        for told in _readable(chart, partial(parse_month, point, month, where=where, today=today)):
            yield told


def _readable(answer: Answer, parse: Callable[..., Iterable[Told]]) -> list[Told]:
    try:
        return list(parse(answer=answer.json()))
    except ResponseError as error:
        return [Shortfall(error)]


def _finding(number: str, told: Iterable[Told], personal: bool) -> Finding:
    """Say what the portal can tell of a meter: what it states, its last reading, how many days of two months."""
    told = list(told)
    facts: dict[str, object] = {}
    for one in told:
        match one:
            case Facts(point, values):
                facts |= {"address": point.address} if personal and point.address else {}
                facts |= {str(fact): value for fact, value in values.items()}
            case Index(_, value, at):
                facts |= {"index": f"{value:.3f} {Unit.M3}", "read": at.astimezone(ZONE).isoformat()}
            case Shortfall(error):
                facts["error"] = str(error)
    days = sum(isinstance(one, Interval) for one in told)
    total = Finding(f"register total, {Unit.M3}", {"days of this and the previous month": days})
    return Finding(f"water meter {number}", facts, (total,))


def _piece(number: str, month: date, today: date) -> Piece:
    """One month of one meter. A month whose days may still come late has a new key each day, so that it is asked again."""
    settled = month < month_before(today)
    key = f"{number}/{month:%Y-%m}" + ("" if settled else f"@{today}")
    return Piece(key, number, month, min(month_end(month), today - DAY), {"meter": number})
