"""Thinning a year's half-hourly readings of many counters, and shortening the file, while visits write."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Report
from benchmarks.history_write import series_of
from exporter.clock import WallClock
from exporter.housekeeping import tidy
from exporter.ledger import FILE, AccountState, Ledger, to_ms
from exporter.model import Note

KEPT, OLD, HOUR = 90, 60, 3_600_000
"""Days kept as read; days older than that; milliseconds."""
DRAWN = ("all of it, s", "longest that a visit waited, ms", "a visit waited, median, ms", "file before, MB", "file after, MB")


def measure(sizes: Sequence[int]) -> Report:
    """Thin fleets of these sizes."""
    report = Report(
        "Thinning", f"{OLD} days of hourly readings older than {KEPT} days, while visits are kept ten times a second", DRAWN
    )
    for counters in sizes:
        with tempfile.TemporaryDirectory() as folder:
            report.figures += asyncio.run(_thinned(Path(folder), counters))
    report.goals.append(
        report.goal(
            "longest a visit waits for the thinning of 1,000 counters",
            report.at("longest that a visit waited, ms", 1000),
            most=250,
            say="{:.0f} ms".format,
        )
    )
    return report


async def _thinned(folder: Path, counters: int) -> list[Figure]:
    with Ledger(folder) as ledger:
        _fill(ledger, counters)
    with Ledger(folder) as ledger:
        file = folder / FILE
        before = file.stat().st_size
        waited: list[float] = []
        visits = asyncio.create_task(_visits(ledger, waited))
        started = time.perf_counter()
        await tidy(ledger, WallClock(), KEPT)
        taken = time.perf_counter() - started
        visits.cancel()
        await asyncio.wait([visits])
        after = ledger.state("home")
    return [
        Figure("readings before", counters, counters * (OLD + KEPT) * 24),
        Figure("readings thinned", counters, after.thinned),
        Figure("all of it, s", counters, taken),
        Figure("longest that a visit waited, ms", counters, max(waited) * 1000),
        Figure("a visit waited, median, ms", counters, median(waited) * 1000),
        Figure("file before, MB", counters, before / 1e6),
        Figure("file after, MB", counters, file.stat().st_size / 1e6),
    ]


def _fill(ledger: Ledger, counters: int) -> None:
    series_of(ledger, counters, "index", "")
    end = to_ms(datetime.now(UTC)) // HOUR * HOUR
    with ledger.store.write() as db:
        for line in range(1, counters + 1):
            rows = ((line, end - hour * HOUR, 1e5 - hour, None) for hour in range((OLD + KEPT) * 24, 0, -1))
            db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, 1)", rows)
        db.execute("UPDATE account SET readings = (SELECT count(*) FROM reading)")
        visits = ((end - day * 24 * HOUR,) for day in range(7))  # nothing grows old before there were visits on seven days
        db.executemany("INSERT INTO visit (account, at) VALUES (1, ?)", visits)


async def _visits(ledger: Ledger, waited: list[float]) -> None:
    """Keep a note again and again, as a visit is kept."""
    number = 0
    while True:
        number += 1
        now = datetime.now(UTC)
        started = time.perf_counter()
        await asyncio.to_thread(ledger.record_visit, "home", [Note(str(number))], AccountState(last_visit=now), at=now)
        waited.append(time.perf_counter() - started)
        await asyncio.sleep(0.1)
