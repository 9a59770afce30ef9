"""The backlog of Enedis: a few calls a visit or an import, within the quota, nothing twice."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta

import pytest

from exporter.errors import HistoryExhaustedError, LoginError, NoDataError, RateLimitError, UnavailableError
from exporter.models import Interval, PartialFailure
from exporter.portals.base import BackfillChunk
from exporter.portals.enedis.feeds import last_settled_day
from exporter.portals.enedis.measures import CONSUMPTION_CURVE, CONSUMPTION_DAYS
from exporter.portals.enedis.progress import SeriesProgress
from tests.portals.enedis_account import EnedisAccount, restrict_usage_points, run_account

CURVES = "courbe_de_charge_consommation"
DAY = timedelta(days=1)


def ranges(home: EnedisAccount, path: str, prm: str) -> list[tuple[date, date]]:
    """Return the requested ranges of older days: first day and end."""
    found = [seen for seen in home.simulation.requests if path in seen.path and seen.query.get("pointId") == prm]
    asked = [(date.fromisoformat(seen.query["dateDebut"]), date.fromisoformat(seen.query["dateFin"])) for seen in found]
    return [(first, end) for first, end in asked if end < home.today]


async def test_each_visit_spends_a_few_calls_on_the_past() -> None:
    """
    The first visit reads the week at once and then a few calls back; each further one goes on where it stopped.
    """
    async with run_account() as home:
        await home.visit()
        first = len(home.simulation.requests)
        assert first == 11 + 12 + 6  # two homes' series, the trickle, and the search for the younger one's beginning

        home.simulation.requests.clear()
        home.clock.advance(days=1)
        await home.visit()
        assert 11 + 12 <= len(home.simulation.requests) <= 11 + 12 + 10


async def test_visits_alone_reach_the_end_of_the_past() -> None:
    """
    After some weeks of visits everything the source keeps is stored, and nothing older is requested any more.
    """
    async with run_account("dataconnect") as home:
        for _ in range(14):
            await home.visit()
            home.clock.advance(days=1)
        home.simulation.requests.clear()
        await home.visit()

        days = home.get_days()
        oldest = min(days)
        assert oldest <= home.today - timedelta(days=1096)
        assert (
            min(day for day in home.get_days(prm=home.simulation.recent_customer.prm))
            == home.simulation.recent_customer.activation
        )
        assert [
            seen for seen in home.simulation.requests if "Debut" in str(seen.query) and seen.query["dateFin"] < str(home.today)
        ] == []
        gap = {day for day in _between(oldest, home.today - 2 * DAY) if day not in days}
        assert {day.day for day in gap} == {23}


async def test_an_import_brings_two_years_of_curve_within_the_budget_and_over_a_restart() -> None:
    """
    Three years of days and two of curve come by an import that stops when its quota is used up, and goes on after it, and
    after a restart, with nothing asked twice; visits in between find their calls left.
    """
    async with run_account() as home:
        done: set[str] = set()
        while await _import(home, done):
            home.clock.advance(hours=13)
            assert not home.simulation.conso.is_banned

        producing = home.simulation.producer
        asked = [
            range_ for range_ in ranges(home, CURVES, producing.prm) if range_[1] <= last_settled_day(date(2026, 11, 20)) + DAY
        ]
        assert len(asked) == len(set(asked))
        days = Counter(day for first, end in asked for day in _between(first, end - DAY))
        assert set(days.values()) == {1}
        assert len(days) >= 715
        for day in (date(2025, 1, 14), date(2025, 10, 26), date(2026, 3, 29)):
            assert home.get_curve(day) == [(b.start, b.end, b.energy_kwh) for b in home.simulation.get_true_curve(producing, day)]
        assert home.get_days()[date(2024, 1, 1)] == home.simulation.get_true_day(producing, date(2024, 1, 1))


async def test_visits_and_imports_share_what_is_done() -> None:
    """
    What an import has stored no visit requests again, and vice versa.
    """
    async with run_account() as home:
        await home.visit()
        done: set[str] = set()
        await _import(home, done)
        home.clock.advance(days=1)
        await home.visit()
        home.clock.advance(days=1)
        await _import(home, done)

        for prm in home.simulation.homes:
            for path in (CURVES, "consommation_quotidienne", "puissance_conso_max_quotidienne", "index_consommation"):
                good = [
                    r
                    for r in ranges(home, path, prm)
                    if r[1] <= date(2026, 11, 13) and r[0] >= home.simulation.homes[prm].activation
                ]
                assert good
                assert len(good) == len(set(good))


async def test_days_of_our_own_absence_are_filled_first() -> None:
    """
    After three weeks without a visit the days in between are the first of the backlog.
    """
    async with run_account() as home:
        await home.visit()
        home.clock.advance(days=21)
        home.simulation.requests.clear()
        await home.visit()

        asked = {first for first, _ in ranges(home, "consommation_quotidienne", home.simulation.producer.prm)}
        assert date(2026, 11, 20) in asked
        absent = _between(date(2026, 11, 20), date(2026, 12, 3))
        days = home.get_days()
        assert [day for day in absent if day not in days] == [date(2026, 11, 23)]


async def test_an_interrupted_search_keeps_what_it_found() -> None:
    """
    When calls fail in the middle of the search for the beginning, the days read so far are kept, and not asked again.
    """
    async with run_account() as home:
        restrict_usage_points(home, {"prm": home.simulation.recent_customer.prm, "load_curve": False})
        home.simulation.faults.add("consommation_quotidienne?pointId=22500000000034&dateDebut=2025-10", "status:503", times=1)
        await home.visit()
        first = ranges(home, "consommation_quotidienne", home.simulation.recent_customer.prm)
        home.clock.advance(days=1)
        await home.visit()

        later = ranges(home, "consommation_quotidienne", home.simulation.recent_customer.prm)[len(first) :]
        kept = [range_ for range_ in first if range_[0] >= home.simulation.recent_customer.activation and range_[0].month != 10]
        assert kept
        assert not set(kept) & set(later)
        assert home.get_days(prm=home.simulation.recent_customer.prm)[home.simulation.recent_customer.activation]


async def test_the_beginning_is_found_and_remembered() -> None:
    """
    A source that refuses what lies before the contract is asked for the very first day, once, and never before it again.
    """
    async with run_account() as home:
        await home.visit()
        young = home.simulation.recent_customer
        path = "consommation_quotidienne"
        tried = [first for first, _ in ranges(home, path, young.prm)]
        assert young.activation in tried
        assert len(tried) <= 12
        assert home.get_days(prm=young.prm)[young.activation] == home.simulation.get_true_day(young, young.activation)

        home.simulation.requests.clear()
        for _ in range(3):
            home.clock.advance(days=1)
            await home.visit()
        assert [first for first, _ in ranges(home, path, young.prm) if first < young.activation] == []


async def test_a_known_beginning_needs_no_search() -> None:
    """
    Where the contract says since when it is measured, that day is asked for at once.
    """
    async with run_account("dataconnect") as home:
        await home.visit()

        young = home.simulation.recent_customer
        before = [first for first, _ in ranges(home, "consommation_quotidienne", young.prm) if first < young.activation]
        assert len(before) == 1


async def test_a_curve_that_begins_later_ends_an_import_of_it() -> None:
    """
    Days before the hourly collection are empty for ever: after some weeks in vain an import asks no further back.
    """
    async with run_account("dataconnect") as home:
        since = home.today - timedelta(days=60)
        producing = replace(home.simulation.producer, hourly_since=since)
        home.simulation.homes[producing.prm] = producing
        await _import(home, set())

        asked = [range_ for range_ in ranges(home, CURVES, producing.prm) if range_[1] <= since]
        assert 8 <= len(asked) <= 9


async def test_the_budget_of_visits_is_left_to_them() -> None:
    """
    An import stops before the quota is used up and names the wait; calls remain for a visit.
    """
    async with run_account() as home:
        assert await _import(home, set())
        async with home.open_session() as session:
            chunk = (await home.portal.list_backfill_chunks(session, None, None))[-1]
            with pytest.raises(RateLimitError) as caught:
                await home.portal.fetch_backfill_chunk(session, chunk)
        assert caught.value.retry_after == timedelta(hours=12)
        assert len(home.simulation.requests) == 55

        await home.visit()
        assert home.select_results(PartialFailure) == []
        assert home.get_days()


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
    Two homes, days that never come, an import beside the visits: the address makes less than 100 calls in 12 hours.
    """
    async with run_account() as home:
        done: set[str] = set()
        for _ in range(30):
            home.simulation.source.delays[home.today - DAY] = timedelta(days=30)
            with suppress(RateLimitError):
                await home.visit()
            await _import(home, done)
            home.clock.advance(hours=1)
            recent = [seen for seen in home.simulation.requests if seen.received_at > home.clock.at - timedelta(hours=12)]
            assert len(recent) <= 80
        assert not home.simulation.conso.is_banned


