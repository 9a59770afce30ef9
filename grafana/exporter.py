"""Exporter: visits, failures, budgets, the ledger, and whether the history arrives."""

from collections.abc import Sequence

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.board import Row, account, board, usage_point
from grafana.overview import health_row
from grafana.parts import (
    ANY_IS_BAD,
    HISTORY_SAYS,
    NEEDS_BOTH,
    RULES_SAY,
    Ask,
    Column,
    Look,
    Panel,
    bars,
    lines,
    number,
    rows,
)
from grafana.promql import health, live, process, recent

LABELS = {"account": "Account", "portal": "Portal"}
BY = "account, portal"
RELOADED = "utility_exporter_config_last_reload_success_timestamp_seconds"
RATE_LIMIT = 'reason="rate_limit"'


def each(family: str) -> str:
    """Give one value for each account."""
    return f"max by ({BY}) ({health(family)})"


def per_hour(family: str, by: str) -> str:
    """Give how many there were in an hour, of an own counter."""
    return f"sum by ({by}) (rate({health(family)}[$__rate_interval])) * 3600"


def exporter() -> Dashboard:
    """Make the dashboard."""
    return board(
        "utility-exporter",
        "Utilities / Exporter",
        "How the exporter itself is doing: visits to the portals, the ledger, the history, the process.",
        (account(), usage_point()),
        (
            Row("", health_row()),
            Row("Accounts", (accounts(),)),
            Row("Visits", visits()),
            Row("Ledger and history", ledger()),
            Row("Process", running()),
        ),
        since="now-2d",
    )


def accounts() -> Panel:
    """Make the table of accounts."""
    return rows(
        "Accounts",
        "When each account was asked, with what luck, and when it is asked again. Requests of a day are what counts against a "
        "portal's budget.",
        (
            Column("Last visit", each("utility_up"), words={"0": ("failed", "red"), "1": ("good", "green")}),
            Column("Login", each("utility_login_suspended"), words={"0": ("good", "text"), "1": ("refused", "red")}),
            Column("Asked", f"time() - {each('utility_last_visit_timestamp_seconds')}", "s"),
            Column("Succeeded", f"time() - {each('utility_last_success_timestamp_seconds')}", "s"),
            Column("New data", f"time() - {each('utility_last_new_data_timestamp_seconds')}", "s"),
            Column("Next visit in", f"{each('utility_next_visit_timestamp_seconds')} - time()", "s"),
            Column("Every", each("utility_visit_interval_seconds"), "s"),
            Column("Took", each("utility_visit_duration_seconds"), "s", 1),
            Column("Requests in a day", f"sum by ({BY}) (increase({health('utility_portal_requests_total')}[1d]))", "short", 0),
            Column(
                "Budget refusals in a day",
                f"sum by ({BY}) (increase({health('utility_visit_failures_total', RATE_LIMIT)}[1d]))",
                "short",
                0,
            ),
        ),
        Look(width=24, height=8),
        LABELS,
    )


def visits() -> Sequence[Panel]:
    """Make the graphs of visits and what went wrong."""
    return (
        bars(
            "Visits",
            "Visits in an hour, by account.",
            [Ask(per_hour("utility_visits_total", "account"), "{{account}}", "1h")],
            Look("short", 8, 8),
        ),
        bars(
            "Failures by reason",
            "Visits that failed, in an hour: unreachable (network, or the portal is down), rate_limit (a budget is spent), login "
            "(refused), response (not understood), bug (ours), ledger (the disk).",
            [Ask(per_hour("utility_visit_failures_total", "account, reason"), "{{account}} {{reason}}", "1h")],
            Look("short", 8, 8),
        ),
        bars(
            "Portal answers",
            "HTTP answers of the portals in an hour, by class: what call budgets count.",
            [Ask(per_hour("utility_portal_requests_total", "account, status"), "{{account}} {{status}}", "1h")],
            Look("short", 8, 8),
        ),
        lines(
            "How long a visit takes",
            "Duration of the last visit.",
            [Ask(each("utility_visit_duration_seconds"), "{{account}}")],
            Look("s", 12, 8),
        ),
        lines(
            "Age of the newest reading",
            "Of each account's newest usage point: saw teeth as deliveries come.",
            [Ask(f"min by (account) ({live('utility_reading_age_seconds')})", "{{account}}")],
            Look("s", 12, 8),
        ),
    )


