"""The whole page of all simulated portals at a fixed instant, as one file to read in review; and against their own truth."""

import asyncio
import json
import os
import random
import subprocess
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from exporter.config import load
from exporter.demo.base import Simulation, running
from exporter.demo.runner import simulations
from exporter.ledger import Ledger
from exporter.metrics import FAMILIES, OPENMETRICS, Page
from exporter.poller import AccountPoller
from tests.conftest import NOW, Clock

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
MOVING = ("process_", "python_", "utility_exporter_build_info", "utility_visit_duration_seconds{")
"""What no two runs have in common."""


class Still:
    """The fixed instant, as the poller wants it."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock

    async def sleep(self, length: timedelta) -> None:
        await asyncio.sleep(0)


class Demo:
    """All simulations, visited once at a fixed instant."""

    def __init__(self, page: Page, portals: dict[str, Simulation]) -> None:
        self.page, self.portals = page, portals
        self.values = dict(line.rsplit(" ", 1) for line in page.render().decode().splitlines() if not line.startswith("#"))


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Demo:
    return asyncio.run(visited(tmp_path_factory.mktemp("demo"), clock))


async def visited(folder: Path, clock: Clock) -> Demo:
    """Visit every simulation once, with the real clients."""
    async with AsyncExitStack() as stack:
        portals = {simulation.portal: simulation for simulation in simulations(clock)}
        accounts = []
        for simulation in portals.values():
            accounts += simulation.accounts(await stack.enter_async_context(running(simulation)))
        (folder / "config.yaml").write_text(json.dumps({"accounts": accounts}))
        ledger = Ledger(folder / "data")
        stack.callback(ledger.close)
        page = Page(ledger, clock, "0")
        page.reloaded = NOW
        for portal in load(folder / "config.yaml").accounts:
            poller = AccountPoller(portal, ledger, page, Still(clock), random.Random(17).random)
            await poller.open()
            await poller.visit()
            assert poller.state.up, poller.state.message
        return Demo(page, portals)


def test_the_page_is_the_golden_one(demo):
    """
    Every family, label and value as the file has it. `GOLDEN=write pytest tests/test_golden.py` writes it anew.
    """
    lines = [
        line
        for line in demo.page.render().decode().splitlines()
        if not line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(MOVING)
    ]
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text("\n".join(lines) + "\n")

    assert lines == GOLDEN.read_text().splitlines()


def test_promtool_is_silent(demo):
    """
    `promtool check metrics` has nothing to say on the whole page.
    """
    done = subprocess.run(["promtool", "check", "metrics"], input=demo.page.render(), capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_family_of_the_contract_is_on_the_page(demo):
    """
    The demo shows each family; those it cannot are named here with the reason.
    """
    missing = {family.name for family in FAMILIES if f"# TYPE {family.name} " not in demo.page.render().decode()}

    assert missing == NOT_IN_THE_DEMO


NOT_IN_THE_DEMO = {
    # Nothing but electricity and gas has these; their portals join the demo next.
    family.name
    for family in FAMILIES
    if any(
        word in family.name
        for word in ("ly_consumption_kwh", "injection_kwh", "_load_", "peak", "subscribed", "month_consumption_kwh")
    )
} | {
    # A first visit does not reach a year back, and only an import does.
    "utility_previous_year_consumption_kwh",
    "utility_previous_year_consumption_m3",
    "utility_access_expires_timestamp_seconds",
}


def test_no_series_twice(demo):
    """
    Name and labels are unique, in text and OpenMetrics alike.
    """
    for form in ("text", OPENMETRICS):
        lines = [line.rpartition(" ")[0] for line in demo.page.render(form).decode().splitlines() if not line.startswith("#")]
        assert len(lines) == len(set(lines))


def test_cem_equals_the_simulations_truth(demo):
    """
    Every counter of the block of flats shows what the simulation says it shows, in our units.
    """
    portal = demo.portals["cem"]
    shown = {
        key: float(value)
        for key, value in demo.values.items()
        if 'account="block-of-flats"' in key and "register=" in key and "_info" not in key
    }
    registers = {key.partition('register="')[2].partition('"')[0]: value for key, value in shown.items()}
    seen = 0
    for counter, one in portal.building.counters.items():
        last = portal.last(counter)
        if last is None or str(counter) not in registers:
            continue
        factor = {14: 1000 / 3.6, 12: 0.01}.get(one.type, 1.0)
        assert registers[str(counter)] == pytest.approx(last[1] * factor, rel=1e-12)
        seen += 1

    assert seen == len(shown) > 70
    hidden = {portal.special[word] for word in ("removed", "radio", "door", "never read")}
    assert not {str(counter) for counter in hidden} & set(registers)
