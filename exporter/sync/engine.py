"""The order of a visit: what is due first, then the backlog, breadth first over all feeds, and each failure by itself."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Generic, NamedTuple, TypeVar

from exporter.errors import (
    FeedRefusedError,
    LoginError,
    NoDataError,
    PortalError,
    RateLimitError,
    ResponseError,
    TooLongError,
    TooOldError,
    UnreachableError,
)
from exporter.sync import policy
from exporter.sync.coverage import MARGIN_DAYS, Coverage, DayState, Run, TooOld, build_runs, decode_or_empty, judge_days
from exporter.sync.feeds import Feed, FeedResult, FeedSource, FeedStore, Form, Pace, Period, SaveResult
from exporter.sync.planner import DEFAULT_REACH_DAYS, DayRequest, Plan, RequestKind, plan, rank_backlog_day
from exporter.sync.policy import describe_misread, describe_silence

SessionT = TypeVar("SessionT")
MAX_UNREACHABLE_FEEDS = 2
"""So many feeds in a row that are not reached are no fault of theirs: it is the portal."""
LOOKBACK_DAYS = 40
"""How many days back a visit checks an index for silence."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestResult:
    """What came of one request of a feed."""

    requests: int = 1
    """More than one where the portal needs several for one."""
    new: int = 0
    corrected: int = 0
    skipped: int = 0
    notes: Sequence[str] = ()
    failure: PortalError | None = None
    """What failed; the other feeds go on."""
    refusal: FeedRefusedError | None = None
    """What the portal refuses; no failure of the visit."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a visit's feeds, or of a step of the backlog."""

    requests: int = 0
    skipped: int = 0
    notes: Sequence[str] = ()
    failures: Mapping[str, PortalError] = field(default_factory=dict)
    """By feed: what failed while the others went on."""
    refused: Mapping[str, FeedRefusedError] = field(default_factory=dict)
    """By feed: what the portal refuses; no failure of the visit."""
    stopped: PortalError | None = None
    """What ended it early: a rate limit, a refused login, or a portal that is not reached."""
    stopped_in: RequestKind | None = None
    """For which kind of days it was asked then."""
    pending: int = 0
    """About how many requests remain before everything that the portal has was asked once."""
    next_step: datetime | None = None
    """When a step has something to do; None: nothing before the next visit."""


class _StoredCoverage(NamedTuple):
    """What the ledger has of a feed: the text, and what it says."""

    text: str
    coverage: Coverage


class _QueueEntry(NamedTuple):
    """A feed that has a request of a kind to make; the lowest `order` goes first."""

    order: tuple[int, ...]
    key: str


