"""An import: reads a range of days now, whatever was asked before, and reports progress."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Generic, TypeVar

from exporter.errors import FeedRefusedError, PortalError, RateLimitError, UnreachableError
from exporter.sync.engine import Engine, RequestResult, to_seconds
from exporter.sync.feeds import Feed
from exporter.sync.planner import DayRequest, Plan, RequestKind, plan_import, rank_backlog_day

SessionT = TypeVar("SessionT")
MAX_UNASKED_WAIT = timedelta(minutes=10)
"""A rate limit that ends sooner is waited for in any case."""
RETRY_WAITS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2))
"""Waits before asking again what was not reached."""
MAX_CONSECUTIVE_FAILURES = 3
"""So many failures of a feed in a row end its part of the import."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far an import is; a progress bar shows it after each request."""

    done: int = 0
    """Requests made."""
    remaining: int = 0
    """About how many are still to be made."""
    new: int = 0
    corrected: int = 0
    skipped: int = 0
    waits_until: datetime | None = None
    """While a rate limit is waited for."""
    paused: RateLimitError | None = None
    """The rate limit that ended the import early; `serve`, or the same command, goes on."""
    failures: dict[str, PortalError] = field(default_factory=dict)
    """By feed: the last failure of what was left out; the rest was asked."""
    refused: dict[str, FeedRefusedError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return about how many requests the import takes in all."""
        return self.done + self.remaining

    def __str__(self) -> str:
        return f"{self.done} of {self.total}"


class Importer(Generic[SessionT]):
    """One import of an account's days [first, last]; None is as far as the portal has any.

    Asked for is all that is not whole in the range and all that may still be corrected; with `reread` settled whole days too.
    """

    def __init__(
        self,
        engine: Engine[SessionT],
        *,
        now: Callable[[], datetime],
        sleep: Callable[[timedelta], Awaitable[None]],
        first: date | None = None,
        last: date | None = None,
        reread: bool = False,
        wait: bool = False,
        report: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._engine, self._now, self._sleep, self._report = engine, now, sleep, report
        self._first, self._last = first.toordinal() if first else None, last.toordinal() if last else None
        self._reread, self._wait = reread, wait
        self._asked: dict[str, list[tuple[int, int]]] = {}
        self._plans: dict[str, Plan] = {}
        self._abandoned: set[str] = set()
        self._consecutive_failures = Counter[str]()
        self.progress = Progress()

    async def run(self, session: SessionT) -> Progress:
        """Ask until everything of the range was asked, or a rate limit pauses it.

        Raise LoginError, UnreachableError when the portal stays away, and LedgerError; what was read until then is kept.
        """
        await self._engine.refresh(self._now())
        self._update()
        while (following := self._find_next_request()) and not self.progress.paused:
            feed, request = following
            await self._ask(session, feed, request)
            self._update(feed)
        return self.progress

    def _find_next_request(self) -> tuple[Feed, DayRequest] | None:
        """Return the next request: what is missing, then corrections, then searches; with `reread` whole days before all.

        Days go before curves, the newest first, all feeds in turn.
        """
        at = to_seconds(self._now())
        first = (RequestKind.AGAIN, RequestKind.BACKLOG) if self._reread else (RequestKind.BACKLOG, RequestKind.AGAIN)
        for kind in (*first, RequestKind.SEARCH):
            found = [
                ((feed.priority, rank_backlog_day(request.last, feed.day_at(at)), -request.last), feed, request)
                for key, feed in self._engine.feeds.items()
                if key not in self._abandoned and (request := self._plans[key].requests.get(kind))
            ]
            if found:
                _, feed, request = min(found, key=lambda one: one[0])
                return feed, request
        return None

    async def _ask(self, session: SessionT, feed: Feed, request: DayRequest) -> None:
        retries, before = iter(RETRY_WAITS), self._engine.get_coverage(feed.key)
        while True:
            try:
                result = await self._engine.ask(session, feed, request, self._now())
            except RateLimitError as error:
                if not await self._wait_for_limit(error):
                    return
                continue
            if not isinstance(result.failure, UnreachableError):
                break
            wait = next(retries, None)
            if wait is None:
                raise result.failure
            log.warning("%s; retrying in %d s", result.failure, wait.total_seconds())
            await self._sleep(wait)
        self._count(feed, result)
        after = self._engine.get_coverage(feed.key)
        if after.max_days != before.max_days or (after.too_old and after.too_old != before.too_old):
            return  # asked otherwise: fewer days at once, or from a later day on
        found_nothing = request.probed_range and not result.new
        self._asked.setdefault(feed.key, []).append(
            request.probed_range if request.probed_range and found_nothing else _get_range(request)
        )

    def _count(self, feed: Feed, result: RequestResult) -> None:
        progress = self.progress
        progress.done += 1
        progress.new += result.new
        progress.corrected += result.corrected
        progress.skipped += result.skipped
        progress.notes += (note for note in result.notes if note not in progress.notes)
        progress.failures |= {feed.key: result.failure} if result.failure else {}
        progress.refused |= {feed.key: result.refusal} if result.refusal else {}
        self._consecutive_failures[feed.key] = self._consecutive_failures[feed.key] + 1 if result.failure else 0
        if result.refusal or self._consecutive_failures[feed.key] >= MAX_CONSECUTIVE_FAILURES:
            self._abandoned.add(feed.key)

    async def _wait_for_limit(self, error: RateLimitError) -> bool:
        """Wait for a rate limit to end where that is wanted, or short; return whether to go on."""
        length = error.retry_after or timedelta(hours=1)
        if not self._wait and (error.retry_after is None or length > MAX_UNASKED_WAIT):
            self.progress.paused = error
            return False
        self.progress.waits_until = self._now() + length
        self._report(self.progress)
        await self._sleep(max(length, timedelta(seconds=1)))
        self.progress.waits_until = None
        return True

    def _update(self, changed: Feed | None = None) -> None:
        at = to_seconds(self._now())
        for feed in [changed] if changed else self._engine.feeds.values():
            self._plans[feed.key] = plan_import(
                feed,
                self._engine.get_coverage(feed.key),
                at,
                first=self._first,
                last=self._last,
                reread=self._reread,
                done=self._asked.get(feed.key, ()),
                oldest=self._engine.oldest,
            )
        self.progress.remaining = sum(plan.pending for key, plan in self._plans.items() if key not in self._abandoned)
        self._report(self.progress)


def _get_range(request: DayRequest) -> tuple[int, int]:
    return request.first, request.last
