"""An invented housing company: houses of twelve flats, a boiler room, a roof with solar panels; all names are made up."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from exporter.demo.cem.curves import EPOCH, Amount, Contact, Curve, Level, Profile, Register, chance, readings

FLATS_IN_A_HOUSE = 12
REPLACED = datetime(2025, 3, 3, 9, 20, tzinfo=UTC)
"""When the cold water meter of the third flat was changed for a new one."""
LEAK = 0.045
"""m³ an hour that the leaking flat loses."""
POINT, HOUSE, FLAT, ROOM = -1000, 1, 3, 5
"""Kinds of place; a point is the nameless spot where a meter hangs."""

COLD = Register(0.11, 0.0, Profile.TAP)
HOT = Register(0.07, 0.1, Profile.TAP)
HEAT = Register(0.055, 0.9, Profile.HEATING)
POWER = Register(5.2, 0.2, Profile.POWER)
GAS = Register(38.0, 0.8, Profile.HEATING)
SOLAR = Register(26.0, -0.7, Profile.SUN)
HOUSE_POWER = Register(19.0, 0.1, Profile.POWER)
HOUSE_HEAT = Register(0.9, 0.9, Profile.HEATING)
METER_NAMES = {
    3: "cold water",
    4: "power",
    5: "hot water",
    6: "gas",
    7: "climate",
    9: "temperature",
    14: "heat",
    27: "solar",
    None: "door",
}
INDOOR, OUTDOOR = Level(21.5, 1.2, 1.5, 0.6), Level(9.5, 4.0, 11.0, 2.0)
HUMIDITY, FLOW, RADIO = Level(46.0, 4.0, 6.0, 5.0), Level(48.0, 3.0, -14.0, 3.0), Level(-74.0, 0.0, 0.0, 9.0)


@dataclass(frozen=True, slots=True)
class Place:
    """An object."""

    id: int
    parent: int | None
    kind: int
    name: str


@dataclass(frozen=True, slots=True)
class Meter:
    """A device at a place."""

    id: int
    place: int
    serial: str | None
    main_type: int | None
    since: datetime
    removed: datetime | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Counter:
    """One measured quantity, in the portal's unit, with `digits` after the point."""

    id: int
    meters: tuple[int, ...]
    type: int
    curve: Curve
    since: datetime
    until: datetime | None = None
    digits: int = 3
    primary: bool = True
    service: bool | None = None
    name: str | None = None
    read: bool = True


