"""How an account fares: its state out of the ledger, and the counters of this process."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from exporter.ledger import AccountState
from exporter.metrics.families import REASONS, STATUSES
from exporter.metrics.words import Samples, Shown
from exporter.model import clean


@dataclass(slots=True)
class Health:
    """What the poller keeps up to date; counters start at 0 with the process."""

    interval: timedelta
    state: AccountState = field(default_factory=AccountState)
    visits: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def suspended(self, now: datetime) -> bool:
        """Say whether the portal has refused the login and is not asked."""
        return self.state.suspended_until is not None and now < self.state.suspended_until


def health_samples(shown: Shown, health: Health, now: datetime) -> Samples:
    """Say an account's health in samples."""
    state, key = health.state, (shown.account, shown.portal)
    samples: Samples = {
        "utility_visits_total": {key: health.visits},
        "utility_visit_failures_total": {(*key, reason): health.failures[reason] for reason in REASONS},
        "utility_visit_interval_seconds": {key: health.interval.total_seconds()},
        "utility_login_suspended": {key: health.suspended(now)},
        "utility_portal_requests_total": {(*key, status): health.answers[status] for status in STATUSES},
        "utility_ledger_readings": {(shown.account,): state.readings},
        "utility_corrections_total": {(shown.account,): state.corrections},
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
    allowed = (clean(text) if shown.personal else "" for text in names)
    samples["utility_account_info"] = {(*key, *allowed): 1}
    return samples
