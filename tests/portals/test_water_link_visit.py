"""Whole visits to the simulated Water-Link, compared with its true values."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest

from exporter.errors import FeedRefusedError, LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.models import Commodity, Fact, Facts, Index, Interval, Inventory, Register, Unit
from exporter.portals.water_link.account import WaterLink
from exporter.portals.water_link.config import WaterLinkConfig
from exporter.portals.water_link.parser import ZONE, day_start
from exporter.simulators.base import run_simulation
from exporter.simulators.water_link.simulation import FOREIGN_METER, WaterLinkSimulation
from exporter.simulators.water_link.water_meter import is_away, is_leaking
from exporter.sync.feeds import CalendarMonth
from tests.visit_parts import Note, PartialFailure

HOME, GARDEN = "204417", "204418"
DAY = timedelta(days=1)
SECRETS = re.compile(r"bewoner|example\.com|geheim|20441[78]|999999|Verzonnenlaan|[\w-]{32}")


@pytest.fixture
async def portal(clock):
    simulation = WaterLinkSimulation(clock)
    async with run_simulation(simulation) as url:
        yield simulation, simulation.build_accounts(url)[0]


@pytest.fixture
def fetch(portal, visit):
    """Make one visit, with keys that differ if need be."""

    async def visit_portal(patience: float = 5, **keys):
        async with visit(timeout=timedelta(seconds=patience)) as session:
            return await visit_once(WaterLink(WaterLinkConfig(**portal[1] | keys)), session)

    return visit_portal


async def visit_once(account, session):
    """Return the states of all meters and the days of two months as one list, the inventory last."""
    result = await account.fetch_latest(session)
    readings, failures, notes = [*result.readings], [*result.failures], [*result.notes]
    today = session.now.astimezone(ZONE).date()
    for feed in account.list_feeds():
        for month in (today.replace(day=1) - DAY, today):
            try:
                found = await account.read(session, feed, month.replace(day=1), month)
            except FeedRefusedError:
                continue
            except (ResponseError, UnreachableError, RateLimitError) as error:
                failures.append(error)
            else:
                readings += found.readings
                notes += found.notes
    return [*result.facts, *readings, *map(Note, notes), *map(PartialFailure, failures), result.inventory]


def at(text: str) -> datetime:
    """Return an instant in Brussels."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)


def only(kind, parts, meter=HOME):
    def get_usage_point(part):
        return part.usage_point if kind is Facts else part.register.usage_point

    return [part for part in parts if isinstance(part, kind) and get_usage_point(part).id == meter]


def days(parts, meter=HOME):
    return {one.start.astimezone(ZONE).date(): one.amount for one in only(Interval, parts, meter)}


def failures(parts):
    errors = [one.error for one in parts if isinstance(one, PartialFailure)]
    assert not any(SECRETS.search(str(error)) for error in errors)
    return errors


def true_days(water_meter, clock, first):
    """What the portal shows of the days from the first to yesterday."""
    today = clock().astimezone(ZONE).date()
    span = (first + n * DAY for n in range((today - first).days))
    return {day: litres / 1000 for day in span if (litres := water_meter.get_shown_litres(day, clock())) is not None}


# Visits


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
async def test_a_visit_brings_two_months_as_they_are(portal, fetch, clock, now, first, change):
    """
    Both meters' days, at both clock changes, on the first of a month and over the year's end, equal the truth.
    """
    simulation, _ = portal
    clock.at = at(now)
    parts = await fetch()

    for number, water_meter in simulation.meters.items():
        assert days(parts, number) == true_days(water_meter, clock, first)
        for one in only(Interval, parts, number):
            assert one.start == day_start(one.start.astimezone(ZONE).date())
            assert one.end == day_start(one.start.astimezone(ZONE).date() + DAY)
    day, hours = change
    (changed,) = [one for one in only(Interval, parts) if one.start == day_start(day)]
    assert changed.end - changed.start == timedelta(hours=hours)


