"""How an account fares: its state out of the ledger, and the counters of this process."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from exporter.ledger.account_state import AccountState
from exporter.metrics.families import FAILURE_REASONS, STATUS_CLASSES, AccountView, Samples
from exporter.models import clean_label


@dataclass(slots=True)
class AccountHealth:
    """What the poller keeps up to date; counters start at 0 with the process."""

    interval: timedelta
    state: AccountState = field(default_factory=AccountState)
    visits: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    responses: Counter[str] = field(default_factory=Counter)

    def is_suspended(self, now: datetime) -> bool:
        """Say whether the portal has refused the login and is not asked."""
        return self.state.suspended_until is not None and now < self.state.suspended_until


def build_health_samples(view: AccountView, health: AccountHealth, now: datetime) -> Samples:
    """Say an account's health in samples."""
    state, key = health.state, (view.account, view.portal)
    samples: Samples = {
        "utility_visits_total": {key: health.visits},
        "utility_visit_failures_total": {(*key, reason): health.failures[reason] for reason in FAILURE_REASONS},
        "utility_visit_interval_seconds": {key: health.interval.total_seconds()},
        "utility_login_suspended": {key: health.is_suspended(now)},
        "utility_portal_requests_total": {(*key, status): health.responses[status] for status in STATUS_CLASSES},
        "utility_ledger_readings": {(view.account,): state.readings},
        "utility_corrections_total": {(view.account,): state.corrections},
    }
    instants = {
        "utility_last_visit_timestamp_seconds": state.last_visit,
        "utility_last_success_timestamp_seconds": state.last_success,
        "utility_last_new_data_timestamp_seconds": state.last_new_data,
        "utility_next_visit_timestamp_seconds": state.next_visit,
        "utility_access_expires_timestamp_seconds": state.holder.access_expires,
    }
    samples |= {family: {key: at.timestamp()} for family, at in instants.items() if at is not None}
    if state.up is not None:
        samples["utility_up"] = {key: state.up}
    if state.duration is not None:
        samples["utility_visit_duration_seconds"] = {key: state.duration}
    holder = state.holder
    names = (holder.name, holder.company, holder.company_id, holder.customer_id, holder.person_id)
    allowed = (clean_label(text) if view.show_personal else "" for text in names)
    samples["utility_account_info"] = {(*key, *allowed): 1}
    return samples
