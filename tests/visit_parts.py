"""A visit's result written as one flat list, for tests of what is stored and shown of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from exporter.errors import PortalError
from exporter.models import Facts, Holder, Index, Interval, Inventory, Peak, Reading, StateUpdate, VisitResult


@dataclass(frozen=True)
class Note:
    text: str


@dataclass(frozen=True)
class NextVisit:
    at: datetime


@dataclass(frozen=True)
class PartialFailure:
    error: PortalError


VisitPart = Reading | Facts | Holder | Inventory | Note | NextVisit | PartialFailure | StateUpdate


def build_result(parts: Iterable[VisitPart]) -> VisitResult:
    parts = list(parts)
    return VisitResult(
        readings=[part for part in parts if isinstance(part, Index | Interval | Peak)],
        facts=[part for part in parts if isinstance(part, Facts)],
        inventory=next((part for part in reversed(parts) if isinstance(part, Inventory)), None),
        holder=next((part for part in reversed(parts) if isinstance(part, Holder)), None),
        notes=[part.text for part in parts if isinstance(part, Note)],
        state=[part for part in parts if isinstance(part, StateUpdate)],
        next_visit=next((part.at for part in parts if isinstance(part, NextVisit)), None),
        failures=[part.error for part in parts if isinstance(part, PartialFailure)],
    )


def list_parts(result: VisitResult) -> list[VisitPart]:
    """Return what a result has, failures last."""
    statements = [one for one in (result.holder, result.inventory) if one]
    notes, failures = map(Note, result.notes), map(PartialFailure, result.failures)
    return [*result.readings, *result.facts, *statements, *notes, *result.state, *failures]
