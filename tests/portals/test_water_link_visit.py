"""Whole visits to the simulated Water-Link, compared with its truth."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest

from exporter.demo.base import running
from exporter.demo.water_link import FOREIGN, WaterLinkSimulation
from exporter.demo.water_link.household import away, leaking
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.model import Commodity, Fact, Facts, Index, Interval, Inventory, Note, Register, Shortfall, Unit
from exporter.portals.water_link import WaterLink
from exporter.portals.water_link.months import ZONE, midnight
from tests.conftest import EVERYTHING

HOUSE, GARDEN = "204417", "204418"
DAY = timedelta(days=1)
SECRETS = re.compile(r"bewoner|example\.com|geheim|20441[78]|999999|Verzonnenlaan|[\w-]{32}")


@pytest.fixture
async def portal(clock):
    simulation = WaterLinkSimulation(clock)
    async with running(simulation) as url:
        yield simulation, simulation.accounts(url)[0]


@pytest.fixture
def go(portal, visit):
    """Make one visit, with keys that differ if need be."""

    async def fetch(patience: float = 5, **keys):
        async with visit(timeout=timedelta(seconds=patience)) as session:
            return [told async for told in WaterLink(**portal[1] | keys).fetch(session, EVERYTHING)]

    return fetch


def at(text: str) -> datetime:
    """An instant by Brussels's clock."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)


def only(kind, told, meter=HOUSE):
    return [one for one in told if isinstance(one, kind) and (one.point if kind is Facts else one.register.point).id == meter]


def days(told, meter=HOUSE):
    return {one.start.astimezone(ZONE).date(): one.amount for one in only(Interval, told, meter)}


def shortfalls(told):
    errors = [one.error for one in told if isinstance(one, Shortfall)]
    assert not any(SECRETS.search(str(error)) for error in errors)
    return errors


def truth(household, clock, first):
    """What the portal shows of the days from the first to yesterday."""
    today = clock().astimezone(ZONE).date()
    span = (first + n * DAY for n in range((today - first).days))
    return {day: litres / 1000 for day in span if (litres := household.shown(day, clock())) is not None}


# The newest


@pytest.mark.parametrize(
    ("now", "first", "change"),
    [
        ("2026-04-20T13:00", date(2026, 3, 1), (date(2026, 3, 29), 23)),
        ("2026-11-08T13:00", date(2026, 10, 1), (date(2026, 10, 25), 25)),
        ("2026-03-29T13:00", date(2026, 2, 1), (date(2026, 2, 5), 24)),
        ("2026-03-30T00:00", date(2026, 2, 1), (date(2026, 2, 5), 24)),
        ("2026-10-26T13:00", date(2026, 9, 1), (date(2026, 10, 25), 25)),
        ("2026-08-01T13:00", date(2026, 7, 1), (date(2026, 7, 14), 24)),
        ("2027-01-01T00:30", date(2026, 12, 1), (date(2026, 12, 26), 24)),
        ("2026-12-31T23:59", date(2026, 11, 1), (date(2026, 12, 3), 24)),
    ],
)
async def test_a_visit_brings_two_months_as_they_are(portal, go, clock, now, first, change):
    """
    Both meters' days, at both clock changes, on the first of a month and over the year's end, equal the truth.
    """
    simulation, _ = portal
    clock.at = at(now)
    told = await go()

    for number, household in simulation.households.items():
        assert days(told, number) == truth(household, clock, first)
        for one in only(Interval, told, number):
            assert one.start == midnight(one.start.astimezone(ZONE).date())
            assert one.end == midnight(one.start.astimezone(ZONE).date() + DAY)
    day, hours = change
    (changed,) = [one for one in only(Interval, told) if one.start == midnight(day)]
    assert changed.end - changed.start == timedelta(hours=hours)


