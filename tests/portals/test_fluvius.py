"""Whole visits to Fluvius: all that is told is the simulation's truth."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import yaml

from exporter.demo.fluvius import FLAT, GAS, SOLAR, FluviusSimulation
from exporter.errors import ConfigError, RateLimitError, ResponseError, UnreachableError
from exporter.model import Commodity, Discovery, Finding, Interval, Inventory, Note, Shortfall, Told
from exporter.portals.fluvius import Fluvius
from exporter.portals.fluvius.days import day_of
from tests.conftest import Clock, Visit
from tests.portals.fluvius import Kept, amounts, collect, peaks, portal

ALL = SOLAR, FLAT, GAS
QUARTER, HOUR, DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(hours=12)


def days(told: list[Told]) -> set[Any]:
    return {one for one in amounts(told) if one.end - one.start > DAY}


def parts(told: list[Told], ean: str) -> set[Any]:
    return {one for one in amounts(told) if one.ean == ean and one.end - one.start <= HOUR}


def notes(told: list[Told]) -> list[str]:
    return [one.text for one in told if isinstance(one, Note)]


def failures(told: list[Told]) -> list[Any]:
    return [one.error for one in told if isinstance(one, Shortfall)]


def asked(simulation: FluviusSimulation, ean: str, kind: str = "history") -> list[dict[str, str]]:
    return [seen.query for seen in simulation.seen if seen.path.endswith(ean) and kind in seen.path]


async def test_a_visit_tells_the_truth(clock: Clock, visit: Visit) -> None:
    """
    Ten days of every meter, by register and direction, gas as energy and as volume, and nothing else.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        told = await collect(home, session)

        truth = [one for ean in ALL for one in simulation.true_days(ean, date(2026, 11, 10), date(2026, 11, 19))]
        assert days(told) == set(truth)
        assert {(one.ean, one.register, one.unit) for one in days(told)} == {
            (SOLAR, "day", "kWh"),
            (SOLAR, "night", "kWh"),
            (FLAT, "total", "kWh"),
            (GAS, "energy", "kWh"),
            (GAS, "volume", "m³"),
        }
        assert (notes(told), failures(told)) == ([], [])


async def test_a_visit_tells_what_there_is(clock: Clock, visit: Visit) -> None:
    """
    The inventory names every configured point with the meter mounted now.
    """
    async with portal(clock) as (_, home), visit() as session:
        inventory = (await collect(home, session))[0]

        assert isinstance(inventory, Inventory)
        assert [(point.id, point.commodity, point.meter) for point in inventory.points] == [
            (SOLAR, Commodity.ELECTRICITY, "1SAG3200000018"),
            (FLAT, Commodity.ELECTRICITY, "1SAG3200000024"),
            (GAS, Commodity.GAS, "7FLO2100000031"),
        ]
        assert inventory.registers is None


async def test_one_request_for_a_meter(clock: Clock, visit: Visit) -> None:
    """
    A visit asks once for the days of a meter and once for its peaks; of the replaced one only where its time can matter.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        await collect(home, session)

        assert [query["meterSerialNumber"] for query in asked(simulation, SOLAR) if query["granularity"] == "4"] == [
            "1SAG3200000018"
        ]
        assert len([query for query in asked(simulation, FLAT) if query["granularity"] == "4"]) == 1
        assert len(asked(simulation, FLAT, "spikes")) == 1
        assert asked(simulation, GAS, "spikes") == []


async def test_thirteen_months_of_peaks(clock: Clock, visit: Visit) -> None:
    """
    Each month back to thirteen before this one has its peak in kW, with the start of its quarter-hour, over both meters.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        told = await collect(home, session)

        months = [
            date(2025, 10, 1),
            *(date(2025, month, 1) for month in (11, 12)),
            *(date(2026, month, 1) for month in range(1, 12)),
        ]
        for ean in (SOLAR, FLAT):
            mine = [one for one in peaks(told) if one.point.id == ean]
            assert [(one.power, one.at) for one in mine] == [simulation.true_peak(ean, month) for month in months]
            assert [day_of(one.start, Commodity.ELECTRICITY) for one in mine] == months
            assert {str(one.unit) for one in mine} == {"kW"}


