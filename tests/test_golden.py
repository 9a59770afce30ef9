"""The metrics page of all simulated portals at a fixed instant, against a file and against the simulations' truth."""

import asyncio
import json
import os
import random
import re
import subprocess
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exporter.commands.demo import build_simulations
from exporter.config.loader import load_config
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.metrics.exposition import OPENMETRICS
from exporter.metrics.families import FAMILIES
from exporter.poller import AccountPoller
from exporter.simulators.base import Simulation, run_simulation
from tests.conftest import NOW, FakeClock
from tests.test_metrics import DAYS_ARE_COUNTED

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
VARYING = (
    *("process_", "python_", "utility_exporter_build_info"),
    *("utility_visit_duration_seconds{", "utility_next_visit_timestamp_seconds{"),  # a duration; a random minute
)
"""What differs from run to run."""


class Demo:
    """All simulations, visited once at a fixed instant."""

    def __init__(self, page: MetricsPage, portals: dict[str, Simulation]) -> None:
        self.page, self.portals = page, portals
        self.values = dict(line.rsplit(" ", 1) for line in page.render().decode().splitlines() if not line.startswith("#"))


pytestmark = pytest.mark.xdist_group("golden")  # the demo is visited once for all


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Demo:
    return asyncio.run(visit_all(tmp_path_factory.mktemp("demo"), clock))


async def visit_all(folder: Path, clock: FakeClock) -> Demo:
    """Visit every simulation once, with the real clients."""
    async with AsyncExitStack() as stack:
        portals = {simulation.portal: simulation for simulation in build_simulations(clock)}
        accounts = []
        for simulation in portals.values():
            accounts += simulation.build_accounts(await stack.enter_async_context(run_simulation(simulation)))
        (folder / "config.yaml").write_text(json.dumps({"accounts": accounts}))
        ledger = Ledger(folder / "data")
        stack.callback(ledger.close)
        page = MetricsPage(ledger, clock, "0")
        page.reload_status.record_success(NOW)
        accounts = load_config(folder / "config.yaml").accounts
        pollers = [AccountPoller(portal, ledger, page, clock, random.Random(17).random) for portal in accounts]
        for poller in pollers:
            await poller.open()
        await asyncio.gather(*(poller.visit() for poller in pollers))
        assert [poller.state.message for poller in pollers if not poller.state.up] == []
        return Demo(page, portals)


def test_the_page_is_the_golden_one(demo):
    """
    Every family, label and value as in the file. `GOLDEN=write pytest tests/test_golden.py` rewrites it.
    """
    lines = [
        line
        for line in demo.page.render().decode().splitlines()
        if not line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(VARYING)
    ]
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text("\n".join(lines) + "\n")

    assert lines == GOLDEN.read_text().splitlines()


def test_promtool_is_silent(demo):
    """
    `promtool check metrics` has no complaint about the whole page, but for a family that counts days.
    """
    done = subprocess.run(["promtool", "check", "metrics"], input=demo.page.render(), capture_output=True, check=False)

    assert (done.stdout, done.stderr.decode().splitlines()) == (b"", [DAYS_ARE_COUNTED])


def test_every_family_of_the_contract_is_on_the_page(demo):
    """
    The demo shows each family; those it cannot are named here with the reason.
    """
    missing = {family.name for family in FAMILIES if f"# TYPE {family.name} " not in demo.page.render().decode()}

    assert missing == NOT_IN_THE_DEMO


