"""Which days of a feed are known, and when each was asked.

Problem: for thousands of feeds and years of days it must be known what is whole, what lacks something, what was never
asked, and when each was asked last, cheaply at each visit and safe over restarts.
Idea: days lie in runs that share one state, one time of asking and one count of tries; whole days that have settled forget
when they were asked, so that years of them are one run. A coverage is an immutable value; each response makes a new one, which
is stored in the transaction that stores the response's readings.
Invariants: runs are sorted, apart, and neighbours differ. A day in no run was never asked. The state follows from readings:
a day gains by what a response brought, and what was once seen in the ledger is not lost by a response with less. No state
means "done for ever": when a day is asked again is the policy's matter alone.
"""

import json
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from exporter.sync.feeds import DAY_SECONDS, Feed, Form, Period, get_length

VERSION = 1
log = logging.getLogger(__name__)
MAX_MISREAD = 100
"""The maximum number of ranges whose response was not understood."""
MARGIN_DAYS = 3
"""Days read on each side of those judged, to know the usual distance between readings."""


def is_corrected(feed: Feed) -> bool:
    """Return whether whole days are asked again: what a register showed at an instant stays as it is.

    Days of visits may lack what came late: those of a feed of form VISIT are asked once more, at the age `recheck`.
    """
    if feed.form is Form.VISIT:
        return feed.recheck is not None
    return not (feed.form is Form.INDEX and feed.resolution is None)


class DayState(IntEnum):
    """What is known of a day."""

    ABSENT = 0
    PARTIAL = 1
    WHOLE = 2


class Run(NamedTuple):
    """Consecutive days (ordinals, both included) of one state, asked at one time (Unix seconds).

    `asked` is 0 when that is not known or no longer of interest. `tries` counts the asks in vain, for whole days those
    without a change; once whole days have forgotten when they were asked it only says `is_rechecked` (the stored form).
    """

    first: int
    last: int
    state: DayState
    asked: int = 0
    tries: int = 0

    @property
    def is_rechecked(self) -> bool:
        """Whether these are whole days that were asked at the feed's `recheck` age."""
        return self.state is DayState.WHOLE and not self.asked and self.tries > 0


@dataclass(frozen=True, slots=True)
class TooOld:
    """The portal's limit: a request beginning at `first` was refused; the limit lies in (first, last].

    The engine halves between them, one request a visit; there is nothing left to halve when both are the same.
    """

    first: int
    last: int
    at: int
    tries: int = 1


