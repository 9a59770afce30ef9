"""The demo: every simulated portal on the loopback, and the exporter that visits them with the real clients."""

import asyncio
import json
import logging
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import zip_longest
from pathlib import Path

from exporter.app import Exporter, ServeOptions
from exporter.printing import format_table
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
SUMMARY = {
    "utility_daily_consumption_": "latest day",
    "utility_monthly_peak_": "peak of the month",
    "utility_consumption_index_": "index",
}
"""The families that the summary is made of, by the beginning of their names up to the unit."""
SUMMARY_LINES = 10
UNITS = {"kwh": "kWh", "m3": "m³", "kw": "kW", "kva": "kVA"}
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
        serving = asyncio.create_task(exporter.run(partial(print_addresses, options.telemetry_path, write)))
        printing = asyncio.create_task(print_values(exporter, len(accounts), write))
        try:
            await serving
        finally:
            printing.cancel()
            await asyncio.gather(printing, return_exceptions=True)


def build_simulations(clock: Callable[[], datetime] = utc_now) -> list[Simulation]:
    """Return one simulation of each portal."""
    return [simulation(clock) for simulation in SIMULATIONS]


def print_addresses(path: str, write: Callable[[str], object], addresses: list[ListenAddress]) -> None:
    """Print the addresses that the demo listens on."""
    urls = [f"http://{replace(at, host='localhost') if not at.host else at}" for at in addresses]
    pages = "\n".join(f"  {url}/  for people\n  {url}{path}  for Prometheus" for url in urls)
    write(f"\nSimulated portals, real clients:\n{pages}\nStop with Ctrl-C.\n\n")


async def print_values(exporter: Exporter, account_count: int, write: Callable[[str], object]) -> None:
    """Print some values once all accounts have been visited, or what there is after a timeout."""
    for _ in range(round(PRINT_TIMEOUT / PRINT_POLL_INTERVAL)):
        await asyncio.sleep(PRINT_POLL_INTERVAL)
        accounts = exporter.page.accounts.values() if exporter.page else ()
        if sum(account.health.state.up is not None for account in accounts) == account_count:
            break
    if exporter.page:
        write("\n".join(summarize_page(exporter.page.render().decode())) + "\n")


def summarize_page(page: str) -> list[str]:
    """Return ten lines of a page for people: the first values of each family and account, each account in turn."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for line in page.splitlines():
        prefix = next((prefix for prefix in SUMMARY if line.startswith(prefix)), None)
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line))
        if prefix and "usage_point" in labels:
            unit = UNITS.get(unit := line[len(prefix) :].partition("{")[0], unit)
            register = labels.get("register", "")
            row = (
                labels["account"],
                labels["usage_point"],
                SUMMARY[prefix],
                register,
                f"{float(line.rpartition(' ')[2]):.10g} {unit}",
            )
            rows.setdefault(labels["account"], []).append(row)
    in_turn = [row for turn in zip_longest(*rows.values()) for row in turn if row]
    return format_table(sorted(in_turn[:SUMMARY_LINES])) if in_turn else ["no values yet"]
