"""Retention: index readings are thinned to the last one of each local day, in small steps; nothing else changes."""

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.account_status import AccountHealth, AccountView
from exporter.ledger.account_state import AccountState
from exporter.ledger.database import LEDGER_FILE, from_ms
from exporter.ledger.ledger import Ledger
from exporter.ledger.maintenance import STARTUP_DELAY, MaintenanceTask, run_maintenance, wait_for_steady_clock
from exporter.ledger.migrations import MIGRATIONS
from exporter.ledger.retention import select_superfluous
from exporter.metrics.cache import MetricsPage
from exporter.models import Commodity, Index, Interval, Peak, Register, Unit, UsagePoint
from exporter.sync.feeds import FeedResult
from tests.conftest import NOW, FakeClock
from tests.visit_parts import VisitPart, build_result

ZONE = ZoneInfo("Europe/Brussels")
POINT = UsagePoint("P-1", Commodity.WATER)
WATER = Register(POINT, Unit.M3)
LATER = NOW + timedelta(days=6)
"""When NOW is on the seventh newest day with a visit."""
YEAR = timedelta(days=365)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as opened:
        opened.open_account("home", portal="brook", zone=ZONE.key, login="")
        record_visits(opened)
        yield opened


def record_visits(ledger: Ledger, days: int = 7, until: datetime = LATER) -> None:
    """Record a visit with a peak on each of so many days."""
    for ago in reversed(range(days)):
        at = until - timedelta(days=ago)
        peak = Peak(POINT, Unit.KW, at - timedelta(hours=1), at, 1.0, at - timedelta(minutes=15))
        ledger.record_visit("home", build_result([peak]), AccountState(), at=at)


def record(ledger: Ledger, *parts: VisitPart):
    return ledger.record_visit("home", build_result(parts), AccountState(), at=NOW)[0]


def build_hours(first_day: int, days: int, register: Register = WATER) -> list[Index]:
    """Return an index for each hour from local midnight `first_day` days ago on, for some days."""
    start = datetime.combine(NOW.astimezone(ZONE).date() - timedelta(days=first_day), datetime.min.time(), ZONE).astimezone(UTC)
    return [Index(register, float(n), start + timedelta(hours=n)) for n in range(24 * days)]


def list_instants(ledger: Ledger, form: str = "index") -> list[datetime]:
    with ledger.snapshot() as snapshot:
        lines = [line for line in snapshot.select_series() if line.form == form]
        return [
            reading.at for line in lines for reading in snapshot.select_readings(line.id, datetime(1980, 1, 1, tzinfo=UTC), NOW)
        ]


async def test_old_readings_are_thinned(ledger):
    """
    Of days 90 and more days ago only the last reading stays; newer days are unchanged.
    """
    readings = build_hours(93, 6)
    record(ledger, *readings)
    await run_maintenance(ledger, FakeClock(LATER), 90)
    days = [at.astimezone(ZONE).date() for at in list_instants(ledger)]

    assert [days.count(day) for day in sorted(set(days))] == [1, 1, 1, 24, 24, 24]
    assert list_instants(ledger)[:3] == [readings[position].at for position in (23, 47, 71)]
    assert (ledger.get_state("home").readings, ledger.get_state("home").thinned) == (75 + 7, 69)


async def test_nothing_else_is_thinned(ledger):
    """
    Intervals of any age stay; with 0 days everything stays.
    """
    start = NOW - timedelta(days=400)
    record(
        ledger, *(Interval(WATER, start + n * timedelta(hours=1), start + (n + 1) * timedelta(hours=1), 1.0) for n in range(48))
    )
    record(ledger, *build_hours(300, 2))
    await run_maintenance(ledger, FakeClock(LATER), 0)
    assert len(list_instants(ledger)) == 48
    await run_maintenance(ledger, FakeClock(LATER), 90)

    assert (len(list_instants(ledger, "interval")), len(list_instants(ledger))) == (48, 2)


@given(st.lists(st.integers(0, 4 * 365 * 24 * 60), unique=True), st.sampled_from(["Europe/Brussels", "UTC", "Asia/Kathmandu"]))
def test_the_last_of_a_day_never_goes(minutes, zone):
    """
    Whatever the zone and its clock changes: of each local day with a reading exactly the last one stays.
    """
    ats = [1_700_000_000_000 + minute * 60_000 for minute in sorted(minutes)]
    last = {from_ms(at).astimezone(ZoneInfo(zone)).date(): at for at in ats}

    assert sorted({*ats} - {*select_superfluous(ats, ZoneInfo(zone))}) == sorted(last.values())


