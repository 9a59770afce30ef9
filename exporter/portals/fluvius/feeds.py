"""The three feeds of a usage point: days, intervals and monthly peaks, over all the meters ever mounted there.

An older meter is requested only for days on which it may have been mounted.
"""

import hashlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Self

from exporter.client.session import Session, StoredReadings
from exporter.errors import HistoryExhaustedError, LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.models import DAY, Commodity, Inventory, Note, PartialFailure, Reading, StoredInterval, VisitPart
from exporter.portals.base import BackfillChunk
from exporter.portals.fluvius import parser, parser_2024
from exporter.portals.fluvius.amounts import ParsedAmounts, merge_amounts
from exporter.portals.fluvius.client import FluviusApiClient
from exporter.portals.fluvius.config import FluviusConfig, MeterConfig
from exporter.portals.fluvius.days import ZONE, DayRange, last_complete_day, month_start, subtract_months
from exporter.portals.fluvius.peaks import MonthlyPeaks, merge_monthly_peaks


@dataclass(frozen=True, slots=True)
class MeterHistory:
    """What is known of the meters, by their number in the list (the oldest is 0); days as ISO 8601, which sort.

    `alone`: from this day on nothing older was in place; `absent`: on this day it was not mounted yet.
    """

    alone: Mapping[str, str]
    absent: Mapping[str, str]

    @classmethod
    async def load(cls, session: Session, key: str) -> Self:
        """Return what earlier visits recorded."""
        kept: Mapping[str, Any] = await session.store.get(key, session.now) or {}
        return cls(kept.get("alone", {}), kept.get("absent", {}))

    async def record_whole_day(self, session: Session, key: str, number: int, count: int, day: date) -> None:
        """Record that one of `count` meters measured a whole day."""
        text = day.isoformat()
        alone = {str(number): min(text, self.alone.get(str(number), text))}
        absent = {str(later): max(text, self.absent.get(str(later), text)) for later in range(number + 1, count)}
        learned = MeterHistory({**self.alone, **alone}, {**self.absent, **absent})
        if learned != self:
            await session.store.put(key, asdict(learned))

    def can_have_measured(self, number: int, day: date) -> bool:
        """Whether a meter can have been in place on a day."""
        return day.isoformat() > self.absent.get(str(number), "")

    def is_only_meter(self, number: int, day: date) -> bool:
        """Whether nothing older than a meter can have been in place on a day."""
        return str(number) in self.alone and day.isoformat() >= self.alone[str(number)]


