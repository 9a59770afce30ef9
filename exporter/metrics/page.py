"""The metrics page, as text and gzip: lines that are kept, ages that are rendered ahead, and a tail written at each scrape."""

import logging
import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import add, is_

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter.account_status import AccountHealth, AccountView
from exporter.ledger.ledger import Ledger, Snapshot
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.aggregates import TIMESTAMP_FAMILY, build_health_samples, find_month_start
from exporter.metrics.cache import COMPACT_FAMILIES, AccountSamples, AgePrefixes, FamilyLines, build_samples, update_samples
from exporter.metrics.days import ALL_USAGE_POINTS, HistoryStarts, SampleContext, list_history_starts
from exporter.metrics.exposition import TEXT, compress_member, format_lines, format_value, render_header, render_registry
from exporter.metrics.families import AGE_FAMILY, FAMILIES, TAIL_FAMILIES, Samples

STEPPED_ABOVE = 1000
AGE_STEP = 15
"""The ages of more than `STEPPED_ABOVE` usage points are those of the last whole `AGE_STEP` seconds."""
RENDER_AHEAD_FOR = 300
"""Seconds after a request for which ages are rendered ahead."""
MAX_SMALL_BYTES = 1 << 20
"""Small lines are joined up to about this size; of so many lines of families that seldom change no text is kept."""
KeptPart = tuple[list[bytes | FamilyLines], bytes]
"""The kept part of a page as text, in which lines of which no text is kept stand for themselves, and as gzip."""
log = logging.getLogger(__name__)


class RenderedAges:
    """The ages of a page, as text and gzip, rendered for the instants at which they are requested."""

    def __init__(self, accounts: Iterable[AccountSamples], previous: "RenderedAges | None" = None) -> None:
        self._parts: list[AgePrefixes] = [block.ages for account in accounts for block in account.blocks]
        self._age_step = AGE_STEP if sum(len(part.timestamps) for part in self._parts) > STEPPED_ABOVE else 1
        self._rendered: dict[tuple[int, bool], bytes] = {}
        self._last_requests: dict[bool, int] = dict(previous._last_requests) if previous else {}
        """gzip or not -> the last request for it."""

    def render(self, now: int, *, gzip: bool) -> bytes:
        """Return the ages as of a whole second."""
        self._last_requests[gzip] = now
        key = now - now % self._age_step, gzip
        rendered = self._rendered.get(key)
        return self._render(key[0], [gzip])[key] if rendered is None else rendered

    def render_ahead(self, now: int, step_offsets: Sequence[int] = (0, 1)) -> None:
        """Render the ages of this step and the next in the compressions requested lately."""
        if self._age_step == 1:
            return
        compressions = [gzip for gzip, requested in list(self._last_requests.items()) if now - requested < RENDER_AHEAD_FOR]
        for at in (now - now % AGE_STEP + step * AGE_STEP for step in step_offsets):
            if missing := [gzip for gzip in compressions if (at, gzip) not in self._rendered]:
                self._render(at, missing)

    def _render(self, at: int, compressions: Iterable[bool]) -> dict[tuple[int, bool], bytes]:
        suffixes = _AgeSuffixes(at)
        text = b"".join(b"".join(map(add, part.prefixes, map(suffixes.__getitem__, part.timestamps))) for part in self._parts)
        rendered = {(at, gzip): compress_member(text) if gzip else text for gzip in compressions}
        self._rendered = {key: text for key, text in self._rendered.items() if key[0] >= at - AGE_STEP} | rendered
        return rendered


class _AgeSuffixes(dict[int, bytes]):
    """Timestamp -> the end of a line: many readings have the same timestamp, and its age is formatted once."""

    def __init__(self, now: int) -> None:
        self._now = now

    def __missing__(self, timestamp: int) -> bytes:
        suffix = self[timestamp] = format_value(max(self._now - timestamp, 0)).encode() + b"\n"
        return suffix


class PageBody:
    """The page without its tail, made of the samples of all accounts; a family's lines are adjacent, whatever the account."""

    def __init__(self, accounts: Sequence[AccountSamples] = (), previous: "PageBody | None" = None) -> None:
        self._accounts = accounts
        self.ages: RenderedAges = RenderedAges(accounts, previous.ages if previous else None)
        content_types = list(previous._kept) if previous else []
        self._kept: dict[str, KeptPart] = {content_type: _join_kept(content_type, accounts) for content_type in content_types}

    def is_current(self, accounts: Sequence[AccountSamples]) -> bool:
        """Return whether the body was made of these very samples."""
        return len(accounts) == len(self._accounts) and all(map(is_, accounts, self._accounts))

    def render(self, content_type: str, now: int, *, compress: bool) -> list[bytes]:
        """Return the body in parts."""
        if (kept := self._kept.get(content_type)) is None:
            kept = self._kept[content_type] = _join_kept(content_type, self._accounts)
        parts = [kept[1]] if compress else [part.text if isinstance(part, FamilyLines) else part for part in kept[0]]
        return [*parts, self.ages.render(now, gzip=compress)]


