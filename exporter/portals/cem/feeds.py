"""What is asked of CEM: the last values of all counters at every visit, in batches, and their past readings as a feed.

The feed fills what lies between two visits too far apart.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

from exporter.client.session import Session
from exporter.errors import FeedRefusedError, LoginError, NoDataError, PortalError, RateLimitError, ResponseError, TooLongError
from exporter.models import DAY, Index, VisitResult
from exporter.portals.cem.catalog import (
    CounterSelection,
    LastValues,
    SelectedCounters,
    StatedValues,
    build_never_read_notes,
    format_numbers,
)
from exporter.portals.cem.client import CemApiClient, is_call_refused
from exporter.portals.cem.config import PRAGUE, CemConfig
from exporter.portals.cem.metadata import LAST_VALUES_KEY, MetadataStore
from exporter.portals.cem.parser import (
    CounterValues,
    build_value_notes,
    convert_indexes,
    parse_all_values,
    parse_last_values,
    unwrap_list,
)
from exporter.sync.feeds import Days, Feed, FeedResult, Form

MAX_READINGS_PER_RESPONSE = 250_000
"""How many readings one response of id=20 may hold, at one an hour and counter: some 12 MB."""
AROUND_MIDNIGHT, READINGS_AROUND_MIDNIGHT = timedelta(minutes=75), 3
"""Of an account whose days do not fit in a response: the readings from which the amounts of days follow."""
MAX_READINGS_BESIDE_MANY = 125_000
"""How many readings one response may hold beside the memory that so many counters take themselves."""
MAX_SINGLE_COUNTERS = 500
"""How many counters are requested one by one."""
LATE_FOR = timedelta(days=22)
"""Gateways that were off send their hours when they are on again: days older than this are requested once more."""
REFUSED_KEY, REFUSED_FOR = "history-refused", timedelta(days=7)
"""How long id=20 is not requested after the portal has refused it."""
MAX_FAILURES_IN_ROW = 3
"""After so many failed requests in a row no further one is made until the next visit."""
SILENT_KEY, SILENT_AFTER = "silent-since", timedelta(days=1)

BatchT = TypeVar("BatchT")


async def read_latest(config: CemConfig, metadata: MetadataStore) -> VisitResult:
    """Return the holder, the inventory and the last value of every selected counter."""
    session = metadata.client.session
    selected, stated = await metadata.load_selected()
    holder = await metadata.load_holder()
    batches = CounterBatches(metadata.client, batch_size=config.batch_size, parallel=config.parallel)
    last_values: LastValues = session.store.cache[LAST_VALUES_KEY]
    readings: list[Index] = []
    skipped: Counter[str] = Counter()
    async for values in batches.fetch(list(selected.registers)):
        skipped += values.skipped
        if any(last_values.has_changed_unit(key[0], value) for key, value in values.by_counter_and_time.items()):
            selected = await metadata.renew_types()
        for (counter, _), value in values.by_counter_and_time.items():
            last_values.put(counter, value)
        readings += convert_indexes(values, selected.registers, selected.scales)
    failures = [*batches.failures, *metadata.failures]
    if batches.failures and not batches.response_count:
        raise _select_worst_failure(failures)
    is_silent = bool(selected.registers) and not failures and not readings
    if left_out := _parse_left_out(stated, readings, session.now):
        skipped += left_out.skipped
        readings += convert_indexes(left_out, selected.registers, selected.scales)
    notes: list[str] = [
        *selected.notes,
        *build_never_read_notes(_find_unread(selected.never_read, readings)),
        *build_value_notes(skipped, "id=8 (last values)"),
        *await _build_silence_notes(session, is_silent=is_silent),
        *await metadata.list_notes(),
    ]
    return VisitResult(
        readings=readings,
        inventory=selected.inventory,
        holder=holder,
        notes=list(dict.fromkeys(notes)),
        failures=[_select_worst_failure(failures)] if failures else (),
        skipped=skipped.total() + metadata.skipped.total(),
    )


def build_feed(config: CemConfig) -> Feed:
    """Return the feed of all selected counters; another selection is another feed, for it lacks other readings."""
    selection = CounterSelection.from_config(config)
    numbers = [
        sorted(some) for some in (selection.counters, selection.excluded_counters, selection.objects, selection.excluded_objects)
    ]
    flags = selection.include_states, selection.include_removed
    return Feed(
        key=f"readings:{hashlib.sha256(repr([*numbers, *flags]).encode()).hexdigest()[:8]}",
        zone=PRAGUE,
        chunk=Days(config.history_days),
        form=Form.VISIT,
        resolution=None,
        reach=config.history_limit,
        settles=timedelta(0),
        recheck=LATE_FOR,
        gap=config.history_gap,
        label="the history of all counters",
    )


async def read_feed(config: CemConfig, metadata: MetadataStore, first: date, last: date) -> FeedResult:
    """Request all selected counters for local days [first, last]; raise TooLongError where they do not fit in a response."""
    client = metadata.client
    selected, _ = await metadata.load_selected()
    days = (last - first).days + 1
    if not selected.registers:
        raise NoDataError("no counter is selected")
    notes: list[str] = []
    values: CounterValues | None = None
    if config.history_by != "counter" and not _is_better_by_counter(config, selected, days):
        values = await _fetch_all_or_none(client, selected, first, last)
        if values is None:
            notes.append("the portal refuses the history of all counters at once (id=20): they are requested one by one")
    if values is None:
        values, refused = await _fetch_by_counter(client, selected, first, last)
        notes += refused
    readings = list(convert_indexes(values, selected.registers, selected.scales))
    notes += build_value_notes(values.skipped, "history")
    return FeedResult(readings, tuple(notes), values.skipped.total(), max(client.request_count, 1))


class CounterBatches:
    """The requests for last values in one visit; single counters are requested only where a batch as such is refused."""

    def __init__(self, client: CemApiClient, *, batch_size: int, parallel: int) -> None:
        self.failures: list[PortalError] = []
        self.response_count = 0
        self._client, self._batch_size, self._parallel = client, batch_size, parallel
        self._failures_in_row, self._is_rate_limited = 0, False
        self._single_counters: list[int] = []

    async def fetch(self, counters: Sequence[int]) -> AsyncIterator[CounterValues]:
        """Request every counter once and yield the values; raise LoginError, and errors that are not the portal's."""
        async for values in self._fetch_in_waves(self._fetch_batch, split(counters, self._batch_size)):
            yield values
        async for values in self._fetch_in_waves(self._fetch_single, self._single_counters):
            yield values

    async def _fetch_in_waves(
        self, fetch: Callable[[BatchT], Awaitable[CounterValues | None]], batches: Sequence[BatchT]
    ) -> AsyncIterator[CounterValues]:
        for wave in split(batches, self._parallel):
            if self._is_rate_limited or self._failures_in_row >= MAX_FAILURES_IN_ROW:
                return
            for result in await asyncio.gather(*map(fetch, wave), return_exceptions=True):
                if isinstance(result, BaseException):
                    self._record_failure(result)
                elif result is not None:
                    self._failures_in_row = 0
                    self.response_count += 1
                    yield result

    def _record_failure(self, error: BaseException) -> None:
        if not isinstance(error, PortalError) or isinstance(error, LoginError):
            raise error
        self.failures.append(error)
        self._failures_in_row += 1
        self._is_rate_limited = self._is_rate_limited or isinstance(error, RateLimitError)

    async def _fetch_batch(self, counters: Sequence[int]) -> CounterValues | None:
        """Request many counters; if the batch is refused, or the response is no list, leave them to single requests."""
        try:
            body = await self._client.post_json(8, [{"var_id": counter} for counter in counters])
        except PortalError as error:
            if not is_call_refused(error):
                raise
            body = None
        if unwrap_list(body) is None:
            self._single_counters += counters
            return None
        return parse_last_values(body, self._client.session.now)

    async def _fetch_single(self, counter: int) -> CounterValues:
        body = await self._client.get_json(8, {"var_id": str(counter)})
        return parse_last_values(body, self._client.session.now, requested_counter=counter)


