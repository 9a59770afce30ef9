"""The last values of all counters, in batches: what every visit requests."""

import asyncio
import math
from array import array
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from exporter.client.session import Session
from exporter.errors import LoginError, PortalError, RateLimitError
from exporter.models import Nature, VisitResult
from exporter.portals.cem.catalog import LastValues, SelectedCounters, StatedValues, build_never_read_notes
from exporter.portals.cem.client import CemApiClient, is_call_refused
from exporter.portals.cem.config import CemConfig
from exporter.portals.cem.metadata import LAST_VALUES_KEY, MetadataStore
from exporter.portals.cem.parser import CounterValues, convert_indexes, parse_last_values, unwrap_list

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
    values = await batches.fetch(list(selected.registers))
    failures = [*batches.failures, *metadata.failures]
    if batches.failures and not batches.response_count:
        raise _select_worst_failure(failures)
    last_values: LastValues | None = session.store.cache.get(LAST_VALUES_KEY)
    if last_values and last_values.find_unit_change(_index_by_counter(values)):
        selected = await metadata.renew_types()
    is_silent = bool(selected.registers) and not failures and not values.by_counter_and_time
    _add_stated_values(values, stated, session.now)
    session.store.cache[LAST_VALUES_KEY] = _keep_last_values(selected, values)
    readings = list(convert_indexes(values, selected.registers))
    read = {int(reading.register.name) for reading in readings}
    notes: list[str] = [
        *selected.notes,
        *(note.text for note in build_never_read_notes(selected.never_read - read)),
        *values.build_notes("id=8 (last values)"),
        *await _build_silence_notes(session, is_silent=is_silent),
        *await metadata.list_notes(),
    ]
    return VisitResult(
        readings=readings,
        inventory=selected.inventory,
        holder=holder,
        notes=list(dict.fromkeys(notes)),
        failures=[_select_worst_failure(failures)] if failures else (),
        skipped=values.skipped.total() + metadata.skipped.total(),
    )


class CounterBatches:
    """The requests for last values in one visit; single counters are requested only where a batch as such is refused."""

    def __init__(self, client: CemApiClient, *, batch_size: int, parallel: int) -> None:
        self.failures: list[PortalError] = []
        self.response_count = 0
        self._client, self._batch_size, self._parallel = client, batch_size, parallel
        self._failures_in_row, self._is_rate_limited = 0, False
        self._single_counters: list[int] = []

    async def fetch(self, counters: Sequence[int]) -> CounterValues:
        """Request every counter once and return the values; raise LoginError, and errors that are not the portal's."""
        values = CounterValues.empty(self._client.session.now)
        await self._fetch_in_waves(self._fetch_batch, split(counters, self._batch_size), values)
        await self._fetch_in_waves(self._fetch_single, self._single_counters, values)
        return values

    async def _fetch_in_waves(
        self, fetch: Callable[[BatchT], Awaitable[CounterValues | None]], batches: Sequence[BatchT], values: CounterValues
    ) -> None:
        for wave in split(batches, self._parallel):
            if self._is_rate_limited or self._failures_in_row >= MAX_FAILURES_IN_ROW:
                return
            for result in await asyncio.gather(*map(fetch, wave), return_exceptions=True):
                if isinstance(result, BaseException):
                    self._record_failure(result)
                elif result is not None:
                    self._failures_in_row = 0
                    self.response_count += 1
                    values.update(result)

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


def _index_by_counter(values: CounterValues) -> dict[int, float]:
    return {counter: value for (counter, _), value in values.by_counter_and_time.items()}


def _add_stated_values(values: CounterValues, stated: StatedValues, now: datetime) -> None:
    """Add what the responses left out, from the values that a new list of counters has `stated`."""
    read = {counter for counter, _ in values.by_counter_and_time}
    left_out = [{"var_id": counter, "value": value, "timestamp": time} for counter, value, time in stated if counter not in read]
    if left_out:
        values.update(parse_last_values(left_out, now))


def _keep_last_values(selected: SelectedCounters, values: CounterValues) -> LastValues:
    """Return what registers show now, for the comparison at the next visit."""
    by_counter = _index_by_counter(values)
    shown = (
        by_counter.get(counter, math.nan) if register.nature is Nature.COUNTER else math.nan
        for counter, (register, _) in selected.registers.items()
    )
    return LastValues(array("q", selected.registers), array("d", shown))


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
