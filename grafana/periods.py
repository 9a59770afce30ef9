"""Days, months and years of a commodity: panels that repeat by the variable `commodity`."""

from collections.abc import Callable

from grafana.panels import (
    HISTORY_USED,
    NEEDS_HISTORY,
    NEEDS_MONTHS,
    Column,
    Panel,
    Query,
    Style,
    bar_chart_panel,
    bar_panel,
    heatmap_panel,
    in_commodity_colors,
    repeated,
    table_panel,
    trend_panel,
    with_units,
)
from grafana.queries import (
    BY_REGISTER,
    DAY,
    MONTH,
    WHOLE,
    counted,
    dated,
    days,
    known,
    live,
    mapped_or_reason,
    never_empty,
    of_day,
    only,
    past,
    recent,
)

THIS = 'commodity="$commodity"'
NOT_TWICE = 'register!="volume"'
"""The m³ of gas that is counted in kWh too."""
LATE = 10 * 86400
"""Seconds: a usage point whose newest day is so much older than the others' has ended, and is not waited for."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
YEAR_NOW = "${__to:date:YYYY}"


def of_commodity(select: Callable[[str], str], kwh: str, m3: str, days: int = 0, by: str = "") -> tuple[str, str]:
    """Return the sum over the usage points of the commodity in kWh, and in m³ where none has kWh."""
    energy, volume = (f"sum by ({by}) ({counted(select(name), THIS, days=days)})" for name in (kwh, m3))
    return (energy, f"({volume} unless on () {known(live('utility_register_info', THIS, OF_ENERGY), days)})")


OF_ENERGY = 'unit=~".*Wh|.*J"'
"""Registers that are counted in kWh, whatever the portal's unit."""


def counted_once(*matchers: str) -> str:
    """Return the facts of the registers that make a sum of one unit: those in kWh, or all where none is."""
    energy, every = (live("utility_register_info", WHOLE, *more, *matchers) for more in ((OF_ENERGY,), ()))
    return f"({energy} or on () {every})"


def either(select: Callable[[str], str], kwh: str, m3: str, days: int = 0, by: str = "") -> str:
    """Return the amount in kWh, or in m³ where there is none in kWh, with the label `measure`."""
    energy, volume = of_commodity(select, kwh, m3, days, by)
    return f'(label_replace({energy}, "measure", "kWh", "", "") or on () label_replace({volume}, "measure", "m³", "", ""))'


def comparable(select: Callable[[str], str]) -> Callable[[str], str]:
    """Keep the registers whose running sum of the year before was unbroken on this day, or all where there is none."""

    def selected(name: str) -> str:
        running = "utility_year_to_date_consumption_m3" if name.endswith("m3") else "utility_year_to_date_consumption_kwh"
        before = f"last_over_time({past(running, *((NOT_TWICE,) if name.endswith('m3') else ()))}[3d] offset 366d)"
        shown = "utility_yearly_consumption_m3" if name.endswith("m3") else "utility_yearly_consumption_kwh"
        new = f"({live(shown)} unless on ({BY_REGISTER}) {before}) and on () {only(before, THIS)}"
        # The selected stands in it once: each one is read from the ledger anew.
        return f"({select(name)} unless on ({BY_REGISTER}) ({new}))"

    return selected


def latest_days(*matchers: str, days: int = 0) -> str:
    """Return the start of each usage point's latest day, without those that have ended."""
    latest = only(known(live("utility_latest_day_timestamp_seconds"), days), *matchers, days=days)
    return f"({latest}) > on () group_left () (max({latest}) - {LATE})"


def incomplete(*matchers: str) -> str:
    """Return a value at each point of a graph that is a day which not all usage points have yet."""
    return f"(vector(time() - 10800) > on () min({latest_days(*matchers, days=1)}))"


def days_panel() -> Panel:
    """Return a bar for each day; days that not all usage points have yet are pale."""
    amount = either(
        lambda name: days(name, *((NOT_TWICE,) if name.endswith("m3") else ())),
        "utility_interval_consumption_kwh",
        "utility_interval_consumption_m3",
        days=1,
    )
    # Each amount is read once: what tells whole days from others is a label.
    late = f'count_values("late", vector(time() - 10800) > bool scalar(min({latest_days(THIS, days=1)})))'
    named = f'label_replace({amount} * on () group_left (late) {late}, "name", "$commodity", "late", "0")'
    named = f'label_replace({named}, "name", "$commodity, not complete", "late", "1")'
    panel = bar_panel(
        "${commodity:text} by day",
        "Each day on its own day; over long spans each bar is a week or more. Pale: some usage points do not have it yet."
        + HISTORY_USED,
        [Query(named, "{{name}}, {{measure}}", "1d")],
        Style(height=8, nothing=NEEDS_HISTORY),
    )
    return repeated(with_units(in_commodity_colors(panel)), "commodity", 2)


def running_year(name: str) -> str:
    """Select the running sum of a year."""
    return of_day(past(name, *((NOT_TWICE,) if name.endswith("m3") else ())))


def week_of(instant: str, year: str) -> str:
    """Return the week of an instant in its year, 0 for the first seven days: older VictoriaMetrics has no `day_of_year`."""
    begin = f"86400 * (365 * ({year} - 1970) + floor(({year} - 1969) / 4))"
    return f"floor(({instant} - {begin}) / 604800)"


