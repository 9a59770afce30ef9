"""Fleet: which of many meters are odd, late or leaking."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboard import Row, account, build_dashboard, choice
from grafana.home import alerts_count, failing_count
from grafana.panels import (
    ANY_IS_BAD,
    COLORS,
    CONSUMPTION,
    HISTORY_USED,
    HOURS,
    KW,
    KWH,
    M3,
    NEEDS_HISTORY,
    NEEDS_RULES,
    NEEDS_RULES_HOURLY,
    NO_RULES,
    PALE,
    RULES_USED,
    Column,
    Panel,
    Query,
    Steps,
    Style,
    bar_gauge_panel,
    bar_panel,
    colored,
    line_panel,
    stat_panel,
    table_panel,
)
from grafana.queries import (
    ACCOUNT,
    BY_POINT,
    gone_by,
    known,
    live,
    longer_than_allowed,
    of_all_points,
    past,
    process,
    recent,
    steps,
    total,
)

SITED, AT_SITE, KIND = 'site!=""', 'site=~"$site"', 'commodity=~"$commodity"'
HERE = (AT_SITE, KIND)
FRESH: Steps = ((None, "text"), (6 * 3600, "orange"), (86400, "red"))
ODD: Steps = ((None, "text"), (3, "orange"), (6, "red"))
SILENT = 86400
"""Seconds: meters of a building are read every hour or so."""


def facts(*labels: str) -> str:
    """Return the chosen usage points' facts, one series for each."""
    return f"max by ({', '.join((BY_POINT, *labels))}) ({live('utility_usage_point_info', *HERE)})"


def sited(expression: str, *labels: str) -> str:
    """Label the chosen usage points' values with the site, and other labels out of their facts."""
    wanted = ("site", *labels)
    return f"({expression}) * on ({BY_POINT}) group_left ({', '.join(wanted)}) {facts(*wanted)}"


def against_median(used: str) -> str:
    """Compare what each usage point used with the middle one of its kind."""
    each = sited(used, "commodity")
    return f"{each} / on (commodity) group_left () (quantile by (commodity) (0.5, {each}) > 0)"


def fleet() -> Dashboard:
    """Return the dashboard."""
    site = choice("site", "Site", f"label_values(utility_usage_point_info{{{ACCOUNT},{SITED}}}, site)", "Buildings and flats.")
    kind = choice(
        "commodity", "Kind", f"label_values(utility_usage_point_info{{{ACCOUNT},{AT_SITE}}}, commodity)", "Water, heat, ..."
    )
    return build_dashboard(
        "utility-fleet",
        "Fleet",
        "Which of many meters are odd, late or leaking: for a company with hundreds of them, such as CEM's customers.",
        (account(SITED), site, kind),
        (
            Row("", (counts(), leaking(), *outliers(), silent(), by_site())),
            Row("Days", by_day()),
            Row("Climate", climate()),
            Row("All registers", (all_registers(),)),
        ),
        since="now-7d",
    )


def counts() -> Panel:
    """Return the numbers of the fleet."""
    age = f"{live('utility_reading_age_seconds')} > {SILENT} and on ({BY_POINT}) {facts()}"
    sites = f"count(count by (site) ({facts('site')}))"
    return stat_panel(
        "Fleet",
        "Usage points at the chosen sites, the sites, and how many usage points have sent no reading for more "
        "than a day; accounts "
        "whose last visit failed and alerts that fire are in the panel beside it.",
        [
            Query(of_all_points(f"count({facts()})"), "Usage points"),
            Query(of_all_points(sites), "Sites"),
            Query(of_all_points(f"count({age}) or 0 * count({facts()})"), "Silent for a day", thresholds=ANY_IS_BAD),
        ],
        Style(width=12, height=3, decimals=0, nothing="No usage point has a site"),
        wide=True,
    )


