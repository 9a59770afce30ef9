"""How delivery to a receiver fares: the numbers of its part of the page."""

from dataclasses import dataclass
from datetime import datetime

from exporter.ledger import from_ms

Samples = dict[str, dict[tuple[str, ...], float]]
"""Family -> label values -> value."""
_PREFIX = "utility_exporter_remote_write"


@dataclass(slots=True)
class Delivery:
    """What a sender keeps up to date; counters start at 0 with the process."""

    target: str
    up: bool | None = None
    """Whether the last request was answered as it should; None before the first."""
    pending: int = 0
    sent: int = 0
    refused: int = 0
    corrections: int = 0
    success: int | None = None
    begun: int | None = None
    """Since when something has been waiting; both in milliseconds."""

    def samples(self, now: datetime) -> Samples:
        """Say them in samples."""
        values: dict[str, float | None] = {
            "up": self.up,
            "pending_samples": max(self.pending, 0),
            "sent_samples_total": self.sent,
            "refused_samples_total": self.refused,
            "corrections_total": self.corrections,
            "lag_seconds": max((now - from_ms(self.begun)).total_seconds(), 0) if self.begun is not None else 0,
            "last_success_timestamp_seconds": None if self.success is None else self.success / 1000,
        }
        return {f"{_PREFIX}_{name}": {(self.target,): float(value)} for name, value in values.items() if value is not None}
