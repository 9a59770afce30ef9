"""What Water-Link's portal answers, and what it means. Nothing here touches the network.

Field names, units and doubts: the portal's protocol notes, chapter "Responses". Days and times without an offset are
Belgian local ones.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.errors import ResponseError
from exporter.model import Commodity, Fact, Facts, Index, Interval, Note, Register, Shortfall, Told, Unit, UsagePoint
from exporter.portals.base import AnswerShape, Listed, decimal_comma, understand
from exporter.portals.water_link.months import ZONE, midnight, month_end

LITRES = 1000
"""In a cubic metre."""

_GROUPED = re.compile(r"-?\d{1,3}(\.\d{3})+,\d+")


def to_number(value: Any) -> Any:
    """Turn text into a number: "412,385" as the portal writes it, also "412.385" and "1.412,385".

    A number stays one; an empty text is no value. Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _GROUPED.fullmatch(text):
        text = text.replace(".", "")
    return decimal_comma(text.replace(".", ",") if "," not in text else text) if text else None


def to_instant(value: Any) -> Any:
    """Turn ISO 8601 into an instant: with or without time and offset; a day alone is its local midnight.

    Raises ValueError, also for the year 1 that stands for "never" in some databases.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("not a date of ISO 8601") from None  # Python's message repeats the value
    if not 2000 <= at.year < 9999:
        raise ValueError("not a date of our time")
    return (at if at.tzinfo else at.replace(tzinfo=ZONE)).astimezone(UTC)


def to_text(value: Any) -> str:
    """Turn an address into one line, be it a text or an object of texts (and a house number)."""
    if isinstance(value, dict | list):
        parts = (to_text(part) for part in (value.values() if isinstance(value, dict) else value))
        return ", ".join(part for part in parts if part)
    return "" if value is None or isinstance(value, bool) else " ".join(str(value).split())


Number = Annotated[Annotated[float, Field(strict=True)] | None, BeforeValidator(to_number)]
Instant = Annotated[Annotated[datetime, Field(strict=True)] | None, BeforeValidator(to_instant)]
Text = Annotated[str, BeforeValidator(to_text)]


class MeterAnswer(AnswerShape):
    """One meter's state: any field may be null or missing, and then it is no value."""

    reading: Number = Field(None, alias="meterReading")
    """m³."""
    read_at: Instant = Field(None, alias="latestMeterReading")
    address: Text = Field("", alias="address")
    active: bool | None = Field(None, alias="isActive")
    flow_limitation: bool | None = Field(None, alias="hasFlowLimitation")
    up_to_date: bool | None = Field(None, alias="isUpToDate")
    divergent: bool | None = Field(None, alias="divergentConsumption")
    no_permission: bool | None = Field(None, alias="noDataPermission")
    days_offset: Number = Field(None, alias="daysOffset")

    def facts(self) -> dict[Fact, float]:
        """What the portal states besides the reading."""
        stated = {
            Fact.METER_ACTIVE: self.active,
            Fact.FLOW_LIMITATION: self.flow_limitation,
            Fact.UP_TO_DATE: self.up_to_date,
            Fact.DIVERGENT_CONSUMPTION: self.divergent,
            Fact.NO_DATA_PERMISSION: self.no_permission,
            Fact.DAY_OFFSET: self.days_offset,
        }
        return {fact: float(value) for fact, value in stated.items() if value is not None}


class DayAnswer(AnswerShape):
    """One bar of the portal's chart."""

    day: int = Field(ge=1, le=31)
    total: Number
    """Litres; of a day without use, a filler that makes its bar visible."""
    actual: bool = Field(alias="isActualConsumption")
    zero: bool = Field(alias="isZeroConsumption")

    def litres(self) -> float | None:
        """What was used; None while the portal has not measured it (which it also says with a plain 0)."""
        if not self.actual:
            return None
        return 0 if self.zero else self.total or None


class MonthAnswer(AnswerShape):
    """The chart of one month; the portal's estimates beside it are nobody's measurement and are passed over."""

    days: Listed[DayAnswer] | None = Field(alias="actualConsumption")


def bare_point(number: str) -> UsagePoint:
    """A meter of which only the number is known: the portal's own, which need not be the serial on the device."""
    return UsagePoint(number, Commodity.WATER)


def parse_meter(number: str, answer: Any, where: str, now: datetime) -> Iterator[Told]:
    """Understand {"meterReading": "412,385", "latestMeterReading": "2026-01-14T00:00:00", "isActive": true, ...}.

    A field that cannot be read becomes a Shortfall, the others are kept. A reading of which the portal does not say when
    it was taken is left out with a Note: any instant that we gave it would be a guess that looks like a measurement.
    Raises ResponseError when the answer holds none of the fields.
    """
    meter, broken = _readable(answer, where)
    point = UsagePoint(number, Commodity.WATER, address=meter.address)
    yield Facts(point, meter.facts())
    yield from broken
    if meter.reading is not None and meter.read_at is not None:
        yield _index(point, meter.reading, meter.read_at, where, now)
    elif not broken:
        missing = "meterReading" if meter.reading is None else "latestMeterReading"
        yield Note(f"{where}: the portal gives no {missing}, so there is no index")


def _index(point: UsagePoint, reading: float, at: datetime, where: str, now: datetime) -> Told:
    if at > now:
        return Shortfall(ResponseError(f"{where} has changed: latestMeterReading: lies in the future"))
    return Index(Register(point, Unit.M3), reading, at)


def _readable(answer: Any, where: str) -> tuple[MeterAnswer, list[Shortfall]]:
    """Read a meter's state field by field, so that one that changed does not take the others along."""
    known = [field.alias for field in MeterAnswer.model_fields.values() if field.alias]
    if not isinstance(answer, dict) or answer.keys().isdisjoint(known):
        raise ResponseError(f"{where} has changed: it has none of {', '.join(known)}")
    good, broken = {}, []
    for name in known:
        try:
            understand(MeterAnswer, {name: answer.get(name)}, where)
        except ResponseError as error:
            broken.append(Shortfall(error))
        else:
            good[name] = answer.get(name)
    return understand(MeterAnswer, good, where), broken


def parse_month(point: UsagePoint, month: date, answer: Any, where: str, today: date) -> list[Interval]:
    """Understand {"actualConsumption": [{"day": 1, "total": 220, "isActualConsumption": true, ...}, ...]}.

    Gives the measured days of `month` before `today`, whose value still grows. Raises ResponseError.
    """
    chart = understand(MonthAnswer, answer, where)
    measured = {bar.day: litres for bar in chart.days or () if (litres := bar.litres()) is not None}
    if measured and max(measured) > month_end(month).day:
        raise ResponseError(f"{where} has changed: actualConsumption: more days than the month has")
    return [_interval(point, on, litres) for day, litres in sorted(measured.items()) if (on := month.replace(day=day)) < today]


def _interval(point: UsagePoint, day: date, litres: float) -> Interval:
    start, end = midnight(day), midnight(day + timedelta(days=1))
    return Interval(Register(point, Unit.M3), start, end, litres / LITRES)
