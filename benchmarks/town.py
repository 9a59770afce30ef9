"""CEM's simulation as a town, in a process of its own: `python -m benchmarks.town FLATS` says its address.

A number of seconds on standard input moves its clock on; it answers `moved`.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exporter.demo.base import running
from exporter.demo.cem import CemSimulation

COUNTERS = 6
"""Counters of a flat."""


class LateClock:
    """The wall clock, moved on by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """Give the instant, aware, in UTC."""
        return datetime.now(UTC) + self.ahead

    async def sleep(self, length: timedelta) -> None:
        """Wait."""
        await asyncio.sleep(length.total_seconds())


@dataclass(frozen=True)
class Town:
    """A running simulation and the clock that goes with it."""

    url: str
    clock: LateClock
    process: subprocess.Popen[str]

    def move(self, length: timedelta) -> None:
        """Let time pass, here and there."""
        self.clock.ahead += length
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{length.total_seconds()}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "moved"


@contextmanager
def town(counters: int) -> Iterator[Town]:
    """Run a town with about so many counters."""
    command = [sys.executable, "-m", "benchmarks.town", str(max(1, counters // COUNTERS))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Town(process.stdout.readline().strip(), LateClock(), process)
        finally:
            process.kill()


async def serve(flats: int) -> None:
    """Be the simulation."""
    clock = LateClock()
    simulation = CemSimulation(clock.now, flats=flats)
    async with running(simulation) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            clock.ahead += timedelta(seconds=float(line))
            simulation.seen.clear()
            sys.stdout.write("moved\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
