"""The page as bytes, text or OpenMetrics, plain or gzip: lines of families, ages, and what is joined of them.

Problem: a page of 100,000 usage points has 20 MB; formatting or compressing it takes seconds, and it is asked for every few
seconds. Only the ages of readings differ between two scrapes.

Idea: the lines of a family are kept as text and as a gzip member of their own (`FamilyLines`), so that a page is the
concatenation of members. What of an age line never changes is kept too (`AgePrefixes`); the lines of the next seconds are made
before anybody asks (`RenderedAges`). `PageBody` joins them, for each content type that was asked for.

Invariants: lines are never changed, only replaced, so a scrape needs no lock; the samples can be read back from the lines; a
line is to the byte what prometheus_client writes.
"""

import math
import re
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import compress, count
from operator import add, is_, itemgetter, ne
from typing import Any, Self

from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.metrics.families import (
    AGE_FAMILY,
    FAMILIES,
    FAMILIES_BY_NAME,
    PERIOD_FAMILIES,
    TIMESTAMP_FAMILY,
    LabelValues,
    MetricFamily,
)

TEXT = CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS_EOF = b"# EOF\n"
GZIP_LEVEL, GZIP_WBITS = 1, 31
"""The lines of a page are so similar that higher levels take three times as long to save a tenth."""
SMALL_TABLE_MAX_BYTES, SMALL_TABLE_WBITS, SMALL_TABLE_MEMORY_LEVEL = 16 * 1024, 29, 6
"""Up to this size a small hash table suffices, built in a third of the time: the tail is compressed at each scrape."""
MINUS_INFINITY, EXPONENT_FROM = -math.inf, 1e6
"""From this value on the library writes an exponent where Python does not."""
MIN_OWN_MEMBER_BYTES = 16 * 1024
"""Lines of at least this size are a gzip member of their own."""
SHARED_MEMBER_BYTES = 1 << 20
"""Smaller ones share a member up to about this size; of so many lines of families that seldom change no text is kept."""
STEPPED_ABOVE = 1000
AGE_STEP = 15
"""The ages of more than `STEPPED_ABOVE` usage points are those of the last whole `AGE_STEP` seconds."""
RENDER_AHEAD_FOR = 300
"""Seconds after a request for which ages are rendered ahead."""
HISTORY_FAMILIES = "utility_history_start_timestamp_seconds", "utility_history_missing_days"
FamilyLinesByName = Mapping[str, Sequence["FamilyLines"]]
"""The kept lines of an account by family, in the order of the page."""
KeptPart = tuple[Sequence["GzipMember"], bytes]
"""The kept part of a page in pieces, and as gzip."""
_AGE_NAME, _TIMESTAMP_NAME_LENGTH = AGE_FAMILY.encode(), len(TIMESTAMP_FAMILY)
_VALUE_PATTERN = re.compile(rb" [^ \n]+\n")
_QUOTED_PATTERN = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE_PATTERN = re.compile(r"\\(.)")
_gzip: Any
try:
    _gzip = import_module("isal.isal_zlib")
except ImportError:
    _gzip = zlib


def format_value(value: float) -> str:
    """Return a value in the exposition format."""
    value = float(value)
    return repr(value) if MINUS_INFINITY < value < EXPONENT_FROM else str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library has no types there


def format_lines(family: str, values: Mapping[LabelValues, float]) -> list[str]:
    """Return a family's samples as lines, without line ends."""
    format_prefix = build_prefixer(family)
    return [f"{format_prefix(labels)}{format_value(value)}" for labels, value in values.items()]


@cache
def build_prefixer(family: str) -> Callable[[LabelValues], str]:
    """Return a function that formats a family's line up to and with the space before the value."""
    labels = FAMILIES_BY_NAME[family].labels
    order = sorted(range(len(labels)), key=labels.__getitem__)
    select, quotes = itemgetter(*order) if len(order) > 1 else tuple, 2 * len(order)
    pairs = ",".join(f'{labels[index]}="%s"' for index in order)
    template = f"{family}{{{pairs}}} " if pairs else f"{family} "

    def format_prefix(labels: LabelValues) -> str:
        line: str = template % select(labels)
        if "\\" in line or "\n" in line or line.count('"') != quotes:
            line = template % tuple(map(_escape, select(labels)))
        return line

    return format_prefix