async def test_intervals_come_a_few_days_a_visit(clock: Clock, visit: Visit) -> None:
    """
    Hours after hours, missing days are asked for, the newest first, six requests a visit, until all of two weeks is there.
    """
    kept = Kept()
    async with portal(clock) as (simulation, home):
        counts = []
        for _ in range(9):
            before = len(simulation.seen)
            async with visit() as session:
                await collect(home, session, kept)
            counts.append(sum(seen.query.get("granularity") in ("1", "2") for seen in simulation.seen[before:]))
            clock.move(hours=1)

        held = {
            (key[0], key[1], known.start, known.amount) for key, known in kept.readings.items() if key[4] in ("PT15M", "PT1H")
        }
        fortnight = [date(2026, 11, 6) + timedelta(days=n) for n in range(14)]
        truth = [one for ean in (SOLAR, GAS) for day in fortnight for one in simulation.true_intervals(ean, day)]
        injected = {(one.ean, one.register, one.start) for one in truth if one.direction == "injection"}
        assert {one[:3] for one in held} == {(one.ean, one.register, one.start) for one in truth}
        assert {(one.ean, one.register, one.start, one.value) for one in truth} == held
        assert injected
        assert max(counts) <= 7


async def test_settled_days_are_left_alone(clock: Clock, visit: Visit) -> None:
    """
    Days whose intervals are whole are read again for corrections after three days, and never once they are two weeks old.
    """
    kept = Kept()
    async with portal(clock) as (simulation, home):
        for _ in range(8 * 5):
            async with visit() as session:
                await collect(home, session, kept)
            clock.move(hours=3)
        newest = [query["historyFrom"][:10] for query in asked(simulation, SOLAR) if query["granularity"] == "1"]

        assert newest.count("2026-11-06") == 1
        assert 2 <= newest.count("2026-11-18") <= 4
        assert min(newest) == "2026-11-06"


async def test_days_asked_by_a_clock_ahead_are_asked_again(clock: Clock, visit: Visit) -> None:
    """
    What was asked while our clock was four days ahead is asked again as soon as it is right, not four days later.
    """
    async with portal(clock) as (simulation, home):
        clock.move(days=4)
        for _ in range(8):
            async with visit() as session:
                await collect(home, session, Kept())
        ahead = {query["historyFrom"][:10] for query in asked(simulation, SOLAR) if query["granularity"] == "1"}
        clock.move(days=-4)
        simulation.seen.clear()
        for _ in range(8):
            async with visit() as session:
                await collect(home, session, Kept())
        again = {query["historyFrom"][:10] for query in asked(simulation, SOLAR) if query["granularity"] == "1"}

        assert {"2026-11-16", "2026-11-17", "2026-11-18"} <= ahead & again


async def test_a_day_not_yet_published_is_not_asked_of_the_old_meter(clock: Clock, visit: Visit) -> None:
    """
    Once the present meter has measured a whole day, later days that are still empty cost one request, not one for each meter.
    """
    kept = Kept()
    async with portal(clock) as (simulation, home):
        async with visit() as session:
            await collect(home, session, kept)
        clock.at = datetime(2026, 11, 21, 3, tzinfo=UTC)
        simulation.seen.clear()
        async with visit() as session:
            await collect(home, session, kept)
        newest = [query for query in asked(simulation, SOLAR) if query["historyFrom"][:10] == "2026-11-20"]

        assert simulation.true_intervals(SOLAR, date(2026, 11, 20)) == []
        assert [query["meterSerialNumber"] for query in newest] == ["1SAG3200000018"]


@pytest.mark.parametrize(("day", "quarters", "hours"), [("2026-03-29", 92, 23), ("2026-03-30", 96, 24), ("2026-10-25", 100, 25)])
async def test_days_of_the_clock_change(day: str, quarters: int, hours: int, visit: Visit, clock: Clock) -> None:
    """
    The days on which the clocks change have 92 and 100 quarter-hours and are right in each; the gas day around them likewise.
    """
    changed = date.fromisoformat(day)
    clock.at = datetime(changed.year, changed.month, changed.day, 12, tzinfo=UTC) + timedelta(days=5)
    kept = Kept()
    async with (
        portal(clock, interval_requests=40, intervals_since=changed - timedelta(days=20)) as (simulation, home),
        visit() as session,
    ):
        told = await collect(home, session, kept)

        power, gas = simulation.true_intervals(SOLAR, changed), simulation.true_intervals(GAS, changed - timedelta(days=1))
        assert set(power) <= parts(told, SOLAR)
        assert len({one.start for one in power}) == quarters
        assert set(gas) <= parts(told, GAS)
        assert len({one.start for one in gas}) == hours
        assert set(simulation.true_days(SOLAR, changed, changed)) <= days(told)
        whole = next(one for one in days(told) if one.ean == SOLAR and one in simulation.true_days(SOLAR, changed, changed))
        assert whole.end - whole.start == timedelta(hours=hours)


