"""The counter types of CEM: commodity, direction, nature and unit of a counter."""

import json
from dataclasses import dataclass

from exporter.models import Commodity, Direction, Nature, Unit, strip_noise
from exporter.portals.cem.lists import TYPES, CounterTypeRow
from exporter.portals.register_kinds import CEM_PREFIX

NATURE_BY_VALUE_TYPE = {0: Nature.MOMENTARY, 1: Nature.COUNTER, 2: Nature.STATE, 3: Nature.AMOUNT}
"""`pot_type`, after the maker's own notes in code list 50; 3 is a sum of amounts, not a register."""
VALUE_TYPE_NAMES = {0: "Absolutní", 1: "Přírustková", 2: "Výčtová", 3: "Absolutní součtová"}
"""The maker's own names in code list 50."""


@dataclass(frozen=True, slots=True)
class UnitScale:
    """How the portal's number becomes ours; factor and divisor are apart, so that 3.6 GJ are exactly 1000 kWh."""

    unit: str
    factor: float = 1
    divisor: float = 1

    def __call__(self, value: float) -> float:
        """Return the portal's number in `unit`."""
        return value if self.factor == self.divisor else strip_noise(value * self.factor / self.divisor)


@dataclass(frozen=True, slots=True)
class CounterTypeInfo:
    """What a counter of one type is; `is_known` is False where its kind of value is unknown."""

    key: str
    commodity: Commodity
    direction: Direction
    nature: Nature
    scale: UnitScale
    portal_unit: str
    value_type: int | None = None
    """The portal's own kind of value, `pot_type`."""
    is_known: bool = True

    @property
    def short_key(self) -> str:
        """The key without its prefix, such as `KALGJ`."""
        return self.key.removeprefix(CEM_PREFIX)

    @property
    def value_type_name(self) -> str:
        """The maker's name of the kind of value."""
        return VALUE_TYPE_NAMES.get(self.value_type, "") if self.value_type is not None else ""


_AMOUNT_SCALES = {
    "Wh": UnitScale(Unit.KWH, divisor=1000),
    "kWh": UnitScale(Unit.KWH),
    "MWh": UnitScale(Unit.KWH, factor=1000),
    "MJ": UnitScale(Unit.KWH, divisor=3.6),
    "GJ": UnitScale(Unit.KWH, factor=1000, divisor=3.6),
    "l": UnitScale(Unit.M3, divisor=1000),
    "m3": UnitScale(Unit.M3),
    "m³": UnitScale(Unit.M3),
}
_MOMENTARY_SCALES = {"°C": UnitScale(Unit.CELSIUS), "kW": UnitScale(Unit.KW), "W": UnitScale(Unit.KW, divisor=1000)}
_SCALES = {Nature.COUNTER: _AMOUNT_SCALES, Nature.AMOUNT: _AMOUNT_SCALES, Nature.MOMENTARY: _MOMENTARY_SCALES}

# What is delivered follows from the type, never from the unit: gas is counted in m³ too. The numbers are the same in every
# account; the key goes first, as the portal states it with the type.
_ELECTRICITY = {1: "ELVT", 2: "ELNT", 4: "EL", 27: "ELDOD", 30: "U", 31: "ELQI", 32: "ELQC", 33: "STRCINVYK"}
_ELECTRICITY |= {34: "STRJALVYK", 35: "TGFI", 36: "ELSO", 37: "ELQCS"}
_WATER = {3: "SV", 5: "TV", 21: "SVVEL", 22: "TVVEL"}
_HEAT = {8: "TEP", 11: "TEPPRUM", 13: "KALKWH", 14: "KALGJ", 16: "TEPDIL", 19: "VSTUPTEPL", 20: "VYSTUPTEPL"}
_HEAT |= {24: "TEPHCA", 43: "KALTGJ", 44: "KALTKWH"}
_COMMODITIES = {
    Commodity.ELECTRICITY: _ELECTRICITY,
    Commodity.WATER: _WATER,
    Commodity.GAS: {6: "PLY"},
    Commodity.HEAT: _HEAT,
    Commodity.COLD: {41: "KALCHGJ", 42: "KALCHKWH"},
}
_COMMODITY_BY_KEY = {key: commodity for commodity, types in _COMMODITIES.items() for key in types.values()}
_COMMODITY_BY_NUMBER = {number: commodity for commodity, types in _COMMODITIES.items() for number in types}
_INJECTION = (27, "ELDOD")
_HUMIDITY = (12, "VLH")

KNOWN_FACTORS = (3.6, 1000 / 3.6, 1000.0)
"""Between the units of energy, and between those of volume."""
TARIFFS, TOTAL = ("ELVT", "ELNT"), "EL"
"""High and low tariff of an electricity meter, and what counts both."""
SAME_AMOUNTS = (("KALGJ", "KALKWH"), ("KALTGJ", "KALTKWH"), ("KALCHGJ", "KALCHKWH"))
"""Types that a meter of heat or cold counts twice, in GJ and in kWh."""

