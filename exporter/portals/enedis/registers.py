"""Register readings: one register a tariff class, or one total; never a total beside its parts."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from exporter.model import Direction, Index, Register, Unit, UsagePoint
from exporter.portals.enedis.forms import Calendar, Point, Quantity, TariffClass
from exporter.portals.enedis.stamps import instant


def registers(series: Sequence[Quantity], point: UsagePoint, direction: Direction, scale: int) -> Iterator[Index]:
    """Give the readings of all series; of two of the same register and instant the later one counts.

    Raises ValueError for a stamp that is none.
    """
    kept: dict[tuple[str, datetime], Index] = {}
    by_class = any(_classes(calendar) for quantity in series for calendar in quantity.calendars or ())
    for quantity in series:
        for name, label, value in _by_class(quantity) if by_class else _total(quantity):
            if value.value is not None:
                register = Register(point, Unit.KWH, direction, name, description=label)
                at = instant(value.stamp)
                kept[name, at] = Index(register, value.value / scale, at)
    yield from sorted(kept.values(), key=lambda index: index.at)


def _total(quantity: Quantity) -> Iterator[tuple[str, str, Point]]:
    for value in (quantity.total.values if quantity.total else None) or ():
        yield "total", "", value


def _by_class(quantity: Quantity) -> Iterator[tuple[str, str, Point]]:
    """Give name, label and reading of the classes; of several calendars the first that speaks of a day tells it whole."""
    told: set[datetime] = set()
    for calendar in quantity.calendars or ():
        classes = _classes(calendar)
        speaks_of = {instant(value.stamp) for each in classes for value in each.values or ()}
        for each in classes:
            name = "total" if len(classes) == 1 else each.id
            for value in each.values or ():
                if instant(value.stamp) not in told:
                    yield name, each.label or "", value
        told |= speaks_of


def _classes(calendar: Calendar) -> list[TariffClass]:
    return [each for each in calendar.classes or () if any(value.value is not None for value in each.values or ())]
