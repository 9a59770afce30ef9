"""The simulated CEM in a process of its own: `python -m benchmarks.cem_simulator FLATS` prints its address.

A number of seconds on standard input advances its clock; it prints `advanced`.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation

COUNTERS_PER_FLAT = 6


class OffsetClock:
    """The wall clock, advanced by hand."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def now(self) -> datetime:
        """Return the instant, aware, in UTC."""
        return datetime.now(UTC) + self.offset

    async def sleep(self, length: timedelta) -> None:
        """Wait for a duration."""
        await asyncio.sleep(length.total_seconds())


@dataclass(frozen=True)
class CemSimulator:
    """A running simulation and its clock."""

    url: str
    clock: OffsetClock
    process: subprocess.Popen[str]

    def advance_clock(self, length: timedelta) -> None:
        """Advance the clock of this process and of the simulation."""
        self.clock.offset += length
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{length.total_seconds()}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "advanced"


@contextmanager
def run_cem_simulator(counters: int) -> Iterator[CemSimulator]:
    """Run a simulation with about so many counters."""
    command = [sys.executable, "-m", "benchmarks.cem_simulator", str(max(1, counters // COUNTERS_PER_FLAT))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield CemSimulator(process.stdout.readline().strip(), OffsetClock(), process)
        finally:
            process.kill()


async def serve_simulation(flats: int) -> None:
    """Serve the simulation until standard input ends."""
    clock = OffsetClock()
    simulation = CemSimulation(clock.now, flats=flats)
    async with run_simulation(simulation) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            clock.offset += timedelta(seconds=float(line))
            simulation.requests.clear()
            sys.stdout.write("advanced\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve_simulation(int(sys.argv[1])))
