"""The metrics cache: the lines of all readings, as text and gzip, renewed after each visit.

Problem: a page of 100,000 usage points has 20 MB, and a visit changes a few of its lines. Rendering it at each scrape
takes seconds, rendering it after each visit as well, and samples as objects take several times the memory of the text.

Idea: an account's usage points are divided into blocks of some hundred (`SampleBlock`). A block holds one text per
family (`FamilyLines`), compressed as a gzip member of its own, so that a page is the concatenation of members. A visit
formats only the lines of the usage points it changed again, and compresses only their blocks again.

Invariants: blocks and samples are never changed, only replaced, so a scrape needs no lock; a usage point keeps its
block; an unchanged `FamilyLines` stays the same object; the samples can be read back from the lines.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import compress, count, islice
from operator import is_, ne
from typing import Self

from exporter.ledger.ledger import Snapshot
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.aggregates import (
    MONTH_START_FAMILY,
    PERIOD_FAMILIES,
    READING_INDEPENDENT_FAMILIES,
    TIMESTAMP_FAMILY,
    MonthlyPeakHistory,
    NamedPoint,
    SampleReader,
    average_peaks,
    display_name,
)
from exporter.metrics.days import SampleContext
from exporter.metrics.exposition import (
    build_prefixer,
    compress_member,
    decompress_member,
    format_lines,
    format_value,
    parse_columns,
)
from exporter.metrics.families import AGE_FAMILY, LabelValues, Sample, Samples

USAGE_POINTS_PER_BLOCK = 500
"""Usage points of a block: few enough that a change is cheap, many enough that gzip compresses well."""
BLOCKS_AT_A_TIME = 10
MIN_OWN_MEMBER_BYTES = 16 * 1024
"""Lines of at least this size are a gzip member of their own; smaller ones are compressed with their neighbours."""
COMPACT_FAMILIES = PERIOD_FAMILIES | {MONTH_START_FAMILY}
"""Families that change once a day or less: of lines that are a member of their own no text is kept."""
HISTORY_FAMILIES = "utility_history_start_timestamp_seconds", "utility_history_missing_days"
_VALUE_PATTERN = re.compile(rb" [^ \n]+\n")
_AGE_NAME, _TIMESTAMP_NAME_LENGTH = AGE_FAMILY.encode(), len(TIMESTAMP_FAMILY)


@dataclass(frozen=True, slots=True, eq=False)
class FamilyLines:
    """The lines of one family in a block, never changed, only replaced."""

    family: str
    kept_text: bytes | None
    """The text; None where it is made from the compressed one when it is needed: of `COMPACT_FAMILIES`."""
    compressed: bytes | None

    @property
    def text(self) -> bytes:
        """The lines as text."""
        if self.kept_text is not None:
            return self.kept_text
        assert self.compressed is not None
        return decompress_member(self.compressed)

    @property
    def lines(self) -> list[bytes]:
        """The lines, without line ends."""
        return self.text.split(b"\n")[:-1]

    @property
    def numbers(self) -> list[float]:
        """The values of the lines, in their order."""
        return [float(line[line.rindex(b" ") :]) for line in self.lines]

    @classmethod
    def from_samples(cls, family: str, values: Mapping[LabelValues, float]) -> Self | None:
        """Return the lines of samples; None without samples."""
        return cls._build(family, "\n".join([*format_lines(family, values), ""]).encode()) if values else None

    def replace_usage_points(self, names: Set[str], samples: Mapping[LabelValues, float]) -> Self | None:
        """Return the lines with `samples` as the only ones of the usage points of these names.

        Return this object if nothing differs. Of a known series only the value is formatted again.
        """
        before, format_prefix = self.text, build_prefixer(self.family)
        lines = before.split(b"\n")[:-1]
        (usage_points,) = parse_columns(self.family, before, ("usage_point",))
        positions = list(compress(count(), map(names.__contains__, usage_points)))
        known = zip(*parse_columns(self.family, b"".join(lines[position] + b"\n" for position in positions)), strict=True)
        position_by_labels = dict(zip(known, positions, strict=True))
        for labels, value in samples.items():
            if (position := position_by_labels.pop(labels, None)) is None:
                lines.append((format_prefix(labels) + format_value(value)).encode())
            else:
                line = lines[position]
                lines[position] = line[: line.rindex(b" ") + 1] + format_value(value).encode()
        for position in sorted(position_by_labels.values(), reverse=True):
            del lines[position]
        text = b"\n".join([*lines, b""])
        return self if text == before else self._build(self.family, text) if text else None

    def replace_values(self, value: float) -> Self:
        """Return the lines with one value in all of them."""
        return self._build(self.family, _VALUE_PATTERN.sub(b" %b\n" % format_value(value).encode(), self.text))

    @classmethod
    def _build(cls, family: str, text: bytes) -> Self:
        if len(text) < MIN_OWN_MEMBER_BYTES:
            return cls(family, text, None)
        return cls(family, None if family in COMPACT_FAMILIES else text, compress_member(text))


@dataclass(frozen=True, slots=True)
class AgePrefixes:
    """The prefixes of the age lines of a block, and the timestamps (whole seconds since 1970) that the ages count from."""

    text: bytes = b""
    """The prefixes, one a line: as objects they would take half as much again."""
    timestamps: Sequence[int] = ()

    @property
    def prefixes(self) -> list[bytes]:
        """The prefixes, one for each timestamp."""
        return self.text.split(b"\n") if self.timestamps else []

    @classmethod
    def from_lines(cls, lines: FamilyLines) -> Self:
        """Return the prefixes of the timestamp lines: they have the same labels, escaped in the same form."""
        split = [_split_line(line) for line in lines.lines]
        return cls(b"\n".join(prefix for prefix, _ in split), array("q", [timestamp for _, timestamp in split]))

    def update(self, previous: FamilyLines, current: FamilyLines) -> Self:
        """Return the prefixes of lines that replaced the previous ones; only lines that differ are parsed."""
        lines = current.lines
        if len(lines) != len(self.timestamps):
            return self.from_lines(current)
        prefixes, timestamps = self.prefixes, array("q", self.timestamps)
        for position in compress(count(), map(ne, previous.lines, lines)):
            prefixes[position], timestamps[position] = _split_line(lines[position])
        return type(self)(b"\n".join(prefixes), timestamps)

    def list_names_before(self, instant: float) -> list[str]:
        """Return the names of the usage points whose newest reading is older than an instant."""
        if not self.timestamps or min(self.timestamps) >= instant:
            return []
        older = [prefix for prefix, timestamp in zip(self.prefixes, self.timestamps, strict=True) if timestamp < instant]
        return parse_columns(AGE_FAMILY, b"".join(older), ("usage_point",))[0]


def _split_line(line: bytes) -> tuple[bytes, int]:
    prefix, _, timestamp = line.rpartition(b" ")
    return _AGE_NAME + prefix[_TIMESTAMP_NAME_LENGTH:] + b" ", int(float(timestamp))


@dataclass(frozen=True, slots=True)
class HistoryTotals:
    """The histories of some usage points: when the oldest known day began, and how many days are missing of all."""

    start: float | None = None
    missing_days: int = 0

    @classmethod
    def from_lines(cls, starts: FamilyLines | None, missing: FamilyLines | None) -> Self:
        """Return the totals of lines of `HISTORY_FAMILIES`."""
        return cls(min(starts.numbers) if starts else None, round(sum(missing.numbers)) if missing else 0)


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
        ages, history = self._update_ages(lines_by_family.get(TIMESTAMP_FAMILY)), self._update_history(lines_by_family)
        return type(self)(lines_by_family, {**others, **monthly_peaks}, ages, history)

    def with_month_start(self, month_start: datetime) -> Self:
        """Return the block after the running month has begun at another instant."""
        averages = average_peaks(self.monthly_peaks, month_start)
        changed = {family: FamilyLines.from_samples(family, values) for family, values in averages.items()}
        if starts := self.lines_by_family.get(MONTH_START_FAMILY):
            changed[MONTH_START_FAMILY] = starts.replace_values(month_start.timestamp())
        lines_by_family = {family: lines for family, lines in {**self.lines_by_family, **changed}.items() if lines}
        return replace(self, lines_by_family=lines_by_family)

    def _update_ages(self, timestamps: FamilyLines | None) -> AgePrefixes:
        previous = self.lines_by_family.get(TIMESTAMP_FAMILY)
        if timestamps is None:
            return AgePrefixes()
        return self.ages.update(previous, timestamps) if previous else AgePrefixes.from_lines(timestamps)

    def _update_history(self, lines_by_family: Mapping[str, FamilyLines]) -> HistoryTotals:
        previous, current = (tuple(map(lines.get, HISTORY_FAMILIES)) for lines in (self.lines_by_family, lines_by_family))
        return self.history if all(map(is_, previous, current)) else HistoryTotals.from_lines(*current)


class AccountSamples:
    """All samples of an account's readings, as cached lines.

    Never changed, only replaced.
    """

    def __init__(
        self,
        blocks: Sequence[SampleBlock] = (),
        block_positions: Mapping[str, int] | None = None,
        shared_names: Mapping[str, list[str]] | None = None,
        month_start: datetime | None = None,
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
        if self.month_start == month_start:
            return self
        blocks = [block.with_month_start(month_start) for block in self.blocks]
        return AccountSamples(blocks, self.block_positions, self.shared_names, month_start)


def build_samples(snapshot: Snapshot, context: SampleContext) -> AccountSamples:
    """Return the samples of everything an account holds."""
    builder = SamplesBuilder(AccountSamples(month_start=context.month_start), snapshot, context)
    builder.rebuild(None)
    return builder.build()


def update_samples(samples: AccountSamples, snapshot: Snapshot, context: SampleContext, changes: LedgerChanges) -> AccountSamples:
    """Return the samples with everything rebuilt that a visit has changed.

    A few blocks at a time: the new samples of 100,000 usage points would briefly double the memory.
    """
    builder = SamplesBuilder(samples.with_month_start(context.month_start), snapshot, context)
    rebuilds = builder.rebuild, builder.rebuild_readings, builder.rebuild_indexes
    known = {rebuild: defaultdict[int, list[str]](list) for rebuild in rebuilds}
    new = list[str]()
    for usage_point in changes.usage_points:
        name = display_name(context.view, usage_point)
        is_alone = samples.shared_names.get(name, [name]) == [usage_point]
        if (position := samples.block_positions.get(name)) is None:
            new.append(usage_point)
        elif usage_point in changes.described_usage_points or not is_alone:
            known[builder.rebuild][position].append(usage_point)
        elif usage_point in changes.live_usage_points:
            known[builder.rebuild_indexes][position].append(usage_point)
        else:
            known[builder.rebuild_readings][position].append(usage_point)
    if new:
        builder.add(new)
    for rebuild, usage_points_by_block in known.items():
        positions = sorted(usage_points_by_block)
        for start in range(0, len(positions), BLOCKS_AT_A_TIME):
            batch = positions[start : start + BLOCKS_AT_A_TIME]
            rebuild([usage_point for position in batch for usage_point in usage_points_by_block[position]])
    return builder.build()


class SamplesBuilder:
    """Blocks while they are rebuilt: a name is written into its own block, or a new one into the last that is not full."""

    def __init__(self, samples: AccountSamples, snapshot: Snapshot, context: SampleContext) -> None:
        self._blocks, self._month_start = list(samples.blocks), samples.month_start
        self._block_positions, self._shared_names = dict(samples.block_positions), dict(samples.shared_names)
        self._snapshot, self._context, self._view = snapshot, context, context.view

    @cached_property
    def _new_positions(self) -> Iterator[int]:
        """The positions of the blocks of new names, one after the other; counted only where there is one."""
        last = max(len(self._blocks) - 1, 0)
        filled = sum(position == last for position in self._block_positions.values())
        return (last + place // USAGE_POINTS_PER_BLOCK for place in count(filled))

    def build(self) -> AccountSamples:
        """Return the samples."""
        return AccountSamples(self._blocks, self._block_positions, self._shared_names, self._month_start)

    def add(self, usage_points: Collection[str]) -> None:
        """Add new usage points in the order of the ledger: neighbours are similar, and compress better."""
        ordered = (point.usage_point for point in self._snapshot.select_usage_points(self._view.account, usage_points))
        while batch := list(islice(ordered, BLOCKS_AT_A_TIME * USAGE_POINTS_PER_BLOCK)):
            self.rebuild(batch)

    def rebuild(self, usage_points: Collection[str] | None) -> None:
        """Rebuild all samples of usage points (None: of all), and of others of the same names."""
        names, usage_points_by_name = self._display_names(usage_points or ()), defaultdict[str, list[str]](list)
        if usage_points is not None:
            usage_points = {*usage_points, *(one for name in names for one in self._shared_names.get(name, [name]))}

        def select_points() -> Iterator[NamedPoint]:
            for point in self._snapshot.select_usage_points(self._view.account, usage_points):
                name = display_name(self._view, point.usage_point)
                usage_points_by_name[name].append(point.usage_point)
                yield name, point

        reader = SampleReader(self._snapshot, self._context)
        self._replace_samples(names, reader, reader.read_usage_points(select_points(), usage_points))
        for name in names:
            self._shared_names.pop(name, None)
            if name not in usage_points_by_name:
                self._block_positions.pop(name, None)
        self._shared_names |= {name: alike for name, alike in usage_points_by_name.items() if alike != [name]}

    def rebuild_readings(self, usage_points: Collection[str]) -> None:
        """Rebuild the samples of readings of known usage points, each the only one of its name."""
        names, reader = self._display_names(usage_points), SampleReader(self._snapshot, self._context)
        self._replace_samples(names, reader, reader.read_readings(usage_points), READING_INDEPENDENT_FAMILIES)

    def rebuild_indexes(self, usage_points: Collection[str]) -> None:
        """Rebuild the samples of indexes of known usage points that have nothing else but derived days."""
        names, reader = self._display_names(usage_points), SampleReader(self._snapshot, self._context)
        self._replace_samples(names, reader, reader.read_indexes(usage_points), READING_INDEPENDENT_FAMILIES | PERIOD_FAMILIES)

    def _display_names(self, usage_points: Iterable[str]) -> set[str]:
        return {display_name(self._view, usage_point) for usage_point in usage_points}

    def _replace_samples(
        self, names: Set[str], reader: SampleReader, samples: Iterable[Sample], unchanged_families: Set[str] = frozenset()
    ) -> None:
        """Make these the samples of these names; of two with the same labels (equal names) the first is kept."""
        changed = {self._block_positions[name] for name in names if name in self._block_positions}
        drafts = defaultdict[int, Samples](lambda: defaultdict(dict))
        current: str | None = None
        draft: Samples = {}
        for family, labels, value in samples:
            if labels[1] != current:
                current = labels[1]
                draft = drafts[self._find_position(current)]
            draft[family].setdefault(labels, value)
        peaks = defaultdict[int, dict[LabelValues, MonthlyPeakHistory]](dict)
        for key, history in reader.monthly_peaks.items():
            peaks[self._block_positions[key[1]]][key] = history
        for position in sorted(changed | drafts.keys()):
            if position == len(self._blocks):
                self._blocks.append(SampleBlock())
            self._blocks[position] = self._blocks[position].replace_usage_points(
                names, drafts.pop(position, {}), peaks[position], unchanged_families
            )

    def _find_position(self, name: str) -> int:
        position = self._block_positions.get(name)
        if position is None:
            position = self._block_positions[name] = next(self._new_positions)
        return position
