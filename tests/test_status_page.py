"""The status page: what it says in words, what it leaves out, and that thousands of meters do not slow it."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from bs4 import BeautifulSoup, Tag

from exporter.account_status import HistoryStatus
from exporter.config.settings import Colour
from exporter.errors import LedgerError
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.metrics.aggregates import AccountSampleReader
from exporter.models import Commodity, Holder, Index, Inventory, Peak, Register, Unit, UsagePoint
from exporter.web.app import WebContext, make_app
from exporter.web.listen import ListenAddress, listen
from exporter.web.status.accounts import summarize_health
from exporter.web.status.formatting import (
    THIN_SPACE,
    PageClock,
    format_age,
    format_amount,
    format_duration,
    format_index,
    format_instant,
)
from exporter.web.status.page import TILES_PER_PAGE, StatusPage, StatusQuery
from tests.sample_accounts import (
    BRUSSELS,
    DAY,
    HEALTHY,
    HOUR,
    LOGIN_REFUSED,
    MALICIOUS_TEXT,
    NOW,
    UNREACHABLE,
    SampleAccounts,
    add_all_accounts,
    build_days,
    build_flats,
    build_fluvius_meters,
    build_leaking_meter,
    build_linky_meter,
    build_water_meter,
    parse_local,
)
from tests.visit_parts import Note


class NoPollers:
    def get(self, _: str) -> None:
        return None


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[SampleAccounts]:
    with Ledger(tmp_path) as ledger:
        yield SampleAccounts(ledger)


def status(accounts: SampleAccounts, **more: Any) -> StatusPage:
    pollers, open_snapshot = more.pop("pollers", NoPollers()), more.pop("open_snapshot", accounts.ledger.snapshot)
    return StatusPage(accounts.page, pollers, lambda: accounts.now, open_snapshot, version="1.2.3", **more)


def shown(accounts: SampleAccounts, asked: StatusQuery | None = None, **more: Any) -> BeautifulSoup:
    return BeautifulSoup(status(accounts, **more).render(asked or StatusQuery()), "html.parser")


def words(part: Tag | BeautifulSoup) -> str:
    """Return a part's text with plain spaces."""
    return " ".join(part.get_text(" ").replace("\u2060", "").split())


def meter(page: BeautifulSoup, title: str) -> list[str]:
    """Return title, details, lines of the screen, flags, rows, and when it was read."""
    (tile,) = [part for part in page.find_all("article") if words(part.h4) == title]
    parts = tile.select("h4, .about, .line, .flags li, dl > div, .read")
    return [words(part).replace(" .", ".") for part in parts if words(part)]


def titles(page: BeautifulSoup) -> list[str]:
    return [words(title) for title in page.find_all("h4")]


def test_a_water_meter(accounts):
    """
    The latest day by its date, the month up to it, the index to the litre, and when it was read, all in the account's time.
    """
    accounts.add_account("home-water", build_water_meter())

    assert meter(shown(accounts), "Kitchen") == [
        "Kitchen", "Water · …3456", "Yesterday, Thu 19 Nov 0.219 m³", "1–19 November 4.479 m³", "Index 104.250 m³",
        "Read Fri 20 Nov, 05:00 6 h ago",
    ]  # fmt: skip


def test_a_meter_that_needs_attention(accounts):
    """
    Flags and lateness are shown in words; a day that is not yesterday is only named by its date.
    """
    accounts.add_account("home-water", build_leaking_meter(), aliases={"123457": "Garden tap"})

    page = shown(accounts)
    assert meter(page, "Garden tap") == [
        "Garden tap", "Water · Garden · meter …3457", "Sat 14 Nov 1.800 m³", "Unusual consumption", "Flow is limited",
        "Not up to date", "Late", "12–14 November 11 days missing 3.100 m³", "Index 88.013 m³",
        "Read Sun 15 Nov, 05:00 5 days ago",
    ]  # fmt: skip
    assert words(page.h1) == "1 meter needs attention."


def test_what_is_late_is_the_portals_word(accounts):
    """
    A reading of five days ago is not late where the portal takes a week.
    """
    accounts.add_account("home-water", build_leaking_meter(), stale_after={Commodity.WATER: timedelta(days=7)})

    assert not shown(accounts).find_all(string="Late")


