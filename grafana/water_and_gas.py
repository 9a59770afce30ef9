"""Water and gas: days, nights, months, and signs of a leak."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.board import Row, account, board, usage_point
from grafana.months import month_against_year
from grafana.overview import POINT_LABELS, YES_IS_BAD, health_row, summed
from grafana.parts import (
    HISTORY_SAYS,
    NEEDS_BOTH,
    NEEDS_HISTORY,
    NEEDS_HOURLY,
    RULES_SAY,
    Ask,
    Column,
    Look,
    Panel,
    bar_gauge,
    bars,
    lines,
    rows,
    stairs,
)
from grafana.promql import BY_POINT, GAS, HOUR, NEXT, NOT_GAS, days, gone_by, live, only, past, recent, total

VOLUME = "utility_interval_consumption_m3"
INDEX = "utility_measured_index_m3"
WATER, FLOWING = 'commodity="water"', 'commodity=~"water|gas"'
HOURS_OF_FLOW = ((None, "green"), (12, "orange"), (24, "red"))
TIMES = ((None, "green"), (1.5, "orange"), (2.5, "red"))
DAY_LATE = " A day's data can show that water ran all night; it cannot show a tap that is open now."


def flowing(expression: str) -> str:
    """Keep the usage points of water and gas, as the page knows them now."""
    return f"{expression} and on ({BY_POINT}) {live('utility_usage_point_info', FLOWING)}"


def water_and_gas() -> Dashboard:
    """Make the dashboard."""
    return board(
        "utility-water-gas",
        "Utilities / Water and gas",
        "Days, nights and months of water and gas, and what looks like a leak.",
        (account(FLOWING), usage_point(FLOWING)),
        (
            Row("", health_row()),
            Row("Leaks", leaks()),
            Row("Today's truth", (today(),)),
            Row("Days", by_day()),
            Row("Nights and hours", nights()),
            Row("Months", months()),
        ),
    )


def leaks() -> Sequence[Panel]:
    """Make what points at a leak."""
    return (
        rows(
            "Stated by the portal",
            "Unusual consumption is the portal's own judgement of the days before, often a leak; it stays for days after "
            "the repair.",
            (
                Column("Unusual consumption", summed("utility_divergent_consumption"), words=YES_IS_BAD),
                Column("Flow limited", summed("utility_flow_limitation"), words=YES_IS_BAD),
                Column("Days behind", summed("utility_day_offset")),
            ),
            Look(width=8, height=8, nothing="No flag told"),
            POINT_LABELS,
        ),
        bar_gauge(
            "Hours without a pause",
            "For how long water or gas has flowed without a pause up to the newest reading; at most 72. Needs readings every "
            "hour or so. A heating runs for days, a tap does not." + DAY_LATE + HISTORY_SAYS + RULES_SAY,
            [Ask(f"topk(15, {flowing(recent('usage_point:utility_flow:hours'))})", "{{usage_point}}")],
            Look("h", 8, 8, HOURS_OF_FLOW, nothing=NEEDS_BOTH),
        ),
        bar_gauge(
            "Newest day against the same weekday",
            "The newest day known as a multiple of the mean of that weekday in the four weeks before."
            + DAY_LATE
            + HISTORY_SAYS
            + RULES_SAY,
            [Ask(f"topk(15, {flowing(recent('usage_point:utility_day:against_weekday'))})", "{{usage_point}}")],
            Look("short", 8, 8, TIMES, nothing=NEEDS_BOTH, decimals=1),
        ),
    )


def today() -> Panel:
    """Make the table of all sums the page knows."""
    return rows(
        "Usage points",
        "Index, the latest complete day, its month and year up to it, and the month before where every day of it is known.",
        (
            Column("", f"max by ({BY_POINT}, commodity) ({live('utility_usage_point_info', FLOWING)})", hidden=True),
            Column("Age", flowing(f"max by ({BY_POINT}) ({live('utility_reading_age_seconds')})"), "s"),
            Column("Index", flowing(summed("utility_consumption_index_m3")), "m3", 3),
            Column("Last 24 h", flowing(gone_by("m3", "1d")), "m3", 3),
            Column("Latest day", flowing(summed("utility_daily_consumption_m3")), "m3", 3),
            Column("Month", flowing(summed("utility_monthly_consumption_m3")), "m3", 2),
            Column("Month before", flowing(summed("utility_previous_month_consumption_m3")), "m3", 2),
            Column("Year", flowing(summed("utility_yearly_consumption_m3")), "m3", 1),
            Column("Year, gas as energy", flowing(summed("utility_yearly_consumption_kwh")), "kwatth", 0),
            Column("Cost of the month", flowing(past("usage_point:utility_monthly_cost:eur")), "currencyEUR", 2),
        ),
        Look(width=24, height=9, nothing="Not told, or needs remote read"),
        POINT_LABELS | {"commodity": "Kind"},
    )


def by_day() -> Sequence[Panel]:
    """Make the day bars of water and of gas."""
    return (
        bars(
            "Water by day",
            "Each day on its own day; over long spans each bar is a week or more." + HISTORY_SAYS,
            [Ask(total(days(VOLUME, NOT_GAS)), "{{usage_point}}", "1d")],
            Look("m3", 12, 9, nothing=NEEDS_HISTORY, decimals=2),
            stacked=False,
        ),
        bars(
            "Gas by day",
            "Each gas day, six to six, on the day it begins; over long spans each bar is a week or more." + HISTORY_SAYS,
            [Ask(total(days(VOLUME, GAS)), "{{usage_point}}", "1d")],
            Look("m3", 6, 9, nothing=NEEDS_HISTORY, decimals=2),
            stacked=False,
        ),
        bars(
            "Gas by day, as energy",
            "Each gas day in kWh, by the network's own conversion." + HISTORY_SAYS,
            [Ask(total(days("utility_interval_consumption_kwh", GAS)), "{{usage_point}}", "1d")],
            Look("kwatth", 6, 9, nothing=NEEDS_HISTORY),
            stacked=False,
        ),
    )


def nights() -> Sequence[Panel]:
    """Make the flow of the small hours, and gas by the hour."""
    index = past(INDEX)
    night = total(f"last_over_time({index}[2h] offset -5h) - last_over_time({index}[2h] offset -2h)")
    return (
        bars(
            "Night flow of water",
            "What registers that are read every hour or so counted between two and five at night, the twenty highest: a tight "
            "house has nothing." + DAY_LATE + HISTORY_SAYS,
            [Ask(f"topk(20, {only(night, WATER)})", "{{usage_point}}", "1d")],
            Look("m3", 12, 9, nothing=NEEDS_HOURLY, decimals=3),
            stacked=False,
        ),
        stairs(
            "Gas by the hour",
            "Volume of each hour; over long spans the mean of hours." + HISTORY_SAYS,
            [Ask(total(f"avg_over_time({past(VOLUME, HOUR, GAS)}{NEXT})"), "{{usage_point}}", "1h")],
            Look("m3", 12, 9, nothing=NEEDS_HISTORY, decimals=2),
        ),
    )


def months() -> Sequence[Panel]:
    """Make the sums of 30 days, a year before too, and the registers' own curve."""
    look = Look("m3", 8, 9, nothing=NEEDS_HISTORY)
    index = lines(
        "Index",
        "What the registers showed, on the instants they were read." + HISTORY_SAYS,
        [Ask(f"max by ({BY_POINT}, register) (last_over_time({past(INDEX)}[$__interval]))", "{{usage_point}}", "1d")],
        look,
    )
    return (
        month_against_year("Water: month against the year before", (VOLUME, NOT_GAS), look, explained=True),
        month_against_year("Gas: month against the year before", (VOLUME, GAS), look),
        index,
    )
