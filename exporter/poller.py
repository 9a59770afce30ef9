"""One account, visited again and again: when to come back after what."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from exporter import heap
from exporter.clock import Clock
from exporter.errors import LedgerError, LoginError, PortalError, RateLimitError, UnreachableError
from exporter.ledger import AccountState, Ledger, Recorded
from exporter.metrics import AccountPage, Page, Shown
from exporter.model import NextVisit, Shortfall, Told
from exporter.portals.base import Portal, Wanted
from exporter.session import Session

SUSPENSION = timedelta(days=1)
"""How long a refused login is not tried again, unless the configuration changes."""
SOONEST = timedelta(minutes=1)
"""First step of the backoff; also the least distance between a visit and one asked for by a person."""
BEGUN = timedelta(minutes=5)
"""When to come back if the process dies during a visit: a crash loop must not be a login loop."""
LONGEST_VISIT = timedelta(minutes=30)
JITTER = 0.05
SLICE = timedelta(seconds=30)
"""The wall clock is looked at this often: it may be set while we wait."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a visit ended: what was told, and the first thing that went wrong."""

    told: list[Told] = field(default_factory=list)
    """Emptied once it is kept: a town's is 20 MB, and the page is made anew next."""
    error: PortalError | LedgerError | None = None
    reason: str = ""
    complete: bool = True
    """False when nothing of the visit may be kept."""


