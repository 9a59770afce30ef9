"""An invented housing company: entrances of twelve flats, a boiler room, a roof with solar panels."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from exporter.simulators.cem.curves import (
    EPOCH,
    ContactCurve,
    CountingCurve,
    Curve,
    HourlyAmountCurve,
    MomentaryCurve,
    Profile,
    SumCurve,
    list_reading_times,
    pseudo_random,
)

FLATS_PER_ENTRANCE = 12
REPLACED_AT = datetime(2025, 3, 3, 9, 20, tzinfo=UTC)
"""When the cold water meter of the third flat was replaced."""
LEAK_PER_HOUR = 0.045
"""m³ an hour that the leaking flat loses."""
METER_POINT_KIND, ENTRANCE_KIND, FLAT_KIND, TECHNICAL_AREA_KIND = -1000, 1, 3, 5
"""Kinds of object; a meter point is the object without a name at which a meter is mounted."""

COLD_WATER = CountingCurve(0.11, 0.0, Profile.TAP)
HOT_WATER = CountingCurve(0.07, 0.1, Profile.TAP)
HEAT = CountingCurve(0.055, 0.9, Profile.HEATING)
POWER = CountingCurve(5.2, 0.2, Profile.POWER)
GAS = CountingCurve(38.0, 0.8, Profile.HEATING)
SOLAR = CountingCurve(26.0, -0.7, Profile.SUN)
COMMON_POWER = CountingCurve(19.0, 0.1, Profile.POWER)
COMMON_HEAT = CountingCurve(0.9, 0.9, Profile.HEATING)
LIFT_DAY, LIFT_NIGHT = CountingCurve(7.0, 0.0, Profile.POWER), CountingCurve(3.0, 0.0, Profile.HEATING)
GJ_PER_KWH, HEAT_TYPE = 0.0036, 14
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
INDOOR, OUTDOOR = MomentaryCurve(21.5, 1.2, 1.5, 0.6), MomentaryCurve(9.5, 4.0, 11.0, 2.0)
HUMIDITY, FLOW_TEMPERATURE, RADIO_SIGNAL = (
    MomentaryCurve(46.0, 4.0, 6.0, 5.0),
    MomentaryCurve(48.0, 3.0, -14.0, 3.0),
    MomentaryCurve(-74.0, 0.0, 0.0, 9.0),
)


@dataclass(frozen=True, slots=True)
class SimulatedObject:
    """An object."""

    id: int
    parent: int | None
    kind: int
    name: str


@dataclass(frozen=True, slots=True)
class SimulatedMeter:
    """A device at an object."""

    id: int
    object_id: int
    serial: str | None
    main_type: int | None
    since: datetime
    removed: datetime | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SimulatedCounter:
    """One measured quantity, in the portal's unit, with `decimals` digits after the point."""

    id: int
    meters: tuple[int, ...]
    type: int
    curve: Curve
    since: datetime
    until: datetime | None = None
    decimals: int = 3
    primary: bool = True
    service: bool | None = None
    name: str | None = None
    is_read: bool = True