def _join_kept(content_type: str, accounts: Sequence[AccountSamples]) -> KeptPart:
    """Return the kept lines with their headers."""
    text, members, small, small_families = list[bytes | FamilyLines](), list[bytes](), bytearray(), set[str]()

    def add_small() -> None:
        if small:
            content = bytes(small)
            small.clear()
            members.append(compress_member(content))
            is_compact = len(content) >= MAX_SMALL_BYTES and small_families <= COMPACT_FAMILIES
            text.append(FamilyLines("", None, members[-1]) if is_compact else content)
            small_families.clear()

    for family in FAMILIES:
        cached = [lines for account in accounts for lines in account.lines_by_family.get(family.name, ())]
        small += render_header(family.name, content_type) if cached else b""
        for lines in cached:
            if lines.compressed is None:
                small += lines.text
                small_families.add(family.name)
                if len(small) >= MAX_SMALL_BYTES:
                    add_small()
            else:
                add_small()
                text.append(lines if lines.kept_text is None else lines.kept_text)
                members.append(lines.compressed)
    if any(TIMESTAMP_FAMILY in account.lines_by_family for account in accounts):
        small += render_header(AGE_FAMILY, content_type)
    add_small()
    return text, b"".join(members)


@dataclass(slots=True)
class AccountMetrics:
    """The metrics of one account."""

    view: AccountView
    health: AccountHealth
    kept_samples: AccountSamples = field(default_factory=AccountSamples)
    history_starts: HistoryStarts = field(default_factory=dict)
    """Where the histories of usage points begin, as of `kept_samples`."""
    ledger_counts: tuple[int, int] | None = None
    """Numbers of readings (thinned ones included) and corrections as of `kept_samples`; None if these must be rebuilt."""


