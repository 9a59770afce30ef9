"""The simulated CEM: strict about its protocol, the same for every request, and of any size."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from exporter.simulators.base import run_simulation
from exporter.simulators.cem.building import LEAK_PER_HOUR
from exporter.simulators.cem.curves import CountingCurve
from exporter.simulators.cem.simulation import CemSimulation
from tests.conftest import NOW, FakeClock


class RawClient:
    """A client that can send anything."""

    def __init__(self, session: aiohttp.ClientSession, url: str, simulation: CemSimulation) -> None:
        self.session, self.base, self.simulation = session, f"{url}/cemapi/api", simulation
        self.auth_headers: dict[str, str] = {}

    async def log_in(self) -> None:
        form = {"user": self.simulation.username, "pass": self.simulation.password}
        async with self.session.post(f"{self.base}?id=4", data=form) as response:
            token = (await response.json())["access_token"]
            cookie = response.headers["Set-Cookie"].partition(";")[0]
        self.auth_headers = {"Authorization": f"Bearer {token}", "Cookie": cookie, "Accept": "application/json"}

    async def request(self, query: str, method: str = "GET", without: str = "", **more: Any) -> tuple[int, Any]:
        headers = {name: value for name, value in self.auth_headers.items() if name != without}
        async with self.session.request(method, f"{self.base}?{query}", headers=headers, **more) as response:
            return response.status, await response.json()


@pytest.fixture
async def client(clock: FakeClock) -> AsyncIterator[RawClient]:
    simulation = CemSimulation(clock, flats=3)
    async with run_simulation(simulation) as url, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield RawClient(session, url, simulation)


@pytest.mark.parametrize(
    ("method", "query", "form", "status"),
    [
        ("POST", "id=4", {"user": "svj-ukazka", "pass": "wrong"}, 401),
        ("POST", "id=4", {"username": "svj-ukazka"}, 401),
        ("POST", "id=4&user=svj-ukazka&pass=x", {}, 400),
        ("GET", "id=4&user=svj-ukazka&pass=x", {}, 400),
        ("GET", "id=107", {}, 401),
        ("POST", "id=8", {}, 401),
    ],
)
async def test_wrong_logins(client: RawClient, method: str, query: str, form: dict[str, str], status: int) -> None:
    """
    A wrong password, a password in the query, and no login at all are refused.
    """
    assert (await client.request(query, method, data=form))[0] == status


async def test_json_is_no_form(client: RawClient) -> None:
    """
    The login is a form and no JSON.
    """
    body = {"user": client.simulation.username, "pass": client.simulation.password}

    assert (await client.request("id=4", "POST", json=body))[0] == 400


@pytest.mark.parametrize("without", ["Authorization", "Cookie"])
async def test_half_a_proof(client: RawClient, without: str) -> None:
    """
    Token and cookie belong together.
    """
    await client.log_in()

    assert (await client.request("id=23"))[0] == 200
    assert (await client.request("id=23", without=without))[0] == 401


async def test_tokens_end(client: RawClient, clock: FakeClock) -> None:
    """
    A token lives as long as its `valid_to` says.
    """
    await client.log_in()
    clock.advance(minutes=59)
    assert (await client.request("id=23"))[0] == 200
    clock.advance(minutes=1)

    assert (await client.request("id=23"))[0] == 401


@pytest.mark.parametrize(
    ("method", "query", "body", "status"),
    [
        ("GET", "id=999", None, 404),
        ("POST", "id=107", None, 404),
        ("GET", "id=8", None, 400),
        ("GET", "id=8&var_id=x", None, 400),
        ("GET", "id=11&cis=1", None, 400),
        ("GET", "id=3&var_id=80001&from=01/14/2026&to=01/15/2026", None, 400),
        ("GET", "id=20", None, 400),
        ("POST", "id=8", [80001], 400),
        ("POST", "id=8", [{"var_id": "80001"}], 400),
        ("POST", "id=8", [{"var_id": 80001, "x": 1}], 400),
    ],
)
async def test_wrong_calls(client: RawClient, method: str, query: str, body: Any, status: int) -> None:
    """
    Calls that the protocol does not know are refused.
    """
    await client.log_in()

    assert (await client.request(query, method, json=body))[0] == status


async def test_responses_follow_the_protocol(client: RawClient) -> None:
    """
    Lists are wrapped where the real ones are, numbers are text where they are, and a never read counter has no value.
    """
    await client.log_in()
    lists = {number: (await client.request(f"id={number}"))[1] for number in (9, 23, 107, 108, 222)}
    _, past = await client.request("id=20&from=2026-11-19&to=2026-11-20")
    _, batch = await client.request("id=8", "POST", json=[{"var_id": 80001}, {"var_id": 80011}, {"var_id": 5}])
    _, single = await client.request("id=8&var_id=80001")
    counters = {row["var_id"]: row for row in lists[107]["data"]}

    assert isinstance(lists[23], list)
    assert all(lists[number]["action"] == "get" for number in (107, 108, 222))
    assert counters[80011]["var_lasttime"] is None
    assert counters[80011]["var_lastvar"] is None
    assert [row["var_id"] for row in batch] == [80001]
    assert set(single[0]) == {"value", "timestamp"}
    assert all(isinstance(row["var_id"], str) for row in past)
    assert past[0]["values"][-1] == past[0]["values"][-2]
    assert len(lists[107]["data"]) == len(counters) + 1


def test_registers_never_go_down(clock: FakeClock) -> None:
    """
    Over three years every register grows, and another simulation has the same values.
    """
    first, second = CemSimulation(clock, flats=3), CemSimulation(clock, flats=3, leak_from=NOW)
    days = [NOW - timedelta(days=day, hours=day % 24) for day in range(0, 1095, 5)]
    for number, counter in first.building.counters.items():
        values = [first.true_value(number, at) for at in days]
        if number != first.named_counters["leak"]:
            assert values == [second.true_value(number, at) for at in days]
        if isinstance(counter.curve, CountingCurve):
            assert all(newer >= older for newer, older in pairwise(values))


def test_readings_are_hourly_and_late(clock: FakeClock) -> None:
    """
    Readings come about every hour, at no whole hour, and reach the portal a few minutes later.
    """
    simulation = CemSimulation(clock)
    gas = simulation.named_counters["gas"]
    times = [at for at, _ in simulation.list_readings(gas, NOW - timedelta(days=30), NOW)]
    steps = [(newer - older).total_seconds() for older, newer in pairwise(times)]
    clock.at = times[-1] + timedelta(seconds=30)

    assert 718 <= len(times) <= 721
    assert all(3300 < step < 3900 for step in steps)
    assert simulation.latest_reading(gas) == (times[-2], simulation.true_value(gas, times[-2]))


def test_the_leak(clock: FakeClock) -> None:
    """
    Before its instant nothing leaks; after it, so many litres an hour more.
    """
    begins = NOW - timedelta(hours=10)
    dry, wet = CemSimulation(clock, leak_from=NOW), CemSimulation(clock, leak_from=begins)
    flat = dry.named_counters["leak"]

    assert wet.true_value(flat, begins) == dry.true_value(flat, begins)
    assert wet.true_value(flat, NOW) == pytest.approx(dry.true_value(flat, NOW) + 10 * LEAK_PER_HOUR)


def test_the_past_has_an_end(clock: FakeClock) -> None:
    """
    The portal keeps three years.
    """
    simulation = CemSimulation(clock)
    times = [
        at
        for at, _ in simulation.list_readings(
            simulation.named_counters["gas"], datetime(2023, 11, 1, tzinfo=UTC), NOW - timedelta(days=1000)
        )
    ]

    assert NOW - timedelta(days=1095) <= times[0] <= NOW - timedelta(days=1094)


def test_size(clock: FakeClock) -> None:
    """
    The number of flats sets the number of counters.
    """
    assert len(CemSimulation(clock, flats=2000).building.counters) == 2000 * 6 + 11 + 1
