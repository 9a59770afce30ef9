"""What the tests of remote write share: a clock that sleeping moves, and a sender that is asked for one round."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from exporter.history.config import Receiver
from exporter.history.remote_write_sender import Sender
from exporter.ledger.ledger import Ledger
from tests.conftest import FakeClock

AGENT = "utility-exporter/0"


@asynccontextmanager
async def run_sender(ledger: Ledger, url: str, clock: FakeClock, **settings: Any) -> AsyncIterator[Sender]:
    """A connected sender with a delivery state of its own."""
    receiver = Receiver.model_validate({"url": url} | settings)
    ledger.get_delivery_state().set_targets([receiver.key])
    sender = Sender(ledger, receiver, {}, clock, AGENT, lambda: 0.0)
    async with sender._client:
        try:
            yield sender
        finally:
            sender._executor.shutdown(wait=True)
