"""Reading the configuration again while serving; a faulty file changes nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from exporter.clock import WallClock
from exporter.config.settings import Config
from exporter.errors import ConfigError, LedgerError
from exporter.files import stamp_files
from exporter.metrics.cache import MetricsPage
from exporter.poller_group import PollerGroup
from exporter.web.access_control import AccessControl

FILE_CHECK_SECONDS = 5.0
"""How often the files are checked for changes."""
log = logging.getLogger(__name__)


class Reloader:
    """Reads the configuration again and applies it, or keeps the previous one and logs why."""

    def __init__(
        self,
        config: Config,
        read_config: Callable[[], Config],
        page: MetricsPage,
        pollers: PollerGroup,
        clock: WallClock,
        apply_config: Callable[[Config], Awaitable[None]],
        access_control: AccessControl | None = None,
    ) -> None:
        self._read_config, self._page, self._pollers, self._clock = read_config, page, pollers, clock
        self._apply_config, self._access_control = apply_config, access_control
        self._stamps = dict(config.stamps)
        """The files that were read last, or should have been, each as it was before."""
        self._lock, self._started = asyncio.Lock(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def watch_files(self) -> None:
        """Reload whenever a file has changed, until cancelled.

        These are the configuration and its secrets; after a reload that failed, also all that the faulty configuration names,
        such as a secret that is not there yet.
        """
        while True:
            await asyncio.sleep(FILE_CHECK_SECONDS)
            if await asyncio.to_thread(stamp_files, self._stamps) != self._stamps:
                await asyncio.wait([self._start()])

    def begin(self) -> None:
        """Begin to reload: the accounts of the start are open, so that they undo no reload requested before."""
        self._started.set()

    async def reload(self) -> None:
        """Reload once, to the end even if the client disconnects; raise ConfigError."""
        await asyncio.shield(self._start())

    def schedule(self) -> None:
        """Reload in the background, on a signal."""
        self._start()

    async def stop(self) -> None:
        """Cancel the reloads under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._reload_once(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._log_bug)
        return task

    def _log_bug(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # A ConfigError is logged already, and the client may have disconnected.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConfigError):
            log.error("unexpected error during reload", exc_info=error)

    async def _reload_once(self) -> None:
        await self._started.wait()
        async with self._lock:
            self._stamps = await asyncio.to_thread(stamp_files, self._stamps)
            try:
                config = await asyncio.to_thread(self._read_config)
                self._stamps = {**self._stamps, **config.stamps}  # a new one: the old one may be read in a thread
                web_rules = await self._access_control.load() if self._access_control else None
                log_warnings(config)
                await self._pollers.reconcile(config.accounts, config.backlog)
                if self._access_control and web_rules:
                    self._access_control.apply(web_rules)
                await self._apply_config(config)
            except (ConfigError, LedgerError) as error:
                if isinstance(error, ConfigError):
                    self._stamps = {**self._stamps, **error.stamps}
                self._page.reload_status.record_failure()
                log.error("reload failed, keeping the previous configuration: %s", error)  # noqa: TRY400  # the message says it all
                raise ConfigError(str(error)) from None
            self._stamps = dict(config.stamps)
            self._page.reload_status.record_success(self._clock.now())
            log.info("configuration reloaded: %d account(s)", len(config.accounts))


def log_warnings(config: Config) -> None:
    """Log the warnings of the configuration."""
    for warning in config.warnings:
        log.warning("%s", warning)