async def test_a_visit_brings_index_facts_and_inventory(portal, fetch, clock):
    """
    The index on its own instant; the address of a text and of an object; a flag that is null is none.
    """
    simulation, _ = portal
    clock.at = at("2026-11-22T13:00")
    parts = await fetch()

    (index,), (facts,) = only(Index, parts), only(Facts, parts)
    assert index.value == simulation.meters[HOME].compute_index(date(2026, 11, 22)) / 1000
    assert index.at == at("2026-11-22T00:00")
    assert index.register == Register(facts.usage_point, Unit.M3)
    assert (facts.usage_point.commodity, facts.usage_point.meter, facts.usage_point.address) == (
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
    (garden,) = only(Facts, parts, GARDEN)
    assert garden.usage_point.address == "Verzonnenlaan, 7, 2000 Antwerpen"
    assert Fact.FLOW_LIMITATION not in garden.values
    assert parts[-1] == Inventory(
        (facts.usage_point, garden.usage_point), (Register(facts.usage_point, Unit.M3), Register(garden.usage_point, Unit.M3))
    )


async def test_a_visit_asks_one_call_a_meter_and_a_feed_one_a_month(portal, fetch):
    """
    Its state at each visit; a month by its first day.
    """
    simulation, _ = portal
    await fetch(meters=[HOME])

    calls = [(request.path.removeprefix("/portal"), request.query) for request in simulation.requests if "/api/" in request.path]
    assert calls == [
        (f"/api/meters/{HOME}", {}),
        ("/api/measurements/day", {"from": "2026-10-01", "meterNumber": HOME}),
        ("/api/measurements/day", {"from": "2026-11-01", "meterNumber": HOME}),
    ]


async def test_a_zero_day_is_zero_and_today_is_nothing(portal, fetch, clock):
    """
    In the holidays the chart shows a filler; the present day's bar grows; both look like use.
    """
    simulation, _ = portal
    clock.at = at("2026-07-20T18:00")
    chart = simulation.build_chart(simulation.meters[HOME], date(2026, 7, 1))["actualConsumption"]
    clock.at = at("2026-07-28T18:00")
    parts = days(await fetch())

    assert chart[14]["total"] > 0
    assert parts[date(2026, 7, 15)] == 0
    assert date(2026, 7, 28) not in parts


@pytest.mark.parametrize("future", [True, False])
async def test_days_to_come_are_no_readings(portal, fetch, clock, future):
    """
    Whether the chart draws them or leaves them out.
    """
    simulation, _ = portal
    simulation.shows_future_days = future

    assert max(days(await fetch())) < clock().date()


async def test_late_days_land_on_their_own_date(portal, fetch, clock):
    """
    A week that comes at once, many days late, is a hole until then, and then it is those days.
    """
    simulation, _ = portal
    clock.at = at("2026-11-20T11:59")
    before = days(await fetch())
    clock.advance(hours=2)
    after = days(await fetch())

    week = {date(2026, 11, n) for n in range(11, 18)}
    assert not week & before.keys()
    assert {day: after[day] for day in week} == {day: simulation.meters[HOME].get_litres(day) / 1000 for day in week}
    assert date(2026, 11, 18) in before


async def test_a_corrected_day_is_returned_again(portal, fetch, clock):
    """
    On its own date, with the value the portal has now; also from the month before.
    """
    simulation, _ = portal
    clock.at = at("2026-06-08T13:00")
    before = days(await fetch())[date(2026, 6, 3)]
    clock.at = at("2026-07-02T13:00")
    after = days(await fetch())[date(2026, 6, 3)]

    assert after == simulation.meters[HOME].get_litres(date(2026, 6, 3)) / 1000
    assert before < after


async def test_a_meter_that_is_new_has_an_index_and_no_days_before(clock, visit):
    """
    Before the meter was mounted there are no days, and in its first hours no index either.
    """
    simulation = WaterLinkSimulation(clock, since=date(2026, 11, 20))
    async with run_simulation(simulation) as url, visit() as session:
        parts = await visit_once(WaterLink(WaterLinkConfig(**simulation.build_accounts(url)[0])), session)

    assert days(parts) == {}
    assert Note("meters[0]: the portal states no meterReading, so there is no index") in parts
    assert only(Facts, parts)


# Partial failures


@pytest.mark.parametrize(("number", "status"), [(FOREIGN_METER, 403), ("111111", 404)])
async def test_a_meter_that_is_refused_leaves_the_others(fetch, number, status):
    """
    The partial failure names the place in the configuration, not the number; its feed is refused.
    """
    parts = await fetch(meters=[HOME, number, GARDEN])

    (error,) = failures(parts)
    assert isinstance(error, ResponseError)
    assert str(error) == f"meters[1] is not in this account ({status}): check the number"
    assert days(parts, HOME)
    assert days(parts, GARDEN)
    assert {point.id for point in parts[-1].usage_points} == {HOME, number, GARDEN}
    assert not only(Facts, parts, number) + only(Interval, parts, number)


async def test_a_visit_that_brings_nothing_fails(fetch):
    """
    When the only meter is refused, that is the visit's error.
    """
    with pytest.raises(ResponseError, match=r"^meters\[0\] is not in this account \(40[34]\): check the number"):
        await fetch(meters=[FOREIGN_METER])


async def test_a_malformed_reading_leaves_the_rest(portal, fetch):
    """
    The note names the field; flags and days are kept.
    """
    simulation, _ = portal
    simulation.faults.add(f"/meters/{HOME}", 'set:meterReading="4?2"')
    parts = await fetch()

    assert not failures(parts)
    assert Note("meters[0]: skipped invalid fields: meterReading") in parts
    assert not only(Index, parts)
    assert len(only(Facts, parts)[0].values) == 6
    assert days(parts)
    assert only(Index, parts, GARDEN)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("html", "GET /portal/api/… returned HTML, expected JSON"),
        ("empty", "GET /portal/api/… returned invalid data, expected JSON"),
        ("garbage", "GET /portal/api/… returned invalid data, expected JSON"),
        ("drop:actualConsumption", "meters[0] has changed: actualConsumption: field required"),
        ("status:302", "GET /portal/api/… returned status 302"),
    ],
)
async def test_a_chart_that_changed_leaves_the_rest(portal, fetch, fault, message):
    """
    One month is lost, the other and the meter's state are kept.
    """
    simulation, _ = portal
    simulation.faults.add(f"from=2026-10-01&meterNumber={HOME}", fault)
    parts = await fetch()

    (error,) = failures(parts)
    assert type(error) is ResponseError
    assert str(error) == message.replace("…", "measurements/day")
    assert only(Index, parts)
    assert min(days(parts)) == date(2026, 11, 1)