@dataclass
class Building:
    """Places, meters and counters; `leak_from` is when the leak in the second flat begins."""

    flats: int
    leak_from: datetime
    places: list[Place] = field(default_factory=list)
    meters: list[Meter] = field(default_factory=list)
    counters: dict[int, Counter] = field(default_factory=dict)
    special: dict[str, int] = field(default_factory=dict)
    """Counters that tests and the demo speak of, by a word."""

    def __post_init__(self) -> None:
        self._numbers = {"place": count(9100), "meter": count(70001), "counter": count(80001)}
        # The company's own parent is not in the answer: that happens.
        self._company = self._place(9000, HOUSE, "SVJ Ukázka")
        self._common()
        house = self._company
        for flat in range(self.flats):
            if flat % FLATS_IN_A_HOUSE == 0:
                house = self._place(self._company, HOUSE, f"Vchod {flat // FLATS_IN_A_HOUSE + 1}")
            self._flat(self._place(house, FLAT, f"Byt {flat + 1}"), flat)

    def meter_names(self) -> dict[str, str]:
        """Return a name for every meter by its number: where it hangs and what it measures."""
        places = {place.id: place for place in self.places}
        names: dict[str, str] = {}
        for meter in self.meters:
            point = places[meter.place]
            name = f"{places[point.parent or meter.place].name} {METER_NAMES.get(meter.main_type, 'meter')}"
            names[str(meter.id)] = f"{name} {meter.id}" if name in names.values() else name
        return names

    def truth(self, counter: int, at: datetime) -> float:
        """What a counter shows at an instant, in the portal's unit, rounded as the portal does."""
        one = self.counters[counter]
        value = one.curve.at(one.id, at)
        if isinstance(one.curve, Register):
            value -= one.curve.at(one.id, one.since)
        if counter == self.special.get("leak") and at > self.leak_from:
            value += LEAK * (at - self.leak_from) / timedelta(hours=1)
        return round(value, one.digits)

    def readings(self, counter: int, start: datetime, end: datetime, now: datetime) -> list[tuple[datetime, float]]:
        """Give the readings taken in [start, end) that the portal has by `now`, oldest first."""
        one = self.counters[counter]
        if not one.read:
            return []
        first, last = max(start, one.since), min(end, now, one.until or now)
        return [(at, self.truth(counter, at)) for at, here in readings(one.id, first, last) if here <= now]

    def last(self, counter: int, now: datetime) -> tuple[datetime, float] | None:
        """Give the newest reading that the portal has by `now`; None for a counter that was never read."""
        end = min(now, self.counters[counter].until or now)
        found = self.readings(counter, end - timedelta(hours=3), end, now)
        return found[-1] if found else None

    def _flat(self, place: int, flat: int) -> None:
        # Households differ: half to twice as much as the mean one.
        cold, hot, heat, power = (
            replace(one, daily=one.daily * 2 ** (2 * chance(flat, n) - 1)) for n, one in enumerate((COLD, HOT, HEAT, POWER))
        )
        old = self._meter(place, 3, removed=REPLACED) if flat == 2 else None
        if old:
            self._counter("removed", [old], 3, cold, until=REPLACED)
        since = REPLACED if old else EPOCH
        names = {1: "leak", 2: "replacement"}
        self._counter(names.get(flat, f"cold {flat + 1}"), [self._meter(place, 3, since=since)], 3, cold, since=since)
        self._counter(f"hot {flat + 1}", [self._meter(place, 5)], 5, hot)
        self._counter(f"heat {flat + 1}", [self._meter(place, 14)], 14, heat)
        self._counter(f"power {flat + 1}", [self._meter(place, 4)], 4, power)
        sensor = self._meter(place, 7)
        self._counter(f"indoor {flat + 1}", [sensor], 7, INDOOR, digits=1)
        self._counter(f"humidity {flat + 1}", [sensor], 12, HUMIDITY, digits=1, primary=False)

    def _common(self) -> None:
        room, roof = self._place(self._company, ROOM, "Kotelna"), self._place(self._company, ROOM, "Střecha")
        self._counter("gas", [self._meter(room, 6)], 6, GAS)
        heat = self._meter(room, 14, name="Hlavní měřič tepla")
        self._counter("house heat", [heat], 14, HOUSE_HEAT)
        self._counter("flow", [heat], 19, FLOW, digits=1, primary=False)
        self._counter("radio", [heat], 101, RADIO, digits=0, primary=False, service=True)
        solar = self._meter(roof, 27)
        self._counter("solar", [solar], 27, SOLAR)
        self._counter("solar hourly", [solar], 36, Amount(SOLAR), primary=False)
        self._counter("outdoor", [self._meter(roof, 9, serial=False)], 9, OUTDOOR, digits=1)
        door = self._meter(self._company, None)
        self._counter("door", [door], 45, Contact(), digits=0, name="Dveře do sklepa")
        shared = [self._meter(room, 4), self._meter(roof, 4)]
        self._counter("shared", shared, 4, HOUSE_POWER, name="Společná spotřeba")
        self._counter("load", shared[:1], 33, Level(6.5, 2.5, -1.0, 2.0), primary=False)
        self._counter("never read", [self._meter(room, 3)], 3, COLD, read=False)

    def _place(self, parent: int | None, kind: int, name: str) -> int:
        number = next(self._numbers["place"])
        self.places.append(Place(number, parent, kind, name))
        return number

    def _meter(
        self,
        place: int,
        main_type: int | None,
        *,
        since: datetime = EPOCH,
        removed: datetime | None = None,
        name: str | None = None,
        serial: bool = True,
    ) -> int:
        number = next(self._numbers["meter"])
        point = self._place(place, POINT, "")
        written = f"SIM{number:07d}" if serial else None
        self.meters.append(Meter(number, point, written, main_type, since, removed, name))
        return number

    def _counter(
        self,
        word: str,
        meters: list[int],
        kind: int,
        curve: Curve,
        *,
        since: datetime = EPOCH,
        until: datetime | None = None,
        digits: int = 3,
        primary: bool = True,
        service: bool | None = None,
        name: str | None = None,
        read: bool = True,
    ) -> None:
        number = next(self._numbers["counter"])
        made = Counter(number, tuple(meters), kind, curve, since, until, digits, primary, service, name, read)
        self.counters[number] = made
        self.special[word] = number
