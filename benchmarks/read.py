"""Remote read of a month of half-hours of many registers: how fast, and the most memory that the reading process takes."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure, Report
from benchmarks.history_write import NOW, half_hours
from benchmarks.visit import memory_of
from exporter.history.helper import ASKED, END, PART, PIECE, Helper
from exporter.ledger import Ledger, to_ms
from tests.history.asking import REGEXP, request

DAYS = 30
MATCHERS = [(REGEXP, "__name__", "utility_.+")]


def measure(sizes: Sequence[int]) -> Report:
    """Read fleets of these sizes."""
    report = Report("Remote read", f"{DAYS} days of half-hours of so many registers in one query, read by history's own process")
    for registers in (size for size in sizes if size <= 10_000):
        with tempfile.TemporaryDirectory() as folder:
            report.figures += _read(Path(folder), registers)
    few, many = (report.at("memory, peak, MB", registers) for registers in (100, 1000))
    more = many / few if few and many else None
    what = "remote read of a month: memory for 1,000 registers to that for 100"
    report.goals.append(report.goal(what, more, most=1.5, say="{:.3g} times".format))
    return report


def _read(folder: Path, registers: int) -> list[Figure]:
    with Ledger(folder) as ledger:
        samples = half_hours(ledger, registers, DAYS)
    helper = Helper(folder, {}, 200_000_000)
    try:
        _ask(helper, 1)
        started = time.perf_counter()
        length = _ask(helper, to_ms(NOW))
        taken, peak = time.perf_counter() - started, memory_of("VmHWM", helper.process.pid)
    finally:
        helper.close()
    assert length > samples
    return [
        Figure("samples a second", registers, samples / taken),
        Figure("answer, MB", registers, length / 1e6),
        Figure("memory, peak, MB", registers, peak),
    ]


def _ask(helper: Helper, last: int) -> int:
    """Ask for everything up to an instant, and let the answer go by; gives its bytes."""
    body, length = request((0, last, MATCHERS)), 0
    with helper.connect() as connection, connection.makefile("rwb") as stream:
        stream.write(ASKED.pack(to_ms(NOW), len(body)) + body)
        stream.flush()
        while True:
            kind, size = PART.unpack(stream.read(PART.size))
            said = stream.read(size)
            if kind != PIECE:
                assert kind == END, said
                return length
            length += size
