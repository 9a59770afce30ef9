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

import aiohttp
import pytest
from bs4 import BeautifulSoup, Tag

from exporter import status as status_module
from exporter.colour import Colour
from exporter.errors import LedgerError
from exporter.ledger import AccountState, Ledger
from exporter.model import Commodity, Holder, Index, Note, Register, Unit, UsagePoint
from exporter.server import Address, Face, listen, make_app
from exporter.status import SHEET, Asked, Status
from exporter.status.words import THIN, age, amount, health, index, instant, length
from tests.street import (
    BRUSSELS,
    DAY,
    HOSTILE,
    HOUR,
    NOW,
    REFUSED,
    SILENT,
    WELL,
    Street,
    days,
    flats,
    flemish,
    leak,
    linky,
    local,
    water,
    whole,
)


class NoPollers:
    def of(self, _: str) -> None:
        return None


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with Ledger(tmp_path) as ledger:
        yield Street(ledger)


def status(street: Street, **more: Any) -> Status:
    return Status(street.page, more.pop("pollers", NoPollers()), lambda: street.now, version="1.2.3", **more)


def shown(street: Street, asked: Asked | None = None, **more: Any) -> BeautifulSoup:
    return BeautifulSoup(status(street, **more).render(asked or Asked()), "html.parser")


def words(part: Tag | BeautifulSoup) -> str:
    """Give a part's text, its spaces all alike."""
    return " ".join(part.get_text(" ").replace("\u2060", "").split())


def meter(page: BeautifulSoup, title: str) -> list[str]:
    """Give title, what it is, lines of the screen, flags, rows, and when it was read."""
    (tile,) = [part for part in page.find_all("article") if words(part.h4) == title]
    parts = tile.select("h4, .about, .line, .flags li, dl > div, .read")
    return [words(part).replace(" .", ".") for part in parts if words(part)]


def titles(page: BeautifulSoup) -> list[str]:
    return [words(title) for title in page.find_all("h4")]


def test_a_water_meter(street):
    """
    Index to the litre, the latest day by its date, the month up to it, and when it was read, all in the account's time.
    """
    street.account("home-water", water())

    assert meter(shown(street), "Kitchen") == [
        "Kitchen", "Water · …3456", "104.250 m³", "Yesterday, Thu 19 Nov 0.219 m³", "1–19 November 4.479 m³",
        "Read Fri 20 Nov, 05:00 6 h ago",
    ]  # fmt: skip


def test_a_meter_that_wants_a_look(street):
    """
    Flags and lateness are said in words; a day that is not yesterday is only named by its date.
    """
    street.account("home-water", leak(), aliases={"123457": "Garden tap"})

    page = shown(street)
    assert meter(page, "Garden tap") == [
        "Garden tap", "Water · Garden · meter …3457", "88.013 m³", "Unusual consumption", "Flow is limited", "Not up to date",
        "Late", "Sat 14 Nov 1.800 m³", "1–14 November 3.100 m³", "Read Sun 15 Nov, 05:00 5 days ago",
    ]  # fmt: skip
    assert words(page.h1) == "1 meter wants a look."


def test_what_is_late_is_the_portals_word(street):
    """
    A reading of five days ago is not late where the portal takes a week.
    """
    street.account("home-water", leak(), patience={Commodity.WATER: timedelta(days=7)})

    assert not shown(street).find_all(string="Late")


def test_meters_without_an_index(street):
    """
    Without an index the load is on the screen, and without that the latest day; all registers are taken together.
    """
    street.account("home-power", flemish(), aliases={"541448820000000042": "House"})
    page = shown(street)

    assert meter(page, "House") == [
        "House", "Electricity · meter …0042", "Load 0.45 kW", "Load, fed in 0.00 kW", "Yesterday, Thu 19 Nov 6.50 kWh",
        "fed in 2.17 kWh", "1–19 November 120.0 kWh", "fed in 40.00 kWh", "Month's peak Wed 11 Nov, 18:00 3.72 kW",
        "Average peak 2 months 3.40 kW", "Read Fri 20 Nov, 09:15 75 min ago",
    ]  # fmt: skip
    assert meter(page, "Gas …0043") == [
        "Gas …0043", "Yesterday, Thu 19 Nov 28.77 kWh", "2.502 m³", "1–19 November 59.97 kWh · 5.212 m³",
        "Read Fri 20 Nov, 00:00 10 h ago",
    ]  # fmt: skip


def test_a_linky(street):
    """
    Registers go by their description; peak and contract are said.
    """
    street.account("maison", linky())

    assert meter(shown(street), "Electricity …0123")[1:] == [
        "Heures creuses 18 034.21 kWh", "Heures pleines 40 210.91 kWh", "Yesterday, Thu 19 Nov 14.02 kWh",
        "1–19 November 218.0 kWh", "Day's peak Thu 19 Nov, 19:12 5.42 kVA", "Subscribed 9 kVA", "Read Fri 20 Nov, 00:00 10 h ago",
    ]  # fmt: skip


