"""Accounts on the status page: health, facts and quotas."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger.account_state import AccountState
from exporter.metrics.page import AccountMetrics
from exporter.web.status.formatting import format_age, format_count, format_day, format_instant, format_length

EXPIRY_WARNING = timedelta(days=30)
PORTAL_NAMES = {"cem": "CEM", "enedis": "Enedis Linky", "fluvius": "Mijn Fluvius", "water-link": "Water-Link"}
"""What people call a portal; one of another package goes by its own name."""
REASON_TEXTS = {
    "unreachable": "The portal cannot be reached",
    "rate_limit": "The portal asks us to slow down",
    "login": "The portal rejected the login",
    "response": "The portal's response cannot be parsed",
    "bug": "A bug in this program",
    "ledger": "The readings cannot be stored",
}


@dataclass(frozen=True, slots=True)
class HealthSummary:
    """An account's health: `level` is `good`, `waiting` or `bad`; the lines explain the headline."""

    level: str
    headline: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountFact:
    """Something about an account; `at` is the instant it is about."""

    label: str
    text: str
    at: datetime | None = None
    age: str = ""
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """Calls used of the calls allowed in a period."""

    name: str
    used: int
    limit: int
    period: str


@dataclass(frozen=True, slots=True)
class HistorySummary:
    """How far back the history of an account goes, and how far the reading of older days is."""

    text: str
    done: int = 0
    total: int = 0
    """Requests for older days, about; 0 when all were made."""
    remaining: str = ""


def summarize_history(account: AccountMetrics, now: datetime) -> HistorySummary | None:
    """Return since when the history is known, and what is missing of it; None before anything is."""
    history, zone = account.health.history, account.view.zone
    totals = account.kept_samples.history
    start, missing = totals.start, totals.missing_days
    if start is None and not history.pending:
        return None
    parts = [] if start is None else [f"since {format_day(datetime.fromtimestamp(start, UTC), zone, now)}"]
    if missing:
        parts.append(f"{format_count(missing)} day{'s' if missing != 1 else ''} missing")
    if not history.pending:
        return HistorySummary(", ".join(parts))
    return HistorySummary(", ".join(parts), history.done, history.done + history.pending, format_length(history.remaining))


def summarize_account(account: AccountMetrics, now: datetime) -> HealthSummary:
    """Return the health of an account."""
    return summarize_health(account.health.state, account.health.interval, now, account.view.zone)


def list_account_facts(account: AccountMetrics, now: datetime) -> list[AccountFact]:
    """Return when an account was and will be visited, what is stored of it, and when access ends."""
    state, zone = account.health.state, account.view.zone
    facts = []
    instants: Mapping[str, datetime | None] = {
        "Last visit": state.last_visit,
        "Next visit": state.next_visit,
        "New data": state.last_new_data,
        "Access ends": state.holder.access_expires,
    }
    for label, at in instants.items():
        if at is not None:
            soon = label == "Access ends" and at - now < EXPIRY_WARNING
            due = label == "Next visit" and at <= now
            facts.append(
                AccountFact(
                    label,
                    "now" if due else format_instant(at, zone, now),
                    at,
                    "" if due else format_age(now - at),
                    is_urgent=soon,
                )
            )
    if state.readings:
        corrected = f", {format_count(state.corrections)} corrected by the portal" if state.corrections else ""
        facts.append(AccountFact("Readings kept", f"{format_count(state.readings)}{corrected}"))
    holder = (state.holder.name, state.holder.company) if account.view.show_personal else ()
    if any(holder):
        facts.append(AccountFact("Held by", ", ".join(text for text in holder if text)))
    return facts


def summarize_health(state: AccountState, interval: timedelta, now: datetime, zone: ZoneInfo) -> HealthSummary:
    """Return an account's health, and what happens next."""
    if state.suspended_until and now < state.suspended_until:
        return _summarize_refusal(state, state.suspended_until, now, zone)
    if state.up is None:
        return HealthSummary("waiting", "Not visited yet", (_describe_next_visit(state, now, zone),))
    if state.up:
        return HealthSummary("good", _describe_working(state, now, zone))
    lines = [f"{_format_sentence(state.message)}"] if state.message else []
    if state.last_success:
        lines.append(f"It last worked {format_instant(state.last_success, zone, now)} ({format_age(now - state.last_success)}).")
    if state.failures > 1:
        lines.append(f"Tried {format_count(state.failures)} times since.")
    return HealthSummary(
        "bad", REASON_TEXTS.get(state.reason, "The last visit failed"), (*lines, _describe_next_visit(state, now, zone))
    )


def _describe_working(state: AccountState, now: datetime, zone: ZoneInfo) -> str:
    """Return one line: Working · visited 10 min ago · next 21:45."""
    parts = ["Working"]
    if state.last_visit:
        parts.append(f"visited {format_age(now - state.last_visit)}")
    if state.next_visit:
        local, today = state.next_visit.astimezone(zone), now.astimezone(zone).date()
        when = f"{local:%H:%M}" if local.date() == today else format_instant(state.next_visit, zone, now)
        parts.append("next now" if state.next_visit <= now else f"next {when}")
    return " · ".join(parts)


def _summarize_refusal(state: AccountState, until: datetime, now: datetime, zone: ZoneInfo) -> HealthSummary:
    since = format_instant(state.last_visit or now, zone, now)
    first = state.failures <= 1
    headline = f"Refused by the portal since {since}" if first else f"Refused by the portal again, {since}"
    lines = [_format_sentence(state.message)] if state.message else []
    lines.append(f"Not asked again until you change the configuration, or {format_instant(until, zone, now)}.")
    if state.last_success:
        lines.append(f"It last worked {format_instant(state.last_success, zone, now)}.")
    return HealthSummary("bad", headline, tuple(lines))


def _describe_next_visit(state: AccountState, now: datetime, zone: ZoneInfo) -> str:
    if state.next_visit is None or state.next_visit <= now:
        return "It is asked now."
    return f"It is asked again {format_instant(state.next_visit, zone, now)} ({format_age(now - state.next_visit)})."


def _format_sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