def split(items: Sequence[BatchT], size: int) -> list[Sequence[BatchT]]:
    """Return items in groups of `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _parse_left_out(stated: StatedValues | None, readings: Sequence[Index], now: datetime) -> CounterValues | None:
    """Return what the responses left out, from the values that a new list of counters has `stated`."""
    if stated is None:
        return None
    read = {int(reading.register.name) for reading in readings}
    left_out = [
        {"var_id": counter, "value": value, "timestamp": time}
        for counter, value, time in zip(*stated, strict=True)
        if counter not in read
    ]
    return parse_last_values(left_out, now) if left_out else None


def _find_unread(never_read: frozenset[int], readings: Sequence[Index]) -> frozenset[int]:
    return never_read - {int(reading.register.name) for reading in readings} if never_read else never_read


async def _build_silence_notes(session: Session, *, is_silent: bool) -> list[str]:
    """Return a note when all counters have been without a value for a day."""
    since, now = await session.store.get(SILENT_KEY, session.now), session.now.timestamp()
    if not is_silent:
        if since is not None:
            await session.store.delete(SILENT_KEY)
        return []
    if since is None or since > now:
        await session.store.put(SILENT_KEY, now)
        return []
    if now - since < SILENT_AFTER.total_seconds():
        return []
    day = datetime.fromtimestamp(since, session.now.tzinfo)
    return [
        f"The portal has returned no last value of any selected counter since {day:%Y-%m-%d %H:%M} UTC: check `counters` and"
        " `objects`, and whether the login may still read them."
    ]


def _select_worst_failure(failures: list[PortalError]) -> PortalError:
    """Return the failure that decides when to retry: a rate limit, else the first one."""
    return next((failure for failure in failures if isinstance(failure, RateLimitError)), failures[0])


def _is_better_by_counter(config: CemConfig, selected: SelectedCounters, days: int) -> bool:
    """Return whether all counters do not fit in the memory, or a few of them take fewer requests one by one."""
    if READINGS_AROUND_MIDNIGHT * selected.counter_count > MAX_READINGS_BESIDE_MANY:
        return True
    fitting = MAX_READINGS_PER_RESPONSE // (24 * selected.counter_count)
    is_few = len(selected.registers) * max(fitting, 1) < config.history_days
    return config.history_by == "auto" and is_few and days > fitting


async def _fetch_all_or_none(client: CemApiClient, selected: SelectedCounters, first: date, last: date) -> CounterValues | None:
    """Request all counters with id=20; return None where the portal refuses that."""
    session, days = client.session, (last - first).days + 1
    if await session.store.get(REFUSED_KEY, session.now):
        return None
    if 24 * selected.counter_count > MAX_READINGS_PER_RESPONSE:
        spans = [_build_midnight_span(first + n * DAY) for n in range(days)]
        fitting = MAX_READINGS_BESIDE_MANY // (READINGS_AROUND_MIDNIGHT * selected.counter_count)
    else:
        # Days in Prague; whether `to` itself is included is not known: one more day loses nothing.
        spans = [{"from": first.isoformat(), "to": (last + DAY).isoformat()}]
        fitting = MAX_READINGS_PER_RESPONSE // (24 * selected.counter_count)
    if days > fitting:
        raise TooLongError(f"{days} days of {selected.counter_count} counters do not fit in a response")
    values = CounterValues.empty(session.now)
    try:
        for span in spans:
            values.update(parse_all_values(await client.get_json(20, span), session.now))
    except PortalError as error:
        if not is_call_refused(error) and not isinstance(error, ResponseError):
            raise
        await session.store.put(REFUSED_KEY, str(error), session.now + REFUSED_FOR)
        return None
    return values


async def _fetch_by_counter(
    client: CemApiClient, selected: SelectedCounters, first: date, last: date
) -> tuple[CounterValues, list[str]]:
    """Request counter by counter with id=3; one that is refused costs itself, and is noted."""
    if len(selected.registers) > MAX_SINGLE_COUNTERS:
        raise FeedRefusedError(
            f"the history of {len(selected.registers)} counters is not read: it does not come at once, and they are too many to"
            f" request it of each; select up to {MAX_SINGLE_COUNTERS}"
        )
    now, failed = client.session.now, dict[int, PortalError]()
    values = CounterValues.empty(now)
    days = {"from": first.isoformat(), "to": (last + DAY).isoformat()}
    for counter in selected.registers:
        try:
            body = await client.get_json(3, {"var_id": str(counter), **days})
            values.update(parse_last_values(body, now, requested_counter=counter, where="id=3"))
        except PortalError as error:
            if not is_call_refused(error) and not isinstance(error, ResponseError):
                raise
            failed[counter] = error
    if failed and len(failed) == len(selected.registers):
        raise next(iter(failed.values()))
    return values, [f"the portal refuses the history of some counters: {format_numbers(failed)}"] if failed else []


def _build_midnight_span(day: date) -> dict[str, str]:
    start = datetime.combine(day, time(), PRAGUE).astimezone(UTC)
    edges = (start - AROUND_MIDNIGHT, start + AROUND_MIDNIGHT)
    return dict(zip(("from_ms", "to_ms"), (str(round(at.timestamp() * 1000)) for at in edges), strict=True))
