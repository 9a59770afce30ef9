"""Visits to Fluvius by the engine: all results equal the simulation's truth."""

import argparse
import asyncio
import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.commands.visit import print_discovery
from exporter.errors import ConfigError, RateLimitError, ResponseError, UnreachableError
from exporter.models import Commodity, Discovery, Finding, Interval, Inventory
from exporter.portals.fluvius.account import Fluvius
from exporter.portals.fluvius.config import FluviusConfig
from exporter.portals.fluvius.days import metering_day
from exporter.portals.fluvius.feeds import FeedKind
from exporter.simulators.base import run_simulation
from exporter.simulators.fluvius.simulation import GAS_EAN, SINGLE_RATE_EAN, SOLAR_EAN, FluviusSimulation
from tests.conftest import FakeClock, OpenSession
from tests.portals.fluvius_account import (
    StoredAccount,
    build_amounts,
    list_errors,
    list_true_intervals,
    list_truth,
    read,
    run_account,
    run_visit,
    select_peaks,
)
from tests.visit_parts import Note, VisitPart

ALL = SOLAR_EAN, SINGLE_RATE_EAN, GAS_EAN
HOUR, DAY = timedelta(hours=1), timedelta(hours=12)
FIRST, LAST = date(2026, 9, 5), date(2026, 11, 19)
"""The days that a first visit brings: those that are not settled, and three requests of backlog."""


def days(results: list[VisitPart]) -> set[Any]:
    return {one for one in build_amounts(results) if one.end - one.start > DAY}


def parts(results: list[VisitPart], ean: str) -> set[Any]:
    return {one for one in build_amounts(results) if one.ean == ean and one.end - one.start <= HOUR}


def notes(results: list[VisitPart]) -> list[str]:
    return [one.text for one in results if isinstance(one, Note)]


def asked(simulation: FluviusSimulation, ean: str, kind: str = "history") -> list[dict[str, str]]:
    return [seen.query for seen in simulation.requests if seen.path.endswith(ean) and kind in seen.path]


async def test_a_visit_tells_the_truth(clock: FakeClock, visit: OpenSession) -> None:
    """
    Every day of every meter, by register and direction, gas as energy and as volume, and nothing else.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        results = await run_visit(home, session)

        assert days(results) == list_truth(simulation, ALL, FIRST, LAST)
        assert {(one.ean, one.register, one.unit) for one in days(results)} == {
            (SOLAR_EAN, "day", "kWh"),
            (SOLAR_EAN, "night", "kWh"),
            (SINGLE_RATE_EAN, "total", "kWh"),
            (GAS_EAN, "energy", "kWh"),
            (GAS_EAN, "volume", "m³"),
        }
        assert (notes(results), list_errors(results)) == ([], [])


async def test_a_visit_tells_what_there_is(clock: FakeClock, visit: OpenSession) -> None:
    """
    The inventory names every configured point with the meter mounted now.
    """
    async with run_account(clock) as (_, home), visit() as session:
        inventory = (await run_visit(home, session))[0]

        assert isinstance(inventory, Inventory)
        assert [(point.id, point.commodity, point.meter) for point in inventory.usage_points] == [
            (SOLAR_EAN, Commodity.ELECTRICITY, "1SAG3200000018"),
            (SINGLE_RATE_EAN, Commodity.ELECTRICITY, "1SAG3200000024"),
            (GAS_EAN, Commodity.GAS, "7FLO2100000031"),
        ]
        assert inventory.registers is None


async def test_a_replaced_meter_is_asked_where_its_time_can_matter(clock: FakeClock, visit: OpenSession) -> None:
    """
    A visit asks the present meter for its newest days, the replaced one only for the months it was there; gas has no peaks.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        await run_visit(home, session)

        assert {query["meterSerialNumber"] for query in asked(simulation, SOLAR_EAN)} == {"1SAG3200000018"}
        assert len(asked(simulation, SOLAR_EAN, "spikes")) == 2
        assert len(asked(simulation, SINGLE_RATE_EAN, "spikes")) == 1
        assert asked(simulation, GAS_EAN, "spikes") == []


