"""The tail of the page, written at each scrape: the health of accounts, and the metrics of this program and its process."""

import platform
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter.account_status import AccountHealth, AccountView
from exporter.metrics.aggregates import display_name
from exporter.metrics.exposition import format_lines, render_header, render_registry
from exporter.metrics.families import FAILURE_REASONS, STATUS_CLASSES, TAIL_FAMILIES, Samples
from exporter.models import clean_label


class PageTail:
    """Renders what changes with every request or visit, and the metrics of the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def render(self, samples: Iterable[Samples], content_type: str) -> bytes:
        """Return the lines of `TAIL_FAMILIES`, of each family together, and those of the process."""
        lines = defaultdict[str, list[str]](list)
        for part in samples:
            for family, values in part.items():
                lines[family] += format_lines(family, values)
        families = (
            render_header(family, content_type) + "\n".join([*lines[family], ""]).encode()
            for family in TAIL_FAMILIES
            if lines.get(family)
        )
        return b"".join(families) + render_registry(self._registry, content_type)


@dataclass(slots=True)
class ReloadStatus:
    """How the configuration was read last."""

    last_success: datetime | None = None
    is_successful: bool = True

    def record_success(self, at: datetime) -> None:
        """Record that it was read at an instant."""
        self.last_success, self.is_successful = at, True

    def record_failure(self) -> None:
        """Record that it could not be read, and the one before is kept."""
        self.is_successful = False


def build_program_samples(version: str, reload_status: ReloadStatus) -> Samples:
    """Return the samples of this program: what it is, and how its last reload went."""
    samples: Samples = {
        "utility_exporter_build_info": {(version, platform.python_version()): 1},
        "utility_exporter_config_last_reload_successful": {(): reload_status.is_successful},
    }
    if reload_status.last_success:
        samples["utility_exporter_config_last_reload_success_timestamp_seconds"] = {(): reload_status.last_success.timestamp()}
    return samples


def build_health_samples(view: AccountView, health: AccountHealth, now: datetime) -> Samples:
    """Return the samples of an account's health."""
    state, key = health.state, (view.account, view.portal)
    samples: Samples = {
        "utility_visits_total": {key: health.visits},
        "utility_visit_failures_total": {(*key, reason): health.failures[reason] for reason in FAILURE_REASONS},
        "utility_visit_interval_seconds": {key: health.interval.total_seconds()},
        "utility_login_suspended": {key: health.is_suspended(now)},
        "utility_portal_requests_total": {(*key, status): health.responses[status] for status in STATUS_CLASSES},
        "utility_ledger_readings": {(view.account,): state.readings},
        "utility_corrections_total": {(view.account,): state.corrections},
        "utility_history_pending_requests": {(view.account,): health.history.pending},
        "utility_skipped_values_total": {(view.account,): health.skipped},
        "utility_portal_shape_changes_total": {(view.account,): health.shape_changes},
        "utility_usage_point_configured": {(view.account, display_name(view, one)): 1 for one in sorted(view.configured)},
    }
    instants = {
        "utility_last_visit_timestamp_seconds": state.last_visit,
        "utility_last_success_timestamp_seconds": state.last_success,
        "utility_last_new_data_timestamp_seconds": state.last_new_data,
        "utility_next_visit_timestamp_seconds": state.next_visit,
        "utility_access_expires_timestamp_seconds": state.holder.access_expires,
        "utility_login_valid_from_timestamp_seconds": state.holder.login_valid_from,
        "utility_token_expires_timestamp_seconds": state.token_expires,
    }
    samples |= {family: {key: at.timestamp()} for family, at in instants.items() if at is not None}
    if state.up is not None:
        samples["utility_up"] = {key: state.up}
    if state.duration is not None:
        samples["utility_visit_duration_seconds"] = {key: state.duration}
    holder = state.holder
    personal = (holder.name, holder.company, holder.company_id, holder.customer_id, holder.person_id)
    labels = (clean_label(text) if view.show_personal else "" for text in personal)
    samples["utility_account_info"] = {(*key, *labels): 1}
    return samples
