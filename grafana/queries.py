"""Pieces of PromQL that the dashboards share; what is measured when is described in docs/metrics.md and docs/history.md.

On the live page the newest is always *now*. The history series lie on the instant they describe, an amount a millisecond
before its end: seen from a point T of a graph it lies ahead, which is why offsets are negative here.
"""

PROCESS = 'job=~"$job",instance=~"$instance"'
ACCOUNT = f'{PROCESS},account=~"$account"'
POINT = f'{ACCOUNT},usage_point=~"$usage_point"'
"""Matchers of the live page."""
PAST = 'account=~"$account",usage_point=~"$usage_point"'
"""Matchers of the history series and of recorded ones: they belong to no scrape."""
BY_POINT = "account, usage_point"
BY_REGISTER = "account, usage_point, register"
NEXT = "[$__interval] offset -$__interval"
"""From a point of the graph to the next one."""
NEXT_DAYS = "[$__interval] offset -${__interval}8h"
"""The days that begin at a point of the graph, which is a midnight. Days end at midnight, gas days at six in the morning, and
both by a clock that changes: eight hours later each day's end is inside, and no other's."""
HISTORY = (
    "utility_interval_consumption_kwh",
    "utility_interval_consumption_m3",
    "utility_measured_index_kwh",
    "utility_measured_index_m3",
)
NOT_GAS, GAS = 'register!~"energy|volume"', 'register=~"energy|volume"'
"""Gas registers count the same gas twice, in kWh and in m³, and bear these names; see the contract."""
RULES_LOADED = "utility_rules:loaded"
"""Recorded by prometheus/rules.yaml, whatever the meters say."""

DAY, MONTH, HOUR = 'resolution="P1D"', 'resolution="P1M"', 'resolution="PT1H"'
QUARTER, FINE = 'resolution="PT15M"', 'resolution=~"PT(10|30)M"'


def live(name: str, *more: str) -> str:
    """Select a family of the live page."""
    return f"{name}{{{','.join((POINT, *more))}}}"


def health(name: str, *more: str) -> str:
    """Select a family that describes an account."""
    return f"{name}{{{','.join((ACCOUNT, *more))}}}"


def process(name: str, *more: str) -> str:
    """Select a family that describes the process."""
    return f"{name}{{{','.join((PROCESS, *more))}}}"


def past(name: str, *more: str) -> str:
    """Select a family of the history series, or a recorded one."""
    return f"{name}{{{','.join((PAST, *more))}}}"


def recent(name: str, *more: str) -> str:
    """Select a family that is recorded every quarter of an hour, or less often on a fleet."""
    return f"last_over_time({past(name, *more)}[3h])"


def total(selected: str, by: str = BY_POINT) -> str:
    """Sum over registers (or whatever `by` leaves out)."""
    return f"sum by ({by}) ({selected})"


def known(selected: str, days: int = 0) -> str:
    """Return the newest value at every point of a graph; the last point may lie so many `days` before now.

    0 is for an instant query, whose only point is now.
    """
    if not days:
        return selected
    # From ten minutes before the last point on: Prometheus 3 leaves out the first instant, and the next may be ahead of now.
    # Every ten minutes: closer steps cost a fleet seconds, wider ones leave a Prometheus that has just begun without a graph.
    return f"last_over_time({selected}[{days * 1440 + 10}m:10m] @ end() offset -{days}d)"


def counted(expression: str, *matchers: str, days: int = 0) -> str:
    """Keep the registers whose facts match, without those that another register of the same usage point counts too.

    One look at the facts for both: Prometheus asks the exporter's history for every selector, even one of the page.
    """
    facts = known(live("utility_register_info", WHOLE, *matchers), days)
    return f"(({expression}) and on ({BY_REGISTER}) {facts})"


WHOLE = 'part_of=""'


def only(expression: str, *matchers: str, days: int = 0) -> str:
    """Keep the usage points whose facts match, as they are known now."""
    return f"(({expression}) and on ({BY_POINT}) {known(live('utility_usage_point_info', *matchers), days)})"


def named(expression: str, *matchers: str, days: int = 0) -> str:
    """Keep the usage points that match, and label each `shown`: its alias; of a bare number the commodity and the last digits."""
    facts = f"max by ({BY_POINT}, commodity) ({known(live('utility_usage_point_info', *matchers), days)})"
    labelled = f"({expression}) * on ({BY_POINT}) group_left (commodity) {facts}"
    alias = f'label_replace({labelled}, "shown", "$1", "usage_point", "(.*)")'
    number = f'label_join({alias}, "numbered", " ", "commodity", "usage_point")'
    return f'label_replace({number}, "shown", "$1 …$2", "numbered", "([a-z]+) [0-9]+([0-9]{{4}})")'


def days(name: str, *more: str) -> str:
    """Return each register's amounts of the days that begin at a point of the graph."""
    return f"sum_over_time({past(name, DAY, *more)}{NEXT_DAYS})"


def steps(name: str, *more: str) -> str:
    """Return how far each register went from a point of the graph to the next."""
    selected = past(name, *more)
    return f"(last_over_time({selected}{NEXT}) - last_over_time({selected}[$__interval]))"


def largest(family: str, resolution: str, span: str = "$__range", count: int = 8) -> str:
    """Return the end of an expression that keeps the usage points with the largest sums of the span: more bars say less."""
    sums = total(f"sum_over_time({past(family, resolution)}[{span}] @ end())")
    return f" and on ({BY_POINT}) topk({count}, {sums})"