def leaking() -> Panel:
    """Return how many usage points leak, alerts and accounts."""
    flow = sited(recent("usage_point:utility_flow:hours"), "commodity")
    flow = f"({flow}) and on ({BY_POINT}) {past('usage_point:utility_flow_hours:limit')}"
    return stat_panel(
        "Leaks and health",
        "Usage points of water that has flowed longer than the limit in settings.yaml without a pause; "
        "accounts whose last visit "
        "failed; alerts that fire." + HISTORY_USED + RULES_USED,
        [
            Query(
                of_all_points(f"{longer_than_allowed('count', flow)} or -1 * (count({facts()}) > bool 0)"),
                "Water without a pause",
                thresholds=ANY_IS_BAD,
                words={"-1": ("not known yet", "text")},
            ),
            Query(failing_count(), "Accounts failing", thresholds=ANY_IS_BAD),
            Query(of_all_points(alerts_count()), "Alerts firing", thresholds=ANY_IS_BAD, words=NO_RULES),
        ],
        Style(width=12, height=3, decimals=0, nothing=NEEDS_RULES),
        wide=True,
    )


def by_site() -> Panel:
    """Return the table of sites."""
    return table_panel(
        "By site",
        "What each site used in the 24 hours up to the newest readings, and the age of its furthest reading. Without remote "
        "read it needs a day of scrapes.",
        [
            Column("Meters", of_all_points(f"count by (site) ({facts('site')})"), decimals=0),
            Column(
                "Oldest reading",
                of_all_points(f"max by (site) ({sited(live('utility_reading_age_seconds'))})"),
                "s",
                0,
                thresholds=FRESH,
            ),
            Column("Volume, m³", of_all_points(f"sum by (site) ({sited(gone_by('m3', '1d'))})"), decimals=3, width=95),
            Column("Energy, kWh", of_all_points(f"sum by (site) ({sited(gone_by('kwh', '1d'))})"), decimals=1),
        ],
        Style(width=12, height=9, nothing="no site"),
        {"site": "Site"},
        sort="Volume, m³",
    )


def outliers() -> Sequence[Panel]:
    """Return the usage points that stand out among their kind."""
    text = (
        "The week up to the newest reading against the middle usage point of the same kind, the ten highest: an owner "
        "compares neighbours so. Without remote read it needs a week of scrapes."
    )
    compared = (
        bar_gauge_panel(
            f"{amount} against the median",
            text,
            [Query(of_all_points(f"topk(10, {against_median(gone_by(unit, '1w'))})"), "{{usage_point}}, {{site}}")],
            Style("suffix:×", 8, 10, ODD, decimals=1, nothing="Set up remote read, or wait for a week of scrapes"),
        )
        for amount, unit in (("Volume", "m3"), ("Energy", "kwh"))
    )
    return (
        *compared,
        bar_gauge_panel(
            "Hours of water without a pause",
            "For how long water has flowed without a pause up to the newest reading, the ten longest, at most "
            "72; a flat's water "
            "rests at night." + HISTORY_USED + RULES_USED,
            [
                Query(
                    of_all_points(
                        f"topk(10, {sited(recent('usage_point:utility_flow:hours'), 'commodity')} "
                        f"and on ({BY_POINT}) usage_point:utility_flow_hours:limit)"
                    ),
                    "{{usage_point}}, {{site}}",
                )
            ],
            Style(HOURS, 8, 10, ((None, "text"), (12, "orange"), (24, "red")), nothing=NEEDS_RULES_HOURLY, decimals=0),
        ),
    )


def silent() -> Panel:
    """Return the usage points whose readings are oldest."""
    age = f"max by ({BY_POINT}) ({live('utility_reading_age_seconds')})"
    return table_panel(
        "Late: the oldest readings",
        "The twenty usage points whose newest reading is the oldest: a radio that is dead, a gateway that is off.",
        [Column("Age", of_all_points(f"topk(20, {sited(age, 'commodity', 'meter')})"), "s", 0, thresholds=FRESH)],
        Style(width=12, height=9, nothing="no site"),
        {"site": "Site", "usage_point": "Usage point", "meter": "Meter"},
        sort="Age",
    )


