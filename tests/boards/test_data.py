"""Every query of every panel and rule, put to a real Prometheus that scrapes the demo and reads its history."""

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.history.series import HISTORY_FAMILIES
from exporter.metrics.families import FAMILIES
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


def commodities(prometheus: servers.RunningServer, board: dict[str, Any], filled: dict[str, str]) -> list[str]:
    """Return what the panels of a board are repeated by, for the chosen values: one value where they are not."""
    if all(one["name"] != REPEATED or one.get("hide") != HIDDEN for one in grafana_queries.list_variables(board)):
        return [filled.get(REPEATED, ALL)]
    matchers = ",".join(f'{name}=~"{filled[name]}"' for name in ("account", "usage_point"))
    found = {labels["commodity"] for labels in series_of(prometheus, f"utility_usage_point_info{{{matchers}}}")}
    return sorted(found & {"electricity", "gas", "water", "heat"})


REPEATED, HIDDEN = "commodity", 2


def repeated_queries(
    prometheus: servers.RunningServer, board: dict[str, Any], filled: dict[str, str], days: float
) -> Iterator[DashboardQuery]:
    """Return every query of a board as Grafana repeats it."""
    now = time.time()
    for commodity in commodities(prometheus, board, filled):
        yield from grafana_queries.list_queries(board, filled | {REPEATED: commodity}, now, days)


def has_values(found: list[Any]) -> bool:
    """Return whether a series has a number: of one that only carries the reason why there is nothing all are NaN."""
    samples = [value for series in found for _, value in series.get("values", [series.get("value")])]
    return any(value != "NaN" for value in samples)


def is_served(query: DashboardQuery) -> bool:
    """Return whether the exporter already has all families that a query names; the contract is ahead of it."""
    served = {family.name for family in FAMILIES} | HISTORY
    return {name for name in names(query.expr) if ":" not in name} <= served


QUIET = {"Failures by reason", "Portal answers"}
"""In the demo nothing fails, and its counters were said to stand still."""


@pytest.mark.parametrize("file", grafana_queries.FILES, ids=lambda file: file.stem)
def test_every_panel_has_data(stack: DashboardStack, file: Path, capsys: pytest.CaptureFixture[str]):
    """
    With all variables at "All", every value, line or column of a dashboard has data over a year, in kWh or in m³, for one
    commodity at least; how long all together take is printed.
    """
    board = grafana_queries.load_dashboard(file)
    queries = list(repeated_queries(stack.prometheus, board, everything(board), YEAR))
    filled: dict[tuple[str, str], bool] = defaultdict(bool)
    started = time.perf_counter()
    for query in queries:
        found = ask(stack.prometheus, query)
        if query.panel not in QUIET and is_served(query):
            filled[query.panel, query.legend or query.ref_id] |= has_values(found)
    took = time.perf_counter() - started
    with capsys.disabled():
        share = sum(filled.values()) / len(filled)
        print(f"\n{file.stem}: {len(queries)} queries over a year, {share:.0%} with data, in {took:.2f} s")  # noqa: T201  # to be seen

    assert len(filled) > 20
    assert [one for one, has_data in filled.items() if not has_data] == []


@pytest.mark.parametrize("file", grafana_queries.FILES, ids=lambda file: file.stem)
def test_every_value_of_every_variable(stack: DashboardStack, file: Path):
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
    for name, values in offered(stack.prometheus, board).items():
        assert values, f"{name} has no values"
        for value in values:
            filled = everything(board) | {name: grafana_queries.escape_value(value)}
            repeats = commodities(stack.prometheus, board, filled)
            for commodity in repeats[: 1 if len(values) == 1 else None]:  # an only value is what "All" has been tried with
                repeated = filled | {REPEATED: commodity}
                chosen = points(stack.prometheus, board, repeated)
                for query in grafana_queries.list_queries(board, repeated, time.time(), SPAN):
                    asked += 1
                    found = ask(stack.prometheus, query)
                    if query.panel not in hourly | QUIET and not found and could(stack.prometheus, query, chosen):
                        wrong.append((name, value, query.panel, query.legend or query.ref_id))

    assert asked > 100
    assert wrong == []


def offered(prometheus: servers.RunningServer, board: dict[str, Any]) -> dict[str, list[str]]:
    """Return each variable's values, as Grafana asks for them; of many, unless all are wanted, one of each portal and kind."""
    found = {}
    for one in grafana_queries.list_variables(board):
        if one["query"].startswith("query_result"):
            continue
        series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"]).groups()  # type: ignore[union-attr]
        known = series_of(prometheus, grafana_queries.fill_variables(series, everything(board), 60_000, 3600))
        if label in ("site", "usage_point") and not TEST_EVERYTHING:
            known = {(labels["portal"], labels["commodity"]): labels for labels in known}.values()
        found[one["name"]] = sorted({labels[label] for labels in known if labels.get(label)})
    return found


