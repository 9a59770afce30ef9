"""The newest days: each series that is still awaited, read for the last seven days."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import date

from exporter.errors import PortalError
from exporter.model import Note, Reading, Told
from exporter.portals.enedis.measures import Kind, Measure
from exporter.portals.enedis.outcome import Outcome
from exporter.portals.enedis.progress import DAY, Progress
from exporter.portals.enedis.reader import Stretch, read_days
from exporter.portals.enedis.refusals import ConsentError, WaitDayError, WaitWeekError
from exporter.portals.enedis.terms import terms_of
from exporter.portals.enedis.way import Point

WEEK = 7
HOURLY_OFF = (
    "days are there but no load curve: its recording in the meter and its hourly collection are probably off; "
    "both are switched on in the customer's account at Enedis"
)


async def newest(outcome: Outcome) -> AsyncIterator[Told]:
    """Tell the newest days of all usage points; a refused one is a note, a failed series leaves the others whole."""
    for point in list(outcome.records):
        if outcome.stopped:
            return
        if note := await outcome.still_refused(point):
            yield note
            continue
        try:
            async for told in _point(outcome, point):
                yield told
        except ConsentError as refusal:
            yield await outcome.refuse(point, refusal)
        except PortalError as failure:
            outcome.failed(failure)


async def _point(outcome: Outcome, point: Point) -> AsyncIterator[Told]:
    if ends := await outcome.way.admission(point):
        outcome.ends.append(ends)
    for progress in outcome.records[point]:
        for reading in await _series(outcome, point, progress):
            yield reading
    for note in _notes(point, outcome.records[point], outcome.today):
        yield note
    if not outcome.stopped:
        terms = await terms_of(outcome.way, point)
        outcome.activations[point] = terms.activation
        for fact in terms.told(point.prm):
            yield fact


async def _series(outcome: Outcome, point: Point, progress: Progress) -> Sequence[Reading]:
    """Read a series that is due; the same call heals holes and brings corrections of the days before."""
    first = max(outcome.today - min(WEEK, progress.longest) * DAY, progress.floor or date.min)
    if first >= outcome.today:
        progress.idle = outcome.today
    if outcome.stopped or not progress.due(outcome.today):
        return []
    try:
        week = await read_days(outcome.way, point, progress, first, outcome.today - DAY)
    except (WaitDayError, WaitWeekError) as refusal:
        progress.pause_after(refusal, outcome.today)
        week = Stretch((), first)
    except ConsentError:
        raise
    except PortalError as failure:
        outcome.failed(failure)
        return []
    else:
        progress.took_week(week.readings, week.first, outcome.today)
    outcome.good()
    return week.readings


def _notes(point: Point, records: Sequence[Progress], today: date) -> Iterator[Note]:
    newest = {progress.measure: progress.newest for progress in records}
    for progress in records:
        if progress.off(today):
            yield Note(progress.off_why)
            continue
        never = progress.measure.kind is Kind.CURVE and progress.idle == today and progress.newest is None
        if never and newest.get(Measure(Kind.DAYS, progress.measure.direction)):
            yield Note(f"{progress.measure.key} of {point.called}: {HOURLY_OFF}")
