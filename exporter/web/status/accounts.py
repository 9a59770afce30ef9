"""Accounts on the status page: health, facts and quotas."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from exporter.ledger.account_state import AccountState
from exporter.metrics.cache import AccountMetrics
from exporter.web.status.formatting import (
    NO_BREAK_SPACE,
    PageClock,
    format_age,
    format_count,
    format_day,
    format_days,
    format_length,
)

EXPIRY_WARNING = timedelta(days=30)
PORTAL_NAMES = {"cem": "CEM", "enedis": "Enedis Linky", "fluvius": "Mijn Fluvius", "water-link": "Water-Link"}
"""What people call a portal; one of another package goes by its own name."""
WAITS = ("Waiting for the first visit.", "Waiting for the first readings.", "Older days are being read.")
"""What an account may wait for; the first counts most."""
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
    waits_for: str = ""
    """What the account waits for, one of `WAITS`."""


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
    history, zone, totals = account.health.history, account.view.zone, account.kept_samples.history
    if totals.start is None and not history.pending:
        return None
    parts = []
    if totals.start is not None:
        start = datetime.fromtimestamp(totals.start, zone).date()
        parts.append(f"since {format_day(start, now.astimezone(zone).date())}")
    if totals.missing_days:
        parts.append(f"{format_days(totals.missing_days)} missing")
    if not history.pending:
        return HistorySummary(", ".join(parts))
    return HistorySummary(", ".join(parts), history.done, history.done + history.pending, format_length(history.remaining))


def summarize_account(account: AccountMetrics, clock: PageClock) -> HealthSummary:
    """Return the health of an account; it waits as long as it has nothing to show, or older days are being read."""
    health, samples = account.health, account.kept_samples
    summary = summarize_health(health.state, clock)
    waits = {
        "no meter yet": not samples.block_positions,
        f"{format_count(samples.never_read_count)} never read": samples.never_read_count > 0,
        "reading older days": health.history.pending > 0,
    }
    if summary.level != "good" or not any(waits.values()):
        return summary
    headline = " · ".join([summary.headline, *(text for text, applies in waits.items() if applies)])
    is_incomplete = not samples.block_positions or samples.never_read_count > 0
    return HealthSummary("waiting", headline, waits_for=WAITS[1] if is_incomplete else WAITS[2])


def list_account_facts(account: AccountMetrics, clock: PageClock) -> list[AccountFact]:
    """Return when an account was and will be visited, what is stored of it, and when access ends."""
    state, now = account.health.state, clock.now
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
                    "now" if due else clock.format(at),
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


def summarize_health(state: AccountState, clock: PageClock) -> HealthSummary:
    """Return an account's health, and what happens next."""
    if state.suspended_until and clock.now < state.suspended_until:
        return _summarize_refusal(state, state.suspended_until, clock)
    if state.up is None:
        return HealthSummary("waiting", "Not visited yet", (_describe_next_visit(state, clock),), WAITS[0])
    if state.up:
        return HealthSummary("good", _describe_working(state, clock))
    lines = [f"{_format_sentence(state.message)}"] if state.message else []
    if state.last_success:
        lines.append(f"It last worked {clock.format(state.last_success)} ({format_age(clock.now - state.last_success)}).")
    if state.failures > 1:
        lines.append(f"Tried {format_count(state.failures)} times since.")
    return HealthSummary(
        "bad", REASON_TEXTS.get(state.reason, "The last visit failed"), (*lines, _describe_next_visit(state, clock))
    )


def _describe_working(state: AccountState, clock: PageClock) -> str:
    """Return one line: Working · visited 10 min ago · next 21:45."""
    parts = ["Working"]
    if state.last_visit:
        parts.append(f"visited {format_age(clock.now - state.last_visit)}")
    if state.next_visit:
        local, today = state.next_visit.astimezone(clock.zone), clock.now.astimezone(clock.zone).date()
        when = f"{local:%H:%M}" if local.date() == today else clock.format(state.next_visit)
        parts.append("next now" if state.next_visit <= clock.now else f"next{NO_BREAK_SPACE}{when}")
    return " · ".join(parts)


def _summarize_refusal(state: AccountState, until: datetime, clock: PageClock) -> HealthSummary:
    since = clock.format(state.last_visit or clock.now)
    first = state.failures <= 1
    headline = f"Refused by the portal since {since}" if first else f"Refused by the portal again, {since}"
    lines = [_format_sentence(state.message)] if state.message else []
    lines.append(f"Not asked again until you change the configuration, or {clock.format(until)}.")
    if state.last_success:
        lines.append(f"It last worked {clock.format(state.last_success)}.")
    return HealthSummary("bad", headline, tuple(lines))


def _describe_next_visit(state: AccountState, clock: PageClock) -> str:
    if state.next_visit is None or state.next_visit <= clock.now:
        return "It is asked now."
    return f"It is asked again {clock.format(state.next_visit)} ({format_age(clock.now - state.next_visit)})."


def _format_sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
