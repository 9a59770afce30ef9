"""A folder with the demo's ledger: every simulated portal visited once, and the past behind it brought home."""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from exporter.client.session import Session
from exporter.clock import WallClock
from exporter.commands.demo import build_simulations
from exporter.config.loader import load_config
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.portals.base import Portal
from exporter.simulators.base import run_simulation, utc_now
from exporter.sync.engine import Engine
from exporter.sync.feeds import Feed, FeedResult
from exporter.sync.importer import Importer
from tests.conftest import InMemoryAccountStore

IMPORT_DAYS = {"cem": 62, "water-link": 800, "fluvius": 730, "enedis": 730}
"""How far back, by portal: a year, and what is compared with it; of the block of flats, with a reading an hour, less. The year
before is whole at Fluvius alone: the simulated Enedis has lost some days for good."""
TEST_EVERYTHING = os.environ.get("BOARDS") == "every"
"""Asked for by BOARDS=every: a year of the block of flats too, and every value of every variable, which takes minutes."""
MAX_CURVE_DAYS = 366 if TEST_EVERYTHING else 62
"""Load curves have most of the readings."""


class UnlimitedAccountStore(InMemoryAccountStore):
    """A memory in which no call budget is ever spent: the portals are simulated."""

    async def count_calls(self, quota: str, since: object) -> int:
        return 0


@dataclass(frozen=True)
class FeedsOfPriority:
    """The feeds of a portal of one priority: days, or load curves."""

    portal: Portal
    priority: int

    def list_feeds(self) -> Sequence[Feed]:
        return [feed for feed in self.portal.list_feeds() if feed.priority == self.priority]

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        return await self.portal.read(session, feed, first, last)


async def refuse_to_wait(wait: timedelta) -> None:
    raise AssertionError(f"an import from a simulation waits {wait}")


async def fill_ledger(folder: Path) -> None:
    """Fill the ledger in `folder` with what all simulations know of the last days."""
    days = IMPORT_DAYS | ({"cem": 400} if TEST_EVERYTHING else {})
    async with AsyncExitStack() as stack:
        accounts = [one.demo_account(await stack.enter_async_context(run_simulation(one))) for one in build_simulations()]
        config = folder / "filling.yaml"
        config.write_text(json.dumps({"accounts": accounts}))
        config.chmod(0o600)
        ledger = Ledger(folder)
        stack.callback(ledger.close)
        await asyncio.gather(
            *(fill_account(portal, ledger, days[portal.config.portal]) for portal in load_config(config).accounts)
        )


async def fill_account(portal: Portal, ledger: Ledger, days: int) -> None:
    """Visit an account once, as the exporter does, and bring its past home."""
    poller = AccountPoller(portal, ledger, MetricsPage(ledger, utc_now, "0"), WallClock())
    await poller.open()
    await poller.visit()
    assert poller.state.up, poller.state.message
    await import_past(portal, ledger, utc_now().date() - timedelta(days=days))


async def import_past(portal: Portal, ledger: Ledger, first: date) -> None:
    """Do what an import does, without its care for a real portal."""
    async with Session(store=UnlimitedAccountStore(), clock=utc_now) as session:
        for priority in sorted({feed.priority for feed in portal.list_feeds()}):
            oldest = max(first, utc_now().date() - timedelta(days=MAX_CURVE_DAYS)) if priority else first
            store = ledger.get_feed_store(portal.name)
            engine = Engine[Session](FeedsOfPriority(portal, priority), store, every=portal.config.every, pace=portal.pace)
            progress = await Importer[Session](engine, now=utc_now, sleep=refuse_to_wait, first=oldest).run(session)
            assert (progress.failures, progress.paused) == ({}, None)
