"""The exporter itself: configuration, ledger, accounts and web face put together, from start to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from exporter import early, runtime
from exporter.clock import WallClock
from exporter.config.colour import Colour
from exporter.config.loader import Config, load_config, load_yaml_model
from exporter.errors import ConfigError, LedgerError
from exporter.history.read_worker import RemoteReader
from exporter.history.remote_write import RemoteWriteManager
from exporter.history.series import Aliases
from exporter.ledger.ledger import Ledger
from exporter.ledger.maintenance import MaintenanceTask
from exporter.metrics.cache import AGE_STEP
from exporter.metrics.page import MetricsPage
from exporter.poller import PollerGroup
from exporter.sharding import ALL_ACCOUNTS, Shard
from exporter.web.access_control import AccessControl, load_access_control
from exporter.web.app import READY, Application, WebContext, add_remote_read, make_app
from exporter.web.listen import ListenAddress, listen, open_inherited_sockets
from exporter.web.status.page import StatusPage
from exporter.web.web_config import WebConfig

DEFAULT_PORT = 10230
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says of `serve`."""

    config_file: Path = Path("config.yaml")
    storage_path: Path = Path("data")
    addresses: tuple[ListenAddress, ...] = (ListenAddress("", DEFAULT_PORT),)
    telemetry_path: str = "/metrics"
    enable_lifecycle: bool = False
    web_config_file: Path | None = None
    systemd_socket: bool = False
    """Listen on the sockets that systemd has opened, and on no address."""
    shard: Shard = ALL_ACCOUNTS
    """Which of the accounts are this process's."""

    def load_config(self) -> Config:
        """Read the configuration, without the accounts of other shards; raises ConfigError."""
        config = load_config(self.config_file)
        return config.model_copy(update={"accounts": tuple(one for one in config.accounts if self.shard.contains(one.name))})


class Exporter:
    """One running exporter."""

    def __init__(self, options: ServeOptions, clock: WallClock | None = None) -> None:
        self._options, self._clock = options, clock or WallClock()
        self._stop = asyncio.Event()
        self.page: MetricsPage | None = None

    async def run(self, on_ready: Callable[[list[ListenAddress]], None] = lambda _: None) -> None:
        """Serve until told to stop; `started` is told where, once the page is full.

        Raises ConfigError, LedgerError, and OSError for an address that cannot be listened on.
        """
        config = await asyncio.to_thread(self._options.load_config)
        log_warnings(config)
        async with AsyncExitStack() as stack:
            door = await self._open_access_control(stack)
            ledger = await asyncio.to_thread(Ledger, self._options.storage_path, serving=True)
            stack.callback(ledger.close)
            if ledger.database.cramped:
                log.error("%s: %s; what is kept is shown, nothing new is learned", ledger.database.path, ledger.database.cramped)
            ledger.lock_folder()
            program = version("utility-exporter")
            page = self.page = MetricsPage(ledger, self._clock.now, program)
            page.last_reload = self._clock.now()
            pollers, path = PollerGroup(ledger, page, self._clock), self._options.telemetry_path
            stack.push_async_callback(pollers.stop)
            status = StatusPage(
                page, pollers, self._clock.now, count_calls=build_quota_reader(ledger), version=program, metrics_path=path
            )
            history = RemoteReader(ledger, self._clock.now)
            stack.callback(history.close)
            senders = RemoteWriteManager(ledger, self._clock, f"utility-exporter/{program}")
            stack.push_async_callback(senders.stop)
            page.collect_extra = senders.collect_samples

            house = MaintenanceTask(ledger, self._clock)
            stack.push_async_callback(house.stop)

            async def take(config: Config) -> None:
                house.configure(config.ledger.index_days)
                status.set_meter_colour(Colour.parse(config.web.colour))
                history.configure(config.history, collect_aliases(config))
                await senders.configure(config.history.remote_write, collect_aliases(config))

            await take(config)
            reload = Reloader(self._options.load_config, page, pollers, self._clock, take, door)
            stack.push_async_callback(reload.stop)
            self._install_signal_handlers(reload, stack)
            again = reload.reload if self._options.enable_lifecycle else None
            face = WebContext(page, pollers, again, path, door, status)
            app = make_app(face)
            add_remote_read(app, history)
            taken = await self._listen(app, door, stack)
            await pollers.reconcile(config.accounts)
            ahead = asyncio.create_task(render_ages_ahead(page, self._clock), name="ages")
            stack.callback(ahead.cancel)
            app[READY].append(True)
            reload.begin()
            log.info("serving %d account(s) at %s", len(config.accounts), ", ".join(map(str, taken)))
            await asyncio.to_thread(runtime.trim_memory)
            on_ready(taken)
            await self._stop.wait()
            log.info("stopping")

    def stop(self) -> None:
        """End visits under way, and leave."""
        self._stop.set()

    async def _open_access_control(self, stack: AsyncExitStack) -> AccessControl | None:
        if (file := self._options.web_config_file) is None:
            return None
        door = await asyncio.to_thread(load_access_control, file, read_web_config)
        stack.callback(door.close)
        following = asyncio.create_task(door.watch_files(), name="web configuration")
        stack.callback(following.cancel)
        return door

    async def _listen(self, app: Application, access_control: AccessControl | None, stack: AsyncExitStack) -> list[ListenAddress]:
        tls = access_control.tls_context if access_control else None
        if self._options.systemd_socket:
            return await listen(app, [], stack, tls=tls, sockets=open_inherited_sockets(os.environ))
        return await listen(app, list(self._options.addresses), stack, tls=tls)

    def _install_signal_handlers(self, reloader: "Reloader", stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number, act in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, reloader.schedule)):
            loop.add_signal_handler(number, act)
            stack.callback(loop.remove_signal_handler, number)
        if early.take_kept():
            reloader.schedule()


