"""The newest days of each awaited series, the backlog, and the chunks of an import."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from exporter.errors import HistoryExhaustedError, NoDataError, PortalError, UnavailableError
from exporter.models import DAY, Commodity, Fact, Facts, Note, Reading, StateUpdate, UsagePoint, VisitPart
from exporter.portals.base import BackfillChunk
from exporter.portals.enedis.client import ConfiguredPoint, EnedisApiClient
from exporter.portals.enedis.contract import load_terms
from exporter.portals.enedis.measures import CONSUMPTION_DAYS, Measure, MeasureKind
from exporter.portals.enedis.progress import SeriesProgress, hash_prm, load_progress, store_progress
from exporter.portals.enedis.refusals import ConsentError, RetryNextDayError, RetryNextWeekError, TooManyDaysError
from exporter.portals.enedis.sync_state import SyncState
from exporter.portals.enedis.timestamps import local_day


@dataclass(frozen=True, slots=True)
class FetchedDays:
    """What was read, and from which day on: the first one wanted, unless calls after the first good one failed."""

    readings: Sequence[Reading]
    first: date


async def fetch_days(
    client: EnedisApiClient,
    point: ConfiguredPoint,
    progress: SeriesProgress,
    first: date,
    last: date,
    first_day_hint: date | None = None,
) -> FetchedDays:
    """Return the readings of local days [first, last]; none where there is no data.

    Limits reported by the source are recorded in `progress`; `first_day_hint` is when the contract began. Raise PortalErrors,
    of NoDataErrors only RetryNextDayError and RetryNextWeekError.
    """
    try:
        return FetchedDays(await client.fetch_measure(point, progress.measure, first, last + DAY), first)
    except TooManyDaysError:
        return await _fetch_in_shorter_calls(client, point, progress, first, last, first_day_hint)
    except HistoryExhaustedError:
        return await _fetch_from_first_day(client, point, progress, first, last, first_day_hint)
    except (RetryNextDayError, RetryNextWeekError):
        raise
    except NoDataError:
        return FetchedDays((), first)


async def _fetch_in_shorter_calls(
    client: EnedisApiClient,
    point: ConfiguredPoint,
    progress: SeriesProgress,
    first: date,
    last: date,
    first_day_hint: date | None,
) -> FetchedDays:
    """Split the days: 7 of a load curve were refused once, 6 were not."""
    refused = (last - first).days + 1
    if refused == 1:
        raise TooManyDaysError(f"{progress.measure.key} of {point.display_name}: even one day is too many")
    progress.max_days = min(progress.max_days, refused - 1 if refused <= 7 else refused // 2)
    newer = await fetch_days(client, point, progress, max(first, last - (progress.max_days - 1) * DAY), last, first_day_hint)
    if newer.first in {first, progress.floor}:
        return newer
    try:
        older = await fetch_days(client, point, progress, first, newer.first - DAY, first_day_hint)
    except PortalError:
        return newer
    return FetchedDays([*older.readings, *newer.readings], older.first)


async def _fetch_from_first_day(
    client: EnedisApiClient,
    point: ConfiguredPoint,
    progress: SeriesProgress,
    first: date,
    last: date,
    first_day_hint: date | None,
) -> FetchedDays:
    """Find the earliest day that is available: the contract's beginning if it is known, else by bisection.

    Each accepted call ends where the previous one began, so no day comes twice.
    """
    readings: list[Reading] = []
    refused, first_available = first, last + DAY
    while (first_available - refused).days > 1:
        hinted = first_day_hint is not None and refused < first_day_hint < first_available
        start = first_day_hint if first_day_hint is not None and hinted else refused + (first_available - refused) // 2
        try:
            readings += await client.fetch_measure(point, progress.measure, start, first_available)
        except HistoryExhaustedError:
            refused, first_day_hint = start, None
            continue
        except NoDataError:
            pass
        except PortalError:
            if first_available > last:
                raise
            return FetchedDays(readings, first_available)
        refused, first_available = start - DAY if hinted else refused, start
    progress.raise_floor(first_available)
    return FetchedDays(readings, first_available)


NEWEST_DAYS = 7
CURVE_OFF_NOTE = (
    "days are there but no load curve: its recording in the meter and its hourly collection are probably off; "
    "both are switched on in the customer's account at Enedis"
)


async def fetch_newest(state: SyncState) -> AsyncIterator[VisitPart]:
    """Return the newest days of all usage points; a refused one is a note, a failed series leaves the others whole."""
    for point in list(state.series):
        if state.is_stopped:
            return
        if note := await state.recall_refusal(point):
            yield note
            continue
        try:
            async for result in _fetch_point(state, point):
                yield result
        except ConsentError as refusal:
            yield await state.record_refusal(point, refusal)
        except PortalError as failure:
            state.record_failure(failure)


async def _fetch_point(state: SyncState, point: ConfiguredPoint) -> AsyncIterator[VisitPart]:
    if ends := await state.client.check_access(point):
        state.access_expiries.append(ends)
    for progress in state.series[point]:
        for reading in await _fetch_series(state, point, progress):
            yield reading
    for note in _build_notes(point, state.series[point], state.today):
        yield note
    if not state.is_stopped:
        terms = await load_terms(state.client, point)
        state.activation_days[point] = terms.activation_day
        if terms.power_kva is not None:
            yield Facts(UsagePoint(point.prm, Commodity.ELECTRICITY), {Fact.SUBSCRIBED_POWER: terms.power_kva})
        if terms.unavailable_reason:
            yield Note(terms.unavailable_reason)


async def _fetch_series(state: SyncState, point: ConfiguredPoint, progress: SeriesProgress) -> Sequence[Reading]:
    """Return the newest days of a due series; the same call fills holes and brings corrections."""
    first = max(state.today - min(NEWEST_DAYS, progress.max_days) * DAY, progress.floor or date.min)
    if first >= state.today:
        progress.idle = state.today
    if state.is_stopped or not progress.is_due(state.today):
        return []
    try:
        week = await fetch_days(state.client, point, progress, first, state.today - DAY)
    except (RetryNextDayError, RetryNextWeekError) as refusal:
        progress.pause_after(refusal, state.today)
        week = FetchedDays((), first)
    except ConsentError:
        raise
    except PortalError as failure:
        state.record_failure(failure)
        return []
    else:
        progress.record_newest_days(week.readings, week.first, state.today)
    state.record_response()
    return week.readings


def _build_notes(point: ConfiguredPoint, series: Sequence[SeriesProgress], today: date) -> Iterator[Note]:
    newest = {progress.measure: progress.newest for progress in series}
    for progress in series:
        if progress.is_paused(today):
            yield Note(progress.pause_reason)
            continue
        never = progress.measure.kind is MeasureKind.CURVE and progress.idle == today and progress.newest is None
        if never and newest.get(Measure(MeasureKind.DAYS, progress.measure.direction)):
            yield Note(f"{progress.measure.key} of {point.display_name}: {CURVE_OFF_NOTE}")


RESERVED_PER_AWAITED = 12
"""Calls for each series that is still awaited, one an hour: the past must not make visits rarer."""


async def fetch_some_backlog(state: SyncState) -> AsyncIterator[Reading]:
    """Spend a few calls on the backlog: the long series first, load curves last, each newest first.

    Calls for what is still awaited today are reserved.
    """
    client = state.client
    left = await client.quota.remaining(client.session, backfill=True) - RESERVED_PER_AWAITED * state.awaited_series
    allowed = client.calls_made + min(client.quota.backfill_per_visit, left)
    for point, progress in _sort_by_kind(state):
        # A series that never had data, not even last week, has no backlog.
        while progress.newest and not progress.is_paused(state.today) and client.calls_made < allowed and not state.failures:
            missing = progress.list_missing(state.today - progress.measure.limits.history, last_settled_day(state.today))
            if point in state.refusals or (days := next(missing, None)) is None:
                break
            for reading in await _fetch_older_days(state, point, progress, *days):
                yield reading


def _sort_by_kind(state: SyncState) -> list[tuple[ConfiguredPoint, SeriesProgress]]:
    records = [(point, progress) for point in state.open_points for progress in state.series[point]]
    return sorted(records, key=lambda pair: list(MeasureKind).index(pair[1].measure.kind))


async def _fetch_older_days(
    state: SyncState, point: ConfiguredPoint, progress: SeriesProgress, first: date, last: date
) -> Sequence[Reading]:
    try:
        hint = state.activation_days.get(point) or _guess_first_day(progress, state.series[point])
        older = await fetch_days(state.client, point, progress, first, last, hint)
    except ConsentError as refusal:
        await state.record_refusal(point, refusal)
        return []
    except (RetryNextDayError, RetryNextWeekError) as refusal:
        progress.pause_after(refusal, state.today)
        return []
    except PortalError as failure:
        state.record_failure(failure)
        return []
    progress.record_older_days(older.readings, older.first, last, last)
    return older.readings


def last_settled_day(today: date) -> date:
    """Return the last day that visits no longer request."""
    return today - (NEWEST_DAYS + 1) * DAY


async def list_backfill_chunks(
    client: EnedisApiClient, points: Sequence[ConfiguredPoint], first: date | None, last: date
) -> list[BackfillChunk]:
    """Return the calls of an import up to `last`: what no visit and no import has asked yet; load curves come last."""
    today = local_day(client.session.now)
    found = [
        (measure.kind, _build_chunk(number, progress, *days, today))
        for number, point in enumerate(points)
        for measure in point.measures
        if client.offers(measure)
        for progress in [await load_progress(client.session, point.prm, measure)]
        if not progress.is_paused(today)
        for days in progress.list_missing(max(last + DAY - measure.limits.history, first or date.min), last)
    ]
    newest_first = sorted(found, key=lambda pair: pair[1].last, reverse=True)
    return [chunk for _, chunk in sorted(newest_first, key=lambda pair: list(MeasureKind).index(pair[0]))]


def _build_chunk(number: int, progress: SeriesProgress, first: date, last: date, today: date) -> BackfillChunk:
    """Return a chunk; one with days that may still come has another key each day, so that it is requested again."""
    line = f"{progress.measure.key}:{hash_prm(progress.prm)}"
    key = f"{line}:{first}:{last}" if last <= last_settled_day(today) else f"{line}:{first}:{last}@{today}"
    return BackfillChunk(key, line, first, last, {"point": number, "measure": progress.measure.key})


async def fetch_backfill_chunk(
    client: EnedisApiClient, point: ConfiguredPoint, chunk: BackfillChunk, activation: date | None
) -> list[Reading | StateUpdate]:
    """Return the readings of one chunk, and the state to store with them.

    Raise HistoryExhaustedError when all of it is before the beginning, UnavailableError when the series is not available,
    and other PortalErrors.
    """
    today = local_day(client.session.now)
    (measure,) = (measure for measure in point.measures if measure.key == chunk.parameters["measure"])
    progress = await load_progress(client.session, point.prm, measure)
    if progress.floor and chunk.last < progress.floor:
        raise HistoryExhaustedError(f"{measure.key} of {point.display_name} begins later")
    first = max(chunk.first, progress.floor or chunk.first)
    try:
        hint = activation or _guess_first_day(progress, [await load_progress(client.session, point.prm, CONSUMPTION_DAYS)])
        older = await fetch_days(client, point, progress, first, chunk.last, hint)
    except (RetryNextDayError, RetryNextWeekError) as refusal:
        progress.pause_after(refusal, today)
        await store_progress(client.session, progress)
        raise UnavailableError(str(refusal)) from None
    progress.record_older_days(older.readings, older.first, chunk.last, last_settled_day(today))
    if not older.readings:
        # There is no reading to store it with, so it is stored at once.
        await store_progress(client.session, progress)
    if not older.readings and progress.floor and progress.floor > chunk.last:
        raise HistoryExhaustedError(f"{measure.key} of {point.display_name} begins later")
    return [*older.readings, progress.build_state_update()]


def _guess_first_day(progress: SeriesProgress, series: Sequence[SeriesProgress]) -> date | None:
    """Guess where a series begins: where the days of consumption do, which are kept the longest."""
    return next(
        (each.floor for each in series if each.measure == CONSUMPTION_DAYS and progress.measure != CONSUMPTION_DAYS), None
    )
