"""The responses of Water-Link. Days, and times without an offset, are Belgian local time."""

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from exporter.errors import ResponseError
from exporter.models import Commodity, Fact, Facts, Index, Interval, Register, Unit, UsagePoint, VisitResult
from exporter.portals.base import (
    ResponseModel,
    TolerantList,
    build_skip_notes,
    parse_decimal_comma,
    parse_tolerantly,
    validate_response,
)
from exporter.recording.shape import observe_shape

ZONE = ZoneInfo("Europe/Brussels")
LITRES_PER_M3 = 1000

_GROUPED_PATTERN = re.compile(r"-?\d{1,3}(\.\d{3})+,\d+")


def parse_number(value: Any) -> Any:
    """Return a text as a number: "412,385" as the portal writes it, also "412.385" and "1.412,385".

    Any other value is returned as it is, an empty text as None. Raise ValueError.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _GROUPED_PATTERN.fullmatch(text):
        text = text.replace(".", "")
    return parse_decimal_comma(text.replace(".", ",") if "," not in text else text) if text else None


def parse_instant(value: Any) -> Any:
    """Return an instant of ISO 8601, with or without time and offset; a day alone is its local midnight.

    Raise ValueError, also for the year 1 that means "never" in some databases.
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


def format_address(value: Any) -> str:
    """Return an address as one line, whether it is a text or an object of texts and numbers."""
    if isinstance(value, dict | list):
        parts = (format_address(part) for part in (value.values() if isinstance(value, dict) else value))
        return ", ".join(part for part in parts if part)
    return "" if value is None or isinstance(value, bool) else " ".join(str(value).split())


PortalNumber = Annotated[Annotated[float, Field(strict=True)] | None, BeforeValidator(parse_number)]
PortalAmount = Annotated[Annotated[float, Field(strict=True, ge=0)] | None, BeforeValidator(parse_number)]
PortalInstant = Annotated[Annotated[datetime, Field(strict=True)] | None, BeforeValidator(parse_instant)]
AddressText = Annotated[str, BeforeValidator(format_address)]


class MeterResponse(ResponseModel):
    """The state of a meter: any field may be null or missing."""

    reading: PortalAmount = Field(None, alias="meterReading")
    """m³."""
    read_at: PortalInstant = Field(None, alias="latestMeterReading")
    address: AddressText = Field("", alias="address")
    active: bool | None = Field(None, alias="isActive")
    flow_limitation: bool | None = Field(None, alias="hasFlowLimitation")
    up_to_date: bool | None = Field(None, alias="isUpToDate")
    divergent: bool | None = Field(None, alias="divergentConsumption")
    no_permission: bool | None = Field(None, alias="noDataPermission")
    days_offset: PortalNumber = Field(None, alias="daysOffset")

    def build_facts(self) -> dict[Fact, float]:
        """Return what the portal states besides the reading."""
        stated = {
            Fact.METER_ACTIVE: self.active,
            Fact.FLOW_LIMITATION: self.flow_limitation,
            Fact.UP_TO_DATE: self.up_to_date,
            Fact.DIVERGENT_CONSUMPTION: self.divergent,
            Fact.NO_DATA_PERMISSION: self.no_permission,
            Fact.DAY_OFFSET: self.days_offset,
        }
        return {fact: float(value) for fact, value in stated.items() if value is not None}

    def missing_field(self) -> str:
        """Return which field an index lacks, empty for none."""
        if self.reading is None:
            return "meterReading"
        return "" if self.read_at else "latestMeterReading"


class DayRow(ResponseModel):
    """One day of the portal's chart."""

    day: int = Field(ge=1, le=31)
    total: PortalAmount
    """Litres; on a day without use, a filler that makes its bar visible."""
    is_actual: bool = Field(alias="isActualConsumption")
    is_zero: bool = Field(alias="isZeroConsumption")

    @model_validator(mode="before")
    @classmethod
    def _reduce_unmeasured(cls, bar: Any) -> Any:
        """Return the bar of a day that is not measured without its other fields: they are not needed."""
        if isinstance(bar, dict) and bar.get("isActualConsumption") is False:
            return {"day": bar.get("day"), "total": None, "isActualConsumption": False, "isZeroConsumption": False}
        return bar

    def measured_litres(self) -> float | None:
        """Return the litres used; None while the portal has not measured them, which it may also write as a plain 0."""
        if not self.is_actual:
            return None
        return 0 if self.is_zero else self.total or None


