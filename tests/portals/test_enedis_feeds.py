"""The feeds of Enedis through the engine: the whole history within the quota, holes that heal, each series by itself."""

from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from exporter.client.session import Session
from exporter.errors import LoginError, RateLimitError
from exporter.simulators.enedis.homes import SimulatedHome
from exporter.simulators.enedis.source import EnedisSource
from exporter.sync.importer import Importer
from tests.portals.enedis_account import ACCESS_METHODS, EnedisAccount, restrict_usage_points, run_account

DAYS, CURVES = "consommation_quotidienne", "courbe_de_charge_consommation"
DAY = timedelta(days=1)


def between(first: date, last: date) -> list[date]:
    return [first + n * DAY for n in range((last - first).days + 1)]


def list_ranges(home: EnedisAccount, path: str, prm: str) -> list[tuple[date, date]]:
    """Return the first and last days of the requests for a series by the Conso API."""
    found = [seen for seen in home.simulation.requests if path in seen.path and seen.query.get("pointId") == prm]
    return [(date.fromisoformat(seen.query["dateDebut"]), date.fromisoformat(seen.query["dateFin"]) - DAY) for seen in found]


def list_missing(home: EnedisAccount, first: date, *, prm: str = "", producing: bool = False) -> list[date]:
    """Return the days without daily energy from `first` to the day before yesterday, but those that the simulation never has."""
    days = home.get_days(prm=prm, producing=producing)
    return [day for day in between(first, home.today - 2 * DAY) if day not in days and day.day != 23]


def set_home(home: EnedisAccount, prm: str, **changes: object) -> None:
    home.simulation.homes[prm] = replace(home.simulation.homes[prm], **changes)


async def test_keys_are_stable_and_hold_no_number() -> None:
    """
    The keys of feeds stay the same over restarts, and do not reveal a usage point.
    """
    async with run_account() as home:
        keys = [feed.key for feed in home.portal.list_feeds()]
        home.resume()

        assert [feed.key for feed in home.portal.list_feeds()] == keys
        assert len(set(keys)) == len(keys) == 11
        assert not any(prm in key for key in keys for prm in home.simulation.homes)


async def test_days_come_before_curves_and_this_year_of_all_before_any_other() -> None:
    """
    A first visit has the running year of every usage point and series of days before older years of any.
    """
    async with run_account() as home:
        await home.visit()

        for prm in home.simulation.homes:
            assert list_missing(home, date(2026, 1, 1), prm=prm) == []
        assert list_missing(home, date(2026, 1, 1), producing=True) == []
        older = [number for number, seen in enumerate(home.simulation.requests) if seen.query["dateFin"] < "2026-01-01"]
        year = [number for number, seen in enumerate(home.simulation.requests) if seen.query["dateDebut"] < "2026-11-01"]
        assert not older or min(older) > len(year) - len(older)


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
async def test_all_that_is_kept_is_read_by_itself(access: str, api: str) -> None:
    """
    By every access three years of days and two of curves come in steps, the younger home from its very first day.
    """
    async with run_account(access, api) as home:
        start = home.today
        await home.live(7 if access == "conso" else 2, every=timedelta(hours=12))

        young = home.simulation.recent_customer
        assert list_missing(home, start - timedelta(days=1090)) == []
        assert list_missing(home, young.activation, prm=young.prm) == []
        assert min(home.get_days(prm=young.prm)) == young.activation
        for day in (date(2025, 1, 14), date(2025, 10, 26), date(2026, 3, 29)):
            truth = home.simulation.get_true_curve(home.simulation.producer, day)
            assert home.get_curve(day) == [(block.start, block.end, block.energy_kwh) for block in truth]
        assert home.get_days()[date(2024, 1, 1)] == home.simulation.get_true_day(home.simulation.producer, date(2024, 1, 1))
        assert not home.simulation.conso.is_banned