class AccountPoller:
    """Visits one account when it is due, keeps what it tells, and tells the page.

    An account of which nothing is kept is visited at once; later never before it is due, restarts included.
    """

    def __init__(
        self, portal: Portal, ledger: Ledger, page: Page, clock: Clock, chance: Callable[[], float] = random.random
    ) -> None:
        self.portal = portal
        self._ledger, self._page, self._clock, self._chance = ledger, page, clock, chance
        self._asked = asyncio.Event()
        self._part: AccountPage | None = None

    @property
    def state(self) -> AccountState:
        """The account's health as of now."""
        return self._part.health.state if self._part else AccountState()

    async def open(self) -> None:
        """Take up the account where the ledger left it: the page is full before the first visit.

        Raises LedgerError.
        """
        portal = self.portal
        state = await asyncio.to_thread(
            self._ledger.open_account,
            portal.name,
            portal=portal.portal,
            zone=portal.zone.key,
            login=portal.login_digest(),
        )
        self._part = self._page.add(shown_as(portal), portal.every)
        self._part.health.state = bounded(state, self._clock.now())
        try:
            await asyncio.to_thread(self._page.refresh, portal.name)
        except LedgerError:
            raise
        except Exception:  # readings that the page cannot take must not keep the other accounts from starting
            log.exception("account %s: what is kept could not be shown", portal.name)

    def show_again(self) -> None:
        """Take its place on the page again, where a successor that could not be opened may stand."""
        if self._part:
            self._page.accounts[self.portal.name] = self._part

    async def run(self) -> None:
        """Visit for ever."""
        while True:
            await self._until_due()
            if not await self._suspended_elsewhere():
                await self.visit()
            self._asked.clear()  # who asked during the visit has been served: what it met may forbid another one

    def ask(self) -> timedelta | None:
        """Ask for a visit soon, by a person's word.

        Gives how long to wait where the last visit is less than a minute ago; raises LoginError while suspended.
        """
        now, state = self._clock.now(), self.state
        if state.suspended_until and now < state.suspended_until:
            raise LoginError(f"the portal has refused the login of {self.portal.name}; it is not asked again yet")
        if state.last_visit and timedelta(0) <= now - state.last_visit < SOONEST:
            return state.last_visit + SOONEST - now
        self._asked.set()
        return None

    async def visit(self) -> None:
        """Go there once, and keep what comes of it."""
        assert self._part is not None, "an account is opened before it is visited"
        health, before, now = self._part.health, self._part.health.state, self._clock.now()
        # With the instant it counts from, so that a start after a kill knows how long it was to be: the clock may be wrong.
        begun = replace(before, last_visit=now, next_visit=self._later(now + BEGUN))
        health.visits += 1
        started = time.monotonic()
        outcome = await self._kept_begin(begun) or await self._go()
        after = replace(
            before,
            last_visit=now,
            duration=time.monotonic() - started,
            up=outcome.error is None,
            last_success=now if outcome.error is None else before.last_success,
            failures=before.failures + 1 if outcome.error else 0,
            reason=outcome.reason,
            message=str(outcome.error or ""),
            suspended_until=now + SUSPENSION if isinstance(outcome.error, LoginError) else None,
        )
        # Waits count from the visit's end; a clock that was set back meanwhile is no end.
        after = replace(after, next_visit=self._due(after, outcome, now, max(now, self._clock.now())))
        await self._keep(outcome, after, now)

    async def _kept_begin(self, begun: AccountState) -> Outcome | None:
        """Keep that a visit has begun; where that cannot be kept the portal is not asked."""
        try:
            await asyncio.to_thread(self._ledger.begin_visit, self.portal.name, begun, login=self.portal.login_digest())
        except LedgerError as error:
            return Outcome(error=error, reason=error.reason, complete=False)
        return None

    async def _go(self) -> Outcome:
        try:
            async with asyncio.timeout(LONGEST_VISIT.total_seconds()), self._session() as session:
                wanted = Wanted(self._ledger.known(self.portal.name))
                told = [item async for item in self.portal.fetch(session, wanted)]
        except (PortalError, LedgerError) as error:
            return Outcome(error=error, reason=error.reason, complete=False)
        except TimeoutError:
            late = UnreachableError(f"the visit took longer than {LONGEST_VISIT}")
            return Outcome(error=late, reason=late.reason, complete=False)
        except Exception:  # a portal's bug must not silence the other accounts, nor end this one's visits
            log.exception("account %s: a bug in the portal %s", self.portal.name, self.portal.portal)
            return Outcome(error=PortalError("a bug in the portal; the log has more"), reason="bug", complete=False)
        short = next((item.error for item in told if isinstance(item, Shortfall)), None)
        return Outcome(told, short, short.reason if short else "")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        assert self._part is not None
        answers = self._part.health.answers
        async with session_for(self.portal, self._ledger, self._clock.now, lambda status: answers.update((status,))) as session:
            yield session

    async def _keep(self, outcome: Outcome, after: AccountState, now: datetime) -> None:
        assert self._part is not None
        health, before = self._part.health, self._part.health.state
        done = Recorded()
        try:
            done, after = await asyncio.to_thread(self._record, outcome, after, now)
            await asyncio.to_thread(self._page.refresh, self.portal.name, done)
            await asyncio.to_thread(heap.give_back)
        except LedgerError as error:
            after = replace(
                after, up=False, reason=error.reason, message=str(error), failures=before.failures + 1,
                last_success=before.last_success, next_visit=self._later(now + self._backoff(before.failures + 1)),
            )  # fmt: skip
        except Exception:  # a reading the ledger or the page cannot take is a bug of ours, and no reason to stop visiting
            log.exception("account %s: what the visit told could not be kept", self.portal.name)
            after = replace(after, up=False, reason="bug", message="what the visit told could not be kept; the log has more")
        health.state = after
        if after.reason:
            health.failures[after.reason] += 1
        self._tell(before, after, done)

    def _record(self, outcome: Outcome, after: AccountState, now: datetime) -> tuple[Recorded, AccountState]:
        if outcome.complete:
            done = self._ledger.record_visit(self.portal.name, outcome.told, after, at=now, personal=self.portal.personal_data)
            outcome.told.clear()
            return done
        self._ledger.save_health(self.portal.name, after)
        return Recorded(), self._ledger.state(self.portal.name)

    def _tell(self, before: AccountState, after: AccountState, done: Recorded) -> None:
        name = self.portal.name
        if after.reason and (after.reason, after.message) != (before.reason, before.message):
            log.warning("account %s: visit failed (%s): %s", name, after.reason, after.message)
        elif before.reason and not after.reason:
            log.info("account %s: visits succeed again", name)
        if done.new or done.corrected:
            log.debug("account %s: %d new readings, %d corrected", name, done.new, done.corrected)
        for count, what in (
            (done.backwards, "register(s) ran backwards"),
            (done.future, "reading(s) left out: they lie in the future"),
        ):
            if count:
                log.warning("account %s: %d %s", name, count, what)
        for note in done.notes:
            log.info("account %s: %s", name, note)

    def _due(self, after: AccountState, outcome: Outcome, now: datetime, ended: datetime) -> datetime:
        error = outcome.error
        if isinstance(error, LoginError):
            return now + SUSPENSION
        if isinstance(error, RateLimitError):
            return self._later(ended + max(self.portal.every if error.wait is None else error.wait, SOONEST))
        if isinstance(error, UnreachableError | LedgerError):
            return self._later(ended + self._backoff(after.failures))
        if error is None and (wish := next((item for item in outcome.told if isinstance(item, NextVisit)), None)):
            return max(wish.at, now + SOONEST)
        return self._later(now + self.portal.every * (1 + JITTER * (2 * self._chance() - 1)))

    def _backoff(self, failures: int) -> timedelta:
        wait: timedelta = min(SOONEST * 2.0 ** min(failures - 1, 20), self.portal.every)
        return wait * (1 + self._chance() / 4)

    def _later(self, at: datetime) -> datetime:
        return self.portal.visiting_time(at)

    async def _until_due(self) -> None:
        assert self._part is not None
        while not self._asked.is_set():
            now = self._clock.now()
            self._part.health.state = moved_back(self.state, now)
            due = due_of(self.state)
            if due is None or now >= due:
                break
            asked = asyncio.ensure_future(self._asked.wait())
            slept = asyncio.ensure_future(self._clock.sleep(min(due - now, SLICE)))
            try:
                await asyncio.wait((asked, slept), return_when=asyncio.FIRST_COMPLETED)
            finally:
                asked.cancel()
                slept.cancel()

    async def _suspended_elsewhere(self) -> bool:
        """Take over that an import beside us was refused the login since our last visit; tells whether it was."""
        assert self._part is not None
        now, state, login = self._clock.now(), self.state, self.portal.login_digest()
        try:
            kept = await asyncio.to_thread(self._ledger.suspension, self.portal.name, login=login)
        except LedgerError:
            return False  # a visit says so, and asks nobody
        if state.suspended_until or not kept or kept[0] <= now:
            return False
        until = min(kept[0], now + SUSPENSION)
        self._part.health.state = replace(
            state, suspended_until=until, next_visit=until, up=False, reason=LoginError.reason, message=kept[1]
        )
        self._tell(state, self.state, Recorded())
        return True


