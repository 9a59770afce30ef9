"""Remote read: parse a request, select series by label matchers, and stream the response, as samples or as chunks."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError

from exporter.errors import RequestError
from exporter.history import encoding, remote_pb2, xor_chunks
from exporter.history.config import MAX_MATCHERS, MAX_QUERIES, MAX_REQUEST_BYTES
from exporter.history.selection import Matcher, MatcherType, Selector, SeriesIndex, list_positions
from exporter.history.series import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, Aliases, list_series
from exporter.ledger.ledger import Ledger, Snapshot
from exporter.ledger.samples import SampleRows

MAX_COUNTED_SERIES = 200_000
"""How many series all queries of a request may select together, unless a single query selects all there are."""
MAX_SAMPLED_BYTES = 16 << 20
"""The size from which a response is sent as chunks to clients that accept both: samples they hold all at once."""
MAX_KEPT_SAMPLES = 16_384
"""How many calculated samples of a request are kept from their count to the response, instead of calculated twice."""
STREAM_BYTES = 64 * 1024
"""The size of the parts in which a response is sent, however small or large its compressed blocks or frames are."""
_SAMPLES, _STREAMED_XOR_CHUNKS = remote_pb2.ReadRequest.SAMPLES, remote_pb2.ReadRequest.STREAMED_XOR_CHUNKS


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """Samples with timestamps in [first, last] milliseconds, of the series that all matchers accept."""

    start_ms: int
    end_ms: int
    matchers: tuple[Matcher, ...]
    series_only: bool = False
    """Whether only the labels of series are requested."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """The queries of a request, and the response types that its client accepts."""

    queries: Sequence[ReadQuery]
    accepted_types: frozenset[remote_pb2.ReadRequest.ResponseType]

    def is_streamed(self, sampled_size: int) -> bool:
        """Return whether a response that takes so many bytes as samples is sent as chunks."""
        if _SAMPLES not in self.accepted_types:
            return True
        return _STREAMED_XOR_CHUNKS in self.accepted_types and sampled_size > MAX_SAMPLED_BYTES


@dataclass(frozen=True, slots=True)
class _SeriesPlan:
    """A series that has samples: its position, how many of them are requested, and the samples if they are at hand already."""

    position: int
    count: int
    rows: SampleRows | None


@dataclass(frozen=True, slots=True)
class _QueryPlan:
    """The answer to a query before it is read: the span, the series with samples, and the size in bytes."""

    start_ms: int
    end_ms: int
    series: Sequence[_SeriesPlan]
    size: int


class RemoteReadHandler:
    """Answers remote reads from a ledger; may be used by several threads at once."""

    def __init__(self, ledger: Ledger, aliases: Aliases, max_samples: int, external_labels: Collection[str] = ()) -> None:
        self._ledger, self._aliases, self._max_samples = ledger, aliases, max_samples
        self._external_labels = frozenset(external_labels)
        self._cached_index: tuple[tuple[int, ...], SeriesIndex] | None = None
        self._index_lock = threading.Lock()

    def handle_request(
        self,
        body: bytes,
        now: int,
        check: Callable[[], None] = lambda: None,
        on_xor_chunks: Callable[[], object] = lambda: None,
    ) -> Iterator[bytes]:
        """Yield the response to a request as of `now`, in milliseconds, in chunks; `check` is called often and may raise.

        `on_xor_chunks` is called before the first chunk if the response is STREAMED_XOR_CHUNKS.
        Raise RequestError and LedgerError, both before the first chunk unless reading the ledger fails midway.
        """
        check()
        request = parse_read_request(body)
        with self._ledger.snapshot() as snapshot:
            index = self._get_series_index(snapshot)
            plans = self._plan(snapshot, index, request.queries, now, check)
            if request.is_streamed(_measure_response(plans)):
                on_xor_chunks()
                parts = _stream_frames(snapshot, index, plans, check)
            else:
                parts = stream_response(snapshot, index, plans, check)
            yield from encoding.regroup(parts, STREAM_BYTES)

    def _plan(
        self, snapshot: Snapshot, index: SeriesIndex, queries: Sequence[ReadQuery], now: int, check: Callable[[], None]
    ) -> list[_QueryPlan]:
        """Return the plans of all queries; raise RequestError if together they cost too much."""
        selector = Selector(index, self._external_labels)
        selector.check_cost(query.matchers for query in queries)
        queries = [
            replace(query, start_ms=max(query.start_ms, MIN_TIMESTAMP_MS), end_ms=min(query.end_ms, now, MAX_TIMESTAMP_MS))
            for query in queries
        ]
        selections, selected = list[int](), 0
        for query in queries:
            selections.append(selector.select(query.matchers, check) if query.start_ms <= query.end_ms else 0)
            selected += selections[-1].bit_count()
        if selected > max(MAX_COUNTED_SERIES, len(index.series)):
            raise RequestError("the queries select too many series together; request less at once")
        planner = _QueryPlanner(snapshot, index, self._max_samples, check)
        return [planner.plan(query, list_positions(selection)) for query, selection in zip(queries, selections, strict=True)]

    def _get_series_index(self, snapshot: Snapshot) -> SeriesIndex:
        """Return the index of series, rebuilt when the series have changed."""
        version = snapshot.get_series_version()
        with self._index_lock:  # built once, whoever waits for it
            cached = self._cached_index
            if cached is None or cached[0] != version:
                cached = self._cached_index = version, SeriesIndex(list_series(snapshot, self._aliases))
        return cached[1]


class _QueryPlanner:
    """Plans the queries of one request within its limits."""

    def __init__(self, snapshot: Snapshot, index: SeriesIndex, max_samples: int, check: Callable[[], None]) -> None:
        self._snapshot, self._index, self._max_samples, self._check = snapshot, index, max_samples, check
        self._requested = self._kept = 0

    def plan(self, query: ReadQuery, positions: Iterable[int]) -> _QueryPlan:
        """Return the plan of a query that selects these series; raise RequestError if the request has too many samples."""
        found, size = list[_SeriesPlan](), 0
        for position in positions:
            self._check()
            if single := self._plan_series(query, position):
                found.append(single)
                entry_size = len(self._index.encode_labels(position)) + single.count * encoding.SAMPLE_BYTES
                size += len(_encode_entry_header(entry_size)) + entry_size
                self._requested += single.count
            if self._requested > self._max_samples:
                raise RequestError(
                    f"the request selects more than {self._max_samples} samples;"
                    " request less at once, or raise history.max_samples"
                )
        return _QueryPlan(query.start_ms, query.end_ms, found, size)

    def _plan_series(self, query: ReadQuery, position: int) -> _SeriesPlan | None:
        """Return the plan of a series, None if it has no samples; what is calculated to count them is kept if it is little."""
        series, rows = self._index.series[position], None
        rule = series.timestamp_rule
        if rule.calendar:
            rows = self._snapshot.calculate_samples(series.series_id, rule.calendar, query.start_ms, query.end_ms)
            count = len(rows)
        else:
            count = self._snapshot.count_samples(series.series_id, rule, query.start_ms, query.end_ms)
        if query.series_only or rows is None or self._kept + count > MAX_KEPT_SAMPLES:
            rows = None
        else:
            self._kept += count
        return _SeriesPlan(position, 0 if query.series_only else count, rows) if count else None


def parse_read_request(body: bytes) -> ReadRequest:
    """Return a request; raise RequestError."""
    try:
        message = remote_pb2.ReadRequest.FromString(encoding.decompress(body, MAX_REQUEST_BYTES))
    except ValueError as error:
        raise RequestError(f"the request cannot be decompressed: {error}") from None
    except DecodeError:
        raise RequestError("the request is not a ReadRequest") from None
    accepted_types = frozenset(message.accepted_response_types or [_SAMPLES])
    if not accepted_types & {_SAMPLES, _STREAMED_XOR_CHUNKS}:
        raise RequestError("only the response types SAMPLES and STREAMED_XOR_CHUNKS are supported")
    if len(message.queries) > MAX_QUERIES:
        raise RequestError(f"a request may have at most {MAX_QUERIES} queries")
    return ReadRequest([_parse_query(query) for query in message.queries], accepted_types)


def stream_response(
    snapshot: Snapshot, index: SeriesIndex, plans: Sequence[_QueryPlan], check: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """Yield the response to planned queries as one snappy block, in chunks; raise RequestError before the first one."""
    length = _measure_response(plans)
    if length > encoding.MAX_BLOCK_BYTES:
        raise RequestError("the response exceeds the maximum size of snappy's block format; request less at once")
    yield from encoding.compress_stream(length, (part for plan in plans for part in _stream_result(snapshot, index, plan, check)))


def _parse_query(message: remote_pb2.Query) -> ReadQuery:
    if len(message.matchers) > MAX_MATCHERS:
        raise RequestError(f"a query may have at most {MAX_MATCHERS} matchers")
    if any(not 0 <= matcher.type < len(MatcherType) for matcher in message.matchers):
        raise RequestError("a matcher has an unknown type")
    matchers = tuple(Matcher(MatcherType(matcher.type), matcher.name, matcher.value) for matcher in message.matchers)
    first, last, hints = message.start_timestamp_ms, message.end_timestamp_ms, message.hints
    if hints.start_ms and hints.end_ms:
        # Prometheus asks for the span of a whole query, which may be a year; the hints say what this selector needs of it.
        first, last = max(first, hints.start_ms), min(last, hints.end_ms)
    return ReadQuery(first, last, matchers, hints.func == "series")


def _encode_entry_header(size: int) -> bytes:
    """Return the header of an entry of field 1: a result in the response, or a series in a result."""
    return encoding.encode_field_header(1, size)


def _measure_response(plans: Iterable[_QueryPlan]) -> int:
    """Return how many bytes the response to planned queries takes as samples."""
    return sum(len(_encode_entry_header(plan.size)) + plan.size for plan in plans)


def _stream_result(snapshot: Snapshot, index: SeriesIndex, plan: _QueryPlan, check: Callable[[], None]) -> Iterator[bytes]:
    yield _encode_entry_header(plan.size)
    for single in plan.series:
        check()
        labels = index.encode_labels(single.position)
        yield _encode_entry_header(len(labels) + single.count * encoding.SAMPLE_BYTES) + labels
        yield from map(encoding.encode_samples, _iterate_rows(snapshot, index, plan, single))


def _stream_frames(
    snapshot: Snapshot, index: SeriesIndex, plans: Sequence[_QueryPlan], check: Callable[[], None]
) -> Iterator[bytes]:
    def read_slices(plan: _QueryPlan, single: _SeriesPlan) -> Iterator[SampleRows]:
        for rows in _iterate_rows(snapshot, index, plan, single):
            check()
            yield rows

    for number, plan in enumerate(plans):
        for single in plan.series:
            check()
            yield from xor_chunks.encode_frames(index.encode_labels(single.position), read_slices(plan, single), number)


def _iterate_rows(snapshot: Snapshot, index: SeriesIndex, plan: _QueryPlan, single: _SeriesPlan) -> Iterable[SampleRows]:
    """Return the requested samples of a series, in slices."""
    if not single.count:
        return ()
    if single.rows is not None:
        return (single.rows,)
    series = index.series[single.position]
    return snapshot.iterate_samples(series.series_id, series.timestamp_rule, plan.start_ms, plan.end_ms)
