"""What was used, as pictures and as CSV: days, months, the same days of last year, from the ledger."""

import csv
import io
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import date, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from bs4 import BeautifulSoup

from exporter.ledger.ledger import Ledger
from exporter.models import Commodity, Direction, Index, Interval, Register, Unit, UsagePoint
from exporter.web.app import WebContext, make_app
from exporter.web.listen import ListenAddress, listen
from exporter.web.status.charts import BarValue, build_bar_chart, build_line_chart
from exporter.web.status.page import StatusPage, StatusQuery
from exporter.web.status.usage import DayUsage, compare_days, list_months
from tests.sample_accounts import BRUSSELS, SampleAccounts
from tests.test_status_page import NoPollers, words

POINT = UsagePoint("541448820000000042", Commodity.ELECTRICITY, name="Home", meter="1SAG0042")
DAY_RATE, NIGHT_RATE = (Register(POINT, Unit.KWH, name=name) for name in ("day", "night"))
INJECTION = Register(POINT, Unit.KWH, Direction.INJECTION)
HOLE = date(2026, 11, 10)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=BRUSSELS)


def day_interval(register: Register, day: date, amount: float) -> Interval:
    return Interval(register, midnight(day), midnight(day + timedelta(days=1)), amount)


def build_two_years() -> list[Interval]:
    """Return 2 + 1 kWh a day from 1 January 2025, 4 + 1 a day since 2026, one day of November missing."""
    days = [date(2025, 1, 1) + timedelta(days=number) for number in range(688)]
    return [
        interval
        for day in days
        if day != HOLE
        for interval in (
            day_interval(DAY_RATE, day, 2.0 if day.year == 2025 else 4.0),
            day_interval(NIGHT_RATE, day, 1.0),
            day_interval(INJECTION, day, 0.5),
        )
    ]


def read_csv(page: StatusPage, *asked: str) -> list[dict[str, str]]:
    parts = page.start_csv(*asked)
    assert parts is not None
    return list(csv.DictReader(io.StringIO(b"".join(parts).decode("utf-8-sig"))))


@pytest.fixture
def page(tmp_path: Path) -> Iterator[StatusPage]:
    with Ledger(tmp_path) as ledger:
        accounts = SampleAccounts(ledger)
        start = midnight(date(2026, 11, 19))
        curve = [
            Interval(DAY_RATE, start + timedelta(minutes=15 * n), start + timedelta(minutes=15 * n + 15), 0.25) for n in range(96)
        ]
        accounts.add_account("home", [*build_two_years(), *curve], aliases={POINT.id: "House"})
        yield StatusPage(accounts.page, NoPollers(), lambda: accounts.now, ledger.snapshot)


def test_a_tile_has_the_bars_of_thirty_days(page):
    """
    Each day has its bar with its date and amount, a missing day is a gap; the month is compared with the same days of last year.
    """
    tile = BeautifulSoup(page.render(StatusQuery()), "html.parser").article
    titles = [title.get_text() for title in tile.select("svg.chart title")]

    assert len(titles) == 29
    assert titles[-1] == "Thu 19 Nov: 5.00\u202fkWh"
    assert not [title for title in titles if "10 Nov" in title]
    assert "30 days, 29 of them known" in tile.select_one("svg.chart")["aria-label"]
    assert "Same days of last year 67 % more" in [words(row) for row in tile.select("dl > div")]


def test_the_page_of_a_usage_point(page):
    """
    Months beside the year before, days, both directions, the newest load curve, and since when the history is known.
    """
    html = BeautifulSoup(page.render_usage_point("home", "House"), "html.parser")
    rows = [words(row) for row in html.find_all("tr")]

    assert [words(title) for title in html.find_all("h2")] == ["Consumption in kWh", "Injection in kWh", "Load on Thu 19 Nov"]
    assert "November 2026, 1–19 90.00 kWh 1 day missing" in rows
    assert "October 2026 155.0 kWh +67 % on the year before" in rows
    assert "Tue 10 Nov – not known" in rows
    assert "Consumption in kWh since Wed 1 Jan 2025 1 day missing" in rows
    assert "1 day missing Tue 10 Nov" in rows
    assert html.polyline["points"].startswith("0.0,")
    assert "at most 1.00" in html.find_all("svg")[-1]["aria-label"]


def test_days_and_months_as_csv(page):
    """
    Days as they are; a month has an amount only if every day of it is known.
    """
    days, months = read_csv(page, "home", "House", "days"), read_csv(page, "home", "", "months")

    assert len(days) == 2 * 687
    assert days[0] == {
        "day": "2025-01-01", "usage_point": "House", "site": "", "name": "House", "direction": "consumption",
        "unit": "kWh", "amount": "3",
    }  # fmt: skip
    assert [row["month"] for row in months if row["direction"] == "consumption"][-1] == "2026-10"
    assert next(row["amount"] for row in months if row["direction"] == "injection") == "15.5"


def test_a_month_with_a_hole_as_csv(page):
    """
    A month that lacks days has no amount, and says how many are missing; the running one is not there.
    """
    months = {row["month"]: (row["amount"], row["missing_days"]) for row in read_csv(page, "home", "", "months")}
    page._clock = lambda: midnight(date(2026, 12, 1))  # a day has passed

    assert months["2026-10"] == ("15.5", "0")
    assert "2026-11" not in months
    later = {row["month"]: (row["amount"], row["missing_days"]) for row in read_csv(page, "home", "", "months")}
    assert later["2026-11"] == ("", "12")


