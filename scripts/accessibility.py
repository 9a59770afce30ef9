"""Check the pages of the demo with axe, in a real browser: `python scripts/accessibility.py AXE_FILE`.

AXE_FILE is `axe.min.js` of the npm package axe-core: `npm install --prefix .cache/axe axe-core` puts it into
`.cache/axe/node_modules/axe-core`. It needs the test environment and a Chromium on the PATH. Exits with 1 where anything
serious is found.
"""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.demo_site import run_demo  # only now on the path
from tests.browser import Browser, run_chromium

PAGES = (
    "?still",
    "?still&account=home-power",
    "?still&account=block-of-flats",
    "?still&account=block-of-flats&search=heat",
    "?still&account=nobody",
    "usage-point?account=home-power&usage_point=home",
    "usage-point?account=block-of-flats&usage_point=Byt+1+cold+water",
    "usage-point?account=block-of-flats&usage_point=Byt+1+climate",
    "usage-point?account=nobody",
)
WIDTHS = (390, 1280)
SERIOUS = ("serious", "critical")
RUN = "axe.run(document, {resultTypes: ['violations']}).then(found => JSON.stringify(found.violations))"


async def check_page(browser: Browser, axe: str) -> list[tuple[str, str, str]]:
    """Return impact, rule and first element of all violations."""
    await browser.evaluate(axe)
    answer = await browser.call("Runtime.evaluate", expression=RUN, returnByValue=True, awaitPromise=True)
    violations = json.loads(answer["result"]["value"])
    return [(one["impact"], one["id"], one["nodes"][0]["html"][:120]) for one in violations]


async def main() -> int:
    """Check all pages, light and dark, wide and narrow."""
    axe, serious = Path(sys.argv[1]).read_text(), 0  # noqa: ASYNC240  # nothing else runs yet
    async with run_demo() as url, run_chromium() as browser:
        for path in PAGES:
            for width in WIDTHS:
                for dark in (False, True):
                    await browser.open_page(f"{url}/{path}", width=width, height=800, dark=dark)
                    for impact, rule, element in await check_page(browser, axe):
                        serious += impact in SERIOUS
                        sys.stdout.write(f"{path} {width} px{' dark' * dark}: {impact}: {rule}: {element}\n")
    sys.stdout.write(f"{len(PAGES) * len(WIDTHS) * 2} pages, {serious} serious or critical violations\n")
    return 1 if serious else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
