"""What registers are called: by their description, else by their kind, and by their number only where nothing else is known."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exporter.models import Nature, Unit
from exporter.register_kinds import find_kind
from exporter.web.status.formatting import FormattedNumber, format_amount, format_index

_UNIT_NAMES: Mapping[str, str] = {Unit.CELSIUS: "temperature", Unit.RELATIVE_HUMIDITY: "humidity", Unit.KW: "power"}
"""What is measured in a unit, where nothing else tells it."""


@dataclass(frozen=True, slots=True)
class RegisterText:
    """A register, and what it is called by."""

    register: str
    kind: str = ""
    description: str = ""
    unit: str = ""
    is_injection: bool = False


def list_register_names(registers: Sequence[RegisterText]) -> list[str]:
    """Return what registers of one usage point are called; the only one of a usage point needs no name."""
    names = [_name_register(register, alone=len(registers) == 1) for register in registers]
    uses = Counter(names)
    return [
        f"{name} {register.register}" if uses[name] > 1 and register.register not in name else name
        for name, register in zip(names, registers, strict=True)
    ]


def _name_register(text: RegisterText, *, alone: bool) -> str:
    kind = find_kind(text.kind)
    quantity = _UNIT_NAMES.get(text.unit, "")
    is_number = text.register.isdecimal()
    own = "" if text.register == "total" or (is_number and (alone or quantity)) else text.register
    unit_suffices = alone and not quantity and text.unit in {Unit.KWH, Unit.M3}
    name = text.description or (own if own and not is_number else "" if unit_suffices else kind or quantity or own)
    return _join([name, "injection" if text.is_injection and "injection" not in name else ""])


def _join(texts: Iterable[str]) -> str:
    return ", ".join(filter(None, texts))


def format_reading(value: float, unit: str, nature: str = Nature.COUNTER) -> FormattedNumber:
    """Return what a register shows."""
    if unit == Unit.RELATIVE_HUMIDITY:
        return format_amount(value * 100, "%")
    if unit in {Unit.CELSIUS, Unit.KW} and nature == Nature.MOMENTARY:
        return format_amount(value, unit)
    return format_index(value, unit)
