"""The catalog of an account: its objects, meters and counters, their registers, and which of them are selected."""

import math
import sys
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from exporter.models import Commodity, Inventory, Nature, Register, UsagePoint
from exporter.portals.cem.config import CemConfig
from exporter.portals.cem.counter_types import (
    SAME_AMOUNTS,
    TARIFFS,
    TOTAL,
    CounterTypeInfo,
    UnitScale,
    build_type_info,
    is_known_factor,
)
from exporter.portals.cem.lists import CounterRow, CounterTypeRow, MeterRow, ObjectRow

MAX_LISTED_NUMBERS = 20
NEVER_READ = "never read"


@dataclass(frozen=True, slots=True)
class CounterSelection:
    """What the configuration selects, by the portal's numbers; an object includes everything below it."""

    counters: frozenset[int] = frozenset()
    excluded_counters: frozenset[int] = frozenset()
    objects: frozenset[int] = frozenset()
    excluded_objects: frozenset[int] = frozenset()
    include_states: bool = False
    include_removed: bool = False

    @classmethod
    def from_config(cls, config: CemConfig) -> "CounterSelection":
        """Return the selection of a configuration."""
        return cls(
            counters=config.counters.include,
            excluded_counters=config.counters.exclude,
            objects=config.objects.include,
            excluded_objects=config.objects.exclude,
            include_states=config.include_states,
            include_removed=config.include_removed,
        )

    @property
    def needs_objects(self) -> bool:
        """Whether it cannot be applied without the lists of objects and meters."""
        return bool(self.objects or self.excluded_objects)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One counter, at its lowest meter in service; `hidden_reason` is why it is not shown, empty when it is."""

    counter: CounterRow
    type_info: CounterTypeInfo
    register: Register
    hidden_reason: str = ""


class ObjectTree:
    """The tree of objects; loops, missing parents and objects without a name are common."""

    def __init__(self, objects: Iterable[ObjectRow]) -> None:
        self._by_id = {row.id: row for row in objects}

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._by_id

    def list_ancestors(self, object_id: int | None) -> list[ObjectRow]:
        """Return an object and what contains it, from the inside out."""
        ancestors: dict[int, ObjectRow] = {}
        while object_id is not None and object_id not in ancestors and object_id in self._by_id:
            ancestors[object_id] = self._by_id[object_id]
            object_id = ancestors[object_id].parent
        return list(ancestors.values())

    def list_named_ancestors(self, object_id: int | None) -> list[ObjectRow]:
        """Return those of them that have a name, from the inside out."""
        return [row for row in self.list_ancestors(object_id) if row.name]

    def find_site_name(self, object_id: int | None) -> str:
        """Return the nearest name from the inside out, else the object's number."""
        named = self.list_named_ancestors(object_id)
        return named[0].name if named else "" if object_id is None else str(object_id)


