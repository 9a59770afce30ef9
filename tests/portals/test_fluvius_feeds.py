"""The feeds of Fluvius: the whole history by itself, within a quota, and days that come late, are corrected or lack something."""

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exporter.client.quota import CallQuota
from exporter.models import Interval
from exporter.portals.fluvius.account import Fluvius
from exporter.portals.fluvius.config import FluviusConfig
from exporter.portals.fluvius.feeds import build_feeds
from exporter.simulators.fluvius.data_api import Correction
from exporter.simulators.fluvius.simulation import GAS_EAN, SINGLE_RATE_EAN, SOLAR_EAN, FluviusSimulation
from exporter.simulators.fluvius.usage_points import KWH
from exporter.sync.engine import Engine
from exporter.sync.importer import Importer
from tests.conftest import FakeClock, OpenSession
from tests.fault_proxy import open_account
from tests.portals.fluvius_account import StoredAccount, ask, catch_up, list_true_intervals, list_truth, live, run_account

ALL = SOLAR_EAN, SINGLE_RATE_EAN, GAS_EAN
FREE = {"past_requests": 100_000, "interval_requests": 100}
SINGLE = {"ean": SINGLE_RATE_EAN, "serial": "1SAG3200000024", "commodity": "electricity"}
GAS = {"ean": GAS_EAN, "serial": "7FLO2100000031", "commodity": "gas"}
SOLAR = {"ean": SOLAR_EAN, "serial": ["1SAG1100000017", "1SAG3200000018"], "commodity": "electricity"}
BEGAN, LAST = date(2024, 11, 20), date(2026, 11, 19)


def list_requests(simulation: FluviusSimulation, granularity: str | None = None) -> list[dict[str, str]]:
    found = [seen.query for seen in simulation.requests if "/verbruik/" in seen.path]
    return [query for query in found if granularity is None or query.get("granularity") == granularity]


async def run_import(home: Fluvius, visit: OpenSession, stored: StoredAccount, clock: FakeClock, **range_: Any) -> int:
    """Run the command `history import`; return how many requests it made."""
    engine = Engine(home, stored, every=home.config.every, pace=home.pace)

    async def sleep(wait: timedelta) -> None:
        clock.at += wait

    async with visit() as session:
        progress = await Importer(engine, now=clock, sleep=sleep, **range_).run(session)
    return progress.done