class MonthResponse(ResponseModel):
    """The chart of one month; the portal's estimates beside it are no measurements and are ignored."""

    actualConsumption: TolerantList[DayRow] | None  # noqa: N815  # the name by which skipped values are noted


def build_usage_point(number: str) -> UsagePoint:
    """Return a meter of which only the portal's number is known; it need not be the serial on the device."""
    return UsagePoint(number, Commodity.WATER)


def parse_meter(number: str, body: Any, where: str, now: datetime) -> VisitResult:
    """Parse {"meterReading": "412,385", "latestMeterReading": "2026-01-14T00:00:00", "isActive": true, ...}.

    A field that cannot be understood is left out, counted and noted; the others are kept. A reading without its instant is
    left out: any other instant would be a guess that looks like a measurement. Raise ResponseError when the response has
    none of the fields, or none can be understood.
    """
    meter, skipped = _parse_meter_fields(body, where)
    if meter.read_at and meter.read_at > now:
        skipped["latestMeterReading (in the future)"] += 1
    point = UsagePoint(number, Commodity.WATER, address=meter.address)
    notes = [*build_skip_notes(where, skipped)]
    if meter.no_permission:
        notes.append(f"{where}: the portal may show no readings: sign in with a browser and consent to their processing")
    elif not skipped and (missing := meter.missing_field()):
        notes.append(f"{where}: the portal states no {missing}, so there is no index")
    indexes = []
    if meter.reading is not None and meter.read_at and meter.read_at <= now:
        indexes = [Index(Register(point, Unit.M3), meter.reading, meter.read_at)]
    facts = Facts(point, meter.build_facts())
    return VisitResult(readings=indexes, facts=[facts], notes=notes, skipped=skipped.total())


def _parse_meter_fields(body: Any, where: str) -> tuple[MeterResponse, Counter[str]]:
    """Parse a meter's state field by field; return it, and the fields that cannot be understood."""
    known = [field.alias for field in MeterResponse.model_fields.values() if field.alias]
    if not isinstance(body, dict) or body.keys().isdisjoint(known):
        raise ResponseError(f"{where} has changed: it has none of {', '.join(known)}")
    observe_shape(MeterResponse, body, where)
    good, skipped, first_error = {}, Counter[str](), None
    for name in [name for name in known if name in body]:
        try:
            validate_response(MeterResponse, {name: body[name]}, where)
        except ResponseError as error:
            skipped[name] += 1
            first_error = first_error or error
        else:
            good[name] = body[name]
    if first_error and not good:
        raise first_error
    return validate_response(MeterResponse, good, where), skipped


def parse_month(point: UsagePoint, month: date, body: Any, where: str, today: date) -> tuple[list[Interval], Counter[str]]:
    """Parse {"actualConsumption": [{"day": 1, "total": 220, "isActualConsumption": true, ...}, ...]}.

    Return the measured days of `month` before `today`, whose value still grows, and what was left out of the bars that
    cannot be understood, by field. Raise ResponseError.
    """
    response, skipped = parse_tolerantly(MonthResponse, body, where)
    measured = {row.day: litres for row in response.actualConsumption or () if (litres := row.measured_litres()) is not None}
    if measured and max(measured) > _month_end(month).day:
        raise ResponseError(f"{where} has changed: actualConsumption: more days than the month has")
    days = ((month.replace(day=day), litres) for day, litres in sorted(measured.items()))
    return [_build_interval(point, day, litres) for day, litres in days if day < today], skipped


def _build_interval(point: UsagePoint, day: date, litres: float) -> Interval:
    start, end = day_start(day), day_start(day + timedelta(days=1))
    return Interval(Register(point, Unit.M3), start, end, litres / LITRES_PER_M3)


def day_start(day: date) -> datetime:
    """Return the instant at which a day begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).astimezone(UTC)


def local_day(at: datetime) -> date:
    """Return the day of an instant."""
    return at.astimezone(ZONE).date()


def previous_month(day: date) -> date:
    """Return the first day of the month before."""
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


def _month_end(day: date) -> date:
    """Return the last day of the same month."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def parse_month_key(text: str) -> date:
    """Return the first day of the month "2026-03"; raise ValueError for anything else."""
    if not re.fullmatch("2[0-9]{3}-(0[1-9]|1[0-2])", text):
        raise ValueError("a month is written like 2026-03")
    return date.fromisoformat(f"{text}-01")