async def test_a_visit_brings_index_facts_and_inventory(portal, go, clock):
    """
    The index on its own instant; the address of a text and of an object; a flag that is null is none.
    """
    simulation, _ = portal
    clock.at = at("2026-11-22T13:00")
    told = await go()

    (index,), (facts,) = only(Index, told), only(Facts, told)
    assert index.value == simulation.households[HOUSE].index(date(2026, 11, 22)) / 1000
    assert index.at == at("2026-11-22T00:00")
    assert index.register == Register(facts.point, Unit.M3)
    assert (facts.point.commodity, facts.point.meter, facts.point.address) == (
        Commodity.WATER,
        "",
        "Verzonnenlaan 7, 2000 Antwerpen",
    )
    assert facts.values == {
        Fact.METER_ACTIVE: 1,
        Fact.FLOW_LIMITATION: 0,
        Fact.UP_TO_DATE: 1,
        Fact.DIVERGENT_CONSUMPTION: 1,
        Fact.NO_DATA_PERMISSION: 0,
        Fact.DAY_OFFSET: 1,
    }
    (garden,) = only(Facts, told, GARDEN)
    assert garden.point.address == "Verzonnenlaan, 7, 2000 Antwerpen"
    assert Fact.FLOW_LIMITATION not in garden.values
    assert told[-1] == Inventory((facts.point, garden.point), (Register(facts.point, Unit.M3), Register(garden.point, Unit.M3)))


async def test_all_of_a_meter_stands_at_one_usage_point(go):
    """
    Index, days and facts describe it alike, address included.
    """
    told = await go(meters=[HOUSE])

    assert len({one.register.point for one in told if isinstance(one, Index | Interval)} | {told[0].point}) == 1


async def test_a_visit_asks_three_calls_a_meter(portal, go):
    """
    Its state, the previous month and the running one, by their first day.
    """
    simulation, _ = portal
    await go(meters=[HOUSE])

    calls = [(seen.path.removeprefix("/portal"), seen.query) for seen in simulation.seen if "/api/" in seen.path]
    assert calls == [
        (f"/api/meters/{HOUSE}", {}),
        ("/api/measurements/day", {"from": "2026-10-01", "meterNumber": HOUSE}),
        ("/api/measurements/day", {"from": "2026-11-01", "meterNumber": HOUSE}),
    ]


async def test_a_zero_day_is_zero_and_today_is_nothing(portal, go, clock):
    """
    In the holidays the chart shows a filler; the present day's bar grows; both look like use.
    """
    simulation, _ = portal
    clock.at = at("2026-07-20T18:00")
    chart = simulation.chart(simulation.households[HOUSE], date(2026, 7, 1))["actualConsumption"]
    clock.at = at("2026-07-28T18:00")
    told = days(await go())

    assert chart[14]["total"] > 0
    assert told[date(2026, 7, 15)] == 0
    assert date(2026, 7, 28) not in told


@pytest.mark.parametrize("future", [True, False])
async def test_days_to_come_are_no_readings(portal, go, clock, future):
    """
    Whether the chart draws them or leaves them out.
    """
    simulation, _ = portal
    simulation.future_days = future

    assert max(days(await go())) < clock().date()


async def test_late_days_land_on_their_own_date(portal, go, clock):
    """
    A week that comes at once, many days late, is a hole until then, and then it is those days.
    """
    simulation, _ = portal
    clock.at = at("2026-11-20T11:59")
    before = days(await go())
    clock.move(hours=2)
    after = days(await go())

    week = {date(2026, 11, n) for n in range(11, 18)}
    assert not week & before.keys()
    assert {day: after[day] for day in week} == {day: simulation.households[HOUSE].litres(day) / 1000 for day in week}
    assert date(2026, 11, 18) in before


async def test_a_corrected_day_is_told_anew(portal, go, clock):
    """
    On its own date, with the value the portal has now; also from the month before.
    """
    simulation, _ = portal
    clock.at = at("2026-06-08T13:00")
    before = days(await go())[date(2026, 6, 3)]
    clock.at = at("2026-07-02T13:00")
    after = days(await go())[date(2026, 6, 3)]

    assert after == simulation.households[HOUSE].litres(date(2026, 6, 3)) / 1000
    assert before < after


async def test_a_meter_that_is_new_has_an_index_and_no_days_before(clock, visit):
    """
    Before the meter was mounted there are no days, and in its first hours no index either.
    """
    simulation = WaterLinkSimulation(clock, since=date(2026, 11, 20))
    async with running(simulation) as url, visit() as session:
        told = [told async for told in WaterLink(**simulation.accounts(url)[0]).fetch(session, EVERYTHING)]

    assert days(told) == {}
    assert Note("meters[0]: the portal gives no meterReading, so there is no index") in told
    assert only(Facts, told)


