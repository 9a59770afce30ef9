"""How many calls a way in may make in how long: what Enedis and the gateways stand, with room to spare."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from exporter.errors import RateLimitError
from exporter.session import Session


@dataclass(frozen=True, slots=True)
class Budget:
    """So many calls in so long; the last `spare` of them are kept for visits, the past does not touch them.

    `trickle` is how many calls a visit spends on the past.
    """

    calls: int
    per: timedelta
    spare: int
    trickle: int
    name: str = "calls"

    async def left(self, session: Session, *, past: bool = False) -> int:
        """How many calls may still be made now."""
        return max(self.calls - (self.spare if past else 0) - await self._spent(session, session.now), 0)

    async def spend(self, session: Session, *, past: bool = False) -> None:
        """Count a call about to be made; raises RateLimitError with the wait when none is left."""
        if not await self.left(session, past=past):
            allowed = self.calls - (self.spare if past else 0)
            message = f"our own budget of {self.calls} calls in {self.per / timedelta(hours=1):g} h is spent"
            raise RateLimitError(message, await self._wait(session, allowed))
        await session.memory.spend(self.name, session.now)

    async def _spent(self, session: Session, at: datetime) -> int:
        # Calls of exactly `per` ago no longer count.
        return await session.memory.spent(self.name, at - self.per + timedelta(milliseconds=1))

    async def _wait(self, session: Session, allowed: int) -> timedelta:
        """Find to the minute when the first call leaves the window; nothing but the sum of an interval can be asked for."""
        none, free = 0, int(self.per / timedelta(minutes=1)) + 1
        while free - none > 1:
            middle = (none + free) // 2
            if await self._spent(session, session.now + timedelta(minutes=middle)) < allowed:
                free = middle
            else:
                none = middle
        return timedelta(minutes=free)
