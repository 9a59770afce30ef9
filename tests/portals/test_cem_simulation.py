"""The simulated CEM: strict about its protocol, the same whenever it is asked, and as large as wanted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from exporter.demo.base import running
from exporter.demo.cem import CemSimulation
from exporter.demo.cem.building import LEAK
from exporter.demo.cem.curves import Register
from tests.conftest import NOW, Clock


class Browser:
    """Somebody who sends what he likes."""

    def __init__(self, client: aiohttp.ClientSession, url: str, simulation: CemSimulation) -> None:
        self.client, self.base, self.simulation = client, f"{url}/cemapi/api", simulation
        self.proof: dict[str, str] = {}

    async def log_in(self) -> None:
        form = {"user": self.simulation.username, "pass": self.simulation.password}
        async with self.client.post(f"{self.base}?id=4", data=form) as answer:
            token = (await answer.json())["access_token"]
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self.proof = {"Authorization": f"Bearer {token}", "Cookie": cookie, "Accept": "application/json"}

    async def ask(self, query: str, method: str = "GET", without: str = "", **more: Any) -> tuple[int, Any]:
        headers = {name: value for name, value in self.proof.items() if name != without}
        async with self.client.request(method, f"{self.base}?{query}", headers=headers, **more) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def browser(clock: Clock) -> AsyncIterator[Browser]:
    simulation = CemSimulation(clock, flats=3)
    async with running(simulation) as url, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield Browser(client, url, simulation)


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
async def test_wrong_logins(browser: Browser, method: str, query: str, form: dict[str, str], status: int) -> None:
    """
    A wrong password, a password in the query, and no login at all are refused.
    """
    assert (await browser.ask(query, method, data=form))[0] == status


async def test_json_is_no_form(browser: Browser) -> None:
    """
    The login is a form and no JSON.
    """
    body = {"user": browser.simulation.username, "pass": browser.simulation.password}

    assert (await browser.ask("id=4", "POST", json=body))[0] == 400


@pytest.mark.parametrize("without", ["Authorization", "Cookie"])
async def test_half_a_proof(browser: Browser, without: str) -> None:
    """
    Token and cookie belong together.
    """
    await browser.log_in()

    assert (await browser.ask("id=23"))[0] == 200
    assert (await browser.ask("id=23", without=without))[0] == 401


async def test_tokens_end(browser: Browser, clock: Clock) -> None:
    """
    A token lives as long as its `valid_to` says.
    """
    await browser.log_in()
    clock.move(minutes=59)
    assert (await browser.ask("id=23"))[0] == 200
    clock.move(minutes=1)

    assert (await browser.ask("id=23"))[0] == 401


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
async def test_wrong_calls(browser: Browser, method: str, query: str, body: Any, status: int) -> None:
    """
    Calls that the protocol does not know are refused.
    """
    await browser.log_in()

    assert (await browser.ask(query, method, json=body))[0] == status


async def test_answers_have_the_shapes_of_the_protocol(browser: Browser) -> None:
    """
    Lists are wrapped where the real ones are, numbers are text where they are, and a never read counter has no value.
    """
    await browser.log_in()
    answers = {number: (await browser.ask(f"id={number}"))[1] for number in (9, 23, 107, 108, 222)}
    _, past = await browser.ask("id=20&from=2026-11-19&to=2026-11-20")
    _, batch = await browser.ask("id=8", "POST", json=[{"var_id": 80001}, {"var_id": 80011}, {"var_id": 5}])
    _, single = await browser.ask("id=8&var_id=80001")
    counters = {one["var_id"]: one for one in answers[107]["data"]}

    assert isinstance(answers[23], list)
    assert all(answers[number]["action"] == "get" for number in (107, 108, 222))
    assert counters[80011]["var_lasttime"] is None
    assert counters[80011]["var_lastvar"] is None
    assert [one["var_id"] for one in batch] == [80001]
    assert set(single[0]) == {"value", "timestamp"}
    assert all(isinstance(one["var_id"], str) for one in past)
    assert past[0]["values"][-1] == past[0]["values"][-2]
    assert len(answers[107]["data"]) == len(counters) + 1


def test_registers_never_go_down(clock: Clock) -> None:
    """
    Over three years every register grows, and one asked again says the same.
    """
    one, two = CemSimulation(clock, flats=3), CemSimulation(clock, flats=3, leak_from=NOW)
    days = [NOW - timedelta(days=day, hours=day % 24) for day in range(0, 1095, 5)]
    for number, counter in one.building.counters.items():
        values = [one.truth(number, at) for at in days]
        if number != one.special["leak"]:
            assert values == [two.truth(number, at) for at in days]
        if isinstance(counter.curve, Register):
            assert all(newer >= older for newer, older in pairwise(values))


def test_readings_are_hourly_and_late(clock: Clock) -> None:
    """
    Readings come about every hour, at no whole hour, and reach the portal a few minutes later.
    """
    simulation = CemSimulation(clock)
    gas = simulation.special["gas"]
    times = [at for at, _ in simulation.readings(gas, NOW - timedelta(days=30), NOW)]
    steps = [(newer - older).total_seconds() for older, newer in pairwise(times)]
    clock.at = times[-1] + timedelta(seconds=30)

    assert 718 <= len(times) <= 721
    assert all(3300 < step < 3900 for step in steps)
    assert simulation.last(gas) == (times[-2], simulation.truth(gas, times[-2]))


def test_the_leak(clock: Clock) -> None:
    """
    Before its instant nothing leaks; after it, so many litres an hour more.
    """
    begins = NOW - timedelta(hours=10)
    dry, wet = CemSimulation(clock, leak_from=NOW), CemSimulation(clock, leak_from=begins)
    flat = dry.special["leak"]

    assert wet.truth(flat, begins) == dry.truth(flat, begins)
    assert wet.truth(flat, NOW) == pytest.approx(dry.truth(flat, NOW) + 10 * LEAK)


def test_the_past_has_an_end(clock: Clock) -> None:
    """
    The portal keeps three years.
    """
    simulation = CemSimulation(clock)
    times = [
        at
        for at, _ in simulation.readings(simulation.special["gas"], datetime(2023, 11, 1, tzinfo=UTC), NOW - timedelta(days=1000))
    ]

    assert NOW - timedelta(days=1095) <= times[0] <= NOW - timedelta(days=1094)


def test_size(clock: Clock) -> None:
    """
    The number of flats sets the number of counters.
    """
    assert len(CemSimulation(clock, flats=2000).building.counters) == 2000 * 6 + 11 + 1
