"""CEM: whole visits to the simulated portal, its failures, and its history."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exporter.client.session import Session
from exporter.errors import (
    FeedRefusedError,
    LoginError,
    PortalError,
    RateLimitError,
    ResponseError,
    TooLongError,
    UnreachableError,
)
from exporter.models import Holder, Index, Inventory, Nature, Unit, VisitResult
from exporter.portals.cem import feeds
from exporter.portals.cem.account import Cem
from exporter.portals.cem.config import CemConfig
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from exporter.sync.feeds import FeedResult
from tests import visit_parts
from tests.conftest import FakeClock, InMemoryAccountStore, OpenSession
from tests.visit_parts import PartialFailure, VisitPart

PRAGUE = ZoneInfo("Europe/Prague")
BATCH = "api?id=8"


def list_parts(result: VisitResult) -> list[VisitPart]:
    """Return the parts of a visit, readings after what describes them, failures last."""
    return sorted(
        visit_parts.list_parts(result),
        key=lambda part: (isinstance(part, PartialFailure), isinstance(part, Index), not isinstance(part, Holder)),
    )


class CemFixture:
    """A simulation and an account at it."""

    def __init__(self, simulation: CemSimulation, url: str, visit: OpenSession, clock: FakeClock) -> None:
        self.simulation, self.url, self.visit, self.clock = simulation, url, visit, clock

    def cem(self, **keys: Any) -> Cem:
        (account,) = self.simulation.build_accounts(self.url)
        return Cem(CemConfig(**(account | keys)))

    async def fetch(self, cem: Cem | None = None, **more: Any) -> list[VisitPart]:
        async with self.visit(**more) as session:
            return list_parts(await (cem or self.cem()).fetch_latest(session))

    async def read(self, first: date, last: date, cem: Cem | None = None) -> FeedResult:
        cem = cem or self.cem()
        async with self.visit() as session:
            return await cem.read(session, cem.list_feeds()[0], first, last)

    def count_requests(self, since: int = 0) -> Counter[str]:
        return Counter(f"{one.method} {one.query['id']}" for one in self.simulation.requests[since:])

    def counters(self, parts: list[VisitPart]) -> dict[int, Index]:
        return {int(one.register.name): one for one in parts if isinstance(one, Index)}


@pytest.fixture
async def account(visit: OpenSession, clock: FakeClock) -> AsyncIterator[CemFixture]:
    simulation = CemSimulation(clock)
    async with run_simulation(simulation) as url:
        yield CemFixture(simulation, url, visit, clock)


def convert_unit(index: Index, value: float) -> float:
    """Return the simulation's value in our unit."""
    if index.register.unit == Unit.RELATIVE_HUMIDITY:
        return value / 100
    return value / 0.0036 if index.register.portal_unit == "GJ" else value


async def test_a_visit_tells_the_truth(account: CemFixture) -> None:
    """
    Every counter that is shown has the value and the instant of its newest reading; the others stay away.
    """
    parts = await account.fetch()
    found = account.counters(parts)
    hidden = {account.simulation.named_counters[word] for word in ("door", "radio", "removed", "never read")}

    assert found.keys() == account.simulation.building.counters.keys() - hidden
    for number, index in found.items():
        assert index.value == pytest.approx(convert_unit(index, account.simulation.true_value(number, index.at)))
        assert (index.at, account.simulation.true_value(number, index.at)) == account.simulation.latest_reading(number)
        assert timedelta(0) < account.clock() - index.at < timedelta(hours=1, minutes=15)
    assert not [one for one in parts if isinstance(one, PartialFailure)]


async def test_lists_are_asked_seldom(account: CemFixture) -> None:
    """
    Lists of the account are requested every 12 hours and types every 7 days; other visits request last values only.
    """
    first = await account.fetch()
    assert account.count_requests() == dict.fromkeys(["POST 4", "GET 107", "GET 108", "GET 23", "GET 222", "GET 9", "POST 8"], 1)
    account.clock.advance(minutes=30)
    request_count = len(account.simulation.requests)
    second = await account.fetch()
    assert account.count_requests(request_count) == {"POST 8": 1}
    assert [one for one in second if isinstance(one, Inventory)] == [one for one in first if isinstance(one, Inventory)]
    account.clock.advance(hours=12)
    request_count = len(account.simulation.requests)
    await account.fetch()
    assert account.count_requests(request_count) == dict.fromkeys(
        ["POST 4", "GET 107", "GET 108", "GET 23", "GET 9", "POST 8"], 1
    )
    account.clock.advance(days=7)
    request_count = len(account.simulation.requests)
    await account.fetch()

    assert account.count_requests(request_count)["GET 222"] == 1


