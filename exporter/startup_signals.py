"""Keep a SIGHUP that arrives while the program still loads, until `serve` can reload; imported before all else."""

import signal
import sys

SERVING_COMMANDS = ("serve", "start", "demo")
_received: list[int] = []


def consume_pending_reload() -> bool:
    """Return whether a SIGHUP has arrived, and forget it."""
    pending = bool(_received)
    _received.clear()
    return pending


if sys.argv[1:2] and sys.argv[1] in SERVING_COMMANDS:
    signal.signal(signal.SIGHUP, lambda number, _: _received.append(number))
