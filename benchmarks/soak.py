"""Two days of all simulated portals without rest, as fast as the work is done: `python -m benchmarks.soak [HOURS [clear]]`."""

import asyncio
import functools
import gc
import os
import sys
import tempfile
import threading
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from exporter.commands.demo import SIMULATIONS, build_simulations
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller_group import PollerGroup
from exporter.simulators.base import Simulation, run_simulation
from exporter.visit import BacklogSettings
from tests.conftest import build_portal_of

START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
FAULTS = ("status:503", "reset", "empty", "garbage", "cut", "html", "retry:60")
"""What goes wrong twice every third hour."""
OLDEST_DAY = date(2026, 8, 1)
"""The history before it is not read: it would be three years of a block of flats, and no other kind of step."""
MEASURE_EVERY_HOURS = 12


@dataclass(frozen=True)
class ResourceUsage:
    """What the process uses after so many hours; `resident` in bytes."""

    hours: int
    tasks: int
    files: int
    sockets: int
    threads: int
    objects: int
    resident: int

    @classmethod
    def measure(cls, hours: int) -> "ResourceUsage":
        """Measure, after collecting garbage."""
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        handles = list_open_handles()
        sockets = sum(name.startswith("socket:") for name in handles)
        return cls(
            hours,
            len(asyncio.all_tasks()),
            len(handles) - sockets,
            sockets,
            threading.active_count(),
            len(gc.get_objects()),
            resident,
        )


def list_open_handles() -> list[str]:
    """Return what each open handle refers to; that of the listing itself is closed by then."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


@dataclass(frozen=True)
class SoakResult:
    """The result of a run."""

    usage: list[ResourceUsage]
    visits: dict[str, int]
    failures: int
    bugs: int
    readings: int


class SkippingClock:
    """A clock that moves when all `sleepers` sleep, to the first that is to wake: a visit takes no time."""

    def __init__(self, sleepers: int) -> None:
        self.current = START
        self._sleepers, self._wake_times = sleepers, dict[asyncio.Event, datetime]()

    def now(self) -> datetime:
        """Return the current instant."""
        return self.current

    async def sleep(self, length: timedelta) -> None:
        """Wait until it is that much later."""
        event = asyncio.Event()
        self._wake_times[event] = self.current + length
        if len(self._wake_times) == self._sleepers:
            self.current = min(self._wake_times.values())
            for due in [event for event, at in self._wake_times.items() if at <= self.current]:
                del self._wake_times[due]
                due.set()
        try:
            await event.wait()
        finally:
            self._wake_times.pop(event, None)


async def run_soak(folder: Path, hours: int = 48, *, clear_caches: bool = False) -> SoakResult:
    """Run for `hours` with faults and a scrape every hour; `clear_caches` empties the simulations' caches before measuring."""
    clock, figures = SkippingClock(len(SIMULATIONS)), []
    async with AsyncExitStack() as stack:
        simulations = build_simulations(clock.now)
        urls = [await stack.enter_async_context(run_simulation(simulation)) for simulation in simulations]
        ledger = stack.enter_context(Ledger(folder))
        page = MetricsPage(ledger, clock.now, "0")
        pollers = PollerGroup(ledger, page, clock)
        stack.push_async_callback(pollers.stop)
        accounts = [simulation.build_accounts(url)[0] for simulation, url in zip(simulations, urls, strict=True)]
        await pollers.reconcile(tuple(map(build_portal_of, accounts)), BacklogSettings(oldest=OLDEST_DAY))
        assert len(accounts) == len(SIMULATIONS)
        for hour in range(1, hours + 1):
            while clock.current < START + timedelta(hours=hour):  # noqa: ASYNC110  # the clock runs with the work
                await asyncio.sleep(0.002)
            page.render()
            set_next_fault(simulations, hour)
            if hour % MEASURE_EVERY_HOURS == 0:
                if clear_caches:
                    clear_simulation_caches()
                figures.append(ResourceUsage.measure(hour))
        health = [part.health for part in page.accounts.values()]
        return SoakResult(
            figures,
            {name: part.health.visits for name, part in page.accounts.items()},
            sum(sum(one.failures.values()) for one in health),
            sum(one.failures["bug"] for one in health),
            sum(one.state.readings for one in health),
        )


def clear_simulation_caches() -> None:
    """Empty the simulations' caches, which grow with every day that there is."""
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper) and one.__module__.startswith("exporter.simulators"):
            one.cache_clear()


def set_next_fault(running_simulations: list[Simulation], hour: int) -> None:
    """Clear the recorded requests, which only tests need, and set the next fault."""
    for simulation in running_simulations:
        simulation.requests.clear()
        simulation.faults.clear()
        if hour % 3 == 0:
            simulation.faults.add("", FAULTS[hour // 3 % len(FAULTS)], 2)


def main() -> None:
    """Print the figures."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = asyncio.run(
            run_soak(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 48, clear_caches="clear" in sys.argv)
        )
    sys.stdout.write("hours | tasks | threads | files | sockets | objects | resident MiB\n" + "--- | " * 6 + "---\n")
    for one in done.usage:
        sys.stdout.write(
            f"{one.hours} | {one.tasks} | {one.threads} | {one.files} | {one.sockets} | {one.objects} | {one.resident >> 20}\n"
        )
    sys.stdout.write(f"\n{done.visits}, {done.failures} failed, {done.readings} readings, {time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    main()
