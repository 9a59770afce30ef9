"""The simulation of Enedis is as strict as its protocol."""

from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from exporter.simulators.base import run_simulation
from exporter.simulators.enedis.simulation import CLIENT_ID, CLIENT_SECRET, MYELECTRICALDATA_SECRET, EnedisSimulation
from tests.conftest import FakeClock

DAYS = "/mesure_synchrone_auto/v2/consommation_quotidienne"
CURVE = "/mesure_synchrone_auto/v2/courbe_de_charge_consommation"
MAX = "/mesure_synchrone_auto/v2/puissance_conso_max_quotidienne"


class Caller:
    """Calls the simulation without our client."""

    def __init__(self, url: str, simulation: EnedisSimulation, client: aiohttp.ClientSession) -> None:
        self.url, self.simulation, self.client = url, simulation, client
        self.token = ""

    async def get(self, path: str, token: str | None = None, **query: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}" if token is None else token}
        async with self.client.get(f"{self.url}{path}", params=query, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None) if "html" not in answer.content_type else None

    async def log_in(self) -> None:
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        async with self.client.post(f"{self.url}/oauth2/v3/token", data=form) as answer:
            self.token = (await answer.json())["access_token"]


@pytest.fixture
async def caller(clock: FakeClock) -> Any:
    simulation = EnedisSimulation(clock)
    async with run_simulation(simulation) as url, aiohttp.ClientSession() as client:
        yield Caller(url, simulation, client)


def query(caller: Caller, start: str, end: str, **more: str) -> dict[str, str]:
    return {"pointId": caller.simulation.recent_customer.prm, "dateDebut": start, "dateFin": end} | more


@pytest.mark.parametrize(
    ("path", "start", "end", "status", "code"),
    [
        (DAYS, "2026-11-10", "2026-11-10", 400, "ADAM-ERR0002"),
        (DAYS, "2026-11-10", "2026-11-21", 400, "Invalid_request"),
        (DAYS, "tenth", "2026-11-11", 400, "Invalid_request"),
        (DAYS, "2025-10-01", "2026-11-11", 400, "ADAM-ERR0123"),
        (CURVE, "2026-11-10", "2026-11-18", 400, "ADAM-ERR0126"),
        (CURVE, "2025-10-16", "2025-10-20", 404, "no_data_found"),
        (DAYS.replace("consommation", "production"), "2026-11-10", "2026-11-12", 400, "ADAM-ERR0069"),
    ],
)
async def test_ranges_are_enforced(caller: Caller, path: str, start: str, end: str, status: int, code: str) -> None:
    """
    Days out of bounds are refused with the code of the document.
    """
    await caller.log_in()
    found, body = await caller.get(path, **query(caller, start, end))

    assert (found, body["error"]) == (status, code)


async def test_history_ends(caller: Caller) -> None:
    """
    Older than what is kept is another refusal than older than the contract.
    """
    await caller.log_in()
    prm = {"pointId": caller.simulation.producer.prm}
    _, body = await caller.get(CURVE, **query(caller, "2024-11-01", "2024-11-05") | prm)
    good, _ = await caller.get(CURVE, **query(caller, "2024-11-08", "2024-11-15") | prm)

    assert body["error"] == "ADAM-ERR0125"
    assert good == 200


@pytest.mark.parametrize("more", [{"usage_point_id": "1"}, {"mesuresPas": "P1D"}])
async def test_unexpected_parameters_are_trouble(caller: Caller, more: dict[str, str]) -> None:
    """
    What the swagger does not name is answered with 500; of the largest power, what it misses too.
    """
    await caller.log_in()

    assert (await caller.get(DAYS, **query(caller, "2026-11-10", "2026-11-12", **more)))[0] == 500
    assert (await caller.get(MAX, **query(caller, "2026-11-10", "2026-11-12")))[0] == 500
    assert (await caller.get(f"/situation_contrat_auto/v1/{caller.simulation.recent_customer.prm}", x="1"))[0] == 500


async def test_tokens_end(caller: Caller, clock: FakeClock) -> None:
    """
    A token lives for three hours and a half.
    """
    await caller.log_in()
    clock.advance(seconds=12599)
    assert (await caller.get(DAYS, **query(caller, "2026-11-10", "2026-11-12")))[0] == 200
    clock.advance(seconds=1)
    assert (await caller.get(DAYS, **query(caller, "2026-11-10", "2026-11-12")))[0] == 401


async def test_the_address_ban(caller: Caller) -> None:
    """
    The hundredth call in twelve hours bans the address, for good.
    """
    token = f"Bearer {caller.simulation.conso.token}"
    asked = query(caller, "2026-11-10", "2026-11-12")
    answers = [(await caller.get("/api/consommation_quotidienne", token, **asked))[0] for _ in range(100)]

    assert answers == [200] * 99 + [403]
    assert caller.simulation.conso.is_banned


