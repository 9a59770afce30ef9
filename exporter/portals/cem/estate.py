"""An account's objects, meters and counters put together: names, registers, and which of them are shown."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from exporter.model import Commodity, Inventory, Nature, Note, Register, UsagePoint
from exporter.portals.cem.answers import Counter, CounterType, Meter, Place
from exporter.portals.cem.kinds import Kind, kind_of

MOST_NAMED = 20
NEVER_READ = "never read"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the configuration selects, by the portal's numbers; an object takes along what lies below it."""

    counters: frozenset[int] = frozenset()
    not_counters: frozenset[int] = frozenset()
    objects: frozenset[int] = frozenset()
    not_objects: frozenset[int] = frozenset()
    states: bool = False
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One counter as it is shown: once, at the lowest meter in service; `hidden` says why it is not shown, or nothing."""

    counter: Counter
    kind: Kind
    register: Register
    hidden: str = ""


class Tree:
    """The tree of objects; loops, missing parents and nameless objects are the portal's daily bread."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._by_id = {place.id: place for place in places}

    def __contains__(self, place: object) -> bool:
        return place in self._by_id

    def above(self, place: int | None) -> list[Place]:
        """Give an object and what it lies in, from the inside out."""
        found: dict[int, Place] = {}
        while place is not None and place not in found and place in self._by_id:
            found[place] = self._by_id[place]
            place = found[place].parent
        return list(found.values())

    def named(self, place: int | None) -> list[Place]:
        """Give those of them that have a name, from the inside out."""
        return [above for above in self.above(place) if above.name]

    def site(self, place: int | None) -> str:
        """Name the site: the nearest name from the inside out, else the object's number."""
        named = self.named(place)
        return named[0].name if named else "" if place is None else str(place)


