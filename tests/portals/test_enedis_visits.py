"""Whole visits of Enedis, by each kind of access, against the simulation's own truth."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.models import Commodity, Fact, Facts, Holder, UsagePoint
from exporter.portals.enedis.timestamps import day_span
from tests.conftest import FakeClock
from tests.portals.enedis_account import ACCESS_METHODS, EnedisAccount, restrict_usage_points, run_account

WEEK = [date(2026, 11, 13) + timedelta(days=n) for n in range(7)]
DAYS, CURVE, MAX = "consommation_quotidienne", "courbe_de_charge_consommation", "puissance_conso_max_quotidienne"


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
async def test_a_visit_is_the_truth(access: str, api: str) -> None:
    """
    By every access the same week is stored: days, curves with their gap, both directions, both homes.
    """
    async with run_account(access, api) as home:
        await home.visit()

        simulation = home.simulation
        for each in (simulation.producer, simulation.recent_customer):
            for day in WEEK:
                assert home.get_days(prm=each.prm)[day] == simulation.get_true_day(each, day)
                truth = [] if day.day == 17 else simulation.get_true_curve(each, day)
                assert home.get_curve(day, prm=each.prm) == [(block.start, block.end, block.energy_kwh) for block in truth]
        for day in WEEK:
            assert home.get_days(producing=True)[day] == simulation.get_true_day(simulation.producer, day, producing=True)


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
async def test_the_largest_power_of_each_day(access: str, api: str) -> None:
    """
    Each day's largest power comes in kVA, with its instant.
    """
    async with run_account(access, api) as home:
        await home.visit()

        producing = home.simulation.producer
        peaks = {peak.start: peak for peak in home.peaks if peak.usage_point.id == producing.prm}
        for day in WEEK:
            peak = peaks[day_span(day)[0]]
            assert (peak.at, peak.power) == home.simulation.get_true_peak(producing, day)
            assert (peak.start, peak.end) == day_span(day)


@pytest.mark.parametrize("access", ["conso", "dataconnect"])
async def test_registers_by_tariff_class(access: str) -> None:
    """
    Where the access has registers, each tariff class is one, and a single class is the total.
    """
    async with run_account(access) as home:
        await home.visit()

        simulation = home.simulation
        at = day_span(WEEK[-1])[0]
        found = {(i.register.usage_point.id, i.register.direction, i.register.name): i.value for i in home.indexes if i.at == at}
        used = simulation.get_true_index(simulation.producer, WEEK[-1])
        assert found == {
            (simulation.producer.prm, "consumption", "HC"): used["HC"],
            (simulation.producer.prm, "consumption", "HP"): used["HP"],
            (simulation.producer.prm, "injection", "total"): simulation.get_true_index(
                simulation.producer, WEEK[-1], producing=True
            )[""],
            (simulation.recent_customer.prm, "consumption", "total"): simulation.get_true_index(
                simulation.recent_customer, WEEK[-1]
            )["BASE"],
        }


@pytest.mark.parametrize(("access", "api"), [method for method in ACCESS_METHODS if method[0] != "conso"])
async def test_subscribed_power_is_asked_once_a_week(access: str, api: str) -> None:
    """
    The subscribed power is a result of each visit, and requested once in seven days.
    """
    async with run_account(access, api) as home:
        await home.visit()
        home.clock.advance(days=6)
        await home.visit()
        asked = [seen for seen in home.simulation.requests if "contra" in seen.path]

        assert {facts.usage_point.id: dict(facts.values) for facts in home.latest.facts} == {
            home.simulation.producer.prm: {Fact.SUBSCRIBED_POWER: 9},
            home.simulation.recent_customer.prm: {Fact.SUBSCRIBED_POWER: 6},
        }
        assert len(asked) == 2
        home.clock.advance(days=2)
        await home.visit()
        assert len([seen for seen in home.simulation.requests if "contra" in seen.path]) == 4


@pytest.mark.parametrize(
    ("day", "halves"),
    [(date(2026, 3, 29), 46), (date(2026, 10, 25), 50)],
)
@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
async def test_clock_changes(access: str, api: str, day: date, halves: int) -> None:
    """
    The days on which clocks change are whole, by every access.
    """
    clock = FakeClock(datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(days=2))
    async with run_account(access, api, clock=clock) as home:
        await home.visit()

        found = home.get_curve(day)
        assert len(found) == halves
        assert found == [
            (block.start, block.end, block.energy_kwh) for block in home.simulation.get_true_curve(home.simulation.producer, day)
        ]


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
async def test_starts_that_respect_the_clock_change(day: date) -> None:
    """
    Also where a gateway moves stamps with regard to a clock change, the day is whole.
    """
    clock = FakeClock(datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(days=2))
    async with run_account("myelectricaldata", "v2", clock=clock) as home:
        home.simulation.myelectricaldata_v2.respects_clock_changes = True
        await home.visit()

        truth = home.simulation.get_true_curve(home.simulation.producer, day)
        assert home.get_curve(day) == [(block.start, block.end, block.energy_kwh) for block in truth]


async def test_a_stored_night_in_october_leaves_the_doubled_hour_alone() -> None:
    """
    A gateway's store that kept one of each pair has 48 points: all but the doubled hour are right, and that one is empty.
    """
    day = date(2026, 10, 25)
    async with run_account("myelectricaldata", "v2", clock=FakeClock(datetime(2026, 10, 27, 12, tzinfo=UTC))) as home:
        home.simulation.myelectricaldata_v2.keeps_one_of_pairs = True
        await home.visit()

        truth = home.simulation.get_true_curve(home.simulation.producer, day)
        assert home.get_curve(day) == [(b.start, b.end, b.energy_kwh) for b in [*truth[:3], *truth[7:]]]


async def test_a_contract_that_is_an_object() -> None:
    """
    Version 2 of MyElectricalData has the contracts inside an object, a part of which may be null.
    """
    async with run_account("myelectricaldata", "v2") as home:
        await home.visit()

        assert Facts(UsagePoint(home.simulation.producer.prm, Commodity.ELECTRICITY), {Fact.SUBSCRIBED_POWER: 9}) in (
            home.latest.facts
        )
        assert home.notes == []


@pytest.mark.parametrize("fault", ["html", "garbage", "rename:subscribed_power:power", "enedis:403:ADAM-DC-0008", "status:500"])
async def test_a_contract_that_fails_costs_nothing_else(fault: str) -> None:
    """
    Without a contract the measures come all the same, with a note; it is not asked again at each visit.
    """
    async with run_account("dataconnect") as home:
        home.simulation.faults.add("situation_contrat_auto", fault)
        await home.visit()
        notes = home.notes
        home.clock.advance(hours=1)
        await home.visit()

        assert home.get_days()[WEEK[-1]]
        assert home.error is None
        assert home.notes == notes
        assert len(notes) == (0 if fault.startswith("rename") else 2)
        assert len([seen for seen in home.simulation.requests if "contrat" in seen.path]) == 2


async def test_a_banned_address_is_blocked_and_waits() -> None:
    """
    The page of a ban is JSON for whoever accepts JSON: the address is blocked, which says nothing about the token.
    """
    async with run_account() as home:
        home.simulation.conso.is_banned = True
        found = await home.visit_and_fail()

        assert isinstance(found, RateLimitError)
        assert "blocks this address" in str(found)
        assert found.retry_after == timedelta(hours=6)
        assert len(home.simulation.requests) == 1


@pytest.mark.parametrize(("access", "api"), [("conso", "2026"), ("conso", "v5"), ("myelectricaldata", "v2")])
async def test_another_address_is_named(access: str, api: str) -> None:
    """
    An address that lacks the path of the API is an error that says how it usually ends.
    """
    async with run_account(access, api) as home:
        home.restart(base_url=home.portal.config.api_base_url.removesuffix("/api"))
        found = await home.visit_and_fail()

        assert isinstance(found, ResponseError)
        assert str(found).endswith("check base_url, it usually ends in /api")


async def test_one_odd_value_costs_one_value() -> None:
    """
    A value that is no number is left out, with a note that names its field.
    """
    async with run_account() as home:
        watt_hours = round(home.simulation.get_true_day(home.simulation.producer, WEEK[3]) * 1000)
        home.simulation.faults.add(DAYS, f"rename:{watt_hours}:NaN")
        await home.visit()

        assert set(WEEK) - set(home.get_days()) == {WEEK[3]}


async def test_inventory_and_end_of_access() -> None:
    """
    Each visit returns the usage points and when the token expires.
    """
    async with run_account() as home:
        await home.visit()

        inventory = home.latest.inventory
        assert inventory
        assert [point.id for point in inventory.usage_points] == list(home.simulation.homes)
        assert home.latest.holder == Holder(access_expires=home.simulation.access_expires)


async def test_the_end_of_a_consent_of_version_1() -> None:
    """
    Version 1 of MyElectricalData returns when a consent ends, requested once a day.
    """
    async with run_account("myelectricaldata", "v1") as home:
        await home.visit()
        home.clock.advance(hours=1)
        await home.visit()

        assert home.latest.holder == Holder(access_expires=home.simulation.access_expires)
        assert len([seen for seen in home.simulation.requests if "valid_access" in seen.path]) == 2


async def test_usage_points_may_be_left_to_the_token() -> None:
    """
    The token of the Conso API names its usage points.
    """
    async with run_account(usage_points=()) as home:
        await home.visit()

        assert len(home.latest.inventory.usage_points) == 2
        assert home.get_days()[WEEK[-1]] == home.simulation.get_true_day(home.simulation.producer, WEEK[-1])


async def test_the_token_of_data_connect_lives_to_its_end() -> None:
    """
    One token serves three hours and a half, over restarts; then, or when it is refused before, a new one is asked for.
    """
    async with run_account("dataconnect") as home:

        def tokens() -> int:
            return sum(seen.path == "/oauth2/v3/token" for seen in home.simulation.requests)

        await home.visit()
        home.clock.advance(hours=3)
        home.simulation.source.delays[home.today] = timedelta(hours=3)
        await home.visit()
        assert tokens() == 1

        home.clock.advance(days=1)
        await home.visit()
        assert tokens() == 2

        home.clock.advance(minutes=30)
        home.simulation.source.delays[home.today - timedelta(days=1)] = timedelta(0)
        home.simulation.dataconnect.expire_tokens()
        async with home.open_session() as session:
            await home.portal.fetch_raw(session, "consumption_days", {})
        assert tokens() == 3


async def test_the_secret_goes_in_the_body() -> None:
    """
    Queries end in logs: none of ours holds a secret.
    """
    async with run_account("dataconnect") as home:
        await home.visit()

        assert not any("client_secret" in seen.query for seen in home.simulation.requests)


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:503", UnreachableError),
        ("hang", UnreachableError),
        ("reset", UnreachableError),
        ("cut", UnreachableError),
        ("html", ResponseError),
        ("empty", ResponseError),
        ("garbage", ResponseError),
        ("retry:120", RateLimitError),
    ],
)
async def test_failures_have_names(access: str, api: str, fault: str, error: type[PortalError]) -> None:
    """
    Whatever goes wrong everywhere raises one of our errors, and nothing secret or personal stands in it.
    """
    async with run_account(access, api) as home:
        home.simulation.faults.add("", fault)

        found = await home.visit_and_fail(timeout=timedelta(seconds=0.2))

        assert type(found) is error
        _nothing_leaks(home, found)


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "ADAM-DC-0008", LoginError),
        (403, "unauthorized_user", LoginError),
        (500, "technical_error", UnreachableError),
        (400, "something_new", PortalError),
    ],
)
async def test_refusals_of_enedis_come_through_every_access(
    access: str, api: str, status: int, code: str, error: type[PortalError]
) -> None:
    """
    A refusal of Enedis is parsed inside each gateway's own envelope; when all usage points are refused, the login is.
    """
    async with run_account(access, api) as home:
        home.simulation.faults.add("", f"enedis:{status}:{code}")
        found = await home.visit_and_fail()

        assert isinstance(found, error)
        _nothing_leaks(home, found)


@pytest.mark.parametrize(
    ("access", "api", "keys"),
    [
        ("conso", "2026", {"token": "made.up.planted"}),
        ("dataconnect", "2026", {"client_secret": "planted"}),
        ("myelectricaldata", "v2", {"token": "planted"}),
    ],
)
async def test_a_refused_login(access: str, api: str, keys: dict[str, str]) -> None:
    """
    A wrong token or secret is a refused login, and not repeated in the message.
    """
    async with run_account(access, api, **keys) as home:
        found = await home.visit_and_fail()

        assert isinstance(found, LoginError)
        assert "planted" not in str(found)
        _nothing_leaks(home, found)


async def test_an_expired_token_is_not_tried() -> None:
    """
    An expired token is detected without a call.
    """
    async with run_account() as home:
        home.clock.advance(days=1095)
        found = await home.visit_and_fail()

        assert isinstance(found, LoginError)
        assert "expired on 2029-11-18" in str(found)
        assert home.simulation.requests == []


async def test_a_renamed_field_is_named() -> None:
    """
    When a field is renamed, the message names it; the other series are kept.
    """
    async with run_account() as home:
        home.simulation.faults.add(DAYS, "rename:unite:unit")
        await home.visit()

        assert isinstance(home.error, ResponseError)
        assert "unite" in str(home.error)
        assert home.get_curve(WEEK[-1])


async def test_one_failing_series_leaves_the_others_whole() -> None:
    """
    Days of failures of one series are a failure of it alone: the others are read, the backlog too, and only it is asked again.
    """
    async with run_account("dataconnect") as home:
        home.simulation.faults.add(MAX, "enedis:500:technical_error")
        await home.visit()
        assert isinstance(home.error, UnreachableError)
        await home.read_backlog()
        assert home.get_days()[WEEK[-1]]
        assert len(home.get_days()) > 1000
        assert home.get_curve(date(2026, 1, 4))

        home.simulation.faults.clear()
        home.simulation.requests.clear()
        home.clock.advance(hours=6)
        await home.visit()
        # The curves have holes that may still be filled.
        assert (
            MAX in {seen.path.rsplit("/")[-1] for seen in home.simulation.requests if "courbe" not in seen.path} <= {MAX, "token"}
        )
        assert home.peaks
        assert home.error is None


@pytest.mark.parametrize("code", ["technical_error", "STM-ERR-0000001"])
async def test_a_curve_that_fails_while_days_come_is_a_note(code: str) -> None:
    """
    Since Enedis resets the collection of curves, a curve then fails with status 500: the note says where it is switched on.
    """
    async with run_account() as home:
        home.simulation.faults.add(CURVE, f"enedis:500:{code}")
        for _ in range(3):
            await home.visit()
            home.clock.advance(hours=1)

        assert home.error is None
        assert len(home.notes) == 2
        assert all("enregistrement et collecte" in note for note in home.notes)
        assert len([seen for seen in home.simulation.requests if CURVE in seen.path]) == 2
        assert home.get_days()[WEEK[-1]]


async def test_one_of_several_loses_its_consent() -> None:
    """
    A usage point without consent is named in a note; the other is read, and the refused one is requested again next day.
    """
    async with run_account() as home:
        closed = home.simulation.recent_customer.prm
        home.simulation.source.refusals[closed] = "ADAM-DC-0008"
        await home.visit()
        notes = home.notes
        assert [note.split(":")[0] for note in notes] == [
            f"consumption_{kind} of workshop" for kind in ("days", "max", "index", "curve")
        ]
        assert all("no consent" in note and closed not in note for note in notes)
        assert home.error is None
        assert home.get_days()[WEEK[-1]]
        assert home.get_days(prm=closed) == {}

        home.simulation.requests.clear()
        home.clock.advance(hours=3)
        await home.visit()
        assert home.notes == notes
        assert [seen for seen in home.simulation.requests if seen.query["pointId"] == closed] == []

        home.clock.advance(hours=21)
        del home.simulation.source.refusals[closed]
        await home.visit()
        assert home.notes == []
        assert home.get_days(prm=closed)[WEEK[-1] + timedelta(days=1)]


async def test_all_without_consent_are_asked_again_when_the_suspension_is_lifted() -> None:
    """
    When all are refused the account is; the next permitted try asks them all, whatever was noted of each.
    """
    async with run_account() as home:
        for prm in home.simulation.homes:
            home.simulation.source.refusals[prm] = "ADAM-DC-0007"
        found = await home.visit_and_fail()
        assert isinstance(found, LoginError)
        assert str(found).startswith("all 2 usage points are refused; ")

        home.simulation.source.refusals.clear()
        home.clock.advance(minutes=1)
        await home.visit()
        assert home.get_days()


async def test_a_usage_point_the_token_was_not_made_for() -> None:
    """
    Without an alias a usage point is called by its place in the configuration.
    """
    async with run_account(aliases={}) as home:
        restrict_usage_points(home, {"prm": home.simulation.producer.prm}, {"prm": "33333333333333"})
        await home.visit()

        assert home.notes == ["the token was not made for usage_points[1]"]
        assert home.get_days()


async def test_hourly_collection_that_is_off_is_a_note() -> None:
    """
    Never a curve: after a day a note names what to switch on. No failure, and soon requested twice a day.
    """
    async with run_account() as home:
        _set_hourly(home, None)
        for hours in (1, 1, 13, 13):
            await home.visit()
            home.clock.advance(hours=hours)
        (note,) = home.notes
        assert "collection" in note
        assert "consumption_curve of workshop" in note
        assert home.error is None

        await home.read_backlog()
        assert home.notes == [note]
        home.simulation.requests.clear()
        for _ in range(22):
            home.clock.advance(hours=1)
            await home.visit()
        without = home.simulation.recent_customer.prm
        assert len([seen for seen in home.list_newest_calls() if CURVE in seen.path and seen.query["pointId"] == without]) <= 2


async def test_an_objection_is_a_note_and_asked_again_tomorrow() -> None:
    """
    A note names the objection to the curve; the next day it is requested again.
    """
    async with run_account() as home:
        home.simulation.faults.add(f"{CURVE}?", "enedis:400:ADAM-ERR0075")
        await home.visit()
        assert all("objected" in note for note in home.notes)
        assert len(home.notes) == 2

        home.simulation.faults.clear()
        home.clock.advance(days=1)
        await home.visit()
        assert home.notes == []
        assert home.get_curve(WEEK[-1])


async def test_a_direction_that_is_not_measured_is_left_alone_for_a_week() -> None:
    """
    Production of a home that has none is requested once in seven days, series by series.
    """
    async with run_account() as home:
        restrict_usage_points(home, {"prm": home.simulation.recent_customer.prm, "production": True})
        await home.visit()
        assert len(home.notes) == 3

        home.simulation.requests.clear()
        for _ in range(6):
            home.clock.advance(days=1)
            await home.visit()
        assert not any("production" in seen.path for seen in home.simulation.requests)
        home.clock.advance(days=1)
        await home.visit()
        assert any("production" in seen.path for seen in home.simulation.requests)


async def test_what_the_application_has_not_subscribed_to_closes_nothing_else() -> None:
    """
    A contract that the application may not read is a note; the measures are read.
    """
    async with run_account("dataconnect") as home:
        home.simulation.dataconnect.unsubscribed.add("situation_contrat_auto")
        await home.visit()

        assert all("not subscribed" in note for note in home.notes)
        assert len(home.notes) == 2
        assert home.get_days()


@pytest.mark.parametrize(
    ("access", "message"),
    [({"valid": False}, "not valid"), ({"ban": True}, "banned")],
)
async def test_version_1_says_before_what_it_would_refuse(access: dict[str, bool], message: str) -> None:
    """
    A consent that the gateway knows to have ended is a note, without another call.
    """
    async with run_account("myelectricaldata", "v1") as home:
        home.simulation.myelectricaldata_v1.access_overrides[home.simulation.recent_customer.prm] = dict(access)
        await home.visit()

        (note,) = home.notes
        assert message in note
        assert not any(
            home.simulation.recent_customer.prm in seen.path
            for seen in home.simulation.requests
            if "valid_access" not in seen.path
        )


async def test_version_1_respects_the_quota_of_the_day() -> None:
    """
    A quota that is used up is waited for until the gateway's own reset.
    """
    async with run_account("myelectricaldata", "v1") as home:
        for prm in home.simulation.homes:
            home.simulation.myelectricaldata_v1.access_overrides[prm] = {"quota_reached": True}
        found = await home.visit_and_fail()

        assert isinstance(found, RateLimitError)
        assert found.retry_after is not None
        assert timedelta(hours=13, minutes=29) < found.retry_after < timedelta(hours=13, minutes=30)


async def test_a_real_rate_limit_ends_the_visit() -> None:
    """
    After a 429 there are no more requests; earlier results are stored.
    """
    async with run_account() as home:
        home.simulation.faults.add(CURVE, "retry:300")
        await home.visit()

        assert isinstance(home.error, RateLimitError)
        assert home.error.retry_after == timedelta(minutes=5)
        assert home.simulation.requests[-1].path == f"/api/{CURVE}"
        assert home.get_days()


async def test_a_silent_portal_is_abandoned_soon() -> None:
    """
    Two series without a response end the visit, however many usage points there are.
    """
    async with run_account() as home:
        home.simulation.faults.add("", "status:503")
        await home.visit_and_fail()

        assert len(home.simulation.requests) == 2


async def test_six_days_where_seven_are_too_many() -> None:
    """
    When a curve of seven days is refused, six are requested, and never more again.
    """
    async with run_account() as home:
        restrict_usage_points(home, {"prm": home.simulation.recent_customer.prm})
        home.simulation.faults.add(
            f"{CURVE}?pointId={home.simulation.recent_customer.prm}&dateDebut=2026-11-13", "enedis:400:ADAM-ERR0126", times=1
        )
        await home.visit()
        asked = [
            (seen.query["dateDebut"], seen.query["dateFin"])
            for seen in home.simulation.requests
            if CURVE in seen.path and seen.query["dateFin"] >= "2026-11-13"
        ]
        assert asked == [("2026-11-13", "2026-11-20"), ("2026-11-14", "2026-11-20"), ("2026-11-08", "2026-11-14")]
        assert home.get_curve(WEEK[0], prm=home.simulation.recent_customer.prm)

        home.simulation.requests.clear()
        home.clock.advance(days=1)
        await home.visit()
        curves = [seen for seen in home.simulation.requests if CURVE in seen.path]
        lengths = {date.fromisoformat(s.query["dateFin"]) - date.fromisoformat(s.query["dateDebut"]) for s in curves}
        assert max(lengths) == timedelta(days=6)


async def test_intervals_change_their_length() -> None:
    """
    From the day the meter records quarters, quarters are kept; half-hours before.
    """
    clock = FakeClock()
    async with run_account(clock=clock) as home:
        home.clock.advance(days=-36)
        await home.visit()

        lengths = {
            home.today - timedelta(days=n): {
                end - start
                for start, end, _ in home.get_curve(home.today - timedelta(days=n), prm=home.simulation.recent_customer.prm)
            }
            for n in range(1, 6)
        }
        minutes = {day: {int(length.total_seconds() // 60) for length in each} for day, each in lengths.items()}
        change = home.simulation.recent_customer.quarters_since
        assert minutes == {day: {15} if day >= change else {30} for day in minutes}
        assert set.union(*minutes.values()) == {15, 30}


async def test_corrections_and_holes_are_healed_by_the_week() -> None:
    """
    A day that came late or changed afterwards is in the next day's week.
    """
    async with run_account() as home:
        late = WEEK[3]
        home.simulation.source.delays[late] = timedelta(days=4)
        await home.visit()
        assert late not in home.get_days()

        home.clock.advance(days=1)
        await home.visit()
        assert home.get_days()[late] == home.simulation.get_true_day(home.simulation.producer, late)


async def test_intervals_are_all_of_one_register() -> None:
    """
    Days and curves are of the register `total`, one a direction.
    """
    async with run_account() as home:
        await home.visit()

        found = home.intervals
        assert {each.register.name for each in found} == {"total"}
        assert {each.register.direction for each in found} == {"consumption", "injection"}


def _set_hourly(home: EnedisAccount, since: date | None) -> None:
    young = replace(home.simulation.recent_customer, hourly_since=since)
    home.simulation.homes[young.prm] = young


def _nothing_leaks(home: EnedisAccount, error: PortalError) -> None:
    text = f"{error!r} {error.__cause__!r} {error.__context__!r}"
    for prm in home.simulation.homes:
        assert prm not in text
    for secret in (home.simulation.conso.token, "made-up-client-secret", "made-up-med"):
        assert secret not in text
