"""Remote read: parse a request, select series by label matchers, and stream the response."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import re2  # type: ignore[import-untyped]  # RE2's own binding has no types

from exporter.errors import RequestError
from exporter.history import encoding, snappy
from exporter.history.config import MAX_REQUEST_BYTES
from exporter.history.messages import MESSAGES, DecodeError
from exporter.history.series import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, RESERVED_LABELS, Aliases, HistorySeries, list_series
from exporter.ledger.ledger import Ledger, Snapshot

MAX_PATTERN_LENGTH = 64 * 1024
_RE2_OPTIONS = re2.Options()
_RE2_OPTIONS.log_errors = False
_RE2_OPTIONS.dot_nl = True
MAX_QUERIES, MAX_MATCHERS = 64, 64
_RESPONSE_TYPE_SAMPLES = 0
"""The response type of plain samples; the other, streamed chunks, is for stores that keep chunks on disk."""


class MatcherType(IntEnum):
    """The kinds of matcher, by the protocol's numbers."""

    EQUAL = 0
    NOT_EQUAL = 1
    REGEXP = 2
    NOT_REGEXP = 3


@dataclass(frozen=True, slots=True)
class Matcher:
    """What a label's value must be; an absent label has the empty value."""

    type: MatcherType
    name: str
    value: str

    @property
    def is_external_label(self) -> bool:
        """Whether it is an external label of the Prometheus server: sent as an equality that no series of ours can match."""
        return self.type is MatcherType.EQUAL and bool(self.value) and self.name not in RESERVED_LABELS

    def build_predicate(self) -> Callable[[str], bool]:
        """Return a predicate of values; raise ValueError if the regular expression is not valid in RE2."""
        if self.type is MatcherType.EQUAL:
            return self.value.__eq__
        if self.type is MatcherType.NOT_EQUAL:
            return self.value.__ne__
        expression = _compile_pattern(self.value)
        expected = self.type is MatcherType.REGEXP
        return lambda value: (expression.fullmatch(value) is not None) is expected


class SeriesIndex:
    """The series in label order, with an index by label."""

    def __init__(self, series: Sequence[HistorySeries]) -> None:
        self.series = series
        self._positions: dict[tuple[str, str], list[int]] = {}
        for position, single in enumerate(series):
            for label in single.labels:
                self._positions.setdefault(label, []).append(position)

    def select(self, matchers: Iterable[Matcher]) -> list[HistorySeries]:
        """Return the series that all matchers accept, in label order; raise ValueError as `Matcher.build_predicate` does."""
        local = [matcher for matcher in matchers if not matcher.is_external_label]
        found = [self.series[position] for position in self._narrow_candidates(local)]
        for matcher in local:
            predicate, known = matcher.build_predicate(), dict[str, bool]()
            selected = []
            for series in found:
                value = dict(series.labels).get(matcher.name, "")
                if value not in known:
                    known[value] = predicate(value)
                if known[value]:
                    selected.append(series)
            found = selected
        return found

    def _narrow_candidates(self, matchers: list[Matcher]) -> Sequence[int]:
        equal = [(matcher.name, matcher.value) for matcher in matchers if matcher.type is MatcherType.EQUAL and matcher.value]
        return min((self._positions.get(label, []) for label in equal), key=len, default=range(len(self.series)))


def _compile_pattern(pattern: str) -> Any:
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise ValueError(f"a regular expression has more than {MAX_PATTERN_LENGTH} characters")
    try:
        return re2.compile(pattern, _RE2_OPTIONS)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "cannot be parsed"
        raise ValueError(f"a regular expression is not valid in RE2: {reason}") from None


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """Samples with timestamps in [first, last] milliseconds, of the series that all matchers accept."""

    start_ms: int
    end_ms: int
    matchers: tuple[Matcher, ...]
    series_only: bool = False
    """Whether only the labels of series are requested."""


@dataclass(frozen=True, slots=True)
class _MatchedSeries:
    """A series with the number of its samples in the response, and the size of its message."""

    series: HistorySeries
    encoded_labels: bytes
    sample_count: int

    @property
    def encoded_size(self) -> int:
        return len(self.encoded_labels) + self.sample_count * encoding.SAMPLE_BYTES


