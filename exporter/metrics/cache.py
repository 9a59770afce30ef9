"""The metrics cache: the samples of all readings as kept lines, renewed after each visit, and the page that is made of them.

Problem: rendering 100,000 usage points takes seconds, and a visit changes a few of their lines. Samples as objects would take
several times the memory of their text.

Idea: an account's usage points are divided into blocks of some hundred (`SampleBlock`), each with the lines of its families as
text and gzip (`FamilyLines`). A visit formats only the lines of the usage points it changed again, and compresses only their
blocks again (`SamplesBuilder`). A scrape joins what is kept, the ages and a tail (`MetricsPage`).

Invariants: blocks and samples are never changed, only replaced, so a scrape needs no lock; a usage point keeps its block; an
unchanged `FamilyLines` stays the same object; what failed to be renewed is built anew the next time.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import count, islice
from operator import is_
from typing import Self

from exporter.account_status import AccountHealth, AccountView
from exporter.ledger.ledger import Ledger, Snapshot
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.aggregates import (
    READING_INDEPENDENT_FAMILIES,
    AccountSampleReader,
    MonthlyPeakHistory,
    UsagePointSamples,
    average_peaks,
    display_name,
    find_month_start,
)
from exporter.metrics.days import SampleContext, find_moved_starts, list_history_starts
from exporter.metrics.exposition import HISTORY_FAMILIES, TEXT, AgePrefixes, FamilyLines, HistoryTotals, PageBody, compress_member
from exporter.metrics.families import MONTH_START_FAMILY, PERIOD_FAMILIES, TIMESTAMP_FAMILY, LabelValues, Samples
from exporter.metrics.process import PageTail, ReloadStatus, build_health_samples, build_program_samples

USAGE_POINTS_PER_BLOCK = 500
"""Usage points of a block: few enough that a change is cheap, many enough that gzip compresses well."""
BLOCKS_AT_A_TIME = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """All samples of some usage points; never changed, only replaced."""

    lines_by_family: Mapping[str, FamilyLines] = field(default_factory=dict)
    monthly_peaks: Mapping[LabelValues, MonthlyPeakHistory] = field(default_factory=dict)
    """(account, usage_point) -> its monthly peaks, whose mean changes when a month ends."""
    ages: AgePrefixes = field(default_factory=AgePrefixes)
    history: HistoryTotals = field(default_factory=HistoryTotals)

    def replace_usage_points(
        self,
        names: Set[str],
        samples: Samples,
        monthly_peaks: Mapping[LabelValues, MonthlyPeakHistory],
        unchanged_families: Set[str],
    ) -> Self:
        """Return the block with these as the only samples of the usage points of these names, except in unchanged families."""
        lines_by_family = dict(self.lines_by_family)
        for family in (self.lines_by_family.keys() | samples.keys()) - unchanged_families:
            previous, values = lines_by_family.pop(family, None), samples.get(family, {})
            lines = previous.replace_usage_points(names, values) if previous else FamilyLines.from_samples(family, values)
            if lines:
                lines_by_family[family] = lines
        others = {labels: peaks for labels, peaks in self.monthly_peaks.items() if labels[1] not in names}
        ages = self.ages.update(self.lines_by_family.get(TIMESTAMP_FAMILY), lines_by_family.get(TIMESTAMP_FAMILY))
        before, after = (tuple(map(lines.get, HISTORY_FAMILIES)) for lines in (self.lines_by_family, lines_by_family))
        history = self.history if all(map(is_, before, after)) else HistoryTotals.from_lines(*after)
        return type(self)(lines_by_family, {**others, **monthly_peaks}, ages, history)

    def with_month_start(self, month_start: datetime) -> Self:
        """Return the block after the running month has begun at another instant."""
        averages = average_peaks(self.monthly_peaks, month_start)
        changed = {family: FamilyLines.from_samples(family, values) for family, values in averages.items()}
        if starts := self.lines_by_family.get(MONTH_START_FAMILY):
            changed[MONTH_START_FAMILY] = starts.replace_values(month_start.timestamp())
        lines_by_family = {family: lines for family, lines in {**self.lines_by_family, **changed}.items() if lines}
        return replace(self, lines_by_family=lines_by_family)


@dataclass(frozen=True, eq=False)
class AccountSamples:
    """All samples of an account's readings, as kept lines; never changed, only replaced."""

    context: SampleContext
    """What the lines depend on besides the readings."""
    blocks: Sequence[SampleBlock] = ()
    block_positions: Mapping[str, int] = field(default_factory=dict)
    """Display name -> the position of its block."""
    shared_names: Mapping[str, list[str]] = field(default_factory=dict)
    """Display name -> its usage points, if it is not the name of just one."""

    @cached_property
    def lines_by_family(self) -> Mapping[str, Sequence[FamilyLines]]:
        """The kept lines by family, in the order of the page."""
        lines_by_family = defaultdict[str, list[FamilyLines]](list)
        for block in self.blocks:
            for family, lines in block.lines_by_family.items():
                lines_by_family[family].append(lines)
        return lines_by_family

    @property
    def history(self) -> HistoryTotals:
        """The histories of all usage points."""
        starts = [block.history.start for block in self.blocks if block.history.start is not None]
        return HistoryTotals(min(starts, default=None), sum(block.history.missing_days for block in self.blocks))

    @property
    def never_read_count(self) -> int:
        """How many usage points have no reading."""
        return len(self.block_positions) - sum(len(block.ages.timestamps) for block in self.blocks)

    def list_names_before(self, instant: float) -> list[str]:
        """Return the names of the usage points whose newest reading is older than an instant."""
        return [name for block in self.blocks for name in block.ages.list_names_before(instant)]

    def with_month_start(self, month_start: datetime) -> "AccountSamples":
        """Return the samples after the running month has begun at another instant."""
        if self.context.month_start == month_start:
            return self
        blocks = [block.with_month_start(month_start) for block in self.blocks]
        return replace(self, context=replace(self.context, month_start=month_start), blocks=blocks)


