"""Counter types: what the number of a CEM counter means, in which unit it leaves the portal, and what is delivered."""

from dataclasses import dataclass

from exporter.model import Commodity, Direction, Nature, Unit
from exporter.portals.cem.tables import CounterType

PREFIX = "LB_POCTYP_"
NATURES = {0: Nature.MOMENTARY, 1: Nature.COUNTER, 2: Nature.STATE, 3: Nature.AMOUNT}
"""`pot_type`, after the maker's own notes in code list 50; 3 is a sum of amounts, not a register."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How the portal's number becomes ours: times `times`, divided by `per` (kept apart: 3.6 GJ are 1000 kWh exactly)."""

    unit: str
    times: float = 1
    per: float = 1

    def __call__(self, value: float) -> float:
        """Turn the portal's number into `unit`."""
        return value * self.times / self.per


@dataclass(frozen=True, slots=True)
class Kind:
    """What a counter of one type is; `known` is False where the portal's kind of value is none that we know."""

    key: str
    commodity: Commodity
    direction: Direction
    nature: Nature
    scale: Scale
    portal_unit: str
    number: int | None = None
    """The portal's own kind of value, `pot_type`."""
    known: bool = True


_FLOWS = {
    "Wh": Scale(Unit.KWH, per=1000),
    "kWh": Scale(Unit.KWH),
    "MWh": Scale(Unit.KWH, times=1000),
    "MJ": Scale(Unit.KWH, per=3.6),
    "GJ": Scale(Unit.KWH, times=1000, per=3.6),
    "l": Scale(Unit.M3, per=1000),
    "m3": Scale(Unit.M3),
    "m³": Scale(Unit.M3),
}
_LEVELS = {"°C": Scale(Unit.CELSIUS), "kW": Scale(Unit.KW), "W": Scale(Unit.KW, per=1000)}
_SCALES = {Nature.COUNTER: _FLOWS, Nature.AMOUNT: _FLOWS, Nature.MOMENTARY: _LEVELS}

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
_BY_KEY = {key: commodity for commodity, types in _COMMODITIES.items() for key in types.values()}
_BY_NUMBER = {number: commodity for commodity, types in _COMMODITIES.items() for number in types}
_FED_IN = (27, "ELDOD")
_HUMIDITY = (12, "VLH")


def kind_of(number: int, stated: CounterType | None) -> Kind:
    """Say what a counter of type `number` is, as `stated` by id=222 (None: the portal does not list that type).

    A kind of value that we do not know is never taken for a register: it is a momentary value in the portal's own unit.
    """
    key, unit = (stated.key, stated.unit) if stated else ("", "")
    short = key.removeprefix(PREFIX)
    nature = NATURES.get(stated.nature) if stated and stated.nature is not None else None
    fed_in = short == _FED_IN[1] if short else number == _FED_IN[0]
    return Kind(
        key=key,
        commodity=_commodity(number, short),
        direction=Direction.INJECTION if fed_in else Direction.CONSUMPTION,
        nature=nature or Nature.MOMENTARY,
        scale=_scale(number, short, unit, nature),
        portal_unit=unit,
        number=stated.nature if stated else None,
        known=nature is not None,
    )


def _commodity(number: int, short: str) -> Commodity:
    return _BY_KEY.get(short) or (Commodity.OTHER if short else _BY_NUMBER.get(number, Commodity.OTHER))


def _scale(number: int, short: str, unit: str, nature: Nature | None) -> Scale:
    humidity = short == _HUMIDITY[1] if short else number == _HUMIDITY[0]
    if humidity and unit == "%" and nature is Nature.MOMENTARY:
        return Scale(Unit.RELATIVE_HUMIDITY, per=100)
    scales = _SCALES.get(nature, {}) if nature else {}
    return scales.get(unit) or Scale(unit)
