"""The quota of calls that an account keeps to: what its portal allows, with a margin."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from exporter.client.session import Session
from exporter.errors import RateLimitError


@dataclass(frozen=True, slots=True)
class CallQuota:
    """So many calls in a period, kept over restarts; the last `reserved_for_visits` of them are not used for settled days.

    A step of the backlog spends up to `calls_per_step` calls.
    """

    calls: int
    period: timedelta
    reserved_for_visits: int = 0
    calls_per_step: int = 0
    name: str = "calls"

    async def remaining(self, session: Session, *, for_settled_days: bool = False) -> int:
        """Return how many calls may be made now."""
        return max(
            self.calls - (self.reserved_for_visits if for_settled_days else 0) - await self._count_calls(session, session.now), 0
        )

    async def spend(self, session: Session, *, for_settled_days: bool = False) -> None:
        """Count a call about to be made. Raise RateLimitError with the wait when none is left."""
        if not await self.remaining(session, for_settled_days=for_settled_days):
            allowed = self.calls - (self.reserved_for_visits if for_settled_days else 0)
            message = f"the exporter's own quota of {self.calls} calls in {self.period / timedelta(hours=1):g} h is used up"
            raise RateLimitError(message, await self._find_wait(session, allowed))
        await session.store.record_calls(self.name, session.now)

    async def _count_calls(self, session: Session, at: datetime) -> int:
        # Calls of exactly one period ago no longer count.
        return await session.store.count_calls(self.name, at - self.period + timedelta(milliseconds=1))

    async def _find_wait(self, session: Session, allowed: int) -> timedelta:
        """Return the minutes until the oldest call leaves the period, by bisection: the store only counts calls."""
        none, free = 0, int(self.period / timedelta(minutes=1)) + 1
        while free - none > 1:
            middle = (none + free) // 2
            if await self._count_calls(session, session.now + timedelta(minutes=middle)) < allowed:
                free = middle
            else:
                none = middle
        return timedelta(minutes=free)
