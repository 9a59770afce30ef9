"""Small charts as SVG: bars of days and months, and the line of a load curve. A missing value is a gap, never a zero."""

from collections.abc import Sequence
from dataclasses import dataclass

BAR_WIDTH, CHART_HEIGHT = 10, 48
"""In the chart's own units; it is scaled to its place."""


@dataclass(frozen=True, slots=True)
class BarValue:
    """A value to be drawn: what it is called, how much it is (None: not known), and whether it is not complete yet."""

    title: str
    value: float | None
    is_partial: bool = False
    paler: float | None = None
    """A value drawn beside it: that of a year before."""
    paler_title: str = ""
    is_paler_partial: bool = False
    label: str = ""
    """A text under the bar."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, ready to be rendered."""

    x: float
    y: float
    width: float
    height: float
    css_class: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars or a line in a box, with a description for who cannot see it."""

    width: int
    height: int
    bars: Sequence[Bar]
    labels: Sequence[str]
    """A text under each bar, or none."""
    description: str
    line: str = ""
    """The points of a line, as SVG has them."""


def build_bar_chart(values: Sequence[BarValue], description: str, *, width: int = BAR_WIDTH) -> Chart | None:
    """Return a chart of bars from zero; None where no value is known."""
    known = [one for value in values for one in (value.value, value.paler) if one is not None]
    if not known:
        return None
    top, bottom = max(0.0, *known), min(0.0, *known)
    scale = CHART_HEIGHT / ((top - bottom) or 1.0)
    zero = top * scale

    is_paired = any(value.paler is not None for value in values)

    def build_bar(position: float, value: float, css_class: str, title: str) -> Bar:
        height = max(abs(value) * scale, 0.75)  # a zero that was measured is seen
        y = zero - height if value >= 0 else zero
        share = 0.4 if is_paired else 0.8
        return Bar(round((position + 0.1) * width, 2), round(y, 2), width * share, round(height, 2), css_class, title)

    bars = []
    for position, value in enumerate(values):
        if value.paler is not None:
            css_class = "before partial" if value.is_paler_partial else "before"
            bars.append(build_bar(position, value.paler, css_class, value.paler_title))
        if value.value is not None:
            bars.append(
                build_bar(position + 0.4 * is_paired, value.value, "partial" if value.is_partial else "whole", value.title)
            )
    return Chart(len(values) * width, CHART_HEIGHT, bars, [value.label for value in values if value.label], description)


def build_line_chart(values: Sequence[tuple[float, float]], width: int, description: str) -> Chart | None:
    """Return a chart of a line through (x, y), x from 0 to `width`; None where no value is known."""
    if not values:
        return None
    scale = CHART_HEIGHT / (max(0.0, *(y for _, y in values)) or 1.0)
    line = " ".join(f"{x:.1f},{CHART_HEIGHT - max(y, 0.0) * scale:.1f}" for x, y in values)
    return Chart(width, CHART_HEIGHT, (), (), description, line)
