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
    "status.png": ("?still&account=home-power", {"width": 1280, "height": 900}),
    "status-dark.png": ("?still&account=block-of-flats", {"width": 1280, "height": 900, "dark": True}),
    "status-phone.png": ("?still&account=home-water", {"width": 390, "height": 844}),
    "usage-point.png": ("usage-point?account=home-power&usage_point=home", {"width": 1280, "height": 1280}),
}
"""File -> path of the page, and the browser's window."""
COMMAND = ("-m", "exporter", "demo", "--web.listen-address=127.0.0.1:0", "--log.level=error")


async def main() -> None:
    """Start the demo, wait until every account's history is read, and capture the screenshots."""
    process = await asyncio.create_subprocess_exec(sys.executable, *COMMAND, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(300):
            url = await read_listen_address(process)
            await wait_until_read(url)
        async with run_chromium() as browser:
            for name, (path, window) in SCREENSHOTS.items():
                await browser.open_page(f"{url}/{path}", scale=1, **window)
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


async def wait_until_read(url: str) -> None:
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


asyncio.run(main())
