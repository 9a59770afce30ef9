"""Every query of every panel and rule, put to a real Prometheus that scrapes the demo and reads its history."""

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.history.series import HISTORY_FAMILIES
from tests.boards import grafana_queries, servers
from tests.boards.conftest import SENDER_QUERIES, DashboardStack
from tests.boards.demo_ledger import TEST_EVERYTHING
from tests.boards.grafana_queries import DashboardQuery

pytestmark = pytest.mark.xdist_group("prometheus")  # one of each program is enough
YEAR = 365.0
ALL = ".+"
SELECTOR = re.compile(r"([a-zA-Z_][a-zA-Z0-9_:]*)(\{[^{}]*\})")
SPAN = YEAR if TEST_EVERYTHING else 30.0
"""Days: with one value of a variable after the other."""


def ask(prometheus: servers.RunningServer, query: DashboardQuery) -> list[Any]:
    """Put a query as Grafana does; gives the series that have values."""
    if query.step:
        span = {"start": query.start, "end": query.end, "step": query.step}
        found = prometheus.get("/api/v1/query_range", query=query.expr, **span)["result"]
    else:
        found = prometheus.get("/api/v1/query", query=query.expr, time=query.end)["result"]
    return list(found)


def everything(board: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: ALL for one in grafana_queries.list_variables(board)}


def seconds_of(prometheus: servers.RunningServer, queries: list[DashboardQuery]) -> float:
    started = time.perf_counter()
    for query in queries:
        ask(prometheus, query)
    return time.perf_counter() - started


@pytest.mark.parametrize("file", grafana_queries.FILES, ids=lambda file: file.stem)
def test_every_panel_has_data(house: DashboardStack, file: Path, capsys: pytest.CaptureFixture[str]):
    """
    With all variables at "All", every query of a dashboard gives data over a year; how long all together take is printed.
    """
    board = grafana_queries.load_dashboard(file)
    queries = list(grafana_queries.list_queries(board, everything(board), time.time(), YEAR))
    empty = [(query.panel, query.ref_id) for query in queries if not ask(house.prometheus, query)]
    took = seconds_of(house.prometheus, queries)
    with capsys.disabled():
        share = 1 - len(empty) / len(queries)
        print(f"\n{file.stem}: {len(queries)} queries over a year, {share:.0%} with data, in {took:.2f} s")  # noqa: T201  # to be seen

    assert len(queries) > 20
    assert empty == []


@pytest.mark.parametrize("file", grafana_queries.FILES, ids=lambda file: file.stem)
def test_every_value_of_every_variable(house: DashboardStack, file: Path):
    """
    With each value of each variable put in, every query is valid, and empty only where the chosen usage points have no series
    of the kind, or the panel says that it needs readings every hour.
    """
    board = grafana_queries.load_dashboard(file)
    hourly = {
        panel["title"]
        for panel in grafana_queries.list_panels(board)
        if "every hour" in panel["fieldConfig"]["defaults"]["noValue"]
    }
    wrong, asked = [], 0
    for name, values in offered(house.prometheus, board).items():
        assert values, f"{name} has no values"
        for value in values:
            filled = everything(board) | {name: grafana_queries.escape_value(value)}
            chosen = filled | {"usage_point": points(house.prometheus, board, filled)}
            now = time.time()
            pairs = zip(
                grafana_queries.list_queries(board, filled, now, SPAN),
                grafana_queries.list_queries(board, chosen, now, SPAN),
                strict=True,
            )
            for query, narrowed in pairs:
                asked += 1
                if query.panel not in hourly and not ask(house.prometheus, query) and could(house.prometheus, narrowed):
                    wrong.append((name, value, query.panel, query.ref_id))

    assert asked > 100
    assert wrong == []


def offered(prometheus: servers.RunningServer, board: dict[str, Any]) -> dict[str, list[str]]:
    """Give each variable's values, as Grafana asks for them; of many, unless all are wanted, one of each portal and kind."""
    found = {}
    for one in grafana_queries.list_variables(board):
        series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"]).groups()  # type: ignore[union-attr]
        known = series_of(prometheus, grafana_queries.fill_variables(series, everything(board), 60_000, 3600))
        if label in ("site", "usage_point") and not TEST_EVERYTHING:
            known = {(labels["portal"], labels["commodity"]): labels for labels in known}.values()
        found[one["name"]] = sorted({labels[label] for labels in known if labels.get(label)})
    return found


