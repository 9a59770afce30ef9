"""VictoriaMetrics under the boards: it can be chosen as a data source, it answers every query, and vmalert reads the rules."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.boards import grafana_queries, servers
from tests.boards.backfill import add_scrape_labels
from tests.boards.conftest import DashboardStack, get_open_metrics
from tests.boards.test_data import ask, everything, has_values, repeated_queries
from tests.history.programs import find_program, free_port

pytestmark = pytest.mark.xdist_group("prometheus")
DAYS = 'utility_interval_consumption_m3{resolution="P1D"}[40d]'
PAGES = (*(grafana_queries.ROOT / "docs").glob("*.md"), grafana_queries.ROOT / "README.md")


def list_data_sources() -> Iterator[dict[str, Any]]:
    """Return the data sources that a file or a page of the documentation provisions."""
    texts = [file.read_text() for file in (grafana_queries.ROOT / "grafana" / "provisioning").glob("datasources/*")]
    texts += [block for page in PAGES for block in re.findall(r"(?ms)^```yaml\n(.*?)^```", page.read_text())]
    for text in texts:
        if "datasources:" in text:
            yield from yaml.safe_load(text)["datasources"]


def find_references(part: Any) -> Iterator[Any]:
    """Return what every panel, query, variable and annotation of a board names as its data source."""
    if isinstance(part, dict):
        yield from (value for name, value in part.items() if name == "datasource")
        yield from (found for value in part.values() for found in find_references(value))
    elif isinstance(part, list):
        yield from (found for value in part for found in find_references(value))


@pytest.mark.parametrize("file", grafana_queries.FILES, ids=lambda file: file.stem)
def test_victoria_metrics_can_be_chosen(file: Path):
    """
    A board's variable offers data sources of one type, that of Prometheus and of VictoriaMetrics as it is documented, and what is
    chosen there is what every part of the board uses.
    """
    board = grafana_queries.load_dashboard(file)
    variable = board["templating"]["list"][0]
    sources = {one["name"]: one["type"] for one in list_data_sources()}
    references = list(find_references(board))

    assert sources.keys() == {"Prometheus", "VictoriaMetrics"}
    assert set(sources.values()) == {variable["query"]}
    assert not variable.get("regex")
    assert len(references) > 2 * len(grafana_queries.list_panels(board))
    assert [one for one in references if one != {"type": variable["query"], "uid": f"${{{variable['name']}}}"}] == []


@pytest.fixture(scope="module")
def victoria(stack: DashboardStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningServer]:
    """A VictoriaMetrics that has the demo's page of now and of a day before, and its days of volume."""
    port = free_port()
    folder = tmp_path_factory.mktemp("victoria")
    flags = (f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=5y", "-search.latencyOffset=0s", "-search.disableCache")
    command = (find_program("victoria-metrics"), f"-storageDataPath={folder}", *flags)
    with servers.run_server("/health", f"http://127.0.0.1:{port}", *command) as server:
        lines = [line for line in get_open_metrics(stack.exporter).splitlines() if not line.startswith("#")]
        rows = [" ".join(add_scrape_labels(line, stack.exporter.url[7:])) for line in lines]
        now = int(time.time())
        store(server, "prometheus", (f"{row} {at}000" for row in rows for at in range(now - 26 * 3600, now + 300, 240)))
        days = stack.prometheus.get("/api/v1/query", query=DAYS)["result"]
        store(server, "", map(to_line, days))
        assert server.get_page("/internal/force_flush") == ""
        yield server


def store(server: servers.RunningServer, form: str, lines: Iterable[str]) -> None:
    request = urllib.request.Request(f"{server.url}/api/v1/import/{form}".rstrip("/"), "\n".join(lines).encode())
    with urllib.request.urlopen(request, timeout=servers.TIMEOUT) as answer:
        assert answer.status == 204


def to_line(series: dict[str, Any]) -> str:
    """Write a series of Prometheus as VictoriaMetrics takes it."""
    stamps = [round(at * 1000) for at, _ in series["values"]]
    return json.dumps(
        {"metric": series["metric"], "values": [float(value) for _, value in series["values"]], "timestamps": stamps}
    )


def test_every_query_is_answered(stack: DashboardStack, victoria: servers.RunningServer):
    """
    No query of a board is refused, and those that a page and days of volume can answer have values.
    """
    asked, shown = 0, 0
    for file in grafana_queries.FILES:
        board = grafana_queries.load_dashboard(file)
        for query in repeated_queries(stack.prometheus, board, everything(board), 30):
            asked += 1
            shown += has_values(ask(victoria, query))

    assert asked > 200
    assert shown > 100


def test_without_rules_the_comparison_says_so(victoria: servers.RunningServer):
    """
    Where no rules are loaded the line of the year before has the value that stands for it, whatever the number of usage points.
    """
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "home.json")
    panel = grafana_queries.list_panels(board)[0]
    settings = [one for override in panel["fieldConfig"]["overrides"] for one in override["properties"]]
    words = {value for one in settings if one["id"] == "mappings" for mapping in one["value"] for value in mapping["options"]}
    found = {
        one["value"][1]
        for query in grafana_queries.list_queries(
            board | {"panels": [panel]}, everything(board) | {"commodity": "water"}, time.time(), 30
        )
        if query.legend == "Against last year"
        for one in ask(victoria, query)
    }

    assert found == words


def test_every_rule_is_evaluated(stack: DashboardStack, victoria: servers.RunningServer):
    """
    vmalert takes the rules as they are, and VictoriaMetrics has every function in them.
    """
    files = [f"-rule={servers.FOLDER / name}" for name in ("rules.yaml", "settings.yaml")]
    done = subprocess.run([find_program("vmalert"), *files, "-dryRun"], capture_output=True, text=True, check=False, timeout=60)
    for rule in stack.rules:
        victoria.get("/api/v1/query", query=rule["query"])

    assert done.returncode == 0, done.stderr


def test_days_are_the_same(stack: DashboardStack, victoria: servers.RunningServer):
    """
    Each day of water and gas has the bar on VictoriaMetrics that it has on Prometheus.
    """
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "water-and-gas.json")
    queries = [
        query
        for query in grafana_queries.list_queries(board, everything(board), time.time(), 30)
        if query.panel in ("Water by day", "Gas by day")
    ]
    for query in queries:
        ours, theirs = (
            {one["metric"]["shown"]: {at: float(value) for at, value in one["values"]} for one in ask(server, query)}
            for server in (stack.prometheus, victoria)
        )

        assert ours
        assert theirs == {name: pytest.approx(days) for name, days in ours.items()}
