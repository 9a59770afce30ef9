"""What a visit to an account needs: its state in the ledger, its session, and the names it is shown by."""

from collections.abc import Callable
from datetime import datetime

from exporter.account_status import AccountView
from exporter.client.session import AccountStore, Session
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.portals.base import Portal
from exporter.recording.recorder import Recorder, RecordingStore


def open_account(ledger: Ledger, portal: Portal) -> AccountState:
    """Open an account in the ledger; raise LedgerError."""
    return ledger.open_account(
        portal.name,
        portal=portal.config.portal,
        zone=portal.zone.key,
        login=portal.config.login_digest(),
        derives_days=portal.derives_days,
    )


def build_account_view(portal: Portal) -> AccountView:
    """Return how an account is shown on the page."""
    shown = portal.config.aliases, portal.config.personal_data, portal.stale_after, portal.config.configured_usage_points()
    return AccountView(portal.name, portal.config.portal, portal.zone, *shown)


def open_session(
    portal: Portal,
    ledger: Ledger,
    now: Callable[[], datetime],
    on_response: Callable[[str], None] = lambda _: None,
    recorder: Recorder | None = None,
) -> Session:
    """Return the session of a visit to an account."""
    store: AccountStore = ledger.get_account_store(portal.name)
    return build_session(portal, RecordingStore(store, recorder) if recorder else store, now, on_response, recorder)


def build_session(
    portal: Portal,
    store: AccountStore,
    now: Callable[[], datetime],
    on_response: Callable[[str], None] = lambda _: None,
    recorder: Recorder | None = None,
) -> Session:
    """Return a session with an account's options and any store."""
    ca_file, verify_tls = portal.config.tls_settings()
    return Session(
        store=store,
        clock=now,
        timeout=portal.config.timeout,
        min_request_gap=portal.config.min_request_gap,
        ca_file=ca_file,
        verify_tls=verify_tls,
        on_response=on_response,
        on_exchange=recorder.observe if recorder else None,
        user_agent=portal.config.build_user_agent(),
        max_response_bytes=portal.max_response_bytes,
    )