@pytest.mark.parametrize("portal_too", [False, True], ids=["ours", "ours-and-the-portals"])
@pytest.mark.parametrize("days_wrong", [1, 6])
async def test_a_clock_a_year_ahead_destroys_nothing(ledger, portal_too, days_wrong):
    """
    A year ahead for up to six days of visits: no reading of the last 90 days is deleted, then or once the clock is right again,
    whether the portal's clock is right or not.
    """
    readings = build_hours(84, 84)
    record(ledger, *readings)
    for number in range(days_wrong):
        wrong = LATER + YEAR + timedelta(days=number)
        reading = Index(WATER, 5000.0 + number, wrong if portal_too else LATER + timedelta(minutes=number))
        ledger.record_visit("home", build_result([reading]), AccountState(), at=wrong)
        await run_maintenance(ledger, FakeClock(wrong), 90)
    await run_maintenance(ledger, FakeClock(LATER), 90)

    assert set(list_instants(ledger)) >= {reading.at for reading in readings if reading.at <= NOW}
    assert ledger.get_state("home").thinned == 0


async def test_a_clock_that_is_wrong_for_weeks_is_not_believed_against_the_portal(ledger):
    """
    However long our clock is a year ahead: while the portal returns no newer readings, none count as old.
    """
    readings = build_hours(84, 84)
    record(ledger, *readings)
    record_visits(ledger, 30, LATER + YEAR)
    with ledger.database.write() as db:
        db.execute("DELETE FROM reading WHERE at > ?", (LATER.timestamp() * 1000,))
    await run_maintenance(ledger, FakeClock(LATER + YEAR), 90)

    assert ledger.get_state("home").thinned == 0


async def test_visits_of_few_days_thin_nothing(tmp_path):
    """
    Before there were visits on seven days nothing shows that the clock is right.
    """
    with Ledger(tmp_path) as ledger:
        ledger.open_account("home", portal="brook", zone=ZONE.key, login="")
        record_visits(ledger, 5)
        record(ledger, *build_hours(200, 2))  # on a sixth day
        await run_maintenance(ledger, FakeClock(LATER), 90)
        assert ledger.get_state("home").thinned == 0
        record_visits(ledger, 7)
        await run_maintenance(ledger, FakeClock(LATER), 90)

        assert ledger.get_state("home").thinned == 46


@pytest.mark.parametrize("jump", [YEAR, -YEAR, timedelta(hours=1), timedelta(minutes=-2)])
async def test_an_hour_of_a_steady_clock_comes_first(jump):
    """
    Nothing is deleted in the first hour after a start, nor in the first hour after the clock was set.
    """

    def set_clock() -> None:
        if len(jumped.slept) == 7:
            jumped.at += jump

    even, jumped = FakeClock(), FakeClock(on_sleep=set_clock)
    await wait_for_steady_clock(even)
    await wait_for_steady_clock(jumped)

    assert sum(even.slept, timedelta(0)) == STARTUP_DELAY == timedelta(hours=1)
    assert sum(jumped.slept, timedelta(0)) == timedelta(minutes=35) + STARTUP_DELAY


async def test_maintenance_runs_after_an_hour(ledger, monkeypatch):
    """
    The maintenance runs an hour after the start, and then each day.
    """
    begun, done = [], asyncio.Event()

    async def run(*_: object) -> None:
        begun.append(sum(clock.slept, timedelta(0)))
        if len(begun) == 3:
            done.set()
            await asyncio.Event().wait()

    clock = FakeClock()
    monkeypatch.setattr("exporter.ledger.maintenance.run_maintenance", run)
    task = MaintenanceTask(ledger, clock)
    task.configure(90)
    async with asyncio.timeout(5):
        await done.wait()
    await task.stop()

    assert begun == [timedelta(hours=1), timedelta(hours=25), timedelta(hours=49)]


async def test_a_clock_a_year_ahead_loses_no_spending(ledger):
    """
    Calls of today still count after a call, and a maintenance, by a clock a year ahead; those of eight days ago are deleted.
    """
    store = ledger.get_account_store("home")
    for ago in reversed(range(20)):
        await store.record_calls("calls", NOW - timedelta(days=ago), 5)
    await store.record_calls("calls", NOW + YEAR, 2)
    await run_maintenance(ledger, FakeClock(NOW + YEAR), 90)
    assert await store.count_calls("calls", NOW - timedelta(hours=12)) == 5 + 2
    assert await store.count_calls("calls", NOW - timedelta(days=7, hours=1)) == 8 * 5 + 2
    with ledger.database.read() as db:
        ((days,),) = db.execute("SELECT count(*) FROM spending").fetchall()

    assert days < 21