def by_day() -> Sequence[Panel]:
    """Return the day bars of the fleet, by kind."""
    panels = []
    for title, unit, shown in (("Volume by day", "m3", M3), ("Energy by day", "kwh", KWH)):
        used = so_far(total(with_kind(total(steps(f"utility_measured_index_{unit}"))), "commodity"))
        panel = bar_panel(
            title,
            "What registers counted between the last readings of one day and the next, by kind; pale is the day that has not "
            "ended." + HISTORY_USED,
            [Query(of_all_points(used), "{{name}}", "1d")],
            Style(shown, 12, 9, nothing=NEEDS_HISTORY),
        )
        for name, color in COLORS.items():
            colored(colored(panel, name, color), f"{name}, so far", PALE[name])
        panels.append(panel)
    return panels


def so_far(expression: str) -> str:
    """Label each kind `name`: of a day that has not ended when the exporter was last scraped it says so."""
    scraped = known(f"timestamp({process('utility_exporter_build_info')})", 1)
    open_day = f'count_values("open", vector(time() + $__interval_ms / 1000) > bool scalar(max({scraped})))'
    parted = f'label_join({expression} * on () group_left (open) {open_day}, "name", "|", "commodity", "open")'
    parted = f'label_replace({parted}, "name", "$1", "name", "(.*)[|]0")'
    return f'label_replace({parted}, "name", "$1, so far", "name", "(.*)[|]1")'


def with_kind(expression: str) -> str:
    """Label usage points with their kind, as it is known now."""
    kinds = f"max by ({BY_POINT}, commodity) ({known(live('utility_usage_point_info', *HERE), 1)})"
    return f"({expression}) * on ({BY_POINT}) group_left (commodity) {kinds}"


def climate() -> Sequence[Panel]:
    """Return temperature, humidity and the power of the moment."""
    panels = (
        line_panel(
            title,
            f"{title} at the last reading of the chosen usage points: the lowest, the middle and the highest.",
            [
                Query(of_all_points(f"min({sited(total(live(family)))})"), "lowest"),
                Query(of_all_points(f"quantile(0.5, {sited(total(live(family)))})"), "middle"),
                Query(of_all_points(f"max({sited(total(live(family)))})"), "highest"),
            ],
            Style(unit, 8, 8, decimals=1, nothing=f"No meter of {title.lower()}"),
        )
        for title, family, unit in (
            ("Temperature", "utility_temperature_celsius", "celsius"),
            ("Humidity", "utility_humidity_ratio", "percentunit"),
            ("Power", "utility_power_kw", KW),
        )
    )
    colors = (("lowest", CONSUMPTION), ("middle", "text"), ("highest", "#D9812E"))
    return tuple(colored(colored(colored(panel, *colors[0]), *colors[1]), *colors[2]) for panel in panels)


def all_registers() -> Panel:
    """Return the table of everything."""

    def shown(family: str) -> str:
        described = f"max by ({BY_POINT}, register, description) ({live('utility_register_info')})"
        value = f"max by ({BY_POINT}, register) ({live(family)}) * on ({BY_POINT}, register) group_left (description) {described}"
        return of_all_points(f"topk(500, {sited(value, 'commodity', 'meter')})")

    return table_panel(
        "All registers",
        "Each register with what it showed last; of more than five hundred the highest.",
        (
            Column("kWh", shown("utility_consumption_index_kwh"), decimals=1),
            Column("m³", shown("utility_consumption_index_m3"), decimals=3, width=90),
            Column("Injected, kWh", shown("utility_injection_index_kwh"), decimals=1),
            Column("°C", shown("utility_temperature_celsius"), decimals=1),
            Column("Humidity", shown("utility_humidity_ratio"), "percentunit", 0),
            Column("kW", shown("utility_power_kw"), decimals=2),
            Column("Other", shown("utility_register_value")),
        ),
        Style(width=24, height=14, nothing="no site"),
        {
            "site": "Site",
            "commodity": "Kind",
            "usage_point": "Usage point",
            "meter": "Meter",
            "register": "Register",
            "description": "Description",
        },
    )