class Misread(NamedTuple):
    """Days (ordinals, both included) of a request whose response was not understood: when, and how often in a row."""

    first: int
    last: int
    at: int
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Coverage:
    """All that is known of a feed."""

    runs: tuple[Run, ...] = ()
    too_old: TooOld | None = None
    max_days: int | None = None
    """The maximum days of a request, where a TooLongError has shown that they are fewer than the feed's chunk."""
    failures: int = 0
    """Failed requests in a row."""
    retry_at: int = 0
    """Not before this, after a failure or a refusal."""
    last_visit: int = 0
    """When a feed of form VISIT was last visited."""
    misread: tuple[Misread, ...] = ()
    """What is asked again after growing waits, so that one odd response keeps no other days waiting."""

    def encode(self) -> str:
        """Return the coverage as the text to store."""
        before, runs = 0, list[int]()
        for run in self.runs:
            runs += (run.first - before, run.last - run.first, run.state, run.asked, run.tries)
            before = run.last
        bound = self.too_old
        head = [
            bound and [bound.first, bound.last, bound.at, bound.tries],
            self.max_days,
            self.failures,
            self.retry_at,
            self.last_visit,
            self.misread,
        ]
        return json.dumps([VERSION, head, runs], separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> "Coverage":
        """Return the coverage that was stored. Raise ValueError for another version's."""
        version, head, numbers = json.loads(text)
        if version != VERSION:
            raise ValueError(f"coverage of version {version}")
        before, runs, steps = 0, list[Run](), iter(numbers)
        for skipped, more, state, asked, tries in zip(steps, steps, steps, steps, steps, strict=True):
            first = before + skipped
            before = first + more
            runs.append(Run(first, before, DayState(state), asked, tries))
        bound, max_days, failures, retry_at, last_visit, *more_head = head
        misread = tuple(Misread(*entry) for entry in more_head[0]) if more_head else ()
        return cls(tuple(runs), TooOld(*bound) if bound else None, max_days, failures, retry_at, last_visit, misread)

    def list_runs(self, first: int, last: int) -> Iterator[Run]:
        """Return the runs of [first, last], cut to it, oldest first."""
        for run in self.runs[bisect_left(self.runs, first, key=lambda run: run.last) :]:
            if run.first > last:
                break
            yield (
                run
                if first <= run.first and run.last <= last
                else run._replace(first=max(first, run.first), last=min(last, run.last))
            )

    def list_unasked_ranges(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Return the ranges of days in [first, last] that are in no run, oldest first."""
        for run in self.list_runs(first, last):
            if first < run.first:
                yield first, run.first - 1
            first = run.last + 1
        if first <= last:
            yield first, last

    def find_known_range(self) -> tuple[int, int] | None:
        """Return the first and last day of which anything is known."""
        first = next((run.first for run in self.runs if run.state), None)
        last = next((run.last for run in reversed(self.runs) if run.state), None)
        return None if first is None or last is None else (first, last)

    def with_runs(self, days: Sequence[Run]) -> "Coverage":
        """Return the coverage with these runs (sorted, without a gap) in place of what was there."""
        if not days:
            return self
        first, last = days[0].first, days[-1].last
        begin = bisect_left(self.runs, first, key=lambda run: run.last)
        end = bisect_right(self.runs, last, key=lambda run: run.first)
        edge = [run._replace(last=first - 1) for run in self.runs[begin : begin + 1] if run.first < first and begin < end]
        rest = [run._replace(first=last + 1) for run in self.runs[end - 1 : end] if run.last > last and begin < end]
        # One more neighbour on each side, to be merged with.
        left, right = max(begin - 1, 0), min(end + 1, len(self.runs))
        middle = _merge_runs([*self.runs[left:begin], *edge, *days, *rest, *self.runs[max(end, begin) : right]])
        return replace(self, runs=(*self.runs[:left], *middle, *self.runs[right:]))

    def without_empty_days(self, first: int, last: int) -> "Coverage":
        """Return the coverage in which the empty days of [first, last] were never asked."""
        kept = [run for run in self.list_runs(first, last) if run.state]
        before, after = self.list_runs(0, first - 1), self.list_runs(last + 1, _FOREVER)
        return replace(self, runs=(*before, *kept, *after))

    def with_response(self, feed: Feed, first: int, last: int, states: Sequence[DayState], now: int) -> "Coverage":
        """Return the coverage after the portal has answered a request for [first, last] and days are in these states."""
        old = iter([*self.list_runs(first, last), Run(_FOREVER, _FOREVER, DayState.ABSENT)])
        run, days = next(old), list[Run]()
        # Silence shows only when a later neighbour comes, so a whole day may turn out to be partial.
        is_by_distance = feed.form is Form.INDEX and feed.resolution is None
        for day, seen in enumerate(states, first):
            while run.last < day:
                run = next(old)
            was = run if run.first <= day else None
            state = seen if was is None or is_by_distance else max(seen, was.state)
            days.append(_build_run(day, was, state, now))
        changed = self.with_runs(_merge_runs(days))
        misread = tuple(entry for entry in self.misread if entry.last < first or entry.first > last)
        return replace(changed, failures=0, retry_at=0, misread=misread).without_settled_times(feed)

    def with_misread(self, first: int, last: int, now: int) -> "Coverage":
        """Return the coverage after a response to a request for [first, last] was not understood."""
        others = [entry for entry in self.misread if entry.last < first or entry.first > last]
        tries = 1 + max((entry.tries for entry in self.misread if entry not in others), default=0)
        return replace(self, misread=tuple(sorted([*others, Misread(first, last, now, tries)])[-MAX_MISREAD:]))

    def with_visit(self, feed: Feed, at: int, every: int) -> "Coverage":
        """Return the coverage of a feed of form VISIT after a visit; days of silence are to be asked for."""
        today = feed.day_at(at)
        if self.last_visit and at - self.last_visit <= 2 * every:
            new = [] if any(self.list_runs(today, today)) else [Run(today, today, DayState.WHOLE)]
        else:
            new = [Run(feed.day_at(self.last_visit) if self.last_visit else today, today, DayState.PARTIAL)]
        return replace(self.with_runs(new), last_visit=max(at, self.last_visit))

    def with_stored_days(self, first: int, states: Sequence[DayState]) -> "Coverage":
        """Return the coverage after days from `first` on were judged by what the ledger has: nothing was asked."""
        days = []
        for day, state in enumerate(states, first):
            was = next(self.list_runs(day, day), None)
            if was is None and not state:
                continue
            is_same = was is not None and was.state == state
            asked, tries = (was.asked, was.tries) if was and (is_same or not (was.state or state is DayState.WHOLE)) else (0, 0)
            days.append(Run(day, day, state, asked, tries))
        changed = self
        for run in _merge_runs(days):
            changed = changed.with_runs([run])
        return changed

    def clamp_to(self, now: int) -> "Coverage":
        """Return the coverage with times in the future (the clock ran ahead) treated as unknown."""
        latest = [*(run.asked for run in self.runs), *(entry.at for entry in self.misread)]
        if max(self.last_visit, *latest, self.too_old.at if self.too_old else 0, 0) <= now:
            return self
        runs = (run if run.asked <= now else run._replace(asked=0, tries=0) for run in self.runs)
        kept = [run for run in runs if run.asked or run.state]
        bound = replace(self.too_old, at=min(self.too_old.at, now)) if self.too_old else None
        retry_at = self.retry_at if self.failures == 0 else 0
        misread = tuple(entry for entry in self.misread if entry.at <= now)
        return replace(
            self,
            runs=tuple(_merge_runs(kept)),
            too_old=bound,
            last_visit=min(self.last_visit, now),
            retry_at=retry_at,
            misread=misread,
        )

    def without_settled_times(self, feed: Feed) -> "Coverage":
        """Return the coverage in which settled whole days have forgotten when they were asked."""
        parts, has_changed = list[Run](), False
        for run in self.runs:
            if run.state is not DayState.WHOLE or not run.asked:
                parts.append(run)
                continue
            cut = list(_settle(feed, run))
            parts += cut
            has_changed = has_changed or cut != [run]
        return replace(self, runs=tuple(_merge_runs(parts))) if has_changed else self


def judge_days(feed: Feed, first: int, last: int, periods: Sequence[Period], now: int) -> list[DayState]:
    """Return the state of each day of [first, last] by the periods (sorted) that the ledger and a response hold.

    Of an index without a fixed number a day the periods should reach `MARGIN_DAYS` days beyond on both sides.
    """
    if feed.form is Form.VISIT:
        present = {feed.day_at(start) for start, _ in periods}
        return [DayState.WHOLE if day in present else DayState.ABSENT for day in range(first, last + 1)]
    if feed.form is Form.INDEX and feed.resolution is None:
        return _judge_days_by_distance(feed, first, last, [start for start, _ in periods if start <= now])
    if feed.form is Form.INDEX:
        length = get_length(feed.resolution or "P1D")
        periods = [(start, start + length) for start, _ in periods]
    cover = _Cover(periods, now, by_start=feed.resolution == "P1D")
    return [cover.state(feed.start(day), feed.start(day + 1)) for day in range(first, last + 1)]


def build_runs(first: int, states: Iterable[DayState]) -> list[Run]:
    """Return runs of days from `first` on that were seen in the ledger; days with nothing were never asked."""
    return [run for run in _merge_runs(Run(day, day, state) for day, state in enumerate(states, first)) if run.state]


class _Cover:
    """How much of each day is covered, for days asked in order."""

    def __init__(self, periods: Sequence[Period], now: int, *, by_start: bool) -> None:
        self._periods, self._now, self._by_start, self._next = periods, now, by_start, 0

    def state(self, start: int, end: int) -> DayState:
        periods, covered, until = self._periods, 0, start
        while self._next < len(periods) and periods[self._next][1] <= start:
            self._next += 1
        for place in range(self._next, len(periods)):
            since, ends = periods[place]
            if since >= end:
                break
            if ends > self._now and not self._by_start:
                return DayState.PARTIAL
            if self._by_start and start <= since:
                return DayState.WHOLE  # a day is a day, whatever its hours
            covered += max(min(ends, end) - max(since, until), 0)
            until = max(until, ends)
        if self._by_start or not covered:
            return DayState.ABSENT
        return DayState.WHOLE if covered >= end - start else DayState.PARTIAL


def _judge_days_by_distance(feed: Feed, first: int, last: int, instants: Sequence[int]) -> list[DayState]:
    """Judge an index by the distances between neighbours: more than three times the usual one is silence."""
    distances = [later - at for at, later in pairwise(instants) if later > at]
    usual = median(distances) if distances else DAY_SECONDS
    silences = [(at, later) for at, later in pairwise(instants) if later - at > 3 * usual]
    states = []
    for day in range(first, last + 1):
        start, end = feed.start(day), feed.start(day + 1)
        has_any = bisect_left(instants, start) < bisect_left(instants, end)
        is_silent = any(at < end and later > start for at, later in silences)
        states.append(DayState.ABSENT if not has_any else DayState.PARTIAL if is_silent else DayState.WHOLE)
    return states


def _build_run(day: int, was: Run | None, state: DayState, now: int) -> Run:
    if was is None or was.state != state:
        return Run(day, day, state, now, 0 if state is DayState.WHOLE else 1)
    return Run(day, day, state, now, was.tries + 1)


def _settle(feed: Feed, run: Run) -> Iterator[Run]:
    """Cut a run of whole days that were asked where it has settled; those days forget when they were asked."""
    if not is_corrected(feed):
        yield run._replace(asked=0, tries=0)
        return
    # Days of visits have only `recheck`: until then they know that they were asked lately.
    settles = feed.settles or feed.recheck or timedelta(0)
    settled = feed.day_at(run.asked - round(settles.total_seconds())) - 1
    rechecked = feed.day_at(run.asked - round(feed.recheck.total_seconds())) - 1 if feed.recheck else run.first - 1
    first = run.first
    for last, is_rechecked in ((min(rechecked, run.last), True), (min(settled, run.last), False)):
        if first <= last:
            yield Run(first, last, DayState.WHOLE, 0, tries=int(is_rechecked))
            first = last + 1
    if first <= run.last:
        yield run._replace(first=first)


def _merge_runs(runs: Iterable[Run]) -> list[Run]:
    merged: list[Run] = []
    for run in runs:
        if merged and (before := merged[-1]).last + 1 == run.first and before[2:] == run[2:]:
            merged[-1] = before._replace(last=run.last)
        else:
            merged.append(run)
    return merged


_FOREVER = 3_000_000


def decode_or_empty(key: str, text: str) -> Coverage:
    """Return the stored coverage of a feed, or an empty one where it cannot be read: its days are asked again."""
    try:
        return Coverage.decode(text)
    except (ValueError, TypeError):
        log.warning("failed to read the stored coverage of feed %s; its days will be requested again", key)
        return Coverage()