async def test_chunks_name_their_days_and_keep_their_keys() -> None:
    """
    The chunks of an import run backwards, in weeks of a curve, and keep their keys.
    """
    async with run_account() as home:
        async with home.open_session() as session:
            today = await home.portal.list_backfill_chunks(session, date(2026, 1, 1), date(2026, 6, 30))
            home.clock.advance(days=3)
            later = await home.portal.list_backfill_chunks(session, date(2026, 1, 1), date(2026, 6, 30))

        assert [chunk.key for chunk in today] == [chunk.key for chunk in later]
        assert len({chunk.key for chunk in today}) == len(today)
        curve = [chunk for chunk in today if _curve_of_first(chunk)]
        assert all((chunk.last - chunk.first).days <= 6 for chunk in curve)
        assert (curve[0].last, curve[-1].first) == (date(2026, 6, 30), date(2026, 1, 1))
        assert not any(prm in chunk.key + chunk.feed for chunk in today for prm in home.simulation.homes)


async def test_days_that_may_still_come_are_asked_again() -> None:
    """
    Yesterday, not delivered when an import asked for it, is asked again by the import of the next day; what came is not.
    """
    async with run_account() as home:
        restrict_usage_points(home, {"prm": home.simulation.producer.prm, "load_curve": False})
        late = home.today - DAY
        home.simulation.source.delays[late] = timedelta(days=1)
        asked = []
        done: set[str] = set()
        for _ in range(3):
            home.simulation.requests.clear()
            await _import(home, done)
            asked.append([seen.query["dateDebut"] for seen in home.simulation.requests if "quotidienne" in seen.path])
            home.clock.advance(days=1)

        assert home.get_days()[late] == home.simulation.get_true_day(home.simulation.producer, late)
        assert [min(each) for each in asked[1:]] == [str(late), str(late + 2 * DAY)]


