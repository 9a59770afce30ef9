"""The exporter: configuration, ledger, accounts and web server, wired from start to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from exporter import runtime
from exporter.clock import WallClock
from exporter.config.loader import load_config
from exporter.config.settings import Colour, Config
from exporter.history.read_worker import RemoteReader
from exporter.history.remote_write import RemoteWriteManager
from exporter.history.series import Aliases
from exporter.ledger.ledger import Ledger
from exporter.ledger.maintenance import MaintenanceTask
from exporter.metrics.cache import MetricsPage
from exporter.metrics.exposition import AGE_STEP
from exporter.poller_group import PollerGroup
from exporter.recording.recording import FailureRecordings
from exporter.reload import Reloader, log_warnings
from exporter.sharding import ALL_ACCOUNTS, Shard
from exporter.sync.feeds import Pace
from exporter.web.access_control import AccessControl, load_access_control
from exporter.web.app import Application, WebContext, make_app
from exporter.web.listen import ListenAddress, listen, open_inherited_sockets
from exporter.web.status.page import StatusPage

DEFAULT_ADDRESS = ListenAddress("127.0.0.1", 10230)
"""Quarter-hours reveal when people are at home: other machines can read them only on request."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The flags of `serve`."""

    config_file: Path = Path("config.yaml")
    storage_path: Path = Path("data")
    addresses: tuple[ListenAddress, ...] = (DEFAULT_ADDRESS,)
    telemetry_path: str = "/metrics"
    enable_lifecycle: bool = False
    watch_config: bool = True
    """Reload whenever the configuration changes."""
    web_config_file: Path | None = None
    systemd_socket: bool = False
    """Listen on the sockets that systemd opened, and on no address."""
    pace: Pace | None = None
    """How fast the history is read; None: as each portal allows."""
    shard: Shard = ALL_ACCOUNTS
    """The accounts of this process."""

    def load_config(self) -> Config:
        """Return the configuration without the accounts of other shards; raise ConfigError."""
        config = load_config(self.config_file)
        accounts = tuple(account for account in config.accounts if self.shard.contains(account.name))
        return config.model_copy(update={"accounts": accounts, "pace": self.pace})


@dataclass(frozen=True, slots=True)
class Serving:
    """Where an exporter listens, and the page that it serves."""

    addresses: Sequence[ListenAddress]
    page: MetricsPage


