"""Readings by the thousand, as plain numbers: what the true-time series are read from."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

SLICE = 4096
"""How many rows are taken at a time."""
_EARLIER, _LATER = 32 * 86_400_000, 86_400_000
"""How far a period may start before its stamp, and an unruly portal's after it."""

Rows = list[tuple[int, float]]
"""Stamps in milliseconds since 1970 with their values, in time order, no stamp twice."""


@dataclass(frozen=True, slots=True)
class Stamping:
    """Where the sample of a reading stands, from its `at`: at `shift` where all periods have one length, else at its own span.

    `shift` is in milliseconds. Without it a sample stands at `at + span - less`, and of two on one instant the higher stays.
    """

    shift: int | None = None
    less: int = 0


def count(db: sqlite3.Connection, line: int, stamping: Stamping, first: int, last: int) -> int:
    """Count a series' samples with stamps in [first, last]."""
    statement, values = _asked(line, stamping, first, last)
    (found,) = db.execute(f"SELECT count(*) FROM ({statement})", values).fetchone()  # our own statement
    return int(found)


def slices(db: sqlite3.Connection, line: int, stamping: Stamping, first: int, last: int) -> Iterator[Rows]:
    """Give a series' samples with stamps in [first, last], a slice at a time."""
    cursor = db.execute(*_asked(line, stamping, first, last))
    while rows := cursor.fetchmany(SLICE):
        yield rows


def zones(db: sqlite3.Connection) -> dict[str, str]:
    """Give the accounts with the names of their time zones."""
    return dict(db.execute("SELECT name, zone FROM account ORDER BY name"))


def shape(db: sqlite3.Connection) -> tuple[int, ...]:
    """Give numbers that change whenever the list of series does."""
    return tuple(db.execute("SELECT count(*), max(id), total(nature = 'counter') FROM series").fetchone())


def _asked(line: int, stamping: Stamping, first: int, last: int) -> tuple[str, dict[str, int]]:
    if stamping.shift is not None:
        shift = stamping.shift
        return _EVEN, {"series": line, "shift": shift, "first": first - shift, "last": last - shift}
    bounds = {"from": first - _EARLIER, "to": last + _LATER}
    return _OWN, bounds | {"series": line, "less": stamping.less, "first": first, "last": last}


_EVEN = "SELECT at + :shift, value FROM reading WHERE series = :series AND at BETWEEN :first AND :last ORDER BY at"
_OWN = (
    "SELECT at + span * 1000 - :less AS stamp, max(value) FROM reading WHERE series = :series AND at BETWEEN :from AND :to"
    " AND at + span * 1000 - :less BETWEEN :first AND :last GROUP BY stamp ORDER BY stamp"
)
