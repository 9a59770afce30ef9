"""Home: what was used and what it costs, against last year; is anything wrong; how fresh is this."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboard import Row, account, build_dashboard, commodity, usage_point
from grafana.panels import (
    AGE,
    ANY_IS_BAD,
    CHANGE,
    DATE,
    EURO,
    HISTORY_USED,
    HOURS,
    KWH,
    M3,
    NEEDS_MONTHS,
    NEEDS_RULES,
    NO_RULES,
    RULES_USED,
    SHARE,
    TARIFFS,
    Column,
    Panel,
    Query,
    Style,
    bar_chart_panel,
    colored,
    repeated,
    stat_panel,
    table_panel,
)
from grafana.periods import (
    LATE,
    NOT_TWICE,
    THIS,
    calendar_panel,
    counted_once,
    cumulative_panel,
    days_panel,
    latest_days,
    months_panel,
    of_commodity,
    records_panel,
)
from grafana.queries import (
    BY_POINT,
    BY_REGISTER,
    MONTH,
    RULES_LOADED,
    alerts_firing,
    counted,
    dated,
    health,
    live,
    longer_than_allowed,
    of_day,
    only,
    past,
    peak_shares,
    recent,
    total,
)

YES_IS_BAD = {"0": ("no", "text"), "1": ("yes", "red")}
NO_IS_BAD = {"0": ("no", "red"), "1": ("yes", "text")}
NO_YEAR_BEFORE = {"-9": ("load rules.yaml", "text")}
POINT_LABELS = {"usage_point": "Usage point", "account": "Account"}
WATER, ELECTRIC = 'commodity="water"', 'commodity="electricity"'
METERED = 'commodity=~"electricity|gas|water|heat|cold"'
PRICES = " By the prices in settings.yaml, which are made up until you change them; no standing charges."


def home() -> Dashboard:
    """Return the dashboard."""
    return build_dashboard(
        "utility-home",
        "Home",
        "What was used, what it costs, is it more than last year, is anything wrong: electricity, gas, water and heat.",
        (account(), usage_point(), commodity()),
        (
            Row("", (use_panel(), cost_panel(), total_panel(), signs_panel(), data_until_panel(12), health_panel(12))),
            Row("Days", (days_panel(),)),
            Row("Years", (cumulative_panel(), months_panel())),
            Row("Costs", (monthly_cost_panel(), yearly_cost_panel())),
            Row("Calendar", (calendar_panel(), records_panel())),
            Row("Usage points", (points_panel(), alerts_panel())),
        ),
    )


def use_panel() -> Panel:
    """Return the tiles of each commodity: the latest day, the month so far, and that against the year before."""
    # The date has a line of its own: as part of a name it would be asked for in kWh and in m³, and twice, for day and month.
    queries = [Query(f"1000 * (min({latest_days(THIS)}) + 43200)", "Latest day", unit=DATE)]
    for unit, daily in zip((KWH, M3), of_commodity(select_live, *families("daily")), strict=True):
        queries.append(Query(daily, "Used that day", unit=unit, decimals=1 if unit == KWH else 2))
    months = of_commodity(select_live, *families("monthly"))
    for unit, monthly in zip((KWH, M3), months, strict=True):
        queries.append(Query(monthly, "Month so far", unit=unit, decimals=0 if unit == KWH else 1))
    change = Query(month_change(), "Against last year", "", "percentunit", 0, CHANGE, NO_YEAR_BEFORE, nothing="–")
    queries.append(change)
    panel = stat_panel(
        "${commodity:text}",
        "The latest day that all usage points have, the month up to it, and how much more or less that is "
        "than on the same "
        "days of the year before, over the usage points that have both." + HISTORY_USED + RULES_USED,
        queries,
        Style(height=5, nothing="No whole day known yet"),
        listed=True,
    )
    return repeated(panel, "commodity", 4)


def families(period: str) -> tuple[str, str]:
    """Return the names of a period's consumption in kWh and in m³."""
    return (f"utility_{period}_consumption_kwh", f"utility_{period}_consumption_m3")