def of_two_years(selected: str, part: str) -> str:
    """Label each register's amounts of this year and the last with month or week, and as `year` with whose year it is."""
    instant = "vector(time() - 43200)"
    number = f"month({instant})" if part == "month" else week_of(instant, f"year({instant})")
    # Four digits, the last two of which are the month or week: 10 before them is last year, 11 this one.
    slot = f'count_values("slot", 1100 + 100 * ((year({instant}) - {YEAR_NOW}) >= -1) + {number})'
    found = f"max_over_time(({selected} * on () group_left (slot) {slot})[732d:1d])"
    found = f'label_replace({found}, "{part}", "$1", "slot", "..(..)")'
    for first, words in (("11", "this year"), ("10", "last year")):
        found = f'label_replace({found}, "year", "$commodity {words}", "slot", "{first}..")'
    return found


def with_measure(amount: str) -> str:
    """Add the unit to the name of a year."""
    return f'label_join({amount}, "year", ", ", "year", "measure")'


def of_year(name: str) -> str:
    """Return each register's running sum of this year and the last by week, and where this year is expected to end."""
    more = (NOT_TWICE,) if name.endswith("m3") else ()
    yearly = name.replace("year_to_date", "yearly")
    latest = f"max({only(live('utility_latest_day_timestamp_seconds'), THIS)}) + 43200"
    week = f'count_values("week", 100 + ({week_of(latest, f"vector({YEAR_NOW})")} >= 0))'
    week = f'label_replace({week}, "week", "$1", "week", ".(..)")'
    end = recent(f"register:{yearly}:expected", *more)
    expected = (
        f'({live(yearly, *more)} * on () group_left (week) {week} and on () {end}) or label_replace({end}, "week", "52", "", "")'
    )
    expected = f'label_replace({expected}, "year", "$commodity expected", "", "")'
    # A register whose year began later has no running sum, and is in none of the lines.
    running = f"last_over_time({past(name, *more)}[10d])"
    return f"({of_two_years(running_year(name), 'week')} or {expected} and on ({BY_REGISTER}) {running})"


def cumulative_panel() -> Panel:
    """Return the running sum of this year against the last, by week, and where it is expected to end."""
    years = either(
        comparable(of_year),
        "utility_year_to_date_consumption_kwh",
        "utility_year_to_date_consumption_m3",
        by="week, year",
    )
    panel = trend_panel(
        "${commodity:text} since New Year",
        "The running sum of this year (solid) and of the year before (pale, dashed), by week, and where this "
        "year is expected to "
        "end: the year before, times this year's share of it so far." + HISTORY_USED,
        Query(
            never_empty(
                f"sum by (week, year) ({with_measure(years)})",
                week="00",
                year="Nothing known since New Year, or set up remote read",
            )
        ),
        Style(height=8, nothing=NEEDS_HISTORY),
        "week",
        "year",
    )
    return repeated(with_units(in_commodity_colors(panel)), "commodity", 2)


def months_panel() -> Panel:
    """Return the months of this year beside those of the last."""
    amount = either(
        comparable(lambda name: of_two_years(of_day(past(name, MONTH, *((NOT_TWICE,) if name.endswith("m3") else ()))), "month")),
        "utility_interval_consumption_kwh",
        "utility_interval_consumption_m3",
        by="month, year",
    )
    panel = bar_chart_panel(
        "${commodity:text} by month",
        "Whole months, January to December: this year's beside those of the year before (pale)." + HISTORY_USED,
        Query(f"sum by (month, year) ({with_measure(amount)})"),
        Style(height=8, nothing=NEEDS_MONTHS),
        "month",
        "year",
    )
    return repeated(with_units(in_commodity_colors(panel)), "commodity", 2)


def calendar_panel() -> Panel:
    """Return a map of weeks and weekdays."""
    day = 'count_values("weekday", (day_of_week(vector(time() - 43200)) + 6) % 7 + 1)'

    def of_week(name: str) -> str:
        """Return the days of the week up to a Wednesday: a step of seven days begins on Thursdays, as Unix time did."""
        selected = of_day(past(name, DAY, *((NOT_TWICE,) if name.endswith("m3") else ())))
        # The seven midnights of UTC that are nearest: the point is a local one, up to two hours before the last of them.
        return f"last_over_time(({selected} * on () group_left (weekday) {day})[156h:1d] offset -6h)"

    amount = either(of_week, "utility_interval_consumption_kwh", "utility_interval_consumption_m3", days=8, by="weekday")
    amount = f"sum by (weekday) ({amount})"
    for place, name in enumerate(WEEKDAYS, 1):
        amount = f'label_replace({amount}, "weekday", "{place} {name}", "weekday", "{place}")'
    panel = heatmap_panel(
        "${commodity:text}, weekday by week",
        "The amount of each day of the last year, in kWh or m³: a column for each week, Thursday to Wednesday. "
        "A day that is not "
        "known is empty, one without consumption has the palest colour." + HISTORY_USED,
        [Query(mapped_or_reason(amount, "weekday", "1 Monday"), "{{weekday}}", "7d")],
        Style(height=8, nothing=NEEDS_HISTORY),
    )
    return repeated(panel.time_from("now-1y"), "commodity", 2)


def records_panel() -> Panel:
    """Return the days with the highest consumption of the last year."""
    # Dated first and then filtered: VictoriaMetrics does not know inside of a subquery what the page says now.
    amount = either(
        lambda name: dated(of_day(past(name, DAY, *((NOT_TWICE,) if name.endswith("m3") else ()))), "365d", "day"),
        "utility_interval_consumption_kwh",
        "utility_interval_consumption_m3",
        by="date",
    )
    highest = f"topk(5, {amount})"
    panel = table_panel(
        "${commodity:text}, top days",
        "The five days of the last year with the highest consumption." + HISTORY_USED,
        [Column("Used", f"sum by (date, measure) ({highest})", decimals=1)],
        Style(height=7, nothing="remote read?"),
        {"date": "Day", "measure": "Unit"},
        sort="Used",
        widths={"Day": 94, "Unit": 50},
    )
    return repeated(panel, "commodity", 4)