class RemoteReadHandler:
    """Answers remote reads from a ledger; may be used by several threads at once."""

    def __init__(self, ledger: Ledger, aliases: Aliases, max_samples: int) -> None:
        self._ledger, self._aliases, self._max_samples = ledger, aliases, max_samples
        self._cached_index: tuple[tuple[int, ...], SeriesIndex] | None = None

    def handle_request(self, body: bytes, now: int) -> Iterator[bytes]:
        """Yield the response to a request as of `now`, in milliseconds, in chunks.

        Raise RequestError and LedgerError, both before the first chunk unless reading the ledger fails midway.
        """
        queries = parse_read_request(body)
        with self._ledger.snapshot() as snapshot:
            yield from stream_response(snapshot, self._get_series_index(snapshot), queries, self._max_samples, now)

    def _get_series_index(self, snapshot: Snapshot) -> SeriesIndex:
        """Return the index of series, rebuilt when the series have changed."""
        version, cached = snapshot.get_series_version(), self._cached_index
        if cached is None or cached[0] != version:
            cached = self._cached_index = version, SeriesIndex(list_series(snapshot, self._aliases))
        return cached[1]


def parse_read_request(body: bytes) -> list[ReadQuery]:
    """Return the queries of a request; raise RequestError."""
    try:
        request = MESSAGES["ReadRequest"].FromString(snappy.decompress(body, MAX_REQUEST_BYTES))
    except ValueError as error:
        raise RequestError(f"the request cannot be decompressed: {error}") from None
    except DecodeError:
        raise RequestError("the request is not a ReadRequest") from None
    if request.accepted_response_types and _RESPONSE_TYPE_SAMPLES not in request.accepted_response_types:
        raise RequestError("only the response type SAMPLES is supported")
    if len(request.queries) > MAX_QUERIES:
        raise RequestError(f"a request may have at most {MAX_QUERIES} queries")
    return [_parse_query(query) for query in request.queries]


def stream_response(
    snapshot: Snapshot, index: SeriesIndex, queries: Sequence[ReadQuery], max_samples: int, now: int
) -> Iterator[bytes]:
    """Yield the response to queries as one snappy block, in chunks.

    Raise RequestError before the first chunk: for an expression that is not valid in RE2, or more than `max_samples` samples.
    """
    plans, left = [], max_samples
    for query in queries:
        first, last = max(query.start_ms, MIN_TIMESTAMP_MS), min(query.end_ms, now, MAX_TIMESTAMP_MS)
        plan = _match_series(snapshot, index, query, first, last, left) if first <= last else []
        left -= sum(found.sample_count for found in plan)
        if left < 0:
            raise RequestError(
                f"the request selects more than {max_samples} samples; request less at once, or raise history.max_samples"
            )
        plans.append((first, last, plan))
    length = sum(len(_encode_entry_header(_result_size(plan))) + _result_size(plan) for _, _, plan in plans)
    if length > snappy.MAX_LENGTH:
        raise RequestError("the response exceeds the maximum size of snappy's block format; request less at once")
    yield from snappy.compress_stream(
        length, (part for first, last, plan in plans for part in _stream_result(snapshot, plan, first, last))
    )


def _parse_query(message: Any) -> ReadQuery:
    if len(message.matchers) > MAX_MATCHERS:
        raise RequestError(f"a query may have at most {MAX_MATCHERS} matchers")
    if any(not 0 <= matcher.type < len(MatcherType) for matcher in message.matchers):
        raise RequestError("a matcher has an unknown type")
    matchers = tuple(Matcher(MatcherType(matcher.type), matcher.name, matcher.value) for matcher in message.matchers)
    return ReadQuery(message.start_timestamp_ms, message.end_timestamp_ms, matchers, message.hints.func == "series")


def _match_series(
    snapshot: Snapshot, index: SeriesIndex, query: ReadQuery, start_ms: int, end_ms: int, max_samples: int
) -> list[_MatchedSeries]:
    try:
        selected = index.select(query.matchers)
    except ValueError as error:
        raise RequestError(str(error)) from None
    plan = []
    for series in selected:
        if count := snapshot.count_samples(series.series_id, series.timestamp_rule, start_ms, end_ms):
            requested = 0 if query.series_only else count
            plan.append(_MatchedSeries(series, encoding.encode_labels(series.labels), requested))
            max_samples -= requested
        if max_samples < 0:
            break
    return plan


def _result_size(matched: Sequence[_MatchedSeries]) -> int:
    return sum(len(_encode_entry_header(found.encoded_size)) + found.encoded_size for found in matched)


def _encode_entry_header(size: int) -> bytes:
    """Return the header of an entry of field 1: a result in the response, or a series in a result."""
    return encoding.encode_field_header(1, size)


def _stream_result(snapshot: Snapshot, matched: Sequence[_MatchedSeries], start_ms: int, end_ms: int) -> Iterator[bytes]:
    yield _encode_entry_header(_result_size(matched))
    for found in matched:
        yield _encode_entry_header(found.encoded_size) + found.encoded_labels
        if found.sample_count:
            for rows in snapshot.iterate_samples(found.series.series_id, found.series.timestamp_rule, start_ms, end_ms):
                yield encoding.encode_samples(rows)