def select_live(name: str) -> str:
    """Select a family of the page, without the m³ of gas that has kWh too."""
    return live(name, *((NOT_TWICE,) if name.endswith("m3") else ()))


def month_change() -> str:
    """Return how much more the month so far is than the same days of the year before; NaN or -9 say why there is nothing.

    By rules: every tile would read both years of all meters anew, which takes as long as all else that is seen first.
    """
    years = (recent(f"register:utility_month_to_date:{year}", NOT_TWICE) for year in ("this_year", "year_before"))
    this, before = (f"sum({year} and on ({BY_REGISTER}) {counted_once(THIS)})" for year in years)
    known = f"(count({only(live('utility_latest_day_timestamp_seconds'), THIS)}) > bool 0)"
    return f"{this} / {before} - 1 or on () {known} * (sum({RULES_LOADED}) * NaN or vector(-9))"


def cost_panel() -> Panel:
    """Return what each commodity costs in the month so far and is expected to cost at its end."""
    panel = stat_panel(
        "Cost of ${commodity:raw}",
        "Of the month up to the latest day, and expected for all of it, which adds, for the days left, the mean of the same "
        "weekdays of the last four weeks; the error is what four months out of five stay within."
        + PRICES
        + HISTORY_USED
        + RULES_USED,
        [
            Query(f"sum({only(past('usage_point:utility_monthly_cost:eur'), THIS)})", "Month so far"),
            Query(f"sum({only(recent('usage_point:utility_monthly_cost:expected_eur'), THIS)})", "Expected"),
            Query(f"sum({only(recent('usage_point:utility_monthly_cost:expected_error_eur'), THIS)})", "Give or take"),
        ],
        Style(EURO, height=4, decimals=2, nothing=f"No cost yet. {NEEDS_RULES}"),
        listed=True,
    )
    return repeated(panel, "commodity", 4)


def total_panel() -> Panel:
    """Return what everything together costs."""
    return stat_panel(
        "Cost of the month, all together",
        "The sums of the costs above." + PRICES + RULES_USED,
        [
            Query(f"sum({past('usage_point:utility_monthly_cost:eur')})", "So far"),
            Query(f"sum({recent('usage_point:utility_monthly_cost:expected_eur')})", "Expected"),
        ],
        Style(EURO, width=8, height=3, decimals=2, nothing=f"No cost yet. {NEEDS_RULES}"),
        wide=True,
    )


def signs_panel() -> Panel:
    """Return leaks and peaks: only those there are."""
    running = longer_than_allowed("max", only(recent("usage_point:utility_flow:hours"), WATER))
    unknown = f"-1 * max({live('utility_usage_point_info', WATER)})"
    flag = only(live("utility_divergent_consumption"), WATER)
    monthly, daily = peak_shares()
    return stat_panel(
        "Leaks and peaks",
        "For how long water has run without a pause, when longer than the limit in settings.yaml, by readings "
        "of every hour or so; "
        "the portal's own flag of unusual consumption; the month's highest quarter-hour as a share of the mean "
        "of the twelve months "
        "before (2.5 kW at least), which the capacity tariff counts; the latest day's highest power as a share "
        "of the subscribed "
        "power. What no portal gives is not shown." + HISTORY_USED + RULES_USED,
        [
            Query(
                f"{running} or {unknown}",
                "Water runs for",
                unit=HOURS,
                decimals=0,
                thresholds=ANY_IS_BAD,
                words={"0": ("no leak", "green"), "-1": ("not known", "text")},
            ),
            Query(
                f"max({flag})",
                "Water, by the portal",
                words={"0": ("fine", "green"), "1": ("unusual", "red")},
            ),
            Query(f"max({monthly})", "Peak against mean", unit="percentunit", decimals=0, thresholds=SHARE),
            Query(f"max({daily})", "Power against limit", unit="percentunit", decimals=0, thresholds=SHARE),
        ],
        Style(width=16, height=3, nothing="No portal gives a leak or a peak"),
        wide=True,
    )


