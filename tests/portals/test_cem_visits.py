"""CEM: whole visits at the simulated portal, what goes wrong there, and its past."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exporter.demo.base import running
from exporter.demo.cem import CemSimulation
from exporter.errors import EndOfPastError, LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.model import Holder, Index, Inventory, Nature, Shortfall, Told, Unit
from exporter.portals.base import Piece
from exporter.portals.cem import Cem
from exporter.session import Session
from tests.conftest import EVERYTHING, Clock, DictMemory, Visit

PRAGUE = ZoneInfo("Europe/Prague")
BATCH = "api?id=8"


class House:
    """A simulated house and an account there."""

    def __init__(self, simulation: CemSimulation, url: str, visit: Visit, clock: Clock) -> None:
        self.simulation, self.url, self.visit, self.clock = simulation, url, visit, clock

    def cem(self, **keys: Any) -> Cem:
        (account,) = self.simulation.accounts(self.url)
        return Cem(**(account | keys))

    async def told(self, cem: Cem | None = None, **more: Any) -> list[Told]:
        async with self.visit(**more) as session:
            return [one async for one in (cem or self.cem()).fetch(session, EVERYTHING)]

    def asked(self, since: int = 0) -> Counter[str]:
        return Counter(f"{one.method} {one.query['id']}" for one in self.simulation.seen[since:])

    def counters(self, heard: list[Told]) -> dict[int, Index]:
        return {int(one.register.name): one for one in heard if isinstance(one, Index)}


@pytest.fixture
async def house(visit: Visit, clock: Clock) -> AsyncIterator[House]:
    simulation = CemSimulation(clock)
    async with running(simulation) as url:
        yield House(simulation, url, visit, clock)


def ours(index: Index, value: float) -> float:
    """The simulation's truth in the unit that leaves the portal."""
    if index.register.unit == Unit.RELATIVE_HUMIDITY:
        return value / 100
    return value / 0.0036 if index.register.portal_unit == "GJ" else value


async def test_a_visit_tells_the_truth(house: House) -> None:
    """
    Every counter that is shown has the value and the instant of its newest reading; the others stay away.
    """
    heard = await house.told()
    found = house.counters(heard)
    hidden = {house.simulation.special[word] for word in ("door", "radio", "removed", "never read")}

    assert found.keys() == house.simulation.building.counters.keys() - hidden
    for number, index in found.items():
        assert index.value == pytest.approx(ours(index, house.simulation.truth(number, index.at)))
        assert (index.at, house.simulation.truth(number, index.at)) == house.simulation.last(number)
        assert timedelta(0) < house.clock() - index.at < timedelta(hours=1, minutes=15)
    assert not [one for one in heard if isinstance(one, Shortfall)]


async def test_lists_are_asked_seldom(house: House) -> None:
    """
    Lists of the account are asked every 12 hours and types every 7 days; other visits ask for last values alone.
    """
    first = await house.told()
    assert house.asked() == dict.fromkeys(["POST 4", "GET 107", "GET 108", "GET 23", "GET 222", "GET 9", "POST 8"], 1)
    house.clock.move(minutes=30)
    seen = len(house.simulation.seen)
    second = await house.told()
    assert house.asked(seen) == {"POST 8": 1}
    assert [one for one in second if isinstance(one, Inventory)] == [one for one in first if isinstance(one, Inventory)]
    house.clock.move(hours=12)
    seen = len(house.simulation.seen)
    await house.told()
    assert house.asked(seen) == dict.fromkeys(["POST 4", "GET 107", "GET 108", "GET 23", "GET 9", "POST 8"], 1)
    house.clock.move(days=7)
    seen = len(house.simulation.seen)
    await house.told()

    assert house.asked(seen)["GET 222"] == 1