def test_meters_without_an_index(accounts):
    """
    The latest day is on the screen, all registers summed; a load has its time beside it.
    """
    accounts.add_account("home-power", build_fluvius_meters(), aliases={"541448820000000042": "House"})
    page = shown(accounts)

    assert meter(page, "House") == [
        "House", "Electricity · meter …0042", "Yesterday, Thu 19 Nov 6.50 kWh", "Injection 2.17 kWh",
        "2–19 November 1 day missing 120.0 kWh", "Injection, 2–19 November 1 day missing 40.00 kWh",
        "Load Fri 20 Nov, 09:15 0.45 kW", "Injected load Fri 20 Nov, 09:15 0.00 kW",
        "November's peak Wed 11 Nov, 18:00 3.72 kW",
        "Average peak 2 months 3.40 kW", "Read Fri 20 Nov, 09:15 75 min ago",
    ]  # fmt: skip
    assert meter(page, "Gas …0043") == [
        "Gas …0043", "Yesterday, Thu 19 Nov 28.77 kWh", "2.502 m³", "18–19 November 17 days missing 59.97 kWh · 5.212 m³",
        "Read Fri 20 Nov, 00:00 10 h ago",
    ]  # fmt: skip


def test_a_linky(accounts):
    """
    Registers go by their description; peak and contract are shown.
    """
    accounts.add_account("maison", build_linky_meter())

    assert meter(shown(accounts), "Electricity …0123")[1:] == [
        "Yesterday, Thu 19 Nov 14.02 kWh", "2–19 November 1 day missing 218.0 kWh",
        "Index, Heures creuses 18 034.21 kWh", "Index, Heures pleines 40 210.91 kWh",
        "Day's peak Thu 19 Nov, 19:12 5.42 kVA", "Subscribed 9 kVA", "Read Fri 20 Nov, 00:00 10 h ago",
    ]  # fmt: skip


def test_a_month_with_holes(accounts):
    """
    A sum that lacks days says so.
    """
    register = Register(UsagePoint("1", Commodity.WATER, name="Hall"), Unit.M3)
    accounts.add_account("a", [*build_days(register, 1.0, until="2026-11-16"), *build_days(register, 1.0)])

    assert "16–19 November 17 days missing 2.000 m³" in meter(shown(accounts), "Hall")


def test_many_registers(accounts):
    """
    A screen has four lines, and says how many more there are.
    """
    point = UsagePoint("7", Commodity.OTHER, name="Cellar")
    accounts.add_account("a", [Index(Register(point, "ppm", name=f"8000{number}"), 400.5, NOW) for number in range(6)])

    assert meter(shown(accounts), "Cellar")[1:-1] == [
        "7",
        *(f"8000{number} 400.5 ppm" for number in range(4)),
        "and 2 more",
    ]


def test_places_in_their_order(accounts):
    """
    Meters stand under their site, flat 9 before flat 10.
    """
    accounts.add_account("block-of-flats", build_flats(20, each=2))
    page = shown(accounts, StatusQuery(account="block-of-flats"))

    assert [words(site) for site in page.select("h3.site")] == [f"Flat {number}" for number in range(1, 11)]
    assert titles(page)[:2] == ["Water 70000", "Water 70001"]


@pytest.mark.parametrize(
    ("state", "texts"),
    [
        (AccountState(), ["waiting", "Not visited yet", "It is asked now."]),
        (AccountState(next_visit=NOW + HOUR), ["waiting", "Not visited yet", "It is asked again Fri 20 Nov, 11:30 (in 60 min)."]),
        (HEALTHY, ["good", "Working · visited 20 min ago · next 12:10"]),
        (
            LOGIN_REFUSED,
            [
                "bad", "Refused by the portal since Fri 20 Nov, 10:10", "Second factor.",
                "Not asked again until you change the configuration, or Sat 21 Nov, 10:10.", "It last worked Tue 17 Nov, 10:30.",
            ],
        ),
        (
            replace(LOGIN_REFUSED, failures=3, last_success=None, message=""),
            [
                "bad", "Refused by the portal again, Fri 20 Nov, 10:10",
                "Not asked again until you change the configuration, or Sat 21 Nov, 10:10.",
            ],
        ),
        (
            UNREACHABLE,
            [
                "bad", "The portal cannot be reached", "GET /mydata timed out after 30 s.",
                "It last worked Fri 20 Nov, 01:30 (9 h ago).", "Tried 4 times since.",
                "It is asked again Fri 20 Nov, 12:10 (in 2 h).",
            ],
        ),
        (replace(UNREACHABLE, reason="bug", failures=1, last_success=None, message="", next_visit=NOW), [
            "bad", "A bug in this program", "It is asked now."]),
        (replace(LOGIN_REFUSED, suspended_until=NOW - HOUR, next_visit=NOW), [
            "bad", "The portal rejected the login", "Second factor.", "It last worked Tue 17 Nov, 10:30 (3 days ago).",
            "It is asked now."]),
    ],
)  # fmt: skip
def test_health_in_words(state, texts):
    """
    What is wrong, since when, and what comes next.
    """
    found = summarize_health(state, PageClock(NOW, BRUSSELS))

    assert [found.level, *(text.replace("\u00a0", " ") for text in (found.headline, *found.lines))] == texts


