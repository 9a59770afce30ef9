"""The rules as files: what promtool says of them, and what every alert must tell."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest

from exporter.history.series import HISTORY_FAMILIES as TRUE_TIME
from exporter.metrics.families import FAMILIES
from tests.boards import grafana_queries
from tests.boards.servers import FOLDER
from tests.history.programs import find_program

RULES, SETTINGS = FOLDER / "rules.yaml", FOLDER / "settings.yaml"
CASES = sorted(FOLDER.glob("*.test.yaml"))
PROMETHEUS_OWN = {"up", "scrape_duration_seconds", "ALERTS"}
ADDRESS = '{{ with query "utility_runbook:address" }}{{ . | first | label "url" }}{{ end }}#'
VARIABLES = ("job", "instance", "account", "usage_point")
POINT = 'account="a",usage_point="home"'
NAME = r"\b(?:(?:usage_point|register):)?(?:utility|process|python)_[a-z0-9_]+(?::[a-z0-9_]+)?"
"""A metric of ours; a recorded one has colons."""


def rules(kind: str, *files: Any) -> list[dict[str, Any]]:
    """Return the alerts (`alert`) or recorded series (`record`) of rule files."""
    groups = [group for file in files or (RULES, SETTINGS) for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = rules("alert")
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


@pytest.mark.parametrize("words", [("check", "rules", RULES, SETTINGS), ("check", "config", FOLDER / "prometheus.yaml")])
def test_promtool_accepts(words):
    """
    promtool finds no fault in rules, settings and the example configuration.
    """
    done = subprocess.run([find_program("promtool"), *words], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_every_alert_fires_when_it_should_and_not_else():
    """
    `promtool test rules` passes: each case has a series for which the alert fires and others for which it does not; so have the
    expected ends of month and year.
    """
    done = subprocess.run([find_program("promtool"), "test", "rules", *CASES], capture_output=True, text=True, check=False)

    assert len(CASES) == 3

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_month_costs_the_mean_of_a_year_of_peaks(tmp_path):
    """
    Home's costs by month take twelve peaks: not a thirteenth of the last day before that year, and with a 29th of February in it
    not only those since its second day.
    """
    home = grafana_queries.load_dashboard(grafana_queries.FOLDER / "home.json")
    panel = next(one for one in grafana_queries.list_panels(home) if one["title"] == "Cost by month")
    costs = grafana_queries.fill_variables(panel["targets"][0]["expr"], dict.fromkeys(VARIABLES, ".*"), 60_000, 86_400_000)
    # At noon of January 31st of 1970, and 364 days and a half later; then of March 1st of 1971, and on February 29th of 1972.
    cases = [("_x61 9 _x728 5", "396d", "1971-01", 5), ("_x849 9 _x728 5", "790d", "1972-02", 7)]
    tests = [
        {
            "interval": "12h",
            "input_series": [
                {"series": f'utility_measured_peak_kw{{{POINT},resolution="P1M"}}', "values": peaks},
                {"series": f"usage_point:utility_capacity:price_eur{{{POINT}}}", "values": "12x2000"},
            ],
            "promql_expr_test": [
                {
                    "expr": f'({costs}) and on (date) label_replace(vector(1), "date", "{month}", "", "")',
                    "eval_time": at,
                    "exp_samples": [{"labels": f'{{date="{month}",tariff="capacity"}}', "value": mean}],
                }
            ],
        }
        for peaks, at, month, mean in cases
    ]
    file = tmp_path / "costs.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "12h", "tests": tests}))
    done = subprocess.run([find_program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@each_alert
def test_an_alert_has_its_cases(alert):
    """
    Each alert is expected to fire for one series, in a case with another series of the same family for which it does not.
    """
    name, fires, spares = alert["alert"], False, False
    for case in (case for file in CASES for case in yaml.safe_load(file.read_text())["tests"]):
        expected = [one for one in case.get("alert_rule_test", ()) if one["alertname"] == name]
        firing = sum(len(one["exp_alerts"]) for one in expected)
        for one in case.get("promql_expr_test", ()):
            if mentions(one["expr"], name):
                labels = [sample["labels"] for sample in one["exp_samples"]]
                firing += sum("alertname" not in text or f'alertname="{name}"' in text for text in labels)
        fires |= firing > 0
        spares |= firing > 0 and count_series_of_largest_family(case) > firing

    assert fires
    assert spares


def mentions(expression: str, alert: str) -> bool:
    """Return whether an expression looks at the firing of an alert, by name or with all others."""
    named = re.search(r'alertname(=~?)"([^"]+)"', expression)
    return "ALERTS" in expression and (named is None or re.fullmatch(named[2], alert) is not None)


def count_series_of_largest_family(case: dict[str, Any]) -> int:
    """Count the series of the family that has most of them."""
    families = [one["series"].partition("{")[0] for one in case["input_series"]]
    return max(families.count(family) for family in families)


@each_alert
def test_an_alert_says_what_people_need(alert):
    """
    A severity, a summary that is fixed text, a description with labels, and an entry in the runbook.
    """
    annotations = alert["annotations"]
    headings = re.findall(r"^### (\w+)$", (grafana_queries.ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)

    assert re.fullmatch(r"Utility[A-Z]\w+", alert["alert"])
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert re.fullmatch(r"[A-Z][^{}]+\.", annotations["summary"])
    assert "{{" in annotations["description"]
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"].startswith(ADDRESS)
    assert annotations["runbook_url"].removeprefix(ADDRESS) in {heading.lower() for heading in headings}


def test_one_line_says_where_the_runbook_is():
    """
    The address of the runbook is a full one, stands once in settings.yaml, and an alert's link is made of it.
    """
    addresses = [rule["labels"]["url"] for rule in rules("record", SETTINGS) if rule["record"] == "utility_runbook:address"]
    cases = "".join(file.read_text() for file in CASES)

    assert len(addresses) == 1
    assert re.fullmatch(r"https://.+/runbook\.md", addresses[0])
    assert f"runbook_url: {addresses[0]}#utilityexporterdown" in cases


def test_no_example_takes_one_of_our_labels():
    """
    A label that the documentation adds to series is none that they have: `site` is the exporter's own.
    """
    labels = {label for family in FAMILIES for label in family.labels}
    added = [
        name
        for file in (grafana_queries.ROOT / "docs").glob("*.md")
        for block in re.findall(r"extra_labels: \{([^}]*)\}", file.read_text())
        for name in re.findall(r"(\w+):", block)
    ]

    assert "site" in labels
    assert added
    assert labels & set(added) == set()


def test_the_runbook_has_no_other_alerts():
    """
    An entry for each alert, and none of alerts that are gone.
    """
    headings = re.findall(r"^### (\w+)$", (grafana_queries.ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)

    assert sorted(headings) == sorted(alert["alert"] for alert in ALERTS)


def test_numbers_of_a_household_are_settings():
    """
    Prices and limits stand in settings.yaml, which has nothing else; each is used by a rule.
    """
    recorded = {rule["record"] for rule in rules("record", SETTINGS)}
    used = " ".join(rule["expr"] for rule in rules("alert", RULES) + rules("record", RULES))

    assert rules("alert", SETTINGS) == []
    assert [name for name in recorded - {"utility_runbook:address"} if name not in used] == []


def known() -> set[str]:
    """Name every metric there is: of the page, of the history, recorded, and of Prometheus itself."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    own = set(re.findall(r"^# TYPE (\w+)", generate_latest(registry).decode(), re.MULTILINE))
    ours = {family.name for family in FAMILIES} | {family.name for family in TRUE_TIME.values()}
    return own | ours | {rule["record"] for rule in rules("record")} | PROMETHEUS_OWN


def test_every_metric_that_is_named_exists():
    """
    Whatever rules, dashboards, the README and the documents name is on the page, in the history, or recorded.
    """
    files = [
        RULES,
        SETTINGS,
        *CASES,
        *grafana_queries.FILES,
        grafana_queries.ROOT / "README.md",
        *(grafana_queries.ROOT / "docs").glob("*.md"),
    ]
    # A name with a star behind it stands for all that begin so.
    named = {(file.name, name) for file in files for name in re.findall(NAME + r"(?![\w*.:])", file.read_text())}
    beginnings = {(file.name, name) for file in files for name in re.findall(NAME + r"(?=\*)", file.read_text())}
    there = known()

    assert len({name for _, name in named}) > 90
    assert sorted((file, name) for file, name in named if name not in there) == []
    assert [one for one in beginnings if not any(name.startswith(one[1]) for name in there)] == []
