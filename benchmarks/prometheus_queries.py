"""How fast history is: three years of half-hours of 50 usage points, read through Prometheus, exported, scraped beside.

    python -m benchmarks.prometheus_queries [FOLDER]

The ledger (2.6 million readings) is created in FOLDER, or in a temporary folder. Figures are printed.
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

from exporter.account_status import AccountHealth, AccountView
from exporter.clock import WallClock
from exporter.history.config import HistorySettings
from exporter.history.export import ExportSelection, export_series
from exporter.history.read_worker import RemoteReader
from exporter.ledger.account_state import AccountState
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.models import Commodity, Interval, Register, Unit, UsagePoint, VisitResult
from exporter.poller_group import PollerGroup
from exporter.web.app import WebContext, make_app
from exporter.web.listen import ListenAddress, listen
from tests.history import programs

POINTS = 50
HALF_HOUR = timedelta(minutes=30)
STEPS = 3 * 365 * 48 + 48
SCRAPES = 1000
PARIS = ZoneInfo("Europe/Paris")


def build_ledger(folder: Path) -> None:
    """Make the ledger, unless it is there."""
    if (folder / "made").exists():
        return
    rng, now = random.Random(1), datetime.now(UTC)
    first = to_ms(now) // 1_800_000 * 1_800_000 - (STEPS + 2) * 1_800_000
    with Ledger(folder) as ledger:
        ledger.open_account("fleet", portal="brook", zone="Europe/Paris", login="a")
        start = datetime.fromtimestamp(first / 1000, UTC)
        points = [UsagePoint(f"012345678{number:05}", Commodity.ELECTRICITY) for number in range(POINTS)]
        intervals = [Interval(Register(point, Unit.KWH), start, start + HALF_HOUR, 0.25) for point in points]
        ledger.record_visit("fleet", VisitResult(intervals), AccountState(last_visit=now), at=now)
        with ledger.database.write() as db:
            for line in range(1, POINTS + 1):
                rows = ((line, first + step * 1_800_000, round(rng.uniform(0, 3), 3)) for step in range(1, STEPS))
                db.executemany("INSERT INTO reading (series, at, value, span, visit) VALUES (?, ?, ?, 1800, 1)", rows)
    (folder / "made").touch()


async def serve_ledger(folder: Path) -> None:
    """Serve: the page and remote read over the ledger; print its URL on standard output."""
    clock = WallClock()
    with Ledger(folder) as ledger:
        page = MetricsPage(ledger, clock.now, "0")
        page.add_account(AccountView("fleet", "brook", PARIS), AccountHealth(timedelta(hours=1)))
        page.refresh("fleet")
        context = WebContext(
            page, PollerGroup(ledger, page, clock), remote_reader=RemoteReader(ledger, clock.now, HistorySettings())
        )
        context.ready.set()
        app = make_app(context)
        async with AsyncExitStack() as stack:
            (address,) = await listen(app, [ListenAddress("127.0.0.1", 0)], stack)
            sys.stdout.write(f"http://{address}\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


@asynccontextmanager
async def run_exporter(folder: Path) -> AsyncIterator[str]:
    """Run `serve` in a process of its own."""
    command = (sys.executable, "-m", "benchmarks.prometheus_queries", "--serve", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def time_scrapes(client: aiohttp.ClientSession, url: str, count: int) -> list[float]:
    """Scrape again and again; return how long each took, in milliseconds."""
    durations = []
    for _ in range(count):
        started = time.perf_counter()
        async with client.get(f"{url}/metrics") as answer:
            await answer.read()
        durations.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.005)
    return durations


async def query_three_years(prometheus: programs.SeriesStore, point: int) -> float:
    """Ask for three years of one usage point, day by day; return the seconds."""
    now, started = time.time(), time.perf_counter()
    query = f'sum_over_time(utility_interval_consumption_kwh{{usage_point="012345678{point:05}"}}[1d])'
    found = await prometheus.get("/api/v1/query_range", query=query, start=now - 3 * 365 * 86400, end=now, step=86400)
    assert len(found["result"][0]["values"]) > 1000
    return time.perf_counter() - started


async def run_queries(url: str) -> None:
    """Keep ten queries running, until standard input ends; print how many were done."""
    done = 0

    async def one(client: aiohttp.ClientSession, number: int) -> None:
        nonlocal done
        while True:
            await query_three_years(programs.SeriesStore(url, client), number)
            done += 1

    async with aiohttp.ClientSession() as client:
        queries = [asyncio.ensure_future(one(client, number)) for number in range(10)]
        await asyncio.to_thread(sys.stdin.read)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)
    sys.stdout.write(f"{done}\n")


@asynccontextmanager
async def run_query_process(prometheus: programs.SeriesStore) -> AsyncIterator[list[int]]:
    """Run the queries in a process of their own: what the queries cost who asks them is not the exporter's doing."""
    command = (sys.executable, "-m", "benchmarks.prometheus_queries", "--ask", prometheus.url)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    done: list[int] = []
    try:
        await asyncio.sleep(2)
        yield done
        output, _ = await process.communicate(b"")
        done.append(int(output))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def measure(folder: Path, work: Path) -> None:
    """Print the figures."""
    async with run_exporter(folder) as url, aiohttp.ClientSession() as client:
        config = f"remote_read:\n  - url: {url}/api/v1/read\n    read_recent: true\n"
        async with programs.run_prometheus(client, work / "prometheus", config) as prometheus:
            asked = [await query_three_years(prometheus, number) for number in range(10)]
            print_figure("query_range, three years of one usage point", f"{median(asked):.3f} s median, {max(asked):.3f} s worst")
            idle = await time_scrapes(client, url, SCRAPES)
            async with run_query_process(prometheus) as done:
                loaded = await time_scrapes(client, url, SCRAPES)
    print_figure("scrape, idle", f"{median(idle):.1f} ms median, {compute_p99(idle):.1f} ms p99")
    print_figure(
        f"scrape, ten queries running ({done[0]} done)", f"{median(loaded):.1f} ms median, {compute_p99(loaded):.1f} ms p99"
    )
    print_figure("p99 under load to p99 idle", f"{compute_p99(loaded) / compute_p99(idle):.2f}")


def measure_export(folder: Path, work: Path) -> None:
    """Print how fast the ledger is written out, and whether promtool takes it."""
    file = work / "history.om"
    with Ledger(folder) as ledger:
        started = time.perf_counter()
        count = export_series(ledger, {}, ExportSelection(), datetime.now(UTC), file)
        duration = time.perf_counter() - started
        print_figure(
            "export", f"{count} samples in {duration:.1f} s: {count / duration:,.0f} a second; {file.stat().st_size >> 20} MiB"
        )
        started = time.perf_counter()
        output = programs.run_promtool(
            *("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=744h", "--quiet"),
            file,
            work / "blocks",
            timeout=1800,
        )
        print_figure("promtool, blocks of it", f"{time.perf_counter() - started:.1f} s, complaints: {output.strip() or 'none'}")


def compute_p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100)[98]


def print_figure(name: str, figure: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{name:48} {figure}\n")


def main() -> None:
    """Run it all, or serve as the exporter that is measured."""
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve_ledger(Path(sys.argv[2])))
        return
    if sys.argv[1:2] == ["--ask"]:
        asyncio.run(run_queries(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(sys.argv[1]) if sys.argv[1:] else Path(work) / "data"
        build_ledger(folder)
        asyncio.run(measure(folder, Path(work)))
        measure_export(folder, Path(work))


if __name__ == "__main__":
    main()
