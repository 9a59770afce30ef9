"""What a visit to an account is made with: its state, its session, the reader of its feeds, and the watch over its responses."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from exporter.account_status import AccountView, HistoryStatus
from exporter.client.session import AccountStore, Session
from exporter.errors import LedgerError, PortalError, RateLimitError
from exporter.ledger.account_state import AccountState
from exporter.ledger.feed_store import LedgerFeedStore
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges
from exporter.models import Reading
from exporter.portals.base import Portal
from exporter.recording.recorder import Recorder, RecordingStore
from exporter.recording.recording import FailureRecordings
from exporter.recording.shape import ShapeHistory, Shapes, watch_shapes
from exporter.sync.engine import Engine, StepResult
from exporter.sync.feeds import Feed, FeedResult, Pace, Period
from exporter.sync.planner import RequestKind

NEXT_STEP_KEY = "next step"
"""Where an account's store has the end of a rate limit: a restart does not shorten it."""
SHAPES_KEY = "shapes"
MAX_VISIT_DURATION = timedelta(minutes=30)
STEP_RETRY_DELAY = timedelta(minutes=5)
"""Time to the next step of the backlog after one that failed."""
log = logging.getLogger(__name__)


def open_account(ledger: Ledger, portal: Portal) -> AccountState:
    """Open an account in the ledger; raise LedgerError."""
    return ledger.open_account(
        portal.name,
        portal=portal.config.portal,
        zone=portal.zone.key,
        login=portal.config.build_login_digest(),
        derives_days=portal.derives_days,
    )


def build_account_view(portal: Portal) -> AccountView:
    """Return how an account is shown on the page."""
    shown = portal.config.aliases, portal.config.personal_data, portal.stale_after, portal.config.configured_usage_points()
    return AccountView(portal.name, portal.config.portal, portal.zone, *shown)


def open_session(
    portal: Portal,
    ledger: Ledger,
    now: Callable[[], datetime],
    on_response: Callable[[str], None] = lambda _: None,
    recorder: Recorder | None = None,
) -> Session:
    """Return the session of a visit to an account."""
    store: AccountStore = ledger.get_account_store(portal.name)
    return build_session(portal, RecordingStore(store, recorder) if recorder else store, now, on_response, recorder)


def build_session(
    portal: Portal,
    store: AccountStore,
    now: Callable[[], datetime],
    on_response: Callable[[str], None] = lambda _: None,
    recorder: Recorder | None = None,
) -> Session:
    """Return a session with an account's options and any store."""
    ca_file, verify_tls = portal.config.get_tls_settings()
    return Session(
        store=store,
        clock=now,
        timeout=portal.config.timeout,
        min_request_gap=portal.config.min_request_gap,
        ca_file=ca_file,
        verify_tls=verify_tls,
        on_response=on_response,
        on_exchange=recorder.observe if recorder else None,
        user_agent=portal.config.build_user_agent(),
        max_response_bytes=portal.max_response_bytes,
    )


@dataclass(frozen=True, slots=True)
class VisitOutcome:
    """How a visit ended."""

    changes: LedgerChanges = field(default_factory=LedgerChanges)
    error: PortalError | LedgerError | None = None
    """The first error."""
    reason: str = ""
    keeps_interval: bool = False
    """Whether the next visit is at the usual time: feeds that fail have a backoff of their own."""
    requested_next_visit: datetime | None = None
    """When the portal asks for the next one."""

    @classmethod
    def from_error(cls, error: PortalError | LedgerError) -> "VisitOutcome":
        """Return the outcome of a visit that failed."""
        return cls(error=error, reason=error.reason)

    @classmethod
    def from_bug(cls, message: str) -> "VisitOutcome":
        """Return the outcome of a visit that met a bug, which is logged."""
        return cls(error=PortalError(message), reason="bug")


@dataclass(frozen=True, slots=True)
class BacklogSettings:
    """Whether `serve` reads the history, and the oldest day that is requested."""

    enabled: bool = True
    oldest: date | None = None
    pace: Pace | None = None
    """None: the portal's."""


DEFAULT_BACKLOG = BacklogSettings()


