"""The metrics of the process and of Python, from the library's collectors, with cached line prefixes."""

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

from exporter.metrics.exposition import OPENMETRICS, OPENMETRICS_EOF, format_value, render_family


def _build_registry() -> CollectorRegistry:
    """Return a registry of the process and Python collectors."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class ProcessMetrics:
    """The end of the page. The library renders a family once; after that only its values are formatted."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or _build_registry()
        self._line_prefixes: dict[tuple[str, ...], tuple[str, list[str]]] = {}
        """Format, name and labels of a family -> its header, and the prefixes of its lines."""

    def render(self, content_type: str) -> bytes:
        """Return the metrics as of now."""
        text = "".join(self._render_family(metric, content_type) for metric in self._registry.collect()).encode()
        return text + OPENMETRICS_EOF if content_type == OPENMETRICS else text

    def _render_family(self, metric: Metric, content_type: str) -> str:
        key = (content_type, metric.name, *(str(part) for sample in metric.samples for part in (sample.name, sample.labels)))
        if (cached := self._line_prefixes.get(key)) is None:
            cached = self._line_prefixes[key] = _build_line_prefixes(metric, content_type)
        header, prefixes = cached
        return header + "".join(
            f"{prefix}{format_value(sample.value)}\n" for prefix, sample in zip(prefixes, metric.samples, strict=True)
        )


def _build_line_prefixes(metric: Metric, content_type: str) -> tuple[str, list[str]]:
    """Return the header of a family and the prefixes of its lines, as rendered by the library."""
    lines = render_family(metric, content_type).decode().split("\n")[:-1]
    header = "".join(f"{line}\n" for line in lines if line.startswith("# "))
    return header, [line[: line.rindex(" ") + 1] for line in lines if not line.startswith("# ")]
