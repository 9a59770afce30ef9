"""A ledger with a small world in it, and the web face over it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from exporter.history import History
from exporter.ledger import Ledger
from exporter.server import Address, listen, offer_history
from tests.history.world import NOW, World, build


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "data") as kept:
        yield kept


@pytest.fixture
def world(ledger: Ledger) -> World:
    return build(ledger)


@pytest.fixture
def history(ledger: Ledger) -> Iterator[History]:
    made = History(ledger, lambda: NOW)
    yield made
    made.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as made:
        yield made


@pytest.fixture
async def face(history: History) -> AsyncIterator[str]:
    """The address of a web face that answers remote reads."""
    app = web.Application()
    offer_history(app, history)
    async with AsyncExitStack() as stack:
        (taken,) = await listen(app, [Address("127.0.0.1", 0)], stack)
        yield f"http://{taken}"
