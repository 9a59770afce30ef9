"""Answers of measures understood: days, largest power and load curve, in both forms."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from exporter.errors import NoDataError, ResponseError
from exporter.model import Commodity, Direction, Index, Interval, Peak, Reading, Register, Unit, UsagePoint
from exporter.portals.base import understand
from exporter.portals.enedis.forms import Answer2026, AnswerV5, OldValue, Point, Quantity, is_v5
from exporter.portals.enedis.measures import Kind, Measure
from exporter.portals.enedis.registers import registers
from exporter.portals.enedis.stamps import (
    Stamp,
    day_span,
    instant,
    intervals_by_end,
    intervals_by_start,
    local_day,
    naive_or_aware,
)

SCALE = {
    Kind.DAYS: {"Wh": 1000, "kWh": 1},
    Kind.INDEX: {"Wh": 1000, "kWh": 1},
    Kind.CURVE: {"W": 1000, "kW": 1},
    Kind.MAX: {"VA": 1000, "kVA": 1},
}
PHYSICAL = {Kind.DAYS: "EA", Kind.INDEX: "EA", Kind.CURVE: "PA", Kind.MAX: "PMA"}
FLOW = {Direction.CONSUMPTION: "CONS", Direction.INJECTION: "PROD"}
LENGTHS = {timedelta(minutes=minutes) for minutes in (5, 10, 15, 30, 60)}
_LENGTH = re.compile(r"PT(?:(\d{1,2})H)?(?:(\d{1,2})M)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one series, as sent, and by what to divide them to have kWh, kW or kVA."""

    scale: int
    points: Sequence[Point | OldValue]


def readings(answer: Any, prm: str, measure: Measure, *, starts: bool = False) -> list[Reading]:
    """Understand an answer; `starts` says that the stamps of a load curve are starts of intervals.

    Raises NoDataError when it holds no value, and ResponseError when it is not what it was.
    """
    try:
        found = list(_readings(answer, UsagePoint(prm, Commodity.ELECTRICITY), measure, starts))
    except ValueError:
        raise ResponseError(f"the answer of {measure.key} has changed: a stamp or a length is not understood") from None
    if not found:
        raise NoDataError(f"the answer of {measure.key} holds no value")
    return found


def _readings(answer: Any, point: UsagePoint, measure: Measure, starts: bool) -> Iterable[Reading]:
    if measure.kind is Kind.INDEX:
        return _indexes(answer, point, measure)
    values = _v5(answer, point.id, measure) if is_v5(answer) else _2026(answer, point.id, measure)
    if measure.kind is Kind.MAX:
        return _peaks(values, point)
    register = Register(point, Unit.KWH, measure.direction)
    return _days(values, register) if measure.kind is Kind.DAYS else _curve(values, register, starts)


def _days(values: Values, register: Register) -> Iterator[Interval]:
    for point in values.points:
        if point.value is not None:
            yield Interval(register, *day_span(local_day(instant(point.stamp))), point.value / values.scale)


def _peaks(values: Values, usage_point: UsagePoint) -> Iterator[Peak]:
    for point in values.points:
        if point.value is not None:
            at = instant(point.stamp)
            yield Peak(usage_point, Unit.KVA, *day_span(local_day(at)), point.value / values.scale, at)


def _curve(values: Values, register: Register, starts: bool) -> Iterator[Interval]:
    """Make energy of mean power: W over 30 minutes is half as many Wh."""
    stamps = [
        Stamp(naive_or_aware(point.stamp), _length(point.length), point.value)
        for point in values.points
        if point.value is not None
    ]
    for placed in (intervals_by_start if starts else intervals_by_end)(stamps):
        minutes = (placed.end - placed.start) // timedelta(minutes=1)
        yield Interval(register, placed.start, placed.end, placed.value * minutes / (60 * values.scale))


def _length(text: str | None) -> timedelta:
    """Read "PT30M" or "PT1H". Raises ValueError, also for a length no meter has."""
    found = _LENGTH.fullmatch(text or "")
    length = timedelta(hours=int(found[1] or 0), minutes=int(found[2] or 0)) if found else timedelta(0)
    if length not in LENGTHS:
        raise ValueError("not a length of intervals")
    return length


def _v5(answer: Any, prm: str, measure: Measure) -> Values:
    where = f"the answer of {measure.key}"
    found = understand(AnswerV5, answer.get("meter_reading", answer), where)
    _of(found.prm, prm, where)
    return Values(_scale(found.reading_type.unit, measure), found.values or ())


def _2026(answer: Any, prm: str, measure: Measure) -> Values:
    where = f"the answer of {measure.key}"
    found = understand(Answer2026, answer, where)
    _of(found.prm, prm, where)
    series = _chosen([quantity for quantity in found.quantities or () if quantity.points], measure)
    return Values(_scale(series.unit, measure), series.points or ()) if series else Values(1, ())


def _indexes(answer: Any, point: UsagePoint, measure: Measure) -> Iterator[Index]:
    where = f"the answer of {measure.key}"
    found = understand(Answer2026, answer, where)
    _of(found.prm, point.id, where)
    ordinary_last = sorted(found.contexts or (), key=lambda context: context.occasion == "COL")
    series = [chosen for context in ordinary_last if (chosen := _chosen(context.quantities or (), measure))]
    if not series:
        return iter(())
    return registers(series, point, measure.direction, _scale(series[-1].unit, measure))


def _chosen(series: Sequence[Quantity], measure: Measure) -> Quantity | None:
    """Choose the series of this measure among several; raises ResponseError when there are some and none is it."""
    for quantity in series:
        if (quantity.flow, quantity.physical) == (FLOW[measure.direction], PHYSICAL[measure.kind]):
            return quantity
    if series:
        raise ResponseError(f"the answer of {measure.key} has changed: grandeurMetier and grandeurPhysique name other series")
    return None


def _scale(unit: str, measure: Measure) -> int:
    scales = SCALE[measure.kind]
    if unit not in scales:
        raise ResponseError(f"the answer of {measure.key} has changed: its unit is none of {', '.join(scales)}")
    return scales[unit]


def _of(named: str, prm: str, where: str) -> None:
    if named != prm:
        raise ResponseError(f"{where} speaks of another usage point than the one asked for")
