"""Which days of intervals a visit asks for: what the ledger lacks first, then what the portal may have corrected."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

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


async def due(keys: Keys, session: Session, known: Known) -> list[Due]:
    """List the days to ask for: incomplete ones first, the newest first, at most `interval_requests`.

    A day older than `interval_days` is settled: a visit looks at it no more.
    """
    found: list[Due] = []
    for meter in keys.meters:
        if meter.intervals:
            found += await _of_meter(keys, session, known, meter)
    found.sort(key=lambda one: (one.whole, -one.day.toordinal()))
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
        wait = RECHECK if whole else RETRY
        if session.now.timestamp() - times.get(day.isoformat(), 0) >= wait.total_seconds():
            days.append(Due(meter, day, whole, not kept))
    return days


def _whole(kept: Iterable[KnownInterval], day: Window) -> bool:
    """Whether the kept intervals cover all of a day; each moment counts once, whichever registers it is in."""
    spans = {(one.start, one.end) for one in kept if day.start <= one.start < day.end}
    return sum((end - start for start, end in spans), timedelta()) >= day.end - day.start