@pytest.mark.parametrize("back", range(1, 13))
async def test_the_day_of_a_replacement(back: int, clock: Clock, visit: Visit) -> None:
    """
    Wherever the replacement lies in the window, its day is the sum of both halves, and no day is half or missing.
    """
    swapped = datetime(2026, 11, 20, 9, 30, tzinfo=UTC) - timedelta(days=back)
    async with portal(clock, swapped=swapped, interval_requests=30) as (simulation, home), visit() as session:
        told = await collect(home, session)

        truth = simulation.true_days(SOLAR, date(2026, 11, 10), date(2026, 11, 19))
        quarters = [one for n in range(14) for one in simulation.true_intervals(SOLAR, date(2026, 11, 6) + timedelta(days=n))]
        assert {one for one in days(told) if one.ean == SOLAR} == set(truth)
        assert parts(told, SOLAR) == set(quarters)
        serials = {one.register.point.meter for one in told if isinstance(one, Interval) and one.register.point.id == SOLAR}
        assert serials == {"1SAG3200000018"}


async def test_the_peak_of_the_month_of_a_replacement(clock: Clock, visit: Visit) -> None:
    """
    Each meter has its own peak of that month; the higher one is the month's.
    """
    swapped = datetime(2026, 10, 15, 9, 30, tzinfo=UTC)
    async with portal(clock, swapped=swapped) as (simulation, home), visit() as session:
        told = await collect(home, session)

        [october] = [one for one in peaks(told) if one.point.id == SOLAR and one.start == datetime(2026, 9, 30, 22, tzinfo=UTC)]
        assert (october.power, october.at) == simulation.true_peak(SOLAR, date(2026, 10, 1))


async def test_late_and_corrected_days(clock: Clock, visit: Visit) -> None:
    """
    Over a month of visits every day comes, those published late too, and every estimate is replaced by its correction.
    """
    kept = Kept()
    async with portal(clock) as (simulation, home):
        for _ in range(30):
            async with visit() as session:
                await collect(home, session, kept)
            clock.move(days=1)
        first, last = date(2026, 11, 12), date(2026, 12, 8)
        truth = {
            (one.ean, one.register, one.direction, one.start, one.value)
            for ean in ALL
            for one in simulation.true_days(ean, first, last)
        }
        places = {ean: simulation.data.places[ean] for ean in ALL}
        week = [first + timedelta(days=n) for n in range(25)]

        held = {
            (key[0], known.register, str(known.direction), known.start, known.amount)
            for key, known in kept.readings.items()
            if key[4] == "P1D" and first <= day_of(known.start, places[key[0]].commodity) <= last  # type: ignore[arg-type]
        }
        assert held == truth
        assert any(places[ean].estimated(day, places[ean].published(day)) for ean in ALL for day in week)
        assert any(places[ean].late(day) for ean in ALL for day in week)


async def test_empty_lists_are_no_failure(clock: Clock, visit: Visit) -> None:
    """
    Nothing published, nothing enabled, a window off the edges: all are empty lists, and no zeros.
    """
    async with portal(clock) as (simulation, home):
        for place in simulation.places:
            simulation.data.places[place.ean] = type(place)(place.ean, place.commodity, place.devices, since=date(2027, 1, 1))
        async with visit() as session:
            told = await collect(home, session)

        assert [type(one) for one in told if not isinstance(one, Note)] == [Inventory]


async def test_intervals_that_are_not_switched_on(clock: Clock, visit: Visit) -> None:
    """
    When days pass without any interval, their user is told where they are switched on; the days come all the same.
    """
    async with portal(clock, intervals_since=date(2027, 1, 1), interval_requests=30) as (_, home), visit() as session:
        told = await collect(home, session)

        assert set(notes(told)) == {
            f"meters[{index}]: no intervals come; quarter-hours (gas: hours) are switched on in the portal" for index in (0, 2)
        }
        assert days(told)


