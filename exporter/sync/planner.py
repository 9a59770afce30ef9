"""What a feed has to ask now: the policy laid over its coverage, and cut into requests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum
from itertools import chain, groupby

from exporter.sync import policy
from exporter.sync.coverage import Coverage, DayState, Run, is_corrected
from exporter.sync.feeds import CalendarMonth, Days, Feed
from exporter.sync.policy import DayPosition

DEFAULT_REACH_DAYS = 3653
"""How many days back a feed is asked for whose reach is not known; its empty days end it long before."""
NEVER = 1 << 62


class RequestKind(IntEnum):
    """Why a request is made; the order of a visit."""

    DUE = 0
    """Days younger than `settles`."""
    BACKLOG = 1
    """Days that were never asked."""
    AGAIN = 2
    """Older days: holes, `recheck`, and the probes of empty ranges."""
    SEARCH = 3
    """For the first day that the portal has."""


@dataclass(frozen=True, slots=True)
class DayRequest:
    """Days [first, last] (ordinals) to ask for; `probed_range` are all days for which a probe stands."""

    kind: RequestKind
    first: int
    last: int
    probed_range: tuple[int, int] | None = None

    @property
    def days(self) -> tuple[date, date]:
        """The days as dates."""
        return date.fromordinal(self.first), date.fromordinal(self.last)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a feed has to ask now."""

    requests: Mapping[RequestKind, DayRequest] = field(default_factory=dict)
    """The next request of each kind."""
    pending: int = 0
    """About how many requests of backlog there are."""
    history_start: int | None = None
    """The first day of the history (an ordinal), once all before it was asked and is empty or too old; None: not known yet."""
    next_due: int = NEVER
    """When a day will be due that is not yet (Unix seconds)."""
    valid_until: int = NEVER
    """When the plan is to be made anew whatever happens: with the next day."""


def rank_backlog_day(day: int, today: int) -> int:
    """Return the rank of a day of backlog: this month, this year, the month and year before, then year by year."""
    one, now = date.fromordinal(day), date.fromordinal(today)
    if one.year == now.year:
        return 0 if one.month == now.month else 1
    return now.year - one.year + 1


def plan(feed: Feed, coverage: Coverage, now: int, *, oldest: int = 0, due_at: int | None = None) -> Plan:
    """Return what a feed has to ask at `now`; nothing before the day `oldest`.

    What becomes due after `due_at` (None: `now`) waits: steps between visits ask nothing again.
    """
    if coverage.retry_at > now:
        return Plan(valid_until=coverage.retry_at)
    return _FeedPlanner(feed, coverage, now, oldest, now if due_at is None else due_at).plan()


def plan_import(
    feed: Feed,
    coverage: Coverage,
    now: int,
    *,
    first: int | None,
    last: int | None,
    reread: bool,
    done: Sequence[tuple[int, int]],
    oldest: int = 0,
) -> Plan:
    """Return the next requests of an import, as BACKLOG, AGAIN or SEARCH, and how many there are.

    All that is not whole in [first, last], and what may still be corrected, whatever was asked before; with `reread` all
    days. `done` are days that this import has asked. Without `first` one request stands for an empty range.
    """
    return _FeedPlanner(feed, coverage, now, oldest, now).plan_import(first, last, done, reread=reread)


