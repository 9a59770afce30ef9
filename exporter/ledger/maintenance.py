"""Once a day, in the background: old readings are thinned and the ledger's file is made shorter, a little at a time."""

import asyncio
import logging
from datetime import timedelta

from exporter.clock import Clock
from exporter.errors import LedgerError
from exporter.ledger.ledger import Ledger

MAINTENANCE_INTERVAL = timedelta(hours=23)
"""With the hour before each time, about once a day."""
TRANSACTION_PAUSE = timedelta(milliseconds=50)
"""Between two transactions: whoever waits to write has its turn."""
STARTUP_DELAY = timedelta(hours=1)
"""Nothing that cannot be undone happens before the clock has gone evenly for so long."""
LOOK = timedelta(minutes=5)
"""The clock is looked at this often meanwhile."""
JUMP = timedelta(minutes=1)
"""A clock that has moved so much more or less than was waited has been set, or the machine slept."""
log = logging.getLogger(__name__)


class MaintenanceTask:
    """The task that tidies the ledger."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock
        self._index_days: int | None = None
        self._task: asyncio.Task[None] | None = None

    def configure(self, index_days: int) -> None:
        """Keep counters' readings as read for so many days, 0 for ever; begins anew when that has changed."""
        if index_days == self._index_days:
            return
        if self._task:
            self._task.cancel()
        self._index_days, self._task = index_days, asyncio.create_task(self._run(index_days), name="housekeeping")

    async def stop(self) -> None:
        """Leave off."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, index_days: int) -> None:
        while True:
            await settled(self._clock)
            try:
                await run_maintenance(self._ledger, self._clock, index_days)
            except LedgerError as error:
                log.warning("the ledger could not be tidied: %s", error)
            await self._clock.sleep(MAINTENANCE_INTERVAL)


async def settled(clock: Clock) -> None:
    """Wait until the clock has gone evenly for an hour."""
    calm = timedelta(0)
    while calm < STARTUP_DELAY:
        before = clock.now()
        await clock.sleep(LOOK)
        calm = calm + LOOK if abs(clock.now() - before - LOOK) < JUMP else timedelta(0)


async def run_maintenance(ledger: Ledger, clock: Clock, index_days: int) -> None:
    """Forget calls that no budget counts, thin what is old, then give free room back; raises LedgerError."""
    now = clock.now()
    await asyncio.to_thread(ledger.clear_spending, now)
    present = await asyncio.to_thread(ledger.present, now) if index_days else {}
    after: int | None = 0 if present else None
    while after is not None:
        after = await asyncio.to_thread(ledger.thin_readings, present, index_days, after)
        await clock.sleep(TRANSACTION_PAUSE)
    while await asyncio.to_thread(ledger.vacuum):
        await clock.sleep(TRANSACTION_PAUSE)
