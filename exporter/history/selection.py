"""Selection of history series by label matchers, at a cost that is known before the work begins.

Each label has its distinct values with the positions of the series that bear them, so a matcher costs one test of each distinct
value (none for equalities), and gives a bit set of series; a query is the conjunction of a few bit sets.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import re2  # type: ignore[import-untyped]  # RE2's own binding has no types

from exporter.errors import RequestError
from exporter.history import encoding
from exporter.history.series import RESERVED_LABELS, HistorySeries

MAX_PATTERN_LENGTH = 64 * 1024
MAX_TESTS = 4_000_000
"""How many values the regular expressions of one request may be tried on: about two seconds of work."""
_RE2_OPTIONS = re2.Options()
_RE2_OPTIONS.log_errors = False
_RE2_OPTIONS.dot_nl = True


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

    def is_external_label(self, external_labels: Collection[str]) -> bool:
        """Return whether it is an equality that Prometheus adds for one of its external labels."""
        return self.type is MatcherType.EQUAL and self.name in external_labels and self.name not in RESERVED_LABELS


class SeriesIndex:
    """The series in label order, with an index by label."""

    def __init__(self, series: Sequence[HistorySeries]) -> None:
        self.series = series
        self._encoded_labels: list[bytes | None] = [None] * len(series)
        self._values = _index_values(series)
        self._all = (1 << len(series)) - 1

    def encode_labels(self, position: int) -> bytes:
        """Return a series' labels as a message has them; made once, whatever asks for it."""
        encoded = self._encoded_labels[position]
        if encoded is None:
            encoded = self._encoded_labels[position] = encoding.encode_labels(self.series[position].labels)
        return encoded

    def count_tests(self, matcher: Matcher) -> int:
        """Return how many values a matcher is tried on."""
        is_pattern = matcher.type in (MatcherType.REGEXP, MatcherType.NOT_REGEXP)
        return len(self._values.get(matcher.name, ())) + 1 if is_pattern else 0

    def find(self, matcher: Matcher) -> int:
        """Return the bit set of the series that a matcher accepts; raise RequestError for an invalid regular expression."""
        match matcher.type:
            case MatcherType.EQUAL:
                return self._find_bearing(matcher.name, matcher.value.__eq__, [matcher.value])
            case MatcherType.NOT_EQUAL:
                return self._all & ~self._find_bearing(matcher.name, matcher.value.__eq__, [matcher.value])
        found = self._find_bearing(matcher.name, _compile_pattern(matcher.value), self._values.get(matcher.name, ()))
        return found if matcher.type is MatcherType.REGEXP else self._all & ~found

    def _find_bearing(self, name: str, accepts: Callable[[str], Any], candidates: Iterable[str]) -> int:
        """Return the series whose value of a label is accepted; the empty value is that of a label they lack."""
        values = self._values.get(name, {})
        found = _build_bits(len(self.series), (position for v in candidates if accepts(v) for position in values.get(v, ())))
        if accepts(""):
            found |= self._all & ~_build_bits(len(self.series), (position for held in values.values() for position in held))
        return found


class Selector:
    """Selects the series of one request: equal matchers of its queries are tried once, and all of them within a limit."""

    def __init__(self, index: SeriesIndex, external_labels: Collection[str] = ()) -> None:
        self._index, self._external_labels = index, external_labels
        self._found: dict[Matcher, int] = {}

    def check_cost(self, queries: Iterable[Iterable[Matcher]]) -> None:
        """Raise RequestError if the matchers of all queries are tried on too many values."""
        matchers = {matcher for query in queries for matcher in query}
        if sum(map(self._index.count_tests, matchers)) > MAX_TESTS:
            raise RequestError("the request has too many regular expressions for so many series; request less at once")

    def select(self, matchers: Iterable[Matcher], check: Callable[[], None] = lambda: None) -> int:
        """Return the bit set of the series that all matchers accept; `check` is called often. Raise RequestError."""
        selected = (1 << len(self._index.series)) - 1
        for matcher in matchers:
            if not matcher.is_external_label(self._external_labels):
                if matcher not in self._found:
                    check()
                    self._found[matcher] = self._index.find(matcher)
                selected &= self._found[matcher]
        return selected


def _index_values(series: Sequence[HistorySeries]) -> dict[str, dict[str, list[int]]]:
    positions: dict[str, dict[str, list[int]]] = {}
    for position, single in enumerate(series):
        for name, value in single.labels:
            positions.setdefault(name, {}).setdefault(value, []).append(position)
    return positions


def _build_bits(length: int, positions: Iterable[int]) -> int:
    bits = bytearray(length // 8 + 1)
    for position in positions:
        bits[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(bits, "little")


def list_positions(bits: int) -> Iterator[int]:
    """Yield the positions of a bit set, in label order."""
    for offset, byte in enumerate(bits.to_bytes((bits.bit_length() + 7) // 8, "little")):
        if byte:
            yield from (8 * offset + bit for bit in range(8) if byte >> bit & 1)


def _compile_pattern(pattern: str) -> Callable[[str], Any]:
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise RequestError(f"a regular expression has more than {MAX_PATTERN_LENGTH} characters")
    try:
        return re2.compile(pattern, _RE2_OPTIONS).fullmatch  # type: ignore[no-any-return]
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "cannot be parsed"
        raise RequestError(f"a regular expression is not valid in RE2: {reason}") from None