@dataclass(frozen=True)
class Catalog:
    """Everything that an account holds, and what the configuration selects of it."""

    objects: ObjectTree
    meters: dict[int, MeterRow]
    counters: dict[int, list[CounterRow]]
    """Every row of a counter, by its number: a shared counter is listed under several meters."""
    types: dict[int, CounterTypeRow]
    selection: CounterSelection = field(default_factory=CounterSelection)
    known: Mapping[int, Register] = field(default_factory=dict)
    """Registers made of earlier lists: those that are as they were are used on."""

    @cached_property
    def entries(self) -> dict[int, CatalogEntry]:
        """Every counter of the account, by its number."""
        points = self._build_usage_point_factory()
        return {number: self._build_entry(rows, points) for number, rows in self.counters.items()}

    @cached_property
    def selected(self) -> dict[int, CatalogEntry]:
        """The counters that are shown; those that another one of the same meter counts too name it."""
        selected = {number: entry for number, entry in self.entries.items() if not entry.hidden_reason}
        for part, whole in _find_wholes(self.entries.values()):
            if part in selected and whole in selected:
                register = replace(selected[part].register, part_of=str(whole))
                selected[part] = replace(selected[part], register=self._use_known(part, register))
        return selected

    @cached_property
    def type_infos(self) -> dict[int, CounterTypeInfo]:
        """What each counter type in use means, listed by the portal or not."""
        used = {row.type for rows in self.counters.values() for row in rows}
        used |= {meter.main_type for meter in self.meters.values() if meter.main_type is not None}
        return {number: build_type_info(number, self.types.get(number)) for number in used}

    def build_inventory(self) -> Inventory:
        """Return the usage points and registers that are shown."""
        registers = tuple(entry.register for entry in self.selected.values())
        return Inventory(tuple(dict.fromkeys(register.usage_point for register in registers)), registers)

    def build_notes(self) -> list[str]:
        """Return notes on what is selected but does not exist, and on unknown counter types."""
        counters = (self.selection.counters | self.selection.excluded_counters) - self.counters.keys()
        objects = {number for number in self.selection.objects | self.selection.excluded_objects if number not in self.objects}
        unknown = {entry.counter.type for entry in self.selected.values() if not entry.type_info.is_known}
        multiplied = {number for number, entry in self.selected.items() if entry.counter.multiplier is not None}
        texts = [
            ("selected counters that this account does not hold", counters),
            ("selected objects that this account does not hold", objects),
            ("counter types of an unknown kind of value, shown as momentary values", unknown),
            ("counters with a multiplier (var_nasob) other than 1, shown as the portal states them, without it", multiplied),
        ]
        notes = [f"{text}: {format_numbers(numbers)}" for text, numbers in texts if numbers]
        if not self.selected:
            notes.append("No counter is left to show: check `counters` and `objects`.")
        return notes

    def find_never_read_counters(self) -> frozenset[int]:
        """Return the counters that are selected by number and have never been read."""
        return frozenset(n for n in self.selection.counters & self.selected.keys() if self.selected[n].counter.time is None)

    def _build_entry(self, rows: list[CounterRow], points: Callable[[CounterRow], UsagePoint]) -> CatalogEntry:
        row = rows[0]
        type_info = self.type_infos[row.type]
        register = Register(
            usage_point=points(row),
            unit=type_info.scale.unit,
            direction=type_info.direction,
            name=str(row.id),
            nature=type_info.nature,
            kind=type_info.key,
            portal_unit=type_info.portal_unit,
            description=row.name,
            value_type=type_info.value_type_name,
            type_id=sys.intern(str(row.type)),
        )
        return CatalogEntry(row, type_info, self._use_known(row.id, register), self._find_hidden_reason(rows, type_info))

    def _use_known(self, number: int, register: Register) -> Register:
        """Return the known register of a counter if it is equal: the ledger knows it, and a city's take 50 MB."""
        known = self.known.get(number)
        return known if known == register and known is not None else register

    def _find_hidden_reason(self, rows: list[CounterRow], type_info: CounterTypeInfo) -> str:
        row, selection = rows[0], self.selection
        if row.id in selection.counters:
            return ""
        if row.id in selection.excluded_counters or not any(map(self._is_in_selected_object, rows)):
            return "not selected"
        meter = self.meters.get(row.meter)
        if meter and meter.removed is not None and not selection.include_removed:
            return "removed"
        if row.service:
            return "service counter"
        if type_info.nature is Nature.STATE and not selection.include_states:
            return "state"
        return NEVER_READ if row.value is None or row.time is None else ""

    def _is_in_selected_object(self, row: CounterRow) -> bool:
        """Return whether the selected objects contain a counter: the nearest object in the configuration decides."""
        selection = self.selection
        if not (selection.objects or selection.excluded_objects):
            return not selection.counters
        meter = self.meters.get(row.meter)
        for row_above in self.objects.list_ancestors(meter.object_id if meter else None):
            if row_above.id in selection.excluded_objects or row_above.id in selection.objects:
                return row_above.id in selection.objects
        return not (selection.objects or selection.counters)

    @cached_property
    def _rows_by_meter(self) -> dict[int, list[CounterRow]]:
        """The counters by meter: seldom needed, for most meters state their main type."""
        by_meter: dict[int, list[CounterRow]] = defaultdict(list)
        for rows in self.counters.values():
            for row in rows:
                by_meter[row.meter].append(row)
        return by_meter

    def _build_usage_point_factory(self) -> Callable[[CounterRow], UsagePoint]:
        points: dict[int, UsagePoint] = {}

        def get_usage_point(row: CounterRow) -> UsagePoint:
            if (point := points.get(row.meter)) is None:
                point, known = self._build_usage_point(row.meter), self.known.get(row.id)
                point = points[row.meter] = known.usage_point if known and known.usage_point == point else point
            return point

        return get_usage_point

    def _build_usage_point(self, number: int) -> UsagePoint:
        meter = self.meters.get(number)
        site = self.objects.find_site_name(meter.object_id) if meter else ""
        commodity = self._find_commodity(number, meter)
        if meter is None:
            return UsagePoint(str(number), commodity)
        place_id = "" if meter.object_id is None else str(meter.object_id)
        # The serial number is copied: the row's own would keep the memory around it from being returned.
        return UsagePoint(str(number), commodity, meter.serial.encode().decode(), site, meter.name, place_id=place_id)

    def _find_commodity(self, number: int, meter: MeterRow | None) -> Commodity:
        """Return what a meter measures: by its main type, its main counter, then the first counter with a commodity."""
        if meter and meter.main_type is not None:
            commodity = self.type_infos[meter.main_type].commodity
            if commodity is not Commodity.OTHER:
                return commodity
        rows = sorted(self._rows_by_meter[number], key=lambda row: (not row.primary, row.id))
        commodities = (self.type_infos[row.type].commodity for row in rows)
        return next((commodity for commodity in commodities if commodity is not Commodity.OTHER), Commodity.OTHER)