SUMS = tuple(f"utility_{period}_" for period in ("daily", "monthly", "yearly", "previous_month", "previous_year"))
NOT_IN_THE_DEMO = {
    # The demo has no receiver.
    *(family.name for family in FAMILIES if family.name.startswith("utility_exporter_remote_write_")),
    # A first visit reaches back a month at most; only an import does more.
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
    Every counter of the block of flats has the value of the simulation, in our units.
    """
    portal = demo.portals["cem"]
    shown = {
        key: float(value)
        for key, value in demo.values.items()
        if 'account="block-of-flats"' in key and "register=" in key and "_info" not in key and not key.startswith(SUMS)
    }
    registers = {key.partition('register="')[2].partition('"')[0]: value for key, value in shown.items()}
    seen = 0
    for counter, one in portal.building.counters.items():
        last = portal.latest_reading(counter)
        if last is None or str(counter) not in registers:
            continue
        factor = {14: 1000 / 3.6, 12: 0.01}.get(one.type, 1.0)
        assert registers[str(counter)] == pytest.approx(last[1] * factor, rel=1e-12)
        seen += 1

    assert seen == len(shown) > 70
    hidden = {portal.named_counters[word] for word in ("removed", "radio", "door", "never read")}
    assert not {str(counter) for counter in hidden} & set(registers)


def shown(demo: Demo, family: str, *labels: str) -> float | None:
    """Return a value by family and label values, in any order; None without such a series."""
    found = [
        value
        for key, value in demo.values.items()
        if key.startswith(f"{family}{{") and all(f'"{label}"' in key for label in labels)
    ]
    assert len(found) < 2
    return float(found[0]) if found else None


def test_water_link_equals_the_simulations_truth(demo):
    """
    Index, days, month, year, gaps and flags of both water meters equal the simulation.
    """
    portal, today = demo.portals["water-link"], NOW.astimezone(ZoneInfo("Europe/Brussels")).date()
    for number, home in portal.meters.items():
        latest = home.find_latest_shown_day(NOW)
        days = {
            day: home.get_shown_litres(day, NOW) for n in range(60) if (day := today - timedelta(days=n)) >= date(2026, 10, 1)
        }
        month = [litres for day, litres in days.items() if day.month == latest.month and litres is not None and day <= latest]

        assert shown(demo, "utility_consumption_index_m3", number) == home.compute_index(latest + timedelta(days=1)) / 1000
        assert shown(demo, "utility_daily_consumption_m3", number) == home.get_shown_litres(latest, NOW) / 1000
        assert shown(demo, "utility_monthly_consumption_m3", number) == pytest.approx(sum(month) / 1000)
        assert shown(demo, "utility_monthly_day_gaps", number) == latest.day - len(month)
        october = [litres for day, litres in days.items() if day.month == 10]
        assert shown(demo, "utility_previous_month_consumption_m3", number) == pytest.approx(sum(october) / 1000)
        state = home.build_state(NOW)
        assert shown(demo, "utility_divergent_consumption", number) == state["divergentConsumption"]
        assert shown(demo, "utility_day_offset", number) == state["daysOffset"]


def test_fluvius_equals_the_simulations_truth(demo):
    """
    Days, months, loads and peaks of two electricity meters and one gas meter equal the simulation.
    """
    portal, today = demo.portals["fluvius"], NOW.astimezone(ZoneInfo("Europe/Brussels")).date()
    seen = 0
    for ean in portal.data_api.usage_points:
        results = portal.list_true_days(ean, today.replace(day=1), today)
        latest = max(day.start for day in results)
        for day in results:
            key = (f"utility_daily_{day.direction}_{'m3' if day.unit == 'm³' else 'kwh'}", ean, day.register)
            monthly = [
                one.value for one in results if (one.register, one.direction, one.unit) == (day.register, day.direction, day.unit)
            ]
            if day.start == latest:
                assert shown(demo, *key) == pytest.approx(day.value)
                assert shown(demo, key[0].replace("daily", "monthly"), ean, day.register) == pytest.approx(sum(monthly))
                seen += 1
        assert shown(demo, "utility_latest_day_timestamp_seconds", ean) == pytest.approx(latest.timestamp(), abs=50)
        if peak := portal.find_true_peak(ean, today) if portal.data_api.usage_points[ean].commodity == "electricity" else None:
            assert shown(demo, "utility_monthly_peak_kw", ean) == pytest.approx(peak[0])
            quarter = portal.list_true_intervals(ean, (NOW - timedelta(days=1)).date())
            assert not quarter or shown(demo, "utility_consumption_load_kw", ean) == pytest.approx(
                4 * sum(one.value for one in quarter if one.direction == "consumption" and one.end == max(q.end for q in quarter))
            )

    assert seen == 7


@pytest.mark.parametrize("account", ["maison", "maison-dataconnect", "maison-myelectricaldata"])
def test_enedis_equals_the_simulations_truth(demo, account):
    """
    By each access: consumption and production by day and month, load, highest power, registers.
    """
    portal, today = demo.portals["enedis"], NOW.astimezone(ZoneInfo("Europe/Paris")).date()
    for home, name in ((portal.producer, "house"), (portal.recent_customer, "workshop")):
        latest = datetime.fromtimestamp(
            shown(demo, "utility_latest_day_timestamp_seconds", account, name), ZoneInfo("Europe/Paris")
        ).date()
        assert latest >= today - timedelta(days=2)
        for producing, direction in ((False, "consumption"), (True, "injection")):
            if producing and not home.is_producer:
                assert shown(demo, f"utility_daily_{direction}_kwh", account, name) is None
                continue
            day = portal.get_true_day(home, latest, producing=producing)
            month = [portal.get_true_day(home, latest.replace(day=n + 1), producing=producing) for n in range(latest.day)]
            gaps = shown(demo, "utility_monthly_day_gaps", account, name)
            assert shown(demo, f"utility_daily_{direction}_kwh", account, name) == pytest.approx(day)
            if gaps == 0:
                assert shown(demo, f"utility_monthly_{direction}_kwh", account, name) == pytest.approx(sum(month))
            end = shown(demo, "utility_load_timestamp_seconds", account, name)
            (block,) = [
                block
                for day_of in (latest, latest + timedelta(days=1), latest - timedelta(days=1))
                for block in portal.get_true_curve(home, day_of, producing=producing)
                if block.end.timestamp() == end
            ]
            hours = (block.end - block.start) / timedelta(hours=1)
            assert shown(demo, f"utility_{direction}_load_kw", account, name) == pytest.approx(block.energy_kwh / hours)
        at = datetime.fromtimestamp(shown(demo, "utility_daily_peak_timestamp_seconds", account, name), UTC)
        found_at, kva = portal.get_true_peak(home, at.astimezone(ZoneInfo("Europe/Paris")).date())
        assert (shown(demo, "utility_daily_peak_kva", account, name), at) == (pytest.approx(kva), found_at.astimezone(UTC))


def test_calculated_amounts_of_cem_equal_the_simulations_truth(demo):
    """
    Day, month and year of every register are what the building's own model counts between the local midnights, up to what it
    counts between the two readings around each; the gaps are the days of the year before the first one known.
    """
    building, zone, hours = demo.portals["cem"].building, ZoneInfo("Europe/Prague"), timedelta(hours=3)
    today = NOW.astimezone(zone).date()
    found = [
        (family, dict(re.findall(r'(\w+)="([^"]*)"', key)), float(value))
        for key, value in demo.values.items()
        if (family := key.partition("{")[0]).startswith(SUMS) and 'account="block-of-flats"' in key and "gaps" not in family
    ]
    spans = Counter[str]()
    for family, labels, amount in found:
        counter = int(labels["register"])
        end = datetime.fromtimestamp(shown(demo, "utility_latest_day_timestamp_seconds", labels["usage_point"]), zone).date()
        assert end == today - timedelta(days=1)
        known_from = datetime.fromtimestamp(
            shown(demo, "utility_history_start_timestamp_seconds", labels["usage_point"]), zone
        ).date()
        period = family.split("_")[1]
        begin = {"daily": end, "monthly": max(end.replace(day=1), known_from), "yearly": known_from}[period]
        assert shown(demo, "utility_history_missing_days", labels["usage_point"]) == 0
        assert shown(demo, "utility_yearly_day_gaps", labels["usage_point"]) == (known_from - date(end.year, 1, 1)).days
        midnights = [datetime(day.year, day.month, day.day, tzinfo=zone) for day in (begin, end + timedelta(days=1))]
        first, last = (building.true_value(counter, at.astimezone(UTC)) for at in midnights)
        bound = 0.0
        for at in midnights:
            around = building.list_readings(counter, at.astimezone(UTC) - hours, at.astimezone(UTC) + hours, NOW)
            bound += min(value for read, value in around if read >= at) - max(value for read, value in around if read <= at)
        factor = 1000 / 3.6 if building.counters[counter].type == 14 else 1.0
        assert abs(amount - factor * (last - first)) <= factor * (bound + 0.001), (family, labels)
        assert amount > 0
        spans[period] += 1
    assert spans["daily"] == spans["monthly"] == spans["yearly"] > 50
