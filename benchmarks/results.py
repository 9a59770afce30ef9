"""The results of a benchmark: figures by size, and goals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

TARGET_SIZE = 100_000
"""The size that the goals refer to."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number measured at a size."""

    name: str
    size: int
    value: float


@dataclass(frozen=True, slots=True)
class Goal:
    """A target, what was measured, and whether it was met; None if it could not be measured."""

    name: str
    target: str
    measured: str
    is_met: bool | None


@dataclass(slots=True)
class Report:
    """The results of one part; `unit` describes its figures."""

    title: str
    unit: str
    plotted: Sequence[str] = ()
    """The figures of the plot; all if empty."""
    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find_value(self, name: str, size: int = TARGET_SIZE) -> float | None:
        """Return the value of a figure."""
        return next((figure.value for figure in self.figures if (figure.name, figure.size) == (name, size)), None)

    def check_goal(
        self,
        name: str,
        value: float | None,
        *,
        maximum: float = 0,
        minimum: float = 0,
        format_value: Callable[[float], str] = "{:.3g}".format,
    ) -> Goal:
        """Compare a number with its maximum, or its minimum."""
        target = f"at most {format_value(maximum)}" if maximum else f"at least {format_value(minimum)}"
        if value is None:
            return Goal(name, target, "not measured", None)
        return Goal(name, target, format_value(value), value <= maximum if maximum else value >= minimum)

    def check_ratio(
        self, name: str, numerator: str, denominator: str, *, maximum: float = 0, minimum: float = 0, size: int = TARGET_SIZE
    ) -> Goal:
        """Compare the ratio of two figures with its maximum, or its minimum."""
        first, second = self.find_value(numerator, size), self.find_value(denominator, size)
        return self.check_goal(
            name,
            first / second if first and second else None,
            maximum=maximum,
            minimum=minimum,
            format_value="{:.3g} times".format,
        )