def data_until_panel(width: int) -> Panel:
    """Return up to which day there is data, for each commodity."""
    facts = f"max by ({BY_POINT}, commodity) ({live('utility_usage_point_info', METERED)})"
    latest = (
        f"({live('utility_latest_day_timestamp_seconds')} + 43200 or on ({BY_POINT}) {live('utility_reading_timestamp_seconds')})"
    )
    running = f"({latest} > on () group_left () (max({latest}) - {LATE}))"
    until = f"min by (commodity) ({running} * on ({BY_POINT}) group_left (commodity) {facts})"
    return stat_panel(
        "Data until",
        "The newest day that all usage points of a commodity have; those that ended more than ten days before "
        "the others are left "
        "out. Days come a day late, gas three.",
        [Query(f"sort(1000 * {until})", "{{commodity}}")],
        Style(DATE, width=width, height=3, nothing="No reading yet"),
        wide=True,
    )


def failing_count() -> str:
    """Count the accounts whose last visit failed."""
    return f"count({health('utility_up')} == 0) or 0 * count({health('utility_up')})"


def alerts_count() -> str:
    """Count the alerts that fire; -1 where the rules are not loaded."""
    return f"count({alerts_firing()}) or 0 * sum({RULES_LOADED}) or vector(-1)"


def health_panel(width: int) -> Panel:
    """Return whether accounts fail and alerts fire."""
    return stat_panel(
        "Health",
        "Accounts whose last visit to the portal failed; alerts that fire for the chosen accounts, and whether the rules are "
        "loaded at all.",
        [
            Query(failing_count(), "Accounts failing", thresholds=ANY_IS_BAD),
            Query(alerts_count(), "Alerts firing", thresholds=ANY_IS_BAD, words=NO_RULES),
        ],
        Style(width=width, height=3, decimals=0, nothing="No visit yet"),
        wide=True,
    )


def tariff_labels(expression: str) -> str:
    """Label a register's amount with its tariff: the class of electricity where there are several, else the commodity."""
    facts = f"max by ({BY_REGISTER}, commodity) ({live('utility_register_info')})"
    labelled = f"({expression}) * on ({BY_REGISTER}) group_left (commodity) {facts}"
    return (
        f'label_replace(label_replace({labelled}, "tariff", "$1", "commodity", "(.+)"), "tariff", "$1", "register", '
        '"(day|night|H[CP].*)")'
    )


def monthly_costs() -> str:
    """Return the costs of every whole month by tariff, injection below zero."""

    def months(selected: str) -> str:
        return dated(selected, "400d", "month")

    consumed = " or ".join(months(of_day(past(f"utility_interval_consumption_{unit}", MONTH))) for unit in ("kwh", "m3"))
    consumed = f"({consumed}) * on ({BY_REGISTER}) group_left () {past('register:utility_consumption:price_eur')}"
    injected = months(of_day(past("utility_interval_injection_kwh", MONTH)))
    earned = f"{injected} * on ({BY_REGISTER}) group_left () {past('register:utility_injection:price_eur')}"
    # On the first of each month the mean of the peaks since the same day of the year before, 365 or 366 days ago.
    means = (
        f"avg_over_time({past('utility_measured_peak_kw', MONTH)}[{days}d])"
        f" and on () (day_of_month(vector(time())) == 1 == day_of_month(vector(time() - {days * 86400})))"
        for days in (365, 366)
    )
    peak = months(f"clamp_min({' or '.join(means)}, 2.5)")
    capacity = f"{peak} * on ({BY_POINT}) group_left () {past('usage_point:utility_capacity:price_eur')} / 12"
    return (
        f"sum by (date, tariff) ({tariff_labels(consumed)})"
        f' or label_replace(sum by (date) ({capacity}), "tariff", "capacity", "", "")'
        f' or label_replace(-sum by (date) ({earned}), "tariff", "injection", "", "")'
    )