def of_all_points(expression: str) -> str:
    """Drop the matcher of the usage point, where there are thousands of them and nobody chooses."""
    return expression.replace(',usage_point=~"$usage_point"', "").replace(',usage_point=~"$usage_point|"', "")


def never_empty(expression: str, **labels: str) -> str:
    """Add a series without values, labelled with the reason, where there is nothing: panels fail on an empty answer."""
    reason = "vector(0) / 0"
    for label, words in labels.items():
        reason = f'label_replace({reason}, "{label}", "{words}", "", "")'
    return f"({expression}) or on () {reason}"


def mapped_or_reason(expression: str, label: str, row: str, *matchers: str) -> str:
    """Keep the map of a heatmap from being empty: one row without values, named by what is missing."""
    seen = f"count(last_over_time({past('utility_interval_consumption_kwh', *matchers)}[10d] @ end()))"
    reason = f'label_replace(vector(0) / 0 unless on () {seen}, "{label}", "remote read?", "", "")'
    return never_empty(f"{expression} or on () {reason}", **{label: row})


def of_day(selected: str) -> str:
    """Return what stands on the day before a midnight (UTC), gas days too."""
    return f"last_over_time({selected}[1d] offset -8h)"


def dated(expression: str, span: str, date: str) -> str:
    """Return a value for every `month` or `day` of a span, with the label `date`: 2026-11 or 2026-11-28.

    PromQL makes a label out of a value only by `count_values`.
    """
    instant = "vector(time() - 43200)"
    number, parts = f"100 * year({instant}) + month({instant})", "(....)(..)"
    if date == "day":
        number, parts = f"100 * ({number}) + day_of_month({instant})", "(....)(..)(..)"
    form = "$1-$2-$3" if date == "day" else "$1-$2"
    stamped = f'{expression} * on () group_left (date) count_values("date", {number})'
    return f'label_replace(last_over_time(({stamped})[{span}:1d]), "date", "{form}", "date", "{parts}")'


def quarters(name: str, *more: str) -> str:
    """Return mean power in kW of the quarter-hours that begin at a point of the graph, per usage point."""
    return total(f"4 * avg_over_time({past(name, QUARTER, *more)}{NEXT})")


def halves(name: str, *more: str) -> str:
    """Return the same of half-hours (and steps of 10 minutes), or of hours where there are no shorter ones."""
    fine, coarse = past(name, FINE, *more), past(name, HOUR, *more)
    energy = total(f"sum_over_time({fine}{NEXT})")
    return f"{energy} * 3600000 / $__interval_ms or {total(f'avg_over_time({coarse}{NEXT})')}"


def hours_of_day(selector: str) -> str:
    """Return 24 series, by the label `hour`: the amount in that hour of the day that **ends** at a point of the graph.

    The selector stands in it once, for each one is read from the ledger anew. PromQL has only UTC's hours, and a label out
    of a value only by `count_values`; what hour UTC has at the point, a local midnight, tells its hours from the local ones.
    """
    amounts = f'count_values("utc", hour(vector(time() - 3600))) * on () group_left () sum(sum_over_time({selector}[1h]))'
    local = (f'label_replace(count_values("utc", (hour() + {hour}) % 24), "hour", "{hour:02} h", "", "")' for hour in range(24))
    day = f"last_over_time(({amounts})[23h30m:1h])"
    return f"max by (hour) (({' or '.join(local)}) * on (utc) group_left () {day})"


def series_in_history() -> str:
    """Count the history series with a sample in the last week: 0 without remote read."""
    return " + ".join(f"(count(last_over_time({past(name)}[7d])) or vector(0))" for name in HISTORY)


def gone_by(unit: str, span: str) -> str:
    """Return how far the registers of `unit` (`kwh`, `m3`) went in `span`, up to now, per usage point.

    By the history; where there is none, by the page as it was scraped.
    """
    index = past(f"utility_measured_index_{unit}")
    shown = live(f"utility_consumption_index_{unit}")
    history = total(f"last_over_time({index}[4h]) - last_over_time({index}[4h] offset {span})")
    return f"({history} or {total(f'{shown} - last_over_time({shown}[1h] offset {span})')})"


def longer_than_allowed(aggregation: str, hours: str) -> str:
    """Aggregate the hours of flow that are above the limit in settings.yaml; 0 where none are, nothing where none are known."""
    limit = past("usage_point:utility_flow_hours:limit")
    return f"{aggregation}(({hours}) > on ({BY_POINT}) group_left () {limit}) or 0 * {aggregation}({hours})"


def peak_shares() -> tuple[str, str]:
    """Return the month's peak as a share of what the capacity tariff counts, and the day's of the subscribed power."""
    mean = f"clamp_min({live('utility_average_monthly_peak_kw')}, 2.5)"
    return (
        f"{live('utility_monthly_peak_kw')} / on ({BY_POINT}) {mean}",
        f"{live('utility_daily_peak_kva')} / on ({BY_POINT}) {live('utility_subscribed_power_kva')}",
    )


def alerts_firing(*matchers: str) -> str:
    """Select the alerts that fire for the chosen accounts and usage points, and those of the exporter itself."""
    chosen = ('alertname=~"Utility.+"', 'alertstate="firing"', 'account=~"$account|"', 'usage_point=~"$usage_point|"')
    return f"ALERTS{{{','.join((*chosen, *matchers))}}}"
