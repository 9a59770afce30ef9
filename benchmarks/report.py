"""The results as Markdown tables, and as SVG plots of lines by size on two logarithmic axes."""

import math
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

from benchmarks.results import Figure, Report

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 90, 270, 40, 30
COLOURS = ("#3b7d23", "#7fb069", "#1f77b4", "#8fbfe0", "#d1495b", "#edae49", "#66418f", "#00798c", "#999999", "#333333")
DOCS = Path(__file__).parent.parent / "docs"
FILE, IMAGES = DOCS / "performance.md", DOCS / "images"
BEGIN_MARK, END_MARK = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
MET_TEXTS = {True: "yes", False: "**no**", None: "not measured"}


def draw_plot(figures: Sequence[Figure], title: str) -> str:
    """Draw every line that has figures."""
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for figure in figures:
        if figure.value > 0:
            lines[figure.name].append((math.log10(figure.size), math.log10(figure.value)))
    return "\n".join(["".join(_draw_title(title)), *_draw_lines(lines), "</svg>", ""])


def _draw_title(title: str) -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield f'<text x="{LEFT}" y="22" font-size="15">{title}</text>'


def _draw_lines(lines: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    points = [point for line in lines.values() for point in line]
    if not points:
        return
    (left, right), (low, high) = (_find_bounds([point[axis] for point in points]) for axis in (0, 1))

    def to_point(x: float, y: float) -> tuple[float, float]:
        wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + (x - left) / (right - left) * wide, 1), round(HEIGHT - BOTTOM - (y - low) / (high - low) * tall, 1)

    for power in range(left, right + 1):
        x, y = to_point(power, low)
        yield f'<path d="M{x} {y}V{TOP}" stroke="#ddd"/><text x="{x}" y="{y + 18}" text-anchor="middle">{10**power:,}</text>'
    for power in range(low, high + 1):
        x, y = to_point(left, power)
        yield f'<path d="M{x} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{x - 8}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>'
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (to_point(*point) for point in sorted(line)))
        y = TOP + 12 + 20 * number
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield f'<rect x="{WIDTH - RIGHT + 16}" y="{y - 9}" width="14" height="4" fill="{colour}"/>'
        yield f'<text x="{WIDTH - RIGHT + 36}" y="{y - 3}">{name}</text>'


def _find_bounds(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(min(values)), math.ceil(max(values))
    return low, max(high, low + 1)


def update_document(reports: Sequence[Report], duration: float) -> None:
    """Write the results into the document, and draw the plots."""
    text = FILE.read_text()
    head, tail = text[: text.index(BEGIN_MARK)], text[text.index(END_MARK) :]
    FILE.write_text(f"{head}{BEGIN_MARK}\n{format_document(reports, duration)}\n{tail}")
    for report in reports:
        drawn = [figure for figure in report.figures if figure.name in (report.plotted or [figure.name])]
        (IMAGES / _image_name(report)).write_text(draw_plot(drawn, report.title))


def format_document(reports: Sequence[Report], duration: float) -> str:
    """Return all results in Markdown."""
    parts = [
        f"Measured on {date.today():%-d %B %Y} in one run of {duration / 60:.0f} minutes: {_describe_machine()}.",  # noqa: DTZ011  # the reader's day
        format_goals(reports),
    ]
    for report in reports:
        parts += [f"### {report.title}", f"{report.unit[0].upper()}{report.unit[1:]}.", format_figures(report.figures)]
        parts += [f"![{report.title}: the figures of the table by size, on logarithmic axes](images/{_image_name(report)})"]
        parts += [f"Not measured: {note}." for note in report.notes]
    return "\n\n".join(parts) + "\n"


def format_goals(reports: Iterable[Report]) -> str:
    """Return the table of goals."""
    rows = [(goal.name, goal.target, goal.measured, MET_TEXTS[goal.is_met]) for report in reports for goal in report.goals]
    return _format_table(["what", "target", "measured", "met"], rows)


def format_figures(figures: Sequence[Figure]) -> str:
    """Return a table of figures, by size."""
    sizes = sorted({figure.size for figure in figures})
    values = {(figure.name, figure.size): figure.value for figure in figures}
    names = list(dict.fromkeys(figure.name for figure in figures))
    rows = [[name, *(format_number(values[name, size]) if (name, size) in values else "" for size in sizes)] for name in names]
    return _format_table(["", *(f"{size:,}" for size in sizes)], rows)


def format_number(value: float) -> str:
    """Return three significant digits of a number, or all of a large one."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _image_name(report: Report) -> str:
    return f"performance-{report.title.lower().replace(' ', '-')}.svg"


def _format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _describe_machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = os.getloadavg()[2]
    return f"{len(names)} cores of {names[0]}, Python {platform.python_version()}, mean load {load:.1f}"
