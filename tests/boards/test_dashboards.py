"""The dashboards as files: made by the code, understood by Grafana's own model, and as people expect them."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import BOARDS, FOLDER, text
from tests.boards import grafana_queries

CORE = {"stat", "table", "timeseries", "heatmap", "bargauge"}
GRAFANA_12 = 42
"""The schema version that Grafana 12 writes."""
TOP = ["Accounts that answer", "Oldest reading", "Newest reading", "Alerts", "Access ends", "Series in the history"]
each_board = pytest.mark.parametrize("file", grafana_queries.FILES, ids=lambda file: file.stem)


@pytest.mark.parametrize("name", BOARDS)
def test_the_files_are_what_the_code_makes(name: str):
    """
    Each file is the code's; `python -m grafana.build` writes them anew.
    """

    assert (FOLDER / f"{name}.json").read_text() == text(BOARDS[name]())


def test_there_are_five():
    """
    No file is left that no code makes.
    """

    assert {file.stem for file in grafana_queries.FILES} == set(BOARDS)
    assert len(BOARDS) == 5


@each_board
def test_grafana_knows_every_field(file: Path):
    """
    Read into Grafana's typed model and written again, a dashboard is the same: no field is misspelt or in a wrong place.
    """
    plugins.register_default_plugins()
    board = grafana_queries.load_dashboard(file)
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))

    assert again == board


def test_the_model_drops_what_grafana_does_not_know():
    """
    A misspelt option does not survive the way through the model: the test above can fail.
    """
    plugins.register_default_plugins()
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "overview.json")
    board["panels"][0]["options"]["colourMode"] = "value"

    assert json.loads(JSONEncoder().encode(Dashboard.from_json(board))) != board


@each_board
def test_a_board_is_nobodys_own(file: Path):
    """
    A fixed uid, not editable, no id, no inputs: it works by import and by provisioning, and its schema is Grafana 12's.
    """
    board = grafana_queries.load_dashboard(file)

    assert board["uid"].startswith("utility-")
    assert board["editable"] is False
    assert board["schemaVersion"] == GRAFANA_12
    assert not {"id", "__inputs", "__requires", "version"} & board.keys()
    assert board["tags"] == ["utility-exporter"]
    assert board["description"]


@each_board
def test_variables(file: Path):
    """
    The datasource is a variable; the others are multi-valued, and "All" is `.+`.
    """
    board = grafana_queries.load_dashboard(file)
    datasource, *others = board["templating"]["list"]

    assert (datasource["type"], datasource["query"]) == ("datasource", "prometheus")
    assert {"job", "instance", "account", "usage_point"} <= {one["name"] for one in others}
    assert {(one["multi"], one["includeAll"], one["allValue"]) for one in others} == {(True, True, ".+")}


@each_board
def test_every_panel_explains_itself(file: Path):
    """
    Title, description with a full stop, unit, a word for nothing, thresholds, and a type of Grafana's core.
    """
    for panel in grafana_queries.list_panels(grafana_queries.load_dashboard(file)):
        defaults = panel["fieldConfig"]["defaults"]

        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["type"] in CORE
        assert defaults["unit"]
        assert defaults["noValue"]
        assert defaults["thresholds"]["steps"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


@each_board
def test_grafana_knows_every_unit(file: Path):
    """
    A unit that is no id of Grafana's would be shown as a word behind the number.
    """
    known = {value for name, value in vars(units).items() if name[0].isupper() and isinstance(value, str)}
    used = set(re.findall(r'"unit": "([^"]*)"', file.read_text())) | column_units(grafana_queries.load_dashboard(file))

    assert len(known) > 200
    assert used - known == set()


def column_units(board: dict[str, Any]) -> set[str]:
    """Give the units of tables' columns."""
    overrides = [one for panel in grafana_queries.list_panels(board) for one in panel["fieldConfig"]["overrides"]]
    return {one["value"] for override in overrides for one in override["properties"] if one["id"] == "unit"}


@each_board
def test_health_and_age_come_first(file: Path):
    """
    The first row says whether the rest can be believed.
    """
    first = sorted(
        (panel["gridPos"]["y"], panel["gridPos"]["x"], panel["title"]) for panel in grafana_queries.load_dashboard(file)["panels"]
    )

    assert [title for _, _, title in first[: len(TOP)]] == TOP
    assert {y for y, _, _ in first[: len(TOP)]} == {0}


@each_board
def test_nothing_overlaps(file: Path):
    """
    Panels lie on the grid side by side, and no number is given twice.
    """
    panels = grafana_queries.load_dashboard(file)["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [(one, other) for one, other in combinations(places, 2) if overlap(one, other)]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h")))


@each_board
def test_every_selector_obeys_the_variables(file: Path):
    """
    Each selector matches the account (or, of the process, the instance) by `=~`, and rates are over Grafana's own interval.
    """
    for expression in expressions(grafana_queries.load_dashboard(file)):
        for name, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\{([^{}]*)\}", expression):
            if name != "ALERTS":
                assert 'account=~"$account"' in matchers or matchers.startswith('job=~"$job",instance=~"$instance"'), expression
        assert not re.findall(r"rate\([^)]*\[(?!\$__rate_interval\])", expression)


def expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in grafana_queries.list_panels(board) for target in panel["targets"]]