def test_what_is_not_known(page):
    """
    An unknown account or usage point is none.
    """
    assert page.render_usage_point("home", "Nobody") is None
    assert page.render_usage_point("nobody", "House") is None
    assert page.start_csv("home", "Nobody", "days") is None
    assert page.start_csv("nobody", "", "days") is None


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\uff1d1"])
def test_names_are_no_formulas(tmp_path: Path, name: str):
    """
    A name from a portal that begins like a formula is text in a spreadsheet.
    """
    register = Register(UsagePoint("1", Commodity.WATER, name=name), Unit.M3)
    with Ledger(tmp_path) as ledger:
        accounts = SampleAccounts(ledger)
        accounts.add_account("home", [day_interval(register, date(2026, 11, 18), 1.5)])
        (row,) = read_csv(StatusPage(accounts.page, NoPollers(), lambda: accounts.now, ledger.snapshot), "home", "", "days")

    assert row["name"] == f"'{name}"


def test_bars():
    """
    Bars begin at zero; zero has a bar, what is not known has none; a year before stands beside.
    """
    chart = build_bar_chart([BarValue("a", 2.0), BarValue("b", None), BarValue("c", 0.0), BarValue("d", -1.0)], "what")
    paired = build_bar_chart([BarValue("a", 2.0, paler=4.0)], "what")

    assert [(bar.x, round(bar.y + bar.height, 2)) for bar in chart.bars] == [(1.0, 32.0), (21.0, 32.0), (31.0, 48.0)]
    assert [(bar.css_class, bar.height) for bar in paired.bars] == [("before", 48.0), ("whole", 24.0)]
    assert build_bar_chart([BarValue("a", None)], "what") is None
    assert build_line_chart([], 10, "what") is None


def test_sums():
    """
    Only days that both years have are compared; a month counts what is missing up to its latest known day.
    """
    days = {date(2025, 3, 1): 1.0, date(2026, 3, 1): 2.0, date(2026, 3, 2): 5.0, date(2024, 2, 29): 1.0}
    usage = DayUsage("consumption", "kWh", days)
    (march,) = list_months(usage, date(2026, 3, 3), 1)

    assert compare_days(usage, date(2026, 3, 1), date(2026, 3, 3)) == 1.0
    assert compare_days(usage, date(2026, 3, 2), date(2026, 3, 3)) is None
    assert (march.value, march.year_before, march.missing) == (7.0, 1.0, 1)


ONLY_INDEX, ONLY_INJECTION = (UsagePoint(number, Commodity.ELECTRICITY, name=f"<b>{number}</b>") for number in ("2", "3"))


async def test_odd_usage_points_over_http(tmp_path: Path):
    """
    Without days there are registers; without consumption there is injection; names are text; the unknown is a page with 404.
    """
    async with AsyncExitStack() as stack:
        accounts = SampleAccounts(stack.enter_context(Ledger(tmp_path)))
        injection = Register(ONLY_INJECTION, Unit.KWH, Direction.INJECTION)
        day = midnight(date(2026, 11, 19))
        quarter = Interval(injection, day, day + timedelta(minutes=15), 0.5)
        index = Index(Register(ONLY_INDEX, Unit.KWH, description="<i>night</i>"), 41716.94444, day)
        accounts.add_account("ho/me", [index, day_interval(injection, date(2026, 11, 19), 2.0), quarter])
        status = StatusPage(accounts.page, NoPollers(), lambda: accounts.now, accounts.ledger.snapshot)
        app = make_app(WebContext(accounts.page, NoPollers(), status_page=status))
        (at,) = await listen(app, [ListenAddress("127.0.0.1", 0)], stack)
        client = await stack.enter_async_context(aiohttp.ClientSession(f"http://{at}"))

        async def get(path: str, **query: str) -> tuple[aiohttp.ClientResponse, str]:
            async with client.get(path, params=query) as answer:
                return answer, await answer.text()

        _, only_index = await get("/usage-point", account="ho/me", usage_point="2")
        _, only_injection = await get("/usage-point", account="ho/me", usage_point="3")
        table, rows = await get("/usage-point.csv", account="ho/me", usage_point="3")
        unknown, missing = await get("/usage-point", account="ho/me", usage_point="4")
        no_table, _ = await get("/usage-point.csv", account="nobody")
        wrong, _ = await get("/usage-point.csv", account="ho/me", by="weeks")

    assert "<i>night</i> 41 716.94 kWh Thu 19 Nov, 00:00" in words(BeautifulSoup(only_index, "html.parser").table)
    assert "No day is known yet." in only_index
    assert [words(title) for title in BeautifulSoup(only_injection, "html.parser").find_all(["h1", "h2"])] == [
        "<b>3</b>", "Injection in kWh", "Injected load on Thu 19 Nov"
    ]  # fmt: skip
    assert table.headers["Content-Disposition"] == "attachment; filename=\"days.csv\"; filename*=UTF-8''ho%2Fme-3-days.csv"
    assert rows.removeprefix("\ufeff").splitlines()[1] == "2026-11-19,3,,<b>3</b>,injection,kWh,2"
    assert [answer.status for answer in (unknown, no_table, wrong)] == [404, 404, 400]
    assert "There is no such usage point." in missing
    assert "script" not in unknown.headers["Content-Security-Policy"]
