"""Remote read of a month of half-hours of many registers: how fast, and the most memory that the reading process takes."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import read_memory_mb
from benchmarks.remote_write import NOW, fill_half_hours
from benchmarks.results import Figure, Report
from exporter.history.config import HistorySettings
from exporter.history.read_worker import RemoteReader
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger
from tests.history.remote_read_client import REGEXP, build_request

DAYS = 30
MATCHERS = [(REGEXP, "__name__", "utility_.+")]


def measure(sizes: Sequence[int]) -> Report:
    """Read fleets of these sizes."""
    report = Report("Remote read", f"{DAYS} days of half-hours of so many registers in one query, read by history's own process")
    for registers in (size for size in sizes if size <= 10_000):
        with tempfile.TemporaryDirectory() as folder:
            report.figures += _measure_read(Path(folder), registers)
    few, many = (report.find_value("memory, peak, MB", registers) for registers in (100, 1000))
    more = many / few if few and many else None
    what = "remote read of a month: memory for 1,000 registers to that for 100"
    report.goals.append(report.check_goal(what, more, maximum=1.5, format_value="{:.3g} times".format))
    return report


def _measure_read(folder: Path, registers: int) -> list[Figure]:
    with Ledger(folder) as ledger:
        samples = fill_half_hours(ledger, registers, DAYS)
        length, duration, peak = asyncio.run(_read_all(ledger))
    assert length > samples
    return [
        Figure("samples a second", registers, samples / duration),
        Figure("answer, MB", registers, length / 1e6),
        Figure("memory, peak, MB", registers, peak),
    ]


async def _read_all(ledger: Ledger) -> tuple[int, float, float]:
    """Ask for everything, and discard the response; return its size in bytes, the duration, and the worker's peak memory."""
    reader = RemoteReader(ledger, lambda: NOW, HistorySettings(max_samples=200_000_000))
    try:
        for end_ms in (1, to_ms(NOW)):  # the first starts the worker, and has no samples
            started, length = time.perf_counter(), 0
            async for chunk in reader.read(build_request((0, end_ms, MATCHERS)), "", lambda: None):
                length += len(chunk)
        duration = time.perf_counter() - started
        (worker,) = reader._reads
        return length, duration, read_memory_mb("VmHWM", worker.process.pid)
    finally:
        reader.close()