def due_of(state: AccountState) -> datetime | None:
    """Tell when the next visit may be: never while the login is suspended."""
    return max((at for at in (state.next_visit, state.suspended_until) if at), default=None)


def bounded(state: AccountState, now: datetime) -> AccountState:
    """Give the state with a suspension of no more than its length: a longer one is the word of a wrong clock."""
    if state.suspended_until is None or state.suspended_until <= now + SUSPENSION:
        return state
    return replace(state, suspended_until=now + SUSPENSION)


def moved_back(state: AccountState, now: datetime) -> AccountState:
    """Give the state as it is after the clock was set back: planned waits keep their length, counted from now."""
    if state.last_visit is None or state.last_visit - now < SOONEST:
        return state
    shift = state.last_visit - now
    return replace(
        state,
        last_visit=now,
        next_visit=state.next_visit and state.next_visit - shift,
        suspended_until=state.suspended_until and state.suspended_until - shift,
    )


def shown_as(portal: Portal) -> Shown:
    """Say how an account is shown on the page."""
    return Shown(portal.name, portal.portal, portal.zone, portal.aliases, portal.personal_data, portal.patience)


def session_for(
    portal: Portal, ledger: Ledger, now: Callable[[], datetime], counted: Callable[[str], None] = lambda _: None
) -> Session:
    """Make the session of a visit to an account."""
    ca_file, verify_tls = portal.tls()
    return Session(
        memory=ledger.memory(portal.name),
        clock=now,
        timeout=portal.timeout,
        pace=portal.pace,
        ca_file=ca_file,
        verify_tls=verify_tls,
        counted=counted,
        user_agent=portal.agent(),
        largest=portal.largest,
    )


class Pollers:
    """All accounts' pollers, each a task of its own."""

    def __init__(self, ledger: Ledger, page: Page, clock: Clock) -> None:
        self._ledger, self._page, self._clock = ledger, page, clock
        self._running: dict[str, tuple[AccountPoller, asyncio.Task[None]]] = {}
        self._following = asyncio.Lock()
        """A reload may come while the accounts of the start are still being opened."""

    def of(self, account: str) -> AccountPoller | None:
        """Give an account's poller."""
        found = self._running.get(account)
        return found[0] if found else None

    async def follow(self, portals: tuple[Portal, ...]) -> None:
        """Run these accounts: unchanged ones go on untouched, new ones start, removed ones end, changed ones start anew.

        Raises LedgerError; an account that could not start anew then goes on as it was.
        """
        async with self._following:
            wanted = {portal.name: portal for portal in portals}
            changed = [name for name, (poller, _) in self._running.items() if wanted.get(name) != poller.portal]
            ended = [await self._end(name) for name in changed]
            try:
                for portal in portals:
                    if portal.name not in self._running:
                        poller = AccountPoller(portal, self._ledger, self._page, self._clock)
                        await poller.open()
                        self._start(poller)
            except LedgerError:
                for poller in ended:
                    if poller.portal.name not in self._running:
                        poller.show_again()
                        self._start(poller)
                raise
            for name in self._page.accounts.keys() - wanted.keys():
                self._page.remove(name)

    async def stop(self) -> None:
        """End all visits under way."""
        await asyncio.gather(*(self._end(name) for name in list(self._running)))

    def _start(self, poller: AccountPoller) -> None:
        name = poller.portal.name
        self._running[name] = poller, asyncio.create_task(poller.run(), name=f"account {name}")

    async def _end(self, name: str) -> AccountPoller:
        poller, task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return poller