@dataclass(frozen=True)
class Estate:
    """All that an account holds, and what the configuration chooses of it."""

    places: Tree
    meters: dict[int, Meter]
    counters: dict[int, list[Counter]]
    """Every row of a counter, by its number: a shared counter is listed under several meters."""
    types: dict[int, CounterType]
    choice: Choice = field(default_factory=Choice)

    @cached_property
    def lines(self) -> dict[int, Line]:
        """Every counter of the account, by its number."""
        points = self._points()
        return {number: self._line(rows, points) for number, rows in self.counters.items()}

    @cached_property
    def chosen(self) -> dict[int, Line]:
        """The counters that are shown."""
        return {number: line for number, line in self.lines.items() if not line.hidden}

    @cached_property
    def kinds(self) -> dict[int, Kind]:
        """What counters of each type are, listed or not."""
        used = {row.type for rows in self.counters.values() for row in rows}
        used |= {meter.main_type for meter in self.meters.values() if meter.main_type is not None}
        return {number: kind_of(number, self.types.get(number)) for number in used}

    def inventory(self) -> Inventory:
        """List the points and registers that are shown."""
        registers = tuple(line.register for line in self.chosen.values())
        return Inventory(tuple(dict.fromkeys(register.point for register in registers)), registers)

    def notes(self) -> list[Note]:
        """Say what is selected but not there, and which types are not understood."""
        counters = (self.choice.counters | self.choice.not_counters) - self.counters.keys()
        objects = {place for place in self.choice.objects | self.choice.not_objects if place not in self.places}
        strange = {line.counter.type for line in self.chosen.values() if not line.kind.known}
        found = [
            ("selected counters that this account does not hold", counters),
            ("selected objects that this account does not hold", objects),
            ("counter types of an unknown kind of value, shown as momentary values", strange),
        ]
        return [Note(f"{text}: {listed(numbers)}") for text, numbers in found if numbers]

    def waiting(self) -> frozenset[int]:
        """Give the counters that were asked for by number and have never been read."""
        return frozenset(n for n in self.choice.counters & self.chosen.keys() if self.chosen[n].counter.time is None)

    def _line(self, rows: list[Counter], points: Callable[[int], UsagePoint]) -> Line:
        row = rows[0]
        kind = self.kinds[row.type]
        register = Register(
            point=points(row.meter),
            unit=kind.scale.unit,
            direction=kind.direction,
            name=str(row.id),
            nature=kind.nature,
            kind=kind.key,
            portal_unit=kind.portal_unit,
            description=row.name,
        )
        return Line(row, kind, register, self._hidden(rows, kind))

    def _hidden(self, rows: list[Counter], kind: Kind) -> str:
        row, choice = rows[0], self.choice
        if row.id in choice.counters:
            return ""
        if row.id in choice.not_counters or not any(map(self._inside, rows)):
            return "not selected"
        meter = self.meters.get(row.meter)
        if meter and meter.removed is not None and not choice.removed:
            return "removed"
        if row.service:
            return "service counter"
        if kind.nature is Nature.STATE and not choice.states:
            return "state"
        return NEVER_READ if row.value is None or row.time is None else ""

    def _inside(self, row: Counter) -> bool:
        """Whether the objects chosen hold a counter: the nearest object that is named in the configuration decides."""
        choice = self.choice
        if not (choice.objects or choice.not_objects):
            return not choice.counters
        meter = self.meters.get(row.meter)
        for place in self.places.above(meter.place if meter else None):
            if place.id in choice.not_objects or place.id in choice.objects:
                return place.id in choice.objects
        return not (choice.objects or choice.counters)

    def _points(self) -> Callable[[int], UsagePoint]:
        by_meter: dict[int, list[Counter]] = defaultdict(list)
        for rows in self.counters.values():
            for row in rows:
                by_meter[row.meter].append(row)
        made: dict[int, UsagePoint] = {}

        def point(number: int) -> UsagePoint:
            if number not in made:
                made[number] = self._point(number, by_meter[number])
            return made[number]

        return point

    def _point(self, number: int, counters: list[Counter]) -> UsagePoint:
        meter = self.meters.get(number)
        site = self.places.site(meter.place) if meter else ""
        commodity = self._commodity(meter, counters)
        return UsagePoint(str(number), commodity, meter.serial if meter else "", site, meter.name if meter else "")

    def _commodity(self, meter: Meter | None, counters: list[Counter]) -> Commodity:
        """Say what a meter measures: by its main type, its main counter, then the first one that says so."""
        main = [meter.main_type] if meter and meter.main_type is not None else []
        rest = [row.type for row in sorted(counters, key=lambda row: (not row.primary, row.id))]
        commodities = (self.kinds[number].commodity for number in main + rest)
        return next((commodity for commodity in commodities if commodity is not Commodity.OTHER), Commodity.OTHER)


def put_together(
    places: Iterable[Place], meters: Iterable[Meter], counters: Iterable[Counter], types: Iterable[CounterType], choice: Choice
) -> Estate:
    """Join the lists of an account; the rows of a shared counter go by meters in service first, the lowest number first."""
    by_id = {meter.id: meter for meter in meters}
    by_counter: dict[int, list[Counter]] = defaultdict(list)
    for row in counters:
        by_counter[row.id].append(row)
    for rows in by_counter.values():
        if len(rows) > 1:
            rows.sort(key=lambda row: (row.meter in by_id and by_id[row.meter].removed is not None, row.meter))
    estate = Estate(Tree(places), by_id, dict(by_counter), {kind.id: kind for kind in types}, choice)
    _ = estate.chosen  # worked out here, where it may take its time
    return estate


def never_read(waiting: Iterable[int]) -> list[Note]:
    """Say which counters have never been read."""
    return [Note(f"selected counters that have never been read: {said}")] if (said := listed(waiting)) else []


def listed(numbers: Iterable[int]) -> str:
    """Write numbers in order, the first ones of many."""
    ordered = sorted(numbers)
    more = len(ordered) - MOST_NAMED
    return ", ".join(map(str, ordered[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