# What falls short


@pytest.mark.parametrize(("number", "status"), [(FOREIGN, 403), ("111111", 404)])
async def test_a_meter_that_is_refused_leaves_the_others(portal, go, number, status):
    """
    The shortfall names the place in the configuration, not the number, and that meter is asked no more.
    """
    simulation, _ = portal
    told = await go(meters=[HOUSE, number, GARDEN])

    (error,) = shortfalls(told)
    assert isinstance(error, ResponseError)
    assert str(error) == f"meters[1]: the portal does not give us this meter (status {status})"
    assert days(told, HOUSE)
    assert days(told, GARDEN)
    assert {point.id for point in told[-1].points} == {HOUSE, number, GARDEN}
    assert sum(number in seen.path or number in seen.query.values() for seen in simulation.seen) == 1


async def test_a_visit_that_brings_nothing_fails(go):
    """
    When the only meter is refused, that is the visit's error.
    """
    with pytest.raises(ResponseError, match=r"^meters\[0\]: the portal does not give us this meter"):
        await go(meters=[FOREIGN])


async def test_a_malformed_reading_leaves_the_rest(portal, go):
    """
    The shortfall names the field; flags and days are kept.
    """
    simulation, _ = portal
    simulation.faults.set(f"/meters/{HOUSE}", 'set:meterReading="4?2"')
    told = await go()

    (error,) = shortfalls(told)
    assert str(error) == "meters[0] has changed: meterReading: value error, not a number with a decimal comma"
    assert not only(Index, told)
    assert len(only(Facts, told)[0].values) == 6
    assert days(told)
    assert only(Index, told, GARDEN)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("html", "GET /portal/api/… answered with a web page where JSON is due"),
        ("empty", "GET /portal/api/… answered with no JSON where JSON is due"),
        ("garbage", "GET /portal/api/… answered with no JSON where JSON is due"),
        ("drop:actualConsumption", "meters[0] has changed: actualConsumption: field required"),
        ("status:302", "GET /portal/api/… answered with status 302"),
    ],
)
async def test_a_chart_that_changed_leaves_the_rest(portal, go, fault, said):
    """
    One month is lost, the other and the meter's state are kept.
    """
    simulation, _ = portal
    simulation.faults.set(f"from=2026-10-01&meterNumber={HOUSE}", fault)
    told = await go()

    (error,) = shortfalls(told)
    assert type(error) is ResponseError
    assert str(error) == said.replace("…", "measurements/day")
    assert only(Index, told)
    assert min(days(told)) == date(2026, 11, 1)


async def test_a_state_that_changed_leaves_the_days(portal, go):
    """
    Its path, which holds the meter's number, is not repeated.
    """
    simulation, _ = portal
    simulation.faults.set("/api/meters/", "html")
    told = await go(meters=[HOUSE])

    (error,) = shortfalls(told)
    assert str(error) == "GET /portal/api/meters/… answered with a web page where JSON is due"
    assert days(told)


@pytest.mark.parametrize("fault", ["status:503", "hang", "reset", "cut"])
async def test_one_meter_out_of_reach_leaves_the_others(portal, go, fault):
    """
    Its calls are given up, the next meter is asked.
    """
    simulation, _ = portal
    simulation.faults.set(f"/meters/{HOUSE}", fault)
    told = await go(patience=0.3)

    (error,) = shortfalls(told)
    assert isinstance(error, UnreachableError)
    assert not days(told, HOUSE)
    assert days(told, GARDEN)


async def test_a_portal_out_of_reach_is_soon_given_up(portal, go):
    """
    After two meters, not after ten.
    """
    simulation, _ = portal
    simulation.faults.set("/api/", "status:503")

    with pytest.raises(UnreachableError, match=r"^GET /portal/api/meters/… answered with status 503$"):
        await go(meters=[str(n) for n in range(204410, 204420)])
    assert sum("/api/" in seen.path for seen in simulation.seen) == 2


