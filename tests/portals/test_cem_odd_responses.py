# `account` is a fixture
"""CEM: what real portals send beside the usual: one odd value costs one value, and what is not needed may be missing."""

import json
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exporter.errors import ResponseError
from exporter.models import Index, Unit, VisitResult
from exporter.portals.cem.lists import COUNTERS
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from tests.conftest import FakeClock, InMemoryAccountStore, OpenSession
from tests.portals.test_cem_visits import BATCH, CemFixture

COUNTER_LIST = "api?id=107"


@pytest.fixture
async def account(visit: OpenSession, clock: FakeClock) -> AsyncIterator[CemFixture]:
    simulation = CemSimulation(clock)
    async with run_simulation(simulation) as url:
        yield CemFixture(simulation, url, visit, clock)


async def visit_once(account: CemFixture, **keys: Any) -> VisitResult:
    async with account.visit() as session:
        return await account.cem(**keys).fetch_latest(session)


def read_values(result: VisitResult) -> dict[int, float]:
    return {int(one.register.name): one.value for one in result.readings if isinstance(one, Index)}


@pytest.mark.parametrize(
    ("fault", "field", "count"),
    [("put:pot_id:null", "pot_id", 79), ('put:var_id:"x"', "var_id", 79), ("null_row", "an entry", 80)],
)
async def test_an_odd_row_costs_a_new_account_one_counter(account: CemFixture, fault: str, field: str, count: int) -> None:
    """
    A row of the list of counters that cannot be understood is left out, counted once, and noted as long as the list is used.
    """
    account.simulation.faults.add(COUNTER_LIST, fault)
    first = await visit_once(account)
    account.clock.advance(minutes=30)
    second = await visit_once(account)
    note = f"id=107 (counters): skipped invalid fields: {field}"

    assert len(first.readings) == len(second.readings) == count
    assert (first.skipped, second.skipped) == (1, 0)
    assert note in first.notes
    assert note in second.notes
    assert not first.failures


def test_an_odd_row_costs_no_memory() -> None:
    """
    A long list is read in the same memory whether one of its rows is odd or none.
    """
    rows = [{"var_id": number, "me_id": number, "pot_id": 3, "var_lastvar": 1.5, "var_nasob": 1.0} for number in range(50_000)]
    bodies = [json.dumps({"data": [*rows, *more]}).encode() for more in ([], [None])]
    peaks, skipped = [], Counter[str]()
    for body in bodies:
        tracemalloc.start()
        found, odd = COUNTERS.parse_tolerantly(body, "the list")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found) == 50_000
        skipped += odd

    assert skipped == {"an entry": 1}
    assert peaks[1] < 1.25 * peaks[0]


def test_a_list_that_has_changed_is_no_list_of_odd_rows() -> None:
    """
    When most rows cannot be understood, the portal has changed: the field is named.
    """
    odd: list[dict[str, Any]] = [{"var_id": number, "me_id": 1, "pot_id": None} for number in range(150)]
    good = [{"var_id": 1000 + number, "me_id": 1, "pot_id": 3} for number in range(100)]

    assert len(COUNTERS.parse_tolerantly(json.dumps(odd[:100] + good), "the list")[0]) == 100
    with pytest.raises(ResponseError, match=r"the list has changed: data\.0\.pot_id"):
        COUNTERS.parse_tolerantly(json.dumps(odd + good), "the list")


@pytest.mark.parametrize(("text", "value"), [("412,008", 412.008), ("412.008", 412.008), (" 7 ", 7.0)])
async def test_a_number_as_text(account: CemFixture, text: str, value: float) -> None:
    """
    A number may come as text, with a comma too.
    """
    gas = account.simulation.named_counters["gas"]
    account.simulation.faults.add(BATCH, f"put:value:{json.dumps(text)}")

    assert read_values(await visit_once(account, counters={"include": [gas]})) == {gas: value}


async def test_a_text_that_is_no_number(account: CemFixture) -> None:
    """
    It is left out and counted; the other counters come, and the list of counters states the missing one.
    """
    await visit_once(account)
    account.clock.advance(minutes=30)
    account.simulation.faults.add(BATCH, 'put:value:"12 m3"')
    result = await visit_once(account)

    assert len(result.readings) == 79
    assert result.skipped == 1
    assert "id=8 (last values): skipped invalid fields: value" in result.notes


@pytest.mark.parametrize("hours", [1, 30, -500_000])
async def test_a_stamp_that_cannot_be(account: CemFixture, hours: int) -> None:
    """
    Stamps an hour ahead, or of the seventies, are left out, counted and noted: they would stay the newest for ever.
    """
    await visit_once(account)
    account.clock.advance(minutes=30)
    stamp = round((account.clock() + timedelta(hours=hours)).timestamp() * 1000)
    account.simulation.faults.add(BATCH, f"put_all:timestamp:{stamp}")
    result = await visit_once(account)

    assert not result.readings
    assert result.skipped == 80
    assert "Some readings carry an impossible time and were left out." in result.notes


