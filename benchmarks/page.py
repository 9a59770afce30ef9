"""The reports as docs/performance.md shows them: goals first, then every figure by size, and plots."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from benchmarks.figures import Figure, Report
from benchmarks.plot import plot

DOCS = Path(__file__).parent.parent / "docs"
FILE, IMAGES = DOCS / "performance.md", DOCS / "images"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
MET = {True: "yes", False: "**no**", None: "not measured"}


def renew(reports: Sequence[Report], took: float) -> None:
    """Put what was measured into the document, and draw it."""
    text = FILE.read_text()
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    FILE.write_text(f"{head}{BEGIN}\n{measured(reports, took)}\n{tail}")
    for report in reports:
        drawn = [figure for figure in report.figures if figure.what in (report.drawn or [figure.what])]
        (IMAGES / _image(report)).write_text(plot(drawn, report.title))


def measured(reports: Sequence[Report], took: float) -> str:
    """Say all of it in Markdown."""
    said = [
        f"Measured on {date.today():%-d %B %Y} in one run of {took / 60:.0f} minutes: {_machine()}.",  # noqa: DTZ011  # the reader's day
        goals(reports),
    ]
    for report in reports:
        said += [f"### {report.title}", f"{report.unit[0].upper()}{report.unit[1:]}.", table(report.figures)]
        said += [f"![{report.title}: the figures of the table by size, on logarithmic axes](images/{_image(report)})"]
        said += [f"Not measured: {note}." for note in report.notes]
    return "\n\n".join(said) + "\n"


def goals(reports: Iterable[Report]) -> str:
    """Make the table of what was wanted."""
    rows = [(goal.what, goal.wanted, goal.measured, MET[goal.met]) for report in reports for goal in report.goals]
    return _table(["what", "target", "measured", "met"], rows)


def table(figures: Sequence[Figure]) -> str:
    """Make a table of figures, by size."""
    sizes = sorted({figure.size for figure in figures})
    values = {(figure.what, figure.size): figure.value for figure in figures}
    names = list(dict.fromkeys(figure.what for figure in figures))
    rows = [[name, *(number(values[name, size]) if (name, size) in values else "" for size in sizes)] for name in names]
    return _table(["", *(f"{size:,}" for size in sizes)], rows)


def number(value: float) -> str:
    """Write three digits of a number, or a large one whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _image(report: Report) -> str:
    return f"performance-{report.title.lower().replace(' ', '-')}.svg"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = os.getloadavg()[2]
    return f"{len(names)} cores of {names[0]}, Python {platform.python_version()}, mean load {load:.1f}"