async def test_an_unavailable_series_is_skipped() -> None:
    """
    A load curve whose customer objected is not the end of its history: it is requested again after a day.
    """
    async with run_account() as home, home.open_session() as session:
        home.simulation.faults.add(CURVES, "enedis:400:ADAM-ERR0075")
        day = date(2026, 5, 4)
        (chunk,) = [chunk for chunk in await home.portal.list_backfill_chunks(session, day, day) if _curve_of_first(chunk)]
        with pytest.raises(UnavailableError) as caught:
            await home.portal.fetch_backfill_chunk(session, chunk)
        left = await home.portal.list_backfill_chunks(session, day, day)
        home.clock.advance(days=1)
        tomorrow = await home.portal.list_backfill_chunks(session, day, day)

        assert not isinstance(caught.value, HistoryExhaustedError)
        assert not any(_curve_of_first(chunk) for chunk in left)
        assert chunk.key in {each.key for each in tomorrow}


async def test_one_usage_point_refused_is_left_aside() -> None:
    """
    Of two usage points the one whose consent has ended is left aside; when it is the only one, the login is refused.
    """
    async with run_account() as home:
        home.simulation.source.refusals[home.simulation.recent_customer.prm] = "ADAM-DC-0008"
        async with home.open_session() as session:
            chunks = await home.portal.list_backfill_chunks(session, date(2026, 5, 4), date(2026, 5, 4))
            refused = next(chunk for chunk in chunks if chunk.parameters["point"] == 1)
            with pytest.raises(UnavailableError):
                await home.portal.fetch_backfill_chunk(session, refused)
            assert await home.portal.fetch_backfill_chunk(
                session, next(chunk for chunk in chunks if chunk.parameters["point"] == 0)
            )
        restrict_usage_points(home, {"prm": home.simulation.recent_customer.prm})
        async with home.open_session() as session:
            with pytest.raises(LoginError):
                await home.portal.fetch_backfill_chunk(session, (await home.portal.list_backfill_chunks(session, None, None))[0])


