"""How fast history is: three years of half-hours of 50 usage points, read through Prometheus, exported, scraped beside.

    python -m benchmarks.history [FOLDER]

The ledger (2.6 million readings) is made in FOLDER, or anew each time in a temporary one. Figures go to standard output.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from zoneinfo import ZoneInfo

import aiohttp

from exporter.clock import WallClock
from exporter.history import History
from exporter.history.export import Part, export
from exporter.ledger import AccountState, Ledger, to_ms
from exporter.metrics import Page, Shown
from exporter.model import Commodity, Interval, Register, Unit, UsagePoint
from exporter.poller import Pollers
from exporter.server import READY, Address, Face, listen, make_app, offer_history
from tests.history import programs

POINTS = 50
HALF = timedelta(minutes=30)
STEPS = 3 * 365 * 48 + 48
SCRAPES = 1000
PARIS = ZoneInfo("Europe/Paris")


def build(folder: Path) -> None:
    """Make the ledger, unless it is there."""
    if (folder / "made").exists():
        return
    chance, now = random.Random(1), datetime.now(UTC)
    first = to_ms(now) // 1_800_000 * 1_800_000 - (STEPS + 2) * 1_800_000
    with Ledger(folder) as ledger:
        ledger.open_account("fleet", portal="brook", zone="Europe/Paris", login="a")
        start = datetime.fromtimestamp(first / 1000, UTC)
        points = [UsagePoint(f"012345678{number:05}", Commodity.ELECTRICITY) for number in range(POINTS)]
        told = [Interval(Register(point, Unit.KWH), start, start + HALF, 0.25) for point in points]
        ledger.record_visit("fleet", told, AccountState(last_visit=now), at=now)
        with ledger.store.write() as db:
            for line in range(1, POINTS + 1):
                rows = ((line, first + step * 1_800_000, round(chance.uniform(0, 3), 3)) for step in range(1, STEPS))
                db.executemany("INSERT INTO reading (series, at, value, span, visit) VALUES (?, ?, ?, 1800, 1)", rows)
    (folder / "made").touch()


async def serve(folder: Path) -> None:
    """Be the exporter: the page and remote read over the ledger; says its address on standard output."""
    clock = WallClock()
    with Ledger(folder) as ledger:
        page = Page(ledger, clock.now, "0")
        page.add(Shown("fleet", "brook", PARIS), timedelta(hours=1))
        page.refresh("fleet")
        app = make_app(Face(page, Pollers(ledger, page, clock)))
        app[READY].append(True)
        offer_history(app, History(ledger, clock.now))
        async with AsyncExitStack() as stack:
            (taken,) = await listen(app, [Address("127.0.0.1", 0)], stack)
            sys.stdout.write(f"http://{taken}\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


@asynccontextmanager
async def exporter(folder: Path) -> AsyncIterator[str]:
    """Run `serve` in a process of its own."""
    command = (sys.executable, "-m", "benchmarks.history", "--serve", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def scrapes(client: aiohttp.ClientSession, url: str, count: int) -> list[float]:
    """Scrape again and again; gives how long each took, in milliseconds."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        async with client.get(f"{url}/metrics") as answer:
            await answer.read()
        taken.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.005)
    return taken


async def three_years(prometheus: programs.Store, point: int) -> float:
    """Ask for three years of one usage point, day by day; gives the seconds."""
    now, started = time.time(), time.perf_counter()
    query = f'sum_over_time(utility_interval_consumption_kwh{{usage_point="012345678{point:05}"}}[1d])'
    found = await prometheus.get("/api/v1/query_range", query=query, start=now - 3 * 365 * 86400, end=now, step=86400)
    assert len(found["result"][0]["values"]) > 1000
    return time.perf_counter() - started


async def ask(url: str) -> None:
    """Keep ten queries running, until standard input ends; says how many were done."""
    done = 0

    async def one(client: aiohttp.ClientSession, number: int) -> None:
        nonlocal done
        while True:
            await three_years(programs.Store(url, client), number)
            done += 1

    async with aiohttp.ClientSession() as client:
        queries = [asyncio.ensure_future(one(client, number)) for number in range(10)]
        await asyncio.to_thread(sys.stdin.read)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)
    sys.stdout.write(f"{done}\n")


@asynccontextmanager
async def asking(prometheus: programs.Store) -> AsyncIterator[list[int]]:
    """Run `ask` in a process of its own: what the queries cost who asks them is not the exporter's doing."""
    command = (sys.executable, "-m", "benchmarks.history", "--ask", prometheus.url)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    done: list[int] = []
    try:
        await asyncio.sleep(2)
        yield done
        said, _ = await process.communicate(b"")
        done.append(int(said))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def measure(folder: Path, work: Path) -> None:
    """Print the figures."""
    async with exporter(folder) as url, aiohttp.ClientSession() as client:
        config = f"remote_read:\n  - url: {url}/api/v1/read\n    read_recent: true\n"
        async with programs.prometheus(client, work / "prometheus", config) as prometheus:
            asked = [await three_years(prometheus, number) for number in range(10)]
            say("query_range, three years of one usage point", f"{median(asked):.3f} s median, {max(asked):.3f} s worst")
            idle = await scrapes(client, url, SCRAPES)
            async with asking(prometheus) as done:
                loaded = await scrapes(client, url, SCRAPES)
    say("scrape, idle", f"{median(idle):.1f} ms median, {p99(idle):.1f} ms p99")
    say(f"scrape, ten queries running ({done[0]} done)", f"{median(loaded):.1f} ms median, {p99(loaded):.1f} ms p99")
    say("p99 under load to p99 idle", f"{p99(loaded) / p99(idle):.2f}")


def measure_export(folder: Path, work: Path) -> None:
    """Print how fast the ledger is written out, and whether promtool takes it."""
    file = work / "history.om"
    with Ledger(folder) as ledger:
        started = time.perf_counter()
        count = export(ledger, {}, Part(), datetime.now(UTC), file)
        taken = time.perf_counter() - started
        say("export", f"{count} samples in {taken:.1f} s: {count / taken:,.0f} a second; {file.stat().st_size >> 20} MiB")
        started = time.perf_counter()
        said = programs.promtool(
            *("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=744h", "--quiet"),
            file,
            work / "blocks",
            patience=1800,
        )
        say("promtool, blocks of it", f"{time.perf_counter() - started:.1f} s, complaints: {said.strip() or 'none'}")


def p99(values: list[float]) -> float:
    """Give the 99th percentile."""
    return quantiles(values, n=100)[98]


def say(what: str, figure: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{what:48} {figure}\n")


def main() -> None:
    """Run it all, or be the exporter that is measured."""
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
        return
    if sys.argv[1:2] == ["--ask"]:
        asyncio.run(ask(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(sys.argv[1]) if sys.argv[1:] else Path(work) / "data"
        build(folder)
        asyncio.run(measure(folder, Path(work)))
        measure_export(folder, Path(work))


if __name__ == "__main__":
    main()
