"""What the tests share: a closed network, a ledger in a folder, a session on a clock of our own."""

import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import settings

from exporter.logs import Json, Logfmt
from exporter.model import KnownInterval
from exporter.portals.base import Wanted
from exporter.session import Session

pytest_plugins = ["tests.pem"]

settings.register_profile("house", deadline=None)  # how fast it is, is measured in benchmarks, not in tests
settings.load_profile("house")
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
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
def _log_left_as_it_was() -> Iterator[None]:
    """A test that sets up the program's log takes it down again."""
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler.formatter, Logfmt | Json)]:
        root.removeHandler(handler)
    logging.getLogger("exporter").setLevel(logging.NOTSET)


@dataclass
class Clock:
    """A clock that moves only when told to."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at

    def move(self, **distance: float) -> None:
        self.at += timedelta(**distance)


@dataclass
class DictMemory:
    """A memory for portal tests that need no ledger."""

    values: dict[str, tuple[Any, datetime | None]] = field(default_factory=dict)
    calls: list[tuple[str, datetime]] = field(default_factory=list)
    held: dict[str, Any] = field(default_factory=dict)

    async def get(self, key: str, now: datetime) -> Any | None:
        value, ends = self.values.get(key, (None, None))
        return None if ends and ends <= now else value

    async def put(self, key: str, value: Any, ends: datetime | None = None) -> None:
        self.values[key] = value, ends

    async def drop(self, key: str) -> None:
        self.values.pop(key, None)

    async def spend(self, budget: str, at: datetime, calls: int = 1) -> None:
        self.calls += [(budget, at)] * calls

    async def spent(self, budget: str, since: datetime) -> int:
        return sum(name == budget and at >= since for name, at in self.calls)


@dataclass
class NothingKnown:
    """A ledger that holds nothing yet."""

    kept: list[KnownInterval] = field(default_factory=list)

    async def intervals(
        self, usage_point: str, start: datetime, end: datetime, resolution: str | None = None
    ) -> list[KnownInterval]:
        return self.kept

    async def span(self, usage_point: str, resolution: str) -> tuple[datetime, datetime] | None:
        return None


EVERYTHING = Wanted(NothingKnown())

Visit = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory() -> DictMemory:
    return DictMemory()


@pytest.fixture
def visit(clock: Clock, memory: DictMemory) -> Visit:
    """Make sessions that share one memory and one clock: `async with visit() as session`."""

    @asynccontextmanager
    async def make(**more: Any) -> AsyncIterator[Session]:
        async with Session(**{"memory": memory, "clock": clock, "timeout": timedelta(seconds=5)} | more) as session:
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
