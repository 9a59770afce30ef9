"""The exposition formats, as text or OpenMetrics: lines, headers, content negotiation and gzip."""

import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from operator import itemgetter
from types import ModuleType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.utils import floatToGoString

from exporter.metrics.families import FAMILIES_BY_NAME, LabelValues, MetricFamily, MetricType

MINUS_INFINITY = -math.inf
EXPONENT_FROM = 1e6
"""From this value on the library writes an exponent where Python does not."""


def format_value(value: float) -> str:
    """Return a value in the exposition format."""
    value = float(value)
    return repr(value) if MINUS_INFINITY < value < EXPONENT_FROM else str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library has no types there


@cache
def build_line_prefixer(family: str) -> Callable[[LabelValues], str]:
    """Return a function that formats a family's line up to and with the space before the value."""
    template, select, quotes = _build_line_format(FAMILIES_BY_NAME[family])

    def format_prefix(labels: LabelValues) -> str:
        line: str = template % select(labels)
        if "\\" in line or "\n" in line or line.count('"') != quotes:
            line = template % tuple(map(_escape, select(labels)))
        return line

    return format_prefix


def format_lines(family: str, values: Mapping[LabelValues, float]) -> list[str]:
    """Return a family's samples as lines, without line ends."""
    format_prefix = build_line_prefixer(family)
    return [f"{format_prefix(labels)}{format_value(value)}" for labels, value in values.items()]


def parse_labels(family: str, text: str) -> list[LabelValues]:
    """Return the labels of a family's lines; each line has its end."""
    pieces = _split_quoted(text)
    return list(zip(*(_select_column(family, label, pieces) for label in FAMILIES_BY_NAME[family].labels), strict=True))


def parse_usage_points(family: str, text: str) -> list[str]:
    """Return the label `usage_point` of a family's lines."""
    return _select_column(family, "usage_point", _split_quoted(text))


def _split_quoted(text: str) -> list[str]:
    """Return the text between label values, and the values, in turn."""
    if "\\" not in text:
        return text.split('"')
    pieces = _QUOTED_PATTERN.split(text)
    pieces[1::2] = map(_unescape, pieces[1::2])
    return pieces


def _select_column(family: str, label: str, pieces: list[str]) -> list[str]:
    order = sorted(FAMILIES_BY_NAME[family].labels)
    return pieces[2 * order.index(label) + 1 :: 2 * len(order)]


def _build_line_format(family: MetricFamily) -> tuple[str, Callable[[LabelValues], tuple[str, ...]], int]:
    """Return the template of a line, a function that sorts the label values by name, and the number of quotes."""
    order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
    pairs = ",".join(f'{family.labels[index]}="%s"' for index in order)
    select = itemgetter(*order) if len(order) > 1 else tuple
    return f"{family.name}{{{pairs}}} " if pairs else f"{family.name} ", select, 2 * len(order)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _unescape(text: str) -> str:
    return _ESCAPE_PATTERN.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


_QUOTED_PATTERN = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE_PATTERN = re.compile(r"\\(.)")


_engine: ModuleType
try:
    _engine = import_module("isal.isal_zlib")
except ImportError:
    _engine = zlib
_compress: Callable[..., bytes] = _engine.compress
_compressobj: Callable[..., Any] = _engine.compressobj
_decompress: Callable[..., bytes] = _engine.decompress
GZIP_LEVEL = 1
"""The lines of a page are so similar that higher levels take three times as long to save a tenth."""
GZIP_WBITS = 31
SMALL_BYTES, SMALL_WBITS, SMALL_MEMORY_LEVEL = 16 * 1024, 29, 6
"""Up to this size a small hash table suffices, built in a third of the time: dynamic families are compressed at each scrape."""


def compress_member(text: bytes) -> bytes:
    """Return a text as a gzip member of its own; equal texts give equal bytes."""
    if len(text) > SMALL_BYTES:
        return _compress(text, GZIP_LEVEL, GZIP_WBITS)
    if not text:
        return b""
    compressor = _compressobj(GZIP_LEVEL, zlib.DEFLATED, SMALL_WBITS, SMALL_MEMORY_LEVEL)
    return bytes(compressor.compress(text) + compressor.flush())


def decompress_member(member: bytes) -> bytes:
    """Return the text of a gzip member."""
    return _decompress(member, GZIP_WBITS)


OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS_EOF = b"# EOF\n"


def render_registry(registry: CollectorRegistry, content_type: str) -> bytes:
    """Return a registry in one of the two formats, rendered by the library."""
    return bytes(generate_openmetrics(registry)) if content_type == OPENMETRICS else generate_latest(registry)  # type: ignore[no-untyped-call]  # the library has no types there


def render_family(metric: Metric, content_type: str) -> bytes:
    """Return one family, rendered by the library."""
    registry = CollectorRegistry()
    registry.register(_SingleMetricCollector(metric))
    return render_registry(registry, content_type).removesuffix(OPENMETRICS_EOF)


@cache
def render_header(family: str, content_type: str) -> bytes:
    """Return the HELP and TYPE lines of one of our families, rendered by the library."""
    return render_family(build_metric(FAMILIES_BY_NAME[family]), content_type)


@dataclass(frozen=True, slots=True, eq=False)
class _SingleMetricCollector:
    """A collector of one family."""

    metric: Metric

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield self.metric


def build_metric(family: MetricFamily) -> Metric:
    """Return one of our families as a metric of the library."""
    labels = list(family.labels)
    match family.type:
        case MetricType.COUNTER:
            return CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=labels)
        case MetricType.INFO:
            return InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=labels)
    return GaugeMetricFamily(family.name, family.help, labels=labels)
