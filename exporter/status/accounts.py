"""Accounts as blocks of the status page: what each is, how it fares, and what it may still ask."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from exporter.metrics import AccountPage
from exporter.status.words import Said, age, count, health, instant

EXPIRES_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about an account; `at` is the instant it is about."""

    label: str
    text: str
    at: datetime | None = None
    age: str = ""
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """Calls spent of calls allowed in a span."""

    name: str
    spent: int
    most: int
    span: str


def fare(part: AccountPage, now: datetime) -> Said:
    """Say how an account fares."""
    return health(part.health.state, part.health.interval, now, part.shown.zone)


def facts(part: AccountPage, now: datetime) -> list[Fact]:
    """Say when an account was and will be visited, what is kept of it, and when access ends."""
    state, zone = part.health.state, part.shown.zone
    found = []
    instants: Mapping[str, datetime | None] = {
        "Last visit": state.last_visit,
        "Next visit": state.next_visit,
        "New data": state.last_new_data,
        "Access ends": state.holder.access_expires,
    }
    for label, at in instants.items():
        if at is not None:
            soon = label == "Access ends" and at - now < EXPIRES_SOON
            due = label == "Next visit" and at <= now
            found.append(Fact(label, "now" if due else instant(at, zone, now), at, "" if due else age(now - at), urgent=soon))
    if state.readings:
        corrected = f", {count(state.corrections)} corrected by the portal" if state.corrections else ""
        found.append(Fact("Readings kept", f"{count(state.readings)}{corrected}"))
    holder = (state.holder.name, state.holder.company) if part.shown.personal else ()
    if any(holder):
        found.append(Fact("Held by", ", ".join(text for text in holder if text)))
    return found
