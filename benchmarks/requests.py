"""How many requests a day each portal's example account costs once all of its history is read.

    python -m benchmarks.requests [ACCOUNT ...] [--days 14] [--detail]

The simulated portals are visited by the program's own pollers, on a clock that moves as fast as the work is done.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from exporter.commands.demo import build_simulations
from exporter.config.loader import load_config
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.simulators.base import Simulation, run_simulation

START = datetime(2026, 7, 20, 9, 30, tzinfo=UTC)
WARM_UP_DAYS = {"water-link": 30, "fluvius": 35, "enedis": 140, "cem": 30}
"""By portal: after so many days its history is read at its own pace, and what is asked weeks later is asked."""


class LeapingClock:
    """A clock that leaps to the end of each wait."""

    def __init__(self) -> None:
        self.current = START

    def now(self) -> datetime:
        """Return the current instant."""
        return self.current

    async def sleep(self, length: timedelta) -> None:
        """Be that much later at once."""
        self.current += length
        await asyncio.sleep(0)


@dataclass(frozen=True)
class DailyRequests:
    """The requests of an account in a day, on average."""

    account: str
    requests: float
    by_path: dict[str, float]


async def measure_account(build: Callable[[Any], Simulation], account_name: str, days: int) -> DailyRequests:
    """Let an account live until its history is read, then count the requests of so many days."""
    clock = LeapingClock()
    simulation = build(clock.now)
    async with run_simulation(simulation) as url:
        (entry,) = (each for each in simulation.build_accounts(url) if each["name"] == account_name)
        if simulation.portal == "enedis":
            entry["minute"] = 7
        with tempfile.TemporaryDirectory() as name, Ledger((folder := Path(name)) / "data") as ledger:
            (folder / "config.yaml").write_text(json.dumps({"accounts": [entry]}))
            (portal,) = load_config(folder / "config.yaml").accounts
            poller = AccountPoller(portal, ledger, MetricsPage(ledger, clock.now, "0"), clock, lambda: 0.5)
            await poller.open()
            task = asyncio.create_task(poller.run())
            warm = START + timedelta(days=WARM_UP_DAYS[simulation.portal])
            await _wait_until(clock, task, warm)
            simulation.requests.clear()
            begun = clock.current
            await _wait_until(clock, task, begun + timedelta(days=days))
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            lived = (clock.current - begun) / timedelta(days=1)
    paths = Counter(_describe_request(request) for request in simulation.requests)
    by_path = {path: count / lived for path, count in paths.most_common()}
    return DailyRequests(account_name, len(simulation.requests) / lived, by_path)


async def _wait_until(clock: LeapingClock, task: "asyncio.Task[None]", end: datetime) -> None:
    while clock.current < end and not task.done():  # noqa: ASYNC110  # the clock runs with the work
        await asyncio.sleep(0.002)
    if task.done():
        task.result()


def _describe_request(request: Any) -> str:
    kind = request.query.get("id") or request.query.get("granularity") or ""
    return f"{request.method} {request.path}{'?' * bool(kind)}{kind}"


def list_accounts() -> dict[str, Callable[[Any], Simulation]]:
    """Return the example accounts, and what builds the portal of each."""
    found: dict[str, Callable[[Any], Simulation]] = {}
    for simulation in build_simulations():
        for account in simulation.build_accounts("http://127.0.0.1"):
            found[account["name"]] = type(simulation)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    accounts = list_accounts()
    parser = argparse.ArgumentParser(prog="benchmarks.requests", description=__doc__.partition("\n\n")[0])
    parser.add_argument("accounts", nargs="*", metavar="ACCOUNT", help=", ".join(accounts))
    parser.add_argument("--days", type=int, default=14, help="days to count (default 14)")
    parser.add_argument("--detail", action="store_true", help="by path too")
    options = parser.parse_args(arguments)
    for name in options.accounts or accounts:
        measured = asyncio.run(measure_account(accounts[name], name, options.days))
        sys.stdout.write(f"{name}: {measured.requests:.1f} requests a day\n")
        for path, count in measured.by_path.items() if options.detail else ():
            sys.stdout.write(f"  {count:6.2f} {path}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
