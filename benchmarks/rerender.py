"""The page anew after a visit that changed 1 % of the counters: what it costs, and how long a scrape may wait meanwhile."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.apart import apart
from benchmarks.figures import Figure, Report
from benchmarks.fleet import ACCOUNT, Fleet
from benchmarks.late import lateness
from exporter import heap

SHARE, VISITS = 0.01, 15


def measure(sizes: Sequence[int]) -> Report:
    """Render fleets of these sizes again."""
    report = Report("Render again", "after a visit that changed 1 % of the counters; both forms of the page kept")
    for series in sizes:
        report.figures += apart(again, series)
    cost, late = report.at("CPU, µs a series"), report.at("longest that the event loop was late, ms")
    report.goals += [
        report.goal("rendering 100,000 series again, 1 % changed", cost, most=0.5, say="{:.2f} µs a series".format),
        report.goal("longest a scrape waits for it", late, most=20, say="{:.1f} ms".format),
    ]
    return report


def again(series: int) -> list[Figure]:
    """Do it, in this process."""
    heap.take_turns()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_again(Fleet(Path(folder), series), series))


async def _again(fleet: Fleet, series: int) -> list[Figure]:
    fleet.fill()
    spent = []

    def refresh() -> None:
        done = fleet.changed(SHARE)
        started = time.thread_time()
        fleet.page.refresh(ACCOUNT, done)
        spent.append(time.thread_time() - started)

    for gzip in (False, True):
        fleet.page.body(gzip=gzip)
    async with lateness(0.001) as late:
        await asyncio.sleep(0.5)
        before = max(late)
        late.clear()
        for _ in range(VISITS):
            await asyncio.to_thread(refresh)
    fleet.ledger.close()
    return [
        Figure("CPU, µs a series", series, median(spent) / series * 1e6),
        Figure("longest that the event loop was late, ms", series, max(late) * 1000),
        Figure("longest without any visit, ms", series, before * 1000),
    ]