async def test_the_quota_of_an_hour(caller: Caller, clock: FakeClock) -> None:
    """
    A thousand calls an hour are answered by Data Connect, and the next response names the wait.
    """
    await caller.log_in()
    caller.simulation.dataconnect._call_counter.calls += [clock.at] * 1000
    status, body = await caller.get(DAYS, **query(caller, "2026-11-10", "2026-11-12"))

    assert status == 429
    assert body["nextAccessTime"] == "2026-Nov-20 10:30:00+0000 UTC"


async def test_quotas_of_myelectricaldata(caller: Caller) -> None:
    """
    Version 1 allows 50 direct calls a day; version 2 refuses inside its envelope.
    """
    prm = caller.simulation.recent_customer.prm
    path = f"/daily_consumption/{prm}/start/2026-11-10/end/2026-11-12"
    token = caller.simulation.v1_tokens[prm]
    answers = [(await caller.get(path, token))[0] for _ in range(51)]
    assert answers == [200] * 50 + [409]
    assert (await caller.get(f"{path}/cache", token))[0] == 200
    assert (await caller.get(path, f"Bearer {token}"))[0] == 401

    caller.simulation.myelectricaldata_v2._call_counter.calls += [caller.simulation.clock()] * 1000
    status, body = await caller.get(
        f"/api/enedis/power/{prm}", f"Bearer {MYELECTRICALDATA_SECRET}", start="2026-11-10", end="2026-11-12"
    )
    assert (status, body["success"], body["error"]["code"]) == (200, False, "RATE_LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("path", "start", "expected"),
    [
        ("consumption/daily", "2025-10-01", ("", "")),
        ("power", "2025-10-01", ("", "")),
        ("consumption/detail", "2025-10-12", ("NO_DATA", "made up")),
        ("production/daily", "2026-11-01", ("ENEDIS_ERROR", "ADAM-ERR0069: made up")),
    ],
)
async def test_version_2_hides_what_enedis_refuses(caller: Caller, path: str, start: str, expected: tuple[str, str]) -> None:
    """
    Days before the activation are success without points, a refused curve is no data; other codes stand in the message.
    """
    prm = caller.simulation.recent_customer.prm
    status, body = await caller.get(
        f"/api/enedis/{path}/{prm}",
        f"Bearer {MYELECTRICALDATA_SECRET}",
        start=start,
        end="2025-10-17" if "2025" in start else "2026-11-03",
    )
    error = body["error"] or {"code": "", "message": ""}

    assert (status, (error["code"], error["message"])) == (200, expected)
    assert body["success"] is (expected == ("", ""))


async def test_the_contract_of_version_2_is_an_object(caller: Caller) -> None:
    """
    The contracts stand beside what other calls say, one of which is null; a producer's has no power.
    """
    prm = caller.simulation.producer.prm
    headers = {"Authorization": f"Bearer {MYELECTRICALDATA_SECRET}", "X-MED-Format": "2026"}
    async with caller.client.get(f"{caller.url}/api/enedis/contract/{prm}", headers=headers) as answer:
        body = await answer.json()

    assert list(body["data"]) == ["situation_contrat", "synthese_contrat", "comptage"]
    assert [contract["subscribed_power"] for contract in body["data"]["situation_contrat"]] == [
        None,
        {"unit": "kVA", "value": "9"},
    ]


async def test_mornings_are_late_and_each_series_on_its_own(caller: Caller, clock: FakeClock) -> None:
    """
    Nothing of yesterday is there before eight; then the series come one by one, all by half past ten.
    """
    source, young = caller.simulation.source, caller.simulation.recent_customer
    yesterday = source.today - timedelta(days=1)
    ready = [source.ready_at(young, kind, False, yesterday) for kind in ("days", "max", "curve", "index")]

    assert len(set(ready)) > 1
    clock.at = clock.at.replace(hour=7, minute=0)
    assert min(ready) >= clock.at
    assert max(ready) <= clock.at + timedelta(hours=2, minutes=30)


def test_truth_is_the_same_tomorrow(clock: FakeClock) -> None:
    """
    Two simulations that began on the same day have the same truth.
    """
    first, second = EnedisSimulation(clock), EnedisSimulation(clock)
    clock.advance(days=3)
    day = first.source.today

    assert first.get_true_curve(first.recent_customer, day) == second.get_true_curve(second.recent_customer, day)
    assert first.get_true_index(first.producer, day) == second.get_true_index(second.producer, day)
