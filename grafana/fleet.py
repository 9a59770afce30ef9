"""Fleet: hundreds of counters by site; which are odd, which are silent."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.board import Row, account, board, chosen, usage_point
from grafana.overview import health_row
from grafana.parts import (
    ANY_IS_BAD,
    HISTORY_SAYS,
    NEEDS_BOTH,
    NEEDS_HISTORY,
    RULES_SAY,
    Ask,
    Column,
    Look,
    Panel,
    Steps,
    bar_gauge,
    bars,
    lines,
    number,
    rows,
)
from grafana.promql import ACCOUNT, BY_POINT, gone_by, health, known, live, recent, steps, total

SITED, AT_SITE, KIND = 'site!=""', 'site=~"$site"', 'commodity=~"$commodity"'
HERE = (AT_SITE, KIND)
FRESH: Steps = ((None, "green"), (6 * 3600, "orange"), (86400, "red"))
ODD: Steps = ((None, "green"), (3, "orange"), (6, "red"))
SILENT = 86400
"""Seconds: counters of a building are read every hour or so."""


def facts(*labels: str) -> str:
    """Give the chosen counters' facts, one series for each usage point."""
    return f"max by ({', '.join((BY_POINT, *labels))}) ({live('utility_usage_point_info', *HERE)})"


def sited(expression: str, *labels: str) -> str:
    """Give the chosen usage points' values the site, and other labels out of their facts."""
    wanted = ("site", *labels)
    return f"({expression}) * on ({BY_POINT}) group_left ({', '.join(wanted)}) {facts(*wanted)}"


def against_median(used: str) -> str:
    """Compare what each usage point used with the middle one of its kind."""
    each = sited(used, "commodity")
    return f"{each} / on (commodity) group_left () (quantile by (commodity) (0.5, {each}) > 0)"


def fleet() -> Dashboard:
    """Make the dashboard."""
    chosen_site = chosen(
        "site", "Site", f"label_values(utility_usage_point_info{{{ACCOUNT},{SITED}}}, site)", "Buildings and flats."
    )
    chosen_kind = chosen(
        "commodity", "Kind", f"label_values(utility_usage_point_info{{{ACCOUNT},{AT_SITE}}}, commodity)", "Water, heat, ..."
    )
    return board(
        "utility-fleet",
        "Utilities / Fleet",
        "Many counters of one company, such as CEM's: by site, the odd ones, the silent ones.",
        (account(SITED), chosen_site, chosen_kind, usage_point(*HERE)),
        (
            Row("", health_row(FRESH)),
            Row("Sites", (*counts(), by_site())),
            Row("Odd ones", outliers()),
            Row("Silent ones", silent()),
            Row("Days", by_day()),
            Row("Air", air()),
            Row("All counters", (all_counters(),)),
        ),
        since="now-7d",
    )


def counts() -> Sequence[Panel]:
    """Make the numbers of the fleet."""
    age = f"{live('utility_reading_age_seconds')} > {SILENT} and on ({BY_POINT}) {facts()}"
    return (
        number("Usage points", "Meters and points at the chosen sites.", [Ask(f"count({facts()})")], Look(width=6)),
        number("Sites", "Sites that have any.", [Ask(f"count(count by (site) ({facts('site')}))")], Look(width=6)),
        number(
            "Silent for a day",
            "Usage points without a new reading for more than a day.",
            [Ask(f"count({age}) or vector(0)")],
            Look(width=6, thresholds=ANY_IS_BAD),
        ),
        number(
            "Readings kept",
            "Readings of the chosen accounts in the ledger.",
            [Ask(f"sum({health('utility_ledger_readings')})")],
            Look(width=6),
        ),
    )


def by_site() -> Panel:
    """Make the table of sites."""
    return rows(
        "By site",
        "What each site used in the 24 hours up to the newest readings, and the age of its furthest reading. Without remote "
        "read it needs a day of scrapes.",
        (
            Column("Counters", f"count by (site) ({facts('site')})"),
            Column("Oldest reading", f"max by (site) ({sited(live('utility_reading_age_seconds'))})", "s", thresholds=FRESH),
            Column("Water and gas, 24 h", f"sum by (site) ({sited(gone_by('m3', '1d'))})", "m3", 3),
            Column("Energy, 24 h", f"sum by (site) ({sited(gone_by('kwh', '1d'))})", "kwatth", 1),
        ),
        Look(width=24, height=9, nothing="Nothing here: needs remote read, or a day of scrapes"),
        {"site": "Site"},
        sort="Water and gas, 24 h",
    )


