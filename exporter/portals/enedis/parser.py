"""Responses about measures, of 2026 and v5, parsed to readings."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import Field

from exporter.errors import NoDataError, ResponseError
from exporter.models import Commodity, Direction, Index, Interval, Peak, Reading, Register, Unit, UsagePoint
from exporter.portals.base import FailFastList, ResponseModel, TolerantList, parse_tolerantly
from exporter.portals.enedis.measures import Measure, MeasureKind
from exporter.portals.enedis.timestamps import (
    PlacedValue,
    StampedValue,
    day_span,
    local_day,
    parse_stamp,
    place_by_end,
    place_by_start,
    to_utc,
)

FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]
"""Numbers come as text ("540"); pydantic reads both."""


class ValueRow(ResponseModel):
    """A value of 2026: `{"v": "412", "d": "2026-11-01 00:30:00", "p": "PT30M"}`; `v` can be null."""

    value: Annotated[FiniteNumber | None, Field(alias="v")]
    stamp: Annotated[str, Field(alias="d")]
    length: Annotated[str | None, Field(alias="p")] = None


class RegisterRow(ResponseModel):
    """A reading of a register: `{"d": "2026-11-01 00:00:00", "v": 7340112}`; the parser validates each by itself."""

    value: Annotated[object, Field(alias="v")] = ""
    stamp: Annotated[object, Field(alias="d")] = ""


class TariffClassResponse(ResponseModel):
    """Readings of one tariff class of a calendar."""

    id: Annotated[str, Field(alias="idClasseTemporelle", min_length=1)]
    label: Annotated[str | None, Field(alias="libelleClasseTemporelle")] = None
    values: Annotated[TolerantList[RegisterRow] | None, Field(alias="valeur")] = None


class CalendarResponse(ResponseModel):
    """The tariff classes of one calendar; together they are the total."""

    id: Annotated[str | None, Field(alias="idCalendrier")] = None
    classes: Annotated[FailFastList[TariffClassResponse] | None, Field(alias="classeTemporelle")] = None


class TotalRegisterResponse(ResponseModel):
    """Readings of the register of all classes."""

    values: Annotated[TolerantList[RegisterRow] | None, Field(alias="valeur")] = None


class QuantityResponse(ResponseModel):
    """A series (`grandeur`): `points`, or for registers calendars and a total."""

    flow: Annotated[str, Field(alias="grandeurMetier")]
    physical: Annotated[str, Field(alias="grandeurPhysique")]
    unit: Annotated[str, Field(alias="unite")]
    points: TolerantList[ValueRow] | None = None
    calendars: Annotated[FailFastList[CalendarResponse] | None, Field(alias="calendrier")] = None
    total: Annotated[TotalRegisterResponse | None, Field(alias="cadranTotalisateur")] = None


class ReadingContextResponse(ResponseModel):
    """Registers read on one occasion: `COL` is the ordinary collection, others surround events of the contract."""

    occasion: Annotated[str | None, Field(alias="contexteReleve")] = None
    quantities: Annotated[TolerantList[QuantityResponse] | None, Field(alias="grandeur")] = None


class MeasureResponse2026(ResponseModel):
    """A response of 2026; `grandeur` can be empty or absent."""

    prm: Annotated[str, Field(alias="idPrm")]
    quantities: Annotated[TolerantList[QuantityResponse] | None, Field(alias="grandeur")] = None
    contexts: Annotated[FailFastList[ReadingContextResponse] | None, Field(alias="contexte")] = None


class ValueRowV5(ResponseModel):
    """A value of v5."""

    value: FiniteNumber | None
    stamp: Annotated[str, Field(alias="date")]
    length: Annotated[str | None, Field(alias="interval_length")] = None


class ReadingTypeV5(ResponseModel):
    """What the values of v5 are."""

    unit: str


class MeasureResponseV5(ResponseModel):
    """A response of v5, without its outer `meter_reading`."""

    prm: Annotated[str, Field(alias="usage_point_id")]
    reading_type: ReadingTypeV5
    values: Annotated[TolerantList[ValueRowV5] | None, Field(alias="interval_reading")]


def _is_v5(body: Any) -> bool:
    """Return whether a body is of v5, not of 2026."""
    return isinstance(body, dict) and bool(body.keys() & {"meter_reading", "reading_type", "interval_reading"})


UNIT_DIVISORS = {
    MeasureKind.DAYS: {"Wh": 1000, "kWh": 1},
    MeasureKind.INDEX: {"Wh": 1000, "kWh": 1},
    MeasureKind.CURVE: {"W": 1000, "kW": 1},
    MeasureKind.MAX: {"VA": 1000, "kVA": 1},
}
PHYSICAL_QUANTITIES = {MeasureKind.DAYS: "EA", MeasureKind.INDEX: "EA", MeasureKind.CURVE: "PA", MeasureKind.MAX: "PMA"}
FLOW_CODES = {Direction.CONSUMPTION: "CONS", Direction.INJECTION: "PROD"}
INTERVAL_LENGTHS = {timedelta(minutes=minutes) for minutes in (5, 10, 15, 30, 60)}
DISTRIBUTOR_CALENDARS = "DI"
"""How the ids of the distributor's calendars begin; the supplier's calendar, which the customer pays by, goes before."""
MAX_VALUE = 1e12
_LENGTH_PATTERN = re.compile(r"PT(?:(\d{1,2})H)?(?:(\d{1,2})M)?", re.ASCII)


AnyRow = ValueRow | ValueRowV5 | RegisterRow
MeasureT = TypeVar("MeasureT", MeasureResponse2026, MeasureResponseV5)
RowT = TypeVar("RowT")
ResultT = TypeVar("ResultT")


class _FieldError(ValueError):
    """A row cannot be understood because of a field, which is its only argument."""


@dataclass(frozen=True, slots=True)
class SeriesValues:
    """The values of one series as sent, and the divisor to kWh, kW or kVA."""

    divisor: int
    points: Sequence[ValueRow | ValueRowV5]


@dataclass(frozen=True, slots=True)
class ParsedReadings:
    """The readings of a response; `skipped` counts the rows that could not be understood, by field."""

    readings: Sequence[Reading]
    skipped: Counter[str]


def parse_readings(body: Any, prm: str, measure: Measure, *, stamps_are_starts: bool = False) -> ParsedReadings:
    """Return the readings of a response; with `stamps_are_starts` the timestamps of a load curve are starts of intervals.

    Raise NoDataError when the response has no value, and ResponseError when nothing of it can be understood.
    """
    parser = _Parser(body, UsagePoint(prm, Commodity.ELECTRICITY), measure)
    if not (readings := parser.parse(stamps_are_starts=stamps_are_starts)):
        raise NoDataError(f"the response of {measure.key} has no value")
    return ParsedReadings(readings, parser.skipped)


class _Parser:
    """Parses one response."""

    def __init__(self, body: Any, point: UsagePoint, measure: Measure) -> None:
        self.skipped = Counter[str]()
        self._body, self._point, self._measure = body, point, measure
        self._where = f"the response of {measure.key}"

    def parse(self, *, stamps_are_starts: bool) -> list[Reading]:
        measure = self._measure
        if measure.kind is MeasureKind.INDEX:
            return list(self._parse_indexes())
        values = self._parse_v5() if _is_v5(self._body) else self._parse_2026()
        rows = [point for point in values.points if point.value is not None]
        if measure.kind is MeasureKind.MAX:
            return list(self._convert(rows, lambda row: _build_peak(row, values.divisor, self._point)))
        register = Register(self._point, Unit.KWH, measure.direction)
        if measure.kind is MeasureKind.DAYS:
            return list(self._convert(rows, lambda row: _build_day(row, values.divisor, register)))
        stamps = self._convert(rows, lambda row: StampedValue(_parse_local(row), _parse_length(row.length), _parse_value(row)))
        placed = (place_by_start if stamps_are_starts else place_by_end)(stamps)
        return [_build_interval(each, values.divisor, register) for each in placed]

    def _convert(self, rows: Sequence[RowT], convert: Callable[[RowT], ResultT]) -> list[ResultT]:
        """Convert rows; those that cannot be are left out and counted. Raise ResponseError when none can be."""
        found: list[ResultT] = []
        invalid = Counter[str]()
        for row in rows:
            try:
                found.append(convert(row))
            except _FieldError as error:
                invalid[str(error)] += 1
        if invalid and not found:
            raise ResponseError(f"{self._where} has changed: invalid {next(iter(invalid))}")
        self.skipped.update(invalid)
        return found

    def _parse_v5(self) -> SeriesValues:
        found = self._validate(MeasureResponseV5, self._body.get("meter_reading", self._body))
        return SeriesValues(self._find_divisor(found.reading_type.unit), found.values or ())

    def _parse_2026(self) -> SeriesValues:
        found = self._validate(MeasureResponse2026, self._body)
        series = self._select_series([quantity for quantity in found.quantities or () if quantity.points])
        return SeriesValues(self._find_divisor(series[0].unit), series[0].points or ()) if series else SeriesValues(1, ())

    def _parse_indexes(self) -> Iterable[Index]:
        found = self._validate(MeasureResponse2026, self._body)
        ordinary_last = sorted(found.contexts or (), key=lambda context: context.occasion == "COL")
        series = self._select_series([quantity for context in ordinary_last for quantity in context.quantities or ()])
        if not series:
            return ()
        divisor = self._find_divisor(series[-1].unit)
        rows = _list_register_rows(series)
        # Of two readings of the same register and instant the later one counts.
        indexes = self._convert(rows, lambda row: _build_index(row, divisor, self._point, self._measure.direction))
        return sorted({(index.register.name, index.at): index for index in indexes}.values(), key=lambda index: index.at)

    def _select_series(self, series: Sequence[QuantityResponse]) -> list[QuantityResponse]:
        """Return the series of this measure; none for no series at all. Raise ResponseError when none of them matches."""
        wanted = (FLOW_CODES[self._measure.direction], PHYSICAL_QUANTITIES[self._measure.kind])
        found = [quantity for quantity in series if (quantity.flow, quantity.physical) == wanted]
        if series and not found:
            raise ResponseError(f"{self._where} has changed: grandeurMetier and grandeurPhysique are of another series")
        return found

    def _find_divisor(self, unit: str) -> int:
        scales = UNIT_DIVISORS[self._measure.kind]
        if unit not in scales:
            raise ResponseError(f"{self._where} has changed: its unit is none of {', '.join(scales)}")
        return scales[unit]

    def _validate(self, model: type[MeasureT], body: Any) -> MeasureT:
        found, skipped = parse_tolerantly(model, body, self._where)
        self.skipped += skipped
        if found.prm != self._point.id:
            raise ResponseError(f"{self._where} is about another usage point than the requested one")
        return found


def _build_day(row: AnyRow, divisor: int, register: Register) -> Interval:
    return Interval(register, *day_span(local_day(_parse_at(row))), _parse_value(row) / divisor)


def _build_peak(row: AnyRow, divisor: int, usage_point: UsagePoint) -> Peak:
    at = _parse_at(row)
    return Peak(usage_point, Unit.KVA, *day_span(local_day(at)), _parse_value(row) / divisor, at)


def _build_interval(placed: PlacedValue, divisor: int, register: Register) -> Interval:
    """Convert mean power to energy: W over 30 minutes is half as many Wh."""
    minutes = (placed.end - placed.start) // timedelta(minutes=1)
    return Interval(register, placed.start, placed.end, placed.value * minutes / (60 * divisor))


def _parse_at(row: AnyRow) -> datetime:
    return to_utc(_parse_local(row))


def _parse_local(row: AnyRow) -> datetime:
    try:
        return parse_stamp(str(row.stamp))
    except ValueError:
        raise _FieldError("stamp") from None


def _parse_value(row: AnyRow) -> float:
    """Return a value; energy, power and registers are never negative."""
    try:
        value = float(row.value) if isinstance(row.value, str | int | float) else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value < MAX_VALUE:
        raise _FieldError("value")
    return value


def _parse_length(text: str | None) -> timedelta:
    """Parse "PT30M" or "PT1H"; a length that no meter has is invalid."""
    found = _LENGTH_PATTERN.fullmatch(text or "")
    length = timedelta(hours=int(found[1] or 0), minutes=int(found[2] or 0)) if found else timedelta(0)
    if length not in INTERVAL_LENGTHS:
        raise _FieldError("length")
    return length


@dataclass(frozen=True, slots=True)
class _RegisterRow:
    """A reading of the register of a tariff class, or of the total."""

    name: str
    label: str
    row: RegisterRow


def _build_index(found: _RegisterRow, divisor: int, point: UsagePoint, direction: Direction) -> Index:
    register = Register(point, Unit.KWH, direction, found.name, description=found.label)
    return Index(register, _parse_value(found.row) / divisor, _parse_at(found.row))


def _list_register_rows(series: Sequence[QuantityResponse]) -> list[_RegisterRow]:
    """Return the readings of the tariff classes; those of the total only where there are no classes."""
    by_class = any(_select_used_classes(calendar) for quantity in series for calendar in quantity.calendars or ())
    rows = (_list_class_rows(quantity) if by_class else _list_total_rows(quantity) for quantity in series)
    return [each for some in rows for each in some if each.row.value is not None]


def _list_total_rows(quantity: QuantityResponse) -> Iterator[_RegisterRow]:
    for row in (quantity.total.values if quantity.total else None) or ():
        yield _RegisterRow("total", "", row)


def _list_class_rows(quantity: QuantityResponse) -> Iterator[_RegisterRow]:
    """Return the readings of the classes: for each day those of the supplier's calendar, else of the distributor's.

    The order in which the calendars come has no meaning.
    """
    covered: set[str] = set()
    for calendar in sorted(quantity.calendars or (), key=_rank_calendar):
        classes = _select_used_classes(calendar)
        days = {str(row.stamp)[:10] for each in classes for row in each.values or () if row.value is not None}
        for each in classes:
            # A class beside others that have no value is still not the total.
            name = "total" if len(calendar.classes or ()) == 1 else each.id
            for row in each.values or ():
                if str(row.stamp)[:10] not in covered:
                    yield _RegisterRow(name, each.label or "", row)
        covered |= days


def _rank_calendar(calendar: CalendarResponse) -> tuple[bool, str]:
    name = calendar.id or ""
    return name.upper().startswith(DISTRIBUTOR_CALENDARS), name


def _select_used_classes(calendar: CalendarResponse) -> list[TariffClassResponse]:
    return [each for each in calendar.classes or () if any(row.value is not None for row in each.values or ())]