def test_accounts(accounts):
    """
    Each account has its health, its visits, its notes and when its access ends; the title counts what is bad.
    """
    add_all_accounts(accounts)
    page = shown(accounts)
    account = page.select("section")[2]

    assert words(page.h1) == "home-power and block-of-flats need attention."
    assert words(page.title) == "(2) utility-exporter"
    assert [words(name) for name in page.find_all("h2")] == ["home-water", "home-power", "maison", "block-of-flats", "cabin"]
    assert [words(part) for part in account.select(".facts > div")] == [
        "Last visit Fri 20 Nov, 10:10 (20 min ago)", "Next visit Fri 20 Nov, 12:10 (in 2 h)",
        "New data Fri 20 Nov, 10:30 (just now)", "Access ends Wed 2 Dec, 10:30 (in 12 days)", "Readings kept 21",
        "History since Mon 2 Nov",
    ]  # fmt: skip
    assert words(account.select_one(".notes")) == (
        "Good to know the load curve is switched off: it must be allowed in the customer area"
    )
    assert words(page.select(".empty")[0]) == "Nothing is known of its meters yet."


def test_how_far_the_history_is(accounts):
    """
    An account says since when its history is known and what is missing, and shows with a bar how much is still being read.
    """
    accounts.add_account("home", build_leaking_meter())
    accounts.page.accounts["home"].health.history = HistoryStatus(34, 126, timedelta(minutes=13))
    page = shown(accounts)
    accounts.page.accounts["home"].health.history = HistoryStatus()

    assert "34 of about 160 requests, about 13 min left" in words(page)
    assert "History since Thu 12 Nov" in words(page)
    assert "reading older days" in words(page.select_one(".health.waiting .headline"))
    assert words(page.h1) == "1 meter needs attention."
    (bar,) = page.find_all("progress")
    assert (bar["max"], bar["value"]) == ("160", "34")
    assert shown(accounts).find_all("progress") == []


def test_nothing_personal_unless_it_is_allowed(accounts):
    """
    No address, no holder, no whole number of a point or meter; with `personal_data` all of them.
    """
    readings = [*build_water_meter(), *build_fluvius_meters(), Holder("Ada Example", "Example Works")]
    accounts.add_account("shy", readings)
    accounts.add_account("open", readings, personal_data=True)
    shy, frank = (words(shown(accounts, StatusQuery(account=name))) for name in ("shy", "open"))
    secrets = ("Antwerp", "Ada Example", "Example Works", "541448820000000042", "W123456", "7FLO2100000043")

    assert [secret for secret in secrets if secret in shy] == []
    assert [secret for secret in secrets if secret not in frank] == []


def test_a_hostile_name_is_text(accounts):
    """
    Whatever a portal calls its meters, or says, it is shown and never obeyed.
    """
    point = UsagePoint("1", Commodity.WATER, MALICIOUS_TEXT, MALICIOUS_TEXT, MALICIOUS_TEXT)
    readings = [Index(Register(point, Unit.M3, description=MALICIOUS_TEXT), 1.0, NOW), Note(MALICIOUS_TEXT)]
    accounts.add_account(MALICIOUS_TEXT, readings, replace(UNREACHABLE, message=MALICIOUS_TEXT))
    page = shown(accounts)

    assert not page.select("script, img, style, [style], [onerror], [onmouseover]")
    assert "<script>document.title" in words(page.h4)
    assert "\u202e" not in page.h4.get_text()


