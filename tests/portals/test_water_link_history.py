"""Water-Link's days as `serve` and `history import` read them: late ones, corrections, holes and older months."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pytest

from exporter.commands.history import ImportOptions, import_feeds
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.portals.water_link.account import WaterLink
from exporter.portals.water_link.config import WaterLinkConfig
from exporter.portals.water_link.parser import ZONE
from exporter.simulators.base import run_simulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation
from exporter.simulators.water_link.water_meter import WaterMeter
from exporter.visit import open_session
from tests.conftest import FakeClock
from tests.pollers import until

METER = "204417"
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LateMeter(WaterMeter):
    """A meter of which some days come when it is told."""

    late: dict[date, date] = field(default_factory=dict)

    def shown_at(self, day: date) -> datetime:
        return datetime.combine(self.late.get(day, day + DAY), time(12), ZONE)


@dataclass
class Home:
    """An account, its portal, and what is stored of it."""

    simulation: WaterLinkSimulation
    meter: LateMeter
    account: WaterLink
    ledger: Ledger
    page: MetricsPage
    watch: FakeClock
    poller: AccountPoller

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run the account as `serve` does."""
        task = asyncio.create_task(self.poller.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def serve(self, length: timedelta) -> None:
        """Serve for so long."""
        end = self.watch.at + length
        async with self.serving():
            await until(lambda: self.watch.at >= end, 60)

    async def import_days(self, first: date | None = None, last: date | None = None) -> None:
        async with open_session(self.account, self.ledger, self.watch.now) as session:
            await import_feeds(self.account, self.ledger, session, ImportOptions(first, last), oldest=None)

    def stored(self) -> dict[date, float]:
        with self.ledger.snapshot() as snapshot:
            line = next((line for line in snapshot.select_series("home-water") if line.resolution == "P1D"), None)
            far = datetime(2020, 1, 1, tzinfo=ZONE), datetime(2030, 1, 1, tzinfo=ZONE)
            kept = snapshot.select_readings(line.id, *far) if line else ()
            return {one.at.astimezone(ZONE).date(): round(one.value * 1000) for one in kept}

    def shown(self, first: date) -> dict[date, float]:
        """Return what the portal shows now of the days since the first."""
        today = self.watch.at.astimezone(ZONE).date()
        days = (first + number * DAY for number in range((today - first).days))
        return {day: litres for day in days if (litres := self.meter.get_shown_litres(day, self.watch.at)) is not None}

    def month_requests(self) -> list[str]:
        return [request.query["from"] for request in self.simulation.requests if "measurements" in request.path]


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    watch = FakeClock()
    simulation = WaterLinkSimulation(watch.now)
    meter = LateMeter(METER, "Verzonnenlaan 7", date(2026, 3, 20))
    simulation.meters = {METER: meter}  # type: ignore[dict-item]
    async with run_simulation(simulation) as url:
        account = WaterLink(WaterLinkConfig(**simulation.build_accounts(url)[0] | {"every": "6h"}))
        with Ledger(tmp_path) as ledger:
            page = MetricsPage(ledger, watch.now, "0")
            poller = AccountPoller(account, ledger, page, watch, lambda: 0.5)
            await poller.open()
            yield Home(simulation, meter, account, ledger, page, watch, poller)


async def test_a_first_start_has_the_year_within_two_minutes(home):
    """
    The running year is right, and the months before the meter was mounted are empty; no month is asked for twice.
    """
    await home.serve(timedelta(minutes=2))

    assert home.stored() == home.shown(home.meter.since)
    asked = home.month_requests()
    assert len(asked) == len(set(asked))


async def test_days_come_up_to_three_weeks_late_by_themselves(home):
    """
    Older than any look-back: each is stored on its own date within a day of its appearance.
    """
    today = home.watch.at.astimezone(ZONE).date()
    home.meter.late.update({today - number * DAY: today + (21 - number) * DAY for number in range(1, 8)})
    home.meter.late[today - 40 * DAY] = today + 10 * DAY
    await home.serve(timedelta(days=1))
    before = home.stored()
    await home.serve(timedelta(days=22))

    assert today - DAY not in before
    assert today - 40 * DAY not in before
    assert home.stored().items() >= {day: litres for day, litres in home.shown(home.meter.since).items() if day < today}.items()


async def test_a_corrected_day_arrives_within_two_weeks(home):
    """
    The third of each month is too low until the ninth.
    """
    home.watch.at = datetime(2026, 11, 4, 13, tzinfo=ZONE)
    await home.serve(timedelta(hours=1))
    before = home.stored()[date(2026, 11, 3)]
    await home.serve(timedelta(days=8))

    assert home.stored()[date(2026, 11, 3)] == home.meter.get_litres(date(2026, 11, 3)) > before


async def test_four_weeks_off_leave_no_hole(home):
    """
    The first visit after a long rest asks for what is missing, also over the turn of a month.
    """
    await home.serve(timedelta(hours=1))
    home.watch.at += timedelta(days=28)
    await home.serve(timedelta(minutes=2))

    assert home.stored() == home.shown(home.meter.since)


async def test_the_same_import_brings_what_was_missing_before(home):
    """
    Nothing is done for ever: a day that the portal did not have comes with the same command later; also with exact days.
    """
    today = home.watch.at.astimezone(ZONE).date()
    late = {today - 30 * DAY, today - 31 * DAY, today - 60 * DAY}
    home.meter.late.update(dict.fromkeys(late, today + 9 * DAY))
    await home.import_days()
    before = home.stored()
    home.watch.at += timedelta(days=10)
    await home.import_days(today - 60 * DAY, today - 60 * DAY)
    between = home.stored()
    await home.import_days()

    assert not late & before.keys()
    assert today - 60 * DAY in between
    assert home.stored() == home.shown(home.meter.since)


async def test_one_month_that_fails_leaves_the_others(home):
    """
    A month whose answer is not understood is asked for again after growing waits; the other months come meanwhile.
    """
    home.simulation.faults.add("from=2026-06-01", "garbage")
    await home.serve(timedelta(days=2))
    before, asked = home.stored(), home.month_requests().count("2026-06-01")
    notes = home.poller.state.notes
    home.simulation.faults.clear()
    await home.serve(timedelta(days=3))

    assert {day.month for day in before} == {3, 4, 5, 7, 8, 9, 10, 11}
    assert asked == 2
    assert notes == ("meters[0]: cannot parse the response for 2026-06-01 to 2026-06-30; it is requested again later",)
    assert home.stored() == home.shown(home.meter.since)


async def test_a_meter_of_which_nothing_comes_is_noted_after_a_day(home):
    """
    A wrong number that the portal answers all the same: the note names the entry and what to check.
    """
    home.simulation.meters[METER] = LateMeter(METER, "Verzonnenlaan 7", date(2027, 1, 1))
    await home.serve(timedelta(hours=1))
    before = home.poller.state.notes
    await home.serve(timedelta(days=2))

    note = "meters[0]: no days come: check its number, and whether the portal shows its days"
    assert note not in before
    assert note in home.poller.state.notes


async def test_a_quiet_day_costs_few_requests(home):
    """
    Four visits are four states, four new tokens and a few looks at the running month; the password was sent once for all days.
    """
    await home.serve(timedelta(days=3))
    home.simulation.requests.clear()
    await home.serve(timedelta(days=2))

    assert len(home.simulation.requests) / 2 <= 16
    assert 1 <= len(home.month_requests()) / 2 <= 8
    assert home.simulation.login_count == 1