def ledger() -> Sequence[Panel]:
    """Make the graphs of what is kept and what Prometheus gets of it."""
    return (
        lines(
            "Readings kept",
            "Readings in the ledger.",
            [Ask(f"sum by (account) ({health('utility_ledger_readings')})", "{{account}}")],
            Look("short", 8, 8),
        ),
        number(
            "Corrections",
            "Values that the portals changed afterwards, in the span of the graph.",
            [Ask(f"sum by (account) (increase({health('utility_corrections_total')}[$__range]))", "{{account}}")],
            Look("short", 4, 8, decimals=0),
        ),
        number(
            "Days missing",
            "Days without an amount among the last 60 known, of all usage points of an account.",
            [Ask(f"sum by (account) ({live('utility_day_gaps')})", "{{account}}")],
            Look("short", 4, 8, ((None, "green"), (1, "orange"))),
        ),
        rows(
            "History delivery",
            "For each account: usage points with a reading, true-time series that arrive here with a sample of the last week, "
            "and usage points that had some and have none now." + HISTORY_SAYS + RULES_SAY,
            (
                Column("Usage points", f"count by (account) ({live('utility_reading_timestamp_seconds')})"),
                Column("Series in the history", f"sum by (account) ({recent('usage_point:utility_history_series:count7d')})"),
                Column("Points in the history", f"count by (account) ({recent('usage_point:utility_history_series:count7d')})"),
            ),
            Look(width=8, height=8, nothing=NEEDS_BOTH),
            {"account": "Account"},
        ),
        receivers(),
    )


def receivers() -> Panel:
    """Make the table of what the history is sent to."""
    sent = "utility_exporter_remote_write"
    target = "max by (target) ({})".format
    return rows(
        "Remote write",
        "For each receiver of the true-time series: whether it takes them, what waits, and what it refused. Refused samples are "
        "set aside; the log says the receiver's reason.",
        (
            Column("Last request", target(process(f"{sent}_up")), words={"0": ("failed", "red"), "1": ("good", "green")}),
            Column("Samples waiting", target(process(f"{sent}_pending_samples"))),
            Column("Waiting for", target(process(f"{sent}_lag_seconds")), "s", 0, ((None, "green"), (6 * 3600, "red"))),
            Column("Last taken", f"time() - {target(process(f'{sent}_last_success_timestamp_seconds'))}", "s", 0),
            Column("Sent in a day", target(f"increase({process(f'{sent}_sent_samples_total')}[1d])"), "short", 0),
            Column(
                "Refused in a day", target(f"increase({process(f'{sent}_refused_samples_total')}[1d])"), "short", 0, ANY_IS_BAD
            ),
            Column("Corrections in a day", target(f"increase({process(f'{sent}_corrections_total')}[1d])"), "short", 0),
        ),
        Look(width=24, height=5, nothing="No receiver: history.remote_write is not configured"),
        {"target": "Receiver"},
    )


def running() -> Sequence[Panel]:
    """Make the process's own numbers."""
    return (
        rows(
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
            Look(width=12, height=6),
            {"job": "Job", "instance": "Instance", "version": "Version", "python": "Python"},
        ),
        number(
            "Scraped",
            "Whether Prometheus gets the page.",
            [Ask(f"min({process('up')})")],
            Look(width=3, height=6, words={"0": ("no", "red"), "1": ("yes", "green")}),
        ),
        number(
            "A scrape takes",
            "How long the page takes to come; it is made from memory.",
            [Ask(f"max({process('scrape_duration_seconds')})")],
            Look("s", 3, 6, ((None, "green"), (1, "orange"), (5, "red")), decimals=3),
            graph=True,
        ),
        number(
            "Restarted",
            "How long the process has run.",
            [Ask(f"time() - min({process('process_start_time_seconds')})")],
            Look("s", 3, 6),
        ),
        number(
            "Open files",
            "File descriptors in use.",
            [Ask(f"max({process('process_open_fds')})")],
            Look("short", 3, 6, ((None, "green"), (500, "orange"))),
        ),
        lines(
            "Processor",
            "Share of one processor.",
            [Ask(f"rate({process('process_cpu_seconds_total')}[$__rate_interval])", "{{instance}}")],
            Look("percentunit", 12, 8),
        ),
        lines(
            "Memory",
            "Resident memory.",
            [Ask(process("process_resident_memory_bytes"), "{{instance}}")],
            Look("bytes", 12, 8),
        ),
    )
