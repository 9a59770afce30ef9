"""Choosing series by label matchers, with the meaning they have in Prometheus."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import re2  # type: ignore[import-untyped]  # RE2's own binding has no types

from exporter.history.series import OURS, TrueSeries

LONGEST_PATTERN = 64 * 1024
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True


class Kind(IntEnum):
    """The kinds of matcher, by the protocol's numbers."""

    EQUAL = 0
    NOT_EQUAL = 1
    REGEXP = 2
    NOT_REGEXP = 3


@dataclass(frozen=True, slots=True)
class Matcher:
    """What a label's value must be; an absent label has the empty value."""

    kind: Kind
    name: str
    value: str

    @property
    def foreign(self) -> bool:
        """Tell an external label of the asking Prometheus: it sends each as an equality, of which our series know nothing."""
        return self.kind is Kind.EQUAL and bool(self.value) and self.name not in OURS

    def test(self) -> Callable[[str], bool]:
        """Give the test that a value must pass. Raises ValueError for an expression that is not RE2's."""
        if self.kind is Kind.EQUAL:
            return self.value.__eq__
        if self.kind is Kind.NOT_EQUAL:
            return self.value.__ne__
        expression = _compiled(self.value)
        wanted = self.kind is Kind.REGEXP
        return lambda value: (expression.fullmatch(value) is not None) is wanted


class Shelf:
    """The series in label order, with the means to find few among many."""

    def __init__(self, series: Sequence[TrueSeries]) -> None:
        self.series = series
        self._places: dict[tuple[str, str], list[int]] = {}
        for place, one in enumerate(series):
            for label in one.labels:
                self._places.setdefault(label, []).append(place)

    def select(self, matchers: Iterable[Matcher]) -> list[TrueSeries]:
        """Give the series that all matchers accept, in label order. Raises ValueError as `Matcher.test` does."""
        local = [matcher for matcher in matchers if not matcher.foreign]
        found = [self.series[place] for place in self._nearest(local)]
        for matcher in local:
            test, known = matcher.test(), dict[str, bool]()
            kept = []
            for one in found:
                value = dict(one.labels).get(matcher.name, "")
                if value not in known:
                    known[value] = test(value)
                if known[value]:
                    kept.append(one)
            found = kept
        return found

    def _nearest(self, matchers: list[Matcher]) -> Sequence[int]:
        equal = [(matcher.name, matcher.value) for matcher in matchers if matcher.kind is Kind.EQUAL and matcher.value]
        return min((self._places.get(label, []) for label in equal), key=len, default=range(len(self.series)))


def _compiled(pattern: str) -> Any:
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a regular expression has more than {LONGEST_PATTERN} characters")
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "not understood"
        raise ValueError(f"a regular expression is not RE2's: {reason}") from None
