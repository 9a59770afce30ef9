"""The series of Enedis: days, highest power, registers and load curve by direction; which of them are read of a usage point."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pydantic import SecretStr

from exporter.models import Direction


class MeasureKind(StrEnum):
    """The four series; the fifth measure, subscribed power, is a fact of the contract."""

    DAYS = "days"
    MAX = "max"
    INDEX = "index"
    CURVE = "curve"


# One gateway documents 365 days a call, several clients ask for three years; 52 whole weeks are safe with all.
MAX_DAYS_PER_CALL = {MeasureKind.CURVE: 7}
DEFAULT_MAX_DAYS_PER_CALL = 364
HISTORY = {MeasureKind.CURVE: timedelta(days=731)}
DEFAULT_HISTORY = timedelta(days=1096)


@dataclass(frozen=True, slots=True)
class Measure:
    """One series of a usage point."""

    kind: MeasureKind
    direction: Direction

    @property
    def key(self) -> str:
        """Its name in `raw`, in stored state and in messages: `consumption_days`."""
        return f"{'consumption' if self.direction is Direction.CONSUMPTION else 'production'}_{self.kind}"

    @property
    def max_days_per_call(self) -> int:
        """The maximum number of days of one call."""
        return MAX_DAYS_PER_CALL.get(self.kind, DEFAULT_MAX_DAYS_PER_CALL)

    @property
    def history(self) -> timedelta:
        """How far back Enedis goes: three years of days, two of load curves."""
        return HISTORY.get(self.kind, DEFAULT_HISTORY)


CONSUMPTION_DAYS = Measure(MeasureKind.DAYS, Direction.CONSUMPTION)
CONSUMPTION_MAX = Measure(MeasureKind.MAX, Direction.CONSUMPTION)
CONSUMPTION_INDEX = Measure(MeasureKind.INDEX, Direction.CONSUMPTION)
CONSUMPTION_CURVE = Measure(MeasureKind.CURVE, Direction.CONSUMPTION)
INJECTION_DAYS = Measure(MeasureKind.DAYS, Direction.INJECTION)
INJECTION_INDEX = Measure(MeasureKind.INDEX, Direction.INJECTION)
INJECTION_CURVE = Measure(MeasureKind.CURVE, Direction.INJECTION)
# Enedis has no highest power of production.
MEASURES = (
    CONSUMPTION_DAYS,
    CONSUMPTION_MAX,
    CONSUMPTION_INDEX,
    CONSUMPTION_CURVE,
    INJECTION_DAYS,
    INJECTION_INDEX,
    INJECTION_CURVE,
)


@dataclass(frozen=True, slots=True)
class ConfiguredPoint:
    """A usage point that is read: its number, its name in messages, and its series."""

    prm: str
    display_name: str
    production: bool = False
    load_curve: bool = True
    token: SecretStr | None = None
    consumption: bool = True
    registers: bool = True
    """Whether the access has registers."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The series that are read."""
        return tuple(measure for measure in MEASURES if self._reads(measure))

    def _reads(self, measure: Measure) -> bool:
        is_offered = self.registers or measure.kind is not MeasureKind.INDEX
        is_wanted = self.load_curve or measure.kind is not MeasureKind.CURVE
        return is_offered and is_wanted and (self.consumption if measure.direction is Direction.CONSUMPTION else self.production)