def build_samples(snapshot: Snapshot, context: SampleContext) -> AccountSamples:
    """Return the samples of everything an account holds."""
    builder = SamplesBuilder(AccountSamples(context), snapshot)
    builder.rebuild(None)
    return builder.build()


def update_samples(samples: AccountSamples, snapshot: Snapshot, context: SampleContext, changes: LedgerChanges) -> AccountSamples:
    """Return the samples with everything rebuilt that a visit has changed, or whose history begins elsewhere now.

    A few blocks at a time: the new samples of 100,000 usage points would briefly double the memory.
    """
    moved = find_moved_starts(samples.context, context, snapshot)
    builder = SamplesBuilder(replace(samples.with_month_start(context.month_start), context=context), snapshot)
    new, described, read, index_only = list[str](), list[str](), list[str](), list[str]()
    for usage_point in changes.usage_points | moved:
        name = display_name(context.view, usage_point)
        is_alone = samples.shared_names.get(name, [name]) == [usage_point]
        if name not in samples.block_positions:
            new.append(usage_point)
        elif usage_point in changes.described_usage_points or not is_alone:
            described.append(usage_point)
        elif usage_point in changes.index_only_usage_points and usage_point not in moved:
            index_only.append(usage_point)
        else:
            read.append(usage_point)
    if new:
        builder.add(new)
    rebuilds = (builder.rebuild, described), (builder.rebuild_readings, read), (builder.rebuild_indexes, index_only)
    for rebuild, usage_points in rebuilds:
        for batch in _split_by_blocks(samples, context.view, usage_points):
            rebuild(batch)
    return builder.build()


def _split_by_blocks(samples: AccountSamples, view: AccountView, usage_points: Iterable[str]) -> Iterator[list[str]]:
    """Yield known usage points in batches, each of a few blocks."""
    usage_points_by_block = defaultdict[int, list[str]](list)
    for usage_point in usage_points:
        usage_points_by_block[samples.block_positions[display_name(view, usage_point)]].append(usage_point)
    positions = iter(sorted(usage_points_by_block))
    while batch := list(islice(positions, BLOCKS_AT_A_TIME)):
        yield [usage_point for position in batch for usage_point in usage_points_by_block[position]]


