"""A folder with the demo's ledger: every simulated portal visited once, and the past behind it brought home."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import date, timedelta
from pathlib import Path

from exporter.config import load
from exporter.demo.base import running, utc_now
from exporter.demo.runner import simulations
from exporter.errors import EndOfPastError
from exporter.ledger import Ledger
from exporter.metrics import Page
from exporter.poller import AccountPoller
from exporter.portals.base import Portal
from exporter.serve import WallClock
from exporter.session import Session
from tests.conftest import DictMemory


class Generous(DictMemory):
    """A memory in which no call budget is ever spent: the portals are simulated."""

    async def spent(self, budget: str, since: object) -> int:
        return 0


async def tell_past(folder: Path, days: int, fewer: dict[str, int]) -> None:
    """Fill the ledger in `folder` with the last `days` of all simulations; of the portals in `fewer`, with so many."""
    async with AsyncExitStack() as stack:
        accounts = []
        for simulation in simulations():
            accounts += simulation.accounts(await stack.enter_async_context(running(simulation)))
        config = folder / "filling.yaml"
        config.write_text(json.dumps({"accounts": accounts}))
        config.chmod(0o600)
        ledger = Ledger(folder)
        stack.callback(ledger.close)
        page = Page(ledger, utc_now, "0")
        for portal in load(config).accounts:
            poller = AccountPoller(portal, ledger, page, WallClock())
            await poller.open()
            await poller.visit()
            assert poller.state.up, poller.state.message
            await bring_home(portal, ledger, fewer.get(portal.portal, days))


async def bring_home(portal: Portal, ledger: Ledger, days: int) -> None:
    """Do what an import does, without its care for a real portal."""
    now = utc_now()
    first: date = (now - timedelta(days=days)).date()
    over: set[str] = set()
    async with Session(memory=Generous(), clock=utc_now) as session:
        for piece in await portal.pieces(session, first, now.date()):
            if piece.line not in over:
                try:
                    found: Sequence = await portal.past(session, piece)
                    ledger.record_piece(portal.name, piece.key, found, at=now)
                except EndOfPastError:
                    over.add(piece.line)
