"""All accounts that are visited, each by a task of its own."""

import asyncio
import logging
from datetime import timedelta

from exporter.clock import Clock
from exporter.errors import LedgerError
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.portals.base import Portal
from exporter.recording.recording import FailureRecordings
from exporter.visit import DEFAULT_BACKLOG, BacklogSettings

WATCH_INTERVAL = timedelta(seconds=30)
log = logging.getLogger(__name__)


class PollerGroup:
    """The pollers of all accounts, each in its own task."""

    def __init__(self, ledger: Ledger, page: MetricsPage, clock: Clock, recordings: FailureRecordings | None = None) -> None:
        self._ledger, self._page, self._clock, self._recordings = ledger, page, clock, recordings
        self._running: dict[str, tuple[AccountPoller, asyncio.Task[None]]] = {}
        self._reconcile_lock = asyncio.Lock()
        """A reload may come while the accounts of the start are still being opened."""

    def get(self, account: str) -> AccountPoller | None:
        """Return an account's poller, or None."""
        entry = self._running.get(account)
        return entry[0] if entry else None

    async def reconcile(self, portals: tuple[Portal, ...], backlog: BacklogSettings = DEFAULT_BACKLOG) -> None:
        """Run these accounts: unchanged ones continue, new ones start, removed ones stop, changed ones restart.

        Raise LedgerError; an account that could not restart then continues as it was.
        """
        async with self._reconcile_lock:
            configs = {portal.name: portal.config for portal in portals}
            changed = [
                name
                for name, (poller, _) in self._running.items()
                if (poller.portal.config, poller.backlog) != (configs.get(name), backlog)
            ]
            stopped = [await self._stop_poller(name) for name in changed]
            shown = dict(self._page.accounts)
            try:
                for portal in portals:
                    if portal.name not in self._running:
                        poller = AccountPoller(
                            portal, self._ledger, self._page, self._clock, backlog=backlog, recordings=self._recordings
                        )
                        await poller.open()
                        self._start_poller(poller)
            except LedgerError:
                for poller in stopped:
                    if poller.portal.name not in self._running:
                        self._page.restore_account(shown[poller.portal.name])
                        self._start_poller(poller)
                raise
            for name in self._page.accounts.keys() - configs.keys():
                self._page.remove_account(name)

    async def watch_ledger(self) -> None:
        """Show what other processes store, such as an import, within a minute, until cancelled."""
        while True:
            await self._clock.sleep(WATCH_INTERVAL)
            try:
                counts = await asyncio.to_thread(self._ledger.select_reading_counts)
                for name, (poller, _) in list(self._running.items()):
                    if name in counts:
                        await poller.adopt_changes(counts[name])
            except LedgerError as error:
                log.debug("failed to look for changes of other processes: %s", error)
            except Exception:  # as in a visit: what cannot be shown must not end the watch
                log.exception("failed to show changes of other processes")

    async def stop(self) -> None:
        """Stop all pollers and the visits under way."""
        await asyncio.gather(*(self._stop_poller(name) for name in list(self._running)))

    def _start_poller(self, poller: AccountPoller) -> None:
        name = poller.portal.name
        self._running[name] = poller, asyncio.create_task(poller.run(), name=f"account {name}")

    async def _stop_poller(self, name: str) -> AccountPoller:
        poller, task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return poller
