"""From samples to the page's bytes: prometheus_client's families, text or OpenMetrics."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.metrics.derive import Labels, Samples
from exporter.metrics.families import FAMILIES, Family, Kind

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class _Ours:
    samples: Callable[[], list[Samples]]

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        parts = self.samples()
        for family in FAMILIES:
            if found := [part[family.name] for part in parts if part.get(family.name)]:
                yield _metric(family, found)


def registry(samples: Callable[[], list[Samples]]) -> CollectorRegistry:
    """Make a registry with our families, and what every process and Python tells of itself."""
    made = CollectorRegistry()
    made.register(_Ours(samples))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def render(registry: CollectorRegistry, content_type: str) -> bytes:
    """Render the whole page in one of the two forms."""
    return bytes(generate_openmetrics(registry)) if content_type == OPENMETRICS else generate_latest(registry)  # type: ignore[no-untyped-call]  # the library has no types there


def negotiate(accept: str | None) -> str:
    """Choose the form by an Accept header: OpenMetrics when it is preferred, text for anything strange."""
    best = {"openmetrics": 0.0, "text": 0.0}
    for part in (accept or "").split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        version = next((value for value in parameters if value.startswith("version=")), "")
        if kind == "application/openmetrics-text" and version.strip('version="') in ("", "1.0.0", "0.0.1"):
            best["openmetrics"] = max(best["openmetrics"], _quality(parameters))
        elif kind in ("text/plain", "text/*", "*/*"):
            best["text"] = max(best["text"], _quality(parameters))
    wanted = best["openmetrics"]
    return OPENMETRICS if wanted and (wanted > best["text"] or (wanted == best["text"] and _first(accept or ""))) else TEXT


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if match := re.fullmatch(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", parameter):
            return min(float(match[1]), 1.0)
        if parameter.startswith("q"):
            return 0.0
    return 1.0


def _first(accept: str) -> bool:
    """Of two forms wanted alike, say whether OpenMetrics is named first."""
    accept = accept.lower()
    others = [place for kind in ("text/plain", "text/*", "*/*") if (place := accept.find(kind)) >= 0]
    return not others or accept.find("application/openmetrics-text") < min(others)


def _metric(family: Family, parts: list[dict[Labels, float]]) -> Metric:
    labels = list(family.labels)
    match family.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=labels)
            for values, number in _each(parts):
                counter.add_metric(values, number)
            return counter
        case Kind.INFO:
            info = InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=labels)
            for values, _ in _each(parts):
                info.add_metric(values, {})
            return info
    gauge = GaugeMetricFamily(family.name, family.help, labels=labels)
    for values, number in _each(parts):
        gauge.add_metric(values, number)
    return gauge


def _each(parts: list[dict[Labels, float]]) -> Iterator[tuple[Labels, float]]:
    return (sample for part in parts for sample in part.items())
