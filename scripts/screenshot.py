"""Capture the screenshots of the status page for the documentation, from the demo: `python scripts/screenshot.py [FOLDER]`.

It needs the test environment and a Chromium on the PATH; the demo needs no account and no network.
"""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from scripts.demo_site import run_demo  # noqa: E402  # only now on the path
from tests.browser import run_chromium  # noqa: E402

IMAGES = ROOT / "docs" / "images"
DESKTOP, PHONE = {"width": 1280, "height": 920}, {"width": 390, "height": 844}
SCREENSHOTS = {
    "status.png": ("?still&account=home-power", DESKTOP),
    "status-dark.png": ("?still&account=block-of-flats", DESKTOP | {"dark": True}),
    "status-phone.png": ("?still&account=home-water", PHONE),
    "status-phone-dark.png": ("?still&account=block-of-flats", PHONE | {"dark": True}),
    "usage-point.png": ("usage-point?account=home-power&usage_point=home", DESKTOP | {"height": 1280}),
    "usage-point-phone.png": ("usage-point?account=home-power&usage_point=home", PHONE | {"dark": True}),
}
"""File -> path of the page, and the browser's window."""


async def main() -> None:
    """Capture all of them."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else IMAGES
    async with run_demo() as url, run_chromium() as browser:
        for name, (path, window) in SCREENSHOTS.items():
            await browser.open_page(f"{url}/{path}", scale=1, **window)
            await browser.capture_screenshot(folder / name, full_page=False)


if __name__ == "__main__":
    asyncio.run(main())
