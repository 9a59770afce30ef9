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

from exporter import early, heap
from exporter.clock import WallClock
from exporter.colour import Colour
from exporter.config import Config, load, load_plain
from exporter.errors import ConfigError, LedgerError
from exporter.history import Aliases, History, Senders
from exporter.housekeeping import House
from exporter.ledger import Ledger
from exporter.metrics import STEP, Page
from exporter.poller import Pollers
from exporter.server import READY, Address, Application, Face, inherited_sockets, listen, make_app, offer_history
from exporter.shard import WHOLE, Shard
from exporter.status import Status
from exporter.webconfig import Door, WebConfig, open_door

PORT = 10230
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of `serve`."""

    config_file: Path = Path("config.yaml")
    storage_path: Path = Path("data")
    addresses: tuple[Address, ...] = (Address("", PORT),)
    telemetry_path: str = "/metrics"
    lifecycle: bool = False
    web_config_file: Path | None = None
    systemd_socket: bool = False
    """Listen on the sockets that systemd has opened, and on no address."""
    shard: Shard = WHOLE
    """Which of the accounts are this process's."""

    def load(self) -> Config:
        """Read the configuration, without the accounts of other shards; raises ConfigError."""
        config = load(self.config_file)
        return config.model_copy(update={"accounts": tuple(one for one in config.accounts if self.shard.holds(one.name))})


class Exporter:
    """One running exporter."""

    def __init__(self, options: Options, clock: WallClock | None = None) -> None:
        self._options, self._clock = options, clock or WallClock()
        self._stop = asyncio.Event()
        self.page: Page | None = None

    async def run(self, started: Callable[[list[Address]], None] = lambda _: None) -> None:
        """Serve until told to stop; `started` is told where, once the page is full.

        Raises ConfigError, LedgerError, and OSError for an address that cannot be listened on.
        """
        config = await asyncio.to_thread(self._options.load)
        say_warnings(config)
        async with AsyncExitStack() as stack:
            door = await self._open_door(stack)
            ledger = await asyncio.to_thread(Ledger, self._options.storage_path, serving=True)
            stack.callback(ledger.close)
            if ledger.store.cramped:
                log.error("%s: %s; what is kept is shown, nothing new is learned", ledger.store.path, ledger.store.cramped)
            ledger.claim()
            program = version("utility-exporter")
            page = self.page = Page(ledger, self._clock.now, program)
            page.reloaded = self._clock.now()
            pollers, path = Pollers(ledger, page, self._clock), self._options.telemetry_path
            stack.push_async_callback(pollers.stop)
            status = Status(page, pollers, self._clock.now, spent=spent_of(ledger), version=program, metrics=path)
            history = History(ledger, self._clock.now)
            stack.callback(history.close)
            senders = Senders(ledger, self._clock, f"utility-exporter/{program}")
            stack.push_async_callback(senders.stop)
            page.also = senders.samples

            house = House(ledger, self._clock)
            stack.push_async_callback(house.stop)

            async def take(config: Config) -> None:
                house.follow(config.ledger.index_days)
                status.paint(Colour.parse(config.web.colour))
                history.follow(config.history, aliases(config))
                await senders.follow(config.history.remote_write, aliases(config))

            await take(config)
            reload = Reload(self._options.load, page, pollers, self._clock, take, door)
            stack.push_async_callback(reload.stop)
            self._obey_signals(reload, stack)
            again = reload.again if self._options.lifecycle else None
            face = Face(page, pollers, again, path, door, status)
            app = make_app(face)
            offer_history(app, history)
            taken = await self._listen(app, door, stack)
            await pollers.follow(config.accounts)
            ahead = asyncio.create_task(write_ahead(page, self._clock), name="ages")
            stack.callback(ahead.cancel)
            app[READY].append(True)
            reload.begin()
            log.info("serving %d account(s) at %s", len(config.accounts), ", ".join(map(str, taken)))
            await asyncio.to_thread(heap.give_back)
            started(taken)
            await self._stop.wait()
            log.info("stopping")

    def stop(self) -> None:
        """End visits under way, and leave."""
        self._stop.set()

    async def _open_door(self, stack: AsyncExitStack) -> Door | None:
        if (file := self._options.web_config_file) is None:
            return None
        door = await asyncio.to_thread(open_door, file, read_web_config)
        stack.callback(door.close)
        following = asyncio.create_task(door.follow(), name="web configuration")
        stack.callback(following.cancel)
        return door

    async def _listen(self, app: Application, door: Door | None, stack: AsyncExitStack) -> list[Address]:
        tls = door.tls if door else None
        if self._options.systemd_socket:
            return await listen(app, [], stack, tls=tls, sockets=inherited_sockets(os.environ))
        return await listen(app, list(self._options.addresses), stack, tls=tls)

    def _obey_signals(self, reload: "Reload", stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number, act in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, reload.soon)):
            loop.add_signal_handler(number, act)
            stack.callback(loop.remove_signal_handler, number)
        if early.take_kept():
            reload.soon()


async def write_ahead(page: Page, clock: WallClock) -> None:
    """Have the ages of many usage points written before they are asked for."""
    while True:
        await clock.sleep(timedelta(seconds=STEP) / 2)
        await asyncio.to_thread(page.write_ahead)


class Reload:
    """Reading the configuration again while serving; a broken file changes nothing, and says so."""

    def __init__(
        self,
        read: Callable[[], Config],
        page: Page,
        pollers: Pollers,
        clock: WallClock,
        take: Callable[[Config], Awaitable[None]],
        door: Door | None = None,
    ) -> None:
        self._read, self._page, self._pollers, self._clock = read, page, pollers, clock
        self._take, self._door = take, door
        self._lock, self._started = asyncio.Lock(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Obey from now on: the accounts of the start are there, and what was asked before is not undone by them."""
        self._started.set()

    async def again(self) -> None:
        """Reload once, to the end even when whoever asked hangs up; raises ConfigError."""
        await asyncio.shield(self._begun())

    def soon(self) -> None:
        """Reload in the background, on a signal."""
        self._begun()

    async def stop(self) -> None:
        """Leave off."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begun(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._once(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # A ConfigError was said already; nobody may be there any more to take it.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConfigError):
            log.error("a bug in a reload", exc_info=error)

    async def _once(self) -> None:
        await self._started.wait()
        async with self._lock:
            try:
                config = await asyncio.to_thread(self._read)
                rules = await self._door.read() if self._door else None
                say_warnings(config)
                await self._pollers.follow(config.accounts)
                if self._door and rules:
                    self._door.take(rules)
                await self._take(config)
            except (ConfigError, LedgerError) as error:
                self._page.reload_successful = False
                log.error("the configuration before stays in force: %s", error)  # noqa: TRY400  # the message says it all
                raise ConfigError(str(error)) from None
            self._page.reload_successful = True
            self._page.reloaded = self._clock.now()
            log.info("configuration reloaded: %d account(s)", len(config.accounts))


def read_web_config(file: Path) -> WebConfig:
    """Read a web configuration file; raises ConfigError."""
    return load_plain(file, WebConfig)


def spent_of(ledger: Ledger) -> Callable[[str, str, datetime], int]:
    """Give what looks up how many calls of an account's budget are spent since an instant; it blocks."""
    return lambda account, budget, since: ledger.memory(account).spent_now(budget, since)


def aliases(config: Config) -> Aliases:
    """Take the names that each account's usage points are shown by."""
    return {portal.name: portal.aliases for portal in config.accounts}


def say_warnings(config: Config) -> None:
    """Log what the configuration does that its owner should know."""
    for warning in config.warnings:
        log.warning("%s", warning)
