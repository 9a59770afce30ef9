"""The exposition formats, text and OpenMetrics: lines and headers, and gzip."""

import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from operator import itemgetter
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.metrics.families import FAMILIES_BY_NAME, LabelValues, MetricFamily, MetricType

TEXT = CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS_EOF = b"# EOF\n"
GZIP_LEVEL, GZIP_WBITS = 1, 31
"""The lines of a page are so similar that higher levels take three times as long to save a tenth."""
SMALL_BYTES, SMALL_WBITS, SMALL_MEMORY_LEVEL = 16 * 1024, 29, 6
"""Up to this size a small hash table suffices, built in a third of the time: the tail is compressed at each scrape."""
MINUS_INFINITY, EXPONENT_FROM = -math.inf, 1e6
"""From this value on the library writes an exponent where Python does not."""
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


def compress_member(text: bytes) -> bytes:
    """Return a text as a gzip member of its own; equal texts give equal bytes."""
    if len(text) > SMALL_BYTES:
        return bytes(_gzip.compress(text, GZIP_LEVEL, GZIP_WBITS))
    if not text:
        return b""
    compressor = _gzip.compressobj(GZIP_LEVEL, zlib.DEFLATED, SMALL_WBITS, SMALL_MEMORY_LEVEL)
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


@dataclass(frozen=True, slots=True)
class _SingleMetricCollector(Collector):
    metric: Metric

    def collect(self) -> Iterable[Metric]:
        return [self.metric]


def build_metric(family: MetricFamily) -> Metric:
    """Return one of our families as a metric of the library."""
    labels = list(family.labels)
    match family.type:
        case MetricType.COUNTER:
            return CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=labels)
        case MetricType.INFO:
            return InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=labels)
    return GaugeMetricFamily(family.name, family.help, labels=labels)
