"""Electricity: the meter's face, the load curve, days, months, hours and peaks."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.board import Row, account, board, chosen, usage_point
from grafana.months import month_against_year
from grafana.overview import POINT_LABELS, health_row
from grafana.parts import (
    HISTORY_SAYS,
    NEEDS_HISTORY,
    NEEDS_RULES,
    RULES_SAY,
    Ask,
    Column,
    Look,
    Panel,
    bar_gauge,
    bars,
    colored,
    dashed,
    heat,
    number,
    points,
    rows,
    stairs,
)
from grafana.promql import (
    ACCOUNT,
    BY_POINT,
    NEXT,
    NOT_GAS,
    days,
    halves,
    hours_of_day,
    known,
    live,
    past,
    quarters,
    total,
)

TAKEN, FED = "utility_interval_consumption_kwh", "utility_interval_injection_kwh"
ELECTRIC = 'commodity="electricity"'
LINKY = 'usage_point=~"$linky"'
SHARE = ((None, "green"), (0.75, "orange"), (0.9, "red"))
UNTIL_IT = " Portals tell it a day late: what runs now is not in it."


def electric(expression: str) -> str:
    """Keep the usage points of electricity, as the page knows them now."""
    return f"{expression} and on ({BY_POINT}) {live('utility_usage_point_info', ELECTRIC)}"


def of(family: str) -> str:
    """Sum a family over the registers of each usage point of electricity."""
    return total(electric(live(family)))


def electricity() -> Dashboard:
    """Make the dashboard."""
    linky = chosen(
        "linky",
        "Linky",
        f'label_values(utility_usage_point_info{{{ACCOUNT},portal="enedis"}}, usage_point)',
        "Meters whose face is shown.",
    )
    return board(
        "utility-electricity",
        "Utilities / Electricity",
        "Load curve, days, months and peaks of the usage points of electricity.",
        (account(ELECTRIC), usage_point(ELECTRIC), linky),
        (
            Row("", health_row()),
            Row("Linky $linky", face(), each="linky"),
            Row("Today's truth", (today(), *shares())),
            Row("Curve", (curve(), hours())),
            Row("Days", (by_register(), balance())),
            Row("Months", months()),
            Row("Peaks and the capacity tariff", peaks()),
        ),
    )


def face() -> Sequence[Panel]:
    """Make what a Linky shows when its button is pressed."""
    facing = ACCOUNT + "," + LINKY
    return (
        number(
            "Consumption",
            "What each tariff class of the meter showed at its last reading, the midnight before yesterday's data came.",
            [Ask(f"utility_consumption_index_kwh{{{facing}}}", "{{register}}")],
            Look("kwatth", 8, decimals=0, nothing="No index told"),
        ),
        number(
            "Injection",
            "What the register of fed-in energy showed at its last reading.",
            [Ask(f"utility_injection_index_kwh{{{facing}}}", "{{register}}")],
            Look("kwatth", 4, decimals=0, nothing="Feeds nothing in"),
        ),
        number(
            "Latest day",
            "Consumption and injection of the latest complete day.",
            [
                Ask(f"sum(utility_daily_consumption_kwh{{{facing}}})", "taken"),
                Ask(f"sum(utility_daily_injection_kwh{{{facing}}})", "fed in"),
            ],
            Look("kwatth", 6, decimals=1),
        ),
        number(
            "Highest power",
            "Highest power of the latest day, as a share of the subscribed power; at 100 % the breaker cuts." + UNTIL_IT,
            [
                Ask(
                    f"max(utility_daily_peak_kva{{{facing}}} / utility_subscribed_power_kva{{{facing}}})",
                    "of what is subscribed",
                )
            ],
            Look("percentunit", 3, thresholds=SHARE, nothing="Subscribed power not told"),
        ),
        number(
            "At",
            "When the highest power of the latest day was reached.",
            [Ask(f"max(utility_daily_peak_timestamp_seconds{{{facing}}}) * 1000", "at")],
            Look("dateTimeFromNow", 3),
        ),
    )


def today() -> Panel:
    """Make the table of all sums the page knows."""
    return rows(
        "Usage points",
        "The latest complete day, and its month and year up to it, by register; the month and the year before where every day "
        "of them is known.",
        tuple(
            Column(title, f"sum by ({BY_POINT}, register) ({electric(live(family))})", "kwatth", 1)
            for title, family in (
                ("Latest day", "utility_daily_consumption_kwh"),
                ("Month", "utility_monthly_consumption_kwh"),
                ("Month before", "utility_previous_month_consumption_kwh"),
                ("Year", "utility_yearly_consumption_kwh"),
                ("Year before", "utility_previous_year_consumption_kwh"),
                ("Fed in, latest day", "utility_daily_injection_kwh"),
                ("Fed in, month", "utility_monthly_injection_kwh"),
                ("Fed in, year", "utility_yearly_injection_kwh"),
            )
        ),
        Look(width=24, height=9),
        POINT_LABELS | {"register": "Register"},
    )


def shares() -> Sequence[Panel]:
    """Make the newest powers, what a month costs, and how much of a year came at night and went out."""
    return (
        bar_gauge(
            "Power taken and fed in",
            "Mean power of the newest quarter-hour, half-hour or hour that the portal has told." + UNTIL_IT,
            [
                Ask(live("utility_consumption_load_kw"), "{{usage_point}} taken"),
                Ask(live("utility_injection_load_kw"), "{{usage_point}} fed in"),
            ],
            Look("kwatt", 8, 6, decimals=2),
        ),
        number(
            "That interval's age",
            "How long ago the interval of that power ended.",
            [Ask(f"time() - max by ({BY_POINT}) ({live('utility_load_timestamp_seconds')})", "{{usage_point}}")],
            Look("s", 4, 6),
        ),
        number(
            "Cost of the month",
            "Of the month up to the latest day." + RULES_SAY,
            [Ask(electric(past("usage_point:utility_monthly_cost:eur")), "{{usage_point}}")],
            Look("currencyEUR", 4, 6, decimals=2, nothing=NEEDS_RULES),
        ),
        number(
            "Night share",
            "Share of the year's energy that came in the cheap hours." + RULES_SAY,
            [Ask(past("usage_point:utility_yearly_night:share"), "{{usage_point}}")],
            Look("percentunit", 4, 6, nothing=NEEDS_RULES),
        ),
        number(
            "Injection share",
            "Share of the energy over the meter, this year, that went out." + RULES_SAY,
            [Ask(past("usage_point:utility_yearly_injection:share"), "{{usage_point}}")],
            Look("percentunit", 4, 6, nothing=NEEDS_RULES),
        ),
    )


def curve() -> Panel:
    """Make the load curve, what is fed in below the line."""
    return stairs(
        "Load curve",
        "Mean power of each quarter-hour, half-hour or hour, fed in below zero; over long spans of longer steps." + HISTORY_SAYS,
        [
            Ask(quarters(TAKEN, NOT_GAS), "{{usage_point}}", "15m"),
            Ask(halves(TAKEN, NOT_GAS), "{{usage_point}}", "30m"),
            Ask(f"-({quarters(FED)})", "{{usage_point}} fed in", "15m"),
            Ask(f"-({halves(FED)})", "{{usage_point}} fed in", "30m"),
        ],
        Look("kwatt", 24, 10, nothing=NEEDS_HISTORY, decimals=2),
    )


def hours() -> Panel:
    """Make the map of hours and days."""
    return heat(
        "Hour by day",
        "Energy taken in each hour of each day, over the chosen usage points that have intervals. A day is where the "
        "dashboard's time zone has it." + HISTORY_SAYS,
        Ask(hours_of_day(past(TAKEN, 'resolution=~"PT.+"', NOT_GAS)), "{{hour}} h", "1d"),
        Look("kwatth", 24, 11, nothing=NEEDS_HISTORY),
    )


def by_register() -> Panel:
    """Make the day bars, a colour for each register."""
    return bars(
        "Consumption by day and register",
        "Each day on its own day; over long spans each bar is a week or more." + HISTORY_SAYS,
        [Ask(total(days(TAKEN, NOT_GAS), f"{BY_POINT}, register"), "{{usage_point}} {{register}}", "1d")],
        Look("kwatth", 12, 9, nothing=NEEDS_HISTORY),
    )


def balance() -> Panel:
    """Make consumption above and injection below the line."""
    panel = bars(
        "Consumption against injection",
        "Of the chosen usage points together: what came above the line, what went out below." + HISTORY_SAYS,
        [
            Ask(f"sum({days(TAKEN, NOT_GAS)})", "taken", "1d"),
            Ask(f"-sum({days(FED)})", "fed in", "1d"),
        ],
        Look("kwatth", 12, 9, nothing=NEEDS_HISTORY),
    )
    return colored(colored(panel, "taken", "blue"), "fed in", "orange")


def months() -> Sequence[Panel]:
    """Make the sums of 30 days and their counterparts a year before."""
    look = Look("kwatth", 12, 9, nothing=NEEDS_HISTORY)
    return (
        month_against_year("Month against the year before", (TAKEN, NOT_GAS), look, explained=True),
        month_against_year("The same, fed in", (FED,), look),
    )


def peaks() -> Sequence[Panel]:
    """Make peaks, the average that the Flemish tariff counts, and what it costs."""
    monthly = points(
        "Monthly peaks",
        "The highest quarter-hour of each month, at its own instant; the line is the average monthly peak of now." + HISTORY_SAYS,
        [
            Ask(f"max by ({BY_POINT}) (max_over_time({past('utility_measured_peak_kw')}{NEXT}))", "{{usage_point}}", "1d"),
            Ask(f"max by ({BY_POINT}) ({known(live('utility_average_monthly_peak_kw'))})", "{{usage_point}} average", "1d"),
        ],
        Look("kwatt", 12, 9, nothing=NEEDS_HISTORY, decimals=2),
    )
    daily = points(
        "Daily highest power",
        "The highest power of each day, at its own instant; the line is the subscribed power of now." + HISTORY_SAYS,
        [
            Ask(f"max by ({BY_POINT}) (max_over_time({past('utility_measured_peak_kva')}{NEXT}))", "{{usage_point}}", "1h"),
            Ask(f"max by ({BY_POINT}) ({known(live('utility_subscribed_power_kva'))})", "{{usage_point}} subscribed", "1d"),
        ],
        Look("kvoltamp", 12, 9, nothing=NEEDS_HISTORY, decimals=2),
    )
    return (
        number(
            "Peak of the month",
            "Highest quarter-hour of the newest month told." + UNTIL_IT,
            [Ask(live("utility_monthly_peak_kw"), "{{usage_point}}")],
            Look("kwatt", 6, decimals=2, nothing="No quarter-hours"),
        ),
        number(
            "Average monthly peak",
            "Mean of the newest twelve closed months, each at least 2.5 kW: the base of the capacity tariff.",
            [Ask(live("utility_average_monthly_peak_kw"), "{{usage_point}}")],
            Look("kwatt", 6, decimals=2, nothing="No closed month"),
        ),
        number(
            "Peak against the average",
            "Above 100 % this month raises the average." + UNTIL_IT,
            [Ask(f"{live('utility_monthly_peak_kw')} / {live('utility_average_monthly_peak_kw')}", "{{usage_point}}")],
            Look("percentunit", 4, thresholds=((None, "green"), (0.9, "orange"), (1, "red")), nothing="No closed month"),
        ),
        number(
            "Months in the average",
            "How many closed months the average has; twelve when a year is known.",
            [Ask(live("utility_average_monthly_peak_months"), "{{usage_point}}")],
            Look("short", 4, nothing="No closed month"),
        ),
        number(
            "Capacity tariff, a year",
            "The average monthly peak times its price." + RULES_SAY,
            [Ask(past("usage_point:utility_capacity_year:eur"), "{{usage_point}}")],
            Look("currencyEUR", 4, nothing=NEEDS_RULES),
        ),
        dashed(monthly, ".*average"),
        dashed(daily, ".*subscribed"),
    )