def test_a_big_account_has_several_pages(accounts):
    """
    Beside others an account shows its first meters; alone it shows one page, and the pages have every meter once.
    """
    accounts.add_account("block-of-flats", build_flats(130))
    accounts.add_account("home-water", build_water_meter())
    front = shown(accounts)
    pages = [shown(accounts, StatusQuery.from_query({"account": "block-of-flats", "sheet": str(number)})) for number in (1, 2, 3)]
    links = [[(words(a), a["href"]) for a in page.select(".pages a")] for page in pages]

    assert len(titles(front)) == 16
    assert words(front.select_one(".more")) == "All 130 usage points of block-of-flats"
    assert [len(titles(page)) for page in pages] == [TILES_PER_PAGE, TILES_PER_PAGE, 10]
    assert len({title for page in pages for title in titles(page)}) == 130
    assert links == [
        [("Next", "./?account=block-of-flats&sheet=2")],
        [("Back", "./?account=block-of-flats"), ("Next", "./?account=block-of-flats&sheet=3")],
        [("Back", "./?account=block-of-flats&sheet=2")],
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"search": "70007"}, ["Heat 70007"]),
        ({"search": "flat 2"}, ["Electricity 70008", "Heat 70007", "Meter 70009", "Water 70005", "Water 70006"]),
        ({"search": "HEAT"}, ["Heat 70002", "Heat 70007"]),
        ({"search": "<b>"}, []),
        ({"look": ""}, []),
        ({"sheet": "99", "search": "70007"}, ["Heat 70007"]),
        ({"sheet": "-1", "search": "70007"}, ["Heat 70007"]),
        ({"sheet": "²", "search": "70007"}, ["Heat 70007"]),
    ],
)
def test_finding_a_meter(accounts, query, found):
    """
    A word finds meters by number, site or kind; a strange query is no error.
    """
    accounts.add_account("block-of-flats", build_flats(10))

    assert titles(shown(accounts, StatusQuery.from_query({"account": "block-of-flats", **query}))) == found


def test_only_meters_that_need_attention(accounts):
    """
    One link away are the meters that want a look.
    """
    accounts.add_account("home-water", [*build_water_meter(), *build_leaking_meter()])

    assert titles(shown(accounts, StatusQuery.from_query({"account": "home-water", "look": ""}))) == ["Garden"]


def test_what_waits_is_amber(accounts):
    """
    An account without a meter, a meter that was never read, and older days that are being read are no fault, and not yet well.
    """
    accounts.add_account("empty", [])
    assert words(shown(accounts).h1) == "Waiting for the first readings."

    kitchen = build_water_meter()
    attic = UsagePoint("5", Commodity.WATER, name="Attic")
    accounts.add_account("home", [*kitchen, Inventory((kitchen[0].register.usage_point, attic))])
    page = shown(accounts, StatusQuery(account="home"))
    assert words(page.select_one(".health.waiting")) == "Working · visited 20 min ago · next 12:10 · 1 never read"
    assert meter(page, "Attic") == ["Attic", "Water · 5", "No reading yet", "Never read"]
    assert [words(flag) for flag in page.select(".flags .waiting")] == ["Never read"]

    accounts.add_account("garden", build_water_meter(7))
    accounts.page.accounts["garden"].health.history = HistoryStatus(1, 2)
    assert words(shown(accounts, StatusQuery(account="garden")).h1) == "Older days are being read."


def test_one_clock(accounts):
    """
    All instants are those of the time zone of most accounts, and the page names it; days are those of their own account.
    """
    accounts.add_account("home", build_water_meter())
    accounts.add_account("cabin", build_water_meter(7))
    accounts.add_account("far", build_water_meter(8, "Far away"), zone=ZoneInfo("America/New_York"))
    page = shown(accounts)

    assert {words(part) for part in page.select(".read time")} == {"Fri 20 Nov, 05:00"}
    assert "As of Fri 20 Nov, 10:30 . All times are those of Europe/Brussels." in words(page.footer)