class Engine(Generic[SessionT]):
    """What one account asks. One visit, step or import at a time; the caller keeps them apart."""

    def __init__(
        self,
        source: FeedSource[SessionT],
        store: FeedStore,
        *,
        every: timedelta,
        pace: Pace | None = None,
        reads_backlog: bool = True,
        oldest: date | None = None,
    ) -> None:
        self._source, self._store, self._every = source, store, round(every.total_seconds())
        self.pace = pace or Pace()
        self._reads_backlog = reads_backlog
        self.oldest = oldest.toordinal() if oldest else 0
        self._feeds: dict[str, Feed] = {}
        self._order: dict[str, int] = {}
        self._coverage: dict[str, _StoredCoverage] = {}
        self._plans: dict[str, tuple[int, Plan]] = {}
        self._visited = 0

    @property
    def feeds(self) -> Mapping[str, Feed]:
        """The feeds as of the last visit or step, by key."""
        return self._feeds

    def get_coverage(self, key: str) -> Coverage:
        """Return what is known of a feed."""
        stored = self._coverage.get(key)
        return stored.coverage if stored else Coverage()

    def count_pending(self, now: datetime) -> int:
        """Return about how many requests of backlog remain; 0 when all was asked once."""
        return sum(self._get_plan(key, to_seconds(now)).pending for key in self._feeds) if self._reads_backlog else 0

    def find_history_start(self, key: str, now: datetime) -> date | None:
        """Return the first day of a feed's history; None while older days are still to be asked, or it has failed.

        Sums of periods that begin before it are whole without the days before it.
        """
        first = self._get_plan(key, to_seconds(now)).history_start
        return date.fromordinal(first) if first else None

    def estimate_remaining(self, now: datetime) -> timedelta:
        """Return about how long the backlog takes at the portal's pace."""
        return -(-self.count_pending(now) // self.pace.requests) * self.pace.pause

    async def refresh(self, now: datetime, *, after_latest: bool = False) -> None:
        """Read the list of feeds and what is stored of them; `after_latest`: `latest` has just been stored.

        Another process may have written since, such as an import. Raise LedgerError.
        """
        self._feeds = {feed.key: feed for feed in self._source.list_feeds()}
        self._order = {key: place for place, key in enumerate(self._feeds)}
        for key, text in (await self._store.load_coverage()).items():
            stored = self._coverage.get(key)
            if key in self._feeds and (stored is None or stored.text != text):
                self._set_coverage(key, text, decode_or_empty(key, text).clamp_to(to_seconds(now)))
        if new := [feed for key, feed in self._feeds.items() if key not in self._coverage]:
            await self._judge_stored_readings(new, now)
        if after_latest:
            await self._judge_new_indexes(now)

    async def visit(self, session: SessionT, now: datetime) -> StepResult:
        """Ask what is due, then some of the backlog; to be called after `latest` was stored and is shown."""
        await self.refresh(now, after_latest=True)
        self._visited = to_seconds(now)
        kinds = list(RequestKind) if self._reads_backlog else [RequestKind.DUE, RequestKind.AGAIN, RequestKind.SEARCH]
        return await self._run(session, now, kinds, self.pace.visit)

    async def step(self, session: SessionT, now: datetime) -> StepResult:
        """Go on with the backlog, and with what the last visit had no requests left for."""
        await self.refresh(now)
        return await self._run(
            session, now, list(RequestKind) if self._reads_backlog else [RequestKind.DUE, RequestKind.AGAIN], self.pace.requests
        )

    async def ask(self, session: SessionT, feed: Feed, request: DayRequest, now: datetime) -> RequestResult:
        """Make one request, store what it brought, or how it failed, and return that.

        What is no matter of this feed alone is raised: RateLimitError, LoginError; LedgerError.
        """
        at, found = to_seconds(now), await self._read(session, feed, request)
        if isinstance(found, PortalError):
            refusal = found if isinstance(found, FeedRefusedError) else None
            failed = {feed.key: self._apply_error(feed, request, found, at)}
            await self._save(failed, None, now, refusal=str(refusal or ""))
            is_failure = not isinstance(found, FeedRefusedError | TooOldError | TooLongError)
            return RequestResult(failure=found if is_failure else None, refusal=refusal)
        after = await self._apply_response(feed, request, found, at)
        found = replace(found, notes=(*found.notes, *describe_silence(feed, after, at), *describe_misread(feed, after)))
        saved = await self._save({feed.key: after}, found, now)
        return RequestResult(found.requests, saved.new, saved.corrected, found.skipped, found.notes)

    async def _read(self, session: SessionT, feed: Feed, request: DayRequest) -> FeedResult | PortalError:
        """Return what a request brought, or how it failed; raise RateLimitError and LoginError."""
        try:
            return await self._source.read(session, feed, *request.days)
        except (RateLimitError, LoginError):
            raise
        except NoDataError:
            return FeedResult()
        except TooLongError as error:
            return error if request.first < request.last else ResponseError(f"{error}, even for one day")
        except PortalError as error:
            return error

    async def _run(self, session: SessionT, now: datetime, kinds: Sequence[RequestKind], allowance: int) -> StepResult:
        results, requests, unreached = list[tuple[str, RequestResult]](), 0, list[str]()
        stopped: PortalError | None = None
        stopped_in: RequestKind | None = None
        for kind in kinds:
            if kind is RequestKind.BACKLOG:
                allowance = min(allowance, requests + self.pace.requests)
            queue = [entry for key in self._feeds if (entry := self._build_entry(key, kind, now))]
            heapify(queue)
            while queue and requests < allowance and not stopped:
                feed = self._feeds[heappop(queue).key]
                request = self._get_plan(feed.key, to_seconds(now)).requests[kind]
                try:
                    result = await self.ask(session, feed, request, now)
                except (RateLimitError, LoginError) as error:
                    requests += 1
                    stopped, stopped_in = error, kind
                    break
                requests += result.requests
                results.append((feed.key, result))
                unreached = [*unreached, feed.key] if isinstance(result.failure, UnreachableError) else []
                if len(unreached) == MAX_UNREACHABLE_FEEDS:
                    stopped, stopped_in = result.failure, kind
                if kind is RequestKind.SEARCH:
                    break  # one request a visit: what is not given now is in no hurry
                if entry := self._build_entry(feed.key, kind, now):
                    heappush(queue, entry)
        await self._clear_retry_times(stopped, unreached, now)
        plans = [self._get_plan(key, to_seconds(now)) for key in self._feeds]
        return StepResult(
            requests,
            skipped=sum(result.skipped for _, result in results),
            notes=list(dict.fromkeys(note for _, result in results for note in result.notes)),
            failures={key: result.failure for key, result in results if result.failure},
            refused={key: result.refusal for key, result in results if result.refusal},
            stopped=stopped,
            stopped_in=stopped_in,
            pending=sum(plan.pending for plan in plans) if self._reads_backlog else 0,
            next_step=self._find_next_step(plans, stopped, now),
        )

    def _build_entry(self, key: str, kind: RequestKind, now: datetime) -> _QueueEntry | None:
        """Return the place of a feed's next request in the queue of a kind; None if there is no request."""
        feed, request = self._feeds[key], self._get_plan(key, to_seconds(now)).requests.get(kind)
        if request is None:
            return None
        if kind is RequestKind.BACKLOG:
            today = feed.day_at(to_seconds(now))
            return _QueueEntry((feed.priority, rank_backlog_day(request.last, today), -request.last, self._order[key]), key)
        return _QueueEntry((-request.last, feed.priority, self._order[key]), key)

    def _get_plan(self, key: str, now: int) -> Plan:
        due_at = min(self._visited or now, now)
        made, cached = self._plans.get(key, (0, None))
        if cached and made <= now < cached.valid_until and due_at < cached.next_due:
            return cached
        fresh = plan(self._feeds[key], self.get_coverage(key), now, oldest=self.oldest, due_at=due_at)
        self._plans[key] = (now, fresh)
        return fresh

    def _find_next_step(self, plans: Sequence[Plan], stopped: PortalError | None, now: datetime) -> datetime | None:
        wanted = set(RequestKind) if self._reads_backlog else {RequestKind.DUE, RequestKind.AGAIN}
        if isinstance(stopped, LoginError) or not any(wanted & one.requests.keys() for one in plans):
            return None
        wait = self.pace.pause
        if isinstance(stopped, RateLimitError):
            wait = max(stopped.retry_after or timedelta(hours=1), wait)
        elif stopped:
            wait = timedelta(seconds=policy.MIN_WAIT)
        return now + wait

    def _set_coverage(self, key: str, text: str, coverage: Coverage) -> None:
        self._coverage[key] = _StoredCoverage(text, coverage)
        self._plans.pop(key, None)

    async def _save(
        self, changed: Mapping[str, Coverage], found: FeedResult | None, now: datetime, *, refusal: str = ""
    ) -> SaveResult:
        """Store coverages, and only then know them: after a LedgerError all is as it was."""
        texts = {key: coverage.encode() for key, coverage in changed.items()}
        saved = await self._store.save(texts, found, now, refusal=refusal)
        for key, coverage in changed.items():
            self._set_coverage(key, texts[key], coverage)
        return saved

    async def _clear_retry_times(self, stopped: PortalError | None, unreached: Sequence[str], now: datetime) -> None:
        """Let feeds be asked at the next visit after what was no matter of theirs: a portal not reached, a refused login."""
        keys = unreached if isinstance(stopped, UnreachableError) else []
        if isinstance(stopped, LoginError):  # a new login may give what the old one did not
            keys = [key for key in self._feeds if (one := self.get_coverage(key)).retry_at and not one.failures]
        if keys:
            await self._save({key: replace(self.get_coverage(key), failures=0, retry_at=0) for key in keys}, None, now)

    async def _apply_response(self, feed: Feed, request: DayRequest, found: FeedResult, at: int) -> Coverage:
        """Return the coverage after a response; raise LedgerError."""
        periods = sorted({period for reading in found.readings if (period := feed.period(reading))})
        before = self.get_coverage(feed.key)
        margin = MARGIN_DAYS if feed.form is Form.INDEX and feed.resolution is None else 0
        is_pieced = margin or any(run.state == DayState.PARTIAL for run in before.list_runs(request.first, request.last))
        if is_pieced and feed.form is not Form.VISIT:
            start, end = from_seconds(feed.start(request.first - margin)), from_seconds(feed.start(request.last + 1 + margin))
            kept = (await self._store.read_periods([feed], start, end)).get(feed.key, ())
            periods = sorted({*periods, *kept})
        states = judge_days(feed, request.first, request.last, periods, at)
        after = before.with_response(feed, request.first, request.last, states, at)
        if margin:  # a new neighbour shows, or ends, a silence that reaches into the days beside
            for day in (request.first - 1, min(request.last + 1, feed.last_day(at))):
                after = after.with_stored_days(day, judge_days(feed, day, day, periods, at))
        if request.probed_range:
            after = _apply_probe(request, before, after, found=any(states), at=at)
        if (bound := after.too_old) and request.first <= bound.last:
            after = replace(after, too_old=replace(bound, last=request.first - 1) if bound.first < request.first else None)
        return after

    def _apply_error(self, feed: Feed, request: DayRequest, error: PortalError, at: int) -> Coverage:
        """Return the coverage after a request that failed."""
        before = self.get_coverage(feed.key)
        if isinstance(error, TooOldError):
            return self._apply_too_old(feed, request, at, error)
        if isinstance(error, TooLongError):
            days = request.last - request.first + 1
            return replace(before, max_days=days - 1 if days <= 7 else days // 2)
        if isinstance(error, FeedRefusedError):
            until = to_seconds(error.until) if error.until else at + policy.REFUSED_WAIT
            return replace(before, retry_at=max(until, at + policy.MIN_WAIT))
        if isinstance(error, ResponseError):
            before = before.with_misread(request.first, request.last, at)
        failures = before.failures + 1
        row = policy.FAILED_WAITS[:3] if isinstance(error, UnreachableError) else policy.FAILED_WAITS
        return replace(before, failures=failures, retry_at=at + policy.select_wait(row, failures))

    def _apply_too_old(self, feed: Feed, request: DayRequest, at: int, error: TooOldError) -> Coverage:
        """Return the coverage after a request that began too early."""
        before = self.get_coverage(feed.key)
        known, bound = before.find_known_range(), before.too_old
        if known and known[0] <= request.first:
            # The portal has given older days: this is one of its bad days, and the days are just not there.
            log.debug("feed refused days that it has given before: %s", error)
            states = [DayState.ABSENT] * (request.last - request.first + 1)
            return before.with_response(feed, request.first, request.last, states, at)
        if bound and request.kind is RequestKind.SEARCH:
            if bound.first == bound.last:
                return replace(before, too_old=replace(bound, at=at, tries=bound.tries + 1), failures=0)
            return replace(before, too_old=replace(bound, first=request.first, at=at, tries=1), failures=0)
        last = min(request.last, known[0] - 1) if known else request.last
        return replace(before, too_old=TooOld(request.first, last, at), failures=0, retry_at=0)

    async def _judge_stored_readings(self, feeds: Sequence[Feed], now: datetime) -> None:
        """Judge feeds of which nothing is stored by the readings that are there: those of an older ledger."""
        at = to_seconds(now)
        for feed in feeds:  # one at a time: years of quarter-hours are some megabytes
            coverage, reach = Coverage(), timedelta(days=feed.reach.days if feed.reach else DEFAULT_REACH_DAYS)
            found = {} if feed.form is Form.VISIT else await self._store.read_periods([feed], now - reach, now)
            if periods := found.get(feed.key, ()):
                first, last = feed.day_at(periods[0][0]), feed.last_day(at)
                coverage = replace(coverage, runs=tuple(build_runs(first, judge_days(feed, first, last, periods, at))))
                await self._save({feed.key: coverage}, None, now)
            else:
                self._set_coverage(feed.key, coverage.encode(), coverage)

    async def _judge_new_indexes(self, now: datetime) -> None:
        """Judge the indexes that visits have stored since the last one, of which silence shows, and store what is found."""
        at, changed = to_seconds(now), dict[str, Coverage]()
        indexes = [feed for feed in self._feeds.values() if feed.form is Form.INDEX and feed.resolution is None]
        if indexes:
            today = indexes[0].day_at(at)
            newest = [one[1] for feed in indexes if (one := self.get_coverage(feed.key).find_known_range())]
            oldest = max(min(newest, default=today) - 1, today - LOOKBACK_DAYS)
            start = from_seconds(indexes[0].start(oldest - MARGIN_DAYS))
            found = await self._store.read_periods(indexes, start, now + timedelta(minutes=5))
        for feed in indexes:
            changed[feed.key] = _add_stored_days(feed, self.get_coverage(feed.key), found.get(feed.key, ()), oldest, at)
        for feed in self._feeds.values():
            if feed.form is Form.VISIT:
                changed[feed.key] = self.get_coverage(feed.key).with_visit(feed, at, self._every)
        changed = {key: coverage for key, coverage in changed.items() if coverage != self.get_coverage(key)}
        if changed:
            await self._save(changed, None, now)


def _apply_probe(request: DayRequest, before: Coverage, after: Coverage, *, found: bool, at: int) -> Coverage:
    """Return the coverage after the probe of an empty range: all of it was in vain, or is backlog again."""
    assert request.probed_range
    first, last = request.probed_range
    if found:
        return after.without_empty_days(first, request.first - 1).without_empty_days(request.last + 1, last)
    tries = max((run.tries for run in before.list_runs(request.first, request.last)), default=0) + 1
    return after.with_runs([Run(first, last, DayState.ABSENT, at, tries)])


def _add_stored_days(feed: Feed, coverage: Coverage, periods: Sequence[Period], oldest: int, at: int) -> Coverage:
    if not periods:
        return coverage
    known = coverage.find_known_range()
    first = max(known[1] - 1 if known else feed.day_at(periods[0][0]), oldest)
    return coverage.with_stored_days(first, judge_days(feed, first, feed.last_day(at), periods, at))


def to_seconds(at: datetime) -> int:
    """Return an instant in Unix seconds."""
    return int(at.timestamp())


def from_seconds(at: int) -> datetime:
    """Return an instant (UTC) of Unix seconds."""
    return datetime.fromtimestamp(at, UTC)
