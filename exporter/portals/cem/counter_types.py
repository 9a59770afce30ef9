"""The counter types of CEM: commodity, direction, nature and unit of a counter."""

from dataclasses import dataclass

from exporter.models import Commodity, Direction, Nature, Unit
from exporter.portals.cem.lists import CounterTypeRow

PREFIX = "LB_POCTYP_"
NATURE_BY_VALUE_TYPE = {0: Nature.MOMENTARY, 1: Nature.COUNTER, 2: Nature.STATE, 3: Nature.AMOUNT}
"""`pot_type`, after the maker's own notes in code list 50; 3 is a sum of amounts, not a register."""


@dataclass(frozen=True, slots=True)
class UnitScale:
    """How the portal's number becomes ours; factor and divisor are apart, so that 3.6 GJ are exactly 1000 kWh."""

    unit: str
    factor: float = 1
    divisor: float = 1

    def __call__(self, value: float) -> float:
        """Return the portal's number in `unit`."""
        return value * self.factor / self.divisor


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


def build_type_info(number: int, stated: CounterTypeRow | None) -> CounterTypeInfo:
    """Return what a counter of type `number` is, as `stated` by id=222 (None: the portal does not list that type).

    An unknown kind of value is never a register: it is a momentary value in the portal's own unit.
    """
    key, unit = (stated.key, stated.unit) if stated else ("", "")
    short = key.removeprefix(PREFIX)
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
