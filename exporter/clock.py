"""The clock as an argument, so that tests have one of their own."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The present instant, and waiting."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""

    async def sleep(self, length: timedelta) -> None:
        """Wait."""


class WallClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, length: timedelta) -> None:
        """Wait."""
        await asyncio.sleep(length.total_seconds())