async def test_the_whole_history_comes_by_itself(clock: FakeClock, visit: OpenSession) -> None:
    """
    Every day of two years, the replaced meter's too, every interval since they were switched on, and each month's peak.
    """
    stored = StoredAccount()
    async with run_account(clock, **FREE) as (simulation, home):
        await catch_up(home, visit, stored)

        assert stored.select("P1D") == list_truth(simulation, ALL, BEGAN, LAST)
        for ean, resolution in ((SOLAR_EAN, "PT15M"), (GAS_EAN, "PT1H")):
            assert stored.select(resolution) == list_true_intervals(simulation, ean, date(2026, 8, 20), LAST)
        months = [date(2024 + n // 12, n % 12 + 1, 1) for n in range(10, 35)]
        for ean in (SOLAR_EAN, SINGLE_RATE_EAN):
            peaks = [(one.power, one.at) for one in stored.select_peaks(ean)]
            assert peaks == [simulation.find_true_peak(ean, month) for month in months]
        assert len(list_requests(simulation)) < 450


async def test_the_running_year_comes_before_any_other(clock: FakeClock, visit: OpenSession) -> None:
    """
    After two minutes the days of this year are there for all meters; years before and intervals come later.
    """
    stored = StoredAccount()
    async with run_account(clock, interval_requests=20) as (simulation, home):
        async with visit() as session:
            engine = Engine(home, stored, every=home.config.every, pace=home.pace)
            await home.fetch_latest(session)
            await engine.visit(session, session.now)
            for _ in range(2):
                clock.advance(minutes=1)
                await engine.step(session, session.now)
        years = [query["historyUntil"][:4] for query in list_requests(simulation, "4")]

        assert stored.select("P1D") >= list_truth(simulation, ALL, date(2026, 1, 1), LAST)
        assert years == sorted(years, reverse=True)


async def test_the_quota_of_an_hour(clock: FakeClock, visit: OpenSession) -> None:
    """
    At most 120 requests an hour, whatever there is to read, and visits find room for the newest days.
    """
    stored = StoredAccount()
    async with run_account(clock) as (simulation, home):
        await catch_up(home, visit, stored)
        times = [seen.received_at for seen in simulation.requests if "/verbruik/" in seen.path]
        busiest_hour = max(sum(at <= other < at + timedelta(hours=1) for other in times) for at in times)

        assert busiest_hour <= 100
        async with visit() as session:
            assert not (await home.discover(session)).is_empty  # a person's question waits for no quota
        assert home.list_quotas() == {"history": (120, timedelta(hours=1))}
        async with visit() as session:
            assert (await ask(home, session, stored)).stopped is None


@pytest.mark.parametrize(("meters", "requests", "reserved"), [(2, 120, 20), (10, 120, 30), (60, 120, 60), (1, 1, 0)])
def test_what_is_reserved_for_visits(meters: int, requests: int, reserved: int) -> None:
    """
    Of the quota so much is left for the newest days as all meters need, and at most half.
    """
    login = {"name": "home", "portal": "fluvius", "username": "a@example.com", "password": "p", "past_requests": requests}
    home = Fluvius(FluviusConfig(**login, meters=[SINGLE | {"ean": f"5414488200000000{number:02}"} for number in range(meters)]))

    assert home.config.quota.reserved_for_visits == reserved


@pytest.mark.parametrize("commodity", ["electricity", "gas"])
async def test_the_part_reserved_for_young_days_ends_where_they_settle(
    commodity: str, clock: FakeClock, visit: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Client and engine agree which days are young, also before six o'clock, when the day of gas is still yesterday's.
    """
    spent = list[bool]()

    async def record(quota: CallQuota, session: Any, *, for_settled_days: bool = False) -> None:
        spent.append(for_settled_days)

    monkeypatch.setattr(CallQuota, "spend", record)
    clock.at = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)
    async with run_account(clock, meters=[GAS if commodity == "gas" else SINGLE]) as (_, home), visit() as session:
        feed = home.list_feeds()[0]
        young = date.fromordinal(feed.first_unsettled_day(int(clock.at.timestamp())))
        for day in (young, young - timedelta(days=1)):
            await home.read(session, feed, day, day)

    assert young == date(2026, 11, 5 if commodity == "gas" else 6)
    assert spent == [False, True]


@pytest.mark.parametrize("stop", [1, 5])
async def test_the_history_goes_on_after_a_restart(stop: int, clock: FakeClock, visit: OpenSession) -> None:
    """
    Stopped after any step, the next process goes on where it was: no settled day is asked twice.
    """
    stored = StoredAccount()
    async with run_account(clock, meters=[SINGLE]) as (simulation, home):
        for _ in range(60 // stop):
            async with visit() as session:
                engine = Engine(home, stored, every=home.config.every, pace=home.pace)
                await engine.visit(session, session.now)
                for _ in range(stop):
                    clock.advance(minutes=1)
                    await engine.step(session, session.now)

        assert stored.select("P1D") == list_truth(simulation, [SINGLE_RATE_EAN], BEGAN, LAST)
        old = Counter(query["historyFrom"] for query in list_requests(simulation, "4") if query["historyUntil"] < "2026-11")
        assert max(old.values()) == 1


async def test_intervals_end_where_they_were_switched_on(clock: FakeClock, visit: OpenSession) -> None:
    """
    Thirty empty days before everything known: nothing older is asked day by day.
    """
    stored = StoredAccount()
    async with run_account(clock, intervals_since=date(2026, 10, 20), **FREE) as (simulation, home):
        await catch_up(home, visit, stored)
        quarters = {query["historyFrom"][:10] for query in list_requests(simulation, "1")}

        assert len(quarters) == 61
        assert min(quarters) == "2026-09-20"


async def test_a_replaced_meter_costs_no_second_request(clock: FakeClock, visit: OpenSession) -> None:
    """
    Before the day of a replacement only the old meter is asked for intervals, after it only the new one; on that day both.
    """
    stored = StoredAccount()
    meter = SOLAR | {"intervals": True}
    swapped = datetime(2026, 11, 10, 9, 30, tzinfo=UTC)
    overrides: dict[str, Any] = {"replaced_at": swapped, "intervals_since": date(2026, 10, 1), "meters": [meter], **FREE}
    async with run_account(clock, **overrides) as (simulation, home):
        await catch_up(home, visit, stored)
        asked = [(query["historyFrom"][:10], query["meterSerialNumber"][-2:]) for query in list_requests(simulation, "1")]
        count = Counter(asked)

        assert stored.select("PT15M") == list_true_intervals(simulation, SOLAR_EAN, date(2026, 10, 1), LAST)
        assert {serial for day, serial in asked if day > "2026-11-10"} == {"18"}
        assert {serial for day, serial in asked if day < "2026-11-09"} == {"17"}
        assert count["2026-11-10", "17"] == count["2026-11-10", "18"] == 1


async def test_a_late_day_after_an_import(clock: FakeClock, visit: OpenSession) -> None:
    """
    Days that were missing when the history was read come by themselves, and by the same command, whenever they are there.
    """
    stored, late = StoredAccount(), date(2026, 10, 20)
    async with run_account(clock, meters=[SINGLE], **FREE) as (simulation, home):
        simulation.data_api.delays[SINGLE_RATE_EAN, late] = timedelta(days=40)
        await run_import(home, visit, stored, clock)
        assert not stored.select("P1D") & list_truth(simulation, [SINGLE_RATE_EAN], late, late)
        clock.at = datetime(2026, 12, 3, 9, 30, tzinfo=UTC)
        by_command = StoredAccount(dict(stored.readings), dict(stored.coverage))
        done = await run_import(home, visit, by_command, clock, first=late, last=late)
        clock.at = datetime(2026, 12, 3, 9, 30, tzinfo=UTC)
        await live(home, visit, stored, clock, days=14, hours=12)

        truth = list_truth(simulation, [SINGLE_RATE_EAN], late, late)
        assert truth
        assert stored.select("P1D") >= truth
        assert (by_command.select("P1D") >= truth, done) == (True, 1)


async def test_a_gas_factor_that_is_set_months_later(clock: FakeClock, visit: OpenSession) -> None:
    """
    The energy of a gas day, and of its hours, is read again at a hundred days; until then it is marked as provisional.
    """
    stored, day = StoredAccount(), date(2026, 11, 12)
    meter = GAS | {"intervals": True}
    async with run_account(clock, meters=[meter], intervals_since=date(2026, 11, 1), **FREE) as (simulation, home):
        simulation.data_api.corrections[GAS_EAN, day] = Correction(datetime(2027, 1, 31, tzinfo=UTC), KWH, 97)
        await catch_up(home, visit, stored)
        provisional = {
            (one.register.name, one.is_estimated)
            for one in stored.readings.values()
            if isinstance(one, Interval) and one.start.date() == day and one.end - one.start > timedelta(hours=20)
        }
        before = stored.select("P1D")
        await live(home, visit, stored, clock, days=60, hours=24)
        between = stored.select("P1D")
        clock.at = datetime(2027, 2, 18, 9, 30, tzinfo=UTC)
        await live(home, visit, stored, clock, days=12, hours=12)

        truth = list_truth(simulation, [GAS_EAN], day, day)
        assert provisional == {("energy", True), ("volume", False)}
        assert len(before & truth) == len(between & truth) == 1
        assert stored.select("P1D") >= truth
        assert stored.select("PT1H") >= list_true_intervals(simulation, GAS_EAN, day, day)


async def test_a_corrected_quarter_hour(clock: FakeClock, visit: OpenSession) -> None:
    """
    A correction twelve days later arrives, in the quarter-hours and in the day alike.
    """
    stored, day = StoredAccount(), date(2026, 11, 18)
    meter = SOLAR | {"intervals": True}
    async with run_account(clock, meters=[meter], intervals_since=date(2026, 11, 10), **FREE) as (simulation, home):
        simulation.data_api.corrections[SOLAR_EAN, day] = Correction(datetime(2026, 12, 1, tzinfo=UTC), KWH, 80)
        await catch_up(home, visit, stored)
        await live(home, visit, stored, clock, days=18, hours=6)

        assert stored.select("PT15M") >= list_true_intervals(simulation, SOLAR_EAN, day, day)
        assert stored.select("P1D") >= list_truth(simulation, [SOLAR_EAN], day, day)


async def test_switched_off_for_25_days(clock: FakeClock, visit: OpenSession) -> None:
    """
    The first visit after it brings every day that is missing, and a few steps every interval.
    """
    stored = StoredAccount()
    meter = SOLAR | {"intervals": True}
    async with run_account(clock, meters=[meter], intervals_since=date(2026, 11, 10)) as (simulation, home):
        await catch_up(home, visit, stored)
        clock.advance(days=25)
        async with visit() as session:
            await ask(home, session, stored)
        days = stored.select("P1D")
        await catch_up(home, visit, stored)

        assert days >= list_truth(simulation, [SOLAR_EAN], date(2026, 11, 20), date(2026, 12, 14))
        assert stored.select("PT15M") >= list_true_intervals(simulation, SOLAR_EAN, date(2026, 11, 20), date(2026, 12, 14))


async def test_a_day_that_lacks_a_quarter_for_good(clock: FakeClock, visit: OpenSession) -> None:
    """
    It is asked ever more rarely, its other quarters are kept, and it keeps nothing else waiting.
    """
    stored, day = StoredAccount(), date(2026, 11, 19)
    meter = SOLAR | {"intervals": True}
    async with run_account(clock, meters=[meter], intervals_since=date(2026, 11, 10), **FREE) as (simulation, home):
        simulation.data_api.missing_intervals[SOLAR_EAN, day] = frozenset({40})
        await catch_up(home, visit, stored)
        await live(home, visit, stored, clock, days=14, hours=1)
        asked = Counter(query["historyFrom"][:10] for query in list_requests(simulation, "1"))

        truth = list_true_intervals(simulation, SOLAR_EAN, date(2026, 11, 10), date(2026, 12, 2))
        assert stored.select("PT15M") >= truth
        assert len({one.start for one in truth if one.start.astimezone(home.zone).date() == day}) == 95
        assert asked[str(day)] <= 20


async def test_hours_that_a_meter_does_not_have(clock: FakeClock, visit: OpenSession) -> None:
    """
    A gas meter without hours is asked for them a few times a day, a note says where they are switched on, and the days come.
    """
    stored = StoredAccount()
    meters = [GAS | {"intervals": True}]
    async with run_account(clock, meters=meters, intervals_since=date(2028, 1, 1)) as (simulation, home):
        await catch_up(home, visit, stored)
        simulation.requests.clear()
        await live(home, visit, stored, clock, days=4, hours=1)
        clock.advance(days=1)

        assert len(list_requests(simulation, "2")) <= 40
        assert stored.notes == {"meters[0], intervals: nothing comes: switch on quarter-hours (gas: hours) in the portal"}
        assert stored.select("P1D") >= list_truth(simulation, [GAS_EAN], date(2026, 11, 1), date(2026, 11, 19))


async def test_silence_is_a_fault(clock: FakeClock, visit: OpenSession) -> None:
    """
    A mistyped serial is answered with nothing: after a day a note names the entry and what to check.
    """
    stored = StoredAccount()
    async with run_account(clock, meters=[SINGLE | {"serial": "1SAG3200000042"}]) as (_, home):
        await live(home, visit, stored, clock, days=0.125, hours=1)
        early = set(stored.notes)
        await live(home, visit, stored, clock, days=1.5, hours=1)

        assert early == set()
        assert stored.notes == {"meters[0], days: nothing comes: check `serial` and `commodity`"}
        assert stored.errors == []


@pytest.mark.parametrize(
    ("meter", "other"), [(GAS | {"commodity": "electricity"}, "gas"), (SINGLE | {"commodity": "gas"}, "electricity")]
)
async def test_the_other_commodity(meter: dict[str, str], other: str, clock: FakeClock, visit: OpenSession) -> None:
    """
    Days that begin at six are no days of electricity, nor those from midnight of gas: an error names the entry.
    """
    async with run_account(clock, meters=[meter]) as (_, home), visit() as session:
        result = await ask(home, session, StoredAccount())

        assert {str(error) for error in result.failures.values()} == {
            f"meters[0], days: no usable value in the response ({other}, where `commodity` is {meter['commodity']})"
        }


async def test_a_meter_that_was_replaced_while_the_old_serial_is_configured(clock: FakeClock, visit: OpenSession) -> None:
    """
    Its days stop; after some days a note names the entry, the last day and what to do.
    """
    stored = StoredAccount()
    meter = SOLAR | {"serial": "1SAG1100000017"}
    async with run_account(clock, meters=[meter], replaced_at=datetime(2026, 11, 12, 9, 30, tzinfo=UTC)) as (_, home):
        await live(home, visit, stored, clock, days=0.25, hours=1)

        assert stored.notes == {
            "meters[0], days: nothing comes any more: add the new serial number to `serial` if the meter was replaced; "
            "the last day is 2026-11-12"
        }


async def test_what_a_clock_ahead_has_asked(clock: FakeClock, visit: OpenSession) -> None:
    """
    What was asked while our clock was four days ahead is asked again as soon as it is right.
    """
    stored = StoredAccount()
    async with run_account(clock, meters=[SINGLE]) as (simulation, home):
        clock.advance(days=4)
        await catch_up(home, visit, stored)
        clock.at = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
        stored.readings.clear()
        simulation.requests.clear()
        async with visit() as session:
            await ask(home, session, stored)

        assert stored.select("P1D") >= list_truth(simulation, [SINGLE_RATE_EAN], date(2026, 11, 6), LAST)


async def test_late_and_estimated_days(clock: FakeClock, visit: OpenSession) -> None:
    """
    Over a month every day comes, those published late too, and every estimate is replaced by its correction.
    """
    stored = StoredAccount()
    async with run_account(clock, meters=[SINGLE, GAS]) as (simulation, home):
        await live(home, visit, stored, clock, days=30, hours=12)
        first, last, eans = date(2026, 11, 12), date(2026, 12, 8), (SINGLE_RATE_EAN, GAS_EAN)
        points = [simulation.data_api.usage_points[ean] for ean in eans]
        month = [first + timedelta(days=n) for n in range(25)]

        assert stored.select("P1D") >= list_truth(simulation, eans, first, last - timedelta(days=3))
        assert any(point.is_estimated(day, point.published_at(day)) for point in points for day in month)
        assert any(point.is_late(day) for point in points for day in month)


def test_keys_of_feeds() -> None:
    """
    A key holds no number of a meter, does not depend on the other entries, and changes with what decides what comes.
    """
    login = {"name": "home", "portal": "fluvius", "username": "a@example.com", "password": "p"}
    one, both = FluviusConfig(**login, meters=[SOLAR]), FluviusConfig(**login, meters=[GAS, SOLAR])
    replaced = FluviusConfig(**login, meters=[SOLAR | {"serial": "1SAG3200000018"}])

    assert set(build_feeds(one)) < set(build_feeds(both))
    assert not set(build_feeds(one)) & set(build_feeds(replaced))
    assert not any(number in key for key in build_feeds(both) for number in ("5414488", "1SAG", "7FLO"))
    assert [entry.feed.day_start.hour for entry in build_feeds(both).values()] == [6, 0, 0]


def test_visits_do_not_pile_up() -> None:
    """
    Chunks of days are as long as the configuration says.
    """
    login = {"name": "home", "portal": "fluvius", "username": "a@example.com", "password": "p", "past_days": 10}
    [days, _] = build_feeds(FluviusConfig(**login, meters=[SINGLE])).values()

    assert days.feed.chunk.find_range(20) == (11, 20)
    assert all(later > earlier for earlier, later in pairwise(days.feed.chunk.find_range(20)))


async def test_serve_has_the_running_year_after_two_minutes(clock: FakeClock, tmp_path: Path) -> None:
    """
    Live values first, then the year of all meters, step by step and over a restart; the sums on the page are the simulation's.
    """
    async with run_account(clock, interval_requests=20) as (simulation, home):
        async with open_account(tmp_path, home, clock, reads_backlog=True) as (poller, _):
            await poller.visit()
        clock.advance(minutes=1)
        async with open_account(tmp_path, home, clock, reads_backlog=True) as (poller, read_account):
            for _ in range(2):
                await poller.step()
                clock.advance(minutes=1)
            snapshot = read_account()
        page = {
            match[1]: float(match[2])
            for match in re.finditer(r"^utility_yearly_consumption_kwh\{(.*?)\} (\S+)$", snapshot.text, re.MULTILINE)
        }
        days = list_truth(simulation, ALL, date(2026, 1, 1), LAST)

        for ean, register in ((SOLAR_EAN, "day"), (SOLAR_EAN, "night"), (SINGLE_RATE_EAN, "total"), (GAS_EAN, "energy")):
            true = [one.value for one in days if (one.ean, one.register, one.direction) == (ean, register, "consumption")]
            [value] = [value for labels, value in page.items() if ean in labels and f'register="{register}"' in labels]
            assert value == pytest.approx(sum(true))
        assert snapshot.state.up
