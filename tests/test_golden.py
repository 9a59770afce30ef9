"""The whole page of all simulated portals at a fixed instant, as one file to read in review; and against their own truth."""

import asyncio
import json
import os
import random
import subprocess
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exporter.config import load
from exporter.demo.base import Simulation, running
from exporter.demo.runner import simulations
from exporter.ledger import Ledger
from exporter.metrics import FAMILIES, OPENMETRICS, Page
from exporter.poller import AccountPoller
from tests.conftest import NOW, Clock

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
MOVING = (
    *("process_", "python_", "utility_exporter_build_info"),
    *("utility_visit_duration_seconds{", "utility_next_visit_timestamp_seconds{"),  # how long it took; a minute left to chance
)
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


pytestmark = pytest.mark.xdist_group("golden")  # the demo is visited once for all


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
        accounts = load(folder / "config.yaml").accounts
        pollers = [AccountPoller(portal, ledger, page, Still(clock), random.Random(17).random) for portal in accounts]
        for poller in pollers:
            await poller.open()
        await asyncio.gather(*(poller.visit() for poller in pollers))
        assert [poller.state.message for poller in pollers if not poller.state.up] == []
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
    # The demo has no receiver.
    *(family.name for family in FAMILIES if family.name.startswith("utility_exporter_remote_write_")),
    # A first visit reaches a month back at the most; only an import does more.
    "utility_previous_month_consumption_kwh",
    "utility_previous_month_injection_kwh",
    "utility_previous_year_consumption_kwh",
    "utility_previous_year_consumption_m3",
    "utility_previous_year_injection_kwh",
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


def shown(demo: Demo, family: str, *labels: str) -> float | None:
    """Give a value by family and the values of its labels, whatever their order; None when there is no such series."""
    found = [
        value
        for key, value in demo.values.items()
        if key.startswith(f"{family}{{") and all(f'"{label}"' in key for label in labels)
    ]
    assert len(found) < 2
    return float(found[0]) if found else None


def test_water_link_equals_the_simulations_truth(demo):
    """
    Index, days, month, year, gaps and flags of both water meters are what the simulation says.
    """
    portal, today = demo.portals["water-link"], NOW.astimezone(ZoneInfo("Europe/Brussels")).date()
    for number, home in portal.households.items():
        latest = home.latest(NOW)
        days = {day: home.shown(day, NOW) for n in range(60) if (day := today - timedelta(days=n)) >= date(2026, 10, 1)}
        month = [litres for day, litres in days.items() if day.month == latest.month and litres is not None and day <= latest]

        assert shown(demo, "utility_consumption_index_m3", number) == home.index(latest + timedelta(days=1)) / 1000
        assert shown(demo, "utility_daily_consumption_m3", number) == home.shown(latest, NOW) / 1000
        assert shown(demo, "utility_monthly_consumption_m3", number) == pytest.approx(sum(month) / 1000)
        assert shown(demo, "utility_monthly_day_gaps", number) == latest.day - len(month)
        october = [litres for day, litres in days.items() if day.month == 10]
        assert shown(demo, "utility_previous_month_consumption_m3", number) == pytest.approx(sum(october) / 1000)
        state = home.state(NOW)
        assert shown(demo, "utility_divergent_consumption", number) == state["divergentConsumption"]
        assert shown(demo, "utility_day_offset", number) == state["daysOffset"]


def test_fluvius_equals_the_simulations_truth(demo):
    """
    Days, months, loads and peaks of two electricity meters and one gas meter are what the simulation says.
    """
    portal, today = demo.portals["fluvius"], NOW.astimezone(ZoneInfo("Europe/Brussels")).date()
    seen = 0
    for ean in portal.data.places:
        told = portal.true_days(ean, today - timedelta(days=10), today)
        latest = max(day.start for day in told)
        for day in told:
            key = (f"utility_daily_{day.direction}_{'m3' if day.unit == 'm³' else 'kwh'}", ean, day.register)
            monthly = [
                one.value for one in told if (one.register, one.direction, one.unit) == (day.register, day.direction, day.unit)
            ]
            if day.start == latest:
                assert shown(demo, *key) == pytest.approx(day.value)
                assert shown(demo, key[0].replace("daily", "monthly"), ean, day.register) == pytest.approx(sum(monthly))
                seen += 1
        assert shown(demo, "utility_latest_day_timestamp_seconds", ean) == pytest.approx(latest.timestamp(), abs=50)
        if peak := portal.true_peak(ean, today) if portal.data.places[ean].commodity == "electricity" else None:
            assert shown(demo, "utility_monthly_peak_kw", ean) == pytest.approx(peak[0])
            quarter = portal.true_intervals(ean, (NOW - timedelta(days=1)).date())
            assert not quarter or shown(demo, "utility_consumption_load_kw", ean) == pytest.approx(
                4 * sum(one.value for one in quarter if one.direction == "consumption" and one.end == max(q.end for q in quarter))
            )

    assert seen == 7


@pytest.mark.parametrize("account", ["maison", "maison-dataconnect", "maison-myelectricaldata"])
def test_enedis_equals_the_simulations_truth(demo, account):
    """
    Through each of the three ways: consumption and production by day and month, load, highest power, registers.
    """
    portal, today = demo.portals["enedis"], NOW.astimezone(ZoneInfo("Europe/Paris")).date()
    for home, name in ((portal.producing, "house"), (portal.young, "workshop")):
        latest = datetime.fromtimestamp(
            shown(demo, "utility_latest_day_timestamp_seconds", account, name), ZoneInfo("Europe/Paris")
        ).date()
        assert latest >= today - timedelta(days=2)
        for producing, direction in ((False, "consumption"), (True, "injection")):
            if producing and not home.producing:
                assert shown(demo, f"utility_daily_{direction}_kwh", account, name) is None
                continue
            day = portal.true_day(home, latest, producing=producing)
            month = [portal.true_day(home, latest.replace(day=n + 1), producing=producing) for n in range(latest.day)]
            gaps = shown(demo, "utility_monthly_day_gaps", account, name)
            assert shown(demo, f"utility_daily_{direction}_kwh", account, name) == pytest.approx(day)
            if gaps == 0:
                assert shown(demo, f"utility_monthly_{direction}_kwh", account, name) == pytest.approx(sum(month))
            end = shown(demo, "utility_load_timestamp_seconds", account, name)
            (block,) = [
                block
                for day_of in (latest, latest + timedelta(days=1), latest - timedelta(days=1))
                for block in portal.true_curve(home, day_of, producing=producing)
                if block.end.timestamp() == end
            ]
            hours = (block.end - block.start) / timedelta(hours=1)
            assert shown(demo, f"utility_{direction}_load_kw", account, name) == pytest.approx(block.kwh / hours)
        at = datetime.fromtimestamp(shown(demo, "utility_daily_peak_timestamp_seconds", account, name), UTC)
        found_at, kva = portal.true_peak(home, at.astimezone(ZoneInfo("Europe/Paris")).date())
        assert (shown(demo, "utility_daily_peak_kva", account, name), at) == (pytest.approx(kva), found_at.astimezone(UTC))
