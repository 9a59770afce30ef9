"""Exporter: visits, failures, budgets, the ledger, and whether the history arrives."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboard import Row, account, build_dashboard, usage_point
from grafana.home import data_until_panel, health_panel
from grafana.panels import (
    ANY_IS_BAD,
    COMING,
    HISTORY_USED,
    HOURS,
    NEEDS_BOTH,
    RULES_USED,
    Column,
    Panel,
    Query,
    Style,
    bar_panel,
    line_panel,
    stat_panel,
    table_panel,
)
from grafana.queries import health, live, process, recent, series_in_history

LABELS = {"account": "Account", "portal": "Portal"}
BY = "account, portal"
RELOADED = "utility_exporter_config_last_reload_success_timestamp_seconds"
RATE_LIMIT = 'reason="rate_limit"'
NOT_SCRAPED = "Prometheus has not scraped it yet"


def each(family: str) -> str:
    """Return one value for each account."""
    return f"max by ({BY}) ({health(family)})"


def each_total(family: str) -> str:
    """Return the sum of a counter for each account."""
    return f"sum by ({BY}) ({health(family)} * on (account) group_left (portal) {health('utility_up')} ^ 0)"


def per_hour(family: str, by: str) -> str:
    """Return how many there were in an hour, of an own counter."""
    return f"sum by ({by}) (rate({health(family)}[$__rate_interval])) * 3600"


def exporter() -> Dashboard:
    """Return the dashboard."""
    return build_dashboard(
        "utility-exporter",
        "Exporter",
        "How the exporter itself is doing: visits to the portals, the ledger, the history, the process.",
        (account(), usage_point()),
        (
            Row("", (data_until_panel(12), health_panel(12), access_panel())),
            Row("Accounts", (accounts(),)),
            Row("Visits", visits()),
            Row("Ledger and history", ledger()),
            Row("Process", running()),
        ),
        since="now-2d",
    )


def access_panel() -> Panel:
    """Return when access ends, what is missing, and whether the history arrives."""
    return stat_panel(
        "Access and history",
        "When the first access ends that a person must renew: a token, a consent, a contract, where the portal "
        "states it; requests "
        "still to be made until everything that the portals give was asked once; history series with a "
        "reading in the last week, "
        "0 without remote read; usage points that the configuration names and that have no reading.",
        [
            Query(
                f"min({health('utility_access_expires_timestamp_seconds')} - time())",
                "Access for",
                unit="s",
                thresholds=COMING,
            ),
            Query(f"sum({health('utility_history_pending_requests')})", "Requests pending", decimals=0),
            Query(
                series_in_history(),
                "Series in the history",
                decimals=0,
                words={"0": ("no remote read", "orange")},
            ),
            Query(
                f"count({live('utility_usage_point_configured')} unless on (account, usage_point) "
                f"{live('utility_reading_timestamp_seconds')}) or 0 * count({live('utility_usage_point_configured')})",
                "Without a reading",
                decimals=0,
                thresholds=ANY_IS_BAD,
            ),
        ],
        Style(width=24, height=3),
        wide=True,
    )


def accounts() -> Panel:
    """Return the table of accounts."""
    return table_panel(
        "Accounts",
        "When each account was visited, whether that worked, and when it is visited again. Requests of a day are what "
        "counts against a "
        "portal's budget.",
        (
            Column("Last visit", each("utility_up"), words={"0": ("failed", "red"), "1": ("good", "text")}),
            Column("Login", each("utility_login_suspended"), words={"0": ("good", "text"), "1": ("refused", "red")}),
            Column("Visited", f"time() - {each('utility_last_visit_timestamp_seconds')}", "s", 0),
            Column("Last success", f"time() - {each('utility_last_success_timestamp_seconds')}", "s", 0),
            Column("New data", f"time() - {each('utility_last_new_data_timestamp_seconds')}", "s", 0),
            Column("Next visit in", f"{each('utility_next_visit_timestamp_seconds')} - time()", "s", 0),
            Column("Every", each("utility_visit_interval_seconds"), "s", 0),
            Column("Took", each("utility_visit_duration_seconds"), "s", 1),
            Column("Skipped", each_total("utility_skipped_values_total"), decimals=0, thresholds=((None, "text"), (1, "orange"))),
            Column("Requests, day", f"sum by ({BY}) (increase({health('utility_portal_requests_total')}[1d]))", "none", 0),
            Column(
                "Refused, day",
                f"sum by ({BY}) (increase({health('utility_visit_failures_total', RATE_LIMIT)}[1d]))",
                "none",
                0,
            ),
        ),
        Style(width=24, height=8, nothing="no visit yet"),
        LABELS,
    )


def visits() -> Sequence[Panel]:
    """Return the graphs of visits and what went wrong."""
    return (
        bar_panel(
            "Visits",
            "Visits in an hour, by account.",
            [Query(per_hour("utility_visits_total", "account"), "{{account}}", "1h")],
            Style("none", 8, 8, nothing="No visit yet", reach=1),
        ),
        bar_panel(
            "Failures by reason",
            "Visits that failed, in an hour: unreachable (network, or the portal is down), rate_limit (a "
            "budget is spent), login "
            "(refused), response (not understood), bug (ours), ledger (the disk).",
            [Query(f"{per_hour('utility_visit_failures_total', 'account, reason')} > 0", "{{account}} {{reason}}", "1h")],
            Style("none", 8, 8, nothing="No visit failed in this time"),
        ),
        bar_panel(
            "Portal answers",
            "HTTP answers of the portals in an hour, by class: what call budgets count.",
            [Query(f"{per_hour('utility_portal_requests_total', 'account, status')} > 0", "{{account}} {{status}}", "1h")],
            Style("none", 8, 8, nothing="No request in this time"),
        ),
        line_panel(
            "How long a visit takes",
            "Duration of the last visit.",
            [Query(each("utility_visit_duration_seconds"), "{{account}}")],
            Style("s", 12, 8, nothing="No visit yet"),
        ),
        line_panel(
            "Age of the newest reading",
            "Of each account's newest usage point; it falls when new readings come.",
            [Query(f"min by (account) ({live('utility_reading_age_seconds')}) / 3600", "{{account}}")],
            Style(HOURS, 12, 8, nothing="No reading yet", decimals=0),
        ),
    )


def ledger() -> Sequence[Panel]:
    """Return the graphs of what is kept and what Prometheus gets of it."""
    return (
        line_panel(
            "Readings kept",
            "Readings in the ledger.",
            [Query(f"sum by (account) ({health('utility_ledger_readings')})", "{{account}}")],
            Style("none", 8, 8, nothing=NOT_SCRAPED),
        ),
        table_panel(
            "History",
            "For each account: usage points with a reading, history series that arrive here with a sample of "
            "the last week, "
            "the usage points of these; days without an amount since the first known one, and among the last "
            "60; values that the "
            "portals changed afterwards, in the span of the graph; readings kept." + HISTORY_USED + RULES_USED,
            (
                Column("Readings", f"sum by (account) ({health('utility_ledger_readings')})", decimals=0),
                Column("Days missing", f"sum by (account) ({live('utility_history_missing_days')})", decimals=0),
                Column(
                    "of 60",
                    f"sum by (account) ({live('utility_day_gaps')})",
                    decimals=0,
                    thresholds=((None, "text"), (1, "orange")),
                ),
                Column(
                    "Corrections", f"sum by (account) (increase({health('utility_corrections_total')}[$__range]))", decimals=0
                ),
                Column("Usage points", f"count by (account) ({live('utility_reading_timestamp_seconds')})"),
                Column("Series", f"sum by (account) ({recent('usage_point:utility_history_series:count7d')})"),
                Column("Points", f"count by (account) ({recent('usage_point:utility_history_series:count7d')})"),
            ),
            Style(width=16, height=8, nothing=NEEDS_BOTH),
            {"account": "Account"},
        ),
        receivers(),
    )


def receivers() -> Panel:
    """Return the table of what the history is sent to."""
    sent = "utility_exporter_remote_write"
    target = "max by (target) ({})".format
    return table_panel(
        "Remote write",
        "For each receiver of the history series: whether it accepts them, what waits, and what it refused. "
        "Refused samples are "
        "set aside; the log says the receiver's reason.",
        (
            Column("Last request", target(process(f"{sent}_up")), words={"0": ("failed", "red"), "1": ("good", "text")}),
            Column("Samples waiting", target(process(f"{sent}_pending_samples"))),
            Column("Waiting for", target(process(f"{sent}_lag_seconds")), "s", 0, ((None, "green"), (6 * 3600, "red"))),
            Column("Last sent", f"time() - {target(process(f'{sent}_last_success_timestamp_seconds'))}", "s", 0),
            Column("Sent in a day", target(f"increase({process(f'{sent}_sent_samples_total')}[1d])"), "none", 0),
            Column(
                "Refused in a day", target(f"increase({process(f'{sent}_refused_samples_total')}[1d])"), "none", 0, ANY_IS_BAD
            ),
            Column("Corrections in a day", target(f"increase({process(f'{sent}_corrections_total')}[1d])"), "none", 0),
        ),
        Style(width=24, height=5, nothing="none: history.remote_write is not configured"),
        {"target": "Receiver"},
    )


def running() -> Sequence[Panel]:
    """Return the process's own numbers."""
    return (
        table_panel(
            "Versions",
            "What runs, and whether its configuration was last read without a fault.",
            (
                Column("", f"max by (job, instance, version, python) ({process('utility_exporter_build_info')})", hidden=True),
                Column(
                    "Configuration",
                    f"max by (job, instance) ({process('utility_exporter_config_last_reload_successful')})",
                    words={"0": ("has a fault", "red"), "1": ("good", "green")},
                ),
                Column(
                    "Read",
                    f"time() - max by (job, instance) ({process(RELOADED)})",
                    "s",
                ),
            ),
            Style(width=12, height=6, nothing="not scraped"),
            {"instance": "Instance", "job": "Job", "version": "Version", "python": "Python"},
        ),
        stat_panel(
            "Process",
            "Whether Prometheus gets the page, how long that takes (it is made from memory), how long the "
            "process has run, and its "
            "open files.",
            [
                Query(f"min({process('up')})", "Scraped", words={"0": ("no", "red"), "1": ("yes", "text")}),
                Query(
                    f"max({process('scrape_duration_seconds')})",
                    "A scrape takes",
                    unit="s",
                    decimals=3,
                    thresholds=((None, "text"), (1, "orange"), (5, "red")),
                ),
                Query(f"time() - min({process('process_start_time_seconds')})", "Running for", unit="s", decimals=0),
                Query(
                    f"max({process('process_open_fds')})", "Open files", decimals=0, thresholds=((None, "text"), (500, "orange"))
                ),
            ],
            Style(width=12, height=6, nothing=NOT_SCRAPED),
            listed=True,
        ),
        line_panel(
            "Processor",
            "Share of one processor.",
            [Query(f"rate({process('process_cpu_seconds_total')}[$__rate_interval])", "{{instance}}")],
            Style("percentunit", 12, 8, nothing=NOT_SCRAPED, reach=0.05),
        ),
        line_panel(
            "Memory",
            "Resident memory.",
            [Query(process("process_resident_memory_bytes"), "{{instance}}")],
            Style("bytes", 12, 8, nothing=NOT_SCRAPED),
        ),
    )