@dataclass(frozen=True, slots=True)
class FeedsOutcome:
    """What came of the feeds in a visit or a step."""

    changes: LedgerChanges = field(default_factory=LedgerChanges)
    skipped: int = 0
    stopped: PortalError | None = None
    """What ended it early."""
    is_pause: bool = False
    """Whether that is the portal's limit for older days: what is due was asked."""
    failure: PortalError | None = None
    """The last failure of a feed that was not answered since, now or before."""
    history: HistoryStatus = field(default_factory=HistoryStatus)
    """How far the history is read after it."""


class FeedReader:
    """Reads the feeds of an account; one visit or step at a time."""

    def __init__(self, portal: Portal, ledger: Ledger, clock: Callable[[], datetime], backlog: BacklogSettings) -> None:
        self._history = HistoryStatus()
        self._portal, self._ledger, self._clock = portal, ledger, clock
        self._store = ledger.get_feed_store(portal.name, keep_personal=portal.config.personal_data)
        self._engine = Engine[Session](
            portal,
            self._store,
            every=portal.config.every,
            pace=backlog.pace or portal.pace,
            reads_backlog=backlog.enabled,
            oldest=backlog.oldest,
        )
        self._failures: dict[str, PortalError] = {}
        self._planned_step: tuple[datetime, datetime] | None = None
        """When the next step was planned, and for when."""

    @property
    def has_feeds(self) -> bool:
        """Return whether the portal has feeds."""
        return bool(self._portal.list_feeds())

    async def resume(self) -> HistoryStatus:
        """Resume after a restart: soon, or when the limit that has paused the backlog ends; return how far the history is read.

        Raise LedgerError.
        """
        now = self._clock()
        paused = await self._ledger.get_account_store(self._portal.name).get(NEXT_STEP_KEY, now)
        await self._engine.refresh(now)
        self._history = self._describe_history(now, requests=0, pending=self._engine.count_pending(now))
        self._plan_step(datetime.fromtimestamp(paused, UTC) if paused else now + self._engine.pace.pause)
        return self._history

    async def visit(self, session: Session) -> FeedsOutcome:
        """Read what is due, then some of the backlog. Raise LedgerError."""
        result = await self._engine.visit(session, self._clock())
        await asyncio.to_thread(self._ledger.drop_notes_of_other_feeds, self._portal.name, self._engine.feeds.keys())
        return await self._finish(result)

    async def step(self, open_session: Callable[[], Session]) -> FeedsOutcome:
        """Read some of the backlog, and plan the next step, also after a failure.

        Raise LedgerError, TimeoutError, and PortalError if the session cannot be opened.
        """
        self._plan_step(self._clock() + self._portal.config.every)  # after a bug
        try:
            async with asyncio.timeout(MAX_VISIT_DURATION.total_seconds()), open_session() as session:
                return await self._finish(await self._engine.step(session, self._clock()))
        except (PortalError, LedgerError, TimeoutError):
            self._plan_step(self._clock() + STEP_RETRY_DELAY)
            raise

    def _plan_step(self, at: datetime | None) -> None:
        self._planned_step = (self._clock(), at) if at else None

    def next_step_time(self, now: datetime) -> datetime | None:
        """Return when the backlog goes on; None: not before the next visit."""
        if self._planned_step is None:
            return None
        planned_at, due = self._planned_step
        return due if now >= planned_at else now + (due - planned_at)  # the clock was set back

    async def _finish(self, result: StepResult) -> FeedsOutcome:
        now = self._clock()
        failures = {**self._failures, **result.failures}
        self._failures = {key: error for key, error in failures.items() if self._engine.get_coverage(key).failures}
        self._history = self._describe_history(now, requests=result.requests, pending=result.pending)
        self._plan_step(result.next_step)
        is_limit = isinstance(result.stopped, RateLimitError)
        if is_limit and result.next_step:
            store = self._ledger.get_account_store(self._portal.name)
            await store.put(NEXT_STEP_KEY, result.next_step.timestamp(), result.next_step)
        return FeedsOutcome(
            self._store.collect_changes(),
            result.skipped,
            result.stopped,
            is_limit and result.stopped_in is not RequestKind.DUE,
            next(iter(self._failures.values()), None),
            self._history,
        )

    def _describe_history(self, now: datetime, *, requests: int, pending: int) -> HistoryStatus:
        done = self._history.done + requests if pending or self._history.pending else 0
        starts = {feed: day for key, feed in self._engine.feeds.items() if (day := self._engine.find_history_start(key, now))}
        remaining = self._engine.estimate_remaining(now) if pending else timedelta(0)
        return HistoryStatus(done, pending, remaining, starts)


