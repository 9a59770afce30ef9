"""How the delivery to a receiver of remote write is doing, as metrics."""

from dataclasses import dataclass
from datetime import datetime

from exporter.ledger.database import from_ms

Samples = dict[str, dict[tuple[str, ...], float]]
"""Family -> label values -> value."""


@dataclass(slots=True)
class DeliveryStats:
    """The state of a delivery, updated by its sender; counters start at 0 with the process."""

    target: str
    up: bool | None = None
    """Whether the last request succeeded; None before the first."""
    pending: int = 0
    sent: int = 0
    refused: int = 0
    corrections: int = 0
    last_success_ms: int | None = None
    pending_since_ms: int | None = None
    """Since when samples have been pending; both in milliseconds."""

    def to_samples(self, now: datetime) -> Samples:
        """Return the metrics of the delivery."""
        values: dict[str, float | None] = {
            "utility_exporter_remote_write_up": self.up,
            "utility_exporter_remote_write_pending_samples": max(self.pending, 0),
            "utility_exporter_remote_write_sent_samples_total": self.sent,
            "utility_exporter_remote_write_refused_samples_total": self.refused,
            "utility_exporter_remote_write_corrections_total": self.corrections,
            "utility_exporter_remote_write_lag_seconds": max((now - from_ms(self.pending_since_ms)).total_seconds(), 0)
            if self.pending_since_ms is not None
            else 0,
            "utility_exporter_remote_write_last_success_timestamp_seconds": None
            if self.last_success_ms is None
            else self.last_success_ms / 1000,
        }
        return {name: {(self.target,): float(value)} for name, value in values.items() if value is not None}
