"""One demo with a year behind it and one Prometheus with the project's rules, for all tests of rules and dashboards."""

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.boards import servers
from tests.boards.backfill import write_blocks
from tests.boards.demo_ledger import fill_ledger

RECORDED_SERIES = (
    "usage_point:utility_yearly_cost:expected_error_eur",
    "usage_point:utility_monthly_cost:share",
    "usage_point:utility_flow:hours",
    "usage_point:utility_day:against_weekday",
)
"""Recorded from other recorded series, or from the history: when they are there all are."""
SENDER_QUERIES = ("increase(utility_exporter_remote_write_sent_samples_total[1d])",)
"""The sender has been scraped twice."""


@dataclass(frozen=True, slots=True)
class DashboardStack:
    """The demo as it is scraped and read."""

    exporter: servers.RunningServer
    prometheus: servers.RunningServer
    sender: servers.RunningServer
    """Another exporter's delivery to a receiver: the demo has none."""
    rules: list[dict[str, Any]]
    """All rules with their health, after each was evaluated."""


@pytest.fixture(scope="package")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger."""
    folder = tmp_path_factory.mktemp("storage")
    folder.chmod(0o700)
    asyncio.run(fill_ledger(folder))
    return folder


@pytest.fixture(scope="package")
def stack(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardStack]:
    """The demo, a Prometheus that has scraped it since yesterday and reads its history, and rules that have run."""
    folder = tmp_path_factory.mktemp("prometheus")
    with servers.run_demo(storage) as exporter, servers.run_sender_page() as sender:
        write_blocks(folder, get_open_metrics(exporter), exporter.url[7:], time.time())
        with servers.run_prometheus(folder, exporter.url, beside=sender.url) as prometheus:
            for name in ("up", *RECORDED_SERIES, *SENDER_QUERIES):
                servers.wait_until(partial(prometheus.query_value, f"count({name})"), f"there is {name}")
            rules = servers.wait_until(partial(list_evaluated_rules, prometheus), "every rule was evaluated")
            servers.evaluate_rules_seldom(folder, prometheus)
            yield DashboardStack(exporter, prometheus, sender, rules)


def list_evaluated_rules(prometheus: servers.RunningServer) -> list[dict[str, Any]]:
    """Return the rules, or none as long as one of them was not evaluated."""
    rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    return rules if all(rule["health"] != "unknown" for rule in rules) else []


def get_open_metrics(exporter: servers.RunningServer) -> str:
    """Get the page as Prometheus prefers it, with every family that the demo has."""
    form = {"Accept": "application/openmetrics-text; version=1.0.0"}
    with urllib.request.urlopen(urllib.request.Request(f"{exporter.url}/metrics", headers=form), timeout=10) as answer:
        return str(answer.read().decode())
