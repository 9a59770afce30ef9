"""What every process and Python tell of themselves: by the library's collectors, in lines that begin alike at every scrape."""

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

from exporter.metrics.exposition import OPENMETRICS, OPENMETRICS_EOF, format_value, render_family


def _build_registry() -> CollectorRegistry:
    """Make a registry of what every process and Python tells of itself."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


class ProcessMetrics:
    """The end of the page. The library writes a family once; from then on only its numbers are written."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry or _build_registry()
        self._line_prefixes: dict[tuple[str, ...], tuple[str, list[str]]] = {}
        """Form, name and labels of a family -> its head, and the starts of its lines."""

    def render(self, content_type: str) -> bytes:
        """Write it as of now."""
        said = "".join(self._render_family(metric, content_type) for metric in self._registry.collect()).encode()
        return said + OPENMETRICS_EOF if content_type == OPENMETRICS else said

    def _render_family(self, metric: Metric, content_type: str) -> str:
        key = (content_type, metric.name, *(str(part) for one in metric.samples for part in (one.name, one.labels)))
        if (shape := self._line_prefixes.get(key)) is None:
            shape = self._line_prefixes[key] = _build_line_prefixes(metric, content_type)
        head, starts = shape
        return head + "".join(f"{start}{format_value(one.value)}\n" for start, one in zip(starts, metric.samples, strict=True))


def _build_line_prefixes(metric: Metric, content_type: str) -> tuple[str, list[str]]:
    """Have the library write a family, and cut its numbers off."""
    lines = render_family(metric, content_type).decode().split("\n")[:-1]
    head = "".join(f"{line}\n" for line in lines if line.startswith("# "))
    return head, [line[: line.rindex(" ") + 1] for line in lines if not line.startswith("# ")]