class SamplesBuilder:
    """Blocks while they are rebuilt: a name is written into its own block, or a new one into the last that is not full."""

    def __init__(self, samples: AccountSamples, snapshot: Snapshot) -> None:
        self._blocks, self._context, self._view = list(samples.blocks), samples.context, samples.context.view
        self._block_positions, self._shared_names = dict(samples.block_positions), dict(samples.shared_names)
        self._snapshot = snapshot

    @cached_property
    def _new_positions(self) -> Iterator[int]:
        """The positions of the blocks of new names, one after the other; counted only where there is one."""
        last = max(len(self._blocks) - 1, 0)
        filled = sum(position == last for position in self._block_positions.values())
        return (last + place // USAGE_POINTS_PER_BLOCK for place in count(filled))

    def build(self) -> AccountSamples:
        """Return the samples."""
        return AccountSamples(self._context, self._blocks, self._block_positions, self._shared_names)

    def add(self, usage_points: Collection[str]) -> None:
        """Add new usage points in the order of the ledger: neighbours are similar, and compress better."""
        ordered = (point.usage_point for point in self._snapshot.select_usage_points(self._view.account, usage_points))
        while batch := list(islice(ordered, BLOCKS_AT_A_TIME * USAGE_POINTS_PER_BLOCK)):
            self.rebuild(batch)

    def rebuild(self, usage_points: Collection[str] | None) -> None:
        """Rebuild all samples of usage points (None: of all), and of others of the same names."""
        names = self._display_names(usage_points or ())
        if usage_points is not None:
            usage_points = {*usage_points, *(one for name in names for one in self._shared_names.get(name, [name]))}
        usage_points_by_name = self._replace_samples(names, self._build_reader().read_usage_points(usage_points))
        for name in names:
            self._shared_names.pop(name, None)
            if name not in usage_points_by_name:
                self._block_positions.pop(name, None)
        self._shared_names |= {name: alike for name, alike in usage_points_by_name.items() if alike != [name]}

    def rebuild_readings(self, usage_points: Collection[str]) -> None:
        """Rebuild the samples of readings of known usage points, each the only one of its name."""
        names, samples = self._display_names(usage_points), self._build_reader().read_readings(usage_points)
        self._replace_samples(names, samples, READING_INDEPENDENT_FAMILIES)

    def rebuild_indexes(self, usage_points: Collection[str]) -> None:
        """Rebuild the samples of indexes of known usage points that have nothing else but derived days."""
        names, samples = self._display_names(usage_points), self._build_reader().read_indexes(usage_points)
        self._replace_samples(names, samples, READING_INDEPENDENT_FAMILIES | PERIOD_FAMILIES)

    def _build_reader(self) -> AccountSampleReader:
        """Return a reader for one call: it keeps the labels it has read."""
        return AccountSampleReader(self._snapshot, self._context)

    def _display_names(self, usage_points: Iterable[str]) -> set[str]:
        return {display_name(self._view, usage_point) for usage_point in usage_points}

    def _replace_samples(
        self, names: Set[str], usage_points: Iterable[UsagePointSamples], unchanged_families: Set[str] = frozenset()
    ) -> Mapping[str, list[str]]:
        """Make these the samples of these names; of two with the same labels (equal names) the first is kept.

        Return the usage points by name.
        """
        changed = {self._block_positions[name] for name in names if name in self._block_positions}
        drafts = defaultdict[int, Samples](lambda: defaultdict(dict))
        peaks = defaultdict[int, dict[LabelValues, MonthlyPeakHistory]](dict)
        usage_points_by_name = defaultdict[str, list[str]](list)
        for usage_point, name, samples, monthly_peaks in usage_points:
            usage_points_by_name[name].append(usage_point)
            position = self._find_position(name)
            draft = drafts[position]
            for family, labels, value in samples:
                draft[family].setdefault(labels, value)
            if monthly_peaks:
                peaks[position].setdefault((self._view.account, name), monthly_peaks)
        for position in sorted(changed | drafts.keys()):
            if position == len(self._blocks):
                self._blocks.append(SampleBlock())
            self._blocks[position] = self._blocks[position].replace_usage_points(
                names, drafts.pop(position, {}), peaks[position], unchanged_families
            )
        return usage_points_by_name

    def _find_position(self, name: str) -> int:
        if name not in self._block_positions:
            self._block_positions[name] = next(self._new_positions)
        return self._block_positions[name]


@dataclass(slots=True)
class AccountMetrics:
    """The metrics of one account."""

    health: AccountHealth
    kept_samples: AccountSamples
    ledger_counts: tuple[int, int] | None = None
    """Numbers of readings (thinned ones included) and corrections as of `kept_samples`; None if these must be rebuilt."""

    @property
    def view(self) -> AccountView:
        """How it is shown."""
        return self.kept_samples.context.view


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
        self.reload_status = ReloadStatus()
        self._body, self._tail = PageBody(), PageTail()
        self._replace_lock = threading.Lock()

    def add_account(self, view: AccountView, health: AccountHealth) -> AccountMetrics:
        """Add (or replace) an account; if its view is unchanged, its lines stay until it is refreshed.

        `health` is owned by the account's poller.
        """
        previous = self.accounts.get(view.account)
        empty = AccountSamples(SampleContext(view, self._find_month_start(view)))
        samples = previous.kept_samples if previous and previous.view == view else empty
        metrics = self.accounts[view.account] = AccountMetrics(health, samples)
        return metrics

    def is_current(self, account: str, counts: tuple[int, int]) -> bool:
        """Return whether an account, if it is shown, is as the ledger has it, by its counts of readings and corrections."""
        shown = self.accounts.get(account)
        return shown is None or shown.ledger_counts in {None, counts}

    def restore_account(self, metrics: AccountMetrics) -> None:
        """Show an account again as it was before it was replaced."""
        self.accounts[metrics.view.account] = metrics

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
        history_starts = list_history_starts(metrics.health.history.history_starts)
        context = SampleContext(metrics.view, self._find_month_start(metrics.view), history_starts)
        # Other counts than expected: another process has imported readings, and all samples must be rebuilt.
        if changes and previous == (state.readings + state.thinned - changes.new, state.corrections - changes.corrected):
            samples = update_samples(metrics.kept_samples, snapshot, context, changes)
        else:
            samples = build_samples(snapshot, context)
        with self._replace_lock:
            kept = [samples if other is metrics else other.kept_samples for other in list(self.accounts.values())]
            self._body = self._build_body(kept)  # here, so that no scrape waits for it
            metrics.kept_samples = samples
        metrics.ledger_counts = state.readings + state.thinned, state.corrections

    def render_parts(self, content_type: str = TEXT, *, compress: bool = False) -> list[bytes]:
        """Return the page as text or OpenMetrics, in parts to be sent one after the other."""
        now = self._clock()
        body = self._get_body().render(content_type, int(now.timestamp()), compress=compress)
        tail = self._tail.render(self._collect_tail(now), content_type)
        return [*body, compress_member(tail) if compress else tail]

    def render(self, content_type: str = TEXT) -> bytes:
        """Return the page as text or OpenMetrics."""
        return b"".join(self.render_parts(content_type))

    def render_ages_ahead(self) -> None:
        """Render the ages of the next scrapes; takes a tenth of a second at 100,000 usage points, so not on the event loop."""
        self._body.ages.render_ahead(int(self._clock().timestamp()))

    def _find_month_start(self, view: AccountView) -> datetime:
        return find_month_start(self._clock(), view.zone)

    def _get_body(self) -> PageBody:
        """Return the body, as of the running month though no visit has happened since it began."""
        for account in list(self.accounts.values()):
            month_start = self._find_month_start(account.view)
            if account.kept_samples.context.month_start != month_start:
                with self._replace_lock:
                    account.kept_samples = account.kept_samples.with_month_start(month_start)
        body = self._body
        if self._is_current(body):  # without the lock: a scrape does not wait for a refresh that joins another body
            return body
        with self._replace_lock:
            if not self._is_current(self._body):
                self._body = self._build_body([account.kept_samples for account in list(self.accounts.values())])
            return self._body

    def _is_current(self, body: PageBody) -> bool:
        return body.is_current([account.kept_samples.lines_by_family for account in list(self.accounts.values())])

    def _build_body(self, kept: Sequence[AccountSamples]) -> PageBody:
        ages = [block.ages for samples in kept for block in samples.blocks]
        body = self._body.replace_lines([samples.lines_by_family for samples in kept], ages)
        body.ages.render_ahead(int(self._clock().timestamp()), [0])
        return body

    def _collect_tail(self, now: datetime) -> Iterator[Samples]:
        yield build_program_samples(self._version, self.reload_status)
        yield self._collect_extra()
        for account in list(self.accounts.values()):
            try:
                yield build_health_samples(account.view, account.health, now)
            except Exception:  # one account's bug must not empty the page of the others
                log.exception("failed to render the health of account %s", account.view.account)