async def read_feeds_dry(portal: Portal, ledger: Ledger, session: Session) -> tuple[list[Reading], list[PortalError]]:
    """Return what a visit would read of the feeds, and how they failed; nothing is stored."""
    if not portal.list_feeds():
        return [], []
    store = _DryFeedStore(ledger.get_feed_store(portal.name))
    engine = Engine[Session](portal, store, every=portal.config.every, pace=portal.pace)
    result = await engine.visit(session, session.now)
    return store.readings, [*([result.stopped] if result.stopped else []), *result.failures.values()]


class _DryFeedStore:
    """What is stored, and in memory what a visit would add to it."""

    def __init__(self, store: LedgerFeedStore) -> None:
        self._store = store
        self.readings: list[Reading] = []

    async def load_coverage(self) -> Mapping[str, str]:
        return await self._store.load_coverage()

    async def read_periods(self, feeds: Sequence[Feed], start: datetime, end: datetime) -> Mapping[str, Sequence[Period]]:
        return await self._store.read_periods(feeds, start, end)

    async def save(
        self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = ""
    ) -> LedgerChanges:
        self.readings += result.readings if result else ()
        return LedgerChanges()


@dataclass(frozen=True, slots=True)
class ShapeChanges:
    """What changed of a portal's responses."""

    count: int
    """Changes since the visit before."""
    notes: tuple[str, ...]
    """The recent ones."""


@dataclass(frozen=True, slots=True)
class WatchedVisit:
    """What is watched of one visit, or of one step of the backlog."""

    shapes: Shapes = field(default_factory=Shapes)
    recorder: Recorder | None = None


class VisitWatch:
    """Watches the visits of one account."""

    def __init__(self, portal: Portal, ledger: Ledger, recordings: FailureRecordings | None) -> None:
        self._portal, self._ledger, self._recordings = portal, ledger, recordings

    @contextmanager
    def watch(self, now: datetime) -> Iterator[WatchedVisit]:
        """Watch a visit, and record it for the case that it fails."""
        recorder = self._recordings.begin(now) if self._recordings else None
        with watch_shapes() as shapes:
            yield WatchedVisit(shapes, recorder)

    @contextmanager
    def watch_step(self) -> Iterator[WatchedVisit]:
        """Watch the shapes of what a step of the backlog brings."""
        with watch_shapes() as shapes:
            yield WatchedVisit(shapes)

    async def finish(self, watched: WatchedVisit, error: Exception | None, now: datetime) -> ShapeChanges | None:
        """Write the recording of a failed visit, and compare the shapes."""
        recorder = watched.recorder
        if recorder and self._recordings and isinstance(error, PortalError):
            config, rules = self._portal.config, self._portal.get_redaction_rules()
            await asyncio.to_thread(self._recordings.write, config, config.name, rules, recorder, error)
        return await self.compare_shapes(watched.shapes, now)

    async def compare_shapes(self, shapes: Shapes, now: datetime) -> ShapeChanges | None:
        """Compare the shapes with those of the visits before; return what changed, None where the ledger cannot tell."""
        name, day = self._portal.name, now.astimezone(self._portal.zone).date()
        store = self._ledger.get_account_store(name)
        try:
            stored = await store.get(SHAPES_KEY, now)
            history = ShapeHistory.parse(stored)
            changes = history.add(shapes, day)
            if shapes.fields and history.dump() != stored:
                await store.put(SHAPES_KEY, history.dump())
        except LedgerError as error:
            log.debug("account %s: failed to compare response shapes: %s", name, error)
            return None
        for change in changes:
            log.warning("account %s: %s", name, change)
        if unknown := sorted(shapes.unknown):
            log.debug("account %s: fields of responses that are not used: %s", name, ", ".join(unknown))
        return ShapeChanges(len(changes), tuple(history.recent(day)))
