"""Daily maintenance in the background: thins old readings and vacuums the ledger's file, in small steps."""

import asyncio
import logging
from datetime import timedelta

from exporter.clock import Clock
from exporter.errors import LedgerError
from exporter.ledger.ledger import Ledger

MAINTENANCE_INTERVAL = timedelta(hours=23)
"""With the startup delay before each run, about once a day."""
TRANSACTION_PAUSE = timedelta(milliseconds=50)
"""The pause between two transactions, in which visits can write."""
STARTUP_DELAY = timedelta(hours=1)
"""How long the clock must have been steady before anything is deleted."""
CLOCK_CHECK_INTERVAL = timedelta(minutes=5)
"""How often the clock is checked meanwhile."""
MAX_CLOCK_DRIFT = timedelta(minutes=1)
"""A clock that differs by more than this after an interval was set, or the machine was suspended."""
log = logging.getLogger(__name__)


class MaintenanceTask:
    """The background task that runs the maintenance."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock
        self._index_days: int | None = None
        self._task: asyncio.Task[None] | None = None

    def configure(self, index_days: int) -> None:
        """Set for how many days index readings are kept unthinned (0: for ever), and restart if that has changed."""
        if index_days == self._index_days:
            return
        if self._task:
            self._task.cancel()
        self._index_days, self._task = index_days, asyncio.create_task(self._run(index_days), name="maintenance")

    async def stop(self) -> None:
        """Stop the task."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, index_days: int) -> None:
        while True:
            await wait_for_steady_clock(self._clock)
            try:
                await run_maintenance(self._ledger, self._clock, index_days)
            except LedgerError as error:
                log.warning("ledger maintenance failed: %s", error)
            await self._clock.sleep(MAINTENANCE_INTERVAL)


async def wait_for_steady_clock(clock: Clock) -> None:
    """Wait until the clock has been steady for an hour."""
    steady = timedelta(0)
    while steady < STARTUP_DELAY:
        before = clock.now()
        await clock.sleep(CLOCK_CHECK_INTERVAL)
        drift = abs(clock.now() - before - CLOCK_CHECK_INTERVAL)
        steady = steady + CLOCK_CHECK_INTERVAL if drift < MAX_CLOCK_DRIFT else timedelta(0)


async def run_maintenance(ledger: Ledger, clock: Clock, index_days: int) -> None:
    """Delete old calls, thin old readings, then vacuum the file. Raise LedgerError."""
    now = clock.now()
    await asyncio.to_thread(ledger.delete_old_calls, now)
    reference_times = await asyncio.to_thread(ledger.select_reference_times, now) if index_days else {}
    after: int | None = 0 if reference_times else None
    while after is not None:
        after = await asyncio.to_thread(ledger.thin_readings, reference_times, index_days, after)
        await clock.sleep(TRANSACTION_PAUSE)
    while await asyncio.to_thread(ledger.vacuum):
        await clock.sleep(TRANSACTION_PAUSE)
