"""Lines by size on two logarithmic axes, as SVG."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 90, 270, 40, 30
COLOURS = ("#3b7d23", "#7fb069", "#1f77b4", "#8fbfe0", "#d1495b", "#edae49", "#66418f", "#00798c", "#999999", "#333333")


def plot(figures: Sequence[Figure], title: str) -> str:
    """Draw every line that has figures."""
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for figure in figures:
        if figure.value > 0:
            lines[figure.what].append((math.log10(figure.size), math.log10(figure.value)))
    return "\n".join(["".join(_head(title)), *_body(lines), "</svg>", ""])


def _head(title: str) -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield f'<text x="{LEFT}" y="22" font-size="15">{title}</text>'


def _body(lines: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    points = [point for line in lines.values() for point in line]
    if not points:
        return
    (left, right), (low, high) = (_bounds([point[axis] for point in points]) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + (x - left) / (right - left) * wide, 1), round(HEIGHT - BOTTOM - (y - low) / (high - low) * tall, 1)

    for power in range(left, right + 1):
        x, y = place(power, low)
        yield f'<path d="M{x} {y}V{TOP}" stroke="#ddd"/><text x="{x}" y="{y + 18}" text-anchor="middle">{10**power:,}</text>'
    for power in range(low, high + 1):
        x, y = place(left, power)
        yield f'<path d="M{x} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{x - 8}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>'
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in sorted(line)))
        y = TOP + 12 + 20 * number
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield f'<rect x="{WIDTH - RIGHT + 16}" y="{y - 9}" width="14" height="4" fill="{colour}"/>'
        yield f'<text x="{WIDTH - RIGHT + 36}" y="{y - 3}">{name}</text>'


def _bounds(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(min(values)), math.ceil(max(values))
    return low, max(high, low + 1)