async def test_a_multiplier_is_noted(account: CemFixture) -> None:
    """
    A multiplier other than 1 is noted and not applied: whether values contain it is not known.
    """
    gas = account.simulation.named_counters["gas"]
    plain = await visit_once(account, counters={"include": [gas]})
    account.clock.advance(hours=13)
    account.simulation.faults.add(COUNTER_LIST, "put:var_nasob:10")
    result = await visit_once(account, counters={"include": [gas]})

    assert not [note for note in plain.notes if "var_nasob" in note]
    assert [note for note in result.notes if "var_nasob" in note] == [
        f"counters with a multiplier (var_nasob) other than 1, shown as the portal states them, without it: {gas}"
    ]
    at, value = account.simulation.latest_reading(gas) or (None, None)
    assert [(one.at, one.value) for one in result.readings if isinstance(one, Index)] == [(at, value)]


@pytest.mark.parametrize("fault", ["nothing", "put_all:value:null"])
async def test_silence_is_noted_after_a_day(account: CemFixture, fault: str) -> None:
    """
    A batch without any value is a good visit; when it stays so for a day, a note says what to check, until values come.
    """
    await visit_once(account)
    account.simulation.faults.add(BATCH, fault)
    notes = []
    for _ in range(3):
        account.clock.advance(hours=12, minutes=5)
        notes.append([note for note in (await visit_once(account)).notes if "no last value" in note])
    account.simulation.faults.clear()
    after = await visit_once(account)

    assert [len(some) for some in notes] == [0, 0, 1]
    assert "check `counters` and `objects`" in notes[2][0]
    assert not [note for note in after.notes if "no last value" in note]


async def test_a_selection_of_nothing_is_noted(account: CemFixture) -> None:
    """
    A selection that leaves no counter to show says so.
    """
    result = await visit_once(account, objects={"include": [999_999]})

    assert not result.readings
    assert {
        "selected objects that this account does not hold: 999999",
        "No counter is left to show: check `counters` and `objects`.",
    } <= set(result.notes)


async def test_a_meter_listed_twice_is_the_open_one(account: CemFixture) -> None:
    """
    Of the same meter, listed open and closed, the open row counts: serials and counters are as if it were listed once.
    """
    plain = await visit_once(account)
    account.simulation.lists_meters_twice = True
    account.clock.advance(hours=13)
    twice = await visit_once(account)

    assert twice.inventory == plain.inventory
    assert len(twice.readings) == len(plain.readings) == 80


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("hours", [0.5, 12.5])
async def test_a_unit_that_changes(account: CemFixture, memory: InMemoryAccountStore, is_restarted: bool, hours: float) -> None:
    """
    When the portal changes heat from GJ to kWh, types are requested before a value 277 times as large is stored, and once.
    """
    if is_restarted and hours > 12:
        hours = 11.5  # after a restart there is nothing to compare a new list with but the old one
    heat = account.simulation.named_counters["heat 1"]
    before = await visit_once(account)
    account.simulation.heat_in_kwh = True
    if is_restarted:
        memory.cache.clear()
    account.clock.advance(hours=hours)
    requests = len(account.simulation.requests)
    after = await visit_once(account)
    (register,) = (one.register for one in after.readings if isinstance(one, Index) and one.register.name == str(heat))

    assert read_values(after)[heat] == pytest.approx(read_values(before)[heat], rel=0.01)
    assert read_values(after)[heat] == (account.simulation.latest_reading(heat) or (None, None))[1]
    assert (register.unit, register.portal_unit) == (Unit.KWH, "kWh")
    assert account.count_requests(requests)["GET 222"] == 1
    account.clock.advance(minutes=30)
    await visit_once(account)
    assert account.count_requests(requests)["GET 222"] == 1


async def test_a_jump_without_a_change_of_units_asks_once(account: CemFixture) -> None:
    """
    A register that really became a thousand times itself costs one request for types, and its value is stored as it is.
    """
    gas = account.simulation.named_counters["gas"]
    value = read_values(await visit_once(account))[gas]
    account.simulation.faults.add(BATCH, f"put_all:value:{value * 1000}")
    counts = []
    for _ in range(3):
        account.clock.advance(hours=2)
        requests = len(account.simulation.requests)
        result = await visit_once(account, counters={"include": [gas]})
        counts.append(account.count_requests(requests)["GET 222"])

    assert read_values(result) == {gas: value * 1000}
    assert counts == [1, 0, 0]


LOGIN = "api?id=4"
ODD_LOGINS = {
    "status:400": "status 400",
    "status:404": "status 404",
    "status:422": "status 422",
    "status:423": "status 423",
    "redirect": "status 302",
    "html": "returned HTML, expected JSON",
    'put:valid_to:"soon"': "valid_to: not a time in milliseconds",
}


