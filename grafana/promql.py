"""Pieces of PromQL that the dashboards share; what is measured when stands in the documents on metrics.

On the live page the newest is always *now*. The true-time series stand on the instant they describe, an amount a
millisecond before its end: seen from a point T of the graph it lies ahead, which is why offsets are negative here.
"""

PROCESS = 'job=~"$job",instance=~"$instance"'
ACCOUNT = f'{PROCESS},account=~"$account"'
POINT = f'{ACCOUNT},usage_point=~"$usage_point"'
"""Matchers of the live page."""
PAST = 'account=~"$account",usage_point=~"$usage_point"'
"""Matchers of the true-time series and of recorded ones: they belong to no scrape."""
BY_POINT = "account, usage_point"
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


DAY, QUARTER, FINE, HOUR = 'resolution="P1D"', 'resolution="PT15M"', 'resolution=~"PT(10|30)M"', 'resolution="PT1H"'


def live(name: str, *more: str) -> str:
    """Select a family of the live page."""
    return f"{name}{{{','.join((POINT, *more))}}}"


def health(name: str, *more: str) -> str:
    """Select a family that tells of an account."""
    return f"{name}{{{','.join((ACCOUNT, *more))}}}"


def process(name: str, *more: str) -> str:
    """Select a family that tells of the process."""
    return f"{name}{{{','.join((PROCESS, *more))}}}"


def past(name: str, *more: str) -> str:
    """Select a true-time or recorded family."""
    return f"{name}{{{','.join((PAST, *more))}}}"


def recent(name: str, *more: str) -> str:
    """Select a family that is recorded every quarter of an hour, or less often on a fleet."""
    return f"last_over_time({past(name, *more)}[3h])"


def total(selected: str, by: str = BY_POINT) -> str:
    """Sum over registers (or whatever `by` leaves out)."""
    return f"sum by ({by}) ({selected})"


def known(selected: str) -> str:
    """Give the newest that is known, at every point of the graph; the last point may lie hours before now."""
    return f"last_over_time({selected}[25h] @ end() offset -1d)"


def only(expression: str, *matchers: str) -> str:
    """Keep the usage points whose facts match, as they are known now."""
    return f"({expression}) and on ({BY_POINT}) {known(live('utility_usage_point_info', *matchers))}"


def days(name: str, *more: str) -> str:
    """Give each register's amounts of the days that begin at a point of the graph."""
    return f"sum_over_time({past(name, DAY, *more)}{NEXT_DAYS})"


def steps(name: str, *more: str) -> str:
    """Give how far each register went from a point of the graph to the next."""
    selected = past(name, *more)
    return f"(last_over_time({selected}{NEXT}) - last_over_time({selected}[$__interval]))"


def month_until(name: str, *more: str, offset: str = "") -> str:
    """Give the sum of 30 days up to a point of the graph, per usage point; `offset` as in PromQL."""
    return total(f"sum_over_time({past(name, DAY, *more)}[30d]{offset})")


def quarters(name: str, *more: str) -> str:
    """Give mean power in kW of the quarter-hours that begin at a point of the graph, per usage point."""
    return total(f"4 * avg_over_time({past(name, QUARTER, *more)}{NEXT})")


def halves(name: str, *more: str) -> str:
    """Give the same of half-hours (and steps of 10 minutes), where there are none of hours."""
    fine, coarse = past(name, FINE, *more), past(name, HOUR, *more)
    energy = total(f"sum_over_time({fine}{NEXT})")
    return f"{energy} * 3600000 / $__interval_ms or {total(f'avg_over_time({coarse}{NEXT})')}"


def hours_of_day(selector: str) -> str:
    """Give 24 series, by the label `hour`: the amount in that hour of the day that begins at a point of the graph.

    The selector stands in it once, for each one is read from the ledger anew. PromQL has only UTC's hours, and a label out
    of a value only by `count_values`; what hour UTC has at the point, a local midnight, tells its hours from the local ones.
    """
    amounts = f'count_values("utc", hour(vector(time() - 3600))) * on () group_left () sum(sum_over_time({selector}[1h]))'
    local = (f'label_replace(count_values("utc", (hour() + {hour}) % 24), "hour", "{hour:02}", "", "")' for hour in range(24))
    day = f"last_over_time(({amounts})[23h30m:1h] offset -1d)"
    return f"max by (hour) (({' or '.join(local)}) * on (utc) group_left () {day})"


def series_in_history() -> str:
    """Count the true-time series with a sample in the last week: 0 without remote read."""
    return " + ".join(f"(count(last_over_time({past(name)}[7d])) or vector(0))" for name in HISTORY)


def gone_by(unit: str, span: str) -> str:
    """Give how far the registers of `unit` (`kwh`, `m3`) went in `span`, up to now, per usage point.

    By the history; where there is none, by the page as it was scraped.
    """
    index = past(f"utility_measured_index_{unit}")
    shown = live(f"utility_consumption_index_{unit}")
    history = total(f"last_over_time({index}[4h]) - last_over_time({index}[4h] offset {span})")
    return f"({history} or {total(f'{shown} - last_over_time({shown}[1h] offset {span})')})"
