"""Capture the screenshots of the status page for the documentation, from the demo: `python scripts/screenshot.py`.

It needs the test environment and a Chromium on the PATH; the demo needs no account and no network.
"""

import asyncio
import re
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser import run_chromium  # noqa: E402  # only now on the path

IMAGES = ROOT / "docs" / "images"
SCREENSHOTS = {
    "status.png": ("#", {"width": 1280, "height": 1000}),
    "status-dark.png": ("#a3", {"width": 1280, "height": 1000, "dark": True}),
    "status-phone.png": ("#a2", {"width": 390, "height": 844}),
}
"""File -> anchor of the account at its top, and the browser's window."""
COMMAND = ("-m", "exporter", "demo", "--web.listen-address=127.0.0.1:0", "--log.level=error")


async def main() -> None:
    """Start the demo, wait until every account was visited, and capture the screenshots."""
    process = await asyncio.create_subprocess_exec(sys.executable, *COMMAND, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(120):
            url = await read_listen_address(process)
            await wait_until_visited(url)
        async with run_chromium() as browser:
            for name, (anchor, window) in SCREENSHOTS.items():
                await browser.open_page(f"{url}/?still&for={name}{anchor}", scale=1.5, **window)
                await browser.capture_screenshot(IMAGES / name, full_page=False)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def read_listen_address(process: asyncio.subprocess.Process) -> str:
    """Return the URL at which the demo listens."""
    assert process.stdout is not None
    async for line in process.stdout:
        if match := re.search(rb"(http://[0-9.:]+)/metrics", line):
            return match[1].decode()
    raise RuntimeError("the demo has ended")


async def wait_until_visited(url: str) -> None:
    """Wait until each account was visited."""
    async with aiohttp.ClientSession() as client:
        while True:
            async with client.get(f"{url}/metrics") as answer:
                page = await answer.text()
            if page.count("\nutility_up{") == page.count("\nutility_account_info{") > 0:
                return
            await asyncio.sleep(0.5)


asyncio.run(main())
