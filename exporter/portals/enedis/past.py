"""The past: a few calls of each visit, and the pieces of an import; both share what is done."""

from collections.abc import AsyncIterator, Sequence
from datetime import date

from exporter.errors import EndOfPastError, NotNowError, PortalError
from exporter.model import Reading, Remember
from exporter.portals.base import Piece
from exporter.portals.enedis.measures import DAYS, Kind
from exporter.portals.enedis.outcome import Outcome
from exporter.portals.enedis.progress import DAY, Progress, keep, mark, recall
from exporter.portals.enedis.reader import read_days
from exporter.portals.enedis.refusals import ConsentError, WaitDayError, WaitWeekError
from exporter.portals.enedis.stamps import local_day
from exporter.portals.enedis.way import Point, Way
from exporter.portals.enedis.week import WEEK

SET_ASIDE = 12
"""Calls for each series that is still awaited, one an hour: the past must not make visits rarer."""


async def trickle(outcome: Outcome) -> AsyncIterator[Reading]:
    """Spend a few calls on what was never asked: the long series first, load curves last, each newest first.

    What is still awaited today has its calls set aside.
    """
    way = outcome.way
    left = await way.budget.left(way.session, past=True) - SET_ASIDE * outcome.awaited
    allowed = way.made + min(way.budget.trickle, left)
    for point, progress in _by_kind(outcome):
        # Of a series that never came, not even of last week, there is no past to ask for.
        while progress.newest and not progress.off(outcome.today) and way.made < allowed and not outcome.failures:
            missing = progress.missing(outcome.today - progress.measure.limits.history, settled(outcome.today))
            if point in outcome.refused or (days := next(missing, None)) is None:
                break
            for reading in await _older(outcome, point, progress, *days):
                yield reading


def _by_kind(outcome: Outcome) -> list[tuple[Point, Progress]]:
    records = [(point, progress) for point in outcome.open_points for progress in outcome.records[point]]
    return sorted(records, key=lambda pair: list(Kind).index(pair[1].measure.kind))


async def _older(outcome: Outcome, point: Point, progress: Progress, first: date, last: date) -> Sequence[Reading]:
    try:
        hint = outcome.activations.get(point) or _beginning(progress, outcome.records[point])
        older = await read_days(outcome.way, point, progress, first, last, hint)
    except ConsentError as refusal:
        await outcome.refuse(point, refusal)
        return []
    except (WaitDayError, WaitWeekError) as refusal:
        progress.pause_after(refusal, outcome.today)
        return []
    except PortalError as failure:
        outcome.failed(failure)
        return []
    progress.took_past(older.readings, older.first, last, last)
    return older.readings


def settled(today: date) -> date:
    """Give the last day that visits no longer read: what has not come of it comes no more."""
    return today - (WEEK + 1) * DAY


async def pieces_of(way: Way, points: Sequence[Point], first: date | None, last: date) -> list[Piece]:
    """List the calls of an import up to `last`: what no visit and no import has asked yet; load curves come last."""
    today = local_day(way.session.now)
    found = [
        (measure.kind, _piece(number, progress, *days, today))
        for number, point in enumerate(points)
        for measure in point.measures
        if way.offers(measure)
        for progress in [await recall(way.session, point.prm, measure)]
        if not progress.off(today)
        for days in progress.missing(max(last + DAY - measure.limits.history, first or date.min), last)
    ]
    newest_first = sorted(found, key=lambda pair: pair[1].last, reverse=True)
    return [piece for _, piece in sorted(newest_first, key=lambda pair: list(Kind).index(pair[0]))]


def _piece(number: int, progress: Progress, first: date, last: date, today: date) -> Piece:
    """Name a piece; one with days that may still come has another name each day, so that it is asked again."""
    line = f"{progress.measure.key}:{mark(progress.prm)}"
    key = f"{line}:{first}:{last}" if last <= settled(today) else f"{line}:{first}:{last}@{today}"
    return Piece(key, line, first, last, {"point": number, "measure": progress.measure.key})


async def read_piece(way: Way, point: Point, piece: Piece, activation: date | None) -> list[Reading | Remember]:
    """Read one piece, and what is to be kept with it.

    Raises EndOfPastError when all of it lies before the beginning, NotNowError when the series is not given to us; and the
    PortalErrors.
    """
    today = local_day(way.session.now)
    (measure,) = (measure for measure in point.measures if measure.key == piece.ask["measure"])
    progress = await recall(way.session, point.prm, measure)
    if progress.floor and piece.last < progress.floor:
        raise EndOfPastError(f"{measure.key} of {point.called} begins later")
    first = max(piece.first, progress.floor or piece.first)
    try:
        hint = activation or _beginning(progress, [await recall(way.session, point.prm, DAYS)])
        older = await read_days(way, point, progress, first, piece.last, hint)
    except (WaitDayError, WaitWeekError) as refusal:
        progress.pause_after(refusal, today)
        await keep(way.session, progress)
        raise NotNowError(str(refusal)) from None
    progress.took_past(older.readings, older.first, piece.last, settled(today))
    if not older.readings:
        # No reading hangs on this, so it is kept at once.
        await keep(way.session, progress)
    if not older.readings and progress.floor and progress.floor > piece.last:
        raise EndOfPastError(f"{measure.key} of {point.called} begins later")
    return [*older.readings, progress.remember()]


def _beginning(progress: Progress, records: Sequence[Progress]) -> date | None:
    """Guess where a series begins: where the days of consumption do, which are kept the longest."""
    return next((each.floor for each in records if each.measure == DAYS and progress.measure != DAYS), None)