def test_registers_go_by_their_kind(accounts):
    """
    Registers are named by their description or kind, and by their number only where two would have the same name.
    """
    point = UsagePoint("7", Commodity.ELECTRICITY, name="Cellar")
    kinds = {"801": "ELVT", "802": "ELNT", "803": "CO2", "804": "CO2"}
    accounts.add_account("a", [
        Index(Register(point, "ppm" if kind == "CO2" else Unit.KWH, name=name, kind=f"LB_POCTYP_{kind}"), 400.5, NOW)
        for name, kind in kinds.items()
    ])  # fmt: skip
    rows = BeautifulSoup(status(accounts).render_usage_point("a", "7"), "html.parser").find_all("tr")

    assert meter(shown(accounts), "Cellar")[2:6] == [
        "high tariff 400.500 kWh", "low tariff 400.500 kWh", "CO2 803 400.5 ppm", "CO2 804 400.5 ppm"
    ]  # fmt: skip
    assert [words(row) for row in rows][:2] == [f"{name} tariff 400.500 kWh Fri 20 Nov, 10:30" for name in ("high", "low")]


def test_the_peak_of_a_month_that_has_ended(accounts):
    """
    A peak in the last quarter-hour of October is October's, though it ends in November.
    """
    point = UsagePoint("1", Commodity.ELECTRICITY, name="House")
    start, end = parse_local("2026-10-01"), parse_local("2026-11-01")
    accounts.add_account("a", [*build_days(Register(point, Unit.KWH), 1.0), Peak(point, Unit.KW, start, end, 3.1, end)])

    assert "October's peak Sun 1 Nov, 00:00 3.10 kW" in meter(shown(accounts), "House")


def test_a_search_survives_the_refresh(accounts):
    """
    The page is asked for anew by its own address. Only a page that stands still has a field, so that nothing typed is lost;
    its form keeps the account, the text, and that the page stands still.
    """
    accounts.add_account("flats", build_flats(30))
    page = shown(accounts, StatusQuery.from_query({"account": "flats", "search": "heat"}))
    still = shown(accounts, StatusQuery.from_query({"account": "flats", "search": "heat", "still": ""}))

    assert page.select_one("meta[http-equiv=refresh]")["content"] == "60"
    assert not page.select("input")
    assert page.select_one(".find a")["href"] == "./?account=flats&search=heat&still=#f1"
    assert still.select_one("#f1")["name"] == "search"
    assert [(field["name"], field.get("value")) for field in still.select("form input")] == [
        ("account", "flats"), ("still", None), ("search", "heat")
    ]  # fmt: skip


def test_no_such_account(accounts):
    """
    An unknown account is reported.
    """
    accounts.add_account("home-water", build_water_meter())

    assert words(shown(accounts, StatusQuery(account="<b>")).h1) == "There is no such account."
    assert words(shown(SampleAccounts(accounts.ledger)).h1) == "No account yet."


def test_it_refreshes_itself_unless_static(accounts):
    """
    The page comes anew each minute; one link holds it still, another lets it go on.
    """
    moving, still = shown(accounts), shown(accounts, StatusQuery(is_static=True))

    assert moving.select_one("meta[http-equiv=refresh]")["content"] == "60"
    assert not still.select("meta[http-equiv=refresh]")
    assert [words(page.select("footer a")[-1]) for page in (moving, still)] == ["Stop refreshing", "Refresh each minute"]


def test_a_failed_reload_is_shown(accounts):
    """
    After a failed reload the page warns.
    """
    accounts.page.reload_status.record_failure()

    assert "Reload failed, keeping the previous configuration" in words(shown(accounts).select_one("[role=alert]"))


def test_call_budgets(accounts):
    """
    What an account may ask and has asked is shown, looked up once for each visit and minute.
    """
    accounts.add_account("maison", build_linky_meter(), portal="enedis")
    portal = SimpleNamespace(list_quotas=lambda: {"requests": (10000, timedelta(hours=1)), "days": (5, DAY)})
    asked = []

    def spent(account: str, budget: str, since: datetime) -> int:
        asked.append((account, budget, NOW - since))
        return 1234

    made = status(accounts, pollers=SimpleNamespace(get=lambda _: SimpleNamespace(portal=portal)), count_calls=spent)
    pages = [BeautifulSoup(made.render(StatusQuery()), "html.parser") for _ in range(3)]

    assert [words(part) for part in pages[2].select(".facts > div")[-2:]] == [
        "Calls, requests 1 234 of 10 000 per hour", "Calls, days 1 234 of 5 per 24 h"
    ]  # fmt: skip
    assert asked == [("maison", "requests", HOUR), ("maison", "days", DAY)]


