"""Prometheus remote read 1.0: a request understood, weighed, and answered slice by slice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.errors import RequestError
from exporter.history import encode, snappy
from exporter.history.matchers import Kind, Matcher, Shelf
from exporter.history.messages import MESSAGES, DecodeError
from exporter.history.series import Aliases, TrueSeries, catalogue
from exporter.history.settings import LARGEST_REQUEST
from exporter.ledger import Ledger, Look

MOST_QUERIES, MOST_MATCHERS = 64, 64
_SAMPLES = 0
"""The response type of plain samples; the other, streamed chunks, is for answers made of chunks on disk."""


@dataclass(frozen=True, slots=True)
class Query:
    """Samples with stamps in [first, last] milliseconds, of the series that all matchers accept."""

    first: int
    last: int
    matchers: tuple[Matcher, ...]
    names_only: bool = False
    """Whoever asks wants to know which series there are."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A series with how many samples of it are wanted, and the bytes its message takes."""

    series: TrueSeries
    labels: bytes
    count: int

    @property
    def size(self) -> int:
        return len(self.labels) + self.count * encode.SAMPLE


class Reader:
    """Answers remote reads out of a ledger; may be used by several threads at once."""

    def __init__(self, ledger: Ledger, aliases: Aliases, most: int) -> None:
        self._ledger, self._aliases, self._most = ledger, aliases, most
        self._shelf: tuple[tuple[int, ...], Shelf] | None = None

    def answer(self, body: bytes, now: int) -> Iterator[bytes]:
        """Answer a request as of `now`, in milliseconds, a piece at a time.

        Raises RequestError and LedgerError, both before the first piece unless the ledger breaks under way.
        """
        queries = understand(body)
        with self._ledger.look() as look:
            yield from answer(look, self._arranged(look), queries, self._most, now)

    def _arranged(self, look: Look) -> Shelf:
        """Give the list of series, made anew when it has changed."""
        shape, kept = look.shape(), self._shelf
        if kept is None or kept[0] != shape:
            kept = self._shelf = shape, Shelf(catalogue(look, self._aliases))
        return kept[1]


def understand(body: bytes) -> list[Query]:
    """Read a request's queries; raises RequestError."""
    try:
        request = MESSAGES["ReadRequest"].FromString(snappy.expand(body, LARGEST_REQUEST))
    except ValueError as error:
        raise RequestError(f"the request cannot be decompressed: {error}") from None
    except DecodeError:
        raise RequestError("the request is not a ReadRequest") from None
    if request.accepted_response_types and _SAMPLES not in request.accepted_response_types:
        raise RequestError("only the response type SAMPLES is answered")
    if len(request.queries) > MOST_QUERIES:
        raise RequestError(f"a request may have {MOST_QUERIES} queries")
    return [_query(asked) for asked in request.queries]


def answer(look: Look, shelf: Shelf, queries: Sequence[Query], most: int, now: int) -> Iterator[bytes]:
    """Answer queries with one snappy block, a piece at a time.

    Raises RequestError before the first piece: for an expression that is not RE2's, or more than `most` samples.
    """
    plans, left = [], most
    for query in queries:
        first, last = max(query.first, encode.FIRST), min(query.last, now, encode.LAST)
        plan = _plan(look, shelf, query, first, last, left) if first <= last else []
        left -= sum(found.count for found in plan)
        if left < 0:
            raise RequestError(
                f"the request is for more than {most} samples; ask for less at once, or set history.max_samples higher"
            )
        plans.append((first, last, plan))
    length = sum(len(_framed(_size(plan))) + _size(plan) for _, _, plan in plans)
    if length > snappy.LONGEST:
        raise RequestError("the answer would be larger than snappy's format allows; ask for less at once")
    yield from snappy.stream(length, (part for first, last, plan in plans for part in _body(look, plan, first, last)))


def _query(asked: Any) -> Query:
    if len(asked.matchers) > MOST_MATCHERS:
        raise RequestError(f"a query may have {MOST_MATCHERS} matchers")
    if any(not 0 <= matcher.type < len(Kind) for matcher in asked.matchers):
        raise RequestError("a matcher is of none of the four kinds")
    matchers = tuple(Matcher(Kind(matcher.type), matcher.name, matcher.value) for matcher in asked.matchers)
    return Query(asked.start_timestamp_ms, asked.end_timestamp_ms, matchers, asked.hints.func == "series")


def _plan(look: Look, shelf: Shelf, query: Query, first: int, last: int, most: int) -> list[_Found]:
    try:
        chosen = shelf.select(query.matchers)
    except ValueError as error:
        raise RequestError(str(error)) from None
    plan = []
    for series in chosen:
        if count := look.count(series.line, series.stamping, first, last):
            wanted = 0 if query.names_only else count
            plan.append(_Found(series, encode.labels(series.labels), wanted))
            most -= wanted
        if most < 0:
            break
    return plan


def _size(plan: Sequence[_Found]) -> int:
    return sum(len(_framed(found.size)) + found.size for found in plan)


def _framed(size: int) -> bytes:
    """Begin an entry of field 1: a result in the response, or a series in a result."""
    return encode.head(1, size)


def _body(look: Look, plan: Sequence[_Found], first: int, last: int) -> Iterator[bytes]:
    yield _framed(_size(plan))
    for found in plan:
        yield _framed(found.size) + found.labels
        if found.count:
            for rows in look.slices(found.series.line, found.series.stamping, first, last):
                yield encode.samples(rows)
