"""The series of Enedis: days, highest power, registers and load curve, each for one direction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from exporter.models import Direction


class MeasureKind(StrEnum):
    """The four series; the fifth measure, subscribed power, is a fact of the contract."""

    DAYS = "days"
    MAX = "max"
    INDEX = "index"
    CURVE = "curve"


@dataclass(frozen=True, slots=True)
class MeasureLimits:
    """How much of a series one call gives, how far back it goes, and how long its newest day is awaited.

    `stale_after_days`: a series whose newest day is older than so many days is requested once a day, not every hour.
    `max_empty_calls`: so many calls in a row without a value mean that the series begins there.
    """

    max_days_per_call: int
    history: timedelta
    stale_after_days: int
    max_empty_calls: int


THREE_YEARS, TWO_YEARS = timedelta(days=1096), timedelta(days=731)
# One gateway documents 365 days a call, several clients ask for three years; 52 whole weeks are safe with all.
MEASURE_LIMITS = {
    MeasureKind.DAYS: MeasureLimits(364, THREE_YEARS, 7, 2),
    MeasureKind.MAX: MeasureLimits(364, THREE_YEARS, 7, 2),
    MeasureKind.INDEX: MeasureLimits(364, THREE_YEARS, 2, 1),
    MeasureKind.CURVE: MeasureLimits(7, TWO_YEARS, 7, 8),
}


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
    def limits(self) -> MeasureLimits:
        """The limits of the source."""
        return MEASURE_LIMITS[self.kind]


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


def select_measures(*, consumption: bool = True, production: bool, load_curve: bool) -> Sequence[Measure]:
    """Return the series that a usage point is read for."""
    wanted = {Direction.CONSUMPTION: consumption, Direction.INJECTION: production}
    return [
        measure for measure in MEASURES if wanted[measure.direction] and (load_curve or measure.kind is not MeasureKind.CURVE)
    ]
