"""Overview: is all well, and what do the meters say today."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.board import Row, account, board, usage_point
from grafana.parts import (
    AGE,
    ALL_IS_GOOD,
    ANY_IS_BAD,
    COMING,
    HISTORY_SAYS,
    NEEDS_HISTORY,
    NEEDS_RULES,
    RULES_SAY,
    Ask,
    Column,
    Look,
    Panel,
    Steps,
    bars,
    number,
    rows,
)
from grafana.promql import BY_POINT, NOT_GAS, days, health, live, past, series_in_history, total

YES_IS_BAD = {"0": ("no", "text"), "1": ("yes", "red")}
NO_IS_BAD = {"0": ("no", "red"), "1": ("yes", "text")}
POINT_LABELS = {"account": "Account", "usage_point": "Usage point"}


def health_row(age: Steps = AGE) -> Sequence[Panel]:
    """Make the panels that stand first on every dashboard, and say whether to believe what is below."""
    return (
        number(
            "Accounts that answer",
            "Share of the accounts whose last visit to the portal succeeded.",
            [Ask(f"avg({health('utility_up')})")],
            Look("percentunit", thresholds=ALL_IS_GOOD, nothing="No visit yet"),
        ),
        number(
            "Oldest reading",
            "Age of the newest reading of the usage point that is furthest behind. Days come a day late, gas three.",
            [Ask(f"max({live('utility_reading_age_seconds')})")],
            Look("s", thresholds=age),
        ),
        number(
            "Newest reading",
            "Age of the newest reading of all.",
            [Ask(f"min({live('utility_reading_age_seconds')})")],
            Look("s", thresholds=age),
        ),
        number(
            "Alerts",
            f"Alerts that fire now, of all accounts.{RULES_SAY}",
            [Ask('count(ALERTS{alertname=~"Utility.+",alertstate="firing"}) or vector(0)')],
            Look(thresholds=ANY_IS_BAD),
        ),
        number(
            "Access ends",
            "When the first access ends that a person must renew: a token, a consent, a contract.",
            [Ask(f"min({health('utility_access_expires_timestamp_seconds')} - time())")],
            Look("s", thresholds=COMING, nothing="No end known"),
        ),
        number(
            "Series in the history",
            "True-time series with a reading in the last week: 0 means no remote read, and panels that need it are empty.",
            [Ask(series_in_history())],
            Look(words={"0": ("no remote read", "orange")}),
        ),
    )


def summed(family: str) -> str:
    """Sum a family of the live page over the registers of a usage point."""
    return total(live(family))


def overview() -> Dashboard:
    """Make the dashboard."""
    today = rows(
        "Usage points",
        "What each usage point shows: sums over its registers. The latest day is the latest complete one known, which is "
        "yesterday at best; month and year count up to it. Gas is in kWh and in m³.",
        (
            Column("", f"max by ({BY_POINT}, portal, commodity, site) ({live('utility_usage_point_info')})", hidden=True),
            Column("Age", f"max by ({BY_POINT}) ({live('utility_reading_age_seconds')})", "s", thresholds=AGE),
            Column("Index", summed("utility_consumption_index_kwh"), "kwatth", 0),
            Column("Index m³", summed("utility_consumption_index_m3"), "m3", 3),
            Column("Latest day", summed("utility_daily_consumption_kwh"), "kwatth", 1),
            Column("Latest day m³", summed("utility_daily_consumption_m3"), "m3", 3),
            Column("Month", summed("utility_monthly_consumption_kwh"), "kwatth", 0),
            Column("Month m³", summed("utility_monthly_consumption_m3"), "m3", 1),
            Column("Year", summed("utility_yearly_consumption_kwh"), "kwatth", 0),
            Column("Year m³", summed("utility_yearly_consumption_m3"), "m3", 1),
            Column("Month fed in", summed("utility_monthly_injection_kwh"), "kwatth", 0),
            Column("Month's peak", summed("utility_monthly_peak_kw"), "kwatt", 2),
            Column("Day's peak", summed("utility_daily_peak_kva"), "kvoltamp", 2),
        ),
        Look(width=24, height=12),
        POINT_LABELS | {"site": "Site", "commodity": "Kind", "portal": "Portal"},
    )
    flags = rows(
        "What the portals say of them",
        "The portals' own flags, as of their last visit; an empty cell is a flag that the portal does not state.",
        (
            Column("Unusual consumption", summed("utility_divergent_consumption"), words=YES_IS_BAD),
            Column("Flow limited", summed("utility_flow_limitation"), words=YES_IS_BAD),
            Column("In service", summed("utility_meter_active"), words=NO_IS_BAD),
            Column("Up to date", summed("utility_up_to_date"), words=NO_IS_BAD),
            Column("Data withheld", summed("utility_no_data_permission"), words=YES_IS_BAD),
            Column("Days behind", summed("utility_day_offset")),
            Column("Days missing of 60", summed("utility_day_gaps"), thresholds=((None, "text"), (1, "orange"))),
        ),
        Look(width=12, height=9),
        POINT_LABELS,
    )
    firing = rows(
        "Alerts that fire",
        f"Of all accounts. What to do about each stands in docs/runbook.md.{RULES_SAY}",
        [
            Column(
                "",
                'max by (alertname, severity, account, usage_point) (ALERTS{alertname=~"Utility.+",alertstate="firing"})',
                hidden=True,
            )
        ],
        Look(width=12, height=9, nothing="None, or no prometheus/rules.yaml"),
        {"severity": "Severity", "alertname": "Alert", "account": "Account", "usage_point": "Usage point"},
    )
    energy = bars(
        "Energy by day",
        "Delivered by the network, each day on its own day; over long spans each bar is a week or more." + HISTORY_SAYS,
        [
            Ask(total(days("utility_interval_consumption_kwh", NOT_GAS)), "{{usage_point}}", "1d"),
            Ask(total(days("utility_interval_consumption_kwh", 'register="energy"')), "{{usage_point}} gas", "1d"),
        ],
        Look("kwatth", 12, 9, nothing=NEEDS_HISTORY),
    )
    volume = bars(
        "Water by day",
        "Volume delivered, each day on its own day; over long spans each bar is a week or more." + HISTORY_SAYS,
        [Ask(total(days("utility_interval_consumption_m3", NOT_GAS)), "{{usage_point}}", "1d")],
        Look("m3", 12, 9, nothing=NEEDS_HISTORY, decimals=2),
    )
    about = "By the prices in settings.yaml, which are made up until you change them; no standing charges."
    cost = (
        euro("Latest day", "usage_point:utility_daily_cost:eur", f"Cost of the latest complete day. {about}"),
        euro("Month so far", "usage_point:utility_monthly_cost:eur", f"Cost of the month up to the latest day. {about}"),
        euro("Month before", "usage_point:utility_previous_month_cost:eur", f"Cost of the whole month before. {about}"),
        euro("Year so far", "usage_point:utility_yearly_cost:eur", f"Cost of the year up to the latest day. {about}"),
        euro("Fed in this year", "usage_point:utility_yearly_injection:eur", f"What the network owes for it. {about}"),
        euro(
            "Capacity, a year",
            "usage_point:utility_capacity_year:eur",
            f"The Flemish capacity tariff at today's average. {about}",
        ),
    )
    return board(
        "utility-overview",
        "Utilities / Overview",
        "Is all well, and what do the meters say: water, power, gas and heat of every account.",
        (account(), usage_point()),
        (
            Row("", health_row()),
            Row("Today's truth", (today, flags, firing)),
            Row("Costs", cost),
            Row("Days", (energy, volume)),
        ),
    )


def euro(title: str, recorded: str, description: str) -> Panel:
    """Make a number in euro out of a recorded series, over all chosen usage points."""
    return number(
        title,
        description + RULES_SAY,
        [Ask(f"sum({past(recorded)})")],
        Look("currencyEUR", decimals=2, nothing=NEEDS_RULES),
    )