async def test_settled_days_are_asked_once_over_restarts() -> None:
    """
    A restart in the middle goes on where it was: no settled week of a curve is asked twice but those with holes.
    """
    async with run_account("dataconnect") as home:
        producer = home.simulation.producer.prm
        restrict_usage_points(home, {"prm": producer})
        await home.visit()
        for _ in range(3):
            await home.step()
        home.resume()
        await home.visit()
        await home.read_backlog()

        weeks = [days for days in list_ranges(home, CURVES, producer) if days[1] < date(2026, 11, 1)]
        assert len(weeks) >= 100
        assert max(Counter(weeks).values()) == 1


async def test_days_of_our_own_absence_are_asked_as_soon_as_it_runs() -> None:
    """
    After 25 days without a visit all days in between come with the first one.
    """
    async with run_account() as home:
        await home.live(2)
        home.clock.advance(days=25)
        await home.visit()

        assert list_missing(home, date(2026, 11, 1)) == []


async def test_the_same_import_brings_what_was_missing_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Days that Enedis publishes weeks late are missing after an import, and come with the same command, and with `--from --to`.
    """
    late, ready_at = between(date(2026, 9, 1), date(2026, 9, 6)), EnedisSource.ready_at
    async with run_account("dataconnect") as home:
        published = home.clock.at + 10 * DAY

        def publish_late(source: EnedisSource, point: SimulatedHome, kind: str, producing: bool, day: date) -> datetime:
            return published if day in late else ready_at(source, point, kind, producing, day)

        monkeypatch.setattr(EnedisSource, "ready_at", publish_late)
        restrict_usage_points(home, {"prm": home.simulation.producer.prm, "load_curve": False})

        async def run_import(**days: date) -> None:
            async with home.open_session() as session:
                await Importer[Session](home.engine, now=home.clock, sleep=home.clock.sleep, **days).run(session)

        await run_import(first=date(2026, 8, 1))
        assert list_missing(home, date(2026, 8, 1)) == late
        home.clock.advance(days=11)
        await run_import(first=late[0], last=late[1])
        assert not {*late[:2]} & {*list_missing(home, date(2026, 8, 1))}
        await run_import(first=date(2026, 8, 1))
        assert list_missing(home, date(2026, 8, 1)) == []


@pytest.mark.parametrize("is_new", [True, False])
async def test_one_day_on_which_enedis_has_nothing(is_new: bool) -> None:
    """
    ADAM-ERR0123 to every request of one day is nobody's beginning: all days are there a few days later.
    """
    async with run_account() as home:
        if not is_new:
            await home.live(2)
        home.simulation.faults.add("", "enedis:400:ADAM-ERR0123")
        await home.live(1)
        home.simulation.faults.clear()
        await home.live(4, every=timedelta(hours=3))

        assert list_missing(home, date(2024, 1, 1)) == []
        assert list_missing(home, date(2024, 1, 1), producing=True) == []


async def test_curves_that_were_empty_during_an_outage() -> None:
    """
    A day on which every week of the curve is "no data" does not end its history.
    """
    async with run_account("dataconnect") as home:
        restrict_usage_points(home, {"prm": home.simulation.producer.prm})
        home.simulation.faults.add(CURVES, "enedis:404:no_data_found")
        await home.live(1)
        home.simulation.faults.clear()
        await home.live(2)

        for day in (date(2026, 11, 4), date(2026, 6, 2), date(2025, 3, 4)):
            assert len(home.get_curve(day)) == 48


@pytest.mark.parametrize(("access", "api"), [("dataconnect", "2026"), ("dataconnect", "v5"), ("myelectricaldata", "v2")])
async def test_a_contract_younger_than_the_activation(access: str, api: str) -> None:
    """
    A contract of 60 days ago at a meter that was activated 200 days ago costs none of the 200 days.
    """
    async with run_account(access, api) as home:
        young = home.simulation.recent_customer
        set_home(home, young.prm, activation=home.today - timedelta(days=200))
        home.simulation.source.contract_starts[young.prm] = home.today - timedelta(days=60)
        activation = home.today - timedelta(days=200)
        restrict_usage_points(home, {"prm": young.prm})
        await home.visit()
        await home.read_backlog()

        assert list_missing(home, activation, prm=young.prm) == []
        assert min(home.get_days(prm=young.prm)) == activation


@pytest.mark.parametrize(("consumption", "production"), [(100, 173), (173, 100)])
@pytest.mark.parametrize(("access", "api"), [("conso", "2026"), ("dataconnect", "2026"), ("myelectricaldata", "v2")])
async def test_each_direction_begins_by_itself(access: str, api: str, consumption: int, production: int) -> None:
    """
    What is fed in has a first day of its own, earlier or later than that of consumption.
    """
    async with run_account(access, api) as home:
        prm, today = home.simulation.producer.prm, home.today
        begins = {False: today - timedelta(days=consumption), True: today - timedelta(days=production)}
        set_home(home, prm, activation=begins[False], production_activation=begins[True])
        restrict_usage_points(home, {"prm": prm, "production": True, "load_curve": False})
        await home.visit()
        await home.read_backlog()

        for producing, first in begins.items():
            assert list_missing(home, first, producing=producing) == []
            assert min(home.get_days(producing=producing)) == first


async def test_activated_lately_by_a_gateway_that_hides_it() -> None:
    """
    MyElectricalData answers days before the activation with success and nothing: of 149 days none is lost.
    """
    async with run_account("myelectricaldata", "v2") as home:
        young = home.simulation.recent_customer
        activation = home.today - timedelta(days=149)
        set_home(home, young.prm, activation=activation, hourly_since=None)
        home.simulation.faults.add("contract", "status:500")
        restrict_usage_points(home, {"prm": young.prm})
        await home.live(2)

        assert list_missing(home, activation, prm=young.prm) == []
        assert min(home.get_days(prm=young.prm)) == activation


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
@pytest.mark.parametrize("series", ["production_days", "consumption_index", "consumption_max", "consumption_curve"])
async def test_one_series_refused_is_one_series(access: str, api: str, series: str) -> None:
    """
    A consent that lacks a series leaves the others; a note names it, and it is asked for again daily.
    """
    async with run_account(access, api) as home:
        prm = home.simulation.producer.prm
        restrict_usage_points(home, {"prm": prm, "production": True} | home.get_own_token(prm))
        home.simulation.source.refused_series[prm, series] = "ADAM-DC-0008"
        await home.visit()
        is_offered = any(feed.key.startswith(series) for feed in home.portal.list_feeds())
        if api == "v2" and "curve" in series:
            is_offered = False  # it comes as "no data"
        assert home.error is None
        assert [note for note in home.notes if "consent" in note] == (
            [f"{series} of house: there is no consent, or it has expired"] if is_offered else []
        )
        assert home.get_days() or series == "consumption_days"

        del home.simulation.source.refused_series[prm, series]
        home.clock.advance(hours=25)
        await home.visit()
        assert [note for note in home.notes if "consent" in note] == []


@pytest.mark.parametrize(("access", "api"), ACCESS_METHODS)
async def test_a_point_that_only_produces(access: str, api: str) -> None:
    """
    Consumption refused as "not the holder" leaves production; with `consumption: false` it is not asked for.
    """
    async with run_account(access, api) as home:
        prm = home.simulation.producer.prm
        for kind in ("days", "max", "index", "curve"):
            home.simulation.source.refused_series[prm, f"consumption_{kind}"] = "ADAM-DC-0007"
        restrict_usage_points(home, {"prm": prm, "production": True} | home.get_own_token(prm))
        await home.visit()
        assert home.error is None
        assert any("is not the holder of the contract, or the consent is not yet effective" in note for note in home.notes)
        assert home.get_days(producing=True)

        restrict_usage_points(home, {"prm": prm, "production": True, "consumption": False} | home.get_own_token(prm))
        home.simulation.requests.clear()
        await home.visit()
        assert home.notes == []
        assert not any(word in seen.path for seen in home.simulation.requests for word in ("conso", "power"))


async def test_all_series_refused_is_the_login() -> None:
    """
    Only when no series is given is the login refused.
    """
    async with run_account() as home:
        prm = home.simulation.recent_customer.prm
        restrict_usage_points(home, {"prm": prm})
        for kind in ("days", "max", "index", "curve"):
            home.simulation.source.refused_series[prm, f"consumption_{kind}"] = "ADAM-DC-0008"
        found = await home.visit_and_fail()

        assert isinstance(found, LoginError)
        assert len(home.simulation.requests) == 4


async def test_a_token_that_gives_no_right_is_asked_once_for_each_usage_point() -> None:
    """
    A gateway that refuses the usage point itself is not asked for its other series.
    """
    async with run_account(token="made.up.token") as home:  # invented
        found = await home.visit_and_fail()

        assert isinstance(found, LoginError)
        assert len(home.simulation.requests) == 2


async def test_what_is_left_out_is_counted_and_noted_once() -> None:
    """
    An odd value is counted, and a note names its field and not its number.
    """
    async with run_account() as home:
        prm = home.simulation.producer.prm
        restrict_usage_points(home, {"prm": prm, "load_curve": False})
        watt_hours = round(home.simulation.get_true_day(home.simulation.producer, date(2026, 11, 16)) * 1000)
        home.simulation.faults.add(DAYS, f"rename:{watt_hours}:NaN")
        await home.visit()

        assert home.result.skipped == 1
        assert home.result.notes == ["consumption_days of house: skipped invalid fields: points.v"]
        assert date(2026, 11, 16) not in home.get_days()
        assert date(2026, 11, 15) in home.get_days()


async def test_the_budget_of_visits_is_left_to_them() -> None:
    """
    The backlog stops before the quota is used up and names the wait; calls remain for visits.
    """
    async with run_account() as home:
        await home.visit()
        result = home.result
        while not result.stopped:
            home.clock.advance(minutes=1)
            result = await home.step()

        assert isinstance(result.stopped, RateLimitError)
        assert len(home.simulation.requests) == 55
        home.clock.advance(hours=1)
        await home.visit()
        assert home.error is None


async def test_a_spent_budget_is_a_wait() -> None:
    """
    When all calls are used up, a visit makes none and names the wait.
    """
    async with run_account() as home:
        await home.account_store.record_calls("calls", home.clock.at - timedelta(hours=7), 50)
        await home.account_store.record_calls("calls", home.clock.at - timedelta(hours=2), 30)

        found = await home.visit_and_fail()
        assert isinstance(found, RateLimitError)
        assert found.retry_after == timedelta(hours=5)
        assert home.simulation.requests == []


async def test_never_near_the_ban() -> None:
    """
    Two homes, days that never come, the backlog: the address makes less than 100 calls in 12 hours.
    """
    async with run_account() as home:
        for _ in range(30):
            home.simulation.source.delays[home.today - DAY] = timedelta(days=30)
            await home.live(1 / 24, every=timedelta(hours=1))
            recent = [seen for seen in home.simulation.requests if seen.received_at > home.clock.at - timedelta(hours=12)]
            assert len(recent) <= 80
        assert not home.simulation.conso.is_banned


async def test_the_date_of_a_contract_is_a_hint() -> None:
    """
    Where the contract says since when it is measured, that day is asked for at once.
    """
    async with run_account("dataconnect") as home:
        young = home.simulation.recent_customer
        restrict_usage_points(home, {"prm": young.prm, "load_curve": False})
        await home.visit()
        await home.read_backlog()

        firsts = [first for first, _ in list_ranges(home, DAYS, young.prm)]
        assert firsts[firsts.index(next(day for day in firsts if day < young.activation)) + 1] == young.activation
        assert list_missing(home, young.activation, prm=young.prm) == []
