"""One stretch of days read in as many calls as it takes: shorter ones, or from the first day that exists."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from exporter.errors import EndOfPastError, NoDataError, PortalError
from exporter.model import Reading
from exporter.portals.enedis.progress import DAY, Progress
from exporter.portals.enedis.refusals import TooLongError, WaitDayError, WaitWeekError
from exporter.portals.enedis.way import Point, Way


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was read, and from which day on: the first one wanted, unless calls after the first good one failed."""

    readings: Sequence[Reading]
    first: date


async def read_days(way: Way, point: Point, progress: Progress, first: date, last: date, hint: date | None = None) -> Stretch:
    """Read local days [first, last]; nothing there is no reading.

    What the source says of its limits is noted in `progress`; `hint` is when the contract began. Raises the PortalErrors
    but NoDataError, of which it lets WaitDayError and WaitWeekError pass.
    """
    try:
        return Stretch(await way.read(point, progress.measure, first, last + DAY), first)
    except TooLongError:
        return await _shorter(way, point, progress, first, last, hint)
    except EndOfPastError:
        return await _from_the_beginning(way, point, progress, first, last, hint)
    except (WaitDayError, WaitWeekError):
        raise
    except NoDataError:
        return Stretch((), first)


async def _shorter(way: Way, point: Point, progress: Progress, first: date, last: date, hint: date | None) -> Stretch:
    """Split the days: 7 of a load curve were refused once, 6 were not."""
    refused = (last - first).days + 1
    if refused == 1:
        raise TooLongError(f"{progress.measure.key} of {point.called}: even one day is too many")
    progress.longest = min(progress.longest, refused - 1 if refused <= 7 else refused // 2)
    newer = await read_days(way, point, progress, max(first, last - (progress.longest - 1) * DAY), last, hint)
    if newer.first in {first, progress.floor}:
        return newer
    try:
        older = await read_days(way, point, progress, first, newer.first - DAY, hint)
    except PortalError:
        return newer
    return Stretch([*older.readings, *newer.readings], older.first)


async def _from_the_beginning(way: Way, point: Point, progress: Progress, first: date, last: date, hint: date | None) -> Stretch:
    """Find the earliest day that may be asked for: the contract's beginning if it is known, else by halving.

    Each call that is not refused reads only up to the one before it, so no day comes twice.
    """
    readings: list[Reading] = []
    refused, taken = first, last + DAY
    while (taken - refused).days > 1:
        hinted = hint is not None and refused < hint < taken
        start = hint if hint is not None and hinted else refused + (taken - refused) // 2
        try:
            readings += await way.read(point, progress.measure, start, taken)
        except EndOfPastError:
            refused, hint = start, None
            continue
        except NoDataError:
            pass
        except PortalError:
            if taken > last:
                raise
            return Stretch(readings, taken)
        refused, taken = start - DAY if hinted else refused, start
    progress.rise(taken)
    return Stretch(readings, taken)
