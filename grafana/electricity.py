"""Electricity: when it is used, what the peaks are, what injection brings."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboard import Row, account, build_dashboard, usage_point
from grafana.home import ELECTRIC, POINT_LABELS, data_until_panel, health_panel
from grafana.panels import (
    CONSUMPTION,
    EURO,
    HISTORY_USED,
    INJECTION,
    KVA,
    KW,
    KWH,
    NEEDS_HISTORY,
    NEEDS_MONTHS,
    RULES_USED,
    SHARE,
    TARIFFS,
    Column,
    Panel,
    Query,
    Style,
    bar_chart_panel,
    bar_panel,
    colored,
    dashed,
    gauge_panel,
    heatmap_panel,
    point_panel,
    stat_panel,
    step_panel,
    table_panel,
)
from grafana.periods import incomplete
from grafana.queries import (
    BY_POINT,
    MONTH,
    NEXT,
    counted,
    dated,
    days,
    halves,
    hours_of_day,
    known,
    largest,
    live,
    mapped_or_reason,
    named,
    of_day,
    only,
    past,
    peak_shares,
    quarters,
    total,
)

CONSUMED, INJECTED = "utility_interval_consumption_kwh", "utility_interval_injection_kwh"
DAY_LATE = " Portals give it a day late: what runs now is not in it."
LATE_DAYS = incomplete(ELECTRIC)
BARE_REGISTER = '"(day|night|H[CP].*)"'


def electricity() -> Dashboard:
    """Return the dashboard."""
    return build_dashboard(
        "utility-electricity",
        "Electricity",
        "When electricity is used, what the peaks are, what injection brings.",
        (account(ELECTRIC), usage_point(ELECTRIC)),
        (
            Row("", (data_until_panel(12), health_panel(12), hours_panel(), peak_gauge(), peak_panel(), injection_panel())),
            Row("Curve", (curve_panel(),)),
            Row("Days", (tariffs_panel(), balance_panel())),
            Row("Months", (months_panel("consumption", CONSUMED), months_panel("injection", INJECTED))),
            Row("Peaks", (monthly_peaks_panel(), daily_power_panel())),
            Row("Usage points", (points_panel(), registers_panel())),
        ),
    )


def of(family: str) -> str:
    """Sum a family of the page over all chosen usage points of electricity."""
    return f"sum({counted(live(family), ELECTRIC)})"


def hours_panel() -> Panel:
    """Return the map of hours and days."""
    selected = past(CONSUMED, 'resolution=~"PT.+"', 'register!~"energy|volume"')
    return heatmap_panel(
        "When it is used: hour by day",
        "Energy of each hour of each day, over the chosen usage points that have intervals. A day is where the "
        "dashboard's time "
        "zone has it. Empty is not known, the palest colour is nothing used." + HISTORY_USED,
        [Query(mapped_or_reason(hours_of_day(selected), "hour", "00 h"), "{{hour}}", "1d")],
        Style(KWH, width=12, height=12, nothing=NEEDS_HISTORY),
    )


def peak_gauge() -> Panel:
    """Return the dial of the month's peak, or of the day's highest power."""
    monthly, daily = peak_shares()
    return gauge_panel(
        "Peak against its limit",
        "The highest two: the month's highest quarter-hour as a share of the mean of the twelve months before "
        "(2.5 kW at least), "
        "which the Flemish capacity tariff counts; the latest day's highest power as a share of the subscribed "
        "power, above which "
        "the breaker trips." + DAY_LATE,
        [Query(f"topk(2, {named(f'({monthly}) or ({daily})', ELECTRIC)})", "{{shown}}")],
        Style("percentunit", width=6, height=12, thresholds=SHARE, decimals=0, nothing="No portal gives a peak"),
        1.2,
    )


def peak_panel() -> Panel:
    """Return the numbers of the peak."""
    return stat_panel(
        "Highest power",
        "The highest of the chosen usage points: the month's quarter-hour, the mean of the twelve months before, what that "
        "costs in a year by the capacity tariff, and the latest day's highest power." + DAY_LATE + RULES_USED,
        [
            Query(f"max({live('utility_monthly_peak_kw')})", "Month's peak", unit=KW, decimals=2),
            Query(f"max({live('utility_average_monthly_peak_kw')})", "Mean of peaks", unit=KW, decimals=2),
            Query(f"sum({past('usage_point:utility_capacity_year:eur')})", "Capacity, a year", unit=EURO, decimals=2),
            Query(f"max({live('utility_daily_peak_kva')})", "Latest day", unit=KVA, decimals=2),
        ],
        Style(width=6, height=12, nothing="No portal gives a peak"),
        listed=True,
    )


def injection_panel() -> Panel:
    """Return what injection brings."""
    return stat_panel(
        "Injection",
        "Energy injected into the network in the month and the year up to the latest day, what is paid for it, and "
        "its share of the year's energy through the meter." + RULES_USED,
        [
            Query(of("utility_monthly_injection_kwh"), "Month so far", unit=KWH, decimals=0),
            Query(of("utility_yearly_injection_kwh"), "Year so far", unit=KWH, decimals=0),
            Query(f"sum({past('usage_point:utility_yearly_injection:eur')})", "Paid, year", unit=EURO, decimals=2),
            Query(
                f"max({past('usage_point:utility_yearly_injection:share')})",
                "Injected share",
                unit="percentunit",
                decimals=0,
            ),
        ],
        Style(width=24, height=3, nothing="Nothing is injected"),
        wide=True,
    )


def curve_panel() -> Panel:
    """Return the load curve, injection below zero."""
    consumed = f"{quarters(CONSUMED)} or {halves(CONSUMED)}"
    injected = f"{quarters(INJECTED)} or {halves(INJECTED)}"
    panel = step_panel(
        "Load curve",
        "Mean power of each quarter-hour, half-hour or hour, injection below zero; over long spans of longer steps."
        + HISTORY_USED,
        [
            Query(named(consumed, ELECTRIC, days=1), "{{shown}}", "30m"),
            Query(f"-({named(injected, ELECTRIC, days=1)})", "{{shown}}, injection", "30m"),
        ],
        Style(KW, 24, 10, nothing=NEEDS_HISTORY, decimals=2),
    )
    return colored(panel, ".*, injection", INJECTION)


def daily(family: str) -> str:
    """Return each register's amounts of the days at the points of a graph."""
    return counted(days(family), ELECTRIC, days=1)


