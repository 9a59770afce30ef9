"""What the measurements share: the delay of the event loop, processes of their own, and memory."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

MB = 1_000_000


@asynccontextmanager
async def watch_loop_delay(step: float = 0.005) -> AsyncIterator[list[float]]:
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


ReturnValue = TypeVar("ReturnValue")


def run_in_new_process(function: Callable[..., ReturnValue], *arguments: Any) -> ReturnValue:
    """Call a function in a new process; return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def read_memory_mb(field: str, process: int | str = "self") -> float:
    """Return a process's memory in MB: `VmRSS` is what it holds, `VmHWM` the peak."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / MB
