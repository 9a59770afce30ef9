"""A month against the year before, of any commodity."""

from grafana.parts import HISTORY_SAYS, Ask, Look, Panel, dashed, lines
from grafana.promql import month_until


def month_against_year(title: str, selected: tuple[str, ...], look: Look, *, explained: bool = False) -> Panel:
    """Make the sums of 30 days and their counterparts 52 weeks before; `selected` is a family and its matchers."""
    panel = lines(
        title,
        f"Sum of the 30 days up to each day, and 52 weeks before{', so that weekdays meet' if explained else ''}." + HISTORY_SAYS,
        [
            Ask(month_until(*selected), "{{usage_point}}", "1d"),
            Ask(month_until(*selected, offset=" offset 52w"), "{{usage_point}} a year before", "1d"),
        ],
        look,
    )
    return dashed(panel, ".*a year before")