async def test_a_later_import_is_thinned_too(ledger):
    """
    An import of days that were thinned before is thinned at the next maintenance.
    """
    record(ledger, *build_hours(95, 2))
    await run_maintenance(ledger, FakeClock(LATER), 90)
    ledger.record_feed("home", {}, FeedResult(build_hours(99, 2)), at=NOW)
    assert len(list_instants(ledger)) == 50
    await run_maintenance(ledger, FakeClock(LATER), 90)

    assert len(list_instants(ledger)) == 4


async def test_it_goes_in_small_steps(ledger, monkeypatch):
    """
    Each transaction ends after some series, and visits can write between them.
    """
    monkeypatch.setattr("exporter.ledger.retention.MAX_SERIES_PER_TRANSACTION", 3)
    record(ledger, *(reading for n in range(10) for reading in build_hours(95, 1, Register(POINT, Unit.M3, name=str(n)))))
    clock = FakeClock(LATER)
    await run_maintenance(ledger, clock, 90)

    assert len(list_instants(ledger)) == 10
    assert len(clock.slept) >= 4


async def test_a_thinned_ledger_is_no_news_to_the_page(ledger, monkeypatch):
    """
    Deleted readings are not mistaken for another process's changes: the page still updates only what changes.
    """
    page = MetricsPage(ledger, FakeClock(), "1")
    page.add_account(AccountView("home", "brook", ZONE), AccountHealth(timedelta(hours=1)))
    page.refresh("home", record(ledger, *build_hours(95, 2)))
    await run_maintenance(ledger, FakeClock(LATER), 90)
    monkeypatch.setattr("exporter.metrics.aggregates", lambda *_: pytest.fail("all samples were built again"))
    page.refresh("home", record(ledger, Index(WATER, 99.0, NOW)))

    assert b'utility_consumption_index_m3{account="home",register="total",usage_point="P-1"} 99.0' in page.render()


async def test_the_file_becomes_shorter(ledger):
    """
    Space of deleted readings is released to the disk.
    """
    record(ledger, *(reading for n in range(8) for reading in build_hours(300, 200, Register(POINT, Unit.M3, name=str(n)))))
    ledger.database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = ledger.database.path.stat().st_size
    await run_maintenance(ledger, FakeClock(LATER), 90)
    ledger.database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert ledger.database.path.stat().st_size < before / 4


def test_a_file_becomes_shorter_in_few_steps(ledger):
    """
    Each step releases as many pages as it says: a large file is not vacuumed page by page.
    """
    record(ledger, *build_hours(65, 60))
    with ledger.database.write() as db:
        db.execute("DELETE FROM reading")
    before = ledger.database._connection.execute("PRAGMA freelist_count").fetchone()[0]
    ledger.vacuum()

    assert before > 3
    assert ledger.database._connection.execute("PRAGMA freelist_count").fetchone()[0] == max(0, before - 500)


async def test_a_file_that_cannot_become_shorter(tmp_path, monkeypatch):
    """
    A file of the first version that was in use at startup, and so was not rewritten, is thinned but not vacuumed.
    """
    tmp_path.chmod(0o700)
    with sqlite3.connect(tmp_path / LEDGER_FILE) as db:
        db.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
    db.close()
    monkeypatch.setattr("exporter.ledger.database._enable_vacuum", lambda _: None)
    with Ledger(tmp_path) as ledger:
        ledger.open_account("home", portal="brook", zone=ZONE.key, login="")
        record_visits(ledger)
        record(ledger, *build_hours(300, 200))
        async with asyncio.timeout(5):
            await run_maintenance(ledger, FakeClock(LATER), 90)

        assert len(list_instants(ledger)) < 24 * 10
        assert ledger.database._connection.execute("PRAGMA freelist_count").fetchone()[0] > 0


def test_a_file_of_the_first_version_is_migrated(tmp_path):
    """
    A ledger written before there was thinning opens with its readings, and can be vacuumed.
    """
    tmp_path.chmod(0o700)
    with sqlite3.connect(tmp_path / LEDGER_FILE) as db:
        db.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
        db.execute("INSERT INTO account (name, portal, zone, login) VALUES ('home', 'brook', 'Europe/Brussels', '')")
    db.close()
    with Ledger(tmp_path) as ledger:
        record(ledger, *build_hours(3, 1))
        assert len(list_instants(ledger)) == 24
        assert ledger.database._connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