def test_budgets_that_cannot_be_looked_up(accounts):
    """
    A ledger that is locked costs the budgets, not the page.
    """
    accounts.add_account("maison", build_linky_meter())

    def spent(*_: object) -> int:
        raise LedgerError("the ledger is locked")

    portal = SimpleNamespace(list_quotas=lambda: {"calls": (1, DAY)})
    pollers = SimpleNamespace(get=lambda _: SimpleNamespace(portal=portal))

    assert "Calls" not in words(shown(accounts, pollers=pollers, count_calls=spent))


def test_only_the_meters_that_are_shown_are_read(accounts, monkeypatch):
    """
    Of thousands of meters a request reads those it shows, from the ledger as it is at that moment; how old all others are is
    known without them.
    """
    read = []
    plain = AccountSampleReader.read_usage_points
    monkeypatch.setattr(
        AccountSampleReader, "read_usage_points", lambda *more: (more[1] and read.append(len(more[1]))) or plain(*more)
    )
    accounts.add_account("city", build_flats(400))
    accounts.add_account("garden", [*build_leaking_meter(), *build_water_meter()])
    page = status(accounts)
    first = words(BeautifulSoup(page.render(StatusQuery()), "html.parser"))
    late = BeautifulSoup(page.render(StatusQuery.from_query({"account": "garden", "look": ""})), "html.parser")
    accounts.now += 5 * DAY
    later = words(BeautifulSoup(page.render(StatusQuery()), "html.parser"))

    assert read == [15, 2, 1, 15, 2]
    assert "1 meter needs attention" in first
    assert titles(late) == ["Garden"]
    assert "402 meters need attention" in later


def test_december_is_compared_with_the_one_before(accounts):
    """
    The last month of a year has the same days of last year beside it, like any other.
    """
    accounts.now = parse_local("2026-12-10T09:00")
    register = Register(UsagePoint("1", Commodity.WATER), Unit.M3)
    days = [build_days(register, *[amount] * 31, until=until) for amount, until in ((0.2, "2025-12-31"), (0.3, "2026-12-09"))]
    accounts.add_account("home", [*days[0], *days[1]])

    assert "Same days of last year 50 % more" in words(shown(accounts).article)


def test_a_ledger_that_cannot_be_read(accounts):
    """
    A ledger that is locked costs the meters, not the page: health is shown all the same.
    """
    accounts.add_account("home-water", build_water_meter())

    def fail() -> Any:
        raise LedgerError("the ledger is locked")

    page = words(shown(accounts, open_snapshot=fail))

    assert "Working" in page
    assert "The ledger cannot be read now: the ledger is locked" in page


def test_thousands_of_meters(accounts):
    """
    5,000 usage points make a page no larger than its tiles.
    """
    accounts.add_account("city", build_flats(5000))
    accounts.add_account("home-water", build_water_meter())
    page = status(accounts)
    front, last = page.render(StatusQuery()), page.render(StatusQuery(account="city", page_number=84))

    assert b"2 accounts, 5\xe2\x80\xaf001 usage points" in front
    assert len(front) < 60_000
    assert titles(BeautifulSoup(last, "html.parser"))[-1] == "Water 74996"