def tariff(expression: str, other: str) -> str:
    """Sum by tariff class; a single register counts as `other`."""
    first = f'label_replace({expression}, "tariff", "{other}", "", "")'
    return f'sum by (tariff) (label_replace({first}, "tariff", "$1", "register", {BARE_REGISTER}))'


def tariffs_panel() -> Panel:
    """Return the days, a colour for each tariff class."""
    panel = bar_panel(
        "Consumption by day and tariff",
        "Each day on its own day; over long spans each bar is a week or more. A meter with a single register "
        "is `electricity`. Up to the newest day that all usage points have." + HISTORY_USED,
        [
            Query(
                f"{tariff(counted(days(CONSUMED), ELECTRIC, days=1), 'electricity')} unless on () {LATE_DAYS}", "{{tariff}}", "1d"
            )
        ],
        Style(KWH, 12, 9, nothing=NEEDS_HISTORY),
    )
    for pattern in ("electricity.*", "(electricity )?(day|HP.*)", "(electricity )?(night|HC.*)"):
        colored(panel, pattern, TARIFFS[pattern])
    return panel


def balance_panel() -> Panel:
    """Return consumption above and injection below zero."""
    panel = bar_panel(
        "Consumption against injection",
        "Of the chosen usage points together: consumption above zero, injection below, up to the "
        "newest day that all have." + HISTORY_USED,
        [
            Query(f"sum({daily(CONSUMED)}) unless on () {LATE_DAYS}", "consumption", "1d"),
            Query(f"-sum({daily(INJECTED)}) unless on () {LATE_DAYS}", "injection", "1d"),
        ],
        Style(KWH, 12, 9, nothing=NEEDS_HISTORY),
    )
    return colored(colored(panel, "consumption", CONSUMPTION), "injection", INJECTION)


def months_panel(direction: str, family: str) -> Panel:
    """Return the whole months stacked by usage point."""
    amount = counted(dated(of_day(past(family, MONTH)), "400d", "month"), ELECTRIC) + largest(family, MONTH, "400d")
    amount = named(f"sum by ({BY_POINT}, date) ({amount})", ELECTRIC)
    return bar_chart_panel(
        f"{direction.capitalize()} by month",
        "Months of which every day is known, of the last thirteen months, by usage point." + HISTORY_USED,
        Query(f"sum by (date, shown) ({amount})"),
        Style(KWH, 12, 9, nothing=NEEDS_MONTHS),
        "date",
        "shown",
        stacked=True,
    )