def monthly_cost_panel() -> Panel:
    """Return the costs of every month stacked by tariff."""
    panel = bar_chart_panel(
        "Cost by month",
        "Whole months by tariff, at today's prices: day and night, HP and HC, capacity (a twelfth of a year at "
        "the mean of the "
        "peaks until then), gas, water, heat; what is paid for injection is below zero." + PRICES + HISTORY_USED + RULES_USED,
        Query(f"sum by (date, tariff) ({monthly_costs()})"),
        Style(EURO, width=16, height=9, decimals=0, nothing=NEEDS_MONTHS + ", or load prometheus/rules.yaml"),
        "date",
        "tariff",
        stacked=True,
    )
    for pattern, color in TARIFFS.items():
        colored(panel, pattern, color)
    return panel


def yearly_cost_panel() -> Panel:
    """Return what the year has cost and is expected to cost."""
    return stat_panel(
        "Cost of the year",
        "Of the year up to the latest day, and expected at its end: the year before, times this year's share "
        "of it so far, at "
        "today's prices; the error is how much months differed from those of the year before."
        + PRICES
        + HISTORY_USED
        + RULES_USED,
        [
            Query(f"sum({past('usage_point:utility_yearly_cost:eur')})", "So far"),
            Query(f"sum({recent('usage_point:utility_yearly_cost:expected_eur')})", "Expected at its end"),
            Query(f"sum({recent('usage_point:utility_yearly_cost:expected_error_eur')})", "Give or take"),
            Query(f"sum({past('usage_point:utility_yearly_injection:eur')})", "Paid for injection"),
        ],
        Style(EURO, width=8, height=9, decimals=2, nothing=NEEDS_RULES),
        listed=True,
    )


def points_panel() -> Panel:
    """Return the table of usage points."""
    facts = f"max by ({BY_POINT}, commodity, site) ({live('utility_usage_point_info')})"
    return table_panel(
        "Usage points",
        "What each usage point shows: sums over its registers. The latest day is the latest complete one known, which is "
        "yesterday at best; month and year count up to it. Gas is in kWh and in m³.",
        (
            Column("", facts, hidden=True),
            Column("Age", f"max by ({BY_POINT}) ({live('utility_reading_age_seconds')})", "s", 0, thresholds=AGE),
            Column("Day, kWh", summed("utility_daily_consumption_kwh"), decimals=1),
            Column("Day, m³", summed("utility_daily_consumption_m3"), decimals=2),
            Column("Month, kWh", summed("utility_monthly_consumption_kwh"), decimals=0),
            Column("Month, m³", summed("utility_monthly_consumption_m3"), decimals=1),
            Column("Year, kWh", summed("utility_yearly_consumption_kwh"), decimals=0),
            Column("Year, m³", summed("utility_yearly_consumption_m3"), decimals=1),
            Column("Index, kWh", summed("utility_consumption_index_kwh"), decimals=0),
            Column("Index, m³", summed("utility_consumption_index_m3"), decimals=1),
            Column("Injected", summed("utility_monthly_injection_kwh"), decimals=0),
        ),
        Style(width=24, height=9, nothing="no usage point"),
        {"usage_point": "Usage point", "commodity": "Kind", "site": "Site", "account": "Account"},
    )


def alerts_panel() -> Panel:
    """Return the table of alerts that fire."""
    return table_panel(
        "Alerts that fire",
        f"For the chosen accounts and usage points, and for the exporter. What to do is in docs/runbook.md.{RULES_USED}",
        [Column("", f"max by (alertname, severity, account, usage_point) ({alerts_firing()})", hidden=True)],
        Style(width=24, height=6, nothing="none, if the rules are loaded"),
        {"alertname": "Alert", "severity": "Severity", "account": "Account", "usage_point": "Usage point"},
    )


def summed(family: str) -> str:
    """Sum a family of the live page over the registers of a usage point."""
    return total(counted(live(family)))
