"""When an account is visited, and what follows from how a visit ended."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from exporter import runtime
from exporter.account_status import (
    LOGIN_SUSPENSION,
    MIN_VISIT_GAP,
    AccountView,
    cap_suspension,
    next_visit_time,
    shift_to_clock,
)
from exporter.client.session import Session
from exporter.clock import Clock
from exporter.errors import LedgerError, LoginError, PortalError, RateLimitError, UnreachableError
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.page import AccountMetrics, MetricsPage
from exporter.models import VisitResult
from exporter.portals.base import Portal

CRASH_RETRY_DELAY = timedelta(minutes=5)
"""Time to the next visit if the process dies during one: a crash loop must not be a login loop."""
MAX_VISIT_DURATION = timedelta(minutes=30)
JITTER = 0.05
MAX_SLEEP = timedelta(seconds=30)
"""The wall clock is read this often while waiting: it may be set meanwhile."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VisitOutcome:
    """How a visit ended: its parts, and the first error."""

    result: VisitResult = field(default_factory=VisitResult)
    error: PortalError | LedgerError | None = None
    reason: str = ""
    is_complete: bool = True
    """False when nothing of the visit may be stored."""


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
    ) -> None:
        self.portal = portal
        self._ledger, self._page, self._clock, self._random_fraction = ledger, page, clock, random_fraction
        self._visit_requested = asyncio.Event()
        self._account_metrics: AccountMetrics | None = None

    @property
    def state(self) -> AccountState:
        """The account's present health."""
        return self._account_metrics.health.state if self._account_metrics else AccountState()

    async def open(self) -> None:
        """Restore the account from the ledger: its metrics are on the page before the first visit.

        Raise LedgerError.
        """
        portal = self.portal
        state = await asyncio.to_thread(
            self._ledger.open_account,
            portal.name,
            portal=portal.portal,
            zone=portal.zone.key,
            login=portal.login_digest(),
        )
        self._account_metrics = self._page.add_account(build_account_view(portal), portal.every)
        self._account_metrics.health.state = cap_suspension(state, self._clock.now())
        try:
            await asyncio.to_thread(self._page.refresh, portal.name)
        except LedgerError:
            raise
        except Exception:  # readings that the page cannot show must not keep the other accounts from starting
            log.exception("account %s: failed to render stored readings", portal.name)

    def restore_metrics(self) -> None:
        """Put the account's metrics back on the page, in place of those of a successor that failed to open."""
        if self._account_metrics:
            self._page.accounts[self.portal.name] = self._account_metrics

    async def run(self) -> None:
        """Visit the account whenever it is due, for ever."""
        while True:
            await self._wait_until_due()
            if not await self._adopt_suspension():
                await self.visit()
            self._visit_requested.clear()  # a request during the visit is served by it: its result may forbid another one

    def request_visit(self) -> timedelta | None:
        """Request a visit now, on behalf of a person.

        Return how long to wait if the last visit is less than a minute ago; raise LoginError while suspended.
        """
        now, state = self._clock.now(), self.state
        if state.suspended_until and now < state.suspended_until:
            raise LoginError(f"the portal has refused the login of {self.portal.name}; it is not asked again yet")
        if state.last_visit and timedelta(0) <= now - state.last_visit < MIN_VISIT_GAP:
            return state.last_visit + MIN_VISIT_GAP - now
        self._visit_requested.set()
        return None

    async def visit(self) -> None:
        """Visit once, and store the result."""
        assert self._account_metrics is not None, "an account is opened before it is visited"
        health, before, now = self._account_metrics.health, self._account_metrics.health.state, self._clock.now()
        # With the instant it counts from, so that a start after a kill knows how long it was to be: the clock may be wrong.
        begun = replace(before, last_visit=now, next_visit=self._defer_to_visiting_time(now + CRASH_RETRY_DELAY))
        health.visits += 1
        started = time.monotonic()
        outcome = await self._record_start(begun) or await self._fetch()
        after = replace(
            before,
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
        after = replace(after, next_visit=self._next_visit(after, outcome, now, max(now, self._clock.now())))
        await self._store_outcome(outcome, after, now)

    async def _record_start(self, state: AccountState) -> VisitOutcome | None:
        """Record that a visit has started; if that fails, return the outcome, and the portal is not asked."""
        try:
            await asyncio.to_thread(self._ledger.record_visit_start, self.portal.name, state, login=self.portal.login_digest())
        except LedgerError as error:
            return VisitOutcome(error=error, reason=error.reason, is_complete=False)
        return None

    async def _fetch(self) -> VisitOutcome:
        try:
            async with asyncio.timeout(MAX_VISIT_DURATION.total_seconds()), self._open_session() as session:
                result = await self.portal.latest(session, self._ledger.get_stored_readings(self.portal.name))
        except (PortalError, LedgerError) as error:
            return VisitOutcome(error=error, reason=error.reason, is_complete=False)
        except TimeoutError:
            timeout = UnreachableError(f"visit took longer than {MAX_VISIT_DURATION}")
            return VisitOutcome(error=timeout, reason=timeout.reason, is_complete=False)
        except Exception:  # a portal's bug must not silence the other accounts, nor end this one's visits
            log.exception("account %s: a bug in the portal %s", self.portal.name, self.portal.portal)
            return VisitOutcome(error=PortalError("a bug in the portal; see the log"), reason="bug", is_complete=False)
        failure = next(iter(result.failures), None)
        return VisitOutcome(result, failure, failure.reason if failure else "")

    @asynccontextmanager
    async def _open_session(self) -> AsyncIterator[Session]:
        assert self._account_metrics is not None
        responses = self._account_metrics.health.responses
        async with open_session(
            self.portal, self._ledger, self._clock.now, lambda status: responses.update((status,))
        ) as session:
            yield session

    async def _store_outcome(self, outcome: VisitOutcome, after: AccountState, now: datetime) -> None:
        assert self._account_metrics is not None
        health, before = self._account_metrics.health, self._account_metrics.health.state
        changes = LedgerChanges()
        try:
            changes, after = await asyncio.to_thread(self._write_outcome, outcome, after, now)
            await asyncio.to_thread(self._page.refresh, self.portal.name, changes)
            await asyncio.to_thread(runtime.trim_memory)
        except LedgerError as error:
            after = replace(
                after, up=False, reason=error.reason, message=str(error), failures=before.failures + 1,
                last_success=before.last_success,
                next_visit=self._defer_to_visiting_time(now + self._backoff(before.failures + 1)),
            )  # fmt: skip
        except Exception:  # a reading that ledger or page cannot hold is a bug of ours, and no reason to stop visiting
            log.exception("account %s: failed to store visit results", self.portal.name)
            after = replace(after, up=False, reason="bug", message="failed to store visit results; see the log")
        health.state = after
        if after.reason:
            health.failures[after.reason] += 1
        self._log_result(before, after, changes)

    def _write_outcome(self, outcome: VisitOutcome, after: AccountState, now: datetime) -> tuple[LedgerChanges, AccountState]:
        if outcome.is_complete:
            return self._ledger.record_visit(
                self.portal.name, list(outcome.result.parts()), after, at=now, keep_personal=self.portal.personal_data
            )
        self._ledger.save_health(self.portal.name, after)
        return LedgerChanges(), self._ledger.get_state(self.portal.name)

    def _log_result(self, before: AccountState, after: AccountState, changes: LedgerChanges) -> None:
        name = self.portal.name
        if after.reason and (after.reason, after.message) != (before.reason, before.message):
            log.warning("account %s: visit failed (%s): %s", name, after.reason, after.message)
        elif before.reason and not after.reason:
            log.info("account %s: visits succeed again", name)
        if changes.new or changes.corrected:
            log.debug("account %s: %d new readings, %d corrected", name, changes.new, changes.corrected)
        for count, description in (
            (changes.backwards, "register(s) ran backwards"),
            (changes.future, "reading(s) left out: they lie in the future"),
        ):
            if count:
                log.warning("account %s: %d %s", name, count, description)
        for note in changes.notes:
            log.info("account %s: %s", name, note)

    def _next_visit(self, after: AccountState, outcome: VisitOutcome, now: datetime, ended_at: datetime) -> datetime:
        error = outcome.error
        if isinstance(error, LoginError):
            return now + LOGIN_SUSPENSION
        if isinstance(error, RateLimitError):
            return self._defer_to_visiting_time(
                ended_at + max(self.portal.every if error.retry_after is None else error.retry_after, MIN_VISIT_GAP)
            )
        if isinstance(error, UnreachableError | LedgerError):
            return self._defer_to_visiting_time(ended_at + self._backoff(after.failures))
        if error is None and outcome.result.next_visit:
            return max(outcome.result.next_visit, now + MIN_VISIT_GAP)
        return self._defer_to_visiting_time(now + self.portal.every * (1 + JITTER * (2 * self._random_fraction() - 1)))

    def _backoff(self, failures: int) -> timedelta:
        wait: timedelta = min(MIN_VISIT_GAP * 2.0 ** min(failures - 1, 20), self.portal.every)
        return wait * (1 + self._random_fraction() / 4)

    def _defer_to_visiting_time(self, at: datetime) -> datetime:
        return self.portal.adjust_visit_time(at)

    async def _wait_until_due(self) -> None:
        assert self._account_metrics is not None
        while not self._visit_requested.is_set():
            now = self._clock.now()
            self._account_metrics.health.state = shift_to_clock(self.state, now)
            due = next_visit_time(self.state)
            if due is None or now >= due:
                break
            requested = asyncio.ensure_future(self._visit_requested.wait())
            timer = asyncio.ensure_future(self._clock.sleep(min(due - now, MAX_SLEEP)))
            try:
                await asyncio.wait((requested, timer), return_when=asyncio.FIRST_COMPLETED)
            finally:
                requested.cancel()
                timer.cancel()

    async def _adopt_suspension(self) -> bool:
        """Adopt a suspension by an import in another process since our last visit; return whether there is one."""
        assert self._account_metrics is not None
        now, state, login = self._clock.now(), self.state, self.portal.login_digest()
        try:
            suspension = await asyncio.to_thread(self._ledger.get_suspension, self.portal.name, login=login)
        except LedgerError:
            return False  # the visit reports it, and asks no portal
        if state.suspended_until or not suspension or suspension[0] <= now:
            return False
        until = min(suspension[0], now + LOGIN_SUSPENSION)
        self._account_metrics.health.state = replace(
            state, suspended_until=until, next_visit=until, up=False, reason=LoginError.reason, message=suspension[1]
        )
        self._log_result(state, self.state, LedgerChanges())
        return True


def build_account_view(portal: Portal) -> AccountView:
    """Return how an account is shown on the page."""
    return AccountView(portal.name, portal.portal, portal.zone, portal.aliases, portal.personal_data, portal.stale_after)


def open_session(
    portal: Portal, ledger: Ledger, now: Callable[[], datetime], on_response: Callable[[str], None] = lambda _: None
) -> Session:
    """Return the session of a visit to an account."""
    ca_file, verify_tls = portal.tls_settings()
    return Session(
        store=ledger.get_account_store(portal.name),
        clock=now,
        timeout=portal.timeout,
        min_request_gap=portal.min_request_gap,
        ca_file=ca_file,
        verify_tls=verify_tls,
        on_response=on_response,
        user_agent=portal.build_user_agent(),
        max_response_bytes=portal.max_response_bytes,
    )


class PollerGroup:
    """The pollers of all accounts, each in its own task."""

    def __init__(self, ledger: Ledger, page: MetricsPage, clock: Clock) -> None:
        self._ledger, self._page, self._clock = ledger, page, clock
        self._running: dict[str, tuple[AccountPoller, asyncio.Task[None]]] = {}
        self._reconcile_lock = asyncio.Lock()
        """A reload may come while the accounts of the start are still being opened."""

    def get(self, account: str) -> AccountPoller | None:
        """Return an account's poller, or None."""
        entry = self._running.get(account)
        return entry[0] if entry else None

    async def reconcile(self, portals: tuple[Portal, ...]) -> None:
        """Run these accounts: unchanged ones continue, new ones start, removed ones stop, changed ones restart.

        Raise LedgerError; an account that could not restart then continues as it was.
        """
        async with self._reconcile_lock:
            portals_by_name = {portal.name: portal for portal in portals}
            changed = [name for name, (poller, _) in self._running.items() if portals_by_name.get(name) != poller.portal]
            stopped = [await self._stop_poller(name) for name in changed]
            try:
                for portal in portals:
                    if portal.name not in self._running:
                        poller = AccountPoller(portal, self._ledger, self._page, self._clock)
                        await poller.open()
                        self._start_poller(poller)
            except LedgerError:
                for poller in stopped:
                    if poller.portal.name not in self._running:
                        poller.restore_metrics()
                        self._start_poller(poller)
                raise
            for name in self._page.accounts.keys() - portals_by_name.keys():
                self._page.remove_account(name)

    async def stop(self) -> None:
        """Stop all pollers and the visits under way."""
        await asyncio.gather(*(self._stop_poller(name) for name in list(self._running)))

    def _start_poller(self, poller: AccountPoller) -> None:
        name = poller.portal.name
        self._running[name] = poller, asyncio.create_task(poller.run(), name=f"account {name}")

    async def _stop_poller(self, name: str) -> AccountPoller:
        poller, task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return poller