def test_a_month_with_holes(street):
    """
    A sum that lacks days says so.
    """
    register = Register(UsagePoint("1", Commodity.WATER, name="Hall"), Unit.M3)
    street.account("a", [*days(register, 1.0, until="2026-11-16"), *days(register, 1.0)])

    assert "1–19 November 2 days missing 2.000 m³" in meter(shown(street), "Hall")


def test_many_registers(street):
    """
    A screen has four lines, and says how many more there are.
    """
    point = UsagePoint("7", Commodity.OTHER, name="Cellar")
    street.account("a", [Index(Register(point, "ppm", name=f"8000{number}"), 400.5, NOW) for number in range(6)])

    assert meter(shown(street), "Cellar")[1:-1] == [
        "Meter · 7",
        *(f"8000{number} 400.5 ppm" for number in range(4)),
        "and 2 more",
    ]


def test_places_in_their_order(street):
    """
    Meters stand under their site, flat 9 before flat 10.
    """
    street.account("block-of-flats", flats(20, each=2))
    page = shown(street, Asked(account="block-of-flats"))

    assert [words(site) for site in page.select("h3.site")] == [f"Flat {number}" for number in range(1, 11)]
    assert titles(page)[:2] == ["Water 70000", "Water 70001"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (AccountState(), ["waiting", "Not visited yet", "It is asked now."]),
        (AccountState(next_visit=NOW + HOUR), ["waiting", "Not visited yet", "It is asked again Fri 20 Nov, 11:30 (in 60 min)."]),
        (WELL, ["good", "Working", "Asked every 2 h."]),
        (
            REFUSED,
            [
                "bad", "Refused by the portal since Fri 20 Nov, 10:10", "Second factor.",
                "Not asked again until you change the configuration, or Sat 21 Nov, 10:10.", "It last worked Tue 17 Nov, 10:30.",
            ],
        ),
        (
            replace(REFUSED, failures=3, last_success=None, message=""),
            [
                "bad", "Refused by the portal again, Fri 20 Nov, 10:10",
                "Not asked again until you change the configuration, or Sat 21 Nov, 10:10.",
            ],
        ),
        (
            SILENT,
            [
                "bad", "The portal cannot be reached", "GET /mydata did not answer within 30 s.",
                "It last worked Fri 20 Nov, 01:30 (9 h ago).", "Tried 4 times since.",
                "It is asked again Fri 20 Nov, 12:10 (in 2 h).",
            ],
        ),
        (replace(SILENT, reason="bug", failures=1, last_success=None, message="", next_visit=NOW), [
            "bad", "A bug in this program", "It is asked now."]),
        (replace(REFUSED, suspended_until=NOW - HOUR, next_visit=NOW), [
            "bad", "The portal refuses the login", "Second factor.", "It last worked Tue 17 Nov, 10:30 (3 days ago).",
            "It is asked now."]),
    ],
)  # fmt: skip
def test_health_in_words(state, said):
    """
    What is wrong, since when, and what comes next.
    """
    found = health(state, timedelta(hours=2), NOW, BRUSSELS)

    assert [found.kind, *(text.replace("\u00a0", " ") for text in (found.headline, *found.lines))] == said


def test_accounts(street):
    """
    Each account has its health, its visits, its notes and when its access ends; the title counts what is bad.
    """
    whole(street)
    page = shown(street)
    account = page.select("section")[2]

    assert words(page.h1) == "home-power and block-of-flats want a look."
    assert words(page.title) == "(2) utility-exporter"
    assert [words(name) for name in page.find_all("h2")] == ["home-water", "home-power", "maison", "block-of-flats", "cabin"]
    assert [words(part) for part in account.select(".facts > div")] == [
        "Last visit Fri 20 Nov, 10:10 (20 min ago)", "Next visit Fri 20 Nov, 12:10 (in 2 h)",
        "New data Fri 20 Nov, 10:30 (just now)", "Access ends Wed 2 Dec, 10:30 (in 12 days)", "Readings kept 21",
    ]  # fmt: skip
    assert words(account.select_one(".notes")) == (
        "Good to know the load curve is switched off: it must be allowed in the customer area"
    )
    assert words(page.select(".empty")[0]) == "Nothing is known of its meters yet."


def test_nothing_personal_unless_it_is_allowed(street):
    """
    No address, no holder, no whole number of a point or meter; with `personal_data` all of them.
    """
    told = [*water(), *flemish(), Holder("Ada Example", "Example Works")]
    street.account("shy", told)
    street.account("open", told, personal=True)
    shy, frank = (words(shown(street, Asked(account=name))) for name in ("shy", "open"))
    secrets = ("Antwerp", "Ada Example", "Example Works", "541448820000000042", "W123456", "7FLO2100000043")

    assert [secret for secret in secrets if secret in shy] == []
    assert [secret for secret in secrets if secret not in frank] == []