async def test_over_http(accounts, monkeypatch):
    """
    The page is rendered off the event loop, compressed when accepted, and allows no script; its style is a file of its own.
    """
    accounts.add_account("home-water", build_water_meter())
    made = status(accounts, metrics_path="/a&b")
    threads = []
    plain = made.render
    monkeypatch.setattr(made, "render", lambda *more, **named: threads.append(threading.get_ident()) or plain(*more, **named))
    async with AsyncExitStack() as stack:
        app = make_app(WebContext(accounts.page, NoPollers(), status_page=made, telemetry_path="/a&b"))
        (at,) = await listen(app, [ListenAddress("127.0.0.1", 0)], stack)
        client = await stack.enter_async_context(aiohttp.ClientSession(f"http://{at}", auto_decompress=False))

        async def get(path: str, **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
            async with client.get(path, headers={"Accept-Encoding": "identity"} | headers) as answer:
                return answer, await answer.read()

        answer, body = await get("/?search=kit&sheet=1")
        zipped, packed = await get("/?search=kit&sheet=1", **{"Accept-Encoding": "gzip"})
        page = BeautifulSoup(body, "html.parser")
        linked = [await get("/" + link["href"]) for link in page.select("link")]

    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    assert threading.get_ident() not in threads
    assert (zipped.headers["Content-Encoding"], gzip.decompress(packed)) == ("gzip", body)
    assert [style.headers["Content-Type"] for style, _ in linked] == ["image/svg+xml", "text/css; charset=utf-8"]
    assert page.select("footer a")[0]["href"] == "a&b"


def test_the_colour_of_the_meters(accounts):
    """
    The meters have the colour that the configuration names, and the style a new address with it.
    """
    made = status(accounts)
    before = BeautifulSoup(made.render(StatusQuery()), "html.parser").select_one("link[rel=stylesheet]")["href"]
    made.set_meter_colour(Colour.parse("#204a87"))
    after = BeautifulSoup(made.render(StatusQuery()), "html.parser").select_one("link[rel=stylesheet]")["href"]

    assert b"--meter: #204a87;\n  --meter-text: #ffffff;" in made.theme.stylesheet
    assert before != after


@pytest.mark.parametrize("text", ["c8d42a", "#C8D42A", "fff", "808080", "777", "000", "ff0000", "0000ff"])
def test_ink_can_be_read_on_every_colour(text):
    """
    Black or white, whichever is on a meter, keeps the contrast of WCAG AA.
    """
    colour = Colour.parse(text)

    assert colour.contrast(colour.text_colour()) >= 4.5


@pytest.mark.parametrize("text", ["", "#", "yellow", "c8d42", "c8d42ag", "red;}", "##fff"])
def test_what_is_no_colour(text):
    """
    Anything else is refused, with the form.
    """
    with pytest.raises(ValueError, match="c8d42a"):
        Colour.parse(text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (format_index(104.25, Unit.M3), "104.250 m³"),
        (format_index(0, Unit.M3), "0.000 m³"),
        (format_index(41362.222222, Unit.KWH), "41 362.22 kWh"),
        (format_index(1234567.891, Unit.KWH), "1 234 567 kWh".replace("567", "568")),
        (format_index(7.08, Unit.KWH), "7.080 kWh"),
        (format_index(400.50, "ppm"), "400.5 ppm"),
        (format_index(400, "ppm"), "400 ppm"),
        (format_amount(-1.25, Unit.KWH), "−1.25 kWh"),
        (format_amount(-0.0001, Unit.KWH), "0.00 kWh"),
        (format_amount(12.3456, Unit.M3), "12.35 m³"),
        (format_amount(4321.5, Unit.KWH), "4 322 kWh"),
        (format_amount(20.55, Unit.CELSIUS), "20.6 °C"),
        (format_amount(44.7, "%"), "45 %"),
        (format_amount(0.4519, Unit.KW), "0.45 kW"),
        (format_amount(1e308, Unit.KWH), None),
    ],
)
def test_numbers(number, text):
    """
    Numbers have the digits that mean something, parted thousands, and their unit.
    """
    formatted = str(number).replace(THIN_SPACE, " ")

    assert formatted == text if text else formatted.endswith(" kWh")


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(minutes=89), "89 min ago"),
        (timedelta(minutes=119), "2 h ago"),
        (timedelta(hours=47), "47 h ago"),
        (timedelta(hours=49), "2 days ago"),
        (timedelta(days=729), "729 days ago"),
        (timedelta(minutes=-119), "in 2 h"),
        (timedelta(days=-1094), "in 3 years"),
    ],
)
def test_ages(distance, text):
    """
    An age has one unit, and is not cut down.
    """

    assert format_age(distance) == text


def test_instants_are_local():
    """
    Days change at local midnight, and another year is named.
    """
    at = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)

    assert format_instant(at, BRUSSELS, NOW).replace("\u00a0", " ") == "Fri 1 Jan 2027, 00:30"
    assert format_instant(parse_local("2026-11-20"), BRUSSELS, NOW).replace("\u00a0", " ") == "Fri 20 Nov, 00:00"


def test_spans():
    """
    The span of a budget, and how often an account is asked.
    """
    spans = (HOUR, DAY, 7 * DAY, timedelta(minutes=90), timedelta(minutes=1), timedelta(seconds=5))

    assert [format_duration(span) for span in spans] == ["hour", "24 h", "7 days", "90 min", "minute", "5 s"]
