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

CORE = {"barchart", "bargauge", "gauge", "heatmap", "stat", "table", "timeseries", "trend"}
GRAFANA_12 = 42
"""The schema version that Grafana 12 writes."""
FIRST_SCREEN = 20
"""Rows of Grafana's grid that a screen of 1600 x 900 shows."""
OWN_UNITS = re.compile(r"(prefix|suffix|time):.+")
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
    for link in again["links"]:
        del link["placement"]  # the model adds it by itself

    assert again == board


def test_the_model_drops_what_grafana_does_not_know():
    """
    A misspelt option does not survive the way through the model: the test above can fail.
    """
    plugins.register_default_plugins()
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "home.json")
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
    The datasource is a variable; the others are multi-valued, and "All" is the values there are: another job's process, or a
    usage point of another kind, is never among them. Job and instance are hidden.
    """
    board = grafana_queries.load_dashboard(file)
    datasource, *others = board["templating"]["list"]
    hidden = {one["name"] for one in others if one.get("hide") == 2}

    assert (datasource["type"], datasource["query"]) == ("datasource", "prometheus")
    assert {"job", "instance", "account"} <= {one["name"] for one in others}
    assert {(one["multi"], one["includeAll"], "allValue" in one) for one in others} == {(True, True, False)}
    assert hidden == {"job", "instance", *(("commodity",) if file.stem == "home" else ())}


@each_board
def test_boards_are_linked(file: Path):
    """
    Links to the other boards stand above the panels (Grafana hides those that are placed in the controls' menu), and keep
    variables and time.
    """
    (link,) = grafana_queries.load_dashboard(file)["links"]

    assert (link["type"], link["tags"]) == ("dashboards", ["utility-exporter"])
    assert link["includeVars"]
    assert link["keepTime"]
    assert "placement" not in link


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
    assert {unit for unit in used - known if not OWN_UNITS.fullmatch(unit)} == set()


@each_board
def test_quantities_keep_their_unit(file: Path):
    """
    Grafana's own units turn 11026 kWh into 11 MWh, 5510 euro into 5.51K and hours into days; a unit of our own does not.
    """
    used = set(re.findall(r'"unit": "([^"]*)"', file.read_text())) | column_units(grafana_queries.load_dashboard(file))

    assert used & {"kwatth", "watth", "kwatt", "kvoltamp", "currencyEUR", "h", "short"} == set()


def column_units(board: dict[str, Any]) -> set[str]:
    """Return the units of tables' columns."""
    overrides = [one for panel in grafana_queries.list_panels(board) for one in panel["fieldConfig"]["overrides"]]
    return {one["value"] for override in overrides for one in override["properties"] if one["id"] == "unit"}


@each_board
def test_health_and_age_are_on_the_first_screen(file: Path):
    """
    Whether the rest can be believed is seen without scrolling: how fresh it is, what fails, what alerts.
    """
    first = [panel for panel in grafana_queries.load_dashboard(file)["panels"] if panel["gridPos"]["y"] < FIRST_SCREEN]
    seen = " ".join(target["expr"] for panel in first for target in panel.get("targets", ()))

    assert "ALERTS{" in seen
    assert "utility_up{" in seen
    assert re.search(r"utility_reading_(age_seconds|timestamp_seconds)\{", seen)


@each_board
def test_alerts_are_those_of_what_is_chosen(file: Path):
    """
    Alerts of other accounts are not counted, those of the exporter are; 0 and "the rules are not loaded" differ.
    """
    counts = [
        target["expr"] for panel in stats(file) for target in panel["targets"] if target["expr"].startswith("count(ALERTS{")
    ]

    assert counts
    for expression in expressions(grafana_queries.load_dashboard(file)):
        for matchers in re.findall(r"ALERTS\{([^{}]*)\}", expression):
            assert 'account=~"$account|"' in matchers
    for count in counts:
        assert count.endswith("or 0 * sum(utility_rules:loaded) or vector(-1)")
    assert "rules not loaded" in file.read_text()


def stats(file: Path) -> list[dict[str, Any]]:
    return [panel for panel in grafana_queries.list_panels(grafana_queries.load_dashboard(file)) if panel["type"] == "stat"]


def of_type(file: Path, *types: str) -> list[dict[str, Any]]:
    return [panel for panel in grafana_queries.list_panels(grafana_queries.load_dashboard(file)) if panel["type"] in types]


@each_board
def test_a_stat_panel_has_at_most_four_values(file: Path):
    """
    More would be too small to read: each query has one value (of kWh and m³ one has), or one for each commodity.
    """
    for panel in stats(file):
        legends = {target["legendFormat"] for target in panel["targets"]}

        assert len(legends) <= 4, panel["title"]
        assert {label for legend in legends for label in re.findall(r"\{\{(\w+)\}\}", legend)} <= {"date", "commodity"}


@each_board
def test_red_is_for_something_to_do(file: Path):
    """
    What is not known is not red: the lowest step of thresholds, which a text for nothing gets, has no alarming colour.
    """
    for panel in grafana_queries.list_panels(grafana_queries.load_dashboard(file)):
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["color"] in {"text", "green"}, panel["title"]


@each_board
def test_text_in_tables_has_no_unit(file: Path):
    """
    A column of text would be formatted as a quantity, a meter's number as "541 Quadr": only the queries' columns have units.
    """
    for panel in of_type(file, "table"):
        assert panel["fieldConfig"]["defaults"]["unit"] == "string"


@each_board
def test_tables_fit_the_screen(file: Path):
    """
    The columns of a table are together no wider than its panel on a screen of 1280 pixels, and no heading is cut: what is longer
    than its column has a second line. Grafana draws no column narrower than 50 pixels, whatever its width: the last would be cut.
    """
    for panel in of_type(file, "table"):
        widths = [
            one["value"]
            for override in panel["fieldConfig"]["overrides"]
            for one in override["properties"]
            if one["id"] in ("custom.width", "custom.minWidth")
        ]

        assert len(widths) > 1
        assert min(widths) >= 50, panel["title"]
        assert sum(widths) <= panel["gridPos"]["w"] / 24 * 1280 - 40, panel["title"]
        for override in panel["fieldConfig"]["overrides"]:
            assert {"id": "custom.wrapHeaderText", "value": True} in override["properties"], panel["title"]


@each_board
def test_bars_begin_at_zero_and_are_stacked(file: Path):
    """
    Bars that begin elsewhere lie, and opaque bars side by side at one instant hide each other.
    """
    for panel in of_type(file, "timeseries", "barchart"):
        custom = panel["fieldConfig"]["defaults"]["custom"]
        if panel["type"] == "barchart" or custom.get("drawStyle") == "bars":
            assert custom["axisSoftMin"] == 0, panel["title"]
        if panel["type"] == "timeseries" and custom.get("drawStyle") == "bars":
            assert custom["stacking"]["mode"] == "normal", panel["title"]


@each_board
def test_single_points_can_be_seen(file: Path):
    """
    A line of one point is drawn as a point, unless it is a curve of intervals.
    """
    for panel in of_type(file, "timeseries"):
        custom = panel["fieldConfig"]["defaults"]["custom"]
        if custom["drawStyle"] == "line" and custom.get("lineInterpolation") != "stepAfter":
            assert custom["showPoints"] != "never", panel["title"]


@each_board
def test_legends_are_names(file: Path):
    """
    A number of eighteen digits stands in no legend: usage points are shown by alias, else by commodity and the last digits.
    """
    for panel in grafana_queries.list_panels(grafana_queries.load_dashboard(file)):
        for target in panel["targets"]:
            legend = target["legendFormat"]
            assert "{{usage_point}}" not in legend or "{{site}}" in legend, panel["title"]


@each_board
def test_a_name_has_one_colour(file: Path):
    """
    A series' colour is fixed, or made of its name: the same meter has the same colour in every panel.
    """
    for panel in of_type(file, "timeseries", "barchart", "trend"):
        assert panel["fieldConfig"]["defaults"]["color"]["mode"] == "palette-classic-by-name", panel["title"]


def test_monthly_peaks_cover_a_year():
    """
    A month has one peak: the panel looks back thirteen months, whatever span is chosen.
    """
    (panel,) = (
        one
        for one in grafana_queries.list_panels(grafana_queries.load_dashboard(FOLDER / "electricity.json"))
        if one["title"] == "Monthly peaks"
    )

    assert panel["timeFrom"] == "now-13M"


def test_only_electricity_on_its_board():
    """
    What is summed or drawn on the board of electricity is electricity: gas has kWh too.
    """
    families = r"utility_(consumption_load_kw|interval_consumption_kwh|daily_consumption_kwh|consumption_index_kwh)\{"
    found = [one for one in expressions(grafana_queries.load_dashboard(FOLDER / "electricity.json")) if re.search(families, one)]

    assert len(found) > 5
    for expression in found:
        assert 'commodity="electricity"' in expression or 'register!~"energy|volume"' in expression, expression
    for expression in expressions(grafana_queries.load_dashboard(FOLDER / "electricity.json")):
        for matchers in re.findall(r"utility_(?:register|usage_point)_info\{([^{}]*)\}", expression):
            assert 'commodity="electricity"' in matchers or "|gas|" in matchers, expression


def test_hours_without_a_pause_are_of_water():
    """
    Heating gas flows for days: it is in no list of leaks.
    """
    for name in ("home", "water-and-gas", "fleet"):
        for expression in expressions(grafana_queries.load_dashboard(FOLDER / f"{name}.json")):
            if "usage_point:utility_flow:hours" in expression:
                assert 'commodity="water"' in expression or "usage_point:utility_flow_hours:limit" in expression


def test_home_compares_only_the_same_days():
    """
    No cost or amount stands beside that of a longer period, or of other usage points; totals are of one commodity each.
    """
    home = expressions(grafana_queries.load_dashboard(FOLDER / "home.json"))

    assert not [one for one in home if "utility_previous_month_cost" in one]
    for expression in home:
        if "utility_interval_consumption_kwh" in expression and "tariff" not in expression:
            assert 'commodity="$commodity"' in expression


def test_what_is_not_there_is_not_shown():
    """
    Tiles and graphs of a commodity repeat by the commodities there are.
    """
    repeated = [
        panel
        for panel in grafana_queries.list_panels(grafana_queries.load_dashboard(FOLDER / "home.json"))
        if "${commodity" in panel["title"]
    ]

    assert len(repeated) >= 7
    assert {panel.get("repeat") for panel in repeated} == {"commodity"}


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
                ours = not name.startswith(("usage_point:", "utility_rules:"))
                chosen = 'account=~"$account"' in matchers or matchers.startswith('job=~"$job",instance=~"$instance"')
                assert chosen or not ours, expression
        assert not re.findall(r"rate\([^)]*\[(?!\$__rate_interval\])", expression)


def expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in grafana_queries.list_panels(board) for target in panel["targets"]]


def test_a_map_tells_zero_from_missing():
    """
    Cells of zero are drawn, those of which nothing is known are not.
    """
    maps = [panel for name in ("home", "electricity") for panel in of_type(FOLDER / f"{name}.json", "heatmap")]

    assert len(maps) == 2
    assert {panel["options"]["filterValues"]["le"] for panel in maps} == {-1}
