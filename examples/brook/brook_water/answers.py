"""What Brook answers: declared, and understood without touching the network."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field

from exporter.errors import ResponseError
from exporter.model import Commodity, Fact, Facts, Index, Interval, Register, Told, Unit, UsagePoint
from exporter.portals.base import AnswerShape, Listed, decimal_comma, understand

LOCAL = ZoneInfo("Europe/Dublin")
LITRES = 1000
"""To the m³: Brook gives its days in litres."""


def _comma(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("not a text with a decimal comma")  # noqa: TRY004  # the error that pydantic understands
    return decimal_comma(value)


class GrantAnswer(AnswerShape):
    """POST /login: {"token": "...", "seconds": 3600}."""

    token: Annotated[str, Field(min_length=1)]
    seconds: Annotated[int, Field(gt=0, le=86_400)]


class MeterAnswer(AnswerShape):
    """GET /contracts/C-1/meter: {"serial": "B-17", "m3": "104,250", "read": "2031-03-09T00:00:00", "leak": false}."""

    serial: str
    m3: Annotated[float, BeforeValidator(_comma)]
    read: datetime
    leak: bool | None = None


class DayAnswer(AnswerShape):
    """A day of GET /contracts/C-1/days: {"day": "2031-03-08", "litres": 219}; null is a day that is not in yet."""

    day: date
    litres: Annotated[float, Field(ge=0)] | None


class DaysAnswer(AnswerShape):
    """GET /contracts/C-1/days: {"days": [...]}."""

    days: Listed[DayAnswer]


def bare(contract: str) -> Register:
    """Give a contract's register, of which no more than its number is known."""
    return Register(UsagePoint(contract, Commodity.WATER), Unit.M3)


def parse_meter(contract: str, answer: Any, now: datetime) -> Iterator[Told]:
    """Tell what the meter showed when it was read, and whether Brook sees a leak. Raises ResponseError."""
    meter = understand(MeterAnswer, answer, "the meter")
    point = UsagePoint(contract, Commodity.WATER, meter=meter.serial)
    at = meter.read.replace(tzinfo=LOCAL).astimezone(UTC)  # Brook gives local time without a zone
    if at > now:
        raise ResponseError("the meter has changed: read: lies in the future")
    yield Index(Register(point, Unit.M3), meter.m3, at)
    yield Facts(point, {} if meter.leak is None else {Fact.DIVERGENT_CONSUMPTION: float(meter.leak)})


def parse_days(contract: str, answer: Any, today: date) -> Sequence[Interval]:
    """Give the days that are in; today's still grows, and is left out. Raises ResponseError."""
    days = understand(DaysAnswer, answer, "the list of days").days
    return [_interval(contract, one.day, one.litres) for one in days if one.litres is not None and one.day < today]


def _interval(contract: str, day: date, litres: float) -> Interval:
    # Both midnights come from the calendar: a day may have 23 or 25 hours.
    start, end = (datetime.combine(one, time(), LOCAL).astimezone(UTC) for one in (day, day + timedelta(days=1)))
    return Interval(bare(contract), start, end, litres / LITRES)