class _FeedPlanner:
    def __init__(self, feed: Feed, coverage: Coverage, now: int, oldest: int, due_at: int) -> None:
        self._feed, self._coverage, self._now, self._due_at = feed, coverage, now, due_at
        self._today = feed.last_day(now)
        reach = feed.reach.days if feed.reach else DEFAULT_REACH_DAYS
        self._oldest = max(self._today - reach, oldest)
        self._floor = max(self._oldest, coverage.too_old.last + 1 if coverage.too_old else 0)
        # Days from here on are younger than `settles`.
        self._young = max(feed.first_unsettled_day(now), self._floor)
        self._cuts = [self._young, self._now_minus(feed.delay.total_seconds())]
        self._cuts += [
            policy.find_group(feed, self._now_minus(age.total_seconds()))[0] for age in (feed.settles, feed.recheck) if age
        ]
        self._runs = list(coverage.list_runs(self._floor, self._today))
        self._known = _find_known_range(self._runs)
        self._requests: dict[RequestKind, DayRequest] = {}
        self._pending, self._next_due = 0, NEVER
        self._history_start: int | None = None

    def plan(self) -> Plan:
        if self._today < self._floor:
            return self._build_plan()
        waiting = list(self._coverage.list_unasked_ranges(self._floor, self._today))
        probed_ranges = [*self._list_empty_ends(), *self._list_long_holes()]
        for first, last in probed_ranges:
            waiting = list(_subtract_range(waiting, first, last))
            self._plan_probe(first, last)
        due = self._list_due(probed_ranges)
        bound = self._coverage.too_old
        if self._known and not any(first < self._known[0] for first, _ in waiting) and not (bound and bound.first < bound.last):
            self._history_start = self._known[0]
        for entry in self._coverage.misread:
            row = policy.FAILED_WAITS if entry.last >= self._young else policy.HOLE_WAITS
            if not self._is_due(entry.at + policy.select_wait(row, entry.tries)):
                waiting = list(_subtract_range(waiting, entry.first, entry.last))
                due = list(_subtract_range(due, entry.first, entry.last))
        left = self._plan_recent(due, waiting)
        self._plan_backlog(waiting)
        if old := [day for day in left if day[1] < self._young]:
            self._put(self._build_newest_request(old))
        self._plan_search()
        return self._build_plan()

    def plan_import(self, first: int | None, last: int | None, done: Sequence[tuple[int, int]], *, reread: bool) -> Plan:
        begin, end = max(first or self._floor, self._floor), min(last or self._today, self._today)
        runs = list(self._coverage.list_runs(begin, end))
        unasked = self._coverage.list_unasked_ranges(begin, end)
        missing = sorted([*unasked, *((run.first, run.last) for run in runs if run.state != DayState.WHOLE)])
        known = [(run.first, run.last) for run in self._list_open_to_correction(runs, reread=reread)]
        probes = list[tuple[int, int]]()
        for probed in [] if first else [*self._list_empty_ends(), *self._list_long_holes()]:
            missing = list(_subtract_range(missing, *probed))
            if last is None or probed[1] <= last:
                probes += _subtract_range([probed], 0, begin - 1)
        for asked in done:
            missing, known = list(_subtract_range(missing, *asked)), list(_subtract_range(known, *asked))
            probes = [one for one in probes if not asked[0] <= one[1] <= asked[1]]
        self._pending = sum(self._count_requests(*days) for days in chain(missing, known)) + len(probes)
        if known and (reread or not (missing or probes)):
            self._put(self._build_newest_request(known))
        if missing:
            found = self._build_newest_request(missing)
            # Corrections come last, but cost nothing in a request that is made anyway.
            start = self._find_range(found.last)[0]
            free = [max(since, start) for since, until in known if until >= start and since <= found.last]
            self._put(DayRequest(RequestKind.BACKLOG, min([found.first, *free]), found.last))
        elif probes:
            since, until = probes[-1]
            self._put(DayRequest(RequestKind.BACKLOG, max(since, self._find_range(until)[0]), until, (since, until)))
        if first is None or (self._coverage.too_old and self._coverage.too_old.last >= first):
            self._plan_search()
        return self._build_plan()

    def _build_plan(self) -> Plan:
        next_day = self._feed.start(self._feed.day_at(self._now) + 1)
        return Plan(self._requests, self._pending, self._history_start, self._next_due, next_day)

    def _list_open_to_correction(self, runs: Sequence[Run], *, reread: bool) -> Iterator[Run]:
        """Return the whole days that may have been corrected since they were asked: not settled then, or not now.

        Not those asked lately, so that an import that was interrupted gets on; nor, of load curves, those that only wait for
        their `recheck`, which are a request each.
        """
        feed = self._feed
        recheck = None if feed.priority else feed.recheck
        young = min(self._young, self._now_minus(recheck.total_seconds())) if recheck else self._young
        for run in runs:
            if run.state != DayState.WHOLE:
                continue
            if not reread and 0 <= self._now - run.asked < policy.IMPORT_REPEAT_WAIT:
                continue
            if reread or (is_corrected(feed) and (run.asked or (recheck and not run.is_rechecked))):
                yield run
            elif is_corrected(feed) and run.last >= young:
                yield run._replace(first=max(run.first, young))

    def _put(self, request: DayRequest) -> None:
        if request.kind not in self._requests or request.last > self._requests[request.kind].last:
            self._requests[request.kind] = request

    def _list_empty_ends(self) -> Iterator[tuple[int, int]]:
        """Return the empty ranges at both ends that one request stands for."""
        known = self._known
        if known is None:
            if sum(run.last - run.first + 1 for run in self._runs) >= max(2 * self._request_days(), policy.SILENT_AFTER_DAYS):
                yield self._floor, self._today
            return
        below = _find_empty_below(self._runs, known[0])
        is_long = known[0] - below >= self._feed.gap.days or below <= self._floor
        if below < known[0] and is_long and self._floor < self._young:
            yield self._floor, min(known[0], self._young) - 1
        after = sum(run.last - run.first + 1 for run in self._runs if run.first > known[1])
        if after >= max(policy.SILENT_AFTER_DAYS, self._feed.settles.days):
            yield known[1] + 1, self._today

    def _list_long_holes(self) -> Iterator[tuple[int, int]]:
        """Return the long empty ranges between known days: switched off for half a year, say."""
        if self._known is None:
            return
        inside = [
            run for run in self._runs if self._known[0] < run.first < self._known[1] and not run.state and run.last < self._young
        ]
        for first, last in _join_runs(inside):
            if last - first >= max(policy.LONG_HOLE_DAYS, self._request_days()):
                yield first, last

    def _plan_probe(self, first: int, last: int) -> None:
        """Ask for the newest days of an empty range when it is time, and for its oldest where a silent feed might go on."""
        runs = [run for run in self._runs if run.last >= first and run.first <= last and run.asked]
        if first > last or not runs:
            return
        is_silent = last == self._today
        is_inside = not is_silent and self._known is not None and last > self._known[0]
        row = policy.SILENT_WAITS if is_silent else policy.HOLE_WAITS if is_inside else policy.EMPTY_WAITS
        top = max(runs, key=lambda run: run.asked) if is_silent else runs[-1]
        if not self._is_due(top.asked + policy.select_wait(row, top.tries)):
            return
        ends = [last]
        if is_silent and self._known and runs[0].asked < top.asked and runs[0].first == first:
            ends = [min(first + self._request_days() - 1, last)]  # in turn: where it stopped, and its newest days
        for end in ends:
            start = max(first, self._find_range(end)[0])
            kind = RequestKind.DUE if end >= self._young else RequestKind.AGAIN
            self._put(DayRequest(kind, start, end, None if is_silent else (first, last)))

    def _is_due(self, at: int) -> bool:
        if at <= self._due_at:
            return True
        self._next_due = min(self._next_due, at)
        return False

    def _list_due(self, probed_ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the ranges of days that are to be asked again, oldest first."""
        ranges, feed = [], self._feed
        for whole_run in self._runs:
            is_final = whole_run.is_rechecked or (
                whole_run.state is DayState.WHOLE and not whole_run.asked and feed.recheck is None
            )
            if is_final and self._now >= feed.start(whole_run.last + 1) + feed.settles.total_seconds():
                continue  # never by itself: years of days
            for run in self._cut(whole_run):
                if probed_ranges and any(first <= run.first and run.last <= last for first, last in probed_ranges):
                    continue
                at = policy.find_next_ask(
                    feed, run.last, run.state, self._find_position(run), asked=run.asked, tries=run.tries, now=self._now
                )
                if at is not None and self._is_due(at):
                    ranges.append((run.first, run.last))
        return ranges

    def _cut(self, run: Run) -> Sequence[Run]:
        """Cut a run where the policy changes within it."""
        if run.first == run.last:
            return (run,)
        cuts = self._cuts
        if run.state == DayState.WHOLE and run.asked:
            cuts = [*cuts, self._feed.day_at(run.asked - round(self._feed.settles.total_seconds()))]
        parts, first = list[Run](), run.first
        for cut in sorted(cuts):
            if first < cut <= run.last:
                parts.append(run._replace(first=first, last=cut - 1))
                first = cut
        return (*parts, run._replace(first=first))

    def _now_minus(self, seconds: float) -> int:
        return self._feed.day_at(self._now - round(seconds))

    def _find_position(self, run: Run) -> DayPosition:
        if self._known is None or run.first > self._known[1]:
            return DayPosition.AFTER
        return DayPosition.BEFORE if run.last < self._known[0] else DayPosition.INSIDE

    def _plan_recent(self, due: list[tuple[int, int]], waiting: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Plan the newest request of young days; return the due days that it leaves.

        Of a load curve only its newest days are asked here, never asked older ones are backlog: so that years of days come
        before weeks of quarter-hours.
        """
        young = [(max(first, self._young), last) for first, last in waiting if last >= self._young]
        if self._feed.priority:
            young = [(max(first, self._find_range(self._today)[0]), last) for first, last in young if last == self._today]
        ranges = sorted([*due, *young])
        if not ranges or ranges[-1][1] < self._young:
            return due
        found = self._build_newest_request(ranges)
        # What has not settled costs nothing more in the same request.
        first = max(self._find_range(found.last)[0], min(found.first, self._young))
        self._put(DayRequest(RequestKind.DUE, first, found.last))
        return [day for day in due if day[0] < first]

    def _plan_backlog(self, waiting: list[tuple[int, int]]) -> None:
        if waiting:
            found = self._build_newest_request(waiting)
            self._put(DayRequest(RequestKind.BACKLOG, found.first, found.last))
            self._pending = sum(self._count_requests(first, last) for first, last in waiting)

    def _build_newest_request(self, ranges: Sequence[tuple[int, int]]) -> DayRequest:
        """Return one request for the newest of these days and as many older ones as it can hold."""
        last = ranges[-1][1]
        start, end = self._find_range(last)
        if isinstance(self._feed.chunk, Days) or self._coverage.max_days:
            start = min(max(first, start) for first, until in ranges if until >= start)
        return DayRequest(RequestKind.AGAIN, start, end)

    def _find_range(self, day: int) -> tuple[int, int]:
        """Return the widest request that has a day at its end, or, of calendar months and years, in it."""
        if self._coverage.max_days:
            return max(day - self._coverage.max_days + 1, self._floor), day
        first, last = self._feed.chunk.find_range(day)
        return max(first, self._floor), min(last, self._today)

    def _request_days(self) -> int:
        """Return about how many days one request can ask for."""
        chunk = self._feed.chunk
        usual = chunk.count if isinstance(chunk, Days) else 31 if isinstance(chunk, CalendarMonth) else 366
        return min(usual, self._coverage.max_days or usual)

    def _count_requests(self, first: int, last: int) -> int:
        if isinstance(self._feed.chunk, Days) or self._coverage.max_days:
            return -(-(last - first + 1) // self._request_days())
        begin, end = date.fromordinal(first), date.fromordinal(last)
        years = end.year - begin.year
        return (years * 12 + end.month - begin.month if isinstance(self._feed.chunk, CalendarMonth) else years) + 1

    def _plan_search(self) -> None:
        """Halve towards the first day that the portal has, or ask again for the day before it."""
        bound = self._coverage.too_old
        if bound is None:
            return
        if bound.first < bound.last:
            middle = bound.first + (bound.last - bound.first + 1) // 2
            if (hint := self._feed.start_hint) and bound.first < hint.toordinal() <= bound.last and bound.tries == 1:
                middle = hint.toordinal()
            self._put(DayRequest(RequestKind.SEARCH, middle, min(bound.last, middle + self._request_days() - 1)))
        elif bound.last >= self._oldest and self._is_due(bound.at + policy.select_wait(policy.TOO_OLD_WAITS, bound.tries)):
            self._put(DayRequest(RequestKind.SEARCH, bound.last, bound.last))


def _find_known_range(runs: Sequence[Run]) -> tuple[int, int] | None:
    known = [run for run in runs if run.state]
    return (known[0].first, known[-1].last) if known else None


def _find_empty_below(runs: Sequence[Run], day: int) -> int:
    """Return the first of the empty days that lie directly below a day, or the day itself."""
    for run in reversed(runs):
        if run.last >= day:
            continue
        if run.last != day - 1 or run.state:
            break
        day = run.first
    return day


def _join_runs(runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """Return the ranges of days of neighbouring runs."""
    counted = 0

    def group(run: Run) -> int:
        nonlocal counted
        position = run.first - counted
        counted += run.last - run.first + 1
        return position

    for _, some in groupby(runs, key=group):
        neighbours = list(some)
        yield neighbours[0].first, neighbours[-1].last


def _subtract_range(ranges: Sequence[tuple[int, int]], first: int, last: int) -> Iterator[tuple[int, int]]:
    for since, until in ranges:
        if until < first or since > last:
            yield since, until
            continue
        if since < first:
            yield since, first - 1
        if until > last:
            yield last + 1, until