class MetricsPage:
    """The metrics of all accounts and of the process.

    `refresh` reads the ledger and keeps lines (off the event loop); `render_parts` adds the ages and the tail to them.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], datetime],
        version: str,
        collect_extra: Callable[[], Samples] = dict,
    ) -> None:
        """`collect_extra` returns further samples at each scrape."""
        self._ledger, self._clock, self._version, self._collect_extra = ledger, clock, version, collect_extra
        self.accounts: dict[str, AccountMetrics] = {}
        self.last_reload_successful = True
        self.last_reload: datetime | None = None
        self._process_registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process_registry)
        self._body = PageBody()
        self._replace_lock = threading.Lock()

    def add_account(self, view: AccountView, health: AccountHealth) -> AccountMetrics:
        """Add (or replace) an account; if its view is unchanged, its lines stay until it is refreshed.

        `health` is owned by the account's poller.
        """
        previous = self.accounts.get(view.account)
        samples = previous.kept_samples if previous and previous.view == view else AccountSamples()
        self.accounts[view.account] = AccountMetrics(view, health, samples)
        return self.accounts[view.account]

    def is_current(self, account: str, counts: tuple[int, int]) -> bool:
        """Return whether an account, if it is shown, is as the ledger has it, by its counts of readings and corrections."""
        shown = self.accounts.get(account)
        return shown is None or shown.ledger_counts in {None, counts}

    def remove_account(self, account: str) -> None:
        """Remove an account."""
        self.accounts.pop(account, None)

    def refresh(self, account: str, changes: LedgerChanges | None = None) -> None:
        """Read an account's samples from the ledger again, or only the `changes` of a visit.

        Raise LedgerError; the account then stays as it was.
        """
        with self._ledger.snapshot() as snapshot:
            self.refresh_from_snapshot(snapshot, account, changes)

    def refresh_from_snapshot(self, snapshot: Snapshot, account: str, changes: LedgerChanges | None = None) -> None:
        """Do the same from an open snapshot."""
        metrics, state = self.accounts[account], snapshot.get_state(account)
        previous, metrics.ledger_counts = metrics.ledger_counts, None
        history_starts = list_history_starts(metrics.health.history.begins)
        context = SampleContext(metrics.view, self._find_month_start(metrics), history_starts)
        moved = _find_moved_starts(metrics.history_starts, history_starts)
        if ALL_USAGE_POINTS in moved:
            moved = moved - {ALL_USAGE_POINTS} | snapshot.select_usage_points_with_days(account)
        # Other counts than expected: another process has imported readings, and all samples must be rebuilt.
        if changes and previous == (state.readings + state.thinned - changes.new, state.corrections - changes.corrected):
            samples = metrics.kept_samples
            if usage_points := changes.usage_points | moved:
                samples = update_samples(
                    samples,
                    snapshot,
                    context,
                    replace(changes, usage_points=usage_points, live_usage_points=changes.live_usage_points - moved),
                )
        else:
            samples = build_samples(snapshot, context)
        self._replace_samples(metrics, samples)
        metrics.history_starts = history_starts
        metrics.ledger_counts = state.readings + state.thinned, state.corrections

    def render_parts(self, content_type: str = TEXT, *, compress: bool = False) -> list[bytes]:
        """Return the page as text or OpenMetrics, in parts to be sent one after the other."""
        now = self._clock()
        body = self._get_body().render(content_type, int(now.timestamp()), compress=compress)
        tail = self._render_tail(content_type, now)
        return [*body, compress_member(tail) if compress else tail]

    def render_ages_ahead(self) -> None:
        """Render the ages of the next scrapes; takes a tenth of a second at 100,000 usage points, so not on the event loop."""
        self._body.ages.render_ahead(self._now_seconds())

    def render(self, content_type: str = TEXT) -> bytes:
        """Return the page as text or OpenMetrics."""
        return b"".join(self.render_parts(content_type))

    def render_gzip(self, content_type: str = TEXT) -> bytes:
        """Return the page compressed."""
        return b"".join(self.render_parts(content_type, compress=True))

    def _find_month_start(self, metrics: AccountMetrics) -> datetime:
        return find_month_start(self._clock(), metrics.view.zone)

    def _turn_months(self) -> None:
        """Let the page say when the running month began, though no visit has happened since."""
        for metrics in list(self.accounts.values()):
            samples, month_start = metrics.kept_samples, self._find_month_start(metrics)
            if samples.blocks and samples.month_start != month_start:
                self._replace_samples(metrics, samples.with_month_start(month_start), previous=samples)

    def _get_body(self) -> PageBody:
        self._turn_months()
        accounts = [account.kept_samples for account in list(self.accounts.values())]
        if not self._body.is_current(accounts):
            self._body = PageBody(accounts, self._body)
        return self._body

    def _replace_samples(
        self, account: AccountMetrics, samples: AccountSamples, *, previous: AccountSamples | None = None
    ) -> None:
        """Publish new samples, unless others than `previous` have been published meanwhile.

        The body is made here, so that no scrape waits for it.
        """
        with self._replace_lock:
            if previous is not None and account.kept_samples is not previous:
                return
            accounts = [samples if other is account else other.kept_samples for other in list(self.accounts.values())]
            body = PageBody(accounts, self._body)
            body.ages.render_ahead(self._now_seconds(), [0])
            self._body, account.kept_samples = body, samples

    def _now_seconds(self) -> int:
        return int(self._clock().timestamp())

    def _render_tail(self, content_type: str, now: datetime) -> bytes:
        """Return what changes with every request or visit: health, and the metrics of the process."""
        lines = defaultdict[str, list[str]](list)
        for samples in self._collect_tail(now):
            for family, values in samples.items():
                lines[family] += format_lines(family, values)
        families = (
            render_header(family, content_type) + "\n".join([*lines[family], ""]).encode()
            for family in TAIL_FAMILIES
            if lines.get(family)
        )
        return b"".join(families) + render_registry(self._process_registry, content_type)

    def _collect_tail(self, now: datetime) -> Iterator[Samples]:
        yield self._exporter_samples()
        yield self._collect_extra()
        for account in list(self.accounts.values()):
            try:
                yield build_health_samples(account.view, account.health, now)
            except Exception:  # one account's bug must not empty the page of the others
                log.exception("failed to render the health of account %s", account.view.account)

    def _exporter_samples(self) -> Samples:
        samples: Samples = {
            "utility_exporter_build_info": {(self._version, platform.python_version()): 1},
            "utility_exporter_config_last_reload_successful": {(): self.last_reload_successful},
        }
        if self.last_reload:
            samples["utility_exporter_config_last_reload_success_timestamp_seconds"] = {(): self.last_reload.timestamp()}
        return samples


def _find_moved_starts(previous: HistoryStarts, current: HistoryStarts) -> frozenset[str]:
    """Return the usage points whose history begins elsewhere than before."""
    return frozenset(usage_point for (usage_point, _), _ in previous.items() ^ current.items())