def test_a_hostile_name_is_text(street):
    """
    Whatever a portal calls its meters, or says, it is shown and never obeyed.
    """
    point = UsagePoint("1", Commodity.WATER, HOSTILE, HOSTILE, HOSTILE)
    told = [Index(Register(point, Unit.M3, description=HOSTILE), 1.0, NOW), Note(HOSTILE)]
    street.account(HOSTILE, told, replace(SILENT, message=HOSTILE))
    page = shown(street)

    assert not page.select("script, img, style, [style], [onerror], [onmouseover]")
    assert "<script>document.title" in words(page.h4)
    assert "\u202e" not in page.h4.get_text()


def test_a_big_account_is_shown_in_sheets(street):
    """
    Beside others an account shows its first meters; alone it shows a sheet, and the sheets hold every meter once.
    """
    street.account("block-of-flats", flats(130))
    street.account("home-water", water())
    front = shown(street)
    sheets = [shown(street, Asked.of({"account": "block-of-flats", "sheet": str(number)})) for number in (1, 2, 3)]
    links = [[(words(a), a["href"]) for a in sheet.select(".sheets a")] for sheet in sheets]

    assert len(titles(front)) == 16
    assert words(front.select_one(".more")) == "All 130 usage points of block-of-flats"
    assert [len(titles(sheet)) for sheet in sheets] == [SHEET, SHEET, 10]
    assert len({title for sheet in sheets for title in titles(sheet)}) == 130
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
def test_finding_a_meter(street, query, found):
    """
    A word finds meters by number, site or kind; a strange query is no error.
    """
    street.account("block-of-flats", flats(10))

    assert titles(shown(street, Asked.of({"account": "block-of-flats", **query}))) == found


def test_only_what_wants_a_look(street):
    """
    One link away are the meters that want a look.
    """
    street.account("home-water", [*water(), *leak()])

    assert titles(shown(street, Asked.of({"account": "home-water", "look": ""}))) == ["Garden"]


def test_no_such_account(street):
    """
    An account that is not there is said to be none.
    """
    street.account("home-water", water())

    assert words(shown(street, Asked(account="<b>")).h1) == "There is no such account."
    assert words(shown(Street(street.ledger)).h1) == "No account yet."


def test_it_refreshes_itself_until_told_not_to(street):
    """
    The page comes anew each minute; one link holds it still, another lets it go on.
    """
    moving, still = shown(street), shown(street, Asked(still=True))

    assert moving.select_one("meta[http-equiv=refresh]")["content"] == "60"
    assert not still.select("meta[http-equiv=refresh]")
    assert [words(page.select("footer a")[-1]) for page in (moving, still)] == ["Hold still", "Refresh each minute"]


def test_a_broken_configuration_is_said(street):
    """
    After a failed reload the page warns.
    """
    street.page.reload_successful = False

    assert "cannot be read: the one before stays in force" in words(shown(street).select_one("[role=alert]"))


def test_call_budgets(street):
    """
    What an account may ask and has asked is shown, looked up once for each visit and minute.
    """
    street.account("maison", linky(), portal="enedis")
    portal = SimpleNamespace(budgets=lambda: {"requests": (10000, timedelta(hours=1)), "days": (5, DAY)})
    asked = []

    def spent(account: str, budget: str, since: datetime) -> int:
        asked.append((account, budget, NOW - since))
        return 1234

    made = status(street, pollers=SimpleNamespace(of=lambda _: SimpleNamespace(portal=portal)), spent=spent)
    pages = [BeautifulSoup(made.render(Asked()), "html.parser") for _ in range(3)]

    assert [words(part) for part in pages[2].select(".facts > div")[-2:]] == [
        "Calls, requests 1 234 of 10 000 per hour", "Calls, days 1 234 of 5 per 24 h"
    ]  # fmt: skip
    assert asked == [("maison", "requests", HOUR), ("maison", "days", DAY)]


def test_budgets_that_cannot_be_looked_up(street):
    """
    A ledger that is locked costs the budgets, not the page.
    """
    street.account("maison", linky())

    def spent(*_: object) -> int:
        raise LedgerError("the ledger is locked")

    portal = SimpleNamespace(budgets=lambda: {"calls": (1, DAY)})
    pollers = SimpleNamespace(of=lambda _: SimpleNamespace(portal=portal))

    assert "Calls" not in words(shown(street, pollers=pollers, spent=spent))