@dataclass
class Building:
    """Objects, meters and counters; `leak_from` is when the leak in the second flat begins."""

    flats: int
    leak_from: datetime
    has_sub_registers: bool = False
    """Whether a meter counts two tariffs and their total, and another one the same heat in GJ and in kWh."""
    objects: list[SimulatedObject] = field(default_factory=list)
    meters: list[SimulatedMeter] = field(default_factory=list)
    counters: dict[int, SimulatedCounter] = field(default_factory=dict)
    named_counters: dict[str, int] = field(default_factory=dict)
    """The counters that tests and the demo refer to, by a name."""

    def __post_init__(self) -> None:
        self._next_ids = {"object": count(9100), "meter": count(70001), "counter": count(80001)}
        # The company's own parent is not in the list: that happens.
        self._company_id = self._add_object(9000, ENTRANCE_KIND, "SVJ Ukázka")
        self._add_common_meters()
        entrance = self._company_id
        for flat in range(self.flats):
            if flat % FLATS_PER_ENTRANCE == 0:
                entrance = self._add_object(self._company_id, ENTRANCE_KIND, f"Vchod {flat // FLATS_PER_ENTRANCE + 1}")
            self._add_flat(self._add_object(entrance, FLAT_KIND, f"Byt {flat + 1}"), flat)
        if self.has_sub_registers:
            self._add_sub_registers(self._add_object(self._company_id, TECHNICAL_AREA_KIND, "Výměník"))

    def meter_names(self) -> dict[str, str]:
        """Return a name for every meter by its number: its object, and what it measures."""
        objects = {row.id: row for row in self.objects}
        names: dict[str, str] = {}
        for meter in self.meters:
            point = objects[meter.object_id]
            name = f"{objects[point.parent or meter.object_id].name} {METER_NAMES.get(meter.main_type, 'meter')}"
            names[str(meter.id)] = f"{name} {meter.id}" if name in names.values() else name
        return names

    def true_value(self, counter: int, at: datetime) -> float:
        """Return what a counter shows at an instant, in the portal's unit, rounded as the portal does."""
        simulated = self.counters[counter]
        value = simulated.curve.value_at(counter, at)
        if isinstance(simulated.curve, CountingCurve | SumCurve):
            value -= simulated.curve.value_at(counter, simulated.since)
        if counter == self.named_counters.get("leak") and at > self.leak_from:
            value += LEAK_PER_HOUR * (at - self.leak_from) / timedelta(hours=1)
        return round(value, simulated.decimals)

    def list_readings(self, counter: int, start: datetime, end: datetime, now: datetime) -> list[tuple[datetime, float]]:
        """Return the readings of [start, end) that the portal has by `now`, oldest first."""
        simulated = self.counters[counter]
        if not simulated.is_read:
            return []
        first, last = max(start, simulated.since), min(end, now, simulated.until or now)
        times = list_reading_times(counter, first, last)
        return [(at, self.true_value(counter, at)) for at, received_at in times if received_at <= now]

    def latest_reading(self, counter: int, now: datetime) -> tuple[datetime, float] | None:
        """Return the newest reading that the portal has by `now`; None for a counter that was never read."""
        end = min(now, self.counters[counter].until or now)
        readings = self.list_readings(counter, end - timedelta(hours=3), end, now)
        return readings[-1] if readings else None

    def _add_flat(self, parent_id: int, flat: int) -> None:
        # Flats differ: half to twice as much as the mean one.
        cold, hot, heat, power = (
            replace(curve, daily=curve.daily * 2 ** (2 * pseudo_random(flat, n) - 1))
            for n, curve in enumerate((COLD_WATER, HOT_WATER, HEAT, POWER))
        )
        old = self._add_meter(parent_id, 3, removed=REPLACED_AT) if flat == 2 else None
        if old:
            self._add_counter("removed", [old], 3, cold, until=REPLACED_AT)
        since = REPLACED_AT if old else EPOCH
        names = {1: "leak", 2: "replacement"}
        self._add_counter(names.get(flat, f"cold {flat + 1}"), [self._add_meter(parent_id, 3, since=since)], 3, cold, since=since)
        self._add_counter(f"hot {flat + 1}", [self._add_meter(parent_id, 5)], 5, hot)
        self._add_counter(f"heat {flat + 1}", [self._add_meter(parent_id, 14)], 14, heat)
        self._add_counter(f"power {flat + 1}", [self._add_meter(parent_id, 4)], 4, power)
        sensor = self._add_meter(parent_id, 7)
        self._add_counter(f"indoor {flat + 1}", [sensor], 7, INDOOR, digits=1)
        self._add_counter(f"humidity {flat + 1}", [sensor], 12, HUMIDITY, digits=1, primary=False)

    def _add_common_meters(self) -> None:
        boiler, roof = (
            self._add_object(self._company_id, TECHNICAL_AREA_KIND, "Kotelna"),
            self._add_object(self._company_id, TECHNICAL_AREA_KIND, "Střecha"),
        )
        self._add_counter("gas", [self._add_meter(boiler, 6)], 6, GAS)
        heat_meter = self._add_meter(boiler, 14, name="Hlavní měřič tepla")
        self._add_counter("house heat", [heat_meter], 14, COMMON_HEAT)
        self._add_counter("flow", [heat_meter], 19, FLOW_TEMPERATURE, digits=1, primary=False)
        self._add_counter("radio", [heat_meter], 101, RADIO_SIGNAL, digits=0, primary=False, service=True)
        solar_meter = self._add_meter(roof, 27)
        self._add_counter("solar", [solar_meter], 27, SOLAR)
        self._add_counter("solar hourly", [solar_meter], 36, HourlyAmountCurve(SOLAR), primary=False)
        self._add_counter("outdoor", [self._add_meter(roof, 9, serial=False)], 9, OUTDOOR, digits=1)
        contact = self._add_meter(self._company_id, None)
        self._add_counter("door", [contact], 45, ContactCurve(), digits=0, name="Dveře do sklepa")
        shared = [self._add_meter(boiler, 4), self._add_meter(roof, 4)]
        self._add_counter("shared", shared, 4, COMMON_POWER, name="Společná spotřeba")
        self._add_counter("load", shared[:1], 33, MomentaryCurve(6.5, 2.5, -1.0, 2.0), primary=False)
        self._add_counter("never read", [self._add_meter(boiler, 3)], 3, COLD_WATER, read=False)

    def _add_sub_registers(self, area: int) -> None:
        lift = self._add_meter(area, 4, name="Výtah")
        self._add_counter("high tariff", [lift], 1, LIFT_DAY, primary=False)
        self._add_counter("low tariff", [lift], 2, LIFT_NIGHT, primary=False)
        self._add_counter("tariffs", [lift], 4, SumCurve((LIFT_DAY, LIFT_NIGHT), (-2, -1)))
        heat = self._add_meter(area, 14)
        self._add_counter("heat in GJ", [heat], 14, COMMON_HEAT)
        self._add_counter("heat in kWh", [heat], 13, SumCurve((COMMON_HEAT,), (-1,), 1 / GJ_PER_KWH), primary=False)

    def _add_object(self, parent: int | None, kind: int, name: str) -> int:
        number = next(self._next_ids["object"])
        self.objects.append(SimulatedObject(number, parent, kind, name))
        return number

    def _add_meter(
        self,
        parent_id: int,
        main_type: int | None,
        *,
        since: datetime = EPOCH,
        removed: datetime | None = None,
        name: str | None = None,
        serial: bool = True,
    ) -> int:
        number = next(self._next_ids["meter"])
        point = self._add_object(parent_id, METER_POINT_KIND, "")
        serial_number = f"SIM{number:07d}" if serial else None
        self.meters.append(SimulatedMeter(number, point, serial_number, main_type, since, removed, name))
        return number

    def _add_counter(
        self,
        label: str,
        meters: list[int],
        type_id: int,
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
        number = next(self._next_ids["counter"])
        self.counters[number] = SimulatedCounter(
            number, tuple(meters), type_id, curve, since, until, digits, primary, service, name, read
        )
        self.named_counters[label] = number
