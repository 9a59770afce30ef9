"""The metrics page, assembled from cached parts and from families that are rendered at each scrape, as text and gzip."""

import logging
import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from operator import is_

from exporter.account_status import AccountHealth, AccountView
from exporter.ledger.ledger import Ledger, Snapshot
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.aggregates import build_health_samples, find_month_start
from exporter.metrics.cache import (
    AGE_FAMILY,
    TIMESTAMP_FAMILY,
    AccountSamples,
    RenderedAges,
    build_samples,
    update_samples,
)
from exporter.metrics.days import ALL_USAGE_POINTS, HistoryStarts, SampleContext, list_history_starts
from exporter.metrics.exposition import TEXT, compress_member, format_lines, render_header
from exporter.metrics.families import (
    DYNAMIC_FAMILIES,
    FAMILIES,
    LabelValues,
    Samples,
)
from exporter.metrics.family_lines import FamilyLines
from exporter.metrics.process import ProcessMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StaticPart:
    """A cached part, as text and as a gzip member."""

    lines: bytes | FamilyLines
    """Lines of which no text is kept stand for themselves."""
    compressed: bytes


@dataclass(frozen=True, slots=True)
class DynamicFamilies:
    """The position of families that are rendered at each scrape."""

    families: tuple[str, ...]


class AgesSlot:
    """The position of the ages."""


PageParts = list[bytes | FamilyLines | DynamicFamilies | AgesSlot]


class PageBody:
    """The cached parts of a page in the order of the families; the lines of a family are adjacent, whatever the account."""

    def __init__(self, content_type: str, accounts: Sequence[AccountSamples]) -> None:
        self._accounts = accounts
        *parts, last = _build_parts(content_type, accounts)
        assert isinstance(last, DynamicFamilies)
        self.tail_families = last.families
        """The families at the end of the page, rendered at each scrape."""
        self.text: PageParts = [part.lines if isinstance(part, StaticPart) else part for part in parts]
        self.compressed: PageParts = list(_join_static(parts))
        """The same compressed; adjacent parts are joined, which costs a scrape less than many small ones."""
        self.ages = RenderedAges(
            render_header(AGE_FAMILY, content_type), (block.ages for account in accounts for block in account.blocks)
        )

    def is_current(self, accounts: Sequence[AccountSamples]) -> bool:
        """Return whether the page was assembled from these very samples."""
        return len(accounts) == len(self._accounts) and all(map(is_, accounts, self._accounts))

    def inherit_requests(self, previous: "PageBody", now: int) -> None:
        """Render ages ahead for the clients of the previous body."""
        self.ages.last_requests |= previous.ages.last_requests
        self.ages.render_ahead(now, [0])


def _join_static(parts: Iterable[StaticPart | DynamicFamilies | AgesSlot]) -> Iterator[bytes | DynamicFamilies | AgesSlot]:
    for type_, run in groupby(parts, type):
        if type_ is StaticPart:
            yield b"".join(part.compressed for part in run if isinstance(part, StaticPart))
        else:
            yield from (part for part in run if not isinstance(part, StaticPart))


def _build_parts(content_type: str, accounts: Sequence[AccountSamples]) -> Iterator[StaticPart | DynamicFamilies | AgesSlot]:
    """Yield the parts in their order; the last is `DynamicFamilies`."""
    buffer, dynamic = bytearray(), list[str]()
    for family in FAMILIES:
        cached = [lines for account in accounts for lines in account.lines_by_family.get(family.name, ())]
        if family.name in DYNAMIC_FAMILIES and family.name != AGE_FAMILY:
            yield from _flush_static(buffer)
            dynamic.append(family.name)
            continue
        if dynamic and (cached or family.name == AGE_FAMILY):
            yield DynamicFamilies(tuple(dynamic))
            dynamic.clear()
        if family.name == AGE_FAMILY:
            yield from _flush_static(buffer)
            yield AgesSlot()
        buffer += render_header(family.name, content_type) if cached else b""
        for lines in cached:
            if lines.compressed is None:
                buffer += lines.text
            else:
                yield from _flush_static(buffer)
                yield StaticPart(lines if lines.kept_text is None else lines.kept_text, lines.compressed)
    yield from _flush_static(buffer)
    yield DynamicFamilies(tuple(dynamic))


def _flush_static(buffer: bytearray) -> Iterator[StaticPart]:
    if buffer:
        text = bytes(buffer)
        buffer.clear()
        yield StaticPart(text, compress_member(text))


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

    def collect(self, now: datetime) -> Samples:
        """Return all samples of the account as of now."""
        samples = self.kept_samples.samples | self.collect_dynamic(now)
        if instants := samples.get(TIMESTAMP_FAMILY):
            samples[AGE_FAMILY] = {labels: max(int(now.timestamp()) - int(at), 0) for labels, at in instants.items()}
        return samples

    def collect_dynamic(self, now: datetime) -> Samples:
        """Return the samples that change with the clock or with every request, except the ages."""
        samples = defaultdict[str, dict[LabelValues, float]](dict, build_health_samples(self.view, self.health, now))
        for labels, peaks in self.kept_samples.monthly_peaks.items():
            if average := peaks.average_closed(now):
                samples["utility_average_monthly_peak_kw"][labels] = average[0]
                samples["utility_average_monthly_peak_months"][labels] = average[1]
        return samples