async def test_nothing_in_a_piece_is_remembered_too() -> None:
    """
    A week without a curve is requested once, although there is no reading to store with it.
    """
    async with run_account() as home, home.open_session() as session:
        (gap,) = [
            p for p in await home.portal.list_backfill_chunks(session, date(2026, 6, 17), date(2026, 6, 17)) if _curve_of_first(p)
        ]

        assert [each for each in await home.portal.fetch_backfill_chunk(session, gap) if isinstance(each, Interval)] == []
        again = await home.portal.list_backfill_chunks(session, date(2026, 6, 17), date(2026, 6, 17))
        assert gap.key not in {chunk.key for chunk in again}


async def test_a_piece_before_the_beginning_ends_its_line() -> None:
    """
    A chunk before the contract raises HistoryExhaustedError.
    """
    async with run_account() as home, home.open_session() as session:
        old = date(2024, 3, 1)
        chunks = [
            chunk for chunk in await home.portal.list_backfill_chunks(session, old, old + DAY) if chunk.parameters["point"] == 1
        ]
        with pytest.raises(HistoryExhaustedError):
            await home.portal.fetch_backfill_chunk(session, chunks[0])
        count = len(home.simulation.requests)
        with pytest.raises(HistoryExhaustedError):
            await home.portal.fetch_backfill_chunk(session, chunks[0])
        assert len(home.simulation.requests) == count


def test_what_was_never_asked() -> None:
    """
    Holes between the covered days are found on a grid that does not move, newest first.
    """
    progress = SeriesProgress("p", CONSUMPTION_CURVE, 7)
    progress.mark_covered(date(2026, 11, 1), date(2026, 11, 10))
    progress.mark_covered(date(2026, 10, 20), date(2026, 10, 27))
    missing = list(progress.list_missing(date(2026, 10, 15), date(2026, 11, 12)))

    assert missing == [
        (date(2026, 11, 11), date(2026, 11, 12)),
        (date(2026, 10, 28), date(2026, 10, 31)),
        (date(2026, 10, 18), date(2026, 10, 19)),
        (date(2026, 10, 15), date(2026, 10, 17)),
    ]
    progress.raise_floor(date(2026, 10, 30))
    assert list(progress.list_missing(date(2026, 10, 15), date(2026, 11, 10))) == [(date(2026, 10, 30), date(2026, 10, 31))]


def test_days_come_in_calls_of_a_year() -> None:
    """
    Three years of days are four or five calls.
    """
    assert 4 <= len(list(SeriesProgress("p", CONSUMPTION_DAYS, 364).list_missing(date(2023, 11, 20), date(2026, 11, 12)))) <= 5


def _curve_of_first(chunk: BackfillChunk) -> bool:
    return chunk.parameters == {"point": 0, "measure": "consumption_curve"}


def _between(first: date, last: date) -> list[date]:
    return [first + n * DAY for n in range((last - first).days + 1)]


async def _import(home: EnedisAccount, done: set[str]) -> bool:
    """Import as the program would; says whether the budget stopped it."""
    async with home.open_session() as session:
        ended: set[str] = set()
        for chunk in await home.portal.list_backfill_chunks(session, None, None):
            if chunk.key in done or chunk.feed in ended:
                continue
            try:
                results = await home.portal.fetch_backfill_chunk(session, chunk)
            except HistoryExhaustedError:
                ended.add(chunk.feed)
                continue
            except NoDataError:
                results = []
            except RateLimitError:
                return True
            done.add(chunk.key)
            await home.store(results)
    return False


@pytest.mark.parametrize("ahead", [timedelta(days=30), timedelta(days=365)])
def test_what_a_clock_ahead_said_is_forgotten(ahead) -> None:
    """
    A beginning, days asked and a pause that lie ahead of today are the word of a wrong clock; what lies before stays.
    """
    today = date(2026, 11, 20)
    before = (date(2026, 1, 1), date(2026, 10, 1))
    wrong = SeriesProgress("1", CONSUMPTION_CURVE, 7, [before, (today - DAY, today + ahead), (today + ahead, today + 2 * ahead)])
    wrong.newest, wrong.floor, wrong.empty_calls = today + ahead - DAY, today + ahead, 9
    wrong.off_until, wrong.pause_reason = today + ahead, "wait"
    wrong.forget_ahead(today)
    right = SeriesProgress(
        "1", CONSUMPTION_CURVE, 7, [before], newest=today - DAY, floor=before[0], off_until=today + 7 * DAY, pause_reason="wait"
    )
    kept = replace(right)
    right.forget_ahead(today)

    assert wrong == SeriesProgress("1", CONSUMPTION_CURVE, 7, [before, (today - DAY, today)])
    assert right == kept
