"""A folder with the demo's ledger: every simulated portal visited once, and the past behind it brought home."""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import date, timedelta
from pathlib import Path

from exporter.clock import WallClock
from exporter.config import load
from exporter.demo.base import running, utc_now
from exporter.demo.runner import simulations
from exporter.errors import EndOfPastError
from exporter.ledger import Ledger
from exporter.metrics import Page
from exporter.model import Reading, Remember
from exporter.poller import AccountPoller
from exporter.portals.base import Portal
from exporter.session import Session
from tests.conftest import DictMemory

DAYS = {"cem": 15, "water-link": 800, "fluvius": 730, "enedis": 400}
"""How far back, by portal: a year, and what is compared with it; of the block of flats, with a reading an hour, less. The year
before is whole at Fluvius alone: the simulated Enedis has lost some days for good."""
CURVES = 366
"""Load curves have most of the readings."""
EVERYTHING = os.environ.get("BOARDS") == "every"
"""Asked for by BOARDS=every: a year of the block of flats too, and every value of every variable, which takes minutes."""


class Generous(DictMemory):
    """A memory in which no call budget is ever spent: the portals are simulated."""

    async def spent(self, budget: str, since: object) -> int:
        return 0


async def tell_past(folder: Path) -> None:
    """Fill the ledger in `folder` with what all simulations know of the last days."""
    days = DAYS | ({"cem": 400} if EVERYTHING else {})
    async with AsyncExitStack() as stack:
        accounts = [one.demo_account(await stack.enter_async_context(running(one))) for one in simulations()]
        config = folder / "filling.yaml"
        config.write_text(json.dumps({"accounts": accounts}))
        config.chmod(0o600)
        ledger = Ledger(folder)
        stack.callback(ledger.close)
        await asyncio.gather(*(tell(portal, ledger, days[portal.portal]) for portal in load(config).accounts))


async def tell(portal: Portal, ledger: Ledger, days: int) -> None:
    """Visit an account once, as the exporter does, and bring its past home."""
    poller = AccountPoller(portal, ledger, Page(ledger, utc_now, "0"), WallClock())
    await poller.open()
    await poller.visit()
    assert poller.state.up, poller.state.message
    await bring_home(portal, ledger, utc_now().date() - timedelta(days=days))


async def bring_home(portal: Portal, ledger: Ledger, first: date) -> None:
    """Do what an import does, without its care for a real portal."""
    now, over = utc_now(), set[str]()
    async with Session(memory=Generous(), clock=utc_now) as session:
        for piece in await portal.pieces(session, first, now.date()):
            if piece.line in over or ("curve" in piece.line and piece.last < now.date() - timedelta(days=CURVES)):
                continue
            try:
                found: Sequence[Reading | Remember] = await portal.past(session, piece)
                ledger.record_piece(portal.name, piece.key, found, at=now)
            except EndOfPastError:
                over.add(piece.line)