async def test_months_of_peaks(clock: FakeClock, visit: OpenSession) -> None:
    """
    Each month has its peak in kW, with the start of its quarter-hour, over both meters.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        months = [date(2025, 10, 1), date(2025, 11, 1), date(2025, 12, 1), *(date(2026, month, 1) for month in range(1, 12))]
        for ean in (SOLAR_EAN, SINGLE_RATE_EAN):
            found = select_peaks(await read(home, session, ean, FeedKind.PEAKS, date(2025, 10, 1), date(2026, 11, 20)))

            assert [(one.power, one.at) for one in found] == [simulation.find_true_peak(ean, month) for month in months]
            assert [metering_day(one.start, Commodity.ELECTRICITY) for one in found] == months
            assert {str(one.unit) for one in found} == {"kW"}


async def test_a_day_not_yet_published_is_not_asked_of_the_old_meter(clock: FakeClock, visit: OpenSession) -> None:
    """
    Once the present meter has measured a whole day, later days that are still empty cost one request, not one for each meter.
    """
    stored = StoredAccount()
    async with run_account(clock) as (simulation, home):
        async with visit() as session:
            await run_visit(home, session, stored)
        clock.at = datetime(2026, 11, 21, 3, tzinfo=UTC)
        simulation.requests.clear()
        async with visit() as session:
            await run_visit(home, session, stored)
        newest = [query for query in asked(simulation, SOLAR_EAN) if query["historyFrom"][:10] == "2026-11-20"]

        assert simulation.list_true_intervals(SOLAR_EAN, date(2026, 11, 20)) == []
        assert [query["meterSerialNumber"] for query in newest] == ["1SAG3200000018"]


@pytest.mark.parametrize(("day", "quarters", "hours"), [("2026-03-29", 92, 23), ("2026-03-30", 96, 24), ("2026-10-25", 100, 25)])
async def test_days_of_the_clock_change(day: str, quarters: int, hours: int, visit: OpenSession, clock: FakeClock) -> None:
    """
    The days on which the clocks change have 92 and 100 quarter-hours and are right in each; the gas day around them likewise.
    """
    changed = date.fromisoformat(day)
    clock.at = datetime(changed.year, changed.month, changed.day, 12, tzinfo=UTC) + timedelta(days=5)
    before = changed - timedelta(days=1)
    async with run_account(clock, intervals_since=changed - timedelta(days=20)) as (simulation, home), visit() as session:
        power = build_amounts(await read(home, session, SOLAR_EAN, FeedKind.INTERVALS, changed, changed))
        gas = build_amounts(await read(home, session, GAS_EAN, FeedKind.INTERVALS, before, before))
        whole = build_amounts(await read(home, session, SOLAR_EAN, FeedKind.DAYS, changed, changed))

        assert power == list_true_intervals(simulation, SOLAR_EAN, changed, changed)
        assert len({one.start for one in power}) == quarters
        assert gas == list_true_intervals(simulation, GAS_EAN, before, before)
        assert len({one.start for one in gas}) == hours
        assert whole == list_truth(simulation, [SOLAR_EAN], changed, changed)
        assert {one.end - one.start for one in whole} == {timedelta(hours=hours)}


@pytest.mark.parametrize("back", range(1, 13))
async def test_the_day_of_a_replacement(back: int, clock: FakeClock, visit: OpenSession) -> None:
    """
    Wherever the replacement lies in the window, its day is the sum of both halves, and no day is half or missing.
    """
    swapped = datetime(2026, 11, 20, 9, 30, tzinfo=UTC) - timedelta(days=back)
    first = date(2026, 11, 10)
    async with run_account(clock, replaced_at=swapped) as (simulation, home), visit() as session:
        results = await read(home, session, SOLAR_EAN, FeedKind.DAYS, first, LAST)
        for day in (LAST - timedelta(days=n) for n in range(14)):
            results += await read(home, session, SOLAR_EAN, FeedKind.INTERVALS, day, day)

        assert days(results) == list_truth(simulation, [SOLAR_EAN], first, LAST)
        assert parts(results, SOLAR_EAN) == list_true_intervals(simulation, SOLAR_EAN, LAST - timedelta(days=13), LAST)
        assert {one.register.usage_point.meter for one in results if isinstance(one, Interval)} == {"1SAG3200000018"}


async def test_the_peak_of_the_month_of_a_replacement(clock: FakeClock, visit: OpenSession) -> None:
    """
    Each meter has its own peak of that month; the higher one is the month's.
    """
    swapped = datetime(2026, 10, 15, 9, 30, tzinfo=UTC)
    async with run_account(clock, replaced_at=swapped) as (simulation, home), visit() as session:
        results = await read(home, session, SOLAR_EAN, FeedKind.PEAKS, date(2026, 1, 1), date(2026, 11, 20))

        [october] = [one for one in select_peaks(results) if one.start == datetime(2026, 9, 30, 22, tzinfo=UTC)]
        assert (october.power, october.at) == simulation.find_true_peak(SOLAR_EAN, date(2026, 10, 1))


async def test_empty_lists_are_no_failure(clock: FakeClock, visit: OpenSession) -> None:
    """
    Nothing published, nothing enabled, a window off the edges: all are empty lists, and no zeros.
    """
    async with run_account(clock) as (simulation, home):
        for place in simulation.usage_points:
            simulation.data_api.usage_points[place.ean] = type(place)(
                place.ean, place.commodity, place.meters, since=date(2027, 1, 1)
            )
        async with visit() as session:
            results = await run_visit(home, session)

        assert [type(one) for one in results if not isinstance(one, Note)] == [Inventory]


@pytest.mark.parametrize(("fault", "count"), [("codes", 1), ("nulls", 0), ("endless", 0), ("odd", 1)])
async def test_strange_values(fault: str, count: int, clock: FakeClock, visit: OpenSession) -> None:
    """
    Unknown codes are left out and counted; null is no value; a day without an end is a day.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        simulation.faults.add(f"history/{SINGLE_RATE_EAN}", fault)
        results = await run_visit(home, session)

        truth = list_truth(simulation, [SINGLE_RATE_EAN], FIRST, LAST)
        assert {one for one in days(results) if one.ean == SINGLE_RATE_EAN} == (set() if fault == "nulls" else truth)
        assert list_errors(results) == []
        fields = {"codes": "values with the codes t 1, dc 1, u 9, ", "odd": "v.dc, v.v"}
        assert len(notes(results)) == count
        assert all(one.startswith("meters[1], days: skipped invalid fields: ") for one in notes(results))
        assert all(fields[fault] in one for one in notes(results))


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (
            "status:403",
            ResponseError,
            r"^meters\[1\]: EAN …0024 or serial …0024 refused \(403\): check the configuration$",
        ),
        (
            "status:404",
            ResponseError,
            r"^meters\[1\]: EAN …0024 or serial …0024 refused \(404\): check the configuration$",
        ),
        (
            "status:400",
            ResponseError,
            r"^meters\[1\]: EAN …0024 or serial …0024 refused \(400\): check the configuration$",
        ),
        (
            "status:503",
            UnreachableError,
            r"^meters\[1\]: GET /verbruik/api/meter-measurement-history/… returned status 503$",
        ),
        ("html", ResponseError, r"^meters\[1\]: .* returned HTML, expected JSON$"),
        ("object", ResponseError, r"^meters\[1\]: .* has changed: expected a list$"),
        ("cut", UnreachableError, r"^meters\[1\]: .* failed: "),
        ("renamed-value", ResponseError, r"^meters\[1\], days has changed: 0.v.0.v: field required$"),
    ],
)
async def test_one_failing_meter_spares_the_others(
    fault: str, error: type[Exception], message: str, clock: FakeClock, visit: OpenSession
) -> None:
    """
    A failing meter is a partial failure that names its entry in the configuration, never its number; the others are read.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        simulation.faults.add(f"history/{SINGLE_RATE_EAN}", fault)
        results = await run_visit(home, session)

        [failed] = list_errors(results)
        assert type(failed) is error
        assert re.search(message, str(failed))
        assert not re.search("[0-9]{6}|SAG|FLO", str(failed))
        assert {one.ean for one in days(results)} == {SOLAR_EAN, GAS_EAN}


async def test_a_refused_serial_is_named_by_its_place(clock: FakeClock, visit: OpenSession) -> None:
    """
    Of several serial numbers the message names which.
    """
    replaced_at = datetime(2026, 11, 15, 9, 30, tzinfo=UTC)
    async with run_account(clock, replaced_at=replaced_at) as (simulation, home), visit() as session:
        simulation.faults.add("1SAG1100000017", "status:404")
        results = await run_visit(home, session)

        assert {str(one) for one in list_errors(results)} == {
            "meters[0].serial[0]: EAN …0017 or serial …0017 refused (404): check the configuration"
        }
        assert {one.ean for one in days(results)} == {SINGLE_RATE_EAN, GAS_EAN}


@pytest.mark.parametrize(
    ("fault", "error"), [("status:500", UnreachableError), ("status:404", ResponseError), ("object", ResponseError)]
)
async def test_when_nothing_works(fault: str, error: type[Exception], clock: FakeClock, visit: OpenSession) -> None:
    """
    Each feed fails by itself; a portal that cannot be reached is asked for no more.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        simulation.faults.add("/verbruik/api/", fault)
        results = await run_visit(home, session)

        assert {type(one) for one in list_errors(results)} == {error}
        assert len(list_errors(results)) == (2 if error is UnreachableError else 7)


