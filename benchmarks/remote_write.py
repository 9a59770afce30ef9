"""How fast remote write is, end to end into VictoriaMetrics, and what it costs a scrape meanwhile.

    python -m benchmarks.remote_write [--points 50] [--days 365] [--counters 20000] [--batch 10000]

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from benchmarks.comparison_servers import find_program
from benchmarks.measuring import run_in_new_process, watch_loop_delay
from benchmarks.results import Figure, Report
from exporter.history.config import Receiver
from exporter.history.remote_write_sender import Sender
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger
from tests.history import programs

NOW = datetime(2026, 11, 20, tzinfo=UTC)
HALF_HOUR = 1_800_000
MAX_STORE_CHECKS = 10
"""How often the store is asked whether all is there, seconds apart."""
POINTS, VISITS, BATCH = 50, 48, 10_000
SAMPLES = 1_000_000
"""The number that the goals refer to."""


class FixedClock:
    """The benchmark's own day, with real pauses."""

    def now(self) -> datetime:
        """Return the same instant always."""
        return NOW

    async def sleep(self, length: timedelta) -> None:
        """Wait."""
        await asyncio.sleep(length.total_seconds())


def fill_half_hours(ledger: Ledger, points: int, days: int) -> int:
    """A ledger of usage points with half-hours."""
    count, end = 48 * days, to_ms(NOW) - 3 * 86_400_000
    insert_series(ledger, points, "interval", "PT30M")
    with ledger.database.write() as db:
        for line in range(1, points + 1):
            rows = ((line, end - number * HALF_HOUR, number % 97 / 8, 1800) for number in range(count, 0, -1))
            db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, 1)", rows)
    return points * count


def fill_counters(ledger: Ledger, registers: int, visits: int) -> int:
    """A ledger of counters, each read once a visit."""
    end = to_ms(NOW) - HALF_HOUR
    insert_series(ledger, registers, "index", "")
    with ledger.database.write() as db:
        for line in range(1, registers + 1):
            rows = ((line, end - number * HALF_HOUR + line, 100 + line / 8 - number, None) for number in range(visits, 0, -1))
            db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, 1)", rows)
    return registers * visits


def insert_series(ledger: Ledger, count: int, form: str, resolution: str) -> None:
    ledger.open_account("home", portal="brook", zone="UTC", login="")
    with ledger.database.write() as db:
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
class DeliveryResult:
    """How a delivery went; times in seconds, memory in MiB."""

    samples: int
    stored: int
    """How many of them VictoriaMetrics reports."""
    refused: int
    wall_seconds: float
    cpu_seconds: float
    loop_delays: list[float]

    def format_lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a report."""
        quantiles = statistics.quantiles(self.loop_delays, n=100)
        yield f"{name}: {self.samples} samples in {self.wall_seconds:.1f} s, {self.samples / self.wall_seconds:,.0f} samples/s"
        yield f"  {self.samples / self.cpu_seconds:,.0f} samples per second of our own CPU"
        yield f"  there: {self.stored}, refused: {self.refused}"
        yield f"  event loop late: p50 {quantiles[49] * 1000:.1f} ms, p99 {quantiles[98] * 1000:.1f} ms"
        yield f"  peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB"


async def deliver(ledger: Ledger, samples: int, batch: int) -> DeliveryResult:
    """Deliver a ledger whole."""
    with tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession() as client, programs.run_victoria_metrics(client, Path(folder)) as store:
            receiver = Receiver(url=f"{store.url}/api/v1/write", samples_per_request=batch)
            ledger.get_delivery_state().set_targets([receiver.key])
            sender = Sender(ledger, receiver, {}, FixedClock())
            async with sender._client, watch_loop_delay() as late:
                wall, mine = time.perf_counter(), time.process_time()
                await sender.run_round()
                wall, mine = time.perf_counter() - wall, time.process_time() - mine
            there = await count_stored(client, store, samples)
    return DeliveryResult(samples, there, sender.stats.refused, wall, mine, late)


async def count_stored(client: aiohttp.ClientSession, store: programs.SeriesStore, samples: int) -> int:
    """Return how many samples a store has; those just received are counted a moment later."""
    there = 0
    for _ in range(MAX_STORE_CHECKS):
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
    options = flags.parse_args()
    for name, fill, numbers in (
        ("half-hours", fill_half_hours, (options.points, options.days)),
        ("counters", fill_counters, (options.counters, options.visits)),
    ):
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder)) as ledger:
            samples = fill(ledger, *numbers)
            for line in asyncio.run(deliver(ledger, samples, options.batch)).format_lines(name):
                sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()


def measure(sizes: Sequence[int]) -> Report:
    """Deliver ledgers with ten times as many samples as `sizes`, in long series and in short ones."""
    report = Report(
        "Remote write", f"samples a second, by samples: {POINTS} long series of half-hours, short ones of {VISITS} readings"
    )
    if not find_program("victoria-metrics"):
        report.notes.append("VictoriaMetrics is not installed (Debian: victoria-metrics)")
        sizes = ()
    for samples in (10 * size for size in sizes):
        report.figures += [
            Figure(f"{form} series", samples, run_in_new_process(measure_delivery, form, samples)) for form in ("long", "short")
        ]
    for form in ("long", "short"):
        value = report.find_value(f"{form} series", SAMPLES)
        report.goals.append(
            report.check_goal(f"remote write, {form} series", value, minimum=250_000, format_value="{:,.0f} samples/s".format)
        )
    return report


def measure_delivery(form: str, samples: int) -> float:
    """Deliver in this process; return samples a second."""
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder)) as ledger:
        if form == "long":
            count = fill_half_hours(ledger, POINTS, max(1, samples // POINTS // 48))
        else:
            count = fill_counters(ledger, max(1, samples // VISITS), VISITS)
        done: DeliveryResult = asyncio.run(deliver(ledger, count, BATCH))
    assert (done.stored, done.refused) == (count, 0), f"{done.stored} of {count} samples are there, {done.refused} were refused"
    return count / done.wall_seconds