class Exporter:
    """One running exporter."""

    def __init__(self, options: ServeOptions, clock: WallClock | None = None) -> None:
        self._options, self._clock = options, clock or WallClock()
        self._stop = asyncio.Event()

    async def run(self, on_ready: Callable[[Serving], None] = lambda _: None) -> None:
        """Serve until stopped; call `on_ready` once every account is on the page.

        Raise ConfigError, LedgerError, and OSError for an address that cannot be listened on.
        """
        config = await asyncio.to_thread(self._options.load_config)
        log_warnings(config)
        async with AsyncExitStack() as stack:
            access_control = await self._open_access_control(stack)
            ledger = await asyncio.to_thread(Ledger, self._options.storage_path, serving=True)
            stack.callback(ledger.close)
            if ledger.database.sharing_error:
                log.error(
                    "%s: %s; serving stored readings only, no visits are made",
                    ledger.database.path,
                    ledger.database.sharing_error,
                )
            ledger.lock_folder()
            program = version("utility-exporter")
            senders = RemoteWriteManager(ledger, self._clock, f"utility-exporter/{program}")
            page = MetricsPage(ledger, self._clock.now, program, senders.collect_samples)
            page.reload_status.record_success(self._clock.now())
            recordings = FailureRecordings(self._options.storage_path)
            pollers = PollerGroup(ledger, page, self._clock, recordings)
            stack.push_async_callback(pollers.stop)
            status = StatusPage(
                page,
                pollers,
                self._clock.now,
                ledger.snapshot,
                count_calls=build_quota_reader(ledger),
                version=program,
                metrics_path=self._options.telemetry_path,
            )
            history = RemoteReader(ledger, self._clock.now, config.history, collect_aliases(config))
            stack.callback(history.close)
            stack.push_async_callback(senders.stop)
            maintenance = MaintenanceTask(ledger, self._clock)
            stack.push_async_callback(maintenance.stop)

            async def apply_config(config: Config) -> None:
                maintenance.configure(config.ledger.index_days)
                recordings.configure(config.recording.last_failure)
                status.set_meter_colour(Colour.parse(config.web.colour))
                history.configure(config.history, collect_aliases(config))
                await senders.configure(config.history.remote_write, collect_aliases(config))

            await apply_config(config)
            reloader = Reloader(config, self._options.load_config, page, pollers, self._clock, apply_config, access_control)
            stack.push_async_callback(reloader.stop)
            self._install_signal_handlers(reloader, stack)
            context = WebContext(
                page,
                pollers,
                reloader.reload if self._options.enable_lifecycle else None,
                self._options.telemetry_path,
                access_control,
                status,
                history,
            )
            app = make_app(context)
            addresses = await self._listen(app, access_control, stack)
            await pollers.reconcile(config.accounts, config.backlog)
            start_task(stack, pollers.watch_ledger(), "ledger")
            start_task(stack, render_ages_ahead(page, self._clock), "ages")
            context.ready.set()
            reloader.begin()
            if self._options.watch_config:
                start_task(stack, reloader.watch_files(), "configuration")
            log_addresses(len(config.accounts), addresses)
            await asyncio.to_thread(runtime.trim_memory)
            on_ready(Serving(addresses, page))
            await self._stop.wait()

    def stop(self) -> None:
        """End the visits under way, and stop."""
        log.info("stopping")
        self._stop.set()

    async def _open_access_control(self, stack: AsyncExitStack) -> AccessControl | None:
        if (file := self._options.web_config_file) is None:
            return None
        access_control = await asyncio.to_thread(load_access_control, file)
        stack.callback(access_control.close)
        start_task(stack, access_control.watch_files(), "web configuration")
        return access_control

    async def _listen(self, app: Application, access_control: AccessControl | None, stack: AsyncExitStack) -> list[ListenAddress]:
        sockets = open_inherited_sockets(os.environ) if self._options.systemd_socket else []
        addresses = [] if sockets else list(self._options.addresses)
        get_tls_context = access_control.get_tls_context if access_control else lambda: None
        return await listen(app, addresses, stack, get_tls_context=get_tls_context, sockets=sockets)

    def _install_signal_handlers(self, reloader: Reloader, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number, handler in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, reloader.schedule)):
            loop.add_signal_handler(number, handler)
            stack.callback(loop.remove_signal_handler, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked by `__main__`: one that waits is handled now


def start_task(stack: AsyncExitStack, work: Coroutine[None, None, None], name: str) -> None:
    """Do work in the background until the stack is closed."""
    stack.callback(asyncio.create_task(work, name=name).cancel)


def log_addresses(account_count: int, addresses: Sequence[ListenAddress]) -> None:
    """Log where the exporter can be reached, and by whom."""
    log.info("serving %d account(s) at %s", account_count, ", ".join(map(str, addresses)))
    if all(address.is_loopback for address in addresses):
        log.info("listening on loopback only; use --web.listen-address=:%d to allow other hosts", addresses[0].port)


async def render_ages_ahead(page: MetricsPage, clock: WallClock) -> None:
    """Render the ages of many usage points before they are requested, until cancelled."""
    while True:
        await clock.sleep(timedelta(seconds=AGE_STEP) / 2)
        await asyncio.to_thread(page.render_ages_ahead)


def build_quota_reader(ledger: Ledger) -> Callable[[str, str, datetime], int]:
    """Return a blocking function that counts the calls of an account's quota since an instant."""
    return lambda account, quota, since: ledger.get_account_store(account).count_calls_blocking(quota, since)


def collect_aliases(config: Config) -> Aliases:
    """Return the configured names of each account's usage points."""
    return {portal.name: portal.config.aliases for portal in config.accounts}