async def test_a_thousand_counters_in_few_calls(visit: Visit, clock: Clock) -> None:
    """
    1,000 counters need at most 6 calls, and with all lists and the login at most 12.
    """
    simulation = CemSimulation(clock, flats=166)
    async with running(simulation) as url:
        house = House(simulation, url, visit, clock)
        found = house.counters(await house.told())
        first = len(simulation.seen)
        clock.move(minutes=30)
        again = house.counters(await house.told())

    assert len(found) == len(again) == len(simulation.building.counters) - 4 > 1000
    assert first <= 12
    assert len(simulation.seen) - first <= 6


async def test_batches_have_a_size_and_stay_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Batches are as large as set, and no more of them are under way than set.
    """
    running_now, most = 0, 0
    request = Session.request

    async def watched(self: Session, *args: Any, **more: Any) -> Any:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        try:
            return await request(self, *args, **more)
        finally:
            running_now -= 1

    monkeypatch.setattr(Session, "request", watched)
    found = house.counters(await house.told(house.cem(batch_size=10, parallel=3)))

    assert len(found) == 80
    assert house.asked()["POST 8"] == 8
    assert most == 3


async def test_one_login_over_restarts(house: House) -> None:
    """
    Token and cookie are kept, renewed 5 minutes before their end, and one login serves all parallel calls.
    """
    small = house.cem(batch_size=5, parallel=8)
    await house.told(small)
    house.clock.move(minutes=54)
    await house.told(small)
    assert house.asked()["POST 4"] == 1
    house.clock.move(minutes=2)
    await house.told(small)

    assert house.asked()["POST 4"] == 2
    assert len(house.simulation.seen) == 5 + 1 + 1 + 3 * 16


async def test_never_two_logins_within_five_minutes(house: House) -> None:
    """
    A portal whose tokens end at once is not asked for a new one at every call.
    """
    house.simulation.life = timedelta(minutes=2)
    await house.told()
    house.clock.move(minutes=3)
    with pytest.raises(ResponseError, match="no login so soon again"):
        await house.told()
    assert house.asked()["POST 4"] == 1
    house.clock.move(minutes=2)
    await house.told()

    assert house.asked()["POST 4"] == 2


async def test_an_expired_token_costs_one_login(house: House) -> None:
    """
    When the portal has forgotten all tokens, one login and one repetition mend it, however many calls meet the 401.
    """
    small = house.cem(batch_size=5, parallel=8)
    before = house.counters(await house.told(small))
    house.clock.move(minutes=30)
    seen = len(house.simulation.seen)
    house.simulation.faults.set(BATCH, "expired", times=1)
    after = house.counters(await house.told(small))

    assert after.keys() == before.keys()
    assert house.asked(seen)["POST 4"] == 1
    assert house.asked(seen)["POST 8"] <= 16 + 8
    assert house.asked(seen)["GET 8"] == 0


async def test_no_storm_when_every_token_is_refused(house: House) -> None:
    """
    A 401 after a fresh login fails the visit: no second login, no single calls, the rest is left alone.
    """
    small = house.cem(batch_size=5)
    await house.told(small)
    house.clock.move(minutes=30)
    seen = len(house.simulation.seen)
    house.simulation.faults.set(BATCH, "unauthorized")
    with pytest.raises(ResponseError, match="refuses the token"):
        await house.told(small)

    assert house.asked(seen)["POST 4"] == 1
    assert house.asked(seen)["GET 8"] == 0
    assert sum(house.asked(seen).values()) <= 8


async def test_a_login_elsewhere(house: House) -> None:
    """
    Somebody else's login that ends ours is mended like an expiry.
    """
    await house.told()
    house.clock.move(minutes=30)
    house.simulation.faults.set(BATCH, "second_login", times=1)

    assert len(house.counters(await house.told())) == 80


async def test_a_refused_login(house: House) -> None:
    """
    A wrong password is a refused login after one try.
    """
    with pytest.raises(LoginError):
        await house.told(house.cem(password="wrong"))

    assert house.asked() == {"POST 4": 1}


async def test_no_secret_in_any_address(house: House) -> None:
    """
    What stands in addresses is function numbers alone.
    """
    await house.told()

    assert {key for seen in house.simulation.seen for key in seen.query} == {"id"}


@pytest.mark.parametrize("fault", ["batch_refused", "no_list", "status:404", "status:403"])
async def test_single_calls_where_the_batch_is_refused(house: House, fault: str) -> None:
    """
    A batch that is refused as such, or answered by no list, is asked again counter by counter.
    """
    few = house.cem(objects={"include": [house.simulation.building.meters[8].place - 1]}, batch_size=4)
    house.simulation.faults.set(BATCH, fault, times=2)
    found = house.counters(await house.told(few))

    assert len(found) == 6
    assert house.asked()["POST 8"] == 2
    assert house.asked()["GET 8"] == 6
    assert all((one.at, house.simulation.truth(number, one.at)) == house.simulation.last(number) for number, one in found.items())


async def test_single_calls_that_fail(house: House) -> None:
    """
    A counter refused on its own costs itself; where every single call fails, so does the visit, after a few of them.
    """
    house.simulation.faults.set("api?id=8&var_id=80005", "status:404")
    house.simulation.faults.set(BATCH, "batch_refused")
    heard = await house.told()
    assert len(house.counters(heard)) == 80  # the fresh list of counters knows the one that is missing
    assert isinstance(heard[-1], Shortfall)
    house.clock.move(minutes=30)
    assert len(house.counters(await house.told())) == 79
    house.simulation.faults.clear()
    house.simulation.faults.set("api?id=8&var_id", "status:503")
    house.simulation.faults.set(BATCH, "batch_refused")
    seen = len(house.simulation.seen)
    with pytest.raises(UnreachableError):
        await house.told()

    assert house.asked(seen) == {"POST 8": 1, "GET 8": 4}


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
async def test_no_single_calls_for_other_failures(house: House, fault: str, error: type[PortalError]) -> None:
    """
    A tired, limiting or changed portal is not asked counter by counter; after three failures in a row it is left alone.
    """
    await house.told()
    house.clock.move(minutes=30)
    seen = len(house.simulation.seen)
    house.simulation.faults.set(BATCH, fault)
    with pytest.raises(error):
        await house.told(house.cem(batch_size=5), timeout=timedelta(seconds=0.2))

    assert house.asked(seen)["GET 8"] == 0
    assert house.asked(seen)["POST 8"] <= 8


async def test_the_wait_asked_for_is_passed_on(house: House) -> None:
    """
    Retry-After becomes the wait of the failure, and nothing else is asked.
    """
    house.simulation.faults.set(BATCH, "retry:120")
    with pytest.raises(RateLimitError) as raised:
        await house.told(house.cem(batch_size=5, parallel=1))

    assert raised.value.wait == timedelta(seconds=120)
    assert house.asked()["POST 8"] == 1


async def test_a_failed_part_leaves_the_rest(house: House) -> None:
    """
    One batch that fails costs its own counters only, and the visit says so.
    """
    await house.told()
    house.clock.move(minutes=30)
    house.simulation.faults.set(BATCH, "status:503", times=1)
    heard = await house.told(house.cem(batch_size=10))

    assert len(house.counters(heard)) == 70
    assert isinstance(heard[-1], Shortfall)
    assert isinstance(heard[-1].error, UnreachableError)


async def test_a_limit_in_the_middle_stops_the_visit(house: House) -> None:
    """
    A request to slow down ends the asking; what was told before stays.
    """
    await house.told()
    house.clock.move(minutes=30)
    seen = len(house.simulation.seen)
    answer = house.simulation.fail

    async def third(fault: str, request: Any, handler: Any) -> Any:
        number = house.asked(seen)["POST 8"]
        return await (answer("retry:60", request, handler) if number == 3 else handler(request))

    house.simulation.fail = third  # type: ignore[method-assign]
    house.simulation.faults.set(BATCH, "third")
    heard = await house.told(house.cem(batch_size=10, parallel=2))

    assert len(house.counters(heard)) == 30
    assert house.asked(seen)["POST 8"] == 4
    assert isinstance(heard[-1], Shortfall)
    assert isinstance(heard[-1].error, RateLimitError)


async def test_a_partial_batch(house: House) -> None:
    """
    Counters that the answer leaves out are no failure; at the first visit the list of counters fills in for them.
    """
    house.simulation.faults.set(BATCH, "partial")
    first = house.counters(await house.told())
    house.clock.move(minutes=30)
    second = await house.told()

    assert len(first) == 80
    assert len(house.counters(second)) == 40
    assert not [one for one in second if isinstance(one, Shortfall)]


async def test_an_empty_batch(house: House) -> None:
    """
    A batch that is answered with nothing is a good visit without readings.
    """
    await house.told()
    house.simulation.faults.set(BATCH, "partial")
    house.simulation._newest = lambda counters: []  # type: ignore[method-assign]
    heard = await house.told()

    assert house.counters(heard) == {}
    assert not [one for one in heard if isinstance(one, Shortfall)]


async def test_several_accounts_and_the_old_proofs(house: House) -> None:
    """
    Two accounts at one portal keep their own tokens.
    """
    other = DictMemory()
    one, two = await asyncio.gather(house.told(), house.told(memory=other))

    assert house.counters(one).keys() == house.counters(two).keys()
    assert house.asked()["POST 4"] == 2


@pytest.mark.parametrize("wrapped", [True, False])
async def test_every_wrapping(house: House, wrapped: bool) -> None:
    """
    Whether the portal wraps all of its lists or none, visit and past are the same; the end of access is told.
    """
    plain = house.counters(await house.told())
    house.simulation.wrapped = wrapped
    house.simulation.access_ends = datetime(2027, 1, 1, tzinfo=UTC)
    heard = await house.told(memory=DictMemory())
    async with house.visit() as session:
        pieces = await house.cem().pieces(session, date(2026, 11, 19), date(2026, 11, 19))
        readings = await house.cem().past(session, pieces[0])

    assert house.counters(heard) == plain
    assert [one.access_expires for one in heard if isinstance(one, Holder)] == [datetime(2027, 1, 1, tzinfo=UTC)]
    assert len(readings) > 79 * 23


async def test_natures(house: House) -> None:
    """
    Amounts and temperatures are never registers, and what the roof gives is injection.
    """
    found = house.counters(await house.told(house.cem(include_states=True)))
    special = house.simulation.special
    nature = {word: found[special[word]].register.nature for word in ("solar hourly", "outdoor", "door", "gas", "solar")}

    assert nature == {
        "solar hourly": Nature.AMOUNT,
        "outdoor": Nature.MOMENTARY,
        "door": Nature.STATE,
        "gas": Nature.COUNTER,
        "solar": Nature.COUNTER,
    }
    assert found[special["solar"]].register.direction == "injection"
    assert found[special["gas"]].register.point.commodity == "gas"


async def test_a_replaced_meter(house: House) -> None:
    """
    The removed meter keeps its last value, at the instant of its end, where it is wanted; the new one counts from zero.
    """
    found = house.counters(await house.told(house.cem(include_removed=True)))
    old, new = (found[house.simulation.special[word]] for word in ("removed", "replacement"))

    assert old.at < datetime(2025, 3, 3, 9, 20, tzinfo=UTC) < new.at
    assert old.register.point.id != new.register.point.id
    assert old.value > new.value > 0


async def test_nothing_secret_is_said(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """
    Neither logs nor failures hold password, token, cookie or serial.
    """
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    for fault in ("unauthorized", "renamed:value", "status:503", "html"):
        house.simulation.faults.clear()
        house.simulation.faults.set(BATCH, fault)
        try:
            said += [str(one) for one in await house.told() if isinstance(one, Shortfall)]
        except PortalError as error:
            said.append(repr(error))
        house.clock.move(hours=13)
    text = "\n".join([caplog.text, *said])
    tokens = [part for token, login in house.simulation.sessions.items() for part in (token, login.cookie)]

    assert len(said) == 4
    assert not [secret for secret in (house.simulation.password, "SIM00", "Ukáz", *tokens) if secret in text]


async def test_discover_and_raw(house: House) -> None:
    """
    discover finds every counter of the house; raw gives the portal's own words and no token.
    """
    async with house.visit() as session:
        found = await house.cem().discover(session)
        raw = {name: await house.cem().raw(session, name, keys) for name, keys in RAW.items()}
    numbers = {one.facts["var_id"] for site in found.tree for meter in site.under for one in meter.under}

    assert numbers == house.simulation.building.counters.keys()
    assert [site.text for site in found.tree][:3] == ["SVJ Ukázka", "SVJ Ukázka / Kotelna", "SVJ Ukázka / Střecha"]
    assert "SVJ Ukázka / Vchod 1 / Byt 12" in [site.text for site in found.tree]
    assert raw.keys() == Cem.calls.keys()
    assert len(raw["counters"]["data"]) == 85
    assert len(raw["counter_history"]) == 24
    assert not [token for token in house.simulation.sessions if token in str(raw)]


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
async def test_the_past_is_the_truth(house: House, by: str, to_included: bool) -> None:
    """
    Piece by piece, over the end of summer time, every reading of every day comes, whether `to` is included or not.
    """
    house.simulation.to_included = to_included
    special = house.simulation.special
    chosen = {special[word] for word in ("leak", "gas", "heat 1", "humidity 1", "door")}
    cem = house.cem(history_by=by, counters={"include": list(chosen)})
    async with house.visit() as session:
        pieces = await cem.pieces(session, date(2026, 10, 10), date(2026, 11, 5))
        found = [one for piece in pieces for one in await cem.past(session, piece) if isinstance(one, Index)]
    start, end = datetime(2026, 10, 10, tzinfo=PRAGUE), datetime(2026, 11, 6, tzinfo=PRAGUE)

    assert [piece.last for piece in pieces] == sorted((piece.last for piece in pieces), reverse=True)
    for number in chosen:
        true = house.simulation.readings(number, start.astimezone(UTC), end.astimezone(UTC))
        read = {one.at: (one, one.value) for one in found if one.register.name == str(number)}
        assert len(true) >= 27 * 24
        assert read.keys() >= {at for at, _ in true}
        assert all(read[at][1] == pytest.approx(ours(read[at][0], value)) for at, value in true)


async def test_pieces_have_names_for_ever(house: House) -> None:
    """
    Pieces cover three years without a hole, newest first; tomorrow only those have another name whose days may still come.
    """
    async with house.visit() as session:
        today = await house.cem().pieces(session, None, None)
    house.clock.move(days=1)
    async with house.visit() as session:
        tomorrow = await house.cem().pieces(session, None, None)
        other = await house.cem(include_states=True).pieces(session, None, None)
    each = {piece.last for piece in today}

    assert (today[0].last, today[-1].first) == (date(2026, 11, 20), date(2023, 11, 21))
    assert all(newer.first == older.last + timedelta(days=1) for newer, older in pairwise(today))
    assert all((piece.last - piece.first).days < 14 for piece in today)
    settled = {piece.key for piece in today[:-1] if piece.last < date(2026, 11, 13)}
    assert len(settled) >= len(today) - 3
    assert settled < {piece.key for piece in tomorrow}
    assert not {piece.key for piece in today[:-1]} - settled & {piece.key for piece in tomorrow}
    assert not {piece.key for piece in other} & {piece.key for piece in tomorrow}
    assert len(each) == len(today) == 79


@pytest.mark.parametrize(
    ("flats", "keys", "line", "days"),
    [
        (12, {}, "all", 14),
        (300, {}, "all", 2),
        (300, {"counters": {"include": [80001, 80002]}}, "80001", 14),
        (12, {"counters": {"include": [80001]}}, "all", 14),
        (12, {"history_by": "counter", "history_days": 30}, "80001", 30),
        (300, {"history_by": "account"}, "all", 2),
    ],
)
async def test_how_the_past_is_asked(visit: Visit, clock: Clock, flats: int, keys: dict[str, Any], line: str, days: int) -> None:
    """
    All counters at once while an answer stays small, in shorter spans for many, one by one for few out of many.
    """
    simulation = CemSimulation(clock, flats=flats)
    async with running(simulation) as url, visit() as session:
        house = House(simulation, url, visit, clock)
        pieces = await house.cem(**keys).pieces(session, date(2026, 1, 1), date(2026, 6, 30))
    spans = {(piece.last - piece.first).days + 1 for piece in pieces}

    assert pieces[0].line == line
    assert max(spans) == days


async def imported(cem: Cem, visit: Visit) -> tuple[list[Piece], list[int]]:
    """Import as far as the past goes; gives the pieces and how many readings each brought before the end."""
    async with visit() as session:
        pieces = await cem.pieces(session, None, None)
        amounts: list[int] = []
        try:
            for piece in pieces:
                amounts.append(len(await cem.past(session, piece)))  # noqa: PERF401  # the end raises
        except EndOfPastError:
            return pieces, amounts
    return pieces, amounts


@pytest.mark.parametrize("by", ["account", "counter"])
async def test_the_past_ends_after_long_emptiness(visit: Visit, clock: Clock, by: str) -> None:
    """
    A hole does not end an import; nothing for longer than the set gap does, and an import that goes on knows it at once.
    """
    simulation = CemSimulation(clock, flats=1)
    mounted = datetime(2025, 12, 1, tzinfo=UTC)
    simulation.hole = datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 9, 20, tzinfo=UTC)
    plain = simulation.readings
    simulation.readings = lambda counter, start, end: [  # type: ignore[method-assign]
        one for one in plain(counter, start, end) if mounted <= one[0]
    ]
    async with running(simulation) as url:
        keys = {"history_gap": "60d", "history_by": by, "counters": {"include": [simulation.special["gas"]]}}
        cem = House(simulation, url, visit, clock).cem(**keys)
        pieces, amounts = await imported(cem, visit)
        async with visit() as session:
            with pytest.raises(EndOfPastError):
                await cem.past(session, pieces[len(amounts) + 1])
    oldest = max(place for place, amount in enumerate(amounts) if amount)

    assert pieces[oldest].first <= mounted.date() <= pieces[oldest].last
    assert 0 in amounts[:oldest]
    assert timedelta(days=60) <= pieces[oldest].first - pieces[len(amounts)].first < timedelta(days=60 + 14)


async def test_a_leak_shows_at_night(visit: Visit, clock: Clock) -> None:
    """
    The leaking flat's register moves between two and four in the morning; its neighbour's does not.
    """
    simulation = CemSimulation(clock, leak_from=datetime(2026, 11, 15, 12, tzinfo=UTC))
    async with running(simulation) as url, visit() as session:
        cem = House(simulation, url, visit, clock).cem()
        pieces = await cem.pieces(session, date(2026, 11, 19), date(2026, 11, 19))
        readings = [one for one in await cem.past(session, pieces[0]) if isinstance(one, Index)]

    def night(word: str) -> float:
        name = str(simulation.special[word])
        seen = [one.value for one in readings if one.register.name == name and one.at.astimezone(PRAGUE).hour in (1, 2, 3)]
        return max(seen) - min(seen)

    assert night("leak") == pytest.approx(0.09, abs=0.01)
    assert night("cold 1") == 0