@pytest.mark.parametrize("fault", ODD_LOGINS)
async def test_a_login_that_is_neither_yes_nor_no(account: CemFixture, fault: str) -> None:
    """
    The password is sent four times on the first day and once a day later, over restarts; the failure says what came.
    """
    account.simulation.faults.add(LOGIN, fault)
    daily, messages = [], set[str]()
    for _ in range(3):
        requests = len(account.simulation.requests)
        for _ in range(48):
            with pytest.raises(ResponseError) as raised:
                await visit_once(account)
            messages.add(str(raised.value))
            account.clock.advance(minutes=30)
        daily.append(account.count_requests(requests))

    assert daily[0] == {"POST 4": 4}
    assert all(counts["POST 4"] <= 1 for counts in daily[1:])
    assert all(ODD_LOGINS[fault] in message for message in messages)
    account.simulation.faults.clear()
    account.clock.advance(days=1)
    assert len((await visit_once(account)).readings) == 80


@pytest.mark.parametrize(("path", "hint"), [("", ", it usually ends in /api"), ("/cemapi/api/v9/api", "")])
async def test_a_wrong_address_is_named(account: CemFixture, path: str, hint: str) -> None:
    """
    `base_url` is the address to which the documented parameters are added, so it usually ends in /api.
    """
    with pytest.raises(ResponseError) as raised:
        await visit_once(account, base_url=account.url + path)

    assert str(raised.value).endswith(f"returned status 404; check base_url{hint}")


@pytest.mark.parametrize("session_end", ["unauthorized", "status:401", "status:403", "redirect", "html"])
async def test_a_session_that_died_before_its_date(account: CemFixture, session_end: str) -> None:
    """
    However the portal answers a dead session, one login and one repetition bring the values; the next visit needs none.
    """
    account.simulation.session_end = session_end
    await visit_once(account)
    account.clock.advance(minutes=30)
    account.simulation.sessions.clear()
    requests = len(account.simulation.requests)
    result = await visit_once(account)
    account.clock.advance(minutes=10)
    again = await visit_once(account)

    assert len(result.readings) == len(again.readings) == 80
    assert not result.failures
    assert account.count_requests(requests) == {"POST 8": 3, "POST 4": 1}


@pytest.mark.parametrize("fault", ["status:403", "redirect", "html"])
async def test_a_function_that_is_refused_to_everybody(account: CemFixture, fault: str) -> None:
    """
    A function that is always answered as if the session were dead costs no login at every visit.
    """
    account.simulation.faults.add("api?id=9", fault)
    for _ in range(48):
        result = await visit_once(account)
        account.clock.advance(minutes=30)

    assert len(result.readings) == 80
    assert account.count_requests()["POST 4"] <= 27  # one for each token of an hour, and two
    assert account.count_requests()["GET 9"] <= 6


async def test_raw_names_a_number_that_is_not_there(account: CemFixture) -> None:
    """
    A number that the portal does not know is said to be wrong.
    """
    account.simulation.faults.add("me_id=999999", "status:404")
    async with account.visit() as session:
        with pytest.raises(ResponseError, match=r"^Meter 999999 is not in this account \(404\): check the number$"):
            await account.cem().fetch_raw(session, "counters", {"me_id": "999999"})


async def test_what_another_register_counts_too(visit: OpenSession, clock: FakeClock) -> None:
    """
    Two tariffs are part of their total, and heat in GJ is part of the same heat in kWh, where types and values say so.
    """
    simulation = CemSimulation(clock, flats=1, has_sub_registers=True)
    names = ("high tariff", "low tariff", "tariffs", "heat in GJ", "heat in kWh")
    high, low, total, gigajoule, kilowatt_hour = (simulation.named_counters[name] for name in names)
    async with run_simulation(simulation) as url:
        account = CemFixture(simulation, url, visit, clock)
        result = await visit_once(account)
        without_total = await visit_once(account, counters={"exclude": [total]})
        without_low = await visit_once(account, counters={"exclude": [low]})
        clock.advance(hours=13)
        account.simulation.faults.add(COUNTER_LIST, f"put_all:var_lastvar:{5000.0}")
        other = await visit_once(account)

    def find_parts(result: VisitResult) -> dict[int, int]:
        assert result.inventory is not None
        return {int(one.name): int(one.part_of) for one in result.inventory.registers or () if one.part_of}

    values = read_values(result)
    assert values[high] + values[low] == pytest.approx(values[total], abs=2)
    assert values[gigajoule] == pytest.approx(values[kilowatt_hour], rel=0.001)
    assert find_parts(result) == {high: total, low: total, gigajoule: kilowatt_hour}
    assert find_parts(without_total) == {gigajoule: kilowatt_hour}
    assert find_parts(without_low) == {high: total, gigajoule: kilowatt_hour}
    assert find_parts(other) == {}


async def test_when_the_login_is_valid(account: CemFixture) -> None:
    """
    From when to when the portal accepts the login is told without permission for personal data.
    """
    account.simulation.access_expires = datetime(2027, 1, 1, tzinfo=UTC)
    result = await visit_once(account)

    assert result.holder is not None
    assert (result.holder.login_valid_from, result.holder.access_expires) == (
        datetime(2022, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert result.holder.name == result.holder.company == ""
