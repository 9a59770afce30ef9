"""Whole visits of Enedis, by each of the three ways, against the simulation's own truth."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.model import Fact, Facts, Holder, Index, Interval, Inventory, Note, Peak, Shortfall
from exporter.portals.enedis.stamps import day_span
from tests.conftest import EVERYTHING, Clock
from tests.portals.enedis_house import WAYS, House, house, only

WEEK = [date(2026, 11, 13) + timedelta(days=n) for n in range(7)]
DAYS, CURVE, MAX = "consommation_quotidienne", "courbe_de_charge_consommation", "puissance_conso_max_quotidienne"


@pytest.mark.parametrize(("access", "api"), WAYS)
async def test_a_visit_is_the_truth(access: str, api: str) -> None:
    """
    By every way the same week comes home: days, curves with their gap, both directions, both homes.
    """
    async with house(access, api) as home:
        await home.visit()

        simulation = home.simulation
        for each in (simulation.producing, simulation.young):
            for day in WEEK:
                assert home.days(prm=each.prm)[day] == simulation.true_day(each, day)
                truth = [] if day.day == 17 else simulation.true_curve(each, day)
                assert home.curve(day, prm=each.prm) == [(block.start, block.end, block.kwh) for block in truth]
        for day in WEEK:
            assert home.days(producing=True)[day] == simulation.true_day(simulation.producing, day, producing=True)


@pytest.mark.parametrize(("access", "api"), WAYS)
async def test_the_largest_power_of_each_day(access: str, api: str) -> None:
    """
    Each day's largest power comes in kVA, with its instant.
    """
    async with house(access, api) as home:
        await home.visit()

        producing = home.simulation.producing
        peaks = {peak.start: peak for peak in home.kept.values() if isinstance(peak, Peak) and peak.point.id == producing.prm}
        for day in WEEK:
            peak = peaks[day_span(day)[0]]
            assert (peak.at, peak.power) == home.simulation.true_peak(producing, day)
            assert (peak.start, peak.end) == day_span(day)


@pytest.mark.parametrize("access", ["conso", "dataconnect"])
async def test_registers_by_tariff_class(access: str) -> None:
    """
    Where the way gives registers, each tariff class is one, and a single class is the total.
    """
    async with house(access) as home:
        await home.visit()

        simulation = home.simulation
        at = day_span(WEEK[-1])[0]
        found = {(i.register.point.id, i.register.direction, i.register.name): i.value for i in home.of(Index) if i.at == at}
        used = simulation.true_index(simulation.producing, WEEK[-1])
        assert found == {
            (simulation.producing.prm, "consumption", "HC"): used["HC"],
            (simulation.producing.prm, "consumption", "HP"): used["HP"],
            (simulation.producing.prm, "injection", "total"): simulation.true_index(
                simulation.producing, WEEK[-1], producing=True
            )[""],
            (simulation.young.prm, "consumption", "total"): simulation.true_index(simulation.young, WEEK[-1])["BASE"],
        }


@pytest.mark.parametrize(("access", "api"), [way for way in WAYS if way[0] != "conso"])
async def test_subscribed_power_is_asked_once_a_week(access: str, api: str) -> None:
    """
    Contract power is told at each visit, and asked for once in seven days.
    """
    async with house(access, api) as home:
        await home.visit()
        home.clock.move(days=6)
        await home.visit()
        asked = [seen for seen in home.simulation.seen if "contra" in seen.path]

        assert {facts.point.id: dict(facts.values) for facts in home.of(Facts)} == {
            home.simulation.producing.prm: {Fact.SUBSCRIBED_POWER: 9},
            home.simulation.young.prm: {Fact.SUBSCRIBED_POWER: 6},
        }
        assert len(asked) == 2
        home.clock.move(days=2)
        await home.visit()
        assert len([seen for seen in home.simulation.seen if "contra" in seen.path]) == 4


@pytest.mark.parametrize(
    ("day", "halves"),
    [(date(2026, 3, 29), 46), (date(2026, 10, 25), 50)],
)
@pytest.mark.parametrize(("access", "api"), WAYS)
async def test_clock_changes(access: str, api: str, day: date, halves: int) -> None:
    """
    The days on which clocks change are whole, by every way.
    """
    clock = Clock(datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(days=2))
    async with house(access, api, clock=clock) as home:
        await home.visit()

        found = home.curve(day)
        assert len(found) == halves
        assert found == [
            (block.start, block.end, block.kwh) for block in home.simulation.true_curve(home.simulation.producing, day)
        ]


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
async def test_starts_that_forgot_the_clock_change(day: date) -> None:
    """
    Also where a gateway moves stamps without regard to a clock change, the day is whole.
    """
    clock = Clock(datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(days=2))
    async with house("myelectricaldata", "v2", clock=clock) as home:
        home.simulation.med_v2.naive_starts = True
        await home.visit()

        truth = home.simulation.true_curve(home.simulation.producing, day)
        assert home.curve(day) == [(block.start, block.end, block.kwh) for block in truth]


async def test_inventory_and_end_of_access() -> None:
    """
    Each visit says which usage points there are, and until when the token lasts.
    """
    async with house() as home:
        await home.visit()

        (inventory,) = home.of(Inventory)
        assert [point.id for point in inventory.points] == list(home.simulation.homes)
        assert home.of(Holder) == [Holder(access_expires=home.simulation.access_ends)]


async def test_the_end_of_a_consent_of_version_1() -> None:
    """
    Version 1 of MyElectricalData says when a consent ends, once a day.
    """
    async with house("myelectricaldata", "v1") as home:
        await home.visit()
        home.clock.move(hours=1)
        await home.visit()

        assert home.of(Holder) == [Holder(access_expires=home.simulation.access_ends)]
        assert len([seen for seen in home.simulation.seen if "valid_access" in seen.path]) == 2


async def test_usage_points_may_be_left_to_the_token() -> None:
    """
    The token of the Conso API names its usage points.
    """
    async with house(usage_points=()) as home:
        await home.visit()

        assert len(home.of(Inventory)[0].points) == 2
        assert home.days()[WEEK[-1]] == home.simulation.true_day(home.simulation.producing, WEEK[-1])


async def test_the_token_of_data_connect_lives_to_its_end() -> None:
    """
    One token serves three hours and a half, over restarts; then, or when it is refused before, a new one is asked for.
    """
    async with house("dataconnect") as home:

        def tokens() -> int:
            return sum(seen.path == "/oauth2/v3/token" for seen in home.simulation.seen)

        await home.visit()
        home.clock.move(hours=3)
        home.simulation.source.late[home.today] = timedelta(hours=3)
        await home.visit()
        assert tokens() == 1

        home.clock.move(days=1)
        await home.visit()
        assert tokens() == 2

        home.clock.move(minutes=30)
        home.simulation.source.late[home.today - timedelta(days=1)] = timedelta(0)
        home.simulation.dataconnect.forget_tokens()
        async with home.session() as session:
            await home.portal.raw(session, "consumption_days", {})
        assert tokens() == 3


async def test_the_secret_goes_in_the_body() -> None:
    """
    Queries end in logs: none of ours holds a secret.
    """
    async with house("dataconnect") as home:
        await home.visit()

        assert not any("client_secret" in seen.query for seen in home.simulation.seen)


@pytest.mark.parametrize(("access", "api"), WAYS)
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
    async with house(access, api) as home:
        home.simulation.faults.set("", fault)

        found = await home.refused(timeout=timedelta(seconds=0.2))

        assert type(found) is error
        _nothing_leaks(home, found)


@pytest.mark.parametrize(("access", "api"), WAYS)
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "ADAM-DC-0008", LoginError),
        (403, "unauthorized_user", LoginError),
        (500, "technical_error", UnreachableError),
        (400, "something_new", PortalError),
    ],
)
async def test_refusals_of_enedis_come_through_every_way(
    access: str, api: str, status: int, code: str, error: type[PortalError]
) -> None:
    """
    A refusal of Enedis is understood inside each gateway's own wrapping; when all usage points are refused, the login is.
    """
    async with house(access, api) as home:
        home.simulation.faults.set("", f"enedis:{status}:{code}")
        found = await home.refused()

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
    async with house(access, api, **keys) as home:
        found = await home.refused()

        assert isinstance(found, LoginError)
        assert "planted" not in str(found)
        _nothing_leaks(home, found)


async def test_an_expired_token_is_not_tried() -> None:
    """
    A token that says it has ended needs no call to be told so.
    """
    async with house() as home:
        home.clock.move(days=1095)
        found = await home.refused()

        assert isinstance(found, LoginError)
        assert "expired on 2029-11-18" in str(found)
        assert home.simulation.seen == []


async def test_a_renamed_field_is_named() -> None:
    """
    When a field is called otherwise, the message names it; the other series are kept.
    """
    async with house() as home:
        home.simulation.faults.set(DAYS, "rename:unite:unit")
        await home.visit()

        (shortfall,) = home.of(Shortfall)
        assert isinstance(shortfall.error, ResponseError)
        assert "unite" in str(shortfall.error)
        assert home.curve(WEEK[-1])


async def test_one_failing_series_leaves_the_others_whole() -> None:
    """
    Days of trouble with one series are a shortfall: the others are kept, and only it is asked again.
    """
    async with house() as home:
        home.simulation.faults.set(CURVE, "enedis:500:technical_error")
        await home.visit()
        assert isinstance(home.of(Shortfall)[0].error, UnreachableError)
        assert home.days()[WEEK[-1]]

        home.simulation.faults.clear()
        home.simulation.seen.clear()
        home.clock.move(hours=1)
        await home.visit()
        assert {seen.path for seen in home.week_calls()} == {f"/api/{CURVE}"}
        assert home.curve(WEEK[-1])
        assert home.of(Shortfall) == []


async def test_a_visit_that_failed_is_asked_again() -> None:
    """
    What is remembered of a visit is kept with its readings or not at all: a lost week is asked for again.
    """
    async with house() as home:
        async with home.session() as session:
            async for _ in home.portal.fetch(session, EVERYTHING):
                pass  # read, and lost
        first = len(home.week_calls())
        home.simulation.seen.clear()
        await home.visit()

        assert len(home.week_calls()) == first == 11


async def test_one_of_several_loses_its_consent() -> None:
    """
    A usage point without consent is told by its name in a note; the other is read, and the one asked again next day.
    """
    async with house() as home:
        closed = home.simulation.young.prm
        home.simulation.source.closed[closed] = "ADAM-DC-0008"
        await home.visit()
        (note,) = home.of(Note)
        assert "workshop" in note.text
        assert "no consent" in note.text
        assert closed not in note.text
        assert home.of(Shortfall) == []
        assert home.days()[WEEK[-1]]
        assert home.days(prm=closed) == {}

        home.simulation.seen.clear()
        home.clock.move(hours=3)
        await home.visit()
        assert [each.text for each in home.of(Note)] == [note.text]
        assert [seen for seen in home.simulation.seen if seen.query["pointId"] == closed] == []

        home.clock.move(hours=21)
        del home.simulation.source.closed[closed]
        await home.visit()
        assert home.of(Note) == []
        assert home.days(prm=closed)[WEEK[-1] + timedelta(days=1)]


async def test_all_without_consent_are_asked_again_when_the_suspension_is_lifted() -> None:
    """
    When all are refused the account is; the next permitted try asks them all, whatever was noted of each.
    """
    async with house() as home:
        for prm in home.simulation.homes:
            home.simulation.source.closed[prm] = "ADAM-DC-0007"
        found = await home.refused()
        assert isinstance(found, LoginError)
        assert str(found).startswith("all 2 usage points are refused; ")

        home.simulation.source.closed.clear()
        home.clock.move(minutes=1)
        await home.visit()
        assert home.days()


async def test_a_usage_point_the_token_was_not_made_for() -> None:
    """
    Without an alias a usage point is called by its place in the configuration.
    """
    async with house(aliases={}) as home:
        only(home, {"prm": home.simulation.producing.prm}, {"prm": "33333333333333"})
        await home.visit()

        assert [note.text for note in home.of(Note)] == ["the token was not made for usage_points[1]"]
        assert home.days()


async def test_hourly_collection_that_is_off_is_a_note() -> None:
    """
    Days and never a curve: the note says what to switch on. No failure, and asked once a day.
    """
    async with house() as home:
        _set_hourly(home, None)
        await home.visit()
        (note,) = home.of(Note)
        assert "collection" in note.text
        assert "consumption_curve of workshop" in note.text
        assert home.of(Shortfall) == []

        home.simulation.seen.clear()
        home.clock.move(hours=1)
        await home.visit()
        assert home.week_calls() == []
        assert home.of(Note) == [note]


async def test_an_objection_is_a_note_and_asked_again_tomorrow() -> None:
    """
    A customer who objected to the curve is told so; the day after it is tried again.
    """
    async with house() as home:
        home.simulation.faults.set(f"{CURVE}?", "enedis:400:ADAM-ERR0075")
        await home.visit()
        assert all("objected" in note.text for note in home.of(Note))
        assert len(home.of(Note)) == 2

        home.simulation.faults.clear()
        home.clock.move(days=1)
        await home.visit()
        assert home.of(Note) == []
        assert home.curve(WEEK[-1])


async def test_a_direction_that_is_not_measured_is_left_alone_for_a_week() -> None:
    """
    Production asked of a home that has none is refused once in seven days, series by series.
    """
    async with house() as home:
        only(home, {"prm": home.simulation.young.prm, "production": True})
        await home.visit()
        assert len(home.of(Note)) == 3

        home.simulation.seen.clear()
        for _ in range(6):
            home.clock.move(days=1)
            await home.visit()
        assert not any("production" in seen.path for seen in home.simulation.seen)
        home.clock.move(days=1)
        await home.visit()
        assert any("production" in seen.path for seen in home.simulation.seen)


async def test_what_the_application_has_not_subscribed_to_closes_nothing_else() -> None:
    """
    A contract that the application may not read is a note; the measures are read.
    """
    async with house("dataconnect") as home:
        home.simulation.dataconnect.unsubscribed.add("situation_contrat_auto")
        await home.visit()

        assert all("not subscribed" in note.text for note in home.of(Note))
        assert len(home.of(Note)) == 2
        assert home.days()


@pytest.mark.parametrize(
    ("access", "says"),
    [({"valid": False}, "not valid"), ({"ban": True}, "banned")],
)
async def test_version_1_says_before_what_it_would_refuse(access: dict[str, bool], says: str) -> None:
    """
    A consent that the gateway knows to be gone is told without another call.
    """
    async with house("myelectricaldata", "v1") as home:
        home.simulation.med_v1.access[home.simulation.young.prm] = dict(access)
        await home.visit()

        (note,) = home.of(Note)
        assert says in note.text
        assert not any(home.simulation.young.prm in seen.path for seen in home.simulation.seen if "valid_access" not in seen.path)


async def test_version_1_respects_the_quota_of_the_day() -> None:
    """
    A quota that is used up is waited for until the gateway's own reset.
    """
    async with house("myelectricaldata", "v1") as home:
        for prm in home.simulation.homes:
            home.simulation.med_v1.access[prm] = {"quota_reached": True}
        found = await home.refused()

        assert isinstance(found, RateLimitError)
        assert found.wait is not None
        assert timedelta(hours=13, minutes=29) < found.wait < timedelta(hours=13, minutes=30)


async def test_a_real_rate_limit_ends_the_visit() -> None:
    """
    After a 429 nothing more is asked; what came before is kept.
    """
    async with house() as home:
        home.simulation.faults.set(CURVE, "retry:300")
        await home.visit()

        (shortfall,) = home.of(Shortfall)
        assert isinstance(shortfall.error, RateLimitError)
        assert shortfall.error.wait == timedelta(minutes=5)
        assert home.simulation.seen[-1].path == f"/api/{CURVE}"
        assert home.days()


async def test_a_silent_portal_is_given_up_soon() -> None:
    """
    Three calls without an answer are enough, however many usage points there are.
    """
    async with house() as home:
        home.simulation.faults.set("", "status:503")
        await home.refused()

        assert len(home.simulation.seen) == 3


async def test_six_days_where_seven_are_too_many() -> None:
    """
    A source that refuses a curve of seven days is asked for six, and for no more ever after.
    """
    async with house() as home:
        only(home, {"prm": home.simulation.young.prm})
        home.simulation.faults.set(
            f"{CURVE}?pointId={home.simulation.young.prm}&dateDebut=2026-11-13", "enedis:400:ADAM-ERR0126", times=1
        )
        await home.visit()
        asked = [
            (seen.query["dateDebut"], seen.query["dateFin"])
            for seen in home.simulation.seen
            if CURVE in seen.path and seen.query["dateFin"] >= "2026-11-13"
        ]
        assert asked[:3] == [("2026-11-13", "2026-11-20"), ("2026-11-14", "2026-11-20"), ("2026-11-13", "2026-11-14")]
        assert home.curve(WEEK[0], prm=home.simulation.young.prm)

        home.simulation.seen.clear()
        home.clock.move(days=1)
        await home.visit()
        curves = [seen for seen in home.simulation.seen if CURVE in seen.path]
        lengths = {date.fromisoformat(s.query["dateFin"]) - date.fromisoformat(s.query["dateDebut"]) for s in curves}
        assert max(lengths) == timedelta(days=6)


async def test_intervals_change_their_length() -> None:
    """
    From the day the meter records quarters, quarters are kept; half-hours before.
    """
    clock = Clock()
    async with house(clock=clock) as home:
        home.clock.move(days=-36)
        await home.visit()

        lengths = {
            home.today - timedelta(days=n): {
                end - start for start, end, _ in home.curve(home.today - timedelta(days=n), prm=home.simulation.young.prm)
            }
            for n in range(1, 6)
        }
        minutes = {day: {int(length.total_seconds() // 60) for length in each} for day, each in lengths.items()}
        change = home.simulation.young.quarters_since
        assert minutes == {day: {15} if day >= change else {30} for day in minutes}
        assert set.union(*minutes.values()) == {15, 30}


async def test_corrections_and_holes_are_healed_by_the_week() -> None:
    """
    A day that came late or changed afterwards is in the next day's week.
    """
    async with house() as home:
        late = WEEK[3]
        home.simulation.source.late[late] = timedelta(days=4)
        await home.visit()
        assert late not in home.days()

        home.clock.move(days=1)
        await home.visit()
        assert home.days()[late] == home.simulation.true_day(home.simulation.producing, late)


async def test_intervals_are_all_of_one_register() -> None:
    """
    Days and curves are of the register `total`, one a direction.
    """
    async with house() as home:
        await home.visit()

        found = home.of(Interval)
        assert {each.register.name for each in found} == {"total"}
        assert {each.register.direction for each in found} == {"consumption", "injection"}


def _set_hourly(home: House, since: date | None) -> None:
    young = replace(home.simulation.young, hourly_since=since)
    home.simulation.homes[young.prm] = young


def _nothing_leaks(home: House, error: PortalError) -> None:
    said = f"{error!r} {error.__cause__!r} {error.__context__!r}"
    for prm in home.simulation.homes:
        assert prm not in said
    for secret in (home.simulation.conso.token, "made-up-client-secret", "made-up-med"):
        assert secret not in said
