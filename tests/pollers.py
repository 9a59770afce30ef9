"""An account's poller, run beside a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from exporter.poller import AccountPoller


@asynccontextmanager
async def running(poller: AccountPoller) -> AsyncIterator[None]:
    task = asyncio.create_task(poller.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(is_true: Callable[[], bool], seconds: float = 20) -> None:
    """Let others work until something is true; a test's own bound on time."""
    async with asyncio.timeout(seconds):
        while not is_true():  # noqa: ASYNC110  # what is waited for is the product's own doing, with no event to it
            await asyncio.sleep(0.001)


def render_page(poller: AccountPoller) -> str:
    """Return the metrics page of a poller."""
    return poller._page.render().decode()
