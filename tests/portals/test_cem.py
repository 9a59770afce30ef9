"""CEM: one account of fixtures, parsed to exact values; and the configuration keys."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from yarl import URL

from exporter.errors import LoginError, NoDataError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.models import (
    Commodity,
    Direction,
    Holder,
    Index,
    Inventory,
    Nature,
    Register,
    Unit,
    UsagePoint,
)
from exporter.portals.cem.account import Cem
from exporter.portals.cem.config import CemConfig
from tests.conftest import FakeClock, InMemoryAccountStore, OpenSession
from tests.portals.test_cem_visits import list_parts
from tests.visit_parts import Note, PartialFailure, VisitPart

FIXTURES = Path(__file__).parent.parent / "fixtures" / "cem"
BASE = "https://cem.example/cemapi/api"
LISTS = {9: "account", 23: "objects", 108: "meters", 107: "counters", 222: "types"}
AT = datetime(2026, 11, 20, 9, 20, 45, tzinfo=UTC)
LATER = AT + timedelta(seconds=1)


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def portal(**keys: Any) -> Cem:
    defaults: dict[str, Any] = {"name": "flats", "portal": "cem", "username": "svj-ukazka", "password": "tajné", "base_url": BASE}
    return Cem(CemConfig(**(defaults | keys)))


def mock_responses(web: Any, but: Mapping[int, Any] | None = None, last: Mapping[str, Any] | None = None) -> None:
    """Respond with the fixtures, except for the functions in `but`, and with `last` to the batch."""
    web.post(f"{BASE}?id=4", payload=fixture("login"), headers={"Set-Cookie": "CEMAPI=c0ok=ie; HttpOnly; Secure; Path=/cemapi"})
    for function, name in LISTS.items():
        web.get(f"{BASE}?id={function}", **(but or {}).get(function, {"payload": fixture(name)}))
    web.post(f"{BASE}?id=8", **(last or {"payload": fixture("last")}))


async def fetch_parts(cem: Cem, visit: OpenSession) -> list[VisitPart]:
    async with visit() as session:
        return list_parts(await cem.fetch_latest(session))


def values(parts: list[VisitPart]) -> dict[str, float]:
    return {one.register.name: one.value for one in parts if isinstance(one, Index)}


async def test_an_account_to_exact_values(web: Any, visit: OpenSession) -> None:
    """
    Every counter that is shown is returned once, under its lowest meter in service, in our units, at the portal's instant.
    """
    mock_responses(web)
    parts = await fetch_parts(portal(personal_data=True), visit)
    water = UsagePoint("70001", Commodity.WATER, meter="INV00001", site="Byt 4", place_id="9110")
    heat = UsagePoint("70002", Commodity.HEAT, meter="INV00002", site="Byt 4", name="Kotel", place_id="9111")
    sensor = UsagePoint("70003", Commodity.OTHER, site="Vchod A", place_id="9120")
    gas = UsagePoint("70004", Commodity.GAS, meter="INV00004", site="9130", place_id="9130")
    solar = UsagePoint("70006", Commodity.ELECTRICITY, meter="INV00006", site="Vchod A", place_id="9100")
    key = "LB_POCTYP_"
    injection, momentary = Direction.INJECTION, Nature.MOMENTARY
    expected = [
        Index(Register(water, Unit.M3, name="80001", kind=key + "SV", portal_unit="m³"), 412.108, LATER),
        Index(Register(heat, Unit.KWH, name="80002", kind=key + "KALGJ", portal_unit="GJ"), 1000.0, LATER),
        Index(Register(heat, Unit.CELSIUS, name="80003", nature=momentary, kind=key + "VSTUPTEPL", portal_unit="°C"), 55.5, AT),
        Index(Register(sensor, Unit.CELSIUS, name="80004", nature=momentary, kind=key + "INTEP", portal_unit="°C"), 21.6, LATER),
        Index(
            Register(
                sensor,
                Unit.RELATIVE_HUMIDITY,
                name="80005",
                nature=momentary,
                kind=key + "VLH",
                portal_unit="%",
                description="Ložnice",
            ),
            0.46,
            LATER,
        ),
        Index(Register(gas, Unit.M3, name="80007", kind=key + "PLY", portal_unit="m³"), 1520.5, LATER),
        Index(Register(solar, Unit.KWH, injection, "80009", kind=key + "ELDOD", portal_unit="kWh"), 911.0, LATER),
        Index(Register(solar, Unit.KWH, name="80010", nature=Nature.AMOUNT, kind=key + "ELSO", portal_unit="kWh"), 0.5, LATER),
        Index(Register(heat, Unit.KWH, name="80013", kind=key + "EL", portal_unit="kWh", description="Společná"), 77.5, LATER),
        Index(Register(sensor, "", name="80014", nature=momentary), 5.75, LATER),
        Index(Register(sensor, "kWh", name="80015", nature=momentary, kind=key + "NOVY", portal_unit="kWh"), 6.75, LATER),
        Index(Register(sensor, "ppm", name="80016", nature=momentary, kind=key + "CO2", portal_unit="ppm"), 611.0, LATER),
    ]

    names = {Nature.COUNTER: "Přírustková", Nature.MOMENTARY: "Absolutní", Nature.AMOUNT: "Absolutní součtová"}
    found = sorted((one for one in parts if isinstance(one, Index)), key=lambda one: one.register.name)
    assert [one.register.value_type for one in found] == [
        "" if one.register.name in ("80014", "80015") else names[one.register.nature] for one in found
    ]
    assert [one.register.type_id for one in found] == ["3", "14", "19", "7", "12", "6", "27", "36", "4", "777", "778", "17"]
    plain = [replace(one, register=replace(one.register, value_type="", type_id="")) for one in found]
    assert plain == expected
    assert parts[0] == Holder(
        "Jana Ukázková",
        "SVJ Ukázka",
        "301",
        "401",
        "501",
        datetime(2028, 1, 1, tzinfo=UTC),
        datetime(2022, 1, 1, tzinfo=UTC),
    )
    inventory = parts[1]
    assert isinstance(inventory, Inventory)
    assert inventory.registers is not None
    assert {register.name for register in inventory.registers} == set(values(parts))
    assert set(inventory.usage_points) == {water, heat, sensor, gas, solar}
    assert [one for one in parts if isinstance(one, Note)] == [
        Note("counter types of an unknown kind of value, shown as momentary values: 777, 778")
    ]
    assert not [one for one in parts if isinstance(one, PartialFailure)]


async def test_the_password_is_in_the_form_and_the_token_in_the_headers(
    web: Any, visit: OpenSession, memory: InMemoryAccountStore
) -> None:
    """
    The login is a form; every other call carries token and cookie, and both are kept with the end that the portal states.
    """
    mock_responses(web)
    await fetch_parts(portal(), visit)
    calls = {(method, url.query_string): call[0].kwargs for (method, url), call in web.requests.items()}
    login = calls.pop(("POST", "id=4"))

    assert login["data"] == {"user": "svj-ukazka", "pass": "tajné"}
    assert len(calls) == 6
    assert all(call["headers"]["Authorization"] == "Bearer 5f2c0001" for call in calls.values())
    assert all(call["headers"]["Cookie"] == "CEMAPI=c0ok=ie" for call in calls.values())
    assert all(call["headers"]["Accept"] == "application/json" for call in calls.values())
    stored = memory.values["token"][0]
    assert (stored["value"], stored["more"]) == ("5f2c0001", {"cookie": "c0ok=ie"})
    assert stored["ends"] == datetime(2026, 11, 20, 11, 30, tzinfo=UTC).timestamp()


async def test_other_wrappings_are_the_same(web: Any, visit: OpenSession) -> None:
    """
    Where the portal wraps, bare responses are parsed too, and the reverse.
    """

    def turned(name: str) -> Any:
        body = fixture(name)
        return body["data"] if isinstance(body, dict) and "data" in body else {"data": body, "action": "get"}

    mock_responses(web)
    plain = await fetch_parts(portal(), visit)
    web.post(f"{BASE}?id=4", payload={"data": fixture("login")})
    for function, name in LISTS.items():
        web.get(f"{BASE}?id={function}", payload=turned(name), content_type="text/plain")
    web.post(f"{BASE}?id=8", payload=turned("last"))

    async with visit(store=InMemoryAccountStore()) as session:
        assert list_parts(await portal().fetch_latest(session)) == plain


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({"include_states": True}, {"80006"}),
        ({"include_removed": True}, {"80008"}),
        ({"include_states": True, "include_removed": True}, {"80006", "80008"}),
    ],
)
async def test_more_than_the_eligible(web: Any, visit: OpenSession, keys: dict[str, Any], shown: set[str]) -> None:
    """
    States and removed meters are shown when wanted; what the batch leaves out comes from the fresh list of counters.
    """
    mock_responses(web)
    plain = {"80001", "80002", "80003", "80004", "80005", "80007", "80009", "80010", "80013", "80014", "80015", "80016"}

    assert set(values(await fetch_parts(portal(**keys), visit))) == plain | shown


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({"counters": {"include": [80001]}}, "80001"),
        ({"counters": {"include": [80006, 80008, 80011]}}, "80006 80008 80011"),
        ({"counters": {"exclude": [80001]}, "objects": {"include": [9101]}}, "80002 80003 80013"),
        ({"objects": {"include": [9101]}}, "80001 80002 80003 80013"),
        ({"objects": {"include": [9101], "exclude": [9111]}}, "80001"),
        ({"objects": {"include": [9111], "exclude": [9101]}}, "80002 80003 80013"),
        ({"objects": {"exclude": [9100]}}, "80007"),
        ({"objects": {"include": [9130]}, "counters": {"include": [80001]}}, "80001 80007"),
        ({"objects": {"exclude": [9100]}, "counters": {"include": [80001]}}, "80001"),
        ({"objects": {"exclude": [9120]}, "counters": {"exclude": [80007]}}, "80001 80002 80003 80009 80010 80013"),
    ],
)  # fmt: skip
async def test_selection(web: Any, visit: OpenSession, keys: dict[str, Any], shown: str) -> None:
    """
    Counters and objects are included or excluded by number; the nearest object decides; an included counter wins over all.
    """
    mock_responses(web)

    assert sorted(values(await fetch_parts(portal(**keys), visit))) == shown.split()


async def test_what_is_selected_but_not_there(web: Any, visit: OpenSession) -> None:
    """
    Unknown numbers are noted and harm nobody.
    """
    mock_responses(web)
    keys = {"counters": {"include": [80001, 123], "exclude": [124]}, "objects": {"include": [9101, 5]}}
    parts = await fetch_parts(portal(**keys), visit)

    assert {one.text for one in parts if isinstance(one, Note)} == {
        "selected counters that this account does not hold: 123, 124",
        "selected objects that this account does not hold: 5",
    }
    assert "80001" in values(parts)


async def test_an_included_counter_is_shown_as_soon_as_it_is_read(web: Any, visit: OpenSession, clock: FakeClock) -> None:
    """
    A counter never read is requested when it is included, noted while it has no value, and returned at its first reading.
    """
    mock_responses(web, last={"payload": []})
    included = portal(counters={"include": [80012]})
    before = await fetch_parts(included, visit)
    clock.advance(minutes=30)
    web.post(f"{BASE}?id=8", payload=[{"var_id": 80012, "value": 0.25, "timestamp": 1795167945000}])
    after = await fetch_parts(included, visit)

    assert [one for one in before if isinstance(one, Note)] == [Note("selected counters that have never been read: 80012")]
    assert values(before) == {}
    assert [one for one in after if isinstance(one, Note)] == []
    assert values(after) == {"80012": 0.25}


async def test_an_impossible_time_is_noted(web: Any, visit: OpenSession) -> None:
    """
    A reading whose time no calendar knows is left out, and the rest of its response is returned.
    """
    rows = [{"var_id": 80001, "value": 1.0, "timestamp": 10**18}, {"var_id": 80007, "value": 2.0, "timestamp": 1795166445000}]
    mock_responses(web, last={"payload": rows})
    parts = await fetch_parts(portal(counters={"include": [80001, 80007]}), visit)

    assert values(parts)["80007"] == 2.0
    assert Note("Some readings carry an impossible time and were left out.") in parts


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"status": 401}, LoginError),
        ({"status": 403}, LoginError),
        ({"payload": {"user": "svj-ukazka", "valid_to": 1795174200000}}, LoginError),
        ({"payload": {"access_token": "5f2c0001"}}, LoginError),
        ({"payload": {"access_token": "", "valid_to": 1795174200000}}, LoginError),
        ({"payload": []}, LoginError),
        ({"payload": {"access_token": "5f2c0001", "valid_to": "soon"}}, ResponseError),
        ({"body": "<html>"}, ResponseError),
        ({"status": 404}, ResponseError),
        ({"status": 503}, UnreachableError),
        ({"exception": TimeoutError()}, UnreachableError),
        ({"status": 429, "headers": {"Retry-After": "120"}}, RateLimitError),
    ],
)
async def test_logins_that_fail(web: Any, visit: OpenSession, response: dict[str, Any], error: type[PortalError]) -> None:
    """
    Only a refusal, or JSON without a token, is a refused login; its message holds nothing that was sent or answered.
    """
    web.post(f"{BASE}?id=4", **response)

    with pytest.raises(error) as raised:
        await fetch_parts(portal(), visit)

    assert not any(secret in str(raised.value) for secret in ("tajné", "svj-ukazka", "5f2c", "id=4&"))


FAILURES: list[tuple[dict[str, Any], type[PortalError]]] = [
    ({"status": 503}, UnreachableError),
    ({"exception": TimeoutError()}, UnreachableError),
    ({"status": 404}, ResponseError),
    ({"body": "<!DOCTYPE html>"}, ResponseError),
    ({"body": ""}, ResponseError),
    ({"payload": {"message": "x"}}, ResponseError),
    ({"payload": [{"new_name": 1}]}, ResponseError),
]


@pytest.mark.parametrize(("response", "error"), FAILURES)
async def test_a_list_of_counters_that_fails(
    web: Any, visit: OpenSession, response: dict[str, Any], error: type[PortalError]
) -> None:
    """
    Without a list of counters that was never loaded there is nothing to return.
    """
    mock_responses(web, {107: response})

    with pytest.raises(error):
        await fetch_parts(portal(), visit)


@pytest.mark.parametrize("function", [23, 108])
@pytest.mark.parametrize(("response", "error"), FAILURES)
async def test_objects_that_are_selected_are_needed(
    web: Any, visit: OpenSession, function: int, response: dict[str, Any], error: type[PortalError]
) -> None:
    """
    Where objects are selected, their list and that of meters decide what is shown.
    """
    mock_responses(web, {function: response})

    with pytest.raises(error):
        await fetch_parts(portal(objects={"include": [9101]}), visit)


@pytest.mark.parametrize("function", [9, 23, 107, 108, 222])
async def test_a_rate_limit_is_one_everywhere(web: Any, visit: OpenSession, function: int) -> None:
    """
    A portal that asks to wait is asked nothing more, whatever it was asked.
    """
    mock_responses(web, {function: {"status": 429}})

    with pytest.raises(RateLimitError):
        await fetch_parts(portal(), visit)


SIDE_NOTES = {
    9: "The end of access is not known: ",
    23: "Sites have no names: ",
    108: "Meters have no serial numbers, and removed ones are not told apart: ",
    222: "The units of counters are those usual at CEM: ",
}


@pytest.mark.parametrize(
    ("function", "response"),
    [
        *((function, response) for function in SIDE_NOTES for response, _ in FAILURES),
        *((function, {"payload": []}) for function in (9, 108, 222)),  # an account may have no objects
    ],
)
async def test_what_readings_do_not_need(
    web: Any, visit: OpenSession, memory: InMemoryAccountStore, function: int, response: dict[str, Any]
) -> None:
    """
    Account, objects, meters and types may be refused, empty or changed: the readings come with the right values, the
    visit succeeds, a note says what is missing, and nothing of it is stored.
    """
    mock_responses(web, {function: response})
    parts = await fetch_parts(portal(), visit)
    shown = values(parts)

    assert {name: shown[name] for name in ("80001", "80002", "80007", "80009")} == {
        "80001": 412.108,
        "80002": 1000.0,
        "80007": 1520.5,
        "80009": 911.0,
    }
    assert not [one for one in parts if isinstance(one, PartialFailure)]
    assert len([one for one in parts if isinstance(one, Note) and one.text.startswith(SIDE_NOTES[function])]) == 1
    assert LISTS[function] not in memory.values


async def test_what_was_missing_is_asked_again(web: Any, visit: OpenSession, clock: FakeClock) -> None:
    """
    Names that are refused are asked again after six hours, not at every visit; once they come, the note is gone.
    """
    mock_responses(web, {23: {"status": 404}})
    await fetch_parts(portal(), visit)
    for _ in range(11):
        clock.advance(minutes=30)
        mock_responses(web)
        await fetch_parts(portal(), visit)
    assert len(web.requests["GET", URL(f"{BASE}?id=23")]) == 1
    clock.advance(minutes=31)
    mock_responses(web)
    parts = await fetch_parts(portal(), visit)

    assert len(web.requests["GET", URL(f"{BASE}?id=23")]) == 2
    assert not [one for one in parts if isinstance(one, Note) and "Sites" in one.text]
    assert {one.register.usage_point.site for one in parts if isinstance(one, Index)} >= {"Byt 4", "Vchod A"}


async def test_an_account_without_counters(web: Any, visit: OpenSession, memory: InMemoryAccountStore) -> None:
    """
    No counters are no data yet; the empty list does not stand for hours.
    """
    mock_responses(web, {107: {"payload": []}})

    with pytest.raises(NoDataError, match=r"id=107 .* is empty"):
        await fetch_parts(portal(), visit)

    assert LISTS[107] not in memory.values


async def test_the_holder_is_kept_only_if_wanted(web: Any, visit: OpenSession, memory: InMemoryAccountStore) -> None:
    """
    Who holds the account is neither returned nor stored until `personal_data` allows it, nor any longer when it no longer does.
    """
    for personal in (False, True, False):
        mock_responses(web)
        parts = await fetch_parts(portal(personal_data=personal), visit)

        assert isinstance(parts[0], Holder)
        assert parts[0].access_expires == datetime(2028, 1, 1, tzinfo=UTC)
        assert [parts[0].name, "Jana Ukázková" in str(memory.values["account"])] == [
            "Jana Ukázková" if personal else "",
            personal,
        ]


async def test_the_holder_is_not_needed(web: Any, visit: OpenSession) -> None:
    """
    An account that cannot be read leaves the readings, and the visit succeeds.
    """
    mock_responses(web, {9: {"status": 403}})
    parts = await fetch_parts(portal(), visit)

    assert len(values(parts)) == 12
    assert not [one for one in parts if isinstance(one, PartialFailure | Holder)]


async def test_a_list_that_is_due_serves_on(web: Any, visit: OpenSession, clock: FakeClock) -> None:
    """
    When meters cannot be listed any more, the stored list is used, the readings come, and the visit reports the failure.
    """
    mock_responses(web)
    before = await fetch_parts(portal(), visit)
    clock.advance(hours=13)
    mock_responses(web, {107: {"payload": [{"renamed": 1}]}})
    parts = await fetch_parts(portal(), visit)

    assert parts[:2] == before[:2]
    assert len(values(parts)) == 11
    assert isinstance(parts[-1], PartialFailure)
    assert "id=107 (counters) has changed: data.0.var_id: field required" in str(parts[-1].error)


async def test_a_new_type_is_looked_up(web: Any, visit: OpenSession, clock: FakeClock) -> None:
    """
    A counter of a type that is not stored requests the types before their week has passed.
    """
    mock_responses(web)
    await fetch_parts(portal(), visit)
    clock.advance(hours=13)
    types = fixture("types")["data"]
    new = types[0] | {"pot_id": 777, "lt_key": "LB_POCTYP_TV"}
    mock_responses(web, {222: {"payload": [*types, new]}})
    parts = await fetch_parts(portal(), visit)
    (register,) = (one.register for one in parts if isinstance(one, Index) and one.register.name == "80014")

    assert (register.unit, register.nature, register.kind) == (Unit.M3, Nature.COUNTER, "LB_POCTYP_TV")


@pytest.mark.parametrize("by", ["account", "counter"])
async def test_history_of_one_and_of_all(web: Any, visit: OpenSession, by: str) -> None:
    """
    Past readings are returned once, of shown counters only, for the requested days and one more.
    """
    mock_responses(web)
    web.get(f"{BASE}?id=20&from=2026-01-14&to=2026-01-15", payload=fixture("history_all"))
    web.get(f"{BASE}?id=3&from=2026-01-14&to=2026-01-15&var_id=80001", payload=fixture("history_one"))
    first, second = (datetime(2026, 1, 14, hour, 0, 45, tzinfo=UTC) for hour in (21, 22))
    selection = {"counters": {"include": [80001]}} if by == "counter" else {}
    cem = portal(history_by=by, **selection)
    async with visit() as session:
        found = await cem.read(session, cem.list_feeds()[0], date(2026, 1, 14), date(2026, 1, 14))
    expected = {
        "account": [("80001", 411.9, first), ("80002", 2000.0, first)],
        "counter": [("80001", 411.9, first), ("80001", 412.008, second)],
    }

    assert [(one.register.name, one.value, one.at) for one in found.readings if isinstance(one, Index)] == expected[by]
    assert found.requests == 5  # four of them for the lists


async def test_discover(web: Any, visit: OpenSession) -> None:
    """
    Sites hold meters, meters hold counters, with serials, kinds, last values, and why one is not shown.
    """
    mock_responses(web)
    async with visit() as session:
        found = await portal(counters={"exclude": [80004, 5]}).discover(session)
    site = {one.text: one for one in found.findings}
    flat = site["Vchod A / Byt 4"]

    assert list(site) == ["9130", "Vchod A", "Vchod A / Byt 4"]
    assert [meter.text for meter in flat.children] == [
        "meter 70001 INV00001",
        "meter 70002 INV00002 Kotel",
        "meter 70005 INV00005, removed 2025-03-03",
    ]
    assert [one.text for one in flat.children[1].children] == [
        "counter 80002 heat: 3.6 GJ at 2026-11-20 09:20 UTC",
        "counter 80003 flow temperature: 55.5 °C at 2026-11-20 09:20 UTC",
        "counter 80013 electricity Společná: 77 kWh at 2026-11-20 09:20 UTC",
    ]
    facts = flat.children[1].children[0].facts
    assert (facts["portal_nature"], facts["nature"], facts["shown"]) == ("Přírustková", "counter", True)
    reasons = {one.facts["var_id"]: one.facts["reason"] for a in found.findings for b in a.children for one in b.children}
    assert {number: reason for number, reason in reasons.items() if reason} == {
        80004: "not selected",
        80006: "state",
        80008: "removed",
        80011: "service counter",
        80012: "never read",
    }
    assert "    - 80001  # Byt 4, INV00001, LB_POCTYP_SV\n" in found.config
    assert "80004" not in found.config
    assert "selected counters that this account does not hold: 5" in found.notes


@pytest.mark.parametrize(
    ("call", "keys", "query", "name"),
    [
        ("user_info", {}, "id=9", "account"),
        ("objects", {}, "id=23", "objects"),
        ("meters", {"mis_id": "9110"}, "id=108&mis_id=9110", "meters"),
        ("counters", {"me_id": "70001", "secret": "x"}, "id=107&me_id=70001", "counters"),
        ("counter_last", {"var_id": "80001"}, "id=8&var_id=80001", "last"),
        (
            "counter_history",
            {"var_id": "80001", "from": "2026-01-14", "to": "2026-01-15"},
            "from=2026-01-14&id=3&to=2026-01-15&var_id=80001",
            "history_one",
        ),
        ("types", {}, "id=222", "types"),
        ("value_types", {}, "cis=50&id=11", "value_types"),
        ("value_types", {"cis": "135"}, "cis=135&id=11", "value_types"),
    ],
)
async def test_raw(web: Any, visit: OpenSession, call: str, keys: dict[str, str], query: str, name: str) -> None:
    """
    A raw call returns the portal's own JSON, wrapped or not, and sends only parameters it knows.
    """
    web.post(f"{BASE}?id=4", payload=fixture("login"))
    web.get(f"{BASE}?{query}", payload=fixture(name))

    async with visit() as session:
        assert await portal().fetch_raw(session, call, keys) == fixture(name)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"base_url": "cem.example/api"}, "must be an address like https://host/path"),
        ({"base_url": "https://me:pw@cem.example/api"}, "must be an address like https://host/path"),
        ({"base_url": "https://cem.example/api?id=4"}, "must be an address like https://host/path"),
        ({"counters": {"include": [1], "exclude": [1]}}, "1 is both included and excluded"),
        ({"counters": {"only": [1]}}, "Extra inputs are not permitted"),
        ({"every": "30s"}, "must be 1m to 1d"),
        ({"every": "2d"}, "must be 1m to 1d"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"parallel": 9}, "less than or equal to 8"),
        ({"include_state": True}, "Extra inputs are not permitted"),
    ],
)
def test_keys_that_cannot_be(keys: dict[str, Any], message: str) -> None:
    """
    A key that cannot be meant is refused.
    """
    with pytest.raises(ValidationError, match=message):
        portal(**keys)


def test_keys() -> None:
    """
    The defaults are the contract's, the password stays hidden, and its change is another login.
    """
    plain = CemConfig(name="flats", portal="cem", username="svj", password="geheim")  # type: ignore[arg-type]

    assert plain.base_url == "https://cemapi.unimonitor.eu/api"
    assert (plain.every, plain.metadata_every, plain.types_every) == (
        timedelta(minutes=30),
        timedelta(hours=12),
        timedelta(days=7),
    )
    assert (plain.batch_size, plain.parallel) == (500, 2)
    assert "geheim" not in repr(plain)
    assert portal(password="a").config.build_login_digest() != portal(password="b").config.build_login_digest()
    assert portal(include_states=True).config.build_login_digest() == portal().config.build_login_digest()
    assert portal(base_url=BASE + "/").config.base_url == BASE