@pytest.mark.parametrize(("fault", "count"), [("codes", 1), ("nulls", 0), ("endless", 0)])
async def test_strange_values(fault: str, count: int, clock: Clock, visit: Visit) -> None:
    """
    Unknown codes are left out and counted; null is no value; a day without an end is a day.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        simulation.faults.set(f"history/{FLAT}", fault)
        told = await collect(home, session)

        truth = set(simulation.true_days(FLAT, date(2026, 11, 10), date(2026, 11, 19)))
        assert {one for one in days(told) if one.ean == FLAT} == (set() if fault == "nulls" else truth)
        assert failures(told) == []
        assert notes(told) == count * [
            "meters[1]: the portal sent what is not understood, and it was left out: 9 values with the codes t 1, dc 1, u 9, "
            "9 values with the codes t 1, dc 7, u 3, 9 values with the codes t 5, dc 1, u 3"
        ]


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("status:403", ResponseError, r"^meters\[1\]: the portal refuses the EAN or the serial \(status 403\): check both$"),
        ("status:404", ResponseError, r"^meters\[1\]: the portal refuses the EAN or the serial \(status 404\): check both$"),
        ("status:400", ResponseError, r"^meters\[1\]: the portal refuses the EAN or the serial \(status 400\): check both$"),
        (
            "status:503",
            UnreachableError,
            r"^meters\[1\]: GET /verbruik/api/meter-measurement-history/… answered with status 503$",
        ),
        ("html", ResponseError, r"^meters\[1\]: .* answered with a web page where JSON is due$"),
        ("object", ResponseError, r"^meters\[1\]: .* has changed: a list is due$"),
        ("cut", UnreachableError, r"^meters\[1\]: .* failed: "),
        ("renamed-value", ResponseError, r"^meters\[1\], days has changed: 0.v.0.v: field required$"),
    ],
)
async def test_one_failing_meter_spares_the_others(
    fault: str, error: type[Exception], message: str, clock: Clock, visit: Visit
) -> None:
    """
    A meter that fails is a shortfall that names its entry in the configuration, never its number; the others are told.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        simulation.faults.set(f"history/{FLAT}", fault)
        told = await collect(home, session)

        [failed] = failures(told)
        assert type(failed) is error
        assert re.search(message, str(failed))
        assert not re.search("[0-9]{6}|SAG|FLO", str(failed))
        assert {one.ean for one in days(told)} == {SOLAR, GAS}


async def test_a_refused_serial_is_named_by_its_place(clock: Clock, visit: Visit) -> None:
    """
    Of several serials the message says which.
    """
    async with portal(clock, swapped=datetime(2026, 11, 15, 9, 30, tzinfo=UTC)) as (simulation, home), visit() as session:
        simulation.faults.set("1SAG1100000017", "status:404")
        told = await collect(home, session)

        assert {str(one).split(":")[0] for one in failures(told)} == {"meters[0].serial[0]"}
        assert {one.ean for one in days(told)} == {FLAT, GAS}


@pytest.mark.parametrize(
    ("fault", "error"), [("status:500", UnreachableError), ("status:403", ResponseError), ("object", ResponseError)]
)
async def test_when_nothing_works(fault: str, error: type[Exception], clock: Clock, visit: Visit) -> None:
    """
    A visit of which no part worked fails as a whole.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        simulation.faults.set("/verbruik/api/", fault)
        with pytest.raises(error, match=r"^meters\[0\]"):
            await collect(home, session)


async def test_slowing_down(clock: Clock, visit: Visit) -> None:
    """
    When the portal asks us to slow down nothing more is asked; what came before is kept, and the wait is told.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        simulation.faults.set(f"history/{FLAT}", "retry:900")
        told = await collect(home, session)

        [failed] = failures(told)
        assert (type(failed), failed.wait) == (RateLimitError, timedelta(minutes=15))
        assert {one.ean for one in days(told)} == {SOLAR}
        assert simulation.seen[-1].path.endswith(FLAT)


async def test_a_portal_out_of_reach_is_not_asked_for_everything(clock: Clock, visit: Visit) -> None:
    """
    A meter whose days cannot be reached is left until the next visit, so that waits do not add up.
    """
    async with portal(clock) as (simulation, home), visit(timeout=timedelta(seconds=0.3)) as session:
        simulation.faults.set(SOLAR, "hang")
        told = await collect(home, session)

        assert len(asked(simulation, SOLAR) + asked(simulation, SOLAR, "spikes")) == 1
        assert {one.ean for one in days(told)} == {FLAT, GAS}


async def test_codes_are_never_trusted(clock: Clock, visit: Visit) -> None:
    """
    A code that brings records of another length tells its user which key to look at; what came is what it is by its length.
    """
    codes = {"day": 4, "electricity_interval": 4, "gas_interval": 4}
    async with portal(clock, granularity=codes) as (_, home), visit() as session:
        told = await collect(home, session)

        assert parts(told, SOLAR) == set()
        assert "meters[0]: code 4 brought records of another length than a interval: see the key `granularity`" in notes(told)


