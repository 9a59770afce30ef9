"""What a visit needs of an estate: small enough to be held between visits, when 100,000 counters are put together."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.model import Inventory, Note, Register
from exporter.portals.cem.estate import Choice, Estate
from exporter.portals.cem.kinds import Scale

Rows = list[tuple[int, float | None, int | None]]
"""Counters by their numbers, with value and time (milliseconds)."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The counters that are shown, by their numbers, and what is said of them at every visit."""

    lines: Mapping[int, tuple[Register, Scale]]
    """What a counter's numbers are the readings of, and how they become ours."""
    inventory: Inventory
    notes: tuple[Note, ...]
    waiting: frozenset[int]
    """Counters asked for by number that were never read."""
    counters: int
    """How many the account has, shown or not."""

    @classmethod
    def of(cls, estate: Estate) -> "Roster":
        """Take out of an estate what its visits need."""
        chosen = estate.chosen
        return cls(
            lines={number: (line.register, line.kind.scale) for number, line in chosen.items()},
            inventory=estate.inventory(),
            notes=tuple(estate.notes()),
            waiting=estate.waiting(),
            counters=len(estate.lines),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """A roster, the choice it was made for, and when (seconds since 1970) each list it came from was asked."""

    choice: Choice
    asked: Mapping[str, float]
    roster: Roster


def stated(estate: Estate) -> Rows:
    """Give the last values that the list of counters itself states."""
    rows = (line.counter for line in estate.chosen.values())
    return [(row.id, row.value, row.time) for row in rows]
