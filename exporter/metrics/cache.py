"""Lines that are kept: those of one family for a run of usage points, as text and as gzip."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, count, islice
from operator import add, ne
from typing import Self

from exporter.ledger.ledger import Snapshot
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.aggregates import (
    READING_INDEPENDENT_FAMILIES,
    MonthlyPeakHistory,
    SampleDraft,
    aggregate_readings,
    aggregate_usage_points,
    display_name,
)
from exporter.metrics.exposition import (
    build_line_prefixer,
    compress_member,
    format_lines,
    format_value,
    parse_labels,
    parse_usage_points,
)
from exporter.metrics.families import AccountView, LabelValues, Samples

MIN_OWN_MEMBER_BYTES = 16 * 1024
"""A sheet from this many bytes on is a gzip member of its own; smaller ones are compressed with their neighbours."""


@dataclass(frozen=True, slots=True, eq=False)
class FamilyLines:
    """Lines, never changed, only replaced. The samples are read back out of them: kept beside, they take twice the room."""

    family: str
    text: bytes
    compressed: bytes | None

    @property
    def labels(self) -> list[LabelValues]:
        """Give the labels of the lines, in their order."""
        return parse_labels(self.family, self.text.decode())

    @property
    def lines(self) -> list[bytes]:
        """Give the lines, without their ends."""
        return self.text.split(b"\n")[:-1]

    @property
    def values(self) -> dict[LabelValues, float]:
        """Give the samples, in the order of the lines."""
        values = (float(line[line.rindex(b" ") :]) for line in self.lines)
        return dict(zip(self.labels, values, strict=True))

    @classmethod
    def from_samples(cls, family: str, values: Mapping[LabelValues, float]) -> Self | None:
        """Write a sheet; None without lines."""
        return cls._build(family, "\n".join([*format_lines(family, values), ""]).encode()) if values else None

    def replace_usage_points(self, names: Set[str], samples: Mapping[LabelValues, float]) -> Self | None:
        """Give the sheet with what is `told` of the usage points under these names, and with nothing else of them.

        It is this very one where nothing differs. The text is where the starts of the lines are kept: of a known series
        only the number is written anew.
        """
        kept, start = self.lines, build_line_prefixer(self.family)
        found = list(compress(count(), map(names.__contains__, parse_usage_points(self.family, self.text.decode()))))
        known = parse_labels(self.family, b"".join(kept[place] + b"\n" for place in found).decode())
        places = dict(zip(known, found, strict=True))
        for labels, value in samples.items():
            if (place := places.pop(labels, None)) is None:
                kept.append((start(labels) + format_value(value)).encode())
            else:
                line = kept[place]
                kept[place] = line[: line.rindex(b" ") + 1] + format_value(value).encode()
        for place in sorted(places.values(), reverse=True):
            del kept[place]
        text = b"\n".join([*kept, b""])
        return self if text == self.text else self._build(self.family, text) if text else None

    @classmethod
    def _build(cls, family: str, text: bytes) -> Self:
        return cls(family, text, compress_member(text) if len(text) >= MIN_OWN_MEMBER_BYTES else None)


AGE_FAMILY = "utility_reading_age_seconds"
TIMESTAMP_FAMILY = "utility_reading_timestamp_seconds"
_AGE_NAME, _TIMESTAMP_NAME_LENGTH = AGE_FAMILY.encode(), len(TIMESTAMP_FAMILY)
STEPPED_ABOVE = 1000
AGE_STEP = 15
"""The ages of more than `MANY` usage points are those of the last whole `STEP` seconds."""
RENDER_AHEAD_FOR = 300
"""For so many seconds after somebody has asked, ages are written ahead."""


@dataclass(frozen=True, slots=True)
class AgePrefixes:
    """The starts of the lines of some usage points, and the instants (whole seconds since 1970) that their ages count from."""

    prefixes: list[bytes]
    timestamps: list[int]

    @classmethod
    def from_lines(cls, lines: FamilyLines) -> Self:
        """Take them from the sheet of the instants: its lines have the same labels, whatever is escaped in them."""
        cut = [_split_line(line) for line in lines.lines]
        return cls([start for start, _ in cut], [instant for _, instant in cut])

    def update(self, previous: FamilyLines, current: FamilyLines) -> Self:
        """Take them from the sheet that replaced the one they were taken from: only what differs is read."""
        lines = current.lines
        if len(lines) != len(self.prefixes):
            return self.from_lines(current)
        starts, instants = list(self.prefixes), list(self.timestamps)
        for place in compress(count(), map(ne, previous.lines, lines)):
            starts[place], instants[place] = _split_line(lines[place])
        return type(self)(starts, instants)


def _split_line(line: bytes) -> tuple[bytes, int]:
    start, _, instant = line.rpartition(b" ")
    return _AGE_NAME + start[_TIMESTAMP_NAME_LENGTH:] + b" ", int(float(instant))


class RenderedAges:
    """The ages of a page, as text and as gzip, for the instants at which they are asked."""

    def __init__(self, header: bytes, parts: Iterable[AgePrefixes]) -> None:
        self._header, self._prefixes = header, [part for part in parts if part.prefixes]
        self._age_step = AGE_STEP if sum(len(part.prefixes) for part in self._prefixes) > STEPPED_ABOVE else 1
        self._rendered: dict[tuple[int, bool], bytes] = {}
        self.last_requests: dict[bool, int] = {}
        """gzip or not -> when that was last asked for."""

    def render(self, now: int, *, gzip: bool) -> bytes:
        """Give the ages as of a whole second."""
        self.last_requests[gzip] = now
        key = now - now % self._age_step, gzip
        found = self._rendered.get(key)
        return self._render(key[0], [gzip])[key] if found is None else found

    def render_ahead(self, now: int, step_offsets: Sequence[int] = (0, 1)) -> None:
        """Write beforehand what was asked for of late: this step's ages and the next one's."""
        if self._age_step == 1:
            return
        forms = [gzip for gzip, asked in list(self.last_requests.items()) if now - asked < RENDER_AHEAD_FOR]
        for at in (now - now % AGE_STEP + step * AGE_STEP for step in step_offsets):
            if missing := [gzip for gzip in forms if (at, gzip) not in self._rendered]:
                self._render(at, missing)

    def _render(self, at: int, compressions: Iterable[bool]) -> dict[tuple[int, bool], bytes]:
        text = format_ages(self._header, self._prefixes, at)
        said = {(at, gzip): compress_member(text) if gzip else text for gzip in compressions}
        self._rendered = {key: kept for key, kept in self._rendered.items() if key[0] >= at - AGE_STEP} | said
        return said


def format_ages(header: bytes, parts: Sequence[AgePrefixes], now: int) -> bytes:
    """Write all ages as of a whole second."""
    said = _AgeSuffixes(now)
    return (
        b"".join([header, *(b"".join(map(add, part.prefixes, map(said.__getitem__, part.timestamps))) for part in parts)])
        if parts
        else b""
    )


class _AgeSuffixes(dict[int, bytes]):
    """Instant -> the end of a line: many readings are of one second, and its age is written once."""

    def __init__(self, now: int) -> None:
        self._now = now

    def __missing__(self, instant: int) -> bytes:
        said = self[instant] = format_value(max(self._now - instant, 0)).encode() + b"\n"
        return said


USAGE_POINTS_PER_BLOCK = 500
"""How many usage points a leaf has: few enough that a change costs little, many enough that gzip has something to say."""
BLOCKS_AT_A_TIME = 10


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """All that is said of a run of usage points; never changed, only replaced."""

    lines_by_family: Mapping[str, FamilyLines] = field(default_factory=dict)
    """By family."""
    monthly_peaks: Mapping[LabelValues, MonthlyPeakHistory] = field(default_factory=dict)
    ages: AgePrefixes = field(default_factory=lambda: AgePrefixes([], []))

    def merge_draft(self, names: Set[str], draft: SampleDraft, unchanged_families: Set[str] = frozenset()) -> Self:
        """Say anew what is said of the usage points under these names, but for the families that stand."""
        sheets = dict(self.lines_by_family)
        for family in (self.lines_by_family.keys() | draft.samples.keys()) - unchanged_families:
            before, told = sheets.pop(family, None), draft.samples.get(family, {})
            if sheet := before.replace_usage_points(names, told) if before else FamilyLines.from_samples(family, told):
                sheets[family] = sheet
        months = {labels: peaks for labels, peaks in self.monthly_peaks.items() if labels[1] not in names} | draft.monthly_peaks
        return type(self)(sheets, months, self._update_ages(sheets.get(TIMESTAMP_FAMILY)))

    def _update_ages(self, instants: FamilyLines | None) -> AgePrefixes:
        before = self.lines_by_family.get(TIMESTAMP_FAMILY)
        if instants is None:
            return AgePrefixes([], [])
        return self.ages.update(before, instants) if before else AgePrefixes.from_lines(instants)


class AccountSamples:
    """All that an account's readings say, as lines that are kept, and what a render needs to say the rest.

    Never changed, only replaced.
    """

    def __init__(
        self,
        blocks: Sequence[SampleBlock] = (),
        block_positions: Mapping[str, int] | None = None,
        shared_names: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.blocks = blocks
        self.block_positions: Mapping[str, int] = block_positions or {}
        """Name shown -> the place of its leaf."""
        self.shared_names: Mapping[str, list[str]] = shared_names or {}
        """Name shown -> its usage points, where it is not the name of just one."""
        self.lines_by_family: dict[str, list[FamilyLines]] = defaultdict(list)
        """The kept lines by family, in the order of the page."""
        for leaf in blocks:
            for family, sheet in leaf.lines_by_family.items():
                self.lines_by_family[family].append(sheet)
        self.monthly_peaks = {labels: months for leaf in blocks for labels, months in leaf.monthly_peaks.items()}
        """(account, usage_point) -> its monthly peaks."""

    @property
    def samples(self) -> Samples:
        """Give all samples that are kept, by family and labels."""
        return {
            family: {labels: value for sheet in sheets for labels, value in sheet.values.items()}
            for family, sheets in self.lines_by_family.items()
        }


def build_samples(snapshot: Snapshot, view: AccountView) -> AccountSamples:
    """Work out what the page says of all that an account holds."""
    growth = _SamplesBuilder(AccountSamples())
    growth.rebuild(snapshot, view, None)
    return growth.build()


def update_samples(samples: AccountSamples, snapshot: Snapshot, view: AccountView, changes: LedgerChanges) -> AccountSamples:
    """Work out anew what a visit has changed, and keep the rest.

    A few leaves at a time: what is new of a whole town would for a moment take as much room as the town does already.
    """
    growth = _SamplesBuilder(samples)
    whole, read = defaultdict[int | None, list[str]](list), defaultdict[int | None, list[str]](list)
    for usage_point in changes.usage_points:
        name = display_name(view, usage_point)
        alone = usage_point not in changes.described_usage_points and samples.shared_names.get(name, [name]) == [usage_point]
        place = samples.block_positions.get(name)
        (read if alone and place is not None else whole)[place].append(usage_point)
    if new := whole.pop(None, None):
        growth.add(snapshot, view, new)
    for places, renew in ((whole, growth.rebuild), (read, growth.rebuild_readings)):
        known = sorted(place for place in places if place is not None)
        for start in range(0, len(known), BLOCKS_AT_A_TIME):
            few = known[start : start + BLOCKS_AT_A_TIME]
            renew(snapshot, view, [usage_point for place in few for usage_point in places[place]])
    return growth.build()


class _SamplesBuilder:
    """Leaves while they are renewed: a name is written into its own leaf, or into the last one while that has room."""

    def __init__(self, samples: AccountSamples) -> None:
        self._blocks, self._block_positions, self._shared_names = (
            list(samples.blocks),
            dict(samples.block_positions),
            dict(samples.shared_names),
        )
        self._drafts: dict[int, SampleDraft] = defaultdict(SampleDraft)
        self._last_block = max(len(self._blocks) - 1, 0)

    @cached_property
    def _remaining(self) -> int:
        """How many names the last leaf has room for; counted only where there is a new one."""
        return USAGE_POINTS_PER_BLOCK - sum(place == self._last_block for place in self._block_positions.values())

    def build(self) -> AccountSamples:
        return AccountSamples(self._blocks, self._block_positions, self._shared_names)

    def add(self, snapshot: Snapshot, view: AccountView, usage_points: Collection[str]) -> None:
        """Say new ones in the order in which the ledger met them: neighbours are alike, and gzip makes less of them."""
        ordered = (point.usage_point for point in snapshot.select_usage_points(view.account, usage_points))
        while few := list(islice(ordered, BLOCKS_AT_A_TIME * USAGE_POINTS_PER_BLOCK)):
            self.rebuild(snapshot, view, few)

    def rebuild(self, snapshot: Snapshot, view: AccountView, usage_points: Sequence[str] | None) -> None:
        names = {display_name(view, usage_point) for usage_point in usage_points or ()}
        asked = (
            None
            if usage_points is None
            else {*usage_points, *(one for name in names for one in self._shared_names.get(name, [name]))}
        )
        before = {name: self._block_positions[name] for name in names & self._block_positions.keys()}
        aggregate_usage_points(snapshot, view, self._get_draft, asked)
        self._update_names(before)
        for place in sorted({*self._drafts, *before.values()}):
            if place == len(self._blocks):
                self._blocks.append(SampleBlock())
            self._blocks[place] = self._blocks[place].merge_draft(names, self._drafts.pop(place, SampleDraft()))

    def rebuild_readings(self, snapshot: Snapshot, view: AccountView, usage_points: Sequence[str]) -> None:
        """Renew what readings make of usage points that are known, each the only one of its name."""
        names = {display_name(view, usage_point) for usage_point in usage_points}
        aggregate_readings(snapshot, view, self._get_draft, usage_points)
        for place in sorted({self._block_positions[name] for name in names}):
            self._blocks[place] = self._blocks[place].merge_draft(
                names, self._drafts.pop(place, SampleDraft()), READING_INDEPENDENT_FAMILIES
            )

    def _update_names(self, previous_names: Collection[str]) -> None:
        """Note which usage points stand under the names, and which names are gone."""
        points = {name: under for draft in self._drafts.values() for name, under in draft.usage_points.items()}
        for name in previous_names:
            self._shared_names.pop(name, None)
            if name not in points:
                del self._block_positions[name]
        self._shared_names |= {name: under for name, under in points.items() if under != [name]}

    def _get_draft(self, name: str) -> SampleDraft:
        place = self._block_positions.get(name)
        if place is None:
            if self._remaining <= 0:
                self._last_block, self._remaining = self._last_block + 1, USAGE_POINTS_PER_BLOCK
            self._remaining -= 1
            place = self._block_positions[name] = self._last_block
        return self._drafts[place]
