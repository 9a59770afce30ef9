"""A bucket of requests that fills again with time."""

from datetime import timedelta


class Bucket:
    """Holds up to `burst` requests, full at the start, and gets one back every `interval`."""

    def __init__(self, interval: timedelta, burst: int) -> None:
        self.interval, self._burst = interval.total_seconds(), burst
        self._held, self._at = float(burst), 0.0

    def take(self, now: float) -> bool:
        """Take a request out at `now` (seconds of a clock that never goes back); False when there is none."""
        self._held = min(self._held + max(now - self._at, 0.0) / self.interval, self._burst)
        self._at = now
        if self._held < 1:
            return False
        self._held -= 1
        return True
