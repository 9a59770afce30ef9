"""For a receiver that has lost what it was sent: have it sent again."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone

from exporter.errors import ConfigError
from exporter.history.receivers import Receiver
from exporter.ledger import Ledger, to_ms

EASTERNMOST = timezone(timedelta(hours=14))
"""Where a day begins first: from there on it is certainly whole."""


def resend(ledger: Ledger, receivers: Sequence[Receiver], target: str | None, first: date | None) -> list[str]:
    """Ask for everything from a day on to be sent again to one receiver, or to all; gives a line on each.

    A running `serve` sees it within a minute; raises ConfigError for a target that is not configured, and LedgerError.
    """
    names = [receiver.target for receiver in receivers]
    if target is not None and target not in names:
        raise ConfigError(f"history.remote_write has no target {target!r}; it has {', '.join(names) or 'none'}")
    since = to_ms(datetime(first.year, first.month, first.day, tzinfo=EASTERNMOST)) if first else 0
    span = f"from {first} on" if first else "from the beginning"
    said = []
    for receiver in receivers:
        if target in (None, receiver.target):
            known = ledger.deliveries().ask_again(receiver.key, since)
            said.append(f"{receiver.target}: " + (f"sent again {span}" if known else "new, so it is sent everything anyway"))
    return said
