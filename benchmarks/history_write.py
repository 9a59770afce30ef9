"""How fast remote write is, end to end into VictoriaMetrics, and what it costs a scrape meanwhile.

    python -m benchmarks.history_write [--points 50] [--days 365] [--counters 20000] [--batch 10000]

Two ledgers are delivered whole: half-hours of a year, long series; and one visit after another to many counters, short
ones. A sample counts when VictoriaMetrics has answered for it and the ledger remembers it.
"""

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from benchmarks.late import lateness
from exporter.history.receivers import Receiver
from exporter.history.send import Sender
from exporter.ledger import Ledger, to_ms
from tests.history import programs

NOW = datetime(2026, 11, 20, tzinfo=UTC)
HALF_HOUR = 1_800_000
PATIENCE = 10
"""How often the store is asked whether all is there, seconds apart."""


class Clock:
    """The benchmark's own day, with real pauses."""

    def now(self) -> datetime:
        """Give the same instant always."""
        return NOW

    async def sleep(self, length: timedelta) -> None:
        """Wait."""
        await asyncio.sleep(length.total_seconds())


def half_hours(ledger: Ledger, points: int, days: int) -> int:
    """A ledger of usage points with half-hours."""
    count, end = 48 * days, to_ms(NOW) - 3 * 86_400_000
    series_of(ledger, points, "interval", "PT30M")
    with ledger.store.write() as db:
        for line in range(1, points + 1):
            rows = ((line, end - number * HALF_HOUR, number % 97 / 8, 1800) for number in range(count, 0, -1))
            db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, 1)", rows)
    return points * count


def counters(ledger: Ledger, registers: int, visits: int) -> int:
    """A ledger of counters, each read once a visit."""
    end = to_ms(NOW) - HALF_HOUR
    series_of(ledger, registers, "index", "")
    with ledger.store.write() as db:
        for line in range(1, registers + 1):
            rows = ((line, end - number * HALF_HOUR + line, 100 + line / 8 - number, None) for number in range(visits, 0, -1))
            db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, 1)", rows)
    return registers * visits


def series_of(ledger: Ledger, count: int, form: str, resolution: str) -> None:
    ledger.open_account("home", portal="brook", zone="UTC", login="")
    with ledger.store.write() as db:
        db.execute("INSERT INTO visit (account, at) VALUES (1, 0)")
        for number in range(1, count + 1):
            point = (f"{number:014}", "electricity", "", "", "", "")
            db.execute(
                "INSERT INTO point (account, usage_point, commodity, meter, site, name, address) VALUES (1, ?, ?, ?, ?, ?, ?)",
                point,
            )
            facts = (number, "total", "consumption", "kWh", form, resolution, "counter", "", "", "")
            db.execute(
                "INSERT INTO series (point, register, direction, unit, form, resolution, nature, kind, portal_unit, description)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                facts,
            )


@dataclass(frozen=True)
class Delivered:
    """How a delivery went; times in seconds, memory in MiB."""

    samples: int
    there: int
    """How many of them VictoriaMetrics says it holds."""
    refused: int
    wall: float
    cpu: float
    late: list[float]

    def lines(self, name: str) -> Iterator[str]:
        """Say it."""
        quantiles = statistics.quantiles(self.late, n=100)
        yield f"{name}: {self.samples} samples in {self.wall:.1f} s, {self.samples / self.wall:,.0f} samples/s"
        yield f"  {self.samples / self.cpu:,.0f} samples per second of our own CPU"
        yield f"  there: {self.there}, refused: {self.refused}"
        yield f"  event loop late: p50 {quantiles[49] * 1000:.1f} ms, p99 {quantiles[98] * 1000:.1f} ms"
        yield f"  peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB"


async def deliver(ledger: Ledger, samples: int, batch: int) -> Delivered:
    """Deliver a ledger whole."""
    with tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession() as client, programs.victoria_metrics(client, Path(folder)) as store:
            receiver = Receiver(url=f"{store.url}/api/v1/write", samples_per_request=batch)
            ledger.deliveries().follow([receiver.key])
            sender = Sender(ledger, receiver, {}, Clock())
            async with sender._door, lateness() as late:
                wall, mine = time.perf_counter(), time.process_time()
                await sender.round()
                wall, mine = time.perf_counter() - wall, time.process_time() - mine
            there = await held(client, store, samples)
    return Delivered(samples, there, sender.delivery.refused, wall, mine, late)


async def held(client: aiohttp.ClientSession, store: programs.Store, samples: int) -> int:
    """Say how many samples a store holds; of those that it is just putting away it knows a moment later."""
    there = 0
    for _ in range(PATIENCE):
        await client.get(f"{store.url}/internal/force_flush")
        found = await store.query('sum(count_over_time({__name__=~"utility_.+",account="home"}[4000d]))', NOW.timestamp())
        there = int(float(found[0]["value"][1])) if found else 0
        if there >= samples:
            break
        await asyncio.sleep(1)
    return there


def main() -> None:
    """Run both."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("points", 50), ("days", 365), ("counters", 20_000), ("visits", 48), ("batch", 10_000)):
        flags.add_argument(f"--{name}", type=int, default=default)
    asked = flags.parse_args()
    for name, fill, numbers in (
        ("half-hours", half_hours, (asked.points, asked.days)),
        ("counters", counters, (asked.counters, asked.visits)),
    ):
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder)) as ledger:
            samples = fill(ledger, *numbers)
            for line in asyncio.run(deliver(ledger, samples, asked.batch)).lines(name):
                sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