async def test_a_thousand_counters_in_few_calls(visit: OpenSession, clock: FakeClock) -> None:
    """
    1,000 counters need at most 6 calls, and with all lists and the login at most 12.
    """
    simulation = CemSimulation(clock, flats=166)
    async with run_simulation(simulation) as url:
        account = CemFixture(simulation, url, visit, clock)
        found = account.counters(await account.fetch())
        first = len(simulation.requests)
        clock.advance(minutes=30)
        again = account.counters(await account.fetch())

    assert len(found) == len(again) == len(simulation.building.counters) - 4 > 1000
    assert first <= 12
    assert len(simulation.requests) - first <= 6


async def test_batches_have_a_size_and_stay_bounded(account: CemFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Batches are as large as set, and no more of them are under way than set.
    """
    running_now, max_running = 0, 0
    request = Session.request

    async def watched(self: Session, *args: Any, **more: Any) -> Any:
        nonlocal running_now, max_running
        running_now += 1
        max_running = max(max_running, running_now)
        try:
            return await request(self, *args, **more)
        finally:
            running_now -= 1

    monkeypatch.setattr(Session, "request", watched)
    found = account.counters(await account.fetch(account.cem(batch_size=10, parallel=3)))

    assert len(found) == 80
    assert account.count_requests()["POST 8"] == 8
    assert max_running == 3


async def test_one_login_over_restarts(account: CemFixture) -> None:
    """
    Token and cookie are kept, renewed 5 minutes before their end, and one login serves all parallel calls.
    """
    small = account.cem(batch_size=5, parallel=8)
    await account.fetch(small)
    account.clock.advance(minutes=54)
    await account.fetch(small)
    assert account.count_requests()["POST 4"] == 1
    account.clock.advance(minutes=2)
    await account.fetch(small)

    assert account.count_requests()["POST 4"] == 2
    assert len(account.simulation.requests) == 5 + 1 + 1 + 3 * 16


async def test_never_two_logins_within_five_minutes(account: CemFixture) -> None:
    """
    A portal whose tokens expire at once is not asked for a new one by every request.
    """
    account.simulation.token_lifetime = timedelta(minutes=2)
    await account.fetch()
    account.clock.advance(minutes=3)
    with pytest.raises(ResponseError, match="not logging in again so soon"):
        await account.fetch()
    assert account.count_requests()["POST 4"] == 1
    account.clock.advance(minutes=2)
    await account.fetch()

    assert account.count_requests()["POST 4"] == 2


async def test_an_expired_token_costs_one_login(account: CemFixture) -> None:
    """
    When the portal has forgotten all tokens, one login and one repetition follow, however many calls meet the 401.
    """
    small = account.cem(batch_size=5, parallel=8)
    before = account.counters(await account.fetch(small))
    account.clock.advance(minutes=30)
    request_count = len(account.simulation.requests)
    account.simulation.faults.add(BATCH, "expired", times=1)
    after = account.counters(await account.fetch(small))

    assert after.keys() == before.keys()
    assert account.count_requests(request_count)["POST 4"] == 1
    assert account.count_requests(request_count)["POST 8"] <= 16 + 8
    assert account.count_requests(request_count)["GET 8"] == 0


async def test_no_storm_when_every_token_is_refused(account: CemFixture) -> None:
    """
    A 401 after a fresh login fails the visit: no second login, no single calls, the rest is left alone.
    """
    small = account.cem(batch_size=5)
    await account.fetch(small)
    account.clock.advance(minutes=30)
    request_count = len(account.simulation.requests)
    account.simulation.faults.add(BATCH, "unauthorized")
    with pytest.raises(ResponseError, match="refused the token"):
        await account.fetch(small)

    assert account.count_requests(request_count)["POST 4"] == 1
    assert account.count_requests(request_count)["GET 8"] == 0
    assert sum(account.count_requests(request_count).values()) <= 8


async def test_a_login_elsewhere(account: CemFixture) -> None:
    """
    Somebody else's login that ends ours is handled like an expiry.
    """
    await account.fetch()
    account.clock.advance(minutes=30)
    account.simulation.faults.add(BATCH, "second_login", times=1)

    assert len(account.counters(await account.fetch())) == 80


async def test_a_refused_login(account: CemFixture) -> None:
    """
    A wrong password is a refused login after one try.
    """
    with pytest.raises(LoginError):
        await account.fetch(account.cem(password="wrong"))

    assert account.count_requests() == {"POST 4": 1}


async def test_no_secret_in_any_address(account: CemFixture) -> None:
    """
    What stands in addresses is function numbers alone.
    """
    await account.fetch()

    assert {key for request in account.simulation.requests for key in request.query} == {"id"}


@pytest.mark.parametrize("fault", ["batch_refused", "no_list", "status:404", "status:403", "status:500"])
async def test_single_calls_where_the_batch_is_refused(account: CemFixture, fault: str) -> None:
    """
    A batch that is refused as such, or whose response is no list, is requested again counter by counter.
    """
    few = account.cem(objects={"include": [account.simulation.building.meters[8].object_id - 1]}, batch_size=4)
    account.simulation.faults.add(BATCH, fault, times=2)
    found = account.counters(await account.fetch(few))

    assert len(found) == 6
    assert account.count_requests()["POST 8"] == 2
    assert account.count_requests()["GET 8"] == 6
    assert all(
        (one.at, account.simulation.true_value(number, one.at)) == account.simulation.latest_reading(number)
        for number, one in found.items()
    )


async def test_single_calls_that_fail(account: CemFixture) -> None:
    """
    A counter refused on its own costs itself; where every single call fails, so does the visit, after a few of them.
    """
    account.simulation.faults.add("api?id=8&var_id=80005", "status:404")
    account.simulation.faults.add(BATCH, "batch_refused")
    parts = await account.fetch()
    assert len(account.counters(parts)) == 80  # the fresh list of counters knows the one that is missing
    assert isinstance(parts[-1], PartialFailure)
    account.clock.advance(minutes=30)
    assert len(account.counters(await account.fetch())) == 79
    account.simulation.faults.clear()
    account.simulation.faults.add("api?id=8&var_id", "status:503")
    account.simulation.faults.add(BATCH, "batch_refused")
    request_count = len(account.simulation.requests)
    with pytest.raises(UnreachableError):
        await account.fetch()

    assert account.count_requests(request_count) == {"POST 8": 1, "GET 8": 4}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:503", UnreachableError),
        ("hang", UnreachableError),
        ("reset", UnreachableError),
        ("cut", UnreachableError),
        ("retry:120", RateLimitError),
        ("html", ResponseError),
        ("empty", ResponseError),
        ("garbage", ResponseError),
        ("renamed:value", ResponseError),
        ("unauthorized", ResponseError),
    ],
)
async def test_no_single_calls_for_other_failures(account: CemFixture, fault: str, error: type[PortalError]) -> None:
    """
    A portal that fails, limits or has changed gets no single requests, and after three failures in a row none at all.
    """
    await account.fetch()
    account.clock.advance(minutes=30)
    request_count = len(account.simulation.requests)
    account.simulation.faults.add(BATCH, fault)
    with pytest.raises(error):
        await account.fetch(account.cem(batch_size=5), timeout=timedelta(seconds=0.2))

    assert account.count_requests(request_count)["GET 8"] == 0
    assert account.count_requests(request_count)["POST 8"] <= 8


async def test_the_wait_asked_for_is_passed_on(account: CemFixture) -> None:
    """
    Retry-After becomes the wait of the failure, and nothing else is requested.
    """
    account.simulation.faults.add(BATCH, "retry:120")
    with pytest.raises(RateLimitError) as raised:
        await account.fetch(account.cem(batch_size=5, parallel=1))

    assert raised.value.retry_after == timedelta(seconds=120)
    assert account.count_requests()["POST 8"] == 1


async def test_a_failed_part_leaves_the_rest(account: CemFixture) -> None:
    """
    One batch that fails costs its own counters only, and the visit reports it.
    """
    await account.fetch()
    account.clock.advance(minutes=30)
    account.simulation.faults.add(BATCH, "status:503", times=1)
    parts = await account.fetch(account.cem(batch_size=10))

    assert len(account.counters(parts)) == 70
    assert isinstance(parts[-1], PartialFailure)
    assert isinstance(parts[-1].error, UnreachableError)


async def test_a_limit_in_the_middle_stops_the_visit(account: CemFixture) -> None:
    """
    A rate limit ends the requests; what was returned before stays.
    """
    await account.fetch()
    account.clock.advance(minutes=30)
    request_count = len(account.simulation.requests)
    inject_fault = account.simulation.inject_fault

    async def third(fault: str, request: Any, handler: Any) -> Any:
        number = account.count_requests(request_count)["POST 8"]
        return await (inject_fault("retry:60", request, handler) if number == 3 else handler(request))

    account.simulation.inject_fault = third  # type: ignore[method-assign]
    account.simulation.faults.add(BATCH, "third")
    parts = await account.fetch(account.cem(batch_size=10, parallel=2))

    assert len(account.counters(parts)) == 30
    assert account.count_requests(request_count)["POST 8"] == 4
    assert isinstance(parts[-1], PartialFailure)
    assert isinstance(parts[-1].error, RateLimitError)


async def test_a_partial_batch(account: CemFixture) -> None:
    """
    Counters that the response leaves out are no failure; at the first visit the list of counters fills in for them.
    """
    account.simulation.faults.add(BATCH, "partial")
    first = account.counters(await account.fetch())
    account.clock.advance(minutes=30)
    second = await account.fetch()

    assert len(first) == 80
    assert len(account.counters(second)) == 40
    assert not [one for one in second if isinstance(one, PartialFailure)]


async def test_an_empty_batch(account: CemFixture) -> None:
    """
    A batch that is answered with nothing is a good visit without readings.
    """
    await account.fetch()
    account.simulation.faults.add(BATCH, "partial")
    account.simulation._list_latest = lambda counters: []  # type: ignore[method-assign]
    parts = await account.fetch()

    assert account.counters(parts) == {}
    assert not [one for one in parts if isinstance(one, PartialFailure)]


async def test_several_accounts_and_the_old_proofs(account: CemFixture) -> None:
    """
    Two accounts at one portal keep their own tokens.
    """
    other = InMemoryAccountStore()
    one, two = await asyncio.gather(account.fetch(), account.fetch(store=other))

    assert account.counters(one).keys() == account.counters(two).keys()
    assert account.count_requests()["POST 4"] == 2


@pytest.mark.parametrize("wrapped", [True, False])
async def test_every_wrapping(account: CemFixture, wrapped: bool) -> None:
    """
    Whether the portal wraps all of its lists or none, visit and past are the same; the end of access is returned.
    """
    plain = account.counters(await account.fetch())
    account.simulation.wrap_lists = wrapped
    account.simulation.access_expires = datetime(2027, 1, 1, tzinfo=UTC)
    parts = await account.fetch(store=InMemoryAccountStore())
    readings = (await account.read(date(2026, 11, 19), date(2026, 11, 19))).readings

    assert account.counters(parts) == plain
    assert [one.access_expires for one in parts if isinstance(one, Holder)] == [datetime(2027, 1, 1, tzinfo=UTC)]
    assert len(readings) > 79 * 23


async def test_natures(account: CemFixture) -> None:
    """
    Amounts and temperatures are never registers, and what the roof produces is injection.
    """
    found = account.counters(await account.fetch(account.cem(include_states=True)))
    special = account.simulation.named_counters
    nature = {word: found[special[word]].register.nature for word in ("solar hourly", "outdoor", "door", "gas", "solar")}

    assert nature == {
        "solar hourly": Nature.AMOUNT,
        "outdoor": Nature.MOMENTARY,
        "door": Nature.STATE,
        "gas": Nature.COUNTER,
        "solar": Nature.COUNTER,
    }
    assert found[special["solar"]].register.direction == "injection"
    assert found[special["gas"]].register.usage_point.commodity == "gas"


async def test_a_replaced_meter(account: CemFixture) -> None:
    """
    The removed meter keeps its last value, at the instant of its end, where it is wanted; the new one counts from zero.
    """
    found = account.counters(await account.fetch(account.cem(include_removed=True)))
    old, new = (found[account.simulation.named_counters[word]] for word in ("removed", "replacement"))

    assert old.at < datetime(2025, 3, 3, 9, 20, tzinfo=UTC) < new.at
    assert old.register.usage_point.id != new.register.usage_point.id
    assert old.value > new.value > 0


async def test_no_secret_in_logs_and_errors(account: CemFixture, caplog: pytest.LogCaptureFixture) -> None:
    """
    Neither logs nor failures hold password, token, cookie or serial.
    """
    caplog.set_level(logging.DEBUG)
    messages: list[str] = []
    for fault in ("unauthorized", "renamed:value", "status:503", "html"):
        account.simulation.faults.clear()
        account.simulation.faults.add(BATCH, fault)
        try:
            messages += [str(one) for one in await account.fetch() if isinstance(one, PartialFailure)]
        except PortalError as error:
            messages.append(repr(error))
        account.clock.advance(hours=13)
    text = "\n".join([caplog.text, *messages])
    tokens = [part for token, login in account.simulation.sessions.items() for part in (token, login.cookie)]

    assert len(messages) == 4
    assert not [secret for secret in (account.simulation.password, "SIM00", "Ukáz", *tokens) if secret in text]


async def test_discover_and_raw(account: CemFixture) -> None:
    """
    discover finds every counter; raw returns the portal's own JSON and no token.
    """
    async with account.visit() as session:
        found = await account.cem().discover(session)
        raw = {name: await account.cem().fetch_raw(session, name, keys) for name, keys in RAW.items()}
    numbers = {one.facts["var_id"] for site in found.findings for meter in site.children for one in meter.children}

    assert numbers == account.simulation.building.counters.keys()
    assert [site.text for site in found.findings][:3] == ["SVJ Ukázka", "SVJ Ukázka / Kotelna", "SVJ Ukázka / Střecha"]
    assert "SVJ Ukázka / Vchod 1 / Byt 12" in [site.text for site in found.findings]
    assert raw.keys() == Cem.raw_calls.keys()
    assert len(raw["counters"]["data"]) == 85
    assert len(raw["counter_history"]) == 24
    assert not [token for token in account.simulation.sessions if token in str(raw)]


RAW = {
    "user_info": {},
    "objects": {},
    "meters": {},
    "counters": {},
    "counter_last": {"var_id": "80001"},
    "counter_history": {"var_id": "80001", "from": "2026-11-18", "to": "2026-11-19"},
    "types": {},
    "value_types": {},
}


@pytest.mark.parametrize("by", ["account", "counter"])
@pytest.mark.parametrize("to_included", [True, False])
async def test_the_past_is_the_truth(account: CemFixture, by: str, to_included: bool) -> None:
    """
    Over the end of summer time every reading of every day comes, whether `to` is included or not.
    """
    account.simulation.includes_last_day = to_included
    special = account.simulation.named_counters
    chosen = {special[word] for word in ("leak", "gas", "heat 1", "humidity 1", "door")}
    cem = account.cem(history_by=by, counters={"include": list(chosen)})
    result = await account.read(date(2026, 10, 10), date(2026, 11, 5), cem)
    found = [one for one in result.readings if isinstance(one, Index)]
    start, end = datetime(2026, 10, 10, tzinfo=PRAGUE), datetime(2026, 11, 6, tzinfo=PRAGUE)

    assert result.requests == 4 + (1 if by == "account" else len(chosen))
    assert not result.skipped
    for number in chosen:
        true = account.simulation.list_readings(number, start.astimezone(UTC), end.astimezone(UTC))
        read = {one.at: (one, one.value) for one in found if one.register.name == str(number)}
        assert len(true) >= 27 * 24
        assert read.keys() >= {at for at, _ in true}
        assert all(read[at][1] == pytest.approx(convert_unit(read[at][0], value)) for at, value in true)


def test_the_feed_has_a_name_for_ever(account: CemFixture) -> None:
    """
    The feed of a selection keeps its key, in whatever order numbers are listed; another selection is another feed.
    """
    some, same, other = (
        account.cem(counters={"include": numbers}).list_feeds() for numbers in ([80001, 80002], [80002, 80001], [80001])
    )

    assert len(some) == 1
    assert some == same
    assert some[0].key == "readings:2e8e2f72"
    assert len({some[0].key, other[0].key, account.cem().list_feeds()[0].key}) == 3


@pytest.mark.parametrize(
    ("limit", "keys", "requests"),
    [
        (250_000, {}, {"GET 20": 1}),
        (250_000, {"counters": {"include": [80001]}}, {"GET 20": 1}),
        (250_000, {"history_by": "counter", "counters": {"include": [80001, 80002]}}, {"GET 3": 2}),
        (5 * 24 * 85, {"counters": {"include": [80001, 80002]}}, {"GET 3": 2}),
        (5 * 24 * 85, {"history_days": 5}, {"GET 20": 1}),
    ],
)
async def test_how_the_past_is_asked(
    account: CemFixture, monkeypatch: pytest.MonkeyPatch, limit: int, keys: dict[str, Any], requests: dict[str, int]
) -> None:
    """
    All counters at once while a response stays small, one by one for few out of many.
    """
    monkeypatch.setattr(feeds, "MAX_READINGS_PER_RESPONSE", limit)
    cem = account.cem(**keys)
    await account.read(date(2026, 6, 30) - timedelta(days=cem.config.history_days - 1), date(2026, 6, 30), cem)
    asked = account.count_requests()

    assert {name: asked[name] for name in ("GET 20", "GET 3") if asked[name]} == requests


async def test_a_response_stays_small(account: CemFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    More days than fit in a response are refused before they are requested; the engine then asks for fewer.
    """
    monkeypatch.setattr(feeds, "MAX_READINGS_PER_RESPONSE", 2 * 24 * 85)
    with pytest.raises(TooLongError, match="14 days of 84 counters"):
        await account.read(date(2026, 6, 17), date(2026, 6, 30))
    with pytest.raises(TooLongError):
        await account.read(date(2026, 6, 28), date(2026, 6, 30))
    assert account.count_requests()["GET 20"] == 0
    found = await account.read(date(2026, 6, 29), date(2026, 6, 30))

    assert found.requests == 1
    assert len(found.readings) > 2 * 24 * 79


async def test_of_a_city_the_readings_around_midnight_come(account: CemFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where one day of all counters does not fit in a response, the readings around its midnight do: days can be derived.
    """
    monkeypatch.setattr(feeds, "MAX_READINGS_PER_RESPONSE", 3 * 85)
    monkeypatch.setattr(feeds, "MAX_READINGS_BESIDE_MANY", 3 * 85)
    day = date(2026, 10, 25)
    with pytest.raises(TooLongError):
        await account.read(day, day + timedelta(days=1))
    found = await account.read(day, day)
    midnight = datetime(2026, 10, 25, tzinfo=PRAGUE)
    instants: dict[str, list[datetime]] = defaultdict(list)
    for reading in found.readings:
        assert isinstance(reading, Index)
        instants[reading.register.name].append(reading.at)

    assert found.requests == 1
    assert len(instants) == 80
    for some in instants.values():
        assert min(some) < midnight <= max(some)
        assert max(some) - min(some) < timedelta(hours=2.5)


async def test_of_a_large_city_no_history_is_read(account: CemFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where not even those fit in the memory, the feed is refused, without a request, and says what helps.
    """
    monkeypatch.setattr(feeds, "MAX_READINGS_PER_RESPONSE", 3 * 85)
    monkeypatch.setattr(feeds, "MAX_READINGS_BESIDE_MANY", 2 * 84)
    monkeypatch.setattr(feeds, "MAX_SINGLE_COUNTERS", 79)
    with pytest.raises(FeedRefusedError, match=r"the history of 80 counters is not read: .* select up to 79"):
        await account.read(date(2026, 10, 25), date(2026, 10, 25))
    assert account.count_requests()["GET 20"] == account.count_requests()["GET 3"] == 0
    some = account.cem(counters={"include": [80001, 80002]})
    found = await account.read(date(2026, 10, 25), date(2026, 10, 25), some)

    assert account.count_requests()["GET 3"] == 2
    assert len(found.readings) >= 2 * 24


@pytest.mark.parametrize("fault", ["status:403", "status:404", "status:500", "no_list", "html", "renamed:values"])
async def test_history_of_all_refused(account: CemFixture, fault: str) -> None:
    """
    Where id=20 is refused, the history comes by id=3, and id=20 is not asked again for a week.
    """
    account.simulation.faults.add("api?id=20", fault)
    few = account.cem(counters={"include": [account.simulation.named_counters[name] for name in ("gas", "leak")]})
    found = await account.read(date(2026, 11, 18), date(2026, 11, 19), few)
    request_count = len(account.simulation.requests)
    await account.read(date(2026, 11, 16), date(2026, 11, 17), few)

    assert found.notes == ("the portal refuses the history of all counters at once (id=20): they are requested one by one",)
    assert account.count_requests()["GET 20"] <= 2  # once more after a new login where that could be the reason
    assert account.count_requests(request_count) == {"GET 3": 2}
    for name in ("gas", "leak"):
        counter = account.simulation.named_counters[name]
        start, end = datetime(2026, 11, 18, tzinfo=PRAGUE), datetime(2026, 11, 20, tzinfo=PRAGUE)
        true = account.simulation.list_readings(counter, start.astimezone(UTC), end.astimezone(UTC))
        read = [(one.at, one.value) for one in found.readings if isinstance(one, Index) and one.register.name == str(counter)]
        assert read == true


async def test_history_of_one_counter_refused(account: CemFixture) -> None:
    """
    A counter whose history is refused costs itself, and a note names it; where all are refused, that is the failure.
    """
    account.simulation.faults.add("api?id=20", "status:404")
    gas, leak = (account.simulation.named_counters[name] for name in ("gas", "leak"))
    few = account.cem(counters={"include": [gas, leak]})
    account.simulation.faults.add(f"api?id=3&var_id={gas}", "status:404")
    found = await account.read(date(2026, 11, 18), date(2026, 11, 19), few)

    assert {one.register.name for one in found.readings if isinstance(one, Index)} == {str(leak)}
    assert found.notes[1:] == (f"the portal refuses the history of some counters: {gas}",)
    account.simulation.faults.add("api?id=3", "status:404")
    with pytest.raises(ResponseError, match="404"):
        await account.read(date(2026, 11, 18), date(2026, 11, 19), few)


async def test_too_many_counters_are_not_asked_one_by_one(account: CemFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where id=20 is refused and there are very many counters, the feed is refused, and says what helps.
    """
    monkeypatch.setattr(feeds, "MAX_SINGLE_COUNTERS", 79)
    account.simulation.faults.add("api?id=20", "status:404")
    with pytest.raises(FeedRefusedError, match="the history of 80 counters is not read"):
        await account.read(date(2026, 11, 18), date(2026, 11, 19))

    assert account.count_requests()["GET 3"] == 0


async def test_a_leak_shows_at_night(visit: OpenSession, clock: FakeClock) -> None:
    """
    The leaking flat's register moves between two and four in the morning; its neighbour's does not.
    """
    simulation = CemSimulation(clock, leak_from=datetime(2026, 11, 15, 12, tzinfo=UTC))
    async with run_simulation(simulation) as url:
        result = await CemFixture(simulation, url, visit, clock).read(date(2026, 11, 19), date(2026, 11, 19))
    readings = [one for one in result.readings if isinstance(one, Index)]

    def night(word: str) -> float:
        name = str(simulation.named_counters[word])
        values = [one.value for one in readings if one.register.name == name and one.at.astimezone(PRAGUE).hour in (1, 2, 3)]
        return max(values) - min(values)

    assert night("leak") == pytest.approx(0.09, abs=0.01)
    assert night("cold 1") == 0