async def test_a_state_that_changed_leaves_the_days(portal, fetch):
    """
    Its path, which holds the meter's number, is not repeated.
    """
    simulation, _ = portal
    simulation.faults.add("/api/meters/", "html")
    parts = await fetch(meters=[HOME])

    (error,) = failures(parts)
    assert str(error) == "GET /portal/api/meters/… returned HTML, expected JSON"
    assert days(parts)


@pytest.mark.parametrize("fault", ["status:503", "hang", "reset", "cut"])
async def test_one_meter_out_of_reach_leaves_the_others(portal, fetch, fault):
    """
    Its requests are abandoned, the next meter is requested.
    """
    simulation, _ = portal
    simulation.faults.add(f"/meters/{HOME}", fault)
    parts = await fetch(patience=0.3)

    (error,) = failures(parts)
    assert isinstance(error, UnreachableError)
    assert not only(Facts, parts, HOME)
    assert only(Facts, parts, GARDEN)
    assert days(parts, HOME)
    assert days(parts, GARDEN)


async def test_a_portal_out_of_reach_is_soon_abandoned(portal, fetch):
    """
    After two meters, not after ten.
    """
    simulation, _ = portal
    simulation.faults.add("/api/", "status:503")

    with pytest.raises(UnreachableError, match=r"^GET /portal/api/meters/… returned status 503$"):
        await fetch(meters=[str(n) for n in range(204410, 204420)])
    assert sum("/api/" in request.path for request in simulation.requests) == 2


async def test_a_portal_that_asks_for_rest_gets_it(portal, fetch):
    """
    What came before is kept, nothing more is requested, and the wait is passed on.
    """
    simulation, _ = portal
    simulation.faults.add(f"/meters/{GARDEN}", "retry:600")
    parts = await fetch()

    (error,) = failures(parts)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == timedelta(minutes=10)
    assert only(Index, parts)
    assert not only(Index, parts, GARDEN)


