"""What Grafana does between a dashboard's file and Prometheus: variables filled in, the step chosen, the span aligned."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "grafana" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
SCRAPE_INTERVAL = 60_000
"""Milliseconds: the scrape interval that the provisioned datasource names."""
PANEL_POINTS = 1600
"""A panel of the whole width has so many points."""
# Up to the first number the step is the second, in milliseconds: Grafana's own stairs.
STEPS = (
    (1_500, 1_000), (3_500, 2_000), (7_500, 5_000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000), (45_000, 30_000),
    (90_000, 60_000), (210_000, 120_000), (450_000, 300_000), (750_000, 600_000), (1_050_000, 900_000), (1_500_000, 1_200_000),
    (2_700_000, 1_800_000), (5_400_000, 3_600_000), (9_000_000, 7_200_000), (16_200_000, 10_800_000), (32_400_000, 21_600_000),
    (86_400_000, 43_200_000), (604_800_000, 86_400_000), (1_814_400_000, 604_800_000), (3_628_800_000, 2_592_000_000),
)  # fmt: skip
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class DashboardQuery:
    """A query as Prometheus gets it; `step` in seconds, 0 for an instant query."""

    board: str
    panel: str
    legend: str
    ref_id: str
    expr: str
    start: float
    end: float
    step: float


def load_dashboard(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def list_panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def list_variables(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the variables that are queries."""
    return [one for one in board["templating"]["list"] if one["type"] == "query"]


def list_queries(board: Mapping[str, Any], values: Mapping[str, str], end: float, days: float) -> Iterator[DashboardQuery]:
    """Return every query of a dashboard for the `days` before `end`, with each variable's value put in."""
    for panel in list_panels(board):
        for target in panel["targets"]:
            step = _choose_step(panel, target, days * 86_400_000)
            expr = fill_variables(target["expr"], values, step, days * 86_400, end)
            if target.get("instant"):
                yield DashboardQuery(board["title"], panel["title"], _read_legend(target), target["refId"], expr, end, end, 0)
                continue
            seconds = step / 1000
            start, stop = (at // seconds * seconds for at in (end - days * 86_400, end))
            yield DashboardQuery(
                board["title"], panel["title"], _read_legend(target), target["refId"], expr, start, stop, seconds
            )


def _read_legend(target: Mapping[str, Any]) -> str:
    legend = str(target.get("legendFormat", ""))
    return "" if legend == "__auto" else legend


def fill_variables(expr: str, values: Mapping[str, str], step: int, span: float, end: float = 0) -> str:
    """Put in the variables, Grafana's own among them: the longer names first, as one begins like another."""
    rate = max(step + SCRAPE_INTERVAL, 4 * SCRAPE_INTERVAL)
    own = {
        "__to:date:YYYY": str(datetime.fromtimestamp(end, UTC).year),
        "__interval_ms": str(step),
        "__interval": _format_duration(step),
        "__rate_interval": _format_duration(rate),
        "__range": f"{round(span)}s",
    }
    for name, value in sorted((own | dict(values)).items(), key=lambda one: -len(one[0])):
        expr = expr.replace("${" + name + "}", value).replace(f"${name}", value)
    assert not re.search(r"\$[^1-9]", expr), f"nothing fills in {expr}"
    return expr


def escape_value(value: str) -> str:
    """Write a chosen value so that a regular expression in PromQL's quotes means it."""
    return re.sub(r"([.*+?^${}()|\[\]\\])", r"\\\\\1", value).replace('"', '\\"')


def _choose_step(panel: Mapping[str, Any], target: Mapping[str, Any], span: float) -> int:
    min_interval = _parse_milliseconds(target["interval"]) if target.get("interval") else SCRAPE_INTERVAL
    rough = span / (PANEL_POINTS * panel["gridPos"]["w"] / 24)
    stair = next((step for limit, step in STEPS if rough <= limit), 31_536_000_000)
    return max(stair, min_interval)


def _parse_milliseconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def _format_duration(milliseconds: int) -> str:
    unit = next(name for name in ("d", "h", "m", "s") if milliseconds % UNITS[name] == 0)
    return f"{milliseconds // UNITS[unit]}{unit}"
