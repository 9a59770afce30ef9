"""Water and gas: is there a leak; does the heating behave."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboard import Row, account, build_dashboard, usage_point
from grafana.home import POINT_LABELS, YES_IS_BAD, data_until_panel, health_panel, summed
from grafana.panels import (
    ANY_IS_BAD,
    EURO,
    HISTORY_USED,
    HOURS,
    KWH,
    M3,
    NEEDS_BOTH,
    NEEDS_HOURLY,
    NEEDS_MONTHS,
    NEEDS_RULES_HOURLY,
    RULES_USED,
    Column,
    Panel,
    Query,
    Style,
    bar_chart_panel,
    bar_gauge_panel,
    bar_panel,
    stat_panel,
    step_panel,
    table_panel,
)
from grafana.queries import (
    BY_POINT,
    DAY,
    GAS,
    HOUR,
    MONTH,
    NEXT,
    dated,
    days,
    live,
    longer_than_allowed,
    named,
    of_day,
    only,
    past,
    recent,
    total,
)

VOLUME = "utility_interval_consumption_m3"
ENERGY = "utility_interval_consumption_kwh"
INDEX = "utility_measured_index_m3"
WATER, IS_GAS, FLOWING = 'commodity="water"', 'commodity="gas"', 'commodity=~"water|gas"'
HOURS_OF_FLOW = ((None, "green"), (12, "orange"), (24, "red"))
TIMES = ((None, "green"), (1.5, "orange"), (2.5, "red"))
DAY_LATE = " A day's data can show that water ran all night; it cannot show a tap that is open now."


def water_and_gas() -> Dashboard:
    """Return the dashboard."""
    return build_dashboard(
        "utility-water-gas",
        "Water and gas",
        "Is there a leak, and does the heating behave: water and gas by day, night, hour and month.",
        (account(FLOWING), usage_point(FLOWING)),
        (
            Row("", (data_until_panel(12), health_panel(12), leak_panel(), *leaks(), by_day("water"), by_day("gas"))),
            Row("Nights and hours", nights()),
            Row("Months", months()),
            Row("Usage points", (points_panel(),)),
        ),
    )


def leak_panel() -> Panel:
    """Return whether anything looks like a leak."""
    running = longer_than_allowed("count", only(recent("usage_point:utility_flow:hours"), WATER))
    flag = only(live("utility_divergent_consumption"), WATER)
    limited = only(live("utility_flow_limitation"), WATER)
    return stat_panel(
        "Is there a leak?",
        "How many usage points have water that has flowed longer than the limit in settings.yaml without a "
        "pause (of those that are "
        "read every hour or so), how many the portal calls unusual, and how many it limits."
        + DAY_LATE
        + HISTORY_USED
        + RULES_USED,
        [
            Query(
                f"{running} or -1 * max({live('utility_usage_point_info', WATER)})",
                "Water without a pause",
                thresholds=ANY_IS_BAD,
                words={"0": ("none", "green"), "-1": ("not known yet", "text")},
            ),
            Query(f"sum({flag})", "Unusual, by the portal", thresholds=ANY_IS_BAD, words={"0": ("none", "green")}),
            Query(f"sum({limited})", "Flow limited", thresholds=ANY_IS_BAD, words={"0": ("none", "green")}),
        ],
        Style(width=24, height=3, decimals=0, nothing="No water meter"),
        wide=True,
    )


def leaks() -> Sequence[Panel]:
    """Return what points at a leak, usage point by usage point."""
    flow = only(recent("usage_point:utility_flow:hours"), WATER)
    odd = only(recent("usage_point:utility_day:against_weekday"), FLOWING)
    return (
        bar_gauge_panel(
            "Hours of water without a pause",
            "The longest eight: for how long water has flowed without a pause up to the newest reading; at "
            "most 72. Needs readings "
            "every hour or so." + DAY_LATE + HISTORY_USED + RULES_USED,
            [Query(f"topk(8, {named(flow)})", "{{shown}}")],
            Style(HOURS, 12, 8, HOURS_OF_FLOW, nothing=NEEDS_RULES_HOURLY, decimals=0),
        ),
        bar_gauge_panel(
            "Newest day against the same weekday",
            "The highest eight: the newest day known as a multiple of the mean of that weekday in the four weeks before."
            + DAY_LATE
            + HISTORY_USED
            + RULES_USED,
            [Query(f"topk(8, {named(odd)})", "{{shown}}")],
            Style("suffix:×", 12, 8, TIMES, nothing=NEEDS_BOTH, decimals=1),
        ),
    )


def by_day(kind: str) -> Panel:
    """Return the day bars of water or of gas."""
    matcher = f'commodity="{kind}"'
    amount = only(total(days(VOLUME)), matcher, days=1)
    queries = [Query(named(f"({amount}){largest_of(matcher, days=1)}", matcher, days=1), "{{shown}}", "1d")]
    what = "Each gas day, six to six, on the day it begins" if kind == "gas" else "Each day on its own day"
    return bar_panel(
        f"{kind.capitalize()} by day",
        f"{what}; over long spans each bar is a week or more. Of many usage points the eight largest." + HISTORY_USED,
        queries,
        Style(M3, 12, 9, nothing=f"No {kind}, or set up remote read", decimals=2),
    )


def largest_of(matcher: str, family: str = VOLUME, span: str = "$__range", days: int = 0) -> str:
    """Keep the eight usage points of a commodity with the largest sums of the span."""
    sums = only(total(f"sum_over_time({past(family, DAY)}[{span}] @ end())"), matcher, days=days)
    return f" and on ({BY_POINT}) topk(8, {sums})"


def nights() -> Sequence[Panel]:
    """Return the flow of the small hours, and gas by the hour."""
    index = past(INDEX)
    night = total(f"last_over_time({index}[2h] offset -5h) - last_over_time({index}[2h] offset -2h)")
    return (
        bar_panel(
            "Night flow of water",
            "What registers that are read every hour or so counted between two and five at night, the eight highest: a tight "
            "house has nothing." + DAY_LATE + HISTORY_USED,
            [Query(f"topk(8, {named(only(night, WATER, days=1), days=1)} > 0)", "{{shown}}", "1d")],
            Style(M3, 12, 9, nothing=NEEDS_HOURLY, decimals=3),
        ),
        step_panel(
            "Gas by the hour",
            "Volume of each hour; over long spans the mean of hours." + HISTORY_USED,
            [Query(named(total(f"avg_over_time({past(VOLUME, HOUR, GAS)}{NEXT})"), IS_GAS, days=1), "{{shown}}", "1h")],
            Style(M3, 12, 9, nothing=f"{NEEDS_HOURLY} of gas", decimals=2),
        ),
    )


def months() -> Sequence[Panel]:
    """Return whole months of water and of gas."""

    def panel(title: str, family: str, matcher: str, unit: str) -> Panel:
        amount = only(total(dated(of_day(past(family, MONTH)), "400d", "month"), f"{BY_POINT}, date"), matcher)
        amount = named(f"{amount}{largest_of(matcher, family, '400d')}", matcher)
        return bar_chart_panel(
            title,
            "Months of which every day is known, of the last thirteen months, by usage point; of many the eight largest."
            + HISTORY_USED,
            Query(f"sum by (date, shown) ({amount})"),
            Style(unit, 12, 9, nothing=NEEDS_MONTHS),
            "date",
            "shown",
            stacked=True,
        )

    return (
        panel("Water by month", VOLUME, WATER, M3),
        panel("Gas by month, as energy", ENERGY, IS_GAS, KWH),
    )


def flowing(expression: str) -> str:
    """Keep the usage points of water and gas, as the page knows them now."""
    return only(expression, FLOWING)


def points_panel() -> Panel:
    """Return the sums that the page knows."""
    return table_panel(
        "Usage points, m³",
        "Index, the latest complete day, its month and year up to it, the month before where every day of it "
        "is known; gas as energy; "
        "the portals' flags, where they state them: unusual consumption is often a leak and stays for days after the repair.",
        (
            Column("", f"max by ({BY_POINT}, commodity) ({live('utility_usage_point_info', FLOWING)})", hidden=True),
            Column("Age", flowing(f"max by ({BY_POINT}) ({live('utility_reading_age_seconds')})"), "s", 0),
            Column("Index", flowing(summed("utility_consumption_index_m3")), decimals=3, width=95),
            Column("Latest day", flowing(summed("utility_daily_consumption_m3")), decimals=3),
            Column("Month", flowing(summed("utility_monthly_consumption_m3")), decimals=2),
            Column("Last month", flowing(summed("utility_previous_month_consumption_m3")), decimals=2),
            Column("Year", flowing(summed("utility_yearly_consumption_m3")), decimals=1),
            Column("Gas, kWh", flowing(summed("utility_yearly_consumption_kwh")), decimals=0),
            Column("Cost, month", total(flowing(past("usage_point:utility_monthly_cost:eur"))), EURO, 2),
            Column("Unusual", flowing(total(live("utility_divergent_consumption"))), words=YES_IS_BAD),
            Column("Limited", flowing(total(live("utility_flow_limitation"))), words=YES_IS_BAD),
            Column("Days behind", flowing(total(live("utility_day_offset"))), decimals=0),
        ),
        Style(width=24, height=10, nothing="no usage point"),
        POINT_LABELS | {"commodity": "Kind"},
    )