async def test_a_refused_login_is_raised_whatever_came_before(portal, fetch, clock):
    """
    A login that is refused in the middle of a visit suspends the account all the same.
    """
    simulation, _ = portal
    await fetch()
    clock.advance(minutes=10)
    simulation.expire_tokens()
    simulation.identity_provider.password = "geheim-changed"

    with pytest.raises(LoginError):
        await fetch()
    assert simulation.login_count == 2


# Discovery


async def test_discover_shows_what_the_portal_states(portal, visit, clock):
    """
    Each configured meter with flags, last reading and days; the lines that select it; where a number is found.
    """
    simulation, entry = portal
    async with visit() as session:
        found = await WaterLink(WaterLinkConfig(**entry | {"meters": [HOME, FOREIGN_METER]})).discover(session)

    home, foreign = found.findings
    state = simulation.meters[HOME].build_state(clock())
    assert home.text == f"water meter {HOME}"
    assert home.facts["index"] == f"{state['meterReading'].replace(',', '.')} m³"
    assert home.facts["read"] == "2026-11-19T00:00:00+01:00"
    assert home.facts["divergent_consumption"] == state["divergentConsumption"]
    assert "address" not in home.facts
    count = len(true_days(simulation.meters[HOME], clock, date(2026, 10, 1)))
    assert home.children[0].facts == {"days of this and the previous month": count}
    assert "(403)" in foreign.facts["error"]
    assert (home.is_missing, foreign.is_missing, found.is_empty) == (False, True, False)
    assert found.config == f'meters: ["{HOME}"]'
    assert "/portal/water-meter/XXXXXX" in found.notes[0]


async def test_discover_marks_what_the_portal_has_nothing_of(clock, visit):
    """
    A refused meter, and one without any reading: when there are only such, nothing was found.
    """
    simulation = WaterLinkSimulation(clock, since=date(2026, 11, 20))
    async with run_simulation(simulation) as url, visit() as session:
        account = WaterLink(WaterLinkConfig(**simulation.build_accounts(url)[0] | {"meters": [HOME, FOREIGN_METER]}))
        found = await account.discover(session)

    assert found.is_empty
    assert "the portal has no reading of this meter: is its number right?" in found.findings[0].facts["error"]


async def test_discover_shows_an_address_when_allowed(portal, visit):
    """
    It is personal data.
    """
    async with visit() as session:
        found = await WaterLink(WaterLinkConfig(**portal[1] | {"personal_data": True})).discover(session)

    assert found.findings[0].facts["address"] == "Verzonnenlaan 7, 2000 Antwerpen"