def outliers() -> Sequence[Panel]:
    """Make the usage points that stand out among their kind."""
    text = (
        "The week up to the newest reading against the middle usage point of the same kind, the fifteen highest: an owner "
        "compares neighbours so. Without remote read it needs a week of scrapes."
    )
    return (
        bar_gauge(
            "Volume against the median",
            text,
            [Ask(f"topk(15, {against_median(gone_by('m3', '1w'))})", "{{site}} {{usage_point}}")],
            Look("short", 8, 12, ODD, decimals=1, nothing="Nothing here: needs remote read, or a week of scrapes"),
        ),
        bar_gauge(
            "Energy against the median",
            text,
            [Ask(f"topk(15, {against_median(gone_by('kwh', '1w'))})", "{{site}} {{usage_point}}")],
            Look("short", 8, 12, ODD, decimals=1, nothing="Nothing here: needs remote read, or a week of scrapes"),
        ),
        bar_gauge(
            "Hours without a pause",
            "For how long a volume has flowed without a pause up to the newest reading, at most 72; a flat's water rests at "
            "night." + HISTORY_SAYS + RULES_SAY,
            [
                Ask(
                    f"topk(15, {sited(recent('usage_point:utility_flow:hours'), 'commodity')})",
                    "{{site}} {{commodity}} {{usage_point}}",
                )
            ],
            Look("h", 8, 12, ((None, "green"), (12, "orange"), (24, "red")), nothing=NEEDS_BOTH),
        ),
    )


def silent() -> Sequence[Panel]:
    """Make the usage points whose readings are oldest."""
    age = f"max by ({BY_POINT}) ({live('utility_reading_age_seconds')})"
    return (
        rows(
            "Oldest readings",
            "The twenty usage points whose newest reading is the oldest: a radio that is dead, a gateway that is off.",
            [Column("Age", f"topk(20, {sited(age, 'commodity', 'meter')})", "s", thresholds=FRESH)],
            Look(width=12, height=10),
            {"site": "Site", "commodity": "Kind", "usage_point": "Usage point", "meter": "Meter", "account": "Account"},
            sort="Age",
        ),
        lines(
            "Age of readings",
            "Of the chosen usage points: the youngest, the middle one and the oldest newest reading.",
            [
                Ask(f"min({sited(live('utility_reading_age_seconds'))})", "youngest"),
                Ask(f"quantile(0.5, {sited(live('utility_reading_age_seconds'))})", "middle"),
                Ask(f"max({sited(live('utility_reading_age_seconds'))})", "oldest"),
            ],
            Look("s", 12, 10),
        ),
    )


def by_day() -> Sequence[Panel]:
    """Make the day bars of the fleet, by kind."""
    return tuple(
        bars(
            title,
            "What registers counted between the last readings of one day and the next, by kind." + HISTORY_SAYS,
            [Ask(total(with_kind(total(steps(f"utility_measured_index_{unit}"))), "commodity"), "{{commodity}}", "1d")],
            Look(shown, 12, 9, nothing=NEEDS_HISTORY),
        )
        for title, unit, shown in (("Volume by day", "m3", "m3"), ("Energy by day", "kwh", "kwatth"))
    )


def with_kind(expression: str) -> str:
    """Give usage points their kind, as it is known now."""
    told = f"max by ({BY_POINT}, commodity) ({known(live('utility_usage_point_info', *HERE))})"
    return f"({expression}) * on ({BY_POINT}) group_left (commodity) {told}"


def air() -> Sequence[Panel]:
    """Make temperature, humidity and the power of the moment."""
    return tuple(
        lines(
            title,
            f"{title} at the last reading, the twenty highest of the chosen usage points, as Prometheus saw it on the page.",
            [Ask(f"topk(20, {sited(total(live(family)))})", "{{site}} {{usage_point}}")],
            Look(unit, 8, 9, decimals=1),
        )
        for title, family, unit in (
            ("Temperature", "utility_temperature_celsius", "celsius"),
            ("Humidity", "utility_humidity_ratio", "percentunit"),
            ("Power", "utility_power_kw", "kwatt"),
        )
    )


def all_counters() -> Panel:
    """Make the table of everything."""

    def shown(family: str) -> str:
        described = f"max by ({BY_POINT}, register, description) ({live('utility_register_info')})"
        value = f"max by ({BY_POINT}, register) ({live(family)}) * on ({BY_POINT}, register) group_left (description) {described}"
        return sited(value, "commodity", "meter")

    return rows(
        "All counters",
        "Each register with what it showed last.",
        (
            Column("kWh", shown("utility_consumption_index_kwh"), "none", 1),
            Column("m³", shown("utility_consumption_index_m3"), "none", 3),
            Column("Fed in, kWh", shown("utility_injection_index_kwh"), "none", 1),
            Column("°C", shown("utility_temperature_celsius"), "none", 1),
            Column("Humidity", shown("utility_humidity_ratio"), "percentunit", 0),
            Column("kW", shown("utility_power_kw"), "none", 2),
            Column("Other", shown("utility_register_value"), "none"),
        ),
        Look(width=24, height=14),
        {
            "site": "Site",
            "commodity": "Kind",
            "usage_point": "Usage point",
            "meter": "Meter",
            "register": "Register",
            "description": "Description",
            "account": "Account",
        },
    )
