"""What a benchmark gives: figures by size, and goals that they meet or miss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SHOWN = 100_000
"""The size of which the goals speak."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number measured at a size."""

    what: str
    size: int
    value: float


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted, what came out, and whether that is enough; None where it could not be measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None


@dataclass(slots=True)
class Report:
    """One part's outcome; `unit` says what its figures are."""

    title: str
    unit: str
    drawn: Sequence[str] = ()
    """What the plot shows; all of it where nothing is named."""
    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def at(self, what: str, size: int = SHOWN) -> float | None:
        """Find a figure."""
        return next((one.value for one in self.figures if (one.what, one.size) == (what, size)), None)

    def goal(
        self, what: str, value: float | None, *, most: float = 0, least: float = 0, say: Callable[[float], str] = "{:.3g}".format
    ) -> Goal:
        """Judge a number: at most `most`, or at least `least`."""
        wanted = f"at most {say(most)}" if most else f"at least {say(least)}"
        if value is None:
            return Goal(what, wanted, "not measured", None)
        return Goal(what, wanted, say(value), value <= most if most else value >= least)

    def ratio(self, what: str, above: str, below: str, *, most: float = 0, least: float = 0, size: int = SHOWN) -> Goal:
        """Judge how many times as large one figure is as another."""
        first, second = self.at(above, size), self.at(below, size)
        return self.goal(what, first / second if first and second else None, most=most, least=least, say="{:.3g} times".format)
