"""The demo: every simulated portal on the loopback, and the exporter against them with the real clients."""

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from exporter.config import load
from exporter.demo.base import Simulation, running, utc_now
from exporter.errors import LedgerError, PortalError
from exporter.oneoff import Place, bring_past
from exporter.serve import Exporter, Options
from exporter.server import Address

SIMULATIONS = (
    ("exporter.demo.cem", "CemSimulation"),
    ("exporter.demo.water_link", "WaterLinkSimulation"),
    ("exporter.demo.fluvius", "FluviusSimulation"),
    ("exporter.demo.enedis", "EnedisSimulation"),
)
SHOWN = ("utility_consumption_index_", "utility_daily_", "utility_monthly_consumption", "utility_monthly_peak_kw", "utility_up")
SHOW_WITHIN, SHOW_STEP = 15.0, 0.2
PAST = {"water-link": 760, "fluvius": 760, "enedis": 760, "cem": 30}
"""How many days of the past are brought home behind the first visits: this year and the one before, so that they can be compared;
those of a block of flats are many readings."""
MORE_CALLS: Mapping[str, dict[str, object]] = {"fluvius": {"past_requests": 10_000}}
"""Nobody but the simulation counts its calls."""
log = logging.getLogger(__name__)


async def run(options: Options, *, temporary: bool, say: Callable[[str], object] = sys.stdout.write) -> None:
    """Serve the simulations until told to stop; readings are kept in a folder that goes with the demo, if `temporary`."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="utility-exporter-demo-")))
        accounts = []
        for simulation in simulations():
            account = simulation.demo_account(await stack.enter_async_context(running(simulation)))
            accounts.append(account | MORE_CALLS.get(simulation.portal, {}))
        config = folder / "config.yaml"
        config.write_text(json.dumps({"accounts": accounts}, indent=2))
        config.chmod(0o600)
        storage = folder / "data" if temporary else options.storage_path
        exporter = Exporter(replace(options, config_file=config, storage_path=storage))
        serving = asyncio.create_task(exporter.run(partial(greet, options.telemetry_path, say)))
        telling = asyncio.create_task(tell_and_import(exporter, config, storage, len(accounts), say))
        try:
            await serving
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


def simulations(clock: Callable[[], datetime] = utc_now) -> list[Simulation]:
    """Make one simulation of each portal."""
    return [getattr(import_module(module), name)(clock) for module, name in SIMULATIONS if find_spec(module)]


def greet(path: str, say: Callable[[str], object], taken: list[Address]) -> None:
    """Say where to look."""
    urls = [f"http://{replace(at, host='localhost') if not at.host else at}" for at in taken]
    pages = "\n".join(f"  {url}/  for people\n  {url}{path}  for Prometheus" for url in urls)
    say(f"\nSimulated portals, real clients:\n{pages}\nStop with Ctrl-C.\n\n")


async def tell_and_import(exporter: Exporter, config: Path, storage: Path, accounts: int, say: Callable[[str], object]) -> None:
    """Print some values after the first visits, then bring home the past of one account after the other."""
    await tell(exporter, accounts, say)
    portals = (await asyncio.to_thread(load, config)).accounts
    for portal in sorted(portals, key=lambda portal: list(PAST).index(portal.portal)):
        await bring(exporter, Place(config, storage, portal.name), timedelta(days=PAST[portal.portal]))


async def bring(exporter: Exporter, place: Place, past: timedelta) -> None:
    """Bring home the past of an account, as far as its budget of calls goes, and show it."""
    try:
        await bring_past(place, utc_now().date() - past, None, quiet=True)
    except (PortalError, LedgerError) as error:
        log.debug("account %s: the import of the past has ended early: %s", place.account, error)
    if exporter.page:
        await asyncio.to_thread(exporter.page.refresh, place.account)


async def tell(exporter: Exporter, accounts: int, say: Callable[[str], object]) -> None:
    """Print some values once all accounts have been visited, or after a while what there is."""
    for _ in range(round(SHOW_WITHIN / SHOW_STEP)):
        await asyncio.sleep(SHOW_STEP)
        seen = exporter.page.accounts.values() if exporter.page else ()
        if sum(part.health.state.up is not None for part in seen) == accounts:
            break
    if exporter.page:
        lines = (line for line in exporter.page.render().decode().splitlines() if line.startswith(SHOWN))
        say("\n".join(lines) + "\n")
