"""A ledger with a sample history, and a web application over it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from exporter.history.config import HistorySettings
from exporter.history.read_worker import RemoteReader
from exporter.ledger.ledger import Ledger
from exporter.web.app import add_remote_read
from exporter.web.listen import ListenAddress, listen
from tests.history.sample_history import NOW, SampleHistory, build_sample_history


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def sample_history(ledger: Ledger) -> SampleHistory:
    return build_sample_history(ledger)


@pytest.fixture
def history(ledger: Ledger) -> Iterator[RemoteReader]:
    reader = RemoteReader(ledger, lambda: NOW, HistorySettings())
    yield reader
    reader.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


@pytest.fixture
async def base_url(history: RemoteReader) -> AsyncIterator[str]:
    """The URL of a web application that answers remote reads."""
    app = web.Application()
    add_remote_read(app, history)
    async with AsyncExitStack() as stack:
        (address,) = await listen(app, [ListenAddress("127.0.0.1", 0)], stack)
        yield f"http://{address}"
