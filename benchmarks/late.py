"""How late an event loop is: what a scrape would wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def lateness(step: float = 0.005) -> AsyncIterator[list[float]]:
    """Wake every `step` seconds, and keep how many seconds too late that was."""
    late: list[float] = []

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + step
            await asyncio.sleep(step)
            late.append(loop.time() - due)

    task = asyncio.ensure_future(watch())
    try:
        yield late
    finally:
        task.cancel()