def points(prometheus: servers.RunningServer, board: dict[str, Any], filled: dict[str, str]) -> str:
    """Name the usage points that the chosen values leave, as a regular expression."""
    labels = ("job", "instance", "account", "site", "commodity", "usage_point")
    own = [one["query"] for one in grafana_queries.list_variables(board) if one["name"] in ("usage_point", "site")]
    kinds = re.findall(r'commodity=~?"([a-z|]+)"', own[0]) if own else []
    matchers = ",".join(f'{name}=~"{filled[name]}"' for name in labels if name in filled)
    matchers += "".join(f',commodity=~"{kind}"' for kind in kinds)
    return "|".join(
        grafana_queries.escape_value(labels["usage_point"])
        for labels in series_of(prometheus, f"utility_usage_point_info{{{matchers}}}")
    )


def series_of(prometheus: servers.RunningServer, selector: str) -> Iterable[dict[str, str]]:
    found: Iterable[dict[str, str]] = prometheus.get(
        "/api/v1/series", **{"match[]": selector, "start": time.time() - 3600, "end": time.time()}
    )
    return found


def could(prometheus: servers.RunningServer, query: DashboardQuery, chosen: str) -> bool:
    """Return whether every selector of a query has series of the chosen usage points in what it can see."""
    seen = {(name, matchers) for name, matchers in SELECTOR.findall(query.expr)}
    return all(
        has_series(prometheus, name + narrow(matchers, chosen), query.start // 3600, query.end // 3600) for name, matchers in seen
    )


def narrow(matchers: str, chosen: str) -> str:
    """Add the chosen usage points to the matchers of what belongs to one; what has no such label has an empty one."""
    return matchers[:-1] + f',usage_point=~"({chosen})|"}}'


@cache
def has_series(prometheus: servers.RunningServer, selector: str, start: float, end: float) -> bool:
    span = {"start": start * 3600 - 40 * 86_400, "end": (end + 1) * 3600}
    return bool(prometheus.get("/api/v1/series", **{"match[]": selector}, **span))


def test_every_rule_has_data(stack: DashboardStack):
    """
    Every rule is evaluated without a fault; what is recorded has series, and so has every family that an alert looks at.
    """
    rules = stack.rules
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    looked_at = {name for rule in rules for name in names(rule["query"])}

    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
    assert [name for name in recorded if not stack.prometheus.query_value(f"count({name})")] == []
    assert len(looked_at) > 40
    assert [name for name in looked_at if not stack.prometheus.query_value(f"count(last_over_time({name}[35d]))")] == []


def names(expression: str) -> set[str]:
    """Return the families in an expression."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"\b(?:usage_point:|register:)?utility_[a-z0-9_]+(?::[a-z0-9_]+)?", bare))


def test_the_demos_leak_is_found(stack: DashboardStack):
    """
    Of all water only that of the flat that leaks flows without a pause; the portal's own flag alarms where it is up.
    """
    alerts = stack.prometheus.get("/api/v1/alerts")["alerts"]
    firing = defaultdict(set)
    for alert in alerts:
        firing[alert["labels"]["alertname"]].add(alert["labels"].get("usage_point"))
    flagged = stack.prometheus.get("/api/v1/query", query="utility_divergent_consumption == 1")["result"]

    assert firing["UtilityContinuousFlow"] == {leaking_point()}
    assert firing["UtilityDivergentConsumption"] == {series["metric"]["usage_point"] for series in flagged}


def leaking_point() -> str:
    """Name the point where the simulated building leaks."""
    from exporter.simulators.cem.simulation import CemSimulation

    building = CemSimulation().building
    return building.meter_names()[str(building.counters[building.named_counters["leak"]].meters[0])]


def test_costs_are_amounts_times_prices(stack: DashboardStack):
    """
    A month's cost is the sum over registers of what the page says and the price in settings.yaml, to the last cent.
    """
    value = stack.prometheus.query_value
    for point, price in (("home water", 5.80), ("home gas", 0.09)):
        unit = "m3" if price > 1 else "kwh"
        amount = value(f'sum(utility_monthly_consumption_{unit}{{usage_point="{point}"}})')
        cost = value(f'usage_point:utility_monthly_cost:eur{{usage_point="{point}"}}')

        assert amount
        assert cost == pytest.approx(amount * price)


def test_an_hour_stands_in_its_row(stack: DashboardStack):
    """
    A cell of the map of hours is the energy of that hour of the day that ends at the column's stamp, a midnight, for Grafana
    draws a cell left of its stamp; whatever hour UTC has then.
    """
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "electricity.json")
    (panel,) = (panel for panel in grafana_queries.list_panels(board) if panel["type"] == "heatmap")
    values = everything(board) | {"account": "maison", "usage_point": "house"}
    (query,) = grafana_queries.list_queries(board | {"panels": [panel]}, values, time.time(), 10)
    power = 'utility_interval_consumption_kwh{account="maison",usage_point="house",resolution=~"PT.+"}'
    for midnight in (query.end - 4 * 86_400, query.end - 5 * 86_400 - 3600, query.end - 6 * 86_400 - 7200):
        cells = stack.prometheus.get("/api/v1/query", query=query.expr, time=midnight)["result"]
        shown = {series["metric"]["hour"]: float(series["value"][1]) for series in cells}
        at = [midnight - (23 - hour) * 3600 for hour in range(24)]
        sums = [stack.prometheus.get("/api/v1/query", query=f"sum(sum_over_time({power}[1h]))", time=end)["result"] for end in at]
        true = {f"{hour:02} h": float(found[0]["value"][1]) for hour, found in enumerate(sums) if found}

        assert len(set(true.values())) > 12
        assert shown == pytest.approx(true)


def test_a_day_stands_on_its_own_day(stack: DashboardStack):
    """
    The bar of a day in the dashboards, drawn at its midnight, is the amount that the page gives as that day's; gas days too.
    """
    starts = by_point(stack, "utility_latest_day_timestamp_seconds")
    expected = by_point(stack, "sum by (usage_point) (utility_daily_consumption_m3)")
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / "water-and-gas.json")
    days = [
        query
        for query in grafana_queries.list_queries(board, everything(board), time.time(), 30)
        if query.panel in ("Water by day", "Gas by day")
    ]
    shown = {}
    for query in days:
        for series in ask(stack.prometheus, query):
            point, values = series["metric"]["usage_point"], dict(series["values"])
            if point not in starts:
                continue
            # The grid is of UTC's midnights, and a day begins up to two hours before one, a gas day some after.
            shown[point] = float(values[(starts[point] + 2 * 3600) // 86_400 * 86_400])

    assert len(days) == 2
    assert len(shown) > 5
    assert shown == pytest.approx({point: expected[point] for point in shown})


def find_panel(name: str, title: str) -> dict[str, Any]:
    """Return a board with one of its panels alone."""
    board = grafana_queries.load_dashboard(grafana_queries.FOLDER / f"{name}.json")
    return board | {"panels": [panel for panel in grafana_queries.list_panels(board) if panel["title"] == title]}


def ask_panel(stack: DashboardStack, board: dict[str, Any], commodity: str, days: float) -> list[Any]:
    """Return all series of a board's panels for a commodity."""
    queries = grafana_queries.list_queries(board, everything(board) | {REPEATED: commodity}, time.time(), days)
    return [series for query in queries for series in ask(stack.prometheus, query)]


def test_a_day_stands_in_its_week(stack: DashboardStack):
    """
    A cell of the calendar is the day of that weekday in the week that ends at the column's stamp: Grafana draws it left of that.
    """
    board = find_panel("home", "${commodity:text}, weekday by week")
    (query,) = grafana_queries.list_queries(board, everything(board) | {REPEATED: "water"}, time.time(), 35)
    points = by_point(stack, 'utility_usage_point_info{commodity="water"}')
    chosen = "|".join(map(grafana_queries.escape_value, points))
    selector = f'utility_interval_consumption_m3{{resolution="P1D",usage_point=~"{chosen}"}}'
    thursdays = [query.end - weeks * 7 * 86_400 for weeks in range(4)]
    midnights = [thursday - back * 86_400 for thursday in thursdays for back in range(7)]
    amounts = {at: stack.prometheus.query_value(f"sum(last_over_time({selector}[1d] @ {at + 8 * 3600:.0f}))") for at in midnights}
    # Grafana's points are midnights of the dashboard's time zone: of UTC, and of Brussels in winter and summer.
    for ahead in (0, 3600, 7200):
        span = {"start": thursdays[-1] - ahead, "end": thursdays[0] - ahead, "step": query.step}
        rows = stack.prometheus.get("/api/v1/query_range", query=query.expr, **span)["result"]
        shown = {(row["metric"]["weekday"], at + ahead): float(value) for row in rows for at, value in row["values"]}
        days = {
            (datetime.fromtimestamp(thursday - back * 86_400 - 43_200, UTC).strftime("%u %A"), thursday): back
            for thursday in thursdays
            for back in range(7)
        }

        assert shown == pytest.approx({(name, at): amounts[at - back * 86_400] for (name, at), back in days.items()})


def test_a_day_that_is_not_complete_is_no_dip(stack: DashboardStack):
    """
    Days that some usage points have not told yet are a series of their own on Home, and are not drawn on Electricity: gas comes
    three days late, and no total falls for it.
    """
    ended = "max(utility_latest_day_timestamp_seconds) - 864000"
    for commodity in ("electricity", "gas", "water"):
        facts = f'utility_usage_point_info{{commodity="{commodity}"}}'
        latest = f"utility_latest_day_timestamp_seconds and on (account, usage_point) {facts}"
        known = stack.prometheus.query_value(f"min(({latest}) > on () group_left () ({ended}))")
        series = ask_panel(stack, find_panel("home", "${commodity:text} by day"), commodity, 30)
        names = {one["metric"]["name"]: [at for at, _ in one["values"]] for one in series}
        late = names.get(f"{commodity}, not complete", [])

        assert known
        # A bar stands at a midnight of UTC, up to two hours after the day's own.
        assert [at for at in names[commodity] if at > known + 3 * 3600] == []
        assert [at for at in late if at <= known + 3 * 3600] == []


def test_a_year_never_falls(stack: DashboardStack):
    """
    The running sums of this year and the last begin above zero and never fall: registers of which one year is not known are in
    neither, and days that are not known yet are no zeros.
    """
    for commodity in ("electricity", "gas", "water"):
        lines = defaultdict(dict)
        for one in ask_panel(stack, find_panel("home", "${commodity:text} since New Year"), commodity, 30):
            lines[one["metric"]["year"]][one["metric"]["week"]] = float(one["value"][1])
        running = {year: [value for _, value in sorted(line.items())] for year, line in lines.items() if "expected" not in year}

        assert len(running) == (1 if commodity == "water" else 2)  # of water a day of the year before is missing
        for values in running.values():
            assert values[0] > 0
            assert values == sorted(values)


def by_point(stack: DashboardStack, expression: str) -> dict[str, float]:
    found = stack.prometheus.get("/api/v1/query", query=expression)["result"]
    return {series["metric"]["usage_point"]: float(series["value"][1]) for series in found}


def test_without_remote_read_panels_say_so(stack: DashboardStack, tmp_path: Path):
    """
    Where Prometheus has no history the page is still shown, and each panel that stays empty says what it needs.
    """
    wordless: list[Any] = []
    empty: list[Any] = []
    silent = 0
    with servers.run_prometheus(
        tmp_path / "prometheus", stack.exporter.url, history=False, beside=stack.sender.url
    ) as prometheus:
        servers.wait_until(
            lambda: prometheus.query_value("count(usage_point:utility_monthly_cost:share)"), "the costs are recorded"
        )
        servers.wait_until(lambda: prometheus.query_value(f"count({SENDER_QUERIES[0]})"), "the sender was scraped twice")
        for file in grafana_queries.FILES:
            board = grafana_queries.load_dashboard(file)
            for panel in grafana_queries.list_panels(board):
                alone = board | {"panels": [panel]}
                filled: dict[str, bool] = defaultdict(bool)
                history = False
                for query in repeated_queries(prometheus, alone, everything(board), 30):
                    if is_served(query) and "ALERTS" not in query.expr and (not query.step or looks_back(query)):
                        filled[query.legend or query.ref_id] |= has_values(ask(prometheus, query)) or looks_back(query)
                        history |= looks_back(query)
                empty += [(file.stem, panel["title"], legend) for legend, has_data in filled.items() if not has_data]
                answers = [ask(prometheus, query) for query in repeated_queries(prometheus, alone, everything(board), 30)]
                # An empty answer is an error in Grafana's maps and trends, and a table without a word.
                empty += [(file.stem, panel["title"]) for found in answers[:1] if panel["type"] in FAIL_EMPTY and not found]
                if history and not any(map(has_values, answers)):
                    silent += 1
                    if "remote read" not in panel["fieldConfig"]["defaults"]["noValue"] + str(panel["targets"]):
                        wordless.append((file.stem, panel["title"]))

    assert silent > 20
    assert empty == []
    assert wordless == []


FAIL_EMPTY = {"heatmap", "table", "trend"}


def looks_back(query: DashboardQuery) -> bool:
    """Tell a query of the history, or of what is recorded from it; the page's own graphs need time to fill, not remote read."""
    return any(name in HISTORY or name in FROM_HISTORY for name in names(query.expr))


def recorded_from(families: set[str]) -> set[str]:
    """Return what is recorded from families, or from what is."""
    groups = yaml.safe_load((servers.FOLDER / "rules.yaml").read_text())["groups"]
    rules = {rule["record"]: names(rule["expr"]) for group in groups for rule in group["rules"] if "record" in rule}
    found: set[str] = set()
    while more := {name for name, used in rules.items() if used & (families | found)} - found:
        found |= more
    return found


HISTORY = {family.name for family in HISTORY_FAMILIES.values()}
FROM_HISTORY = recorded_from(HISTORY)
