"""What prometheus_client does for the page: the head of each family, text or OpenMetrics."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.metrics.families import BY_NAME, Family, Kind

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = CONTENT_TYPE_LATEST
EOF = b"# EOF\n"


def render(registry: CollectorRegistry, content_type: str) -> bytes:
    """Render a registry in one of the two forms, by the library."""
    return bytes(generate_openmetrics(registry)) if content_type == OPENMETRICS else generate_latest(registry)  # type: ignore[no-untyped-call]  # the library has no types there


def written(metric: Metric, content_type: str) -> bytes:
    """Render one family, by the library."""
    alone = CollectorRegistry()
    alone.register(_One(metric))
    return render(alone, content_type).removesuffix(EOF)


@cache
def header(family: str, content_type: str) -> bytes:
    """Give the HELP and TYPE lines of one of our families, as the library writes them."""
    return written(metric(BY_NAME[family]), content_type)


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


@dataclass(frozen=True, slots=True, eq=False)
class _One:
    """A collector of one family."""

    metric: Metric

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield self.metric


def metric(family: Family) -> Metric:
    """Make the library's family out of ours."""
    labels = list(family.labels)
    match family.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=labels)
        case Kind.INFO:
            return InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=labels)
    return GaugeMetricFamily(family.name, family.help, labels=labels)