async def test_slowing_down(clock: FakeClock, visit: OpenSession) -> None:
    """
    After a rate limit there are no more requests; earlier results are kept, and the wait is returned.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        simulation.faults.add(f"history/{SINGLE_RATE_EAN}", "retry:900")
        results = await run_visit(home, session)

        [failed] = list_errors(results)
        assert (type(failed), failed.retry_after) == (RateLimitError, timedelta(minutes=15))
        assert {one.ean for one in days(results)} == {SOLAR_EAN}
        assert simulation.requests[-1].path.endswith(SINGLE_RATE_EAN)


async def test_codes_are_never_trusted(clock: FakeClock, visit: OpenSession) -> None:
    """
    A code that brings records of another length tells its user which key to look at; what came is what it is by its length.
    """
    codes = {"day": 4, "electricity_interval": 4, "gas_interval": 4}
    async with run_account(clock, granularity=codes) as (_, home), visit() as session:
        results = await run_visit(home, session)

        assert parts(results, SOLAR_EAN) == set()
        assert "meters[0], intervals: code 4 brought records of another length: see the key `granularity`" in notes(results)


async def test_the_api_of_2024(clock: FakeClock, visit: OpenSession) -> None:
    """
    The old API gives the same readings: days with the halves of a replaced meter added, gas twice, and peaks.
    """
    async with run_account(clock, replaced_at=datetime(2026, 11, 15, 9, 30, tzinfo=UTC)) as (simulation, home):
        meters = [meter.model_dump() | {"intervals": False} for meter in home.config.meters]
        old = Fluvius(FluviusConfig(**(simulation.build_accounts(home.config.portal_url)[0] | {"api": 2024, "meters": meters})))
        async with visit() as session:
            results = await run_visit(old, session)

        assert days(results) >= list_truth(simulation, (SOLAR_EAN, GAS_EAN), FIRST, LAST)
        assert len([one for one in select_peaks(results) if one.usage_point.id == SOLAR_EAN]) == 11
        assert {seen.path.split("/")[-2] for seen in simulation.requests if "verbruik" in seen.path} == {
            "consumption-histories",
            "consumption-spikes",
        }


async def test_raw_answers(clock: FakeClock, visit: OpenSession) -> None:
    """
    The portal's own JSON is shown for each call, by the meter's place or EAN.
    """
    async with run_account(clock) as (_, home), visit() as session:
        config = await home.fetch_raw(session, "config", {})
        months = await home.fetch_raw(session, "peaks", {"meter": SINGLE_RATE_EAN, "from": "2026-01-01"})
        week = await home.fetch_raw(session, "days", {"meter": "2", "from": "2026-11-01", "to": "2026-11-07"})
        quarters = await home.fetch_raw(session, "intervals", {"meter": "0", "day": "2026-10-25"})
        gone = await home.fetch_raw(session, "intervals", {"meter": "0", "day": "2026-10-25", "serial": "1SAG1100000017"})

        assert config["auth"]["clientId"]
        assert (len(months), len(week), len(quarters), gone) == (11, 7, 100, [])
        assert set(home.raw_calls) == {"config", "days", "intervals", "peaks"}


async def test_raw_takes_the_only_meter(clock: FakeClock, visit: OpenSession) -> None:
    """
    Where there is one meter it need not be named; its name will do too.
    """
    async with run_account(clock) as (_, home), visit() as session:
        names = {SINGLE_RATE_EAN: "studio"}
        only = Fluvius(home.config.model_copy(update={"meters": home.config.meters[1:2], "aliases": names}))
        days = {"from": "2026-11-01", "to": "2026-11-07"}

        assert len(await only.fetch_raw(session, "days", days)) == 7
        assert await only.fetch_raw(session, "days", days | {"meter": "studio"}) == await only.fetch_raw(session, "days", days)


@pytest.mark.parametrize(
    ("call", "keys", "message"),
    [
        ("tokens", {}, "there is no such call; there are config, days, intervals, peaks"),
        ("days", {}, "meter: must be 0 to 2, an EAN or an alias"),
        ("days", {"meter": "0", "code": "3"}, "days has no key code"),
        ("days", {"meter": "3"}, "meter: must be 0 to 2, an EAN or an alias"),
        ("days", {"meter": "0", "from": "gisteren"}, "from: is not a day like 2031-03-09"),
        ("days", {"meter": "0", "serial": "1SAG9"}, "serial: is not one of this meter's"),
    ],
)
async def test_raw_keys_that_are_refused(
    call: str, keys: dict[str, str], message: str, clock: FakeClock, visit: OpenSession
) -> None:
    """
    A wrong parameter is an error that names the valid ones, before any request.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        with pytest.raises(ConfigError, match=message):
            await home.fetch_raw(session, call, keys)

        assert simulation.requests == []


