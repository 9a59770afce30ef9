"""The demo: every simulated portal on the loopback, and the exporter that visits them with the real clients."""

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from zoneinfo import ZoneInfo

from prometheus_client.parser import text_string_to_metric_families

from exporter.app import Exporter, ServeOptions, Serving
from exporter.commands.printing import format_number, format_table
from exporter.metrics.cache import MetricsPage
from exporter.models import natural_sort_key
from exporter.simulators.base import Simulation, run_simulation, utc_now
from exporter.simulators.cem.simulation import CemSimulation
from exporter.simulators.enedis.simulation import EnedisSimulation
from exporter.simulators.fluvius.simulation import FluviusSimulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation
from exporter.sync.feeds import Pace
from exporter.web.listen import ListenAddress

SIMULATIONS: tuple[Callable[[Callable[[], datetime]], Simulation], ...] = (
    CemSimulation,
    WaterLinkSimulation,
    FluviusSimulation,
    EnedisSimulation,
)
SUMMARY_LINES = 10
UNITS = {"kwh": "kWh", "m3": "m³"}
ZONE = ZoneInfo("Europe/Brussels")
"""All simulated portals have its clock."""
PRINT_TIMEOUT, PRINT_POLL_INTERVAL = 15.0, 0.2
HISTORY_DAYS = 760
"""How far back the history is read: this year and the one before, so that they can be compared."""
PACE = Pace(requests=20, pause=timedelta(seconds=1))
CONFIG_OVERRIDES: Mapping[str, dict[str, object]] = {"fluvius": {"past_requests": 10_000}, "cem": {"history_limit": "30d"}}
"""Configuration keys that the demo changes: a simulation has no need of a quota."""
log = logging.getLogger(__name__)


async def serve_demo(options: ServeOptions, *, temporary: bool, write: Callable[[str], object] = sys.stdout.write) -> None:
    """Serve the simulations until stopped; with `temporary`, the readings are deleted at the end."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="utility-exporter-demo-")))
        accounts = []
        for simulation in build_simulations():
            account = simulation.demo_account(await stack.enter_async_context(run_simulation(simulation)))
            accounts.append(account | CONFIG_OVERRIDES.get(simulation.portal, {}))
        config = folder / "config.yaml"
        oldest = utc_now().date() - timedelta(days=HISTORY_DAYS)
        config.write_text(json.dumps({"accounts": accounts, "history": {"from": str(oldest)}}, indent=2))
        config.chmod(0o600)
        storage = folder / "data" if temporary else options.storage_path
        exporter = Exporter(replace(options, config_file=config, storage_path=storage, pace=PACE))
        ready = asyncio.get_running_loop().create_future()
        printing = asyncio.create_task(print_start(ready, options.telemetry_path, write))
        try:
            await exporter.run(ready.set_result)
        finally:
            printing.cancel()
            await asyncio.gather(printing, return_exceptions=True)


def build_simulations(clock: Callable[[], datetime] = utc_now) -> list[Simulation]:
    """Return one simulation of each portal."""
    return [simulation(clock) for simulation in SIMULATIONS]


async def print_start(ready: asyncio.Future[Serving], path: str, write: Callable[[str], object]) -> None:
    """Print the addresses that the demo listens on, and then some values."""
    serving = await ready
    write(format_addresses(path, serving.addresses))
    await wait_for_visits(serving.page)
    write("\n".join(summarize_page(serving.page.render().decode())) + "\n")


def format_addresses(path: str, addresses: Sequence[ListenAddress]) -> str:
    """Return the addresses that the demo listens on, for people."""
    urls = [f"http://{replace(at, host='localhost') if not at.host else at}" for at in addresses]
    pages = "\n".join(f"  {url}/  for people\n  {url}{path}  for Prometheus" for url in urls)
    return f"\nSimulated portals, real clients:\n{pages}\nStop with Ctrl-C.\n\n"


async def wait_for_visits(page: MetricsPage) -> None:
    """Wait until all accounts have been visited, but not for long."""
    for _ in range(round(PRINT_TIMEOUT / PRINT_POLL_INTERVAL)):
        if all(account.health.state.up is not None for account in page.accounts.values()):
            break
        await asyncio.sleep(PRINT_POLL_INTERVAL)


@dataclass(slots=True)
class PointSummary:
    """What the page has of a usage point: its latest day, and what it shows, by unit; its registers are one sum."""

    day: datetime | None = None
    amounts: dict[str, float] = field(default_factory=dict)
    injections: dict[str, float] = field(default_factory=dict)
    indexes: dict[str, float] = field(default_factory=dict)

    def add(self, family: str, value: float) -> None:
        """Add a sample of the usage point."""
        name, _, unit = family.rpartition("_")
        sums = {
            "utility_daily_consumption": self.amounts,
            "utility_daily_injection": self.injections,
            "utility_consumption_index": self.indexes,
        }
        if family == "utility_latest_day_timestamp_seconds":
            self.day = datetime.fromtimestamp(value, ZONE)
        elif name in sums and unit in UNITS:
            sums[name][UNITS[unit]] = sums[name].get(UNITS[unit], 0) + value

    def describe(self) -> str:
        """Return the latest day, else what the meter shows, or an empty text for what measures neither."""
        if self.amounts and self.day:
            text = f"{format_amounts(self.amounts)} on {self.day:%A}, {self.day.day} {self.day:%B}"
            return f"{text}; injection {format_amounts(self.injections)}" if self.injections else text
        return f"shows {format_amounts(self.indexes)}; no whole day is known yet" if self.indexes else ""


def summarize_page(page: str) -> list[str]:
    """Return ten lines of a page for people: the latest day of usage points, each account in turn."""
    points = summarize_points(page)
    rows = [
        [(account, *row) for row in list_known(points[account])] or [(account, "", "nothing is known yet")] for account in points
    ]
    in_turn = [row for turn in zip_longest(*rows) for row in turn if row]
    return format_table(sorted(in_turn[:SUMMARY_LINES], key=lambda row: row[0])) if in_turn else ["nothing is known yet"]


def list_known(points: Mapping[str, PointSummary]) -> list[tuple[str, str]]:
    """Return usage points with what is known of each, by their names, and by the numbers in them."""
    texts = {point: points[point].describe() for point in sorted(points, key=natural_sort_key)}
    return [(point, text) for point, text in texts.items() if text]


def summarize_points(page: str) -> dict[str, dict[str, PointSummary]]:
    """Return what a page has of each account's usage points."""
    accounts: dict[str, dict[str, PointSummary]] = {}
    for sample in (sample for family in text_string_to_metric_families(page) for sample in family.samples):
        if "account" not in sample.labels:
            continue
        points = accounts.setdefault(sample.labels["account"], {})
        if "usage_point" in sample.labels:
            points.setdefault(sample.labels["usage_point"], PointSummary()).add(sample.name, sample.value)
    return accounts


def format_amounts(amounts: Mapping[str, float]) -> str:
    """Return amounts with their units, without the noise of sums."""
    return ", ".join(f"{format_number(value)} {unit}" for unit, value in amounts.items())
