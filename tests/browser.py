"""A headless Chromium, spoken to over its DevTools protocol: how a page is rendered, at any width, light or dark."""

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
TIMEOUT = 60.0


class Browser:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number, self._session = socket, 0, ""

    async def open(self) -> Self:
        """Open the tab."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        self._session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        await self.call("Page.enable")
        return self

    async def call(self, method: str, **parameters: Any) -> Any:
        """Make a call of the protocol."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters, **session})
        answer = await self._wait(lambda message: message.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    async def open_page(
        self, url: str, *, width: int = 1200, height: int = 900, scale: float = 1, dark: bool = False, scripts: bool = True
    ) -> None:
        """Go to a page, as wide as a window or a phone."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        await self.call("Page.navigate", url=url)
        await self._wait(lambda message: message.get("method") == "Page.loadEventFired")

    async def evaluate(self, expression: str) -> Any:
        """Evaluate a JavaScript expression in the page through the debugger: the page's own policy forbids scripts."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def capture_screenshot(self, file: Path, *, full_page: bool = True) -> None:
        """Capture a screenshot of the page, or of the window."""
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=full_page)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(answer["data"]))

    async def _wait(self, predicate: Any) -> Any:
        async with asyncio.timeout(TIMEOUT):
            while not predicate(message := await self._socket.receive_json()):
                pass
        return message


@asynccontextmanager
async def run_chromium() -> AsyncIterator[Browser]:
    """Start a Chromium with a new and empty profile; it ends with the block."""
    program = shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            program, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", "about:blank", stdin=quiet, stdout=quiet, stderr=quiet
        )
        try:
            port, path = await _wait_for_address(Path(profile) / "DevToolsActivePort")
            async with (
                aiohttp.ClientSession() as client,
                client.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=1 << 28) as socket,
            ):
                yield await Browser(socket).open()
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _wait_for_address(file: Path) -> tuple[str, str]:
    async with asyncio.timeout(TIMEOUT):
        while not (file.exists() and len(lines := file.read_text().splitlines()) == 2):  # noqa: ASYNC110, ASYNC240  # Chromium says it so
            await asyncio.sleep(0.05)
    return lines[0], lines[1]