async def test_discover(clock: FakeClock, visit: OpenSession) -> None:
    """
    Every meter is shown with its resolutions, since when, its registers and units; a refused one is a finding with the reason.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        simulation.faults.add(GAS_EAN, "status:403")
        found = await home.discover(session)

        solar, flat, gas = found.findings
        assert (solar.is_missing, gas.is_missing, found.is_empty) == (False, True, False)
        assert _lines(solar) == [
            ("days", "2024-11-20", ["P1D"], {("day", "kWh"), ("night", "kWh")}),
            ("intervals", "2026-08-22", ["PT15M"], {("night", "kWh")}),
            ("peaks", "2024-11-01", None, set()),
        ]
        assert _lines(flat) == [("days", "2024-11-20", ["P1D"], {("total", "kWh")}), ("peaks", "2024-11-01", None, set())]
        assert gas.children[0].text == "meters[2]: EAN …0031 or serial …0031 refused (403): check the configuration"
        assert _config(found)["meters"][0] == {
            "ean": SOLAR_EAN,
            "serial": ["1SAG1100000017", "1SAG3200000018"],
            "commodity": "electricity",
            "intervals": True,
        }


@pytest.mark.parametrize(
    "meter",
    [
        {"ean": SINGLE_RATE_EAN, "serial": "1SAG3200000099", "commodity": "electricity"},
        {"ean": GAS_EAN, "serial": "7FLO2100000031", "commodity": "electricity"},
        {"ean": "541448820000000099", "serial": "1SAG3200000042", "commodity": "electricity"},
    ],
)
async def test_discover_marks_a_meter_of_which_nothing_comes(meter: dict[str, str], clock: FakeClock, visit: OpenSession) -> None:
    """
    A mistyped serial, gas entered as electricity and an EAN of somebody else are marked, and nothing was found.
    """
    async with run_account(clock, meters=[meter]) as (_, home), visit() as session:
        found = await home.discover(session)

        assert found.is_empty
        assert found.findings[0].text.endswith("(not found: check serial and commodity)")


@pytest.mark.parametrize(("serial", "code"), [("1SAG3200000024", 0), ("1SAG3200000042", 1)])
async def test_the_command_discover(serial: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    It ends with 1 when nothing was found, and says what to check.
    """
    simulation = FluviusSimulation()
    async with run_simulation(simulation) as url:
        entry = simulation.build_accounts(url)[0]
        entry["meters"] = [{"ean": SINGLE_RATE_EAN, "serial": serial, "commodity": "electricity"}]
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps({"accounts": [entry]}))
        config.chmod(0o600)
        options = argparse.Namespace(config_file=config, storage_path=tmp_path / "data", account="demo-power", json=False)
        found = await asyncio.to_thread(print_discovery, options)

    assert found == code
    assert ("(not found: check serial and commodity)" in capsys.readouterr().out) == bool(code)


def test_the_simulations_own_configuration(clock: FakeClock) -> None:
    """
    The simulation's configuration is one that the portal takes as it is.
    """
    accounts = FluviusSimulation(clock).build_accounts("http://127.0.0.1:1")

    assert [FluviusConfig(**one).name for one in accounts] == ["demo-power"]


def _lines(finding: Finding) -> list[tuple[Any, ...]]:
    return [
        (
            one.facts["line"],
            one.facts["since"],
            one.facts.get("resolutions"),
            {(register.facts["register"], register.facts["unit"]) for register in one.children},
        )
        for one in finding.children
    ]


def _config(found: Discovery) -> Any:
    return yaml.safe_load(found.config)