class MetricsPage:
    """The metrics of all accounts and of the process.

    `refresh` reads the ledger and caches lines (off the event loop); `render_parts` joins them with the dynamic families.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime], version: str) -> None:
        self._ledger, self._clock, self._version = ledger, clock, version
        self.accounts: dict[str, AccountMetrics] = {}
        self.last_reload_successful = True
        self.last_reload: datetime | None = None
        self.collect_extra: Callable[[], Samples] = dict
        """Returns further samples at each scrape."""
        self._process_metrics = ProcessMetrics()
        self._bodies: dict[str, PageBody] = {}
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
        """Return whether an account is shown as the ledger has it, by its counts of readings and corrections."""
        shown = self.accounts[account].ledger_counts
        return shown is None or shown == counts

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
        context = SampleContext(metrics.view, self._month_start(metrics), history_starts)
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
        now, body, parts = self._clock(), self._get_body(content_type), list[bytes]()
        dynamic = self._render_dynamic(now)
        for part in body.compressed if compress else body.text:
            if isinstance(part, bytes):
                parts.append(part)
            elif isinstance(part, FamilyLines):
                parts.append(part.text)
            elif isinstance(part, DynamicFamilies):
                text = _join_families(part.families, dynamic, content_type)
                parts.append(compress_member(text) if compress else text)
            else:
                parts.append(body.ages.render(int(now.timestamp()), gzip=compress))
        tail = _join_families(body.tail_families, dynamic, content_type) + self._process_metrics.render(content_type)
        return [*parts, compress_member(tail) if compress else tail]

    def render_ages_ahead(self) -> None:
        """Render the ages of the next scrapes; takes a tenth of a second at 100,000 usage points, so not on the event loop."""
        for body in list(self._bodies.values()):
            body.ages.render_ahead(self._now_seconds())

    def render(self, content_type: str = TEXT) -> bytes:
        """Return the page as text or OpenMetrics."""
        return b"".join(self.render_parts(content_type))

    def render_gzip(self, content_type: str = TEXT) -> bytes:
        """Return the page compressed."""
        return b"".join(self.render_parts(content_type, compress=True))

    def _month_start(self, metrics: AccountMetrics) -> float:
        return find_month_start(self._clock(), metrics.view.zone).timestamp()

    def _turn_months(self) -> None:
        """Let the page say when the running month began, though no visit has happened since."""
        for metrics in list(self.accounts.values()):
            samples, month_start = metrics.kept_samples, self._month_start(metrics)
            if samples.blocks and samples.month_start != month_start:
                self._replace_samples(metrics, samples.with_month_start(month_start), previous=samples)

    def _get_body(self, content_type: str) -> PageBody:
        self._turn_months()
        accounts = self._collect_kept()
        body = self._bodies.get(content_type)
        if body is None or not body.is_current(accounts):
            body = self._bodies[content_type] = PageBody(content_type, accounts)
        return body

    def _replace_samples(
        self, account: AccountMetrics, samples: AccountSamples, *, previous: AccountSamples | None = None
    ) -> None:
        """Publish new samples, unless others than `previous` have been published meanwhile.

        The bodies are assembled here, so that no scrape waits for it.
        """
        with self._replace_lock:
            if previous is not None and account.kept_samples is not previous:
                return
            accounts = [samples if other is account else other.kept_samples for other in list(self.accounts.values())]
            bodies = {content_type: PageBody(content_type, accounts) for content_type in list(self._bodies)}
            for content_type, body in bodies.items():
                body.inherit_requests(self._bodies[content_type], self._now_seconds())
            self._bodies |= bodies
            account.kept_samples = samples

    def _now_seconds(self) -> int:
        return int(self._clock().timestamp())

    def _collect_kept(self) -> list[AccountSamples]:
        return [part.kept_samples for part in list(self.accounts.values())]

    def _render_dynamic(self, now: datetime) -> Mapping[str, list[str]]:
        """Return the lines of the dynamic families."""
        samples = [self._exporter_samples(), self.collect_extra()]
        for account in list(self.accounts.values()):
            try:
                samples.append(account.collect_dynamic(now))
            except Exception:  # one account's bug must not empty the page of the others
                log.exception("failed to render the health of account %s", account.view.account)
        lines = defaultdict[str, list[str]](list)
        for part in samples:
            for family, values in part.items():
                lines[family] += format_lines(family, values)
        return lines

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


def _join_families(families: Iterable[str], lines_by_family: Mapping[str, list[str]], content_type: str) -> bytes:
    text = bytearray()
    for family in families:
        if lines := lines_by_family.get(family):
            text += render_header(family, content_type) + "\n".join([*lines, ""]).encode()
    return bytes(text)
