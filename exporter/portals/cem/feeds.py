"""The one feed of CEM: the past readings of all counters, which fill what lies between two visits too far apart."""

import hashlib
from datetime import UTC, date, datetime, time, timedelta

from exporter.errors import FeedRefusedError, NoDataError, PortalError, ResponseError, TooLongError
from exporter.models import DAY
from exporter.portals.cem.catalog import CounterSelection, SelectedCounters, format_numbers
from exporter.portals.cem.client import CemApiClient, is_call_refused
from exporter.portals.cem.config import PRAGUE, CemConfig
from exporter.portals.cem.metadata import MetadataStore
from exporter.portals.cem.parser import CounterValues, build_value_notes, convert_indexes, parse_all_values, parse_last_values
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
            notes.append("The portal refuses the history of all counters at once (id=20): they are requested one by one.")
    if values is None:
        values, refused = await _fetch_by_counter(client, selected, first, last)
        notes += refused
    readings = list(convert_indexes(values, selected.registers, selected.scales))
    notes += build_value_notes(values.skipped, "history")
    return FeedResult(readings, tuple(notes), values.skipped.total(), max(client.request_count, 1))


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
            f"The history of {len(selected.registers)} counters is not read: it does not come at once, and they are too many to"
            f" request it of each; select up to {MAX_SINGLE_COUNTERS}."
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
    return values, [f"The portal refuses the history of some counters: {format_numbers(failed)}"] if failed else []


def _build_midnight_span(day: date) -> dict[str, str]:
    start = datetime.combine(day, time(), PRAGUE).astimezone(UTC)
    edges = (start - AROUND_MIDNIGHT, start + AROUND_MIDNIGHT)
    return dict(zip(("from_ms", "to_ms"), (str(round(at.timestamp() * 1000)) for at in edges), strict=True))
