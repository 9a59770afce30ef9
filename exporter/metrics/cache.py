"""The metrics cache: the samples of all readings as lines, as text and gzip, updated after each visit.

Problem: a page of 100,000 usage points has 20 MB, and a visit changes a few of its lines. Rendering it at each scrape
takes seconds, rendering it after each visit as well, and samples as objects take several times the memory of the text.

Idea: an account's usage points are divided into blocks of some hundred (`SampleBlock`). A block holds one text per
family (`FamilyLines`), compressed as a gzip member of its own, so that a page is the concatenation of members. A visit
rebuilds only the lines of the usage points it changed, and recompresses only their blocks. Ages change every second and
are rendered from prefixes and timestamps (`AgePrefixes`, `RenderedAges`), for large pages ahead of the scrape.

Invariants: blocks and samples are never changed, only replaced, so a scrape needs no lock; a usage point keeps its
block; an unchanged `FamilyLines` stays the same object; the samples can be read back from the lines.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress, count, islice
from operator import add, is_, ne
from typing import Self

from exporter.ledger.ledger import Snapshot
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.aggregates import (
    MONTH_START_FAMILY,
    PERIOD_FAMILIES,
    READING_INDEPENDENT_FAMILIES,
    MonthlyPeakHistory,
    SampleDraft,
    aggregate_indexes,
    aggregate_readings,
    aggregate_usage_points,
    display_name,
)
from exporter.metrics.days import SampleContext
from exporter.metrics.exposition import (
    compress_member,
    format_value,
    parse_usage_points,
)
from exporter.metrics.families import LabelValues, Samples
from exporter.metrics.family_lines import FamilyLines

AGE_FAMILY = "utility_reading_age_seconds"
TIMESTAMP_FAMILY = "utility_reading_timestamp_seconds"
_AGE_NAME, _TIMESTAMP_NAME_LENGTH = AGE_FAMILY.encode(), len(TIMESTAMP_FAMILY)
STEPPED_ABOVE = 1000
AGE_STEP = 15
"""The ages of more than `STEPPED_ABOVE` usage points are those of the last whole `AGE_STEP` seconds."""
RENDER_AHEAD_FOR = 300
"""Seconds after a request for which ages are rendered ahead."""


@dataclass(frozen=True, slots=True)
class AgePrefixes:
    """The prefixes of the age lines of a block, and the timestamps (whole seconds since 1970) that the ages count from."""

    prefixes: list[bytes]
    timestamps: list[int]

    @classmethod
    def from_lines(cls, lines: FamilyLines) -> Self:
        """Return the prefixes of the timestamp lines: they have the same labels, escaped in the same form."""
        split = [_split_line(line) for line in lines.lines]
        return cls([prefix for prefix, _ in split], [timestamp for _, timestamp in split])

    def update(self, previous: FamilyLines, current: FamilyLines) -> Self:
        """Return the prefixes of lines that replaced the previous ones; only lines that differ are parsed."""
        lines = current.lines
        if len(lines) != len(self.prefixes):
            return self.from_lines(current)
        prefixes, timestamps = list(self.prefixes), list(self.timestamps)
        for position in compress(count(), map(ne, previous.lines, lines)):
            prefixes[position], timestamps[position] = _split_line(lines[position])
        return type(self)(prefixes, timestamps)

    def list_names_before(self, instant: float) -> list[str]:
        """Return the names of the usage points whose newest reading is older than an instant."""
        if not self.timestamps or min(self.timestamps) >= instant:
            return []
        older = [prefix for prefix, timestamp in zip(self.prefixes, self.timestamps, strict=True) if timestamp < instant]
        return parse_usage_points(AGE_FAMILY, b"".join(older).decode())


def _split_line(line: bytes) -> tuple[bytes, int]:
    prefix, _, timestamp = line.rpartition(b" ")
    return _AGE_NAME + prefix[_TIMESTAMP_NAME_LENGTH:] + b" ", int(float(timestamp))


class RenderedAges:
    """The ages of a page, as text and gzip, rendered for the instants at which they are requested."""

    def __init__(self, header: bytes, parts: Iterable[AgePrefixes]) -> None:
        self._header, self._prefixes = header, [part for part in parts if part.prefixes]
        self._age_step = AGE_STEP if sum(len(part.prefixes) for part in self._prefixes) > STEPPED_ABOVE else 1
        self._rendered: dict[tuple[int, bool], bytes] = {}
        self.last_requests: dict[bool, int] = {}
        """gzip or not -> the last request for it."""

    def render(self, now: int, *, gzip: bool) -> bytes:
        """Return the ages as of a whole second."""
        self.last_requests[gzip] = now
        key = now - now % self._age_step, gzip
        rendered = self._rendered.get(key)
        return self._render(key[0], [gzip])[key] if rendered is None else rendered

    def render_ahead(self, now: int, step_offsets: Sequence[int] = (0, 1)) -> None:
        """Render the ages of this step and the next in the compressions requested lately."""
        if self._age_step == 1:
            return
        compressions = [gzip for gzip, requested in list(self.last_requests.items()) if now - requested < RENDER_AHEAD_FOR]
        for at in (now - now % AGE_STEP + step * AGE_STEP for step in step_offsets):
            if missing := [gzip for gzip in compressions if (at, gzip) not in self._rendered]:
                self._render(at, missing)

    def _render(self, at: int, compressions: Iterable[bool]) -> dict[tuple[int, bool], bytes]:
        text = format_ages(self._header, self._prefixes, at)
        rendered = {(at, gzip): compress_member(text) if gzip else text for gzip in compressions}
        self._rendered = {key: text for key, text in self._rendered.items() if key[0] >= at - AGE_STEP} | rendered
        return rendered


def format_ages(header: bytes, parts: Sequence[AgePrefixes], now: int) -> bytes:
    """Return all ages as of a whole second."""
    suffixes = _AgeSuffixes(now)
    return (
        b"".join([header, *(b"".join(map(add, part.prefixes, map(suffixes.__getitem__, part.timestamps))) for part in parts)])
        if parts
        else b""
    )


class _AgeSuffixes(dict[int, bytes]):
    """Timestamp -> the end of a line: many readings have the same timestamp, and its age is formatted once."""

    def __init__(self, now: int) -> None:
        self._now = now

    def __missing__(self, timestamp: int) -> bytes:
        suffix = self[timestamp] = format_value(max(self._now - timestamp, 0)).encode() + b"\n"
        return suffix


USAGE_POINTS_PER_BLOCK = 500
"""Usage points of a block: few enough that a change is cheap, many enough that gzip compresses well."""
BLOCKS_AT_A_TIME = 10


@dataclass(frozen=True, slots=True)
class HistoryTotals:
    """The histories of some usage points: when the oldest known day began, and how many days are missing of all."""

    start: float | None = None
    missing_days: int = 0

    @classmethod
    def from_lines(cls, starts: FamilyLines | None, missing: FamilyLines | None) -> Self:
        """Return the totals of lines of `HISTORY_FAMILIES`."""
        return cls(min(starts.numbers) if starts else None, round(sum(missing.numbers)) if missing else 0)


HISTORY_FAMILIES = "utility_history_start_timestamp_seconds", "utility_history_missing_days"


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """All samples of some usage points; never changed, only replaced."""

    lines_by_family: Mapping[str, FamilyLines] = field(default_factory=dict)
    monthly_peaks: Mapping[LabelValues, MonthlyPeakHistory] = field(default_factory=dict)
    ages: AgePrefixes = field(default_factory=lambda: AgePrefixes([], []))
    history: HistoryTotals = field(default_factory=HistoryTotals)

    def merge_draft(self, names: Set[str], draft: SampleDraft, unchanged_families: Set[str] = frozenset()) -> Self:
        """Return the block with the samples of these names replaced by those of a draft, except in unchanged families."""
        lines_by_family = dict(self.lines_by_family)
        for family in (self.lines_by_family.keys() | draft.samples.keys()) - unchanged_families:
            previous, samples = lines_by_family.pop(family, None), draft.samples.get(family, {})
            lines = previous.replace_usage_points(names, samples) if previous else FamilyLines.from_samples(family, samples)
            if lines:
                lines_by_family[family] = lines
        monthly_peaks = {
            labels: peaks for labels, peaks in self.monthly_peaks.items() if labels[1] not in names
        } | draft.monthly_peaks
        ages = self._update_ages(lines_by_family.get(TIMESTAMP_FAMILY))
        return type(self)(lines_by_family, monthly_peaks, ages, self._update_history(lines_by_family))

    def with_month_start(self, month_start: float) -> "SampleBlock":
        """Return the block after the running month has begun at another instant."""
        lines = self.lines_by_family.get(MONTH_START_FAMILY)
        if lines is None:
            return self
        return replace(self, lines_by_family={**self.lines_by_family, MONTH_START_FAMILY: lines.replace_values(month_start)})

    def _update_ages(self, timestamps: FamilyLines | None) -> AgePrefixes:
        previous = self.lines_by_family.get(TIMESTAMP_FAMILY)
        if timestamps is None:
            return AgePrefixes([], [])
        return self.ages.update(previous, timestamps) if previous else AgePrefixes.from_lines(timestamps)

    def _update_history(self, lines_by_family: Mapping[str, FamilyLines]) -> HistoryTotals:
        previous, current = (tuple(map(lines.get, HISTORY_FAMILIES)) for lines in (self.lines_by_family, lines_by_family))
        return self.history if all(map(is_, previous, current)) else HistoryTotals.from_lines(*current)


class AccountSamples:
    """All samples of an account's readings, as cached lines, and what a scrape needs to render the others.

    Never changed, only replaced.
    """

    def __init__(
        self,
        blocks: Sequence[SampleBlock] = (),
        block_positions: Mapping[str, int] | None = None,
        shared_names: Mapping[str, list[str]] | None = None,
        month_start: float = 0.0,
    ) -> None:
        self.blocks = blocks
        self.month_start = month_start
        """When the running month began, as the lines say."""
        self.block_positions: Mapping[str, int] = block_positions or {}
        """Display name -> the position of its block."""
        self.shared_names: Mapping[str, list[str]] = shared_names or {}
        """Display name -> its usage points, if it is not the name of just one."""
        self.lines_by_family: dict[str, list[FamilyLines]] = defaultdict(list)
        """The cached lines by family, in the order of the page."""
        for block in blocks:
            for family, lines in block.lines_by_family.items():
                self.lines_by_family[family].append(lines)
        self.monthly_peaks = {labels: peaks for block in blocks for labels, peaks in block.monthly_peaks.items()}
        """(account, usage_point) -> its monthly peaks."""

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

    def with_month_start(self, month_start: float) -> "AccountSamples":
        """Return the samples after the running month has begun at another instant."""
        blocks = [block.with_month_start(month_start) for block in self.blocks]
        return AccountSamples(blocks, self.block_positions, self.shared_names, month_start)

    @property
    def samples(self) -> Samples:
        """All cached samples, by family and labels."""
        return {
            family: {labels: value for lines in cached for labels, value in lines.values.items()}
            for family, cached in self.lines_by_family.items()
        }


def build_samples(snapshot: Snapshot, context: SampleContext) -> AccountSamples:
    """Return the samples of everything an account holds."""
    builder = _SamplesBuilder(AccountSamples(month_start=context.month_start))
    builder.rebuild(snapshot, context, None)
    return builder.build()


def update_samples(samples: AccountSamples, snapshot: Snapshot, context: SampleContext, changes: LedgerChanges) -> AccountSamples:
    """Return the samples with everything rebuilt that a visit has changed.

    A few blocks at a time: the new samples of 100,000 usage points would briefly double the memory.
    """
    builder = _SamplesBuilder(
        samples if samples.month_start == context.month_start else samples.with_month_start(context.month_start)
    )
    whole, read, live = (defaultdict[int | None, list[str]](list) for _ in range(3))
    for usage_point in changes.usage_points:
        name = display_name(context.view, usage_point)
        alone = usage_point not in changes.described_usage_points and samples.shared_names.get(name, [name]) == [usage_point]
        position = samples.block_positions.get(name)
        readings = live if usage_point in changes.live_usage_points else read
        (readings if alone and position is not None else whole)[position].append(usage_point)
    if new := whole.pop(None, None):
        builder.add(snapshot, context, new)
    for usage_points_by_block, rebuild in (
        (whole, builder.rebuild),
        (read, builder.rebuild_readings),
        (live, builder.rebuild_indexes),
    ):
        known = sorted(position for position in usage_points_by_block if position is not None)
        for start in range(0, len(known), BLOCKS_AT_A_TIME):
            batch = known[start : start + BLOCKS_AT_A_TIME]
            rebuild(snapshot, context, [usage_point for position in batch for usage_point in usage_points_by_block[position]])
    return builder.build()


class _SamplesBuilder:
    """Blocks while they are rebuilt: a name is written into its own block, or a new one into the last that is not full."""

    def __init__(self, samples: AccountSamples) -> None:
        self._blocks, self._block_positions, self._shared_names = (
            list(samples.blocks),
            dict(samples.block_positions),
            dict(samples.shared_names),
        )
        self._month_start = samples.month_start
        self._drafts: dict[int, SampleDraft] = defaultdict(SampleDraft)
        self._last_block = max(len(self._blocks) - 1, 0)

    @cached_property
    def _remaining(self) -> int:
        """Number of names that fit into the last block; counted only for a new one."""
        return USAGE_POINTS_PER_BLOCK - sum(position == self._last_block for position in self._block_positions.values())

    def build(self) -> AccountSamples:
        return AccountSamples(self._blocks, self._block_positions, self._shared_names, self._month_start)

    def add(self, snapshot: Snapshot, context: SampleContext, usage_points: Collection[str]) -> None:
        """Add new usage points in the order of the ledger: neighbours are similar, and compress better."""
        ordered = (point.usage_point for point in snapshot.select_usage_points(context.view.account, usage_points))
        while batch := list(islice(ordered, BLOCKS_AT_A_TIME * USAGE_POINTS_PER_BLOCK)):
            self.rebuild(snapshot, context, batch)

    def rebuild(self, snapshot: Snapshot, context: SampleContext, usage_points: Sequence[str] | None) -> None:
        names = {display_name(context.view, usage_point) for usage_point in usage_points or ()}
        selected = (
            None
            if usage_points is None
            else {*usage_points, *(one for name in names for one in self._shared_names.get(name, [name]))}
        )
        previous = {name: self._block_positions[name] for name in names & self._block_positions.keys()}
        aggregate_usage_points(snapshot, context, self._get_draft, selected)
        self._update_names(previous)
        for position in sorted({*self._drafts, *previous.values()}):
            if position == len(self._blocks):
                self._blocks.append(SampleBlock())
            self._blocks[position] = self._blocks[position].merge_draft(names, self._drafts.pop(position, SampleDraft()))

    def rebuild_readings(self, snapshot: Snapshot, context: SampleContext, usage_points: Sequence[str]) -> None:
        """Rebuild the samples of readings of known usage points, each the only one of its name."""
        aggregate_readings(snapshot, context, self._get_draft, usage_points)
        self._merge_drafts(context, usage_points, READING_INDEPENDENT_FAMILIES)

    def rebuild_indexes(self, snapshot: Snapshot, context: SampleContext, usage_points: Sequence[str]) -> None:
        """Rebuild the samples of indexes of known usage points that have nothing else but derived days."""
        aggregate_indexes(snapshot, context, self._get_draft, usage_points)
        self._merge_drafts(context, usage_points, READING_INDEPENDENT_FAMILIES | PERIOD_FAMILIES)

    def _merge_drafts(self, context: SampleContext, usage_points: Sequence[str], unchanged: Set[str]) -> None:
        names = {display_name(context.view, usage_point) for usage_point in usage_points}
        for position in sorted({self._block_positions[name] for name in names}):
            self._blocks[position] = self._blocks[position].merge_draft(
                names, self._drafts.pop(position, SampleDraft()), unchanged
            )

    def _update_names(self, previous_names: Collection[str]) -> None:
        """Record the usage points of shared names, and remove the names that are gone."""
        usage_points = {name: found for draft in self._drafts.values() for name, found in draft.usage_points.items()}
        for name in previous_names:
            self._shared_names.pop(name, None)
            if name not in usage_points:
                del self._block_positions[name]
        self._shared_names |= {name: found for name, found in usage_points.items() if found != [name]}

    def _get_draft(self, name: str) -> SampleDraft:
        position = self._block_positions.get(name)
        if position is None:
            if self._remaining <= 0:
                self._last_block, self._remaining = self._last_block + 1, USAGE_POINTS_PER_BLOCK
            self._remaining -= 1
            position = self._block_positions[name] = self._last_block
        return self._drafts[position]