async def test_a_portal_that_asks_for_rest_gets_it(portal, go):
    """
    What was told before is kept, nothing more is asked, and the wait is passed on.
    """
    simulation, _ = portal
    simulation.faults.set("from=2026-10-01", "retry:600")
    told = await go()

    (error,) = shortfalls(told)
    assert isinstance(error, RateLimitError)
    assert error.wait == timedelta(minutes=10)
    assert only(Index, told)
    assert not only(Index, told, GARDEN)


async def test_a_refused_login_is_raised_whatever_was_told(portal, go, clock):
    """
    A login that is refused in the middle of a visit suspends the account all the same.
    """
    simulation, _ = portal
    await go()
    clock.move(minutes=10)
    simulation.expire()
    simulation.identity.password = "geheim-changed"

    with pytest.raises(LoginError):
        await go()
    assert simulation.logins == 2


# Looking


async def test_discover_says_what_the_portal_can_tell(portal, visit, clock):
    """
    Each configured meter with flags, last reading and days; the lines that select it; where a number is found.
    """
    simulation, entry = portal
    async with visit() as session:
        found = await WaterLink(**entry | {"meters": [HOUSE, FOREIGN]}).discover(session)

    house, foreign = found.tree
    state = simulation.households[HOUSE].state(clock())
    assert house.text == f"water meter {HOUSE}"
    assert house.facts["index"] == f"{state['meterReading'].replace(',', '.')} m³"
    assert house.facts["read"] == "2026-11-19T00:00:00+01:00"
    assert house.facts["divergent_consumption"] == state["divergentConsumption"]
    assert "address" not in house.facts
    count = len(truth(simulation.households[HOUSE], clock, date(2026, 10, 1)))
    assert house.under[0].facts == {"days of this and the previous month": count}
    assert "status 403" in foreign.facts["error"]
    assert found.config == f'meters: ["{HOUSE}"]'
    assert "/portal/water-meter/XXXXXX" in found.notes[0]


async def test_discover_shows_an_address_when_allowed(portal, visit):
    """
    It is personal data.
    """
    async with visit() as session:
        found = await WaterLink(**portal[1] | {"personal_data": True}).discover(session)

    assert found.tree[0].facts["address"] == "Verzonnenlaan 7, 2000 Antwerpen"


@pytest.mark.parametrize(
    ("call", "keys", "path", "query"),
    [
        ("meter", {}, f"/api/meters/{HOUSE}", {}),
        ("meter", {"meter": GARDEN}, f"/api/meters/{GARDEN}", {}),
        ("days", {}, "/api/measurements/day", {"from": "2026-11-01", "meterNumber": HOUSE}),
        ("days", {"month": "2026-02"}, "/api/measurements/day", {"from": "2026-02-01", "meterNumber": HOUSE}),
        (
            "alarms",
            {"meter": GARDEN},
            f"/api/alarms/{GARDEN}",
            {"index": "0", "size": "10", "sortingDirection": "Desc", "sortBy": "StartTime"},
        ),
    ],
)
async def test_raw_gives_the_portals_own_answer(portal, visit, call, keys, path, query):
    """
    Of the first configured meter and the running month, unless it is told others.
    """
    simulation, entry = portal
    async with visit() as session:
        answer = await WaterLink(**entry).raw(session, call, keys)

    asked = simulation.seen[-1]
    assert (asked.path, asked.query) == (f"/portal{path}", query)
    assert answer.keys() & {"meterReading", "actualConsumption", "totalCount"}
    assert WaterLink.calls[call].keys.keys() >= keys.keys()


@pytest.mark.parametrize(
    ("call", "keys", "said"),
    [
        ("days", {"month": "2026-13"}, "a month is written like 2026-03"),
        ("days", {"month": "last"}, "a month is written like 2026-03"),
        ("days", {"month": "0000-01"}, "a month is written like 2026-03"),
        ("meter", {"meter": "../me"}, "a meter's number is six digits"),
        ("token", {}, "there is no such call; there are meter, days, alarms"),
    ],
)
async def test_raw_refuses_what_it_does_not_know(portal, visit, call, keys, said):
    """
    Before anything is asked.
    """
    simulation, entry = portal
    async with visit() as session:
        with pytest.raises(PortalError, match=said):
            await WaterLink(**entry).raw(session, call, keys)

    assert simulation.seen == []


