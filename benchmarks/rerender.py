"""Rendering the page again after a visit that changed 1 % of the counters: its cost, and the longest delay of a scrape."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.counter_fleet import ACCOUNT, Fleet
from benchmarks.measuring import run_in_new_process, watch_loop_delay
from benchmarks.results import Figure, Report
from exporter import runtime

CHANGED_SHARE, VISITS = 0.01, 15


def measure(sizes: Sequence[int]) -> Report:
    """Render fleets of these sizes again."""
    report = Report("Render again", "after a visit that changed 1 % of the counters; both forms of the page kept")
    for series in sizes:
        report.figures += run_in_new_process(measure_rerender, series)
    cost, late = report.find_value("CPU, µs a series"), report.find_value("longest that the event loop was late, ms")
    report.goals += [
        report.check_goal(
            "rendering 100,000 series again, 1 % changed", cost, maximum=0.5, format_value="{:.2f} µs a series".format
        ),
        report.check_goal("longest a scrape waits for it", late, maximum=20, format_value="{:.1f} ms".format),
    ]
    return report


def measure_rerender(series: int) -> list[Figure]:
    """Do it, in this process."""
    runtime.tune_interpreter()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure_rerender(Fleet(Path(folder), series), series))


async def _measure_rerender(fleet: Fleet, series: int) -> list[Figure]:
    fleet.record_first_visit()
    spent = []

    def refresh() -> None:
        done = fleet.record_changes(CHANGED_SHARE)
        started = time.thread_time()
        fleet.page.refresh(ACCOUNT, done)
        spent.append(time.thread_time() - started)

    for gzip in (False, True):
        fleet.page.render_parts(compress=gzip)
    async with watch_loop_delay(0.001) as late:
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
