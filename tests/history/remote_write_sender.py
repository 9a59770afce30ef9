"""What the tests of remote write share: a clock that sleeping moves, and a sender that is asked for one round."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from exporter.history.config import Receiver
from exporter.history.remote_write_sender import Sender
from exporter.ledger.ledger import Ledger
from tests.history.sample_history import NOW

AGENT = "utility-exporter/0"


@dataclass
class AdvancingClock:
    """A clock that goes on only while somebody sleeps."""

    at: datetime = NOW
    slept: list[timedelta] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None

    def now(self) -> datetime:
        return self.at

    async def sleep(self, length: timedelta) -> None:
        self.slept.append(length)
        self.at += length
        self.on_sleep()
        await asyncio.sleep(0)


@asynccontextmanager
async def run_sender(ledger: Ledger, url: str, clock: AdvancingClock, **settings: Any) -> AsyncIterator[Sender]:
    """A connected sender with a delivery state of its own."""
    receiver = Receiver.model_validate({"url": url} | settings)
    ledger.get_delivery_state().set_targets([receiver.key])
    sender = Sender(ledger, receiver, {}, clock, AGENT, lambda: 0.0)
    async with sender._client:
        try:
            yield sender
        finally:
            sender._executor.shutdown(wait=True)
