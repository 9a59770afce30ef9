"""The feeds of CEM: the last values of all counters, in batches, and their history, in chunks of days."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import TypeVar

from exporter.client.session import Session
from exporter.errors import HistoryExhaustedError, LoginError, PortalError, RateLimitError
from exporter.models import DAY, Note, VisitPart
from exporter.portals.base import BackfillChunk
from exporter.portals.cem.catalog import CounterSelection, SelectedCounters, StatedValues, build_never_read_notes
from exporter.portals.cem.client import CemApiClient, RefusedCallError
from exporter.portals.cem.parser import (
    CounterValues,
    convert_indexes,
    parse_all_values,
    parse_last_values,
    unwrap_list,
)

MAX_FAILURES_IN_ROW = 3
"""After so many failed requests in a row no further one is made until the next visit."""
ALL_COUNTERS = "all"
MAX_READINGS_PER_RESPONSE = 250_000
"""How many readings one response of id=20 may hold, at one an hour and counter: some 12 MB."""
CHUNK_DAYS = (7, 2, 1)
SETTLED_AFTER = timedelta(days=7)
"""When no reading of a day is expected any more: a gateway that was off sends what it has stored."""

BatchT = TypeVar("BatchT")


class LastValuesFeed:
    """The requests for last values in one visit; single counters are requested only where a batch as such is refused."""

    def __init__(self, client: CemApiClient, *, batch_size: int, parallel: int) -> None:
        self.failures: list[PortalError] = []
        self._client, self._batch_size, self._parallel = client, batch_size, parallel
        self._failures_in_row, self._is_rate_limited = 0, False
        self._single_counters: list[int] = []

    async def fetch(self, counters: Sequence[int]) -> AsyncIterator[CounterValues]:
        """Request every counter once and yield the values; raise LoginError, and errors that are not the portal's."""
        async for values in self._fetch_in_waves(self._fetch_batch, _split(counters, self._batch_size)):
            yield values
        async for values in self._fetch_in_waves(self._fetch_single, self._single_counters):
            yield values

    async def _fetch_in_waves(
        self, fetch: Callable[[BatchT], Awaitable[CounterValues | None]], batches: Sequence[BatchT]
    ) -> AsyncIterator[CounterValues]:
        for wave in _split(batches, self._parallel):
            if self._is_rate_limited or self._failures_in_row >= MAX_FAILURES_IN_ROW:
                return
            for result in await asyncio.gather(*map(fetch, wave), return_exceptions=True):
                if isinstance(result, BaseException):
                    self._record_failure(result)
                elif result is not None:
                    self._failures_in_row = 0
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
        except RefusedCallError:
            body = None
        if unwrap_list(body) is None:
            self._single_counters += counters
            return None
        return parse_last_values(body, self._client.session.now)

    async def _fetch_single(self, counter: int) -> CounterValues:
        body = await self._client.get_json(8, {"var_id": str(counter)})
        return parse_last_values(body, self._client.session.now, requested_counter=counter)


class VisitReadings:
    """The readings of one visit so far."""

    def __init__(self, selected: SelectedCounters) -> None:
        self._selected = selected
        self._read_counters: set[int] = set()
        self._has_impossible_times = False
        self.response_count = 0

    def convert(self, values: CounterValues) -> Iterable[VisitPart]:
        """Yield the readings of one response."""
        self.response_count += 1
        self._has_impossible_times = self._has_impossible_times or values.has_impossible_times
        for index in convert_indexes(values, self._selected.registers):
            self._read_counters.add(int(index.register.name))
            yield index

    def convert_remaining(self, now: datetime, stated: StatedValues) -> Iterable[VisitPart]:
        """Yield what the responses left out, from the values that a new list of counters has `stated`, and the notes."""
        left_out = [
            {"var_id": counter, "value": value, "timestamp": time}
            for counter, value, time in stated
            if counter not in self._read_counters
        ]
        if left_out:
            yield from self.convert(parse_last_values(left_out, now))
        yield from build_never_read_notes(self._selected.never_read - self._read_counters)
        if self._has_impossible_times:
            yield Note("Some readings carry an impossible time and were left out.")


def choose_chunk_days(counter_count: int, selected_count: int, max_days: int) -> int | None:
    """Return how many days of all counters fit in one response; None where one request per counter takes fewer of them."""
    hourly = 24 * counter_count
    fitting = (days for days in (max_days, *CHUNK_DAYS) if days <= max_days and days * hourly <= MAX_READINGS_PER_RESPONSE)
    days = next(fitting, None)
    return days if days and max_days <= selected_count * days else None


def split_days(first: date, last: date, days: int) -> Iterator[tuple[date, date]]:
    """Split [first, last] into spans of `days`, newest first, at boundaries that do not depend on the present day."""
    while first <= last:
        start = max(first, last - timedelta(days=last.toordinal() % days))
        yield start, last
        last = start - DAY


def build_account_chunks(spans: Iterable[tuple[date, date]], selection: CounterSelection, today: date) -> Iterator[BackfillChunk]:
    """Yield the requests of id=20; the key holds the selection, which decides what is used of a response."""
    numbers = [
        sorted(some) for some in (selection.counters, selection.excluded_counters, selection.objects, selection.excluded_objects)
    ]
    digest = hashlib.sha256(repr([*numbers, selection.include_states, selection.include_removed]).encode()).hexdigest()[:8]
    for first, last in spans:
        yield BackfillChunk(f"{ALL_COUNTERS}:{digest}:{_build_span_key(first, last, today)}", ALL_COUNTERS, first, last)


def build_counter_chunks(spans: Iterable[tuple[date, date]], counters: Iterable[int], today: date) -> Iterator[BackfillChunk]:
    """Yield the requests of id=3, the newest days of every counter first."""
    numbers = list(counters)
    for first, last in spans:
        for number in numbers:
            yield BackfillChunk(f"{number}:{_build_span_key(first, last, today)}", str(number), first, last, {"var_id": number})


def _build_span_key(first: date, last: date, today: date) -> str:
    """Return a lasting key for settled days; later days have a new key each day, so that they are requested again."""
    return f"{first}:{last}" if last < today - SETTLED_AFTER else f"{first}:{last}@{today}"


async def fetch_chunk_values(client: CemApiClient, chunk: BackfillChunk) -> CounterValues:
    """Request id=3 for one counter or id=20 for all."""
    # Days in Prague; whether `to` itself is included is not known: one more day loses nothing.
    days = {"from": chunk.first.isoformat(), "to": (chunk.last + DAY).isoformat()}
    if counter := chunk.parameters.get("var_id"):
        body = await client.get_json(3, {"var_id": str(counter), **days})
        return parse_last_values(body, client.session.now, requested_counter=int(counter), where="id=3")
    return parse_all_values(await client.get_json(20, days), client.session.now)


async def record_empty_chunk(session: Session, chunk: BackfillChunk, empty: bool, max_gap: timedelta) -> None:
    """Record how far back nothing came; raise HistoryExhaustedError when that is longer than a gap in the data would be."""
    key = f"emptiness:{chunk.feed}"
    if not empty:
        return await session.store.delete(key)
    stored = await session.store.get(key, session.now)
    last = chunk.last
    if stored and stored["first"] == (last + DAY).isoformat():
        last = date.fromisoformat(stored["last"])
    await session.store.put(key, {"first": chunk.first.isoformat(), "last": last.isoformat()})
    if last + DAY - chunk.first >= max_gap:
        raise HistoryExhaustedError(f"nothing came from {chunk.first} to {last}")
    return None


def _split(items: Sequence[BatchT], size: int) -> list[Sequence[BatchT]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
