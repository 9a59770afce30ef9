"""Responses about measures, of 2026 and v5, parsed to readings."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from exporter.errors import NoDataError, ResponseError
from exporter.models import Commodity, Direction, Index, Interval, Peak, Reading, Register, Unit, UsagePoint
from exporter.portals.base import parse_response
from exporter.portals.enedis.measures import Measure, MeasureKind
from exporter.portals.enedis.response_models import (
    CalendarResponse,
    MeasureResponse2026,
    MeasureResponseV5,
    QuantityResponse,
    TariffClassResponse,
    ValueRow,
    ValueRowV5,
    is_v5,
)
from exporter.portals.enedis.timestamps import (
    StampedValue,
    day_span,
    local_day,
    parse_instant,
    parse_stamp,
    place_by_end,
    place_by_start,
)

UNIT_DIVISORS = {
    MeasureKind.DAYS: {"Wh": 1000, "kWh": 1},
    MeasureKind.INDEX: {"Wh": 1000, "kWh": 1},
    MeasureKind.CURVE: {"W": 1000, "kW": 1},
    MeasureKind.MAX: {"VA": 1000, "kVA": 1},
}
PHYSICAL_QUANTITIES = {MeasureKind.DAYS: "EA", MeasureKind.INDEX: "EA", MeasureKind.CURVE: "PA", MeasureKind.MAX: "PMA"}
FLOW_CODES = {Direction.CONSUMPTION: "CONS", Direction.INJECTION: "PROD"}
INTERVAL_LENGTHS = {timedelta(minutes=minutes) for minutes in (5, 10, 15, 30, 60)}
_LENGTH_PATTERN = re.compile(r"PT(?:(\d{1,2})H)?(?:(\d{1,2})M)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SeriesValues:
    """The values of one series as sent, and the divisor to kWh, kW or kVA."""

    divisor: int
    points: Sequence[ValueRow | ValueRowV5]


def parse_readings(body: Any, prm: str, measure: Measure, *, stamps_are_starts: bool = False) -> list[Reading]:
    """Return the readings of a response; with `stamps_are_starts` the timestamps of a load curve are starts of intervals.

    Raise NoDataError when it has no value, and ResponseError when it has changed.
    """
    try:
        found = list(_parse_series(body, UsagePoint(prm, Commodity.ELECTRICITY), measure, stamps_are_starts))
    except ValueError:
        raise ResponseError(f"the response of {measure.key} has changed: invalid stamp or length") from None
    if not found:
        raise NoDataError(f"the response of {measure.key} has no value")
    return found


def _parse_series(body: Any, point: UsagePoint, measure: Measure, stamps_are_starts: bool) -> Iterable[Reading]:
    if measure.kind is MeasureKind.INDEX:
        return _parse_indexes(body, point, measure)
    values = _parse_v5(body, point.id, measure) if is_v5(body) else _parse_2026(body, point.id, measure)
    if measure.kind is MeasureKind.MAX:
        return _build_peaks(values, point)
    register = Register(point, Unit.KWH, measure.direction)
    return (
        _build_days(values, register) if measure.kind is MeasureKind.DAYS else _build_curve(values, register, stamps_are_starts)
    )


def _build_days(values: SeriesValues, register: Register) -> Iterator[Interval]:
    for point in values.points:
        if point.value is not None:
            yield Interval(register, *day_span(local_day(parse_instant(point.stamp))), point.value / values.divisor)


def _build_peaks(values: SeriesValues, usage_point: UsagePoint) -> Iterator[Peak]:
    for point in values.points:
        if point.value is not None:
            at = parse_instant(point.stamp)
            yield Peak(usage_point, Unit.KVA, *day_span(local_day(at)), point.value / values.divisor, at)


def _build_curve(values: SeriesValues, register: Register, stamps_are_starts: bool) -> Iterator[Interval]:
    """Convert mean power to energy: W over 30 minutes is half as many Wh."""
    stamps = [
        StampedValue(parse_stamp(point.stamp), _parse_length(point.length), point.value)
        for point in values.points
        if point.value is not None
    ]
    for placed in (place_by_start if stamps_are_starts else place_by_end)(stamps):
        minutes = (placed.end - placed.start) // timedelta(minutes=1)
        yield Interval(register, placed.start, placed.end, placed.value * minutes / (60 * values.divisor))


def _parse_length(text: str | None) -> timedelta:
    """Parse "PT30M" or "PT1H". Raise ValueError, also for a length no meter has."""
    found = _LENGTH_PATTERN.fullmatch(text or "")
    length = timedelta(hours=int(found[1] or 0), minutes=int(found[2] or 0)) if found else timedelta(0)
    if length not in INTERVAL_LENGTHS:
        raise ValueError("not a length of intervals")
    return length


def _parse_v5(body: Any, prm: str, measure: Measure) -> SeriesValues:
    where = f"the response of {measure.key}"
    found = parse_response(MeasureResponseV5, body.get("meter_reading", body), where)
    _check_usage_point(found.prm, prm, where)
    return SeriesValues(_find_divisor(found.reading_type.unit, measure), found.values or ())


def _parse_2026(body: Any, prm: str, measure: Measure) -> SeriesValues:
    where = f"the response of {measure.key}"
    found = parse_response(MeasureResponse2026, body, where)
    _check_usage_point(found.prm, prm, where)
    series = _select_series([quantity for quantity in found.quantities or () if quantity.points], measure)
    return SeriesValues(_find_divisor(series.unit, measure), series.points or ()) if series else SeriesValues(1, ())


def _parse_indexes(body: Any, point: UsagePoint, measure: Measure) -> Iterator[Index]:
    where = f"the response of {measure.key}"
    found = parse_response(MeasureResponse2026, body, where)
    _check_usage_point(found.prm, point.id, where)
    ordinary_last = sorted(found.contexts or (), key=lambda context: context.occasion == "COL")
    series = [chosen for context in ordinary_last if (chosen := _select_series(context.quantities or (), measure))]
    if not series:
        return iter(())
    return build_indexes(series, point, measure.direction, _find_divisor(series[-1].unit, measure))


def _select_series(series: Sequence[QuantityResponse], measure: Measure) -> QuantityResponse | None:
    """Return the series of this measure among several; None for no series. Raise ResponseError when none matches."""
    for quantity in series:
        if (quantity.flow, quantity.physical) == (FLOW_CODES[measure.direction], PHYSICAL_QUANTITIES[measure.kind]):
            return quantity
    if series:
        raise ResponseError(
            f"the response of {measure.key} has changed: grandeurMetier and grandeurPhysique are of another series"
        )
    return None


def _find_divisor(unit: str, measure: Measure) -> int:
    scales = UNIT_DIVISORS[measure.kind]
    if unit not in scales:
        raise ResponseError(f"the response of {measure.key} has changed: its unit is none of {', '.join(scales)}")
    return scales[unit]


def _check_usage_point(found: str, prm: str, where: str) -> None:
    if found != prm:
        raise ResponseError(f"{where} is about another usage point than the requested one")


def build_indexes(series: Sequence[QuantityResponse], point: UsagePoint, direction: Direction, divisor: int) -> Iterator[Index]:
    """Return the readings of all series; of two of the same register and instant the later one counts.

    Raise ValueError for an invalid stamp.
    """
    indexes: dict[tuple[str, datetime], Index] = {}
    by_class = any(_select_used_classes(calendar) for quantity in series for calendar in quantity.calendars or ())
    for quantity in series:
        for name, label, value in _list_class_values(quantity) if by_class else _list_total_values(quantity):
            if value.value is not None:
                register = Register(point, Unit.KWH, direction, name, description=label)
                at = parse_instant(value.stamp)
                indexes[name, at] = Index(register, value.value / divisor, at)
    yield from sorted(indexes.values(), key=lambda index: index.at)


def _list_total_values(quantity: QuantityResponse) -> Iterator[tuple[str, str, ValueRow]]:
    for value in (quantity.total.values if quantity.total else None) or ():
        yield "total", "", value


def _list_class_values(quantity: QuantityResponse) -> Iterator[tuple[str, str, ValueRow]]:
    """Return name, label and reading of the classes; of several calendars the first that has a day is used for it."""
    covered: set[datetime] = set()
    for calendar in quantity.calendars or ():
        classes = _select_used_classes(calendar)
        calendar_instants = {parse_instant(value.stamp) for each in classes for value in each.values or ()}
        for each in classes:
            name = "total" if len(classes) == 1 else each.id
            for value in each.values or ():
                if parse_instant(value.stamp) not in covered:
                    yield name, each.label or "", value
        covered |= calendar_instants


def _select_used_classes(calendar: CalendarResponse) -> list[TariffClassResponse]:
    return [each for each in calendar.classes or () if any(value.value is not None for value in each.values or ())]