def points(prometheus: servers.RunningServer, board: dict[str, Any], filled: dict[str, str]) -> str:
    """Name the usage points that the chosen values leave, as a regular expression."""
    labels = ("job", "instance", "account", "site", "commodity", "usage_point")
    matchers = ",".join(f'{name}=~"{filled[name]}"' for name in labels if name in filled)
    return "|".join(
        grafana_queries.escape_value(labels["usage_point"])
        for labels in series_of(prometheus, f"utility_usage_point_info{{{matchers}}}")
    )


def series_of(prometheus: servers.RunningServer, selector: str) -> Iterable[dict[str, str]]:
    found: Iterable[dict[str, str]] = prometheus.get(
        "/api/v1/series", **{"match[]": selector, "start": time.time() - 3600, "end": time.time()}
    )
    return found


def could(prometheus: servers.RunningServer, query: DashboardQuery) -> bool:
    """Tell whether every selector of a query has series in what it can see."""
    seen = {name + matchers for name, matchers in SELECTOR.findall(query.expr)}
    return all(has_series(prometheus, selector, query.start // 3600, query.end // 3600) for selector in seen)


@cache
def has_series(prometheus: servers.RunningServer, selector: str, start: float, end: float) -> bool:
    span = {"start": start * 3600 - 40 * 86_400, "end": (end + 1) * 3600}
    return bool(prometheus.get("/api/v1/series", **{"match[]": selector}, **span))


def test_every_rule_has_data(house: DashboardStack):
    """
    Every rule is evaluated without a fault; what is recorded has series, and so has every family that an alert looks at.
    """
    groups = house.prometheus.get("/api/v1/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    looked_at = {name for rule in rules for name in names(rule["query"])}

    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
    assert [name for name in recorded if not house.prometheus.query_value(f"count({name})")] == []
    assert len(looked_at) > 40
    assert [name for name in looked_at if not house.prometheus.query_value(f"count(last_over_time({name}[35d]))")] == []


def names(expression: str) -> set[str]:
    """Give the families in an expression."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"\b(?:usage_point:|register:)?utility_[a-z0-9_]+(?::[a-z0-9_]+)?", bare))


def test_the_demos_leak_is_found(house: DashboardStack):
    """
    Of all water only that of the flat that leaks flows without a pause; the portal's own flag alarms where it is up.
    """
    alerts = house.prometheus.get("/api/v1/alerts")["alerts"]
    firing = defaultdict(set)
    for alert in alerts:
        firing[alert["labels"]["alertname"]].add(alert["labels"].get("usage_point"))
    flagged = house.prometheus.get("/api/v1/query", query="utility_divergent_consumption == 1")["result"]

    assert firing["UtilityContinuousFlow"] == {leaking_point()}
    assert firing["UtilityDivergentConsumption"] == {series["metric"]["usage_point"] for series in flagged}


def leaking_point() -> str:
    """Name the point where the simulated building leaks."""
    from exporter.simulators.cem.simulation import CemSimulation

    building = CemSimulation().building
    return building.meter_names()[str(building.counters[building.named_counters["leak"]].meters[0])]


def test_costs_are_amounts_times_prices(house: DashboardStack):
    """
    A month's cost is the sum over registers of what the page says and the price in settings.yaml, to the last cent.
    """
    value = house.prometheus.query_value
    for point, price in (("home water", 5.80), ("home gas", 0.09)):
        unit = "m3" if price > 1 else "kwh"
        amount = value(f'sum(utility_monthly_consumption_{unit}{{usage_point="{point}"}})')
        cost = value(f'usage_point:utility_monthly_cost:eur{{usage_point="{point}"}}')

        assert amount
        assert cost == pytest.approx(amount * price)


def test_an_hour_stands_in_its_row(house: DashboardStack):
    """
    A cell of the map of hours is the energy of that hour after the column's midnight, whatever hour UTC has then.
    """
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "electricity.json")
    (panel,) = (panel for panel in grafana_queries.list_panels(board) if panel["type"] == "heatmap")
    values = everything(board) | {"account": "maison", "usage_point": "house"}
    (query,) = grafana_queries.list_queries(board | {"panels": [panel]}, values, time.time(), 10)
    power = 'utility_interval_consumption_kwh{account="maison",usage_point="house",resolution=~"PT.+"}'
    for midnight in (query.end - 4 * 86_400, query.end - 5 * 86_400 - 3600, query.end - 6 * 86_400 - 7200):
        cells = house.prometheus.get("/api/v1/query", query=query.expr, time=midnight)["result"]
        shown = {series["metric"]["hour"]: float(series["value"][1]) for series in cells}
        at = [midnight + (hour + 1) * 3600 for hour in range(24)]
        sums = [house.prometheus.get("/api/v1/query", query=f"sum(sum_over_time({power}[1h]))", time=end)["result"] for end in at]
        true = {f"{hour:02}": float(found[0]["value"][1]) for hour, found in enumerate(sums) if found}

        assert len(set(true.values())) > 12
        assert shown == pytest.approx(true)


def test_a_day_stands_on_its_own_day(house: DashboardStack):
    """
    The bar of a day in the dashboards, drawn at its midnight, is the amount that the page gives as that day's; gas days too.
    """
    starts = by_point(house, "utility_latest_day_timestamp_seconds")
    expected = by_point(house, "sum by (usage_point) (utility_daily_consumption_m3)")
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "water-and-gas.json")
    days = [
        query
        for query in grafana_queries.list_queries(board, everything(board), time.time(), 30)
        if query.panel in ("Water by day", "Gas by day")
    ]
    shown = {}
    for query in days:
        for series in ask(house.prometheus, query):
            point, values = series["metric"]["usage_point"], dict(series["values"])
            # The grid is of UTC's midnights, and a day begins up to two hours before one, a gas day some after.
            shown[point] = float(values[(starts[point] + 2 * 3600) // 86_400 * 86_400])

    assert len(days) == 2
    assert len(shown) == 3
    assert shown == pytest.approx({point: expected[point] for point in shown})


def by_point(house: DashboardStack, expression: str) -> dict[str, float]:
    found = house.prometheus.get("/api/v1/query", query=expression)["result"]
    return {series["metric"]["usage_point"]: float(series["value"][1]) for series in found}


def test_without_remote_read_panels_say_so(house: DashboardStack, tmp_path: Path):
    """
    Where Prometheus has no history the page is still shown, and each panel that stays empty says what it needs.
    """
    wordless, empty, silent = [], [], 0
    with servers.run_prometheus(
        tmp_path / "prometheus", house.exporter.url, history=False, beside=house.sender.url
    ) as prometheus:
        servers.wait_until(
            lambda: prometheus.query_value("count(usage_point:utility_monthly_cost:share)"), "the costs are recorded"
        )
        servers.wait_until(lambda: prometheus.query_value(f"count({SENDER_QUERIES[0]})"), "the sender was scraped twice")
        for file in grafana_queries.FILES:
            board = grafana_queries.load_dashboard(file)
            for panel in grafana_queries.list_panels(board):
                for query in grafana_queries.list_queries(board | {"panels": [panel]}, everything(board), time.time(), 30):
                    if (query.step and not looks_back(query)) or ask(prometheus, query):
                        continue
                    silent += 1
                    if not looks_back(query):
                        empty.append((file.stem, query.panel, query.ref_id))
                    elif "remote read" not in panel["fieldConfig"]["defaults"]["noValue"]:
                        wordless.append((file.stem, query.panel))

    assert silent > 20
    assert empty == []
    assert wordless == []


def looks_back(query: DashboardQuery) -> bool:
    """Tell a query of the history, or of what is recorded from it; the page's own graphs need time to fill, not remote read."""
    return any(name in HISTORY or name in FROM_HISTORY for name in names(query.expr))


HISTORY = {family.name for family in HISTORY_FAMILIES.values()}
FROM_HISTORY = {
    rule["record"]
    for group in yaml.safe_load((servers.FOLDER / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
    if group["name"] == "utility-history" and "record" in rule
}