def parse_columns(family: str, text: bytes, names: Sequence[str] = ()) -> list[list[str]]:
    """Return the values of these labels, or of all, of a family's lines."""
    order, pieces = sorted(FAMILIES_BY_NAME[family].labels), _split_quoted(text.decode())
    return [pieces[2 * order.index(name) + 1 :: 2 * len(order)] for name in names or FAMILIES_BY_NAME[family].labels]


def compress_member(text: bytes) -> bytes:
    """Return a text as a gzip member of its own; equal texts give equal bytes."""
    if len(text) > SMALL_TABLE_MAX_BYTES:
        return bytes(_gzip.compress(text, GZIP_LEVEL, GZIP_WBITS))
    if not text:
        return b""
    compressor = _gzip.compressobj(GZIP_LEVEL, zlib.DEFLATED, SMALL_TABLE_WBITS, SMALL_TABLE_MEMORY_LEVEL)
    return bytes(compressor.compress(text) + compressor.flush())


def decompress_member(member: bytes) -> bytes:
    """Return the text of a gzip member."""
    return bytes(_gzip.decompress(member, GZIP_WBITS))


def render_registry(registry: Collector, content_type: str) -> bytes:
    """Return what a registry collects in one of the two formats, rendered by the library."""
    return bytes(generate_openmetrics(registry)) if content_type == OPENMETRICS else generate_latest(registry)  # type: ignore[no-untyped-call]  # the library has no types there


@cache
def render_header(family: str, content_type: str) -> bytes:
    """Return the HELP and TYPE lines of one of our families, rendered by the library."""
    collector = _SingleMetricCollector(build_metric(FAMILIES_BY_NAME[family]))
    return render_registry(collector, content_type).removesuffix(OPENMETRICS_EOF)


def build_metric(family: MetricFamily) -> Metric:
    """Return one of our families as a metric of the library, which appends `_total` and `_info` itself."""
    return Metric(family.name.removesuffix("_total").removesuffix("_info"), family.help, family.type)


@dataclass(frozen=True, slots=True, eq=False)
class GzipMember:
    """Lines as text and as a gzip member."""

    kept_text: bytes | None
    """The text; None where it is made from the compressed one when it is needed: of many lines of `PERIOD_FAMILIES`."""
    compressed: bytes

    @property
    def text(self) -> bytes:
        """The lines as text."""
        return decompress_member(self.compressed) if self.kept_text is None else self.kept_text


@dataclass(frozen=True, slots=True, eq=False)
class FamilyLines(GzipMember):
    """The lines of one family in a block, never changed, only replaced; `compressed` is empty where they share a member."""

    family: str

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
            return cls(text, b"", family)
        return cls(None if family in PERIOD_FAMILIES else text, compress_member(text), family)


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
    def from_lines(cls, lines: FamilyLines | None) -> Self:
        """Return the prefixes of the timestamp lines: they have the same labels, escaped in the same form."""
        if lines is None:
            return cls()
        split = [_split_line(line) for line in lines.lines]
        return cls(b"\n".join(prefix for prefix, _ in split), array("q", [timestamp for _, timestamp in split]))

    def update(self, previous: FamilyLines | None, current: FamilyLines | None) -> Self:
        """Return the prefixes of lines that replaced the previous ones; only lines that differ are parsed."""
        if previous is None or current is None or len(lines := current.lines) != len(self.timestamps):
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


@dataclass(frozen=True, slots=True)
class HistoryTotals:
    """The histories of some usage points: when the oldest known day began, and how many days are missing of all."""

    start: float | None = None
    missing_days: int = 0

    @classmethod
    def from_lines(cls, starts: FamilyLines | None, missing: FamilyLines | None) -> Self:
        """Return the totals of lines of `HISTORY_FAMILIES`."""
        return cls(min(starts.numbers) if starts else None, round(sum(missing.numbers)) if missing else 0)


class RenderedAges:
    """The ages of a page, as text and gzip, rendered for the instants at which they are requested."""

    def __init__(self, parts: Sequence[AgePrefixes] = (), last_requests: Mapping[bool, int] | None = None) -> None:
        self._parts = parts
        self._age_step = AGE_STEP if sum(len(part.timestamps) for part in self._parts) > STEPPED_ABOVE else 1
        self._rendered: dict[tuple[int, bool], bytes] = {}
        self._last_requests: dict[bool, int] = dict(last_requests or {})
        """gzip or not -> the last request for it."""

    def replace_parts(self, parts: Sequence[AgePrefixes]) -> Self:
        """Return other ages, rendered ahead in the compressions that were requested of these."""
        return type(self)(parts, self._last_requests)

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


