"""Remote write end to end into VictoriaMetrics: a sample counts when it is there and the ledger remembers that."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.apart import apart
from benchmarks.figures import Figure, Report
from benchmarks.history_write import Delivered, counters, deliver, half_hours
from benchmarks.peers import find
from exporter.ledger import Ledger

POINTS, VISITS, BATCH = 50, 48, 10_000
SAMPLES = 1_000_000
"""Of which the goals speak."""


def measure(sizes: Sequence[int]) -> Report:
    """Deliver ledgers with ten times as many samples as `sizes` says, in long series and in short ones."""
    report = Report(
        "Remote write", f"samples a second, by samples: {POINTS} long series of half-hours, short ones of {VISITS} readings"
    )
    if not find("victoria-metrics"):
        report.notes.append("VictoriaMetrics is not installed (Debian: victoria-metrics)")
        sizes = ()
    for samples in (10 * size for size in sizes):
        report.figures += [Figure(f"{form} series", samples, apart(delivered, form, samples)) for form in ("long", "short")]
    for form in ("long", "short"):
        value = report.at(f"{form} series", SAMPLES)
        report.goals.append(report.goal(f"remote write, {form} series", value, least=250_000, say="{:,.0f} samples/s".format))
    return report


def delivered(form: str, samples: int) -> float:
    """Deliver in this process; gives samples a second."""
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder)) as ledger:
        if form == "long":
            count = half_hours(ledger, POINTS, max(1, samples // POINTS // 48))
        else:
            count = counters(ledger, max(1, samples // VISITS), VISITS)
        done: Delivered = asyncio.run(deliver(ledger, count, BATCH))
    assert (done.there, done.refused) == (count, 0), f"{done.there} of {count} samples are there, {done.refused} were refused"
    return count / done.wall