def build_catalog(
    objects: Iterable[ObjectRow],
    meters: Iterable[MeterRow],
    counters: Iterable[CounterRow],
    types: Iterable[CounterTypeRow],
    selection: CounterSelection,
    known: Mapping[int, Register] | None = None,
) -> Catalog:
    """Return the catalog of the lists; the rows of a shared counter are sorted by meters in service, then by number.

    Of a meter that is listed twice, open and closed, the open row counts.
    """
    by_id: dict[int, MeterRow] = {}
    for meter in meters:
        listed = by_id.get(meter.id)
        if listed is None or (listed.removed is not None and (meter.removed is None or meter.removed > listed.removed)):
            by_id[meter.id] = meter
    by_counter: dict[int, list[CounterRow]] = defaultdict(list)
    for row in counters:
        by_counter[row.id].append(row)
    for rows in by_counter.values():
        if len(rows) > 1:
            rows.sort(key=lambda row: (row.meter in by_id and by_id[row.meter].removed is not None, row.meter))
    catalog = Catalog(ObjectTree(objects), by_id, dict(by_counter), {row.id: row for row in types}, selection, known or {})
    _ = catalog.selected  # computed here, where it may be slow
    return catalog


def _find_wholes(entries: Iterable[CatalogEntry]) -> Iterator[tuple[int, int]]:
    """Yield counters that another counter of the same meter counts too, with that one.

    Only where both the types and the last values say so: a wrong guess would lose an amount.
    """
    kinds = {*TARIFFS, TOTAL, *(key for pair in SAME_AMOUNTS for key in pair)}
    by_meter: dict[int, list[CatalogEntry]] = defaultdict(list)
    for entry in entries:
        if entry.type_info.short_key in kinds:
            by_meter[entry.counter.meter].append(entry)
    for some in by_meter.values():
        if len(some) > 1:
            yield from _find_wholes_of_meter(some)


def _find_wholes_of_meter(entries: Iterable[CatalogEntry]) -> Iterator[tuple[int, int]]:
    by_key: dict[str, list[CatalogEntry]] = defaultdict(list)
    for entry in entries:
        by_key[entry.type_info.short_key].append(entry)
    for keys, whole_key in [(TARIFFS, TOTAL), *(((part,), whole) for part, whole in SAME_AMOUNTS)]:
        parts, wholes = [entry for key in keys for entry in by_key[key]], by_key[whole_key]
        is_one_each = all(len(by_key[key]) <= 1 for key in keys) and len(wholes) == 1
        if parts and is_one_each and _is_sum(parts, wholes[0]):
            yield from ((part.counter.id, wholes[0].counter.id) for part in parts)