# For an account whose types the portal does not list: numbers, keys, units and kinds of value are the same in all accounts.
_BUILT_IN_TYPES = (
    (1, "ELVT", "kWh", 1), (2, "ELNT", "kWh", 1), (3, "SV", "m³", 1), (4, "EL", "kWh", 1), (5, "TV", "m³", 1),
    (6, "PLY", "m³", 1), (7, "INTEP", "°C", 0), (8, "TEP", "KPD°", 3), (9, "OUTTEP", "°C", 0), (10, "PROTEP", "°C", 0),
    (11, "TEPPRUM", "KPD°", 1), (12, "VLH", "%", 0), (13, "KALKWH", "kWh", 1), (14, "KALGJ", "GJ", 1),
    (15, "TLAKKPA", "kPa", 0), (16, "TEPDIL", "díl.", 1), (17, "CO2", "ppm", 0), (18, "KLAPK", "jedn.", 2),
    (19, "VSTUPTEPL", "°C", 0), (20, "VYSTUPTEPL", "°C", 0), (21, "SVVEL", "m³", 1), (22, "TVVEL", "m³", 1),
    (23, "VZDA", "cm", 0), (24, "TEPHCA", "HCA", 1), (25, "TLAK", "bar", 0), (26, "KAP", "l", 0), (27, "ELDOD", "kWh", 1),
    (28, "KONT", "", 2), (29, "CITAC", "", 1), (30, "U", "V", 0), (31, "ELQI", "kVArh", 1), (32, "ELQC", "kVArh", 1),
    (33, "STRCINVYK", "kW", 0), (34, "STRJALVYK", "kW", 0), (35, "TGFI", "jedn.", 0), (36, "ELSO", "kWh", 3),
    (37, "ELQCS", "kVArh", 3), (38, "CO2MAX", "ppm", 0), (39, "TVOC", "ppb", 0), (40, "TVOCMAX", "ppb", 0),
    (41, "KALCHGJ", "GJ", 1), (42, "KALCHKWH", "kWh", 1), (43, "KALTGJ", "GJ", 1), (44, "KALTKWH", "kWh", 1),
    (45, "DVERE", "", 2), (46, "ZAPLA", "", 2), (47, "SECURE", "", 2), (48, "CH4", "%", 0), (101, "RSSI", "dBm", 0),
    (1000, "OBPR", "jedn.", 1), (1001, "OBAB", "jedn.", 0), (1002, "OBSO", "jedn.", 3),
)  # fmt: skip
BUILT_IN_TYPES = TYPES.parse(
    json.dumps(
        [
            {"pot_id": number, "lt_key": CEM_PREFIX + key, "jed_zkr": unit, "pot_type": kind}
            for number, key, unit, kind in _BUILT_IN_TYPES
        ]
    ),
    "the built-in types",
)


def is_known_factor(ratio: float) -> bool:
    """Return whether a value that became `ratio` times itself has probably changed its unit."""
    ratio = ratio if ratio >= 1 else 1 / ratio
    return any(abs(ratio / factor - 1) < 0.01 for factor in KNOWN_FACTORS)


def build_type_info(number: int, stated: CounterTypeRow | None) -> CounterTypeInfo:
    """Return what a counter of type `number` is, as `stated` by id=222 (None: the portal does not list that type).

    An unknown kind of value is never a register: it is a momentary value in the portal's own unit.
    """
    key, unit = (stated.key, stated.unit) if stated else ("", "")
    short = key.removeprefix(CEM_PREFIX)
    nature = NATURE_BY_VALUE_TYPE.get(stated.value_type) if stated and stated.value_type is not None else None
    is_injection = short == _INJECTION[1] if short else number == _INJECTION[0]
    return CounterTypeInfo(
        key=key,
        commodity=_find_commodity(number, short),
        direction=Direction.INJECTION if is_injection else Direction.CONSUMPTION,
        nature=nature or Nature.MOMENTARY,
        scale=_find_scale(number, short, unit, nature),
        portal_unit=unit,
        value_type=stated.value_type if stated else None,
        is_known=nature is not None,
    )


def _find_commodity(number: int, short: str) -> Commodity:
    return _COMMODITY_BY_KEY.get(short) or (Commodity.OTHER if short else _COMMODITY_BY_NUMBER.get(number, Commodity.OTHER))


def _find_scale(number: int, short: str, unit: str, nature: Nature | None) -> UnitScale:
    is_humidity = short == _HUMIDITY[1] if short else number == _HUMIDITY[0]
    if is_humidity and unit == "%" and nature is Nature.MOMENTARY:
        return UnitScale(Unit.RELATIVE_HUMIDITY, divisor=100)
    scales = _SCALES.get(nature, {}) if nature else {}
    return scales.get(unit) or UnitScale(unit)
