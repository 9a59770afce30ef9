"""What prometheus_client does for the page: the head of each family, text or OpenMetrics."""

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
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.utils import floatToGoString

from exporter.metrics.families import FAMILIES_BY_NAME, LabelValues, MetricFamily, MetricType

MINUS_INFINITY = -math.inf
EXPONENT_FROM = 1e6
"""From here on the library writes an exponent where Python does not."""


def format_value(value: float) -> str:
    """Write a value."""
    value = float(value)
    return repr(value) if MINUS_INFINITY < value < EXPONENT_FROM else str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library has no types there


@cache
def build_line_prefixer(family: str) -> Callable[[LabelValues], str]:
    """Give what writes the start of a family's lines, up to and with the blank before the value."""
    shape, pick, quotes = _build_line_format(FAMILIES_BY_NAME[family])

    def start(labels: LabelValues) -> str:
        line: str = shape % pick(labels)
        if "\\" in line or "\n" in line or line.count('"') != quotes:
            line = shape % tuple(map(_escape, pick(labels)))
        return line

    return start


def format_lines(family: str, values: Mapping[LabelValues, float]) -> list[str]:
    """Write a family's samples, each without its line's end."""
    start = build_line_prefixer(family)
    return [f"{start(labels)}{format_value(value)}" for labels, value in values.items()]


def parse_labels(family: str, text: str) -> list[LabelValues]:
    """Read the labels of a family's lines, each with its end, back out of them."""
    pieces = _split_quoted(text)
    return list(zip(*(_select_column(family, label, pieces) for label in FAMILIES_BY_NAME[family].labels), strict=True))


def parse_usage_points(family: str, text: str) -> list[str]:
    """Read only the names of the usage points back out of them."""
    return _select_column(family, "usage_point", _split_quoted(text))


def _split_quoted(text: str) -> list[str]:
    """Give what stands between labels, and their values, in turn."""
    if "\\" not in text:
        return text.split('"')
    pieces = _QUOTED_PATTERN.split(text)
    pieces[1::2] = map(_unescape, pieces[1::2])
    return pieces


def _select_column(family: str, label: str, pieces: list[str]) -> list[str]:
    order = sorted(FAMILIES_BY_NAME[family].labels)
    return pieces[2 * order.index(label) + 1 :: 2 * len(order)]


def _build_line_format(family: MetricFamily) -> tuple[str, Callable[[LabelValues], tuple[str, ...]], int]:
    """Give the shape of a line, what picks the label values in the order of their names, and how many quotes it has."""
    order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
    pairs = ",".join(f'{family.labels[place]}="%s"' for place in order)
    pick = itemgetter(*order) if len(order) > 1 else tuple
    return f"{family.name}{{{pairs}}} " if pairs else f"{family.name} ", pick, 2 * len(order)


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
GZIP_LEVEL = 1
"""The lines of a page are so alike that higher levels take three times as long for a tenth less."""
GZIP_WBITS = 31
SMALL_BYTES, SMALL_WBITS, SMALL_MEMORY_LEVEL = 16 * 1024, 29, 6
"""Up to this size a small table does, which is made in a third of the time: what moves is compressed at each scrape."""


def compress_member(text: bytes) -> bytes:
    """Compress a part into a member of its own; the same text gives the same bytes."""
    if len(text) > SMALL_BYTES:
        return _compress(text, GZIP_LEVEL, GZIP_WBITS)
    if not text:
        return b""
    small = _compressobj(GZIP_LEVEL, zlib.DEFLATED, SMALL_WBITS, SMALL_MEMORY_LEVEL)
    return bytes(small.compress(text) + small.flush())


OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = CONTENT_TYPE_LATEST
OPENMETRICS_EOF = b"# EOF\n"


def render_registry(registry: CollectorRegistry, content_type: str) -> bytes:
    """Render a registry in one of the two forms, by the library."""
    return bytes(generate_openmetrics(registry)) if content_type == OPENMETRICS else generate_latest(registry)  # type: ignore[no-untyped-call]  # the library has no types there


def render_family(metric: Metric, content_type: str) -> bytes:
    """Render one family, by the library."""
    alone = CollectorRegistry()
    alone.register(_SingleMetricCollector(metric))
    return render_registry(alone, content_type).removesuffix(OPENMETRICS_EOF)


@cache
def render_header(family: str, content_type: str) -> bytes:
    """Give the HELP and TYPE lines of one of our families, as the library writes them."""
    return render_family(build_metric(FAMILIES_BY_NAME[family]), content_type)


def negotiate(accept: str | None) -> str:
    """Choose the form by an Accept header: OpenMetrics when it is preferred, text for anything strange."""
    best = {"openmetrics": 0.0, "text": 0.0}
    for part in (accept or "").split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        version = next((value for value in parameters if value.startswith("version=")), "")
        if kind == "application/openmetrics-text" and version.strip('version="') in ("", "1.0.0", "0.0.1"):
            best["openmetrics"] = max(best["openmetrics"], _parse_quality(parameters))
        elif kind in ("text/plain", "text/*", "*/*"):
            best["text"] = max(best["text"], _parse_quality(parameters))
    wanted = best["openmetrics"]
    return (
        OPENMETRICS
        if wanted and (wanted > best["text"] or (wanted == best["text"] and _names_openmetrics_first(accept or "")))
        else TEXT
    )


def _parse_quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if match := re.fullmatch(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", parameter):
            return min(float(match[1]), 1.0)
        if parameter.startswith("q"):
            return 0.0
    return 1.0


def _names_openmetrics_first(accept: str) -> bool:
    """Of two forms wanted alike, say whether OpenMetrics is named first."""
    accept = accept.lower()
    others = [place for kind in ("text/plain", "text/*", "*/*") if (place := accept.find(kind)) >= 0]
    return not others or accept.find("application/openmetrics-text") < min(others)


@dataclass(frozen=True, slots=True, eq=False)
class _SingleMetricCollector:
    """A collector of one family."""

    metric: Metric

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield self.metric


def build_metric(family: MetricFamily) -> Metric:
    """Make the library's family out of ours."""
    labels = list(family.labels)
    match family.type:
        case MetricType.COUNTER:
            return CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=labels)
        case MetricType.INFO:
            return InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=labels)
    return GaugeMetricFamily(family.name, family.help, labels=labels)
