"""The demo as a site to be looked at: started, and read to the end of its history. It needs no account and no network."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

ROOT = Path(__file__).parent.parent
COMMAND = ("-m", "exporter", "demo", "--web.listen-address=127.0.0.1:0", "--log.level=error")
MAX_SECONDS = 300


@asynccontextmanager
async def run_demo() -> AsyncIterator[str]:
    """Start the demo, wait until every account's history is read, and yield its URL; it ends with the block."""
    process = await asyncio.create_subprocess_exec(sys.executable, *COMMAND, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            url = await _read_listen_address(process)
            await _wait_until_read(url)
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _read_listen_address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        if match := re.search(rb"(http://[0-9.:]+)/metrics", line):
            return match[1].decode()
    raise RuntimeError("the demo has ended")


async def _wait_until_read(url: str) -> None:
    """Wait until each account was visited and its history is read."""
    async with aiohttp.ClientSession() as client:
        while True:
            async with client.get(f"{url}/metrics") as answer:
                page = await answer.text()
            is_read = page.count("\nutility_history_pending_requests{") == len(
                re.findall(r"(?m)^utility_history_pending_requests\{.*\} 0\.0$", page)
            )
            if is_read and page.count("\nutility_up{") == page.count("\nutility_account_info{") > 0:
                return
            await asyncio.sleep(0.5)
