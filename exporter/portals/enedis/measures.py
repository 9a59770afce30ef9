"""What Enedis measures: days, largest power, registers and load curve, each for one direction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from exporter.model import Direction


class Kind(StrEnum):
    """The four series; the fifth measure, subscribed power, is a fact of the contract."""

    DAYS = "days"
    MAX = "max"
    INDEX = "index"
    CURVE = "curve"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a series one call gives, how far back it goes, and how long its newest day is waited for.

    `patience`: a series whose newest day is older than so many days is asked once a day, not every hour.
    `empty_calls`: so many calls in a row without a value mean that the series begins there.
    """

    longest: int
    history: timedelta
    patience: int
    empty_calls: int


THREE_YEARS, TWO_YEARS = timedelta(days=1096), timedelta(days=731)
# One gateway documents 365 days a call, several clients ask for three years; 52 whole weeks are safe with all.
LIMITS = {
    Kind.DAYS: Limits(364, THREE_YEARS, 7, 2),
    Kind.MAX: Limits(364, THREE_YEARS, 7, 2),
    Kind.INDEX: Limits(364, THREE_YEARS, 2, 1),
    Kind.CURVE: Limits(7, TWO_YEARS, 7, 8),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One series of a usage point."""

    kind: Kind
    direction: Direction

    @property
    def key(self) -> str:
        """Its name in `raw`, in the memory and in messages: `consumption_days`."""
        return f"{'consumption' if self.direction is Direction.CONSUMPTION else 'production'}_{self.kind}"

    @property
    def limits(self) -> Limits:
        """What the source allows for it."""
        return LIMITS[self.kind]


DAYS = Measure(Kind.DAYS, Direction.CONSUMPTION)
MAX = Measure(Kind.MAX, Direction.CONSUMPTION)
INDEX = Measure(Kind.INDEX, Direction.CONSUMPTION)
CURVE = Measure(Kind.CURVE, Direction.CONSUMPTION)
FED_DAYS = Measure(Kind.DAYS, Direction.INJECTION)
FED_INDEX = Measure(Kind.INDEX, Direction.INJECTION)
FED_CURVE = Measure(Kind.CURVE, Direction.INJECTION)
# Enedis offers no largest power for production.
MEASURES = (DAYS, MAX, INDEX, CURVE, FED_DAYS, FED_INDEX, FED_CURVE)


def measures_of(*, production: bool, load_curve: bool) -> Sequence[Measure]:
    """Give the series that a usage point is read for."""
    return [
        measure
        for measure in MEASURES
        if (production or measure.direction is Direction.CONSUMPTION) and (load_curve or measure.kind is not Kind.CURVE)
    ]
