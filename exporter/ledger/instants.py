"""Instants as the file keeps them: milliseconds since 1970 UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def to_ms(at: datetime) -> int:
    """Give an aware instant in milliseconds."""
    return (at - EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """Give the instant, aware, in UTC."""
    return EPOCH + ms * _MS


def maybe_ms(at: datetime | None) -> int | None:
    """Convert an instant that may be missing."""
    return None if at is None else to_ms(at)


def maybe_at(ms: int | None) -> datetime | None:
    """Convert an instant that may be missing."""
    return None if ms is None else from_ms(ms)
