"""What the tests of remote write share: a clock that sleeping moves, and a sender that is asked for one round."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from exporter.history.receivers import Receiver
from exporter.history.send import Sender
from exporter.ledger import Ledger
from tests.history.world import NOW

AGENT = "utility-exporter/0"


@dataclass
class Moving:
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
async def sending(ledger: Ledger, url: str, clock: Moving, **keys: Any) -> AsyncIterator[Sender]:
    """A sender with its door open, on books of its own."""
    receiver = Receiver.model_validate({"url": url} | keys)
    ledger.deliveries().follow([receiver.key])
    sender = Sender(ledger, receiver, {}, clock, AGENT, lambda: 0.0)
    async with sender._door:
        try:
            yield sender
        finally:
            sender._threads.shutdown(wait=True)
