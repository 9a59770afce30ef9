"""The status page in a browser: on a phone, in dark mode, without scripts, and for screen readers."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest

from exporter.ledger.ledger import Ledger
from exporter.models import Commodity, Index, Register, Unit, UsagePoint
from exporter.web.app import WebContext, make_app
from exporter.web.listen import ListenAddress, listen
from exporter.web.status.page import StatusPage
from tests.browser import Browser, run_chromium
from tests.sample_accounts import MALICIOUS_TEXT, NOW, UNREACHABLE, SampleAccounts, add_all_accounts, build_flats
from tests.visit_parts import Note

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium")

SEARCH = "?account=block-of-flats&search=flat"
POINT = "usage-point?account=maison&usage_point=01234567890123"
TOWN = "?account=town"
HOSTILE_POINT = {"account": MALICIOUS_TEXT[:90], "usage_point": "1"}
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
CONTRASTS = """
(() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = colour => colour.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, box = element.getBoundingClientRect();
    if (!walk.currentNode.data.trim() || box.width <= 1 || box.bottom < 0) continue;
    const ground = behind(element), ink = over(parse(getComputedStyle(element).color), ground);
    const [dark, bright] = [light(ink), light(ground)].sort((a, b) => a - b);
    found.push([(bright + 0.05) / (dark + 0.05), element.className + ": " + walk.currentNode.data.trim().slice(0, 30)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()
"""
WIDER = """
[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > screen.width + 1)
  .map(e => e.outerHTML.slice(0, 80))
"""
HEADINGS = "[...document.querySelectorAll('h1, h2, h3, h4')].map(e => Number(e.tagName[1]))"
UNLABELLED = """
[...document.querySelectorAll("section, article, nav, form, input:not([type=hidden]), meter")].filter(e =>
  !(e.labels && e.labels.length) && !e.ariaLabel && !document.getElementById(e.getAttribute("aria-labelledby"))
).map(e => e.outerHTML)
"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[tuple[Browser, str]]:
    """A browser, and the address of a page with every kind of account, one of them hostile."""
    async with AsyncExitStack() as stack:
        accounts = SampleAccounts(stack.enter_context(Ledger(tmp_path)))
        add_all_accounts(accounts)
        accounts.add_account("block-of-flats", build_flats(30), UNREACHABLE, portal="cem")
        accounts.add_account("town", build_flats(70), portal="cem")
        hostile = [
            UsagePoint(str(number), Commodity.WATER, name, name, name) for number, name in enumerate((MALICIOUS_TEXT, LONG))
        ]
        readings = [Index(Register(point, Unit.M3, description=point.name), 1e12, NOW) for point in hostile]
        accounts.add_account(MALICIOUS_TEXT[:90], [*readings, Note(MALICIOUS_TEXT), Note(LONG)], UNREACHABLE)
        budgets = SimpleNamespace(portal=SimpleNamespace(list_quotas=lambda: {"calls": (100, NOW - NOW.replace(day=19))}))
        pollers = SimpleNamespace(get=lambda _: budgets)
        status = StatusPage(accounts.page, pollers, lambda: NOW, accounts.ledger.snapshot, count_calls=lambda *_: 42)
        app = make_app(WebContext(accounts.page, pollers, status_page=status))
        (at,) = await listen(app, [ListenAddress("127.0.0.1", 0)], stack)
        yield await stack.enter_async_context(run_chromium()), f"http://{at}/"


async def test_on_a_phone(page):
    """
    At the widths of phones nothing reaches beyond the screen, whatever the names are; the first meter is seen without scrolling,
    also below a search.
    """
    browser, url = page
    for width in (320, 360, 390):
        for path in ("", SEARCH, f"{SEARCH}&still", POINT, f"usage-point?{urlencode(HOSTILE_POINT)}", TOWN):
            await browser.open_page(url + path, width=width, height=740)

            assert await browser.evaluate(WIDER) == [], path
            assert await browser.evaluate("document.documentElement.scrollWidth") == width, path
        assert await browser.evaluate("document.querySelector('.tile').getBoundingClientRect().top") <= 420


async def test_in_light_and_dark(page):
    """
    Every word keeps the contrast of WCAG AA, 4.5 to 1, on its ground, by day and by night.
    """
    browser, url = page
    grounds = []
    for dark in (False, True):
        for path in (POINT, ""):
            await browser.open_page(url + path, dark=dark)
            found = await browser.evaluate(CONTRASTS)

            assert len(found) > 40
            assert [text for ratio, text in found if ratio < 4.5] == []
        grounds.append(await browser.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert grounds == ["rgb(246, 245, 240)", "rgb(20, 21, 15)"]


async def test_without_scripts(page):
    """
    The words are there when scripts are off; and where they are on, a name that is one does nothing.
    """
    browser, url = page
    await browser.open_page(url, scripts=False)
    text = await browser.evaluate("document.body.innerText")

    assert "Refused by the portal since Fri\u00a020\u00a0Nov,\u00a010:10" in text
    assert "Not asked again until you change the configuration" in text
    assert "104.250" in text

    await browser.open_page(url)

    assert await browser.evaluate("document.title") == "(3) utility-exporter"
    assert '<script>document.title="taken"</script>' in await browser.evaluate("document.body.innerText")


async def test_for_somebody_who_does_not_see_it(page):
    """
    Headings go down step by step, there are landmarks, everything has a label, and the language is named.
    """
    browser, url = page
    for path in ("", "?account=block-of-flats", POINT, "usage-point?account=nobody"):
        await browser.open_page(url + path)
        levels = await browser.evaluate(HEADINGS)

        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(below - above <= 1 for above, below in pairwise(levels))
        assert await browser.evaluate(UNLABELLED) == []
        assert await browser.evaluate("['header', 'main', 'footer'].every(name => document.querySelector(name))")
        assert await browser.evaluate("document.documentElement.lang") == "en"


async def test_the_style_is_allowed(page):
    """
    The page's own policy allows its style and its icon: tiles have the configured colour.
    """
    browser, url = page
    await browser.open_page(url)

    assert await browser.evaluate("getComputedStyle(document.querySelector('.faceplate')).backgroundColor") == "rgb(200, 212, 42)"