async def test_the_api_of_2024(clock: Clock, visit: Visit) -> None:
    """
    The old API gives the same readings: days with the halves of a replaced meter added, gas twice, and peaks.
    """
    async with portal(clock, swapped=datetime(2026, 11, 15, 9, 30, tzinfo=UTC)) as (simulation, home):
        meters = [meter.model_dump() | {"intervals": False} for meter in home.meters]
        old = Fluvius(**(simulation.accounts(home.portal_url)[0] | {"api": 2024, "meters": meters}))
        async with visit() as session:
            told = await collect(old, session)

        first, last = date(2026, 11, 10), date(2026, 11, 19)
        truth = [one for ean in (SOLAR, GAS) for one in simulation.true_days(ean, first, last)]
        assert {one for one in days(told) if one.ean != FLAT} == set(truth)
        assert len([one for one in peaks(told) if one.point.id == SOLAR]) == 14
        assert {seen.path.split("/")[-2] for seen in simulation.seen if "verbruik" in seen.path} == {
            "consumption-histories",
            "consumption-spikes",
        }


async def test_raw_answers(clock: Clock, visit: Visit) -> None:
    """
    The portal's own JSON is shown for each call, by the meter's place or EAN.
    """
    async with portal(clock) as (_, home), visit() as session:
        config = await home.raw(session, "config", {})
        months = await home.raw(session, "peaks", {"meter": FLAT, "from": "2026-01-01"})
        week = await home.raw(session, "days", {"meter": "2", "from": "2026-11-01", "to": "2026-11-07"})
        quarters = await home.raw(session, "intervals", {"meter": "0", "day": "2026-10-25"})
        gone = await home.raw(session, "intervals", {"meter": "0", "day": "2026-10-25", "serial": "1SAG1100000017"})

        assert config["auth"]["clientId"]
        assert (len(months), len(week), len(quarters), gone) == (11, 7, 100, [])
        assert set(home.calls) == {"config", "days", "intervals", "peaks"}


@pytest.mark.parametrize(
    ("call", "keys", "message"),
    [
        ("tokens", {}, "there is no such call; there are config, days, intervals, peaks"),
        ("days", {}, "days needs the key meter"),
        ("days", {"meter": "0", "code": "3"}, "days has no key code"),
        ("days", {"meter": "3"}, "meter: is 0 to 2, or the EAN of one of them"),
        ("days", {"meter": "0", "from": "gisteren"}, "from: is not a day like 2031-03-09"),
        ("days", {"meter": "0", "serial": "1SAG9"}, "serial: is not one of this meter's"),
    ],
)
async def test_raw_keys_that_are_refused(call: str, keys: dict[str, str], message: str, clock: Clock, visit: Visit) -> None:
    """
    A wrong key says what is right, before anything is asked.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        with pytest.raises(ConfigError, match=message):
            await home.raw(session, call, keys)

        assert simulation.seen == []


async def test_discover(clock: Clock, visit: Visit) -> None:
    """
    Every meter is shown with its resolutions, since when, its registers and units; a refused one says so in its place.
    """
    async with portal(clock) as (simulation, home), visit() as session:
        simulation.faults.set(GAS, "status:403")
        found = await home.discover(session)

        solar, flat, gas = found.tree
        assert _lines(solar) == [
            ("days", "2024-11-20", ["P1D"], {("day", "kWh"), ("night", "kWh")}),
            ("intervals", "2026-08-22", ["PT15M"], {("night", "kWh")}),
            ("peaks", "2024-11-01", None, set()),
        ]
        assert _lines(flat) == [("days", "2024-11-20", ["P1D"], {("total", "kWh")}), ("peaks", "2024-11-01", None, set())]
        assert gas.under[0].text == "meters[2]: the portal refuses the EAN or the serial (status 403): check both"
        assert _config(found)["meters"][0] == {
            "ean": SOLAR,
            "serial": ["1SAG1100000017", "1SAG3200000018"],
            "commodity": "electricity",
            "intervals": True,
        }


def test_the_simulations_own_configuration(clock: Clock) -> None:
    """
    The simulation's configuration is one that the portal takes as it is.
    """
    accounts = FluviusSimulation(clock).accounts("http://127.0.0.1:1")

    assert [Fluvius(**one).name for one in accounts] == ["demo-power"]


def _lines(finding: Finding) -> list[tuple[Any, ...]]:
    return [
        (
            one.facts["line"],
            one.facts["since"],
            one.facts.get("resolutions"),
            {(register.facts["register"], register.facts["unit"]) for register in one.under},
        )
        for one in finding.under
    ]


def _config(found: Discovery) -> Any:
    return yaml.safe_load(found.config)
