"""What the tests share: a closed network, a ledger in a folder, a session on a clock of our own."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import settings

from exporter.client.session import Session
from exporter.config.loader import load_portals
from exporter.log import JsonFormatter, LogfmtFormatter
from exporter.portals.base import Portal

pytest_plugins = ["tests.certificates"]

settings.register_profile("house", deadline=None)  # how fast it is, is measured in benchmarks, not in tests
settings.load_profile("house")
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are processors: tests often wait for programs that start."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _block_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches beyond the loopback."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def allowed(address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]}")

    def guarded(self: socket.socket, address: Any) -> None:
        allowed(address)
        return connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        allowed(address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture(autouse=True)
def _restore_log() -> Iterator[None]:
    """A test that sets up the program's log takes it down again."""
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler.formatter, LogfmtFormatter | JsonFormatter)]:
        root.removeHandler(handler)
    logging.getLogger("exporter").setLevel(logging.NOTSET)


@dataclass
class FakeClock:
    """A clock that moves only when told to, or by what is slept; while it `stands`, a sleep does not end."""

    at: datetime = NOW
    slept: list[timedelta] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None
    stands: bool = False

    def __call__(self) -> datetime:
        return self.at

    def now(self) -> datetime:
        return self.at

    def advance(self, **distance: float) -> None:
        self.at += timedelta(**distance)

    async def sleep(self, length: timedelta) -> None:
        self.slept.append(length)
        if self.stands:
            await asyncio.sleep(3600)
        self.at += length
        self.on_sleep()
        await asyncio.sleep(0)


@dataclass
class InMemoryAccountStore:
    """A memory for portal tests that need no ledger."""

    values: dict[str, tuple[Any, datetime | None]] = field(default_factory=dict)
    calls: list[tuple[str, datetime]] = field(default_factory=list)
    cache: dict[str, Any] = field(default_factory=dict)

    async def get(self, key: str, now: datetime) -> Any | None:
        value, ends = self.values.get(key, (None, None))
        return None if ends and ends <= now else value

    async def put(self, key: str, value: Any, expires_at: datetime | None = None) -> None:
        self.values[key] = value, expires_at

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)

    async def record_calls(self, quota: str, at: datetime, calls: int = 1) -> None:
        self.calls += [(quota, at)] * calls

    async def count_calls(self, quota: str, since: datetime) -> int:
        return sum(name == quota and at >= since for name, at in self.calls)


load_installed_portals = cache(load_portals)


def build_portal_of(entry: Mapping[str, Any]) -> Portal:
    """Return the account of an entry of the configuration."""
    portal = load_installed_portals()[entry["portal"]]
    return portal(portal.config_model.model_validate(entry))


OpenSession = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory() -> InMemoryAccountStore:
    return InMemoryAccountStore()


@pytest.fixture
def visit(clock: FakeClock, memory: InMemoryAccountStore) -> OpenSession:
    """Make sessions that share one memory and one clock: `async with visit() as session`."""

    @asynccontextmanager
    async def make(**more: Any) -> AsyncIterator[Session]:
        async with Session(**{"store": memory, "clock": clock, "timeout": timedelta(seconds=5)} | more) as session:
            yield session

    return make


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers that need no cookies, without a server."""
    # aiohttp 3.14 made `stream_writer` a required argument, which aioresponses does not know of yet.
    plain = aiohttp.ClientResponse.__init__
    monkeypatch.setattr(
        aiohttp.ClientResponse,
        "__init__",
        lambda self, *args, **more: plain(self, *args, **({"stream_writer": SimpleNamespace(output_size=0)} | more)),
    )
    with aioresponses() as answers:
        yield answers
