"""Which days of intervals a visit asks for: what the ledger lacks first, then what the portal may have corrected."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from operator import attrgetter

from exporter.model import DAY, KnownInterval
from exporter.portals.fluvius.days import Window, last_whole_day
from exporter.portals.fluvius.keys import Keys, Meter
from exporter.portals.fluvius.readings import digest
from exporter.session import Known, Session

RETRY = timedelta(hours=3)
"""Before a day that was not there, or not whole, is asked for again."""
RECHECK = timedelta(days=3)
"""Before a whole day is read again for corrections, until it is settled."""
MEMORY = "intervals-asked"


@dataclass(frozen=True, slots=True)
class Due:
    """A metering day to ask for; `nothing_kept`: the ledger has no interval of the meter as far as a visit looks back."""

    meter: Meter
    day: date
    whole: bool
    nothing_kept: bool
    asked: float
    """When it was last asked for (Unix seconds), 0 for never."""


async def due(keys: Keys, session: Session, known: Known) -> list[Due]:
    """List the days to ask for, at most `interval_requests`.

    Incomplete days go before whole ones; of these, days never asked for go first, the newest before older ones, so that
    what the portal lacks keeps nothing else waiting. A day older than `interval_days` is settled: a visit looks at it no more.
    """
    found: list[Due] = []
    for meter in keys.meters:
        if meter.intervals:
            found += await _of_meter(keys, session, known, meter)
    found.sort(key=lambda one: (one.whole, one.asked, -one.day.toordinal()))
    return found[: keys.interval_requests]


async def asked(keys: Keys, session: Session, meter: Meter, day: date) -> None:
    """Keep when a day was asked for, and forget the settled ones."""
    everything = await session.memory.get(MEMORY, session.now) or {}
    name, oldest = digest(meter.ean, meter.serial), _horizon(keys, session.now, meter).first.isoformat()
    mine = {one: at for one, at in everything.get(name, {}).items() if one >= oldest}
    mine[day.isoformat()] = session.now.timestamp()
    await session.memory.put(MEMORY, {**everything, name: mine})


def _horizon(keys: Keys, now: datetime, meter: Meter) -> Window:
    last = last_whole_day(now, meter.commodity)
    return Window(last - timedelta(days=keys.interval_days - 1), last, meter.commodity)


async def _of_meter(keys: Keys, session: Session, known: Known, meter: Meter) -> list[Due]:
    horizon = _horizon(keys, session.now, meter)
    kept = [one for one in await known.intervals(meter.ean, horizon.start, horizon.end) if one.end - one.start < DAY / 2]
    everything: Mapping[str, Mapping[str, float]] = await session.memory.get(MEMORY, session.now) or {}
    times = everything.get(digest(meter.ean, meter.serial), {})
    days = []
    for day in horizon:
        whole = _whole(kept, Window(day, day, meter.commodity))
        wait, last = RECHECK if whole else RETRY, times.get(day.isoformat(), 0)
        # What was asked ahead of now was asked by a wrong clock: when, nobody knows.
        if not 0 <= session.now.timestamp() - last < wait.total_seconds():
            days.append(Due(meter, day, whole, not kept, last))
    return days


def _whole(kept: Sequence[KnownInterval], day: Window) -> bool:
    """Whether the kept intervals, in order, cover all of a day; each moment counts once, whichever registers it is in."""
    start, end = day.start, day.end
    first, after = (bisect_left(kept, bound, key=attrgetter("start")) for bound in (start, end))
    spans = {(one.start, one.end) for one in kept[first:after]}
    return sum((until - since for since, until in spans), timedelta()) >= end - start