def monthly_peaks_panel() -> Panel:
    """Return the peak of each month."""
    panel = peaks_panel(
        "Monthly peaks",
        "The highest quarter-hour of each of the last thirteen months, at its own instant; dashed is the mean of now.",
        ("utility_measured_peak_kw", "1d"),
        ("utility_average_monthly_peak_kw", "mean"),
        KW,
    )
    return panel.time_from("now-13M")


def daily_power_panel() -> Panel:
    """Return the highest power of each day."""
    return peaks_panel(
        "Daily highest power",
        "The highest power of each day, at its own instant; dashed is the subscribed power of now.",
        ("utility_measured_peak_kva", "1h"),
        ("utility_subscribed_power_kva", "subscribed"),
        KVA,
    )


def peaks_panel(title: str, description: str, measured: tuple[str, str], limit: tuple[str, str], unit: str) -> timeseries.Panel:
    """Return the points of a family, looked for at this step, and the line of another with the word that names it."""

    def highest(expression: str) -> str:
        return named(f"max by ({BY_POINT}) ({expression})", ELECTRIC, days=1)

    panel = point_panel(
        title,
        description + HISTORY_USED,
        [
            Query(highest(f"max_over_time({past(measured[0])}{NEXT})"), "{{shown}}", measured[1]),
            Query(highest(known(live(limit[0]), 1)), f"{{{{shown}}}}, {limit[1]}", "1d"),
        ],
        Style(unit, 12, 9, nothing="Nothing here: no portal gives peaks, or set up remote read", decimals=2),
    )
    return dashed(panel, f".*, {limit[1]}")


def points_panel() -> Panel:
    """Return the sums that the page knows."""
    columns: Sequence[Column] = (
        Column("", f"max by ({BY_POINT}) ({live('utility_usage_point_info', ELECTRIC)})", hidden=True),
        Column("Latest day", electric("utility_daily_consumption_kwh"), decimals=1),
        Column("Month", electric("utility_monthly_consumption_kwh"), decimals=0),
        Column("Month before", electric("utility_previous_month_consumption_kwh"), decimals=0),
        Column("Year", electric("utility_yearly_consumption_kwh"), decimals=0),
        Column("Year before", electric("utility_previous_year_consumption_kwh"), decimals=0),
        Column("Injected, month", electric("utility_monthly_injection_kwh"), decimals=0),
        Column("Injected, year", electric("utility_yearly_injection_kwh"), decimals=0),
        Column("Load, kW", total(only(live("utility_consumption_load_kw"), ELECTRIC)), decimals=2),
        Column("Night share", f"max by ({BY_POINT}) ({past('usage_point:utility_yearly_night:share')})", "percentunit", 0),
        Column("Cost, month", total(only(past("usage_point:utility_monthly_cost:eur"), ELECTRIC)), EURO, 2),
    )
    return table_panel(
        "Usage points, kWh",
        "The latest complete day, and its month and year up to it; the month and the year before where every "
        "day of them is known; "
        "the mean power of the newest interval; the share of the year in the cheap hours." + RULES_USED,
        columns,
        Style(width=24, height=8, nothing="No usage point of electricity"),
        POINT_LABELS,
    )


def electric(family: str) -> str:
    """Sum a family over the registers of each usage point of electricity."""
    return total(counted(live(family), ELECTRIC))


def registers_panel() -> Panel:
    """Return what the registers showed."""
    return table_panel(
        "Meter readings, kWh",
        "What each register of a meter of electricity showed at its last reading, as on its display.",
        (
            Column(
                "Index", f"sum by ({BY_POINT}, register) ({only(live('utility_consumption_index_kwh'), ELECTRIC)})", decimals=0
            ),
            Column(
                "Injection", f"sum by ({BY_POINT}, register) ({only(live('utility_injection_index_kwh'), ELECTRIC)})", decimals=0
            ),
        ),
        Style(width=24, height=8, nothing="none given"),
        POINT_LABELS | {"register": "Register"},
    )