def test_meters_are_kept_until_readings_change(street, monkeypatch):
    """
    Meters are gathered anew after a visit and at the end of the day, not for each request; ages move all the same.
    """
    made = []
    plain = status_module.Shelf
    monkeypatch.setattr(status_module, "Shelf", lambda part, now: made.append(now) or plain(part, now))
    street.account("home-water", water())
    page = status(street)
    page.render(Asked())
    street.now += 2 * HOUR
    assert "8 h ago" in words(BeautifulSoup(page.render(Asked()), "html.parser"))
    assert len(made) == 1
    street.page.refresh("home-water")
    page.render(Asked())
    assert len(made) == 2
    street.now += DAY
    assert "Thu 19 Nov" in meter(BeautifulSoup(page.render(Asked()), "html.parser"), "Kitchen")[3]
    assert len(made) == 3


def test_thousands_of_meters(street):
    """
    5,000 usage points make a page no larger than its sheets.
    """
    street.account("city", flats(5000))
    street.account("home-water", water())
    page = status(street)
    front, sheet = page.render(Asked()), page.render(Asked(account="city", sheet=84))

    assert b"2 accounts, 5\xe2\x80\xaf001 usage points" in front
    assert len(front) < 60_000
    assert titles(BeautifulSoup(sheet, "html.parser"))[-1] == "Water 74996"


async def test_over_http(street, monkeypatch):
    """
    The page is made off the event loop, zipped when that is taken, and allows no script; its style comes beside it.
    """
    street.account("home-water", water())
    made = status(street, metrics="/a&b")
    threads = []
    plain = made.render
    monkeypatch.setattr(made, "render", lambda *more, **named: threads.append(threading.get_ident()) or plain(*more, **named))
    async with AsyncExitStack() as stack:
        app = make_app(Face(street.page, NoPollers(), status=made, telemetry_path="/a&b"))
        (at,) = await listen(app, [Address("127.0.0.1", 0)], stack)
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


def test_the_colour_of_the_faces(street):
    """
    The faces have the colour that the configuration names, and the style a new address with it.
    """
    made = status(street)
    before = BeautifulSoup(made.render(Asked()), "html.parser").select_one("link[rel=stylesheet]")["href"]
    made.paint(Colour.parse("#204a87"))
    after = BeautifulSoup(made.render(Asked()), "html.parser").select_one("link[rel=stylesheet]")["href"]

    assert b"--face: #204a87;\n  --ink: #ffffff;" in made.dress.style
    assert before != after


@pytest.mark.parametrize("text", ["c8d42a", "#C8D42A", "fff", "808080", "777", "000", "ff0000", "0000ff"])
def test_ink_can_be_read_on_every_colour(text):
    """
    Black or white, whichever is on a face, keeps the contrast of WCAG AA.
    """
    colour = Colour.parse(text)

    assert colour.contrast(colour.ink()) >= 4.5


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
        (index(104.25, Unit.M3), "104.250 m³"),
        (index(0, Unit.M3), "0.000 m³"),
        (index(41362.222222, Unit.KWH), "41 362.22 kWh"),
        (index(1234567.891, Unit.KWH), "1 234 567 kWh".replace("567", "568")),
        (index(7.08, Unit.KWH), "7.080 kWh"),
        (index(400.50, "ppm"), "400.5 ppm"),
        (index(400, "ppm"), "400 ppm"),
        (amount(-1.25, Unit.KWH), "−1.25 kWh"),
        (amount(-0.0001, Unit.KWH), "0.00 kWh"),
        (amount(12.3456, Unit.M3), "12.35 m³"),
        (amount(4321.5, Unit.KWH), "4 322 kWh"),
        (amount(20.55, Unit.CELSIUS), "20.6 °C"),
        (amount(44.7, "%"), "45 %"),
        (amount(0.4519, Unit.KW), "0.45 kW"),
        (amount(1e308, Unit.KWH), None),
    ],
)
def test_numbers(number, text):
    """
    Numbers have the digits that mean something, parted thousands, and their unit.
    """
    said = str(number).replace(THIN, " ")

    assert said == text if text else said.endswith(" kWh")


@pytest.mark.parametrize(
    ("distance", "said"),
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
def test_ages(distance, said):
    """
    An age has one unit, and is not cut down.
    """

    assert age(distance) == said


def test_instants_are_local():
    """
    Days change at local midnight, and another year is named.
    """
    at = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)

    assert instant(at, BRUSSELS, NOW).replace("\u00a0", " ") == "Fri 1 Jan 2027, 00:30"
    assert instant(local("2026-11-20"), BRUSSELS, NOW).replace("\u00a0", " ") == "Fri 20 Nov, 00:00"


def test_spans():
    """
    The span of a budget, and how often an account is asked.
    """
    spans = (HOUR, DAY, 7 * DAY, timedelta(minutes=90), timedelta(minutes=1), timedelta(seconds=5))

    assert [length(span) for span in spans] == ["hour", "24 h", "7 days", "90 min", "minute", "5 s"]