async def render_ages_ahead(page: MetricsPage, clock: WallClock) -> None:
    """Have the ages of many usage points written before they are asked for."""
    while True:
        await clock.sleep(timedelta(seconds=AGE_STEP) / 2)
        await asyncio.to_thread(page.render_ages_ahead)


class Reloader:
    """Reading the configuration again while serving; a broken file changes nothing, and says so."""

    def __init__(
        self,
        read_config: Callable[[], Config],
        page: MetricsPage,
        pollers: PollerGroup,
        clock: WallClock,
        apply_config: Callable[[Config], Awaitable[None]],
        access_control: AccessControl | None = None,
    ) -> None:
        self._read_config, self._page, self._pollers, self._clock = read_config, page, pollers, clock
        self._apply_config, self._access_control = apply_config, access_control
        self._lock, self._started = asyncio.Lock(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Obey from now on: the accounts of the start are there, and what was asked before is not undone by them."""
        self._started.set()

    async def reload(self) -> None:
        """Reload once, to the end even when whoever asked hangs up; raises ConfigError."""
        await asyncio.shield(self._start())

    def schedule(self) -> None:
        """Reload in the background, on a signal."""
        self._start()

    async def stop(self) -> None:
        """Leave off."""
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
        # A ConfigError was said already; nobody may be there any more to take it.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConfigError):
            log.error("a bug in a reload", exc_info=error)

    async def _reload_once(self) -> None:
        await self._started.wait()
        async with self._lock:
            try:
                config = await asyncio.to_thread(self._read_config)
                rules = await self._access_control.load() if self._access_control else None
                log_warnings(config)
                await self._pollers.reconcile(config.accounts)
                if self._access_control and rules:
                    self._access_control.apply(rules)
                await self._apply_config(config)
            except (ConfigError, LedgerError) as error:
                self._page.last_reload_successful = False
                log.error("the configuration before stays in force: %s", error)  # noqa: TRY400  # the message says it all
                raise ConfigError(str(error)) from None
            self._page.last_reload_successful = True
            self._page.last_reload = self._clock.now()
            log.info("configuration reloaded: %d account(s)", len(config.accounts))


def read_web_config(file: Path) -> WebConfig:
    """Read a web configuration file; raises ConfigError."""
    return load_yaml_model(file, WebConfig)


def build_quota_reader(ledger: Ledger) -> Callable[[str, str, datetime], int]:
    """Give what looks up how many calls of an account's budget are spent since an instant; it blocks."""
    return lambda account, budget, since: ledger.get_account_store(account).count_calls_blocking(budget, since)


def collect_aliases(config: Config) -> Aliases:
    """Take the names that each account's usage points are shown by."""
    return {portal.name: portal.aliases for portal in config.accounts}


def log_warnings(config: Config) -> None:
    """Log what the configuration does that its owner should know."""
    for warning in config.warnings:
        log.warning("%s", warning)
