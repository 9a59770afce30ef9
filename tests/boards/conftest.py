"""One demo with a year behind it and one Prometheus with the project's rules, for all tests of rules and dashboards."""

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.boards import programs
from tests.boards.scraped import backfill
from tests.boards.year import tell_past

RECORDED = ("usage_point:utility_monthly_cost:share", "usage_point:utility_flow:hours", "usage_point:utility_day:against_weekday")
"""Recorded from other recorded series, or from the history: when they are there all are."""
SENT = ("increase(utility_exporter_remote_write_sent_samples_total[1d])",)
"""The sender has been scraped twice."""


@dataclass(frozen=True, slots=True)
class House:
    """The demo as it is scraped and read."""

    exporter: programs.Server
    prometheus: programs.Server
    sender: programs.Server
    """Another exporter's delivery to a receiver: the demo has none."""


@pytest.fixture(scope="package")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger."""
    folder = tmp_path_factory.mktemp("storage")
    folder.chmod(0o700)
    asyncio.run(tell_past(folder))
    return folder


@pytest.fixture(scope="package")
def house(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The demo, a Prometheus that has scraped it since yesterday and reads its history, and rules that have run."""
    folder = tmp_path_factory.mktemp("prometheus")
    with programs.demo(storage) as exporter, programs.sender() as sender:
        backfill(folder, open_metrics(exporter), exporter.url[7:], time.time())
        with programs.prometheus(folder, exporter.url, beside=sender.url) as prometheus:
            for name in ("up", *RECORDED, *SENT):
                programs.until(partial(prometheus.value, f"count({name})"), f"there is {name}")
            yield House(exporter, prometheus, sender)


def open_metrics(exporter: programs.Server) -> str:
    """Get the page as Prometheus prefers it, with every family that the demo has."""
    form = {"Accept": "application/openmetrics-text; version=1.0.0"}
    with urllib.request.urlopen(urllib.request.Request(f"{exporter.url}/metrics", headers=form), timeout=10) as answer:
        return str(answer.read().decode())
