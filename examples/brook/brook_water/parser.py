"""The responses of Brook: their models, and the readings in them."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field

from exporter.errors import ResponseError
from exporter.models import Commodity, Fact, Facts, Index, Interval, Register, Unit, UsagePoint
from exporter.portals.base import (
    ResponseModel,
    TolerantList,
    build_skip_notes,
    parse_decimal_comma,
    parse_response,
    parse_tolerantly,
)
from exporter.sync.feeds import FeedResult

ZONE = ZoneInfo("Europe/Dublin")
LITRES_PER_M3 = 1000


def _parse_decimal_comma(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("not a text with a decimal comma")  # noqa: TRY004  # pydantic turns ValueError into its own error
    return parse_decimal_comma(value)


class BrookTokenResponse(ResponseModel):
    """POST /login: {"token": "...", "seconds": 3600}."""

    token: Annotated[str, Field(min_length=1)]
    seconds: Annotated[int, Field(gt=0, le=86_400)]


class BrookMeterResponse(ResponseModel):
    """GET /contracts/C-1/meter: {"serial": "B-17", "m3": "104,250", "read": "2031-03-09T00:00:00", "leak": false}."""

    serial: str
    m3: Annotated[float, BeforeValidator(_parse_decimal_comma)]
    read: datetime
    leak: bool | None = None


class BrookDay(ResponseModel):
    """A day of GET /contracts/C-1/days: {"day": "2031-03-08", "litres": 219}; null is a day that is not in yet."""

    day: date
    litres: Annotated[float, Field(ge=0)] | None


class BrookDaysResponse(ResponseModel):
    """GET /contracts/C-1/days: {"days": [...]}."""

    days: TolerantList[BrookDay]


def build_register(contract: str) -> Register:
    """Return the register of a contract of which only the number is known."""
    return Register(UsagePoint(contract, Commodity.WATER), Unit.M3)


def parse_meter(contract: str, body: Any, now: datetime) -> tuple[Index, Facts]:
    """Return what the meter showed when it was read, and whether Brook sees a leak; raise ResponseError."""
    meter = parse_response(BrookMeterResponse, body, "the meter")
    point = UsagePoint(contract, Commodity.WATER, meter=meter.serial)
    at = meter.read.replace(tzinfo=ZONE).astimezone(UTC)  # Brook gives local time without a zone
    if at > now:
        raise ResponseError("the meter has changed: read: lies in the future")
    flags = {} if meter.leak is None else {Fact.DIVERGENT_CONSUMPTION: float(meter.leak)}
    return Index(Register(point, Unit.M3), meter.m3, at), Facts(point, flags)


def parse_days(contract: str, body: Any, today: date) -> FeedResult:
    """Return the days that are in; today still grows, and is left out. Raise ResponseError."""
    response, skipped = parse_tolerantly(BrookDaysResponse, body, "the list of days")
    known = ((row.day, row.litres) for row in response.days if row.litres is not None and row.day < today)
    days = [_build_interval(contract, day, litres) for day, litres in known]
    return FeedResult(days, build_skip_notes("the list of days", skipped), skipped.total())


def _build_interval(contract: str, day: date, litres: float) -> Interval:
    # Both midnights come from the calendar: a day may have 23 or 25 hours.
    start, end = (datetime.combine(on, time(), ZONE).astimezone(UTC) for on in (day, day + timedelta(days=1)))
    return Interval(build_register(contract), start, end, litres / LITRES_PER_M3)
