"""Thinning a year's half-hourly readings of many counters, and shortening the file, while visits write."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.remote_write import insert_series
from benchmarks.results import Figure, Report
from exporter.clock import WallClock
from exporter.ledger.account_state import AccountState
from exporter.ledger.database import LEDGER_FILE, to_ms
from exporter.ledger.ledger import Ledger
from exporter.ledger.maintenance import run_maintenance
from exporter.models import VisitResult

KEPT_DAYS, OLD_DAYS, HOUR_MS = 90, 60, 3_600_000
"""Days kept as read; days older than that; milliseconds."""
PLOTTED = ("all of it, s", "longest that a visit waited, ms", "a visit waited, median, ms", "file before, MB", "file after, MB")


def measure(sizes: Sequence[int]) -> Report:
    """Thin fleets of these sizes."""
    report = Report(
        "Thinning",
        f"{OLD_DAYS} days of hourly readings older than {KEPT_DAYS} days, while visits are kept ten times a second",
        PLOTTED,
    )
    for counters in sizes:
        with tempfile.TemporaryDirectory() as folder:
            report.figures += asyncio.run(_measure_thinning(Path(folder), counters))
    report.goals.append(
        report.check_goal(
            "longest a visit waits for the thinning of 1,000 counters",
            report.find_value("longest that a visit waited, ms", 1000),
            maximum=250,
            format_value="{:.0f} ms".format,
        )
    )
    return report


async def _measure_thinning(folder: Path, counters: int) -> list[Figure]:
    with Ledger(folder) as ledger:
        _fill_ledger(ledger, counters)
    with Ledger(folder) as ledger:
        file = folder / LEDGER_FILE
        before = file.stat().st_size
        waited: list[float] = []
        visits = asyncio.create_task(_record_visits(ledger, waited))
        started = time.perf_counter()
        await run_maintenance(ledger, WallClock(), KEPT_DAYS)
        duration = time.perf_counter() - started
        visits.cancel()
        await asyncio.wait([visits])
        after = ledger.get_state("home")
    return [
        Figure("readings before", counters, counters * (OLD_DAYS + KEPT_DAYS) * 24),
        Figure("readings thinned", counters, after.thinned),
        Figure("all of it, s", counters, duration),
        Figure("longest that a visit waited, ms", counters, max(waited) * 1000),
        Figure("a visit waited, median, ms", counters, median(waited) * 1000),
        Figure("file before, MB", counters, before / 1e6),
        Figure("file after, MB", counters, file.stat().st_size / 1e6),
    ]


def _fill_ledger(ledger: Ledger, counters: int) -> None:
    insert_series(ledger, counters, "index", "")
    end = to_ms(datetime.now(UTC)) // HOUR_MS * HOUR_MS
    with ledger.database.write() as db:
        for line in range(1, counters + 1):
            rows = ((line, end - hour * HOUR_MS, 1e5 - hour, None) for hour in range((OLD_DAYS + KEPT_DAYS) * 24, 0, -1))
            db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, 1)", rows)
        db.execute("UPDATE account SET readings = (SELECT count(*) FROM reading)")
        visits = ((end - day * 24 * HOUR_MS,) for day in range(7))  # nothing grows old before there were visits on seven days
        db.executemany("INSERT INTO visit (account, at) VALUES (1, ?)", visits)


async def _record_visits(ledger: Ledger, waits: list[float]) -> None:
    """Keep a note again and again, as a visit is kept."""
    number = 0
    while True:
        number += 1
        now = datetime.now(UTC)
        started = time.perf_counter()
        await asyncio.to_thread(
            ledger.record_visit, "home", VisitResult(notes=[str(number)]), AccountState(last_visit=now), at=now
        )
        waits.append(time.perf_counter() - started)
        await asyncio.sleep(0.1)
