"""When an account is visited, and what follows from how a visit ended."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from exporter.account_status import (
    LOGIN_SUSPENSION,
    MIN_VISIT_GAP,
    AccountHealth,
    cap_suspension,
    earliest_visit_time,
    shift_to_clock,
)
from exporter.client.session import Session
from exporter.clock import Clock
from exporter.errors import LedgerError, LoginError, PortalError, RateLimitError, UnreachableError, select_main_failure
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges, merge_changes
from exporter.metrics.cache import MetricsPage
from exporter.models import VisitResult
from exporter.portals.base import Portal
from exporter.recording.recorder import Recorder
from exporter.recording.recording import FailureRecordings
from exporter.recording.shape import Shapes
from exporter.visit import (
    DEFAULT_BACKLOG,
    MAX_VISIT_DURATION,
    BacklogSettings,
    FeedReader,
    ShapeChanges,
    VisitOutcome,
    VisitWatch,
    build_account_view,
    open_account,
    open_session,
)

CRASH_RETRY_DELAY = timedelta(minutes=5)
"""Time to the next visit if the process dies during one: a crash loop must not be a login loop."""
JITTER = 0.05
MAX_SLEEP = timedelta(seconds=30)
"""The wall clock is read this often while waiting: it may be set meanwhile."""
log = logging.getLogger(__name__)


class AccountPoller:
    """Visits one account when it is due, stores the result, and refreshes the metrics page.

    An account that the ledger does not know is visited at once; later never before it is due, restarts included.
    """

    def __init__(
        self,
        portal: Portal,
        ledger: Ledger,
        page: MetricsPage,
        clock: Clock,
        random_fraction: Callable[[], float] = random.random,
        backlog: BacklogSettings = DEFAULT_BACKLOG,
        recordings: FailureRecordings | None = None,
    ) -> None:
        self.portal, self.backlog = portal, backlog
        self._watch = VisitWatch(portal, ledger, recordings)
        self._feeds = FeedReader(portal, ledger, clock.now, backlog)
        self._ledger, self._page, self._clock, self._random_fraction = ledger, page, clock, random_fraction
        self._visit_requested = asyncio.Event()
        self._lock = asyncio.Lock()
        """One visit, step or refresh at a time."""
        self.health = AccountHealth(portal.config.every)
        """How the account is doing: changed here alone, read by the page."""
        self._stored_suspension: datetime | None = None
        """The suspension last stored or read here; any other value in the ledger was set by another process."""

    @property
    def state(self) -> AccountState:
        """The account's state now."""
        return self.health.state

    async def open(self) -> None:
        """Restore the account from the ledger: its metrics are on the page before the first visit.

        Raise LedgerError.
        """
        portal = self.portal
        state = await asyncio.to_thread(open_account, self._ledger, portal)
        self._stored_suspension = state.suspended_until
        self.health.state = cap_suspension(state, self._clock.now())
        self._page.add_account(build_account_view(portal), self.health)
        self._show_shapes(await self._watch.compare_shapes(Shapes(), self._clock.now()))
        if state.last_success and self._feeds.has_feeds:
            self.health.history = await self._feeds.resume()
        try:
            await asyncio.to_thread(self._page.refresh, portal.name)
        except LedgerError:
            raise
        except Exception:  # readings that the page cannot show must not keep the other accounts from starting
            log.exception("account %s: failed to render stored readings", portal.name)

    async def run(self) -> None:
        """Visit the account whenever it is due, and read its backlog between the visits, until cancelled."""
        while True:
            is_step = await self._wait_until_due()
            async with self._lock:
                await self._adopt_suspension()
                if not self.health.is_suspended(self._clock.now()):
                    await (self.step() if is_step else self.visit())
            if not is_step:
                # A request made during a visit is served by that visit; its result may forbid another.
                self._visit_requested.clear()

    def request_visit(self) -> timedelta | None:
        """Request a visit now, on behalf of a person.

        Return how long to wait if the last visit is less than a minute ago; raise LoginError while suspended.
        """
        now, state = self._clock.now(), self.state
        if state.suspended_until and now < state.suspended_until:
            until = f"{state.suspended_until:%Y-%m-%d %H:%M} UTC"
            raise LoginError(f"the portal has refused the login of {self.portal.name}; login suspended until {until}")
        if state.last_visit and timedelta(0) <= now - state.last_visit < MIN_VISIT_GAP:
            return state.last_visit + MIN_VISIT_GAP - now
        self._visit_requested.set()
        return None

    async def visit(self) -> None:
        """Visit once, and store the result."""
        health, before, now = self.health, self.state, self._clock.now()
        # Stored with last_visit, so that after a crash the wait can be measured even if the clock has been set.
        begun = replace(before, last_visit=now, next_visit=self.portal.adjust_visit_time(now + CRASH_RETRY_DELAY))
        health.visits += 1
        started = time.monotonic()

        with self._watch.watch(now) as watched:
            outcome = await self._record_start(begun) or await self._call_portal(begun, now, watched.recorder)
        self._show_shapes(await self._watch.finish(watched, outcome.error, now))
        after = replace(
            self.state,
            last_visit=now,
            duration=time.monotonic() - started,
            up=outcome.error is None,
            last_success=now if outcome.error is None else before.last_success,
            failures=before.failures + 1 if outcome.error else 0,
            reason=outcome.reason,
            message=str(outcome.error or ""),
            suspended_until=now + LOGIN_SUSPENSION if isinstance(outcome.error, LoginError) else None,
        )
        # Waits count from the visit's end; a clock that was set back meanwhile is no end.
        after = replace(after, next_visit=self._plan_next_visit(after, outcome, now, max(now, self._clock.now())))
        await self._finish(before, after, outcome)

    async def step(self) -> None:
        """Go on with the backlog: a few requests."""
        now = self._clock.now()
        with self._watch.watch_step() as watched:
            await self._read_backlog(now)
        self._show_shapes(await self._watch.compare_shapes(watched.shapes, now))

    def _show_shapes(self, changes: ShapeChanges | None) -> None:
        if changes:
            self.health.shape_changes += changes.count
            self.health.shape_notes = changes.notes

    async def _read_backlog(self, now: datetime) -> None:
        health = self.health
        try:
            outcome = await self._feeds.step(self._open_session)
        except (PortalError, LedgerError, TimeoutError) as error:
            log.warning("account %s: failed to read the backlog: %s", self.portal.name, error or "a step took too long")
            return
        except Exception:  # as in a visit
            log.exception("account %s: unexpected error in portal module %s", self.portal.name, self.portal.config.portal)
            return
        health.skipped += outcome.skipped
        health.history = outcome.history
        await self._show(VisitOutcome(), outcome.changes)
        with suppress(LedgerError):
            await self._adopt_counts()
        before = self.state
        self._log_changes(outcome.changes)
        if isinstance(outcome.stopped, LoginError):
            until = now + LOGIN_SUSPENSION
            suspended = replace(health.state, suspended_until=until, next_visit=until, failures=before.failures + 1)
            failed = VisitOutcome.from_error(outcome.stopped)
            health.visits += 1  # a failed visit, as which it is counted and logged
            await self._finish(before, replace(suspended, up=False, reason=failed.reason, message=str(failed.error)), failed)
        elif outcome.stopped:
            log.info("account %s: reading the backlog paused: %s", self.portal.name, outcome.stopped)

    async def adopt_changes(self, counts: tuple[int, int]) -> None:
        """Show what another process, such as an import, has stored; `counts` are the ledger's of readings and corrections."""
        if self._lock.locked() or self._page.is_current(self.portal.name, counts):
            return
        async with self._lock:
            await asyncio.to_thread(self._page.refresh, self.portal.name)
            await self._adopt_counts()

    async def _adopt_counts(self) -> None:
        """Adopt what the ledger counts and notes of the account now."""
        stored = await asyncio.to_thread(self._ledger.get_state, self.portal.name)
        self.health.state = replace(
            self.state,
            readings=stored.readings,
            corrections=stored.corrections,
            last_new_data=stored.last_new_data,
            notes=stored.notes,
        )

    async def _record_start(self, state: AccountState) -> VisitOutcome | None:
        """Record that a visit has started; if that fails, return the outcome, and the portal is not asked."""
        try:
            self._stored_suspension = await asyncio.to_thread(self._save_start, state)
        except LedgerError as error:
            return VisitOutcome.from_error(error)
        return None

    def _save_start(self, state: AccountState) -> datetime | None:
        self._ledger.record_visit_start(self.portal.name, state, login=self.portal.config.build_login_digest())
        return self._ledger.get_state(self.portal.name).suspended_until

    async def _call_portal(self, begun: AccountState, now: datetime, recorder: Recorder | None) -> VisitOutcome:
        """Ask for the latest values, store and show them; then for the days of feeds."""
        try:
            async with asyncio.timeout(MAX_VISIT_DURATION.total_seconds()), self._open_session(recorder) as session:
                # Nothing here keeps a reference to the result: 20 MB for 100,000 usage points, freed before rendering.
                outcome = await self._store_latest(await self.portal.fetch_latest(session), begun, now)
                outcome = await self._show(outcome, outcome.changes)
                if (
                    isinstance(outcome.error, LoginError | RateLimitError | LedgerError)
                    or outcome.reason == "bug"
                    or not self._feeds.has_feeds
                ):
                    return outcome
                return await self._read_feeds(session, outcome)
        except (PortalError, LedgerError) as error:
            return VisitOutcome.from_error(error)
        except TimeoutError:
            return VisitOutcome.from_error(UnreachableError(f"visit took longer than {MAX_VISIT_DURATION}"))
        except Exception:  # a portal's bug must not silence the other accounts, nor end this one's visits
            log.exception("account %s: unexpected error in portal module %s", self.portal.name, self.portal.config.portal)
            return VisitOutcome.from_bug("unexpected error in the portal module; see the log")

    async def _store_latest(self, result: VisitResult, begun: AccountState, now: datetime) -> VisitOutcome:
        error = select_main_failure(result.failures)
        try:
            changes, state = await asyncio.to_thread(
                self._ledger.record_visit,
                self.portal.name,
                result,
                begun,
                at=now,
                keep_personal=self.portal.config.personal_data,
            )
        except LedgerError:
            raise
        except Exception:  # a reading that ledger or page cannot hold is a bug of ours, and no reason to stop visiting
            log.exception("account %s: failed to store visit results", self.portal.name)
            return VisitOutcome.from_bug("failed to store visit results; see the log")
        self.health.skipped += result.skipped + changes.future
        self.health.state = state
        return VisitOutcome(changes, error, error.reason if error else "", requested_next_visit=result.next_visit)

    async def _show(self, outcome: VisitOutcome, changes: LedgerChanges) -> VisitOutcome:
        """Show what was stored; return the outcome, with the error if that fails and there was none before."""
        await asyncio.to_thread(self._ledger.free_memory)  # what storing has left, before rendering takes as much
        try:
            await asyncio.to_thread(self._page.refresh, self.portal.name, changes)
        except LedgerError as error:
            log.warning("account %s: failed to show visit results: %s", self.portal.name, error)
            return outcome if outcome.error else replace(outcome, error=error, reason=error.reason)
        except Exception:
            log.exception("account %s: failed to show visit results", self.portal.name)
            failure = PortalError("failed to show visit results; see the log")
            return outcome if outcome.error else replace(outcome, error=failure, reason="bug")
        return outcome

    async def _read_feeds(self, session: Session, latest: VisitOutcome) -> VisitOutcome:
        feeds = await self._feeds.visit(session)
        self.health.skipped += feeds.skipped
        self.health.history = feeds.history
        outcome = replace(latest, changes=merge_changes([latest.changes, feeds.changes]))
        if feeds.stopped and not feeds.is_pause:
            outcome = replace(outcome, error=feeds.stopped, reason=feeds.stopped.reason)
        elif feeds.failure and latest.error is None:
            outcome = replace(outcome, error=feeds.failure, reason=feeds.failure.reason, keeps_interval=True)
        return await self._show(outcome, feeds.changes)

    def _open_session(self, recorder: Recorder | None = None) -> Session:
        responses = self.health.responses
        return open_session(self.portal, self._ledger, self._clock.now, lambda status: responses.update((status,)), recorder)

    async def _finish(self, before: AccountState, after: AccountState, outcome: VisitOutcome) -> None:
        """Store and show the account's state after a visit."""
        name = self.portal.name
        try:
            after = await asyncio.to_thread(self._save_state, after)
            self._stored_suspension = after.suspended_until
            await asyncio.to_thread(self._ledger.free_memory)
        except LedgerError as error:
            after = replace(
                after,
                up=False,
                reason=error.reason,
                message=str(error),
                failures=before.failures + 1,
                last_success=before.last_success,
                next_visit=self.portal.adjust_visit_time(self._clock.now() + self._backoff(before.failures + 1)),
            )
        self.health.state = after
        if after.reason:
            self.health.failures[after.reason] += 1
        if after.reason and (after.reason, after.message) != (before.reason, before.message):
            log.warning("account %s: visit failed (%s): %s", name, after.reason, after.message)
        elif before.reason and not after.reason:
            log.info("account %s: visits recovered", name)
        self._log_changes(outcome.changes)

    def _save_state(self, state: AccountState) -> AccountState:
        self._ledger.save_state(self.portal.name, state)
        return self._ledger.get_state(self.portal.name)

    def _log_changes(self, changes: LedgerChanges) -> None:
        name = self.portal.name
        if changes.new or changes.corrected:
            log.debug("account %s: %d new readings, %d corrected", name, changes.new, changes.corrected)
        for count, description in (
            (changes.backwards, "register(s) ran backwards"),
            (changes.future, "reading(s) skipped: timestamps in the future"),
        ):
            if count:
                log.warning("account %s: %d %s", name, count, description)
        for note in changes.notes:
            log.info("account %s: %s", name, note)

    def _plan_next_visit(self, after: AccountState, outcome: VisitOutcome, now: datetime, ended_at: datetime) -> datetime:
        error = outcome.error
        if isinstance(error, LoginError):
            return now + LOGIN_SUSPENSION
        if isinstance(error, RateLimitError) and not outcome.keeps_interval:
            return self.portal.adjust_visit_time(
                ended_at + max(self.portal.config.every if error.retry_after is None else error.retry_after, MIN_VISIT_GAP)
            )
        if isinstance(error, UnreachableError | LedgerError) and not outcome.keeps_interval:
            return self.portal.adjust_visit_time(ended_at + self._backoff(after.failures))
        if outcome.requested_next_visit and (error is None or outcome.keeps_interval):
            return max(outcome.requested_next_visit, now + MIN_VISIT_GAP)
        return self.portal.adjust_visit_time(now + self.portal.config.every * (1 + JITTER * (2 * self._random_fraction() - 1)))

    def _backoff(self, failures: int) -> timedelta:
        wait: timedelta = min(MIN_VISIT_GAP * 2.0 ** min(failures - 1, 20), self.portal.config.every)
        return wait * (1 + self._random_fraction() / 4)

    async def _wait_until_due(self) -> bool:
        """Wait for a visit, or for a step of the backlog; return whether it is a step."""
        while not self._visit_requested.is_set():
            await self._adopt_suspension()
            now = self._clock.now()
            self.health.state = shift_to_clock(self.state, now)
            due, step = earliest_visit_time(self.state), self._feeds.next_step_time(now) if self.state.up else None
            if due is None or now >= due:
                break
            if step and now >= step:
                return True
            requested = asyncio.ensure_future(self._visit_requested.wait())
            timer = asyncio.ensure_future(self._clock.sleep(min(due - now, step - now if step else MAX_SLEEP, MAX_SLEEP)))
            try:
                await asyncio.wait((requested, timer), return_when=asyncio.FIRST_COMPLETED)
            finally:
                requested.cancel()
                timer.cancel()
        return False

    async def _adopt_suspension(self) -> None:
        """Adopt a suspension that another process, such as a command, has set or lifted since we stored or read it."""
        name, login, now = self.portal.name, self.portal.config.build_login_digest(), self._clock.now()
        try:
            stored = await asyncio.to_thread(self._ledger.get_state_of_login, name, login=login)
        except LedgerError:
            return  # the visit reports it, and asks no portal
        if stored is None or stored.suspended_until == self._stored_suspension:
            return
        self._stored_suspension = stored.suspended_until
        self.health.state = cap_suspension(stored, now)
        if self.health.is_suspended(now):
            log.warning("account %s: visit failed (%s): %s", name, LoginError.reason, stored.message)
        else:
            log.info("account %s: login suspension lifted by a command", name)