# The past


async def test_the_past_is_a_year_of_months(portal, visit, clock):
    """
    Thirteen calls a meter, newest first; together they are every day the portal shows of them.
    """
    simulation, entry = portal
    account, told = WaterLink(**entry), []
    async with visit() as session:
        pieces = await account.pieces(session, None, None)
        for piece in pieces:
            told += await account.past(session, piece)

    assert [piece.first for piece in pieces if piece.ask["meter"] == HOUSE] == [
        *(date(2026, n, 1) for n in range(11, 0, -1)),
        date(2025, 12, 1),
        date(2025, 11, 1),
    ]
    for number, household in simulation.households.items():
        assert days(told, number) == truth(household, clock, date(2025, 11, 1))
    assert simulation.logins == 1


async def test_the_past_can_be_bounded(portal, visit):
    """
    By days, by history_days, and never beyond yesterday; a month is asked whole.
    """
    account = WaterLink(**portal[1] | {"history_days": 100, "meters": [HOUSE]})
    async with visit() as session:
        some = await account.pieces(session, date(2026, 9, 15), date(2026, 10, 2))
        most = await account.pieces(session, date(2020, 1, 1), date(2030, 1, 1))
        none = await account.pieces(session, date(2026, 11, 20), None)

    assert [(piece.first, piece.last) for piece in some] == [
        (date(2026, 10, 1), date(2026, 10, 31)),
        (date(2026, 9, 1), date(2026, 9, 30)),
    ]
    assert [piece.first.month for piece in most] == [11, 10, 9, 8]
    assert most[0].last == date(2026, 11, 19)
    assert none == []


async def test_a_settled_month_is_asked_once_and_a_late_one_again(portal, visit, clock):
    """
    The keys of the running and of the previous month are new each day, those of older months are for ever.
    """
    account = WaterLink(**portal[1] | {"meters": [HOUSE]})
    async with visit() as session:
        before = {piece.key for piece in await account.pieces(session, date(2026, 9, 1), None)}
        clock.move(days=1)
        after = {piece.key for piece in await account.pieces(session, date(2026, 9, 1), None)}

    assert before & after == {f"{HOUSE}/2026-09"}
    assert len(before | after) == 5


async def test_a_month_before_the_meter_is_empty_and_no_failure(portal, visit):
    """
    An import goes on past it.
    """
    account = WaterLink(**portal[1] | {"history_days": 800})
    async with visit() as session:
        oldest = (await account.pieces(session, None, None))[-1]

        assert oldest.first == date(2024, 9, 1)
        assert await account.past(session, oldest) == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("status:503", UnreachableError), ("html", ResponseError), ("retry:60", RateLimitError), ("status:404", ResponseError)],
)
async def test_a_piece_that_fails_says_why(portal, visit, fault, kind):
    """
    The import can go on from there another day.
    """
    simulation, entry = portal
    simulation.faults.set("/measurements/", fault)
    account = WaterLink(**entry)
    async with visit() as session:
        (piece, *_) = await account.pieces(session, None, None)
        with pytest.raises(kind) as caught:
            await account.past(session, piece)

    assert not SECRETS.search(str(caught.value))


# The simulation's own truth


def test_the_household_is_the_same_each_time_and_alive(clock):
    """
    Its register is the sum of its days; there are holidays, leaks, days out of order.
    """
    one, other = WaterLinkSimulation(clock).households[HOUSE], WaterLinkSimulation(clock).households[HOUSE]
    year = [date(2026, 1, 1) + n * DAY for n in range(365)]

    assert [one.litres(day) for day in year] == [other.litres(day) for day in year]
    assert one.index(date(2027, 1, 1)) - one.index(date(2026, 1, 1)) == sum(one.litres(day) for day in year)
    assert {one.litres(day) for day in year if away(day)} == {0}
    assert min(one.litres(day) for day in year if leaking(day)) > 1000
    assert any(one.shown_from(day) > one.shown_from(day + DAY) for day in year)
    assert one.used_so_far(at("2026-06-10T06:00")) < one.used_so_far(at("2026-06-10T18:00")) < one.litres(date(2026, 6, 10))
