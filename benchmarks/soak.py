"""Two days of all simulated portals without rest, as fast as the work is done: `python -m benchmarks.soak [HOURS [forget]]`."""

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
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exporter.config import portals
from exporter.demo.base import Simulation, running
from exporter.demo.runner import SIMULATIONS, simulations
from exporter.ledger import Ledger
from exporter.metrics import Page
from exporter.poller import Pollers

START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
FAULTS = ("status:503", "reset", "empty", "garbage", "cut", "html", "retry:60")
"""What goes wrong twice every third hour."""
MEASURED_EVERY = 12


@dataclass(frozen=True)
class Figures:
    """What the process holds after so many hours; `resident` in bytes."""

    hours: int
    tasks: int
    files: int
    sockets: int
    threads: int
    objects: int
    resident: int

    @classmethod
    def now(cls, hours: int) -> "Figures":
        """Count, garbage left out."""
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        handles = open_handles()
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


def open_handles() -> list[str]:
    """Say what each open handle leads to; that of the list itself has gone by then."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


@dataclass(frozen=True)
class Soaked:
    """How it went."""

    figures: list[Figures]
    visits: dict[str, int]
    failures: int
    bugs: int
    readings: int


class Rush:
    """A clock that moves when all `sleepers` sleep, to the first that is to wake: a visit takes no time."""

    def __init__(self, sleepers: int) -> None:
        self.at = START
        self._sleepers, self._asleep = sleepers, dict[asyncio.Event, datetime]()

    def now(self) -> datetime:
        """Give the present instant."""
        return self.at

    async def sleep(self, length: timedelta) -> None:
        """Wait until it is that much later."""
        bell = asyncio.Event()
        self._asleep[bell] = self.at + length
        if len(self._asleep) == self._sleepers:
            self.at = min(self._asleep.values())
            for due in [one for one, at in self._asleep.items() if at <= self.at]:
                del self._asleep[due]
                due.set()
        try:
            await bell.wait()
        finally:
            self._asleep.pop(bell, None)


async def soak(folder: Path, hours: int = 48, *, forget: bool = False) -> Soaked:
    """Run for `hours` with faults and a scrape every hour; `forget` what the simulations have worked out before measuring."""
    clock, figures = Rush(len(SIMULATIONS)), []
    async with AsyncExitStack() as stack:
        there = simulations(clock.now)
        urls = [await stack.enter_async_context(running(simulation)) for simulation in there]
        ledger = stack.enter_context(Ledger(folder))
        page = Page(ledger, clock.now, "0")
        pollers = Pollers(ledger, page, clock)
        stack.push_async_callback(pollers.stop)
        accounts = [simulation.accounts(url)[0] for simulation, url in zip(there, urls, strict=True)]
        await pollers.follow(tuple(portals()[account["portal"]](**account) for account in accounts))
        assert len(accounts) == len(SIMULATIONS)
        for hour in range(1, hours + 1):
            while clock.at < START + timedelta(hours=hour):  # noqa: ASYNC110  # the clock runs with the work
                await asyncio.sleep(0.002)
            page.render()
            change(there, hour)
            if hour % MEASURED_EVERY == 0:
                if forget:
                    forget_days()
                figures.append(Figures.now(hour))
        health = [part.health for part in page.accounts.values()]
        return Soaked(
            figures,
            {name: part.health.visits for name, part in page.accounts.items()},
            sum(sum(one.failures.values()) for one in health),
            sum(one.failures["bug"] for one in health),
            sum(one.state.readings for one in health),
        )


def forget_days() -> None:
    """Empty the simulations' caches, which grow with every day that there is."""
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper) and one.__module__.startswith("exporter.demo"):
            one.cache_clear()


def change(there: list[Simulation], hour: int) -> None:
    """Forget what was asked, which only tests want, and set the next fault."""
    for simulation in there:
        simulation.seen.clear()
        simulation.faults.clear()
        if hour % 3 == 0:
            simulation.faults.set("", FAULTS[hour // 3 % len(FAULTS)], 2)


def main() -> None:
    """Print the figures."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = asyncio.run(soak(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 48, forget="forget" in sys.argv))
    sys.stdout.write("hours | tasks | threads | files | sockets | objects | resident MiB\n" + "--- | " * 6 + "---\n")
    for one in done.figures:
        sys.stdout.write(
            f"{one.hours} | {one.tasks} | {one.threads} | {one.files} | {one.sockets} | {one.objects} | {one.resident >> 20}\n"
        )
    sys.stdout.write(f"\n{done.visits}, {done.failures} failed, {done.readings} readings, {time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    main()
