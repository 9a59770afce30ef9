"""How an account is doing: its health, its next visit, and the names it is shown by."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger.account_state import AccountState
from exporter.models import Commodity
from exporter.sync.feeds import Feed

LOGIN_SUSPENSION = timedelta(days=1)
"""Time for which a refused login is not tried again, unless the configuration changes."""
MIN_VISIT_GAP = timedelta(minutes=1)
"""First step of the backoff; also the minimum time between a visit and one requested by a person."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """How an account is shown: its names and its local time."""

    account: str
    portal: str
    zone: ZoneInfo
    aliases: Mapping[str, str] = field(default_factory=dict)
    show_personal: bool = False
    stale_after: Mapping[Commodity, timedelta] = field(default_factory=dict)
    """Age from which the newest reading counts as late, where that is not four days."""
    configured: frozenset[str] = frozenset()
    """The usage points that the configuration names."""


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How far the reading of an account's history is."""

    done: int = 0
    """Requests made for older days since the start of the program."""
    pending: int = 0
    """About how many are still to be made before everything the portal gives was asked for once."""
    remaining: timedelta = timedelta(0)
    """About how long that takes."""
    history_starts: Mapping[Feed, date] = field(default_factory=dict)
    """Where the history of a feed begins, once all before it was asked for and is empty: days before it are not missing."""


@dataclass(slots=True)
class AccountHealth:
    """All that the pages show of how an account is doing: its stored `state`, and counters of this process, which start at 0.

    Changed by the account's poller alone. `AccountState` is the part that the ledger keeps over restarts.
    """

    interval: timedelta
    state: AccountState = field(default_factory=AccountState)
    visits: int = 0
    """A login refused while the backlog is read counts as one that failed."""
    failures: Counter[str] = field(default_factory=Counter)
    responses: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    """Values of responses that could not be understood and were left out."""
    history: HistoryStatus = field(default_factory=HistoryStatus)
    shape_changes: int = 0
    """Fields of responses that appeared, disappeared or changed their type."""
    shape_notes: tuple[str, ...] = ()
    """The recent ones, for the status page."""

    def is_suspended(self, now: datetime) -> bool:
        """Return whether visits are suspended because the portal refused the login."""
        return self.state.suspended_until is not None and now < self.state.suspended_until


def earliest_visit_time(state: AccountState) -> datetime | None:
    """Return when the next visit may be: as planned, but never before the end of a suspension."""
    return max((at for at in (state.next_visit, state.suspended_until) if at), default=None)


def cap_suspension(state: AccountState, now: datetime) -> AccountState:
    """Return the state with a suspension of at most `LOGIN_SUSPENSION`: only a wrong clock makes a longer one."""
    if state.suspended_until is None or state.suspended_until <= now + LOGIN_SUSPENSION:
        return state
    return replace(state, suspended_until=now + LOGIN_SUSPENSION)


def shift_to_clock(state: AccountState, now: datetime) -> AccountState:
    """Return the state after the clock was set back: planned waits keep their length, counted from now."""
    if state.last_visit is None or state.last_visit - now < MIN_VISIT_GAP:
        return state
    shift = state.last_visit - now
    return replace(
        state,
        last_visit=now,
        next_visit=state.next_visit and state.next_visit - shift,
        suspended_until=state.suspended_until and state.suspended_until - shift,
    )