class PageBody:
    """The page without its tail, made of what is kept of all accounts; a family's lines are adjacent, whatever the account."""

    def __init__(
        self,
        accounts: Sequence[FamilyLinesByName] = (),
        ages: RenderedAges | None = None,
        content_types: Iterable[str] = (),
    ) -> None:
        self._accounts, self.ages = accounts, ages or RenderedAges()
        self._kept: dict[str, KeptPart] = {content_type: _join_kept(content_type, accounts) for content_type in content_types}

    def replace_lines(self, accounts: Sequence[FamilyLinesByName], ages: Sequence[AgePrefixes]) -> Self:
        """Return a body of other lines, ready for the content types that were requested of this one."""
        return type(self)(accounts, self.ages.replace_parts(ages), list(self._kept))

    def is_current(self, accounts: Sequence[FamilyLinesByName]) -> bool:
        """Return whether the body was made of these very lines."""
        return len(accounts) == len(self._accounts) and all(map(is_, accounts, self._accounts))

    def render(self, content_type: str, now: int, *, compress: bool) -> list[bytes]:
        """Return the body in parts."""
        if (kept := self._kept.get(content_type)) is None:
            kept = self._kept[content_type] = _join_kept(content_type, self._accounts)
        parts = [kept[1]] if compress else [piece.text for piece in kept[0]]
        return [*parts, self.ages.render(now, gzip=compress)]


def _split_quoted(text: str) -> list[str]:
    """Return the text between label values, and the values, in turn."""
    if "\\" not in text:
        return text.split('"')
    pieces = _QUOTED_PATTERN.split(text)
    pieces[1::2] = map(_unescape, pieces[1::2])
    return pieces


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _unescape(text: str) -> str:
    return _ESCAPE_PATTERN.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _split_line(line: bytes) -> tuple[bytes, int]:
    prefix, _, timestamp = line.rpartition(b" ")
    return _AGE_NAME + prefix[_TIMESTAMP_NAME_LENGTH:] + b" ", int(float(timestamp))


@dataclass(frozen=True, slots=True)
class _SingleMetricCollector(Collector):
    metric: Metric

    def collect(self) -> Iterable[Metric]:
        return [self.metric]


class _AgeSuffixes(dict[int, bytes]):
    """Timestamp -> the end of a line: many readings have the same timestamp, and its age is formatted once."""

    def __init__(self, now: int) -> None:
        self._now = now

    def __missing__(self, timestamp: int) -> bytes:
        suffix = self[timestamp] = format_value(max(self._now - timestamp, 0)).encode() + b"\n"
        return suffix


def _join_kept(content_type: str, accounts: Sequence[FamilyLinesByName]) -> KeptPart:
    pieces = list(_list_pieces(content_type, accounts))
    return pieces, b"".join(piece.compressed for piece in pieces)


def _list_pieces(content_type: str, accounts: Sequence[FamilyLinesByName]) -> Iterator[GzipMember]:
    """Yield the kept lines with their headers: those with a member of their own, and the small ones between them joined."""
    small, families = bytearray(), set[str]()
    for family in FAMILIES:
        kept = [lines for account in accounts for lines in account.get(family.name, ())]
        small += render_header(family.name, content_type) if kept else b""
        for lines in kept:
            if not lines.compressed:
                small += lines.text
                families.add(family.name)
            if small and (lines.compressed or len(small) >= SHARED_MEMBER_BYTES):
                yield _join_small(bytes(small), families)
                small, families = bytearray(), set()
            if lines.compressed:
                yield lines
    if any(TIMESTAMP_FAMILY in account for account in accounts):
        small += render_header(AGE_FAMILY, content_type)
    if small:
        yield _join_small(bytes(small), families)


def _join_small(text: bytes, families: Set[str]) -> GzipMember:
    is_compact = len(text) >= SHARED_MEMBER_BYTES and families <= PERIOD_FAMILIES
    return GzipMember(None if is_compact else text, compress_member(text))
