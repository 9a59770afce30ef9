"""The past: which days are asked in one call, of all counters or of one, and when there is nothing older."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from exporter.errors import EndOfPastError
from exporter.portals.base import Piece
from exporter.portals.cem.estate import Choice
from exporter.session import Session

DAY = timedelta(days=1)
ALL = "all"
MOST_READINGS = 250_000
"""How many readings one answer of id=20 may hold, at one an hour and counter: some 12 MB."""
LENGTHS = (7, 2, 1)
SETTLED = timedelta(days=7)
"""When no reading of a day is expected to come any more: a gateway that was off sends what it has kept."""


def days_of_all(counters: int, chosen: int, longest: int) -> int | None:
    """Say how many days of all counters fit in one answer; None where asking each chosen counter takes fewer calls."""
    hourly = 24 * counters
    fitting = (days for days in (longest, *LENGTHS) if days <= longest and days * hourly <= MOST_READINGS)
    days = next(fitting, None)
    return days if days and longest <= chosen * days else None


def spans(first: date, last: date, days: int) -> Iterator[tuple[date, date]]:
    """Cut [first, last] into spans of `days`, newest first, at the same places whatever the day we ask."""
    while first <= last:
        start = max(first, last - timedelta(days=last.toordinal() % days))
        yield start, last
        last = start - DAY


def pieces_of_all(cut: Iterable[tuple[date, date]], choice: Choice, today: date) -> Iterator[Piece]:
    """Make the calls of id=20; another selection asks again, for it wants other counters of the same answer."""
    numbers = [sorted(some) for some in (choice.counters, choice.not_counters, choice.objects, choice.not_objects)]
    mark = hashlib.sha256(repr([*numbers, choice.states, choice.removed]).encode()).hexdigest()[:8]
    for first, last in cut:
        yield Piece(f"{ALL}:{mark}:{_named(first, last, today)}", ALL, first, last)


def pieces_of_each(cut: Iterable[tuple[date, date]], counters: Iterable[int], today: date) -> Iterator[Piece]:
    """Make the calls of id=3, the newest days of every counter first."""
    numbers = list(counters)
    for first, last in cut:
        for number in numbers:
            yield Piece(f"{number}:{_named(first, last, today)}", str(number), first, last, {"var_id": number})


def _named(first: date, last: date, today: date) -> str:
    """Name days for ever once they are settled; younger ones have another name each day, so that they are asked again."""
    return f"{first}:{last}" if last < today - SETTLED else f"{first}:{last}@{today}"


def days_asked(piece: Piece) -> dict[str, str]:
    """Give `from` and `to`, days in Prague; whether `to` itself is included is not known: one more day loses nothing."""
    return {"from": piece.first.isoformat(), "to": (piece.last + DAY).isoformat()}


async def note_emptiness(session: Session, piece: Piece, empty: bool, longest_gap: timedelta) -> None:
    """Remember how far back nothing came; raise EndOfPastError when that is longer than a hole in the data would be."""
    key = f"emptiness:{piece.line}"
    if not empty:
        return await session.memory.drop(key)
    kept = await session.memory.get(key, session.now)
    last = piece.last
    if kept and kept["first"] == (last + DAY).isoformat():
        last = date.fromisoformat(kept["last"])
    await session.memory.put(key, {"first": piece.first.isoformat(), "last": last.isoformat()})
    if last + DAY - piece.first >= longest_gap:
        raise EndOfPastError(f"nothing came from {piece.first} to {last}")
    return None