def build_digest(*parts: object) -> str:
    """Return a name of a meter or a feed for stored state: constant, and without a personal number."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


async def fetch_days(client: FluviusApiClient, meter: MeterConfig, window: DayRange) -> ParsedAmounts:
    """Return the amounts of whole days.

    With replaced meters one day more is requested: when the current meter has it, it measured the whole range, and an older
    one adds nothing. Else the day it was mounted may be in the range, and needs both meters.
    """
    code, where = client.config.get_day_granularity(), f"{client.describe_meter(meter)}, days"
    if client.config.api == 2024:
        return parser_2024.parse_amounts(await client.fetch_history(meter, None, window, code), where, meter.commodity)
    extended = window.extend_one_day_back() if len(meter.serial) > 1 else window
    parts = []
    for serial in reversed(meter.serial):
        body = await client.fetch_history(meter, serial, extended, code)
        parts.append(parser.parse_records(body, where, meter.commodity))
        if any(start < window.start for start, _ in parts[-1].amounts):
            break
    return merge_amounts(parts).drop_before(window.start)


async def fetch_intervals(client: FluviusApiClient, meter: MeterConfig, day: date) -> ParsedAmounts:
    """Return one metering day in quarter-hours (gas: hours); an older meter is requested where the current one has gaps."""
    window, where = DayRange(day, day, meter.commodity), f"{client.describe_meter(meter)}, intervals"
    key, count = f"tenure:{build_digest(meter.ean, meter.serial)}", len(meter.serial)
    history = await MeterHistory.load(client.session, key)
    parts = []
    for number in filter(lambda index: history.can_have_measured(index, day), reversed(range(count))):
        body = await client.fetch_history(meter, meter.serial[number], window, client.config.get_interval_granularity(meter))
        parts.append(parser.parse_records(body, where, meter.commodity))
        if whole := parts[-1].sum_interval_time() >= window.end - window.start:
            await history.record_whole_day(client.session, key, number, count, day)
        if whole or history.is_only_meter(number, day):
            break
    return merge_amounts(parts)


async def fetch_peaks(client: FluviusApiClient, meter: MeterConfig, first: date, last: date) -> MonthlyPeaks:
    """Return the monthly peaks from the month of `first` to `last`; as with days, one month more is requested."""
    where = f"{client.describe_meter(meter)}, peaks"
    several = client.config.api == 2025 and len(meter.serial) > 1
    window = DayRange(subtract_months(first, 1 if several else 0), last, Commodity.ELECTRICITY)
    if client.config.api == 2024:
        return parser_2024.parse_peaks(await client.fetch_peaks(meter, None, window), where)
    found = []
    for serial in reversed(meter.serial):
        found.append(parser.parse_peaks(await client.fetch_peaks(meter, serial, window), where))
        if any(start < month_start(first) for start, _ in found[-1].months):
            break
    return merge_monthly_peaks(found).drop_before(month_start(first))


def build_notes(client: FluviusApiClient, meter: MeterConfig, parsed: ParsedAmounts | MonthlyPeaks) -> list[Note]:
    """Return notes on what was skipped in a response."""
    if not parsed.skipped:
        return []
    counted = ", ".join(f"{count} {what}" for what, count in sorted(parsed.skipped.items()))
    return [Note(f"{client.describe_meter(meter)}: skipped unknown data in the response: {counted}")]


HISTORY_LIMIT = timedelta(days=3 * 365 + 1)
"""The portal keeps no more."""
SETTLED_AFTER = timedelta(days=14)
"""When a day is no longer expected to come late or to change."""
QUOTA_NAME, QUOTA_PERIOD = "history", timedelta(hours=1)


def list_backfill_chunks(config: FluviusConfig, now: datetime, first: date | None, last: date | None) -> list[BackfillChunk]:
    """Return the requests of an import, the newest days first; a chunk keeps its key once its days are settled."""
    found: list[BackfillChunk] = []
    for meter in config.meters:
        newest = last_complete_day(now, meter.commodity)
        oldest = newest - HISTORY_LIMIT
        begin, end = max(first or oldest, oldest), min(last or newest, newest)
        for what, code in _list_feed_granularities(config, meter).items():
            line = f"{what}:{build_digest(meter.ean, meter.serial, config.api, code)}"
            for start, until in _split_days(what, config.past_days, begin, end):
                fresh = f"@{newest}" if until > newest - SETTLED_AFTER else ""
                ask = {"what": what, "meter": build_digest(meter.ean, meter.serial)}
                found.append(BackfillChunk(f"{line}:{start}..{until}{fresh}", line, start, until, ask))
    return sorted(found, key=lambda chunk: chunk.last, reverse=True)


async def fetch_backfill_chunk(config: FluviusConfig, session: Session, chunk: BackfillChunk) -> list[Reading]:
    """Make the requests of one chunk.

    Raises RateLimitError when the quota is used up, and HistoryExhaustedError when intervals stay away for `past_empty_days`.
    """
    client = FluviusApiClient(config, session, before_request=lambda: _spend_request(config, session))
    meter = _find_meter(config, chunk)
    await client.log_in()
    if chunk.parameters["what"] == "peaks":
        today = session.now.astimezone(ZONE).date()
        month_end = subtract_months(chunk.last, -1) - DAY
        return [*(await fetch_peaks(client, meter, chunk.first, min(month_end, today))).build_readings(meter.usage_point)]
    if chunk.parameters["what"] == "days":
        parsed = await fetch_days(client, meter, DayRange(chunk.first, chunk.last, meter.commodity))
    else:
        parsed = await fetch_intervals(client, meter, chunk.first)
        if not parsed.amounts and chunk.last <= last_complete_day(session.now, meter.commodity) - SETTLED_AFTER:
            await _record_empty_chunk(config, session, chunk)
    return [*parsed.build_readings(meter.usage_point, session.now)]


def _list_feed_granularities(config: FluviusConfig, meter: MeterConfig) -> dict[str, int]:
    """Return the feeds of a meter, each with its granularity code."""
    lines = {"days": config.get_day_granularity()}
    if meter.commodity is Commodity.ELECTRICITY:
        lines["peaks"] = 0
    if meter.intervals:
        lines["intervals"] = config.get_interval_granularity(meter)
    return lines


def _split_days(feed: str, max_days: int, begin: date, end: date) -> Iterator[tuple[date, date]]:
    """Split [begin, end] at fixed boundaries: intervals by day, peaks by year, days by their count."""
    day = begin
    while day <= end:
        if feed == "peaks":
            cut = date(day.year, 12, 31)
        else:
            length = 1 if feed == "intervals" else max_days
            cut = date.fromordinal((day.toordinal() // length + 1) * length - 1)
        yield day, min(cut, end)
        day = cut + DAY


def _find_meter(config: FluviusConfig, chunk: BackfillChunk) -> MeterConfig:
    for meter in config.meters:
        if build_digest(meter.ean, meter.serial) == chunk.parameters["meter"]:
            return meter
    raise ResponseError("the meter of this chunk is no longer in the configuration")


async def _record_empty_chunk(config: FluviusConfig, session: Session, chunk: BackfillChunk) -> None:
    """Record the run of days without intervals. Raise HistoryExhaustedError when it is long enough."""
    key = f"empty:{chunk.feed}"
    kept = await session.store.get(key, session.now)
    oldest, newest = (date.fromisoformat(one) for one in kept) if kept else (chunk.first, chunk.last)
    if oldest - DAY == chunk.last:
        oldest = chunk.first
    elif not oldest <= chunk.first <= newest:
        oldest, newest = chunk.first, chunk.last
    await session.store.put(key, [oldest.isoformat(), newest.isoformat()])
    if (newest - oldest).days + 1 >= config.past_empty_days:
        raise HistoryExhaustedError(f"no intervals for {config.past_empty_days} days: the portal has none that are older")


async def _spend_request(config: FluviusConfig, session: Session) -> None:
    """Count one request against the quota. Raise RateLimitError with the wait when it is used up."""
    now, memory = session.now, session.store
    if await memory.count_calls(QUOTA_NAME, now - QUOTA_PERIOD) < config.past_requests:
        await memory.record_calls(QUOTA_NAME, now)
        return
    for minutes in range(1, 61):
        wait = timedelta(minutes=minutes)
        if await memory.count_calls(QUOTA_NAME, now - QUOTA_PERIOD + wait) < config.past_requests:
            break
    raise RateLimitError(f"the import has made its {config.past_requests} requests of this hour", wait)


INCOMPLETE_RETRY = timedelta(hours=3)
"""Before a day that was not there, or not whole, is asked for again."""
COMPLETE_RECHECK = timedelta(days=3)
"""Before a whole day is read again for corrections, until it is settled."""
REQUESTED_DAYS_KEY = "intervals-asked"


@dataclass(frozen=True, slots=True)
class DueDay:
    """A metering day to ask for; `has_no_readings`: the ledger has no interval of the meter as far as a visit looks back."""

    meter: MeterConfig
    day: date
    is_complete: bool
    has_no_readings: bool
    requested_at: float
    """When it was last asked for (Unix seconds), 0 for never."""


async def select_due_days(config: FluviusConfig, session: Session, stored: StoredReadings) -> list[DueDay]:
    """Return the days to request, at most `interval_requests`.

    Incomplete days go before whole ones; of these, days never asked for go first, the newest before older ones, so that
    what the portal lacks keeps nothing else waiting. A day older than `interval_days` is settled: a visit looks at it no more.
    """
    found: list[DueDay] = []
    for meter in config.meters:
        if meter.intervals:
            found += await _select_meter_days(config, session, stored, meter)
    found.sort(key=lambda one: (one.is_complete, one.requested_at, -one.day.toordinal()))
    return found[: config.interval_requests]


async def record_request(config: FluviusConfig, session: Session, meter: MeterConfig, day: date) -> None:
    """Record when a day was requested, and drop settled ones."""
    everything = await session.store.get(REQUESTED_DAYS_KEY, session.now) or {}
    name, oldest = build_digest(meter.ean, meter.serial), _build_recheck_range(config, session.now, meter).first.isoformat()
    mine = {one: at for one, at in everything.get(name, {}).items() if one >= oldest}
    mine[day.isoformat()] = session.now.timestamp()
    await session.store.put(REQUESTED_DAYS_KEY, {**everything, name: mine})


def _build_recheck_range(config: FluviusConfig, now: datetime, meter: MeterConfig) -> DayRange:
    last = last_complete_day(now, meter.commodity)
    return DayRange(last - timedelta(days=config.interval_days - 1), last, meter.commodity)


async def _select_meter_days(config: FluviusConfig, session: Session, stored: StoredReadings, meter: MeterConfig) -> list[DueDay]:
    horizon = _build_recheck_range(config, session.now, meter)
    kept = [one for one in await stored.intervals(meter.ean, horizon.start, horizon.end) if one.end - one.start < DAY / 2]
    everything: Mapping[str, Mapping[str, float]] = await session.store.get(REQUESTED_DAYS_KEY, session.now) or {}
    times = everything.get(build_digest(meter.ean, meter.serial), {})
    days = []
    for day in horizon:
        whole = _is_covered(kept, DayRange(day, day, meter.commodity))
        wait, last = COMPLETE_RECHECK if whole else INCOMPLETE_RETRY, times.get(day.isoformat(), 0)
        # What was asked ahead of now was asked by a wrong clock: when, nobody knows.
        if not 0 <= session.now.timestamp() - last < wait.total_seconds():
            days.append(DueDay(meter, day, whole, not kept, last))
    return days


def _is_covered(intervals: Sequence[StoredInterval], day: DayRange) -> bool:
    """Whether the kept intervals, in order, cover all of a day; each moment counts once, whichever registers it is in."""
    start, end = day.start, day.end
    first, after = (bisect_left(intervals, bound, key=attrgetter("start")) for bound in (start, end))
    spans = {(one.start, one.end) for one in intervals[first:after]}
    return sum((until - since for since, until in spans), timedelta()) >= end - start


PEAK_MONTHS = 13
INTERVAL_DELAY = timedelta(days=5)
"""A day older than this would be there if the portal had any intervals of the meter."""


async def fetch_visit(config: FluviusConfig, session: Session, stored: StoredReadings) -> AsyncIterator[VisitPart]:
    """Return all that is new. Raise what the login raises, and the first error when no part succeeded."""
    client, parts = FluviusApiClient(config, session), _VisitParts()
    await client.log_in()
    yield Inventory(tuple(meter.usage_point for meter in config.meters))
    for meter in config.meters:
        for fetch in (_visit_days, _visit_peaks) if meter.commodity is Commodity.ELECTRICITY else (_visit_days,):
            for result in await parts.fetch(meter, partial(fetch, client, meter)):
                yield result
    for missing in await select_due_days(config, session, stored):
        for result in await parts.fetch(missing.meter, partial(_visit_intervals, client, missing)):
            yield result
    for failure in parts.list_failures():
        yield failure


class _VisitParts:
    """The parts of a visit that succeeded and failed.

    When the portal cannot be reached for a meter, that meter is left for the next visit; when it asks us to slow down,
    or refuses the login, so are all.
    """

    def __init__(self) -> None:
        self._has_succeeded = False
        self._failures: list[PortalError] = []
        self._unreachable_eans: set[str] = set()
        self._is_rate_limited = False

    async def fetch(self, meter: MeterConfig, part: Callable[[], Awaitable[list[VisitPart]]]) -> list[VisitPart]:
        """Return the results of a part; none when it failed or was not tried."""
        if self._is_rate_limited or meter.ean in self._unreachable_eans:
            return []
        try:
            results = await part()
        except LoginError:
            raise
        except PortalError as error:
            self._failures.append(error)
            self._is_rate_limited = isinstance(error, RateLimitError)
            self._unreachable_eans |= {meter.ean} if isinstance(error, UnreachableError) else set()
            return []
        self._has_succeeded = True
        return results

    def list_failures(self) -> Iterator[PartialFailure]:
        """Return what failed. Raise the first failure when nothing succeeded."""
        if self._failures and not self._has_succeeded:
            raise self._failures[0]
        return map(PartialFailure, self._failures)


async def _visit_days(client: FluviusApiClient, meter: MeterConfig) -> list[VisitPart]:
    last = last_complete_day(client.session.now, meter.commodity)
    parsed = await fetch_days(client, meter, DayRange(last - timedelta(days=client.config.days - 1), last, meter.commodity))
    results = _collect_results(client, meter, parsed)
    if parsed.amounts and not parsed.has_whole_days():
        results.append(_build_length_note(client, meter, "day", client.config.get_day_granularity()))
    return results


async def _visit_peaks(client: FluviusApiClient, meter: MeterConfig) -> list[VisitPart]:
    today = client.session.now.astimezone(ZONE).date()
    peaks = await fetch_peaks(client, meter, subtract_months(today, PEAK_MONTHS), today)
    return [*peaks.build_readings(meter.usage_point), *build_notes(client, meter, peaks)]


async def _visit_intervals(client: FluviusApiClient, due_day: DueDay) -> list[VisitPart]:
    meter = due_day.meter
    parsed = await fetch_intervals(client, meter, due_day.day)
    await record_request(client.config, client.session, meter, due_day.day)
    results = _collect_results(client, meter, parsed)
    if parsed.amounts and not parsed.sum_interval_time():
        results.append(_build_length_note(client, meter, "interval", client.config.get_interval_granularity(meter)))
    day = DayRange(due_day.day, due_day.day, meter.commodity)
    if not parsed.amounts and due_day.has_no_readings and client.session.now - day.end > INTERVAL_DELAY:
        results.append(
            Note(f"{client.describe_meter(meter)}: no intervals come; quarter-hours (gas: hours) are switched on in the portal")
        )
    return results


def _collect_results(client: FluviusApiClient, meter: MeterConfig, parsed: ParsedAmounts) -> list[VisitPart]:
    return [*parsed.build_readings(meter.usage_point, client.session.now), *build_notes(client, meter, parsed)]


def _build_length_note(client: FluviusApiClient, meter: MeterConfig, feed: str, granularity: int) -> Note:
    name = client.describe_meter(meter)
    return Note(f"{name}: code {granularity} brought records of another length than a {feed}: see the key `granularity`")
