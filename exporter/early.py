"""Signals of the first moments: a SIGHUP that comes before `serve` can obey it is kept. Imported before all else."""

import signal
import sys

SERVING = ("serve", "start", "demo")
_kept: list[int] = []


def take_kept() -> bool:
    """Return whether a SIGHUP was kept, and forget it."""
    came = bool(_kept)
    _kept.clear()
    return came


if sys.argv[1:2] and sys.argv[1] in SERVING:
    signal.signal(signal.SIGHUP, lambda number, _: _kept.append(number))