MIN_COMPARED_VALUE = 10.0
"""kWh; below it sums agree by chance."""


def _is_sum(parts: Sequence[CatalogEntry], whole: CatalogEntry) -> bool:
    """Return whether the last values of `parts` add up to that of `whole`; they may have been read an hour apart."""
    stated = [entry.type_info.scale(entry.counter.value) for entry in (*parts, whole) if entry.counter.value is not None]
    if len(stated) <= len(parts) or stated[-1] < MIN_COMPARED_VALUE:
        return False
    return abs(sum(stated[:-1]) - stated[-1]) <= max(0.01 * stated[-1], 1.0)


def build_never_read_notes(counters: Iterable[int]) -> list[str]:
    """Return a note on the counters that have never been read, if there are any."""
    return [f"selected counters that have never been read: {text}"] if (text := format_numbers(counters)) else []


def format_numbers(numbers: Iterable[int]) -> str:
    """Return numbers in order, as text, only the first ones of many."""
    ordered = sorted(numbers)
    more = len(ordered) - MAX_LISTED_NUMBERS
    return ", ".join(map(str, ordered[:MAX_LISTED_NUMBERS])) + (f" and {more} more" if more > 0 else "")


StatedValues = tuple[Sequence[int], Sequence[float], Sequence[int]]
"""The numbers of counters, their values and times (milliseconds)."""


@dataclass(frozen=True, slots=True)
class SelectedCounters:
    """What every visit needs of a catalog: the counters that are shown, by their numbers."""

    registers: Mapping[int, Register]
    """The register of each counter."""
    scales: Mapping[str, UnitScale]
    """How the portal's numbers become ours, by the portal's number of the type."""
    inventory: Inventory
    notes: tuple[str, ...]
    never_read: frozenset[int]
    """Counters selected by number that were never read."""
    counter_count: int
    """How many counters the account has, shown or not."""

    @classmethod
    def from_catalog(
        cls, catalog: Catalog, notes: Iterable[str] = (), *, before: "SelectedCounters | None" = None
    ) -> "SelectedCounters":
        """Return what visits need of a catalog; `notes` are on the lists it was made of.

        What is as it was are the very objects of `before`.
        """
        # Numbers of their own: those of the rows would keep the memory of the rows from being returned.
        registers: Mapping[int, Register] = {int(entry.register.name): entry.register for entry in catalog.selected.values()}
        is_known = before is not None and registers == before.registers
        return cls(
            registers=before.registers if before and is_known else registers,
            scales={str(number): info.scale for number, info in catalog.type_infos.items()},
            inventory=before.inventory if before and is_known else catalog.build_inventory(),
            notes=(*notes, *catalog.build_notes()),
            never_read=catalog.find_never_read_counters(),
            counter_count=len(catalog.entries),
        )


@dataclass(frozen=True, slots=True)
class CachedSelection:
    """Selected counters, the selection they belong to, and from when to when they are good."""

    selection: CounterSelection
    made_at: datetime
    due_at: datetime
    selected: SelectedCounters


class LastValues:
    """What registers showed last, by counter, in the portal's numbers: kept in the process, so in two arrays."""

    def __init__(self, counters: Iterable[int]) -> None:
        self._counters = array("q", sorted(counters))
        self._values = array("d", [math.nan]) * len(self._counters)

    def put(self, counter: int, value: float) -> None:
        """Keep the value of a counter; one that is not known is ignored."""
        place = bisect_left(self._counters, counter)
        if place < len(self._counters) and self._counters[place] == counter:
            self._values[place] = value

    def has_changed_unit(self, counter: int, value: float) -> bool:
        """Return whether a value is the last one times a known factor, as it is when the unit has changed."""
        place = bisect_left(self._counters, counter)
        if place >= len(self._counters) or self._counters[place] != counter:
            return False
        before = self._values[place]
        return before > 0 and value > 0 and not 0.5 < value / before < 2 and is_known_factor(value / before)
