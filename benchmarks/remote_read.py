"""Remote read of a month of half-hours of many registers: how fast, and the most memory that the reading process takes."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import read_memory_mb
from benchmarks.remote_write import NOW, fill_half_hours
from benchmarks.results import Figure, Report
from exporter.history.read_worker import ReadWorker, WorkerSettings, receive_chunk, send_request
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
    worker = ReadWorker(folder, WorkerSettings({}, 200_000_000, ()))
    try:
        asyncio.run(_read_all(worker, 1))
        started = time.perf_counter()
        length = asyncio.run(_read_all(worker, to_ms(NOW)))
        duration, peak = time.perf_counter() - started, read_memory_mb("VmHWM", worker.process.pid)
    finally:
        worker.close()
    assert length > samples
    return [
        Figure("samples a second", registers, samples / duration),
        Figure("answer, MB", registers, length / 1e6),
        Figure("memory, peak, MB", registers, peak),
    ]


async def _read_all(worker: ReadWorker, end_ms: int) -> int:
    """Ask for everything up to an instant, and discard the response; return its size in bytes."""
    length = 0
    connection, ending = worker.connect(NOW)
    with connection, ending:
        await send_request(connection, build_request((0, end_ms, MATCHERS)))
        while chunk := await receive_chunk(connection):
            length += len(chunk)
    return length