@pytest.mark.parametrize(
    ("call", "keys", "path", "query"),
    [
        ("meter", {}, f"/api/meters/{HOME}", {}),
        ("meter", {"meter": GARDEN}, f"/api/meters/{GARDEN}", {}),
        ("days", {}, "/api/measurements/day", {"from": "2026-11-01", "meterNumber": HOME}),
        ("days", {"month": "2026-02"}, "/api/measurements/day", {"from": "2026-02-01", "meterNumber": HOME}),
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
    Of the first configured meter and the running month, unless other ones are named.
    """
    simulation, entry = portal
    async with visit() as session:
        body = await WaterLink(WaterLinkConfig(**entry)).fetch_raw(session, call, keys)

    request = simulation.requests[-1]
    assert (request.path, request.query) == (f"/portal{path}", query)
    assert body.keys() & {"meterReading", "actualConsumption", "totalCount"}
    assert WaterLink.raw_calls[call].parameters.keys() >= keys.keys()


@pytest.mark.parametrize(
    ("call", "keys", "message"),
    [
        ("days", {"month": "2026-13"}, "a month is written like 2026-03"),
        ("days", {"month": "last"}, "a month is written like 2026-03"),
        ("days", {"month": "0000-01"}, "a month is written like 2026-03"),
        ("meter", {"meter": "../me"}, "a meter's number is six digits"),
        ("token", {}, "there is no such call; there are meter, days, alarms"),
    ],
)
async def test_raw_refuses_what_it_does_not_know(portal, visit, call, keys, message):
    """
    Before any request.
    """
    simulation, entry = portal
    async with visit() as session:
        with pytest.raises(PortalError, match=message):
            await WaterLink(WaterLinkConfig(**entry)).fetch_raw(session, call, keys)

    assert simulation.requests == []


# Feeds


async def test_each_meter_has_a_feed_of_days(portal):
    """
    Its key is stable and has no number in it; it goes back as far as `history_days`.
    """
    account = WaterLink(WaterLinkConfig(**portal[1] | {"history_days": 500}))
    home, garden = account.list_feeds()

    assert (home.usage_points, garden.usage_points) == ((HOME,), (GARDEN,))
    assert (home.chunk, home.resolution, home.reach) == (CalendarMonth(), "P1D", timedelta(days=500))
    assert home.key == "days:f6819316de945ec3"
    assert HOME not in home.key
    assert garden.key != home.key


async def test_a_month_of_a_feed_is_what_the_portal_shows(portal, visit, clock):
    """
    One request brings the whole month, whatever days of it are asked for.
    """
    simulation, entry = portal
    account = WaterLink(WaterLinkConfig(**entry))
    async with visit() as session:
        result = await account.read(session, account.list_feeds()[0], date(2026, 10, 12), date(2026, 10, 20))

    october = {
        day: value for day, value in true_days(simulation.meters[HOME], clock, date(2026, 10, 1)).items() if day.month == 10
    }
    assert days(result.readings) == october
    assert (result.requests, result.skipped, result.notes) == (1, 0, ())


async def test_a_month_before_the_meter_is_empty_and_no_failure(portal, visit):
    """
    Older ones may have days all the same.
    """
    account = WaterLink(WaterLinkConfig(**portal[1]))
    async with visit() as session:
        result = await account.read(session, account.list_feeds()[0], date(2024, 9, 1), date(2024, 9, 30))

    assert result.readings == []


async def test_one_odd_bar_is_noted_and_counted(portal, visit, clock):
    """
    The other days of the month are kept.
    """
    simulation, entry = portal
    account = WaterLink(WaterLinkConfig(**entry))
    simulation.faults.add("/measurements/", "bar:3=null")
    async with visit() as session:
        result = await account.read(session, account.list_feeds()[0], date(2026, 10, 1), date(2026, 10, 31))

    october = {
        day: value for day, value in true_days(simulation.meters[HOME], clock, date(2026, 10, 1)).items() if day.month == 10
    }
    del october[date(2026, 10, 4)]
    assert days(result.readings) == october
    assert (result.skipped, result.notes) == (1, ("meters[0]: skipped invalid fields: actualConsumption",))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status:503", UnreachableError),
        ("html", ResponseError),
        ("retry:60", RateLimitError),
        ("status:403", FeedRefusedError),
        ("status:404", FeedRefusedError),
    ],
)
async def test_a_month_that_fails_says_why(portal, visit, fault, kind):
    """
    Without a number or a secret.
    """
    simulation, entry = portal
    simulation.faults.add("/measurements/", fault)
    account = WaterLink(WaterLinkConfig(**entry))
    async with visit() as session:
        with pytest.raises(kind) as caught:
            await account.read(session, account.list_feeds()[0], date(2026, 10, 1), date(2026, 10, 31))

    assert type(caught.value) is kind
    assert not SECRETS.search(str(caught.value))


# The simulation itself


def test_the_meter_is_the_same_each_time_and_varies(clock):
    """
    Its register is the sum of its days; there are holidays, leaks, days out of order.
    """
    one, other = WaterLinkSimulation(clock).meters[HOME], WaterLinkSimulation(clock).meters[HOME]
    year = [date(2026, 1, 1) + n * DAY for n in range(365)]

    assert [one.get_litres(day) for day in year] == [other.get_litres(day) for day in year]
    assert one.compute_index(date(2027, 1, 1)) - one.compute_index(date(2026, 1, 1)) == sum(one.get_litres(day) for day in year)
    assert {one.get_litres(day) for day in year if is_away(day)} == {0}
    assert min(one.get_litres(day) for day in year if is_leaking(day)) > 1000
    assert any(one.shown_at(day) > one.shown_at(day + DAY) for day in year)
    assert (
        one.compute_litres_so_far(at("2026-06-10T06:00"))
        < one.compute_litres_so_far(at("2026-06-10T18:00"))
        < one.get_litres(date(2026, 6, 10))
    )
