"""The past of Enedis: a few calls a visit or an import, within the budget, nothing twice."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta

import pytest

from exporter.errors import EndOfPastError, LoginError, NoDataError, NotNowError, RateLimitError
from exporter.model import Interval, Shortfall
from exporter.portals.base import Piece
from exporter.portals.enedis.measures import CURVE, DAYS
from exporter.portals.enedis.past import settled
from exporter.portals.enedis.progress import Progress
from tests.portals.enedis_house import House, house, only

CURVES = "courbe_de_charge_consommation"
DAY = timedelta(days=1)


def ranges(home: House, path: str, prm: str) -> list[tuple[date, date]]:
    """Give the ranges asked of the past: first day and end."""
    found = [seen for seen in home.simulation.seen if path in seen.path and seen.query.get("pointId") == prm]
    asked = [(date.fromisoformat(seen.query["dateDebut"]), date.fromisoformat(seen.query["dateFin"])) for seen in found]
    return [(first, end) for first, end in asked if end < home.today]


async def test_each_visit_spends_a_few_calls_on_the_past() -> None:
    """
    The first visit reads the week at once and then a few calls back; each further one goes on where it stopped.
    """
    async with house() as home:
        await home.visit()
        first = len(home.simulation.seen)
        assert first == 11 + 12 + 6  # two homes' series, the trickle, and the search for the younger one's beginning

        home.simulation.seen.clear()
        home.clock.move(days=1)
        await home.visit()
        assert 11 + 12 <= len(home.simulation.seen) <= 11 + 12 + 10


async def test_visits_alone_reach_the_end_of_the_past() -> None:
    """
    After some weeks of visits everything the source keeps is home, and nothing older is asked for any more.
    """
    async with house("dataconnect") as home:
        for _ in range(14):
            await home.visit()
            home.clock.move(days=1)
        home.simulation.seen.clear()
        await home.visit()

        days = home.days()
        oldest = min(days)
        assert oldest <= home.today - timedelta(days=1096)
        assert min(day for day in home.days(prm=home.simulation.young.prm)) == home.simulation.young.activation
        assert [
            seen for seen in home.simulation.seen if "Debut" in str(seen.query) and seen.query["dateFin"] < str(home.today)
        ] == []
        gap = {day for day in _between(oldest, home.today - 2 * DAY) if day not in days}
        assert {day.day for day in gap} == {23}


async def test_an_import_brings_two_years_of_curve_within_the_budget_and_over_a_restart() -> None:
    """
    Three years of days and two of curve come by an import that stops when its budget is spent, and goes on after it, and
    after a restart, with nothing asked twice; visits in between find their calls left.
    """
    async with house() as home:
        done: set[str] = set()
        while await _import(home, done):
            home.clock.move(hours=13)
            assert not home.simulation.conso.banned

        producing = home.simulation.producing
        asked = [range_ for range_ in ranges(home, CURVES, producing.prm) if range_[1] <= settled(date(2026, 11, 20)) + DAY]
        assert len(asked) == len(set(asked))
        days = Counter(day for first, end in asked for day in _between(first, end - DAY))
        assert set(days.values()) == {1}
        assert len(days) >= 715
        for day in (date(2025, 1, 14), date(2025, 10, 26), date(2026, 3, 29)):
            assert home.curve(day) == [(b.start, b.end, b.kwh) for b in home.simulation.true_curve(producing, day)]
        assert home.days()[date(2024, 1, 1)] == home.simulation.true_day(producing, date(2024, 1, 1))


async def test_visits_and_imports_share_what_is_done() -> None:
    """
    What an import brought home no visit asks for again, and the other way round.
    """
    async with house() as home:
        await home.visit()
        done: set[str] = set()
        await _import(home, done)
        home.clock.move(days=1)
        await home.visit()
        home.clock.move(days=1)
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
    After three weeks without a visit the days in between are the first that the past is asked for.
    """
    async with house() as home:
        await home.visit()
        home.clock.move(days=21)
        home.simulation.seen.clear()
        await home.visit()

        asked = {first for first, _ in ranges(home, "consommation_quotidienne", home.simulation.producing.prm)}
        assert date(2026, 11, 20) in asked
        absent = _between(date(2026, 11, 20), date(2026, 12, 3))
        days = home.days()
        assert [day for day in absent if day not in days] == [date(2026, 11, 23)]


async def test_an_interrupted_search_keeps_what_it_found() -> None:
    """
    When calls fail in the middle of the search for the beginning, the days read so far are kept, and not asked again.
    """
    async with house() as home:
        only(home, {"prm": home.simulation.young.prm, "load_curve": False})
        home.simulation.faults.set("consommation_quotidienne?pointId=22500000000034&dateDebut=2025-10", "status:503", times=1)
        await home.visit()
        first = ranges(home, "consommation_quotidienne", home.simulation.young.prm)
        home.clock.move(days=1)
        await home.visit()

        later = ranges(home, "consommation_quotidienne", home.simulation.young.prm)[len(first) :]
        kept = [range_ for range_ in first if range_[0] >= home.simulation.young.activation and range_[0].month != 10]
        assert kept
        assert not set(kept) & set(later)
        assert home.days(prm=home.simulation.young.prm)[home.simulation.young.activation]


async def test_the_beginning_is_found_and_remembered() -> None:
    """
    A source that refuses what lies before the contract is asked for the very first day, once, and never before it again.
    """
    async with house() as home:
        await home.visit()
        young = home.simulation.young
        path = "consommation_quotidienne"
        tried = [first for first, _ in ranges(home, path, young.prm)]
        assert young.activation in tried
        assert len(tried) <= 12
        assert home.days(prm=young.prm)[young.activation] == home.simulation.true_day(young, young.activation)

        home.simulation.seen.clear()
        for _ in range(3):
            home.clock.move(days=1)
            await home.visit()
        assert [first for first, _ in ranges(home, path, young.prm) if first < young.activation] == []


async def test_a_known_beginning_needs_no_search() -> None:
    """
    Where the contract says since when it is measured, that day is asked for at once.
    """
    async with house("dataconnect") as home:
        await home.visit()

        young = home.simulation.young
        before = [first for first, _ in ranges(home, "consommation_quotidienne", young.prm) if first < young.activation]
        assert len(before) == 1


async def test_a_curve_that_begins_later_ends_an_import_of_it() -> None:
    """
    Days before the hourly collection are empty for ever: after some weeks in vain an import asks no further back.
    """
    async with house("dataconnect") as home:
        since = home.today - timedelta(days=60)
        producing = replace(home.simulation.producing, hourly_since=since)
        home.simulation.homes[producing.prm] = producing
        await _import(home, set())

        asked = [range_ for range_ in ranges(home, CURVES, producing.prm) if range_[1] <= since]
        assert 8 <= len(asked) <= 9


async def test_the_budget_of_visits_is_left_to_them() -> None:
    """
    An import stops before the budget is spent, says how long to wait, and a visit still finds calls.
    """
    async with house() as home:
        assert await _import(home, set())
        async with home.session() as session:
            piece = (await home.portal.pieces(session, None, None))[-1]
            with pytest.raises(RateLimitError) as caught:
                await home.portal.past(session, piece)
        assert caught.value.wait == timedelta(hours=12)
        assert len(home.simulation.seen) == 55

        await home.visit()
        assert home.of(Shortfall) == []
        assert home.days()


async def test_a_spent_budget_is_a_wait() -> None:
    """
    When all calls are spent, a visit asks nothing and says when there are some again.
    """
    async with house() as home:
        await home.memory.spend("calls", home.clock.at - timedelta(hours=7), 50)
        await home.memory.spend("calls", home.clock.at - timedelta(hours=2), 30)

        found = await home.refused()
        assert isinstance(found, RateLimitError)
        assert found.wait == timedelta(hours=5)
        assert home.simulation.seen == []


async def test_never_near_the_ban() -> None:
    """
    Two homes, days that never come, an import beside the visits: the address makes less than 100 calls in 12 hours.
    """
    async with house() as home:
        done: set[str] = set()
        for _ in range(30):
            home.simulation.source.late[home.today - DAY] = timedelta(days=30)
            with suppress(RateLimitError):
                await home.visit()
            await _import(home, done)
            home.clock.move(hours=1)
            recent = [seen for seen in home.simulation.seen if seen.at > home.clock.at - timedelta(hours=12)]
            assert len(recent) <= 80
        assert not home.simulation.conso.banned


async def test_pieces_say_which_days_and_keep_their_names() -> None:
    """
    The pieces of an import run backwards, in weeks of a curve, and are called the same tomorrow.
    """
    async with house() as home:
        async with home.session() as session:
            today = await home.portal.pieces(session, date(2026, 1, 1), date(2026, 6, 30))
            home.clock.move(days=3)
            later = await home.portal.pieces(session, date(2026, 1, 1), date(2026, 6, 30))

        assert [piece.key for piece in today] == [piece.key for piece in later]
        assert len({piece.key for piece in today}) == len(today)
        curve = [piece for piece in today if _curve_of_first(piece)]
        assert all((piece.last - piece.first).days <= 6 for piece in curve)
        assert (curve[0].last, curve[-1].first) == (date(2026, 6, 30), date(2026, 1, 1))
        assert not any(prm in piece.key + piece.line for piece in today for prm in home.simulation.homes)


async def test_days_that_may_still_come_are_asked_again() -> None:
    """
    Yesterday, not delivered when an import asked for it, is asked again by the import of the next day; what came is not.
    """
    async with house() as home:
        only(home, {"prm": home.simulation.producing.prm, "load_curve": False})
        late = home.today - DAY
        home.simulation.source.late[late] = timedelta(days=1)
        asked = []
        done: set[str] = set()
        for _ in range(3):
            home.simulation.seen.clear()
            await _import(home, done)
            asked.append([seen.query["dateDebut"] for seen in home.simulation.seen if "quotidienne" in seen.path])
            home.clock.move(days=1)

        assert home.days()[late] == home.simulation.true_day(home.simulation.producing, late)
        assert [min(each) for each in asked[1:]] == [str(late), str(late + 2 * DAY)]


async def test_a_series_that_is_not_given_is_left_for_now() -> None:
    """
    A load curve that its customer keeps to himself is no end of the past: it is left for a day, and then asked again.
    """
    async with house() as home, home.session() as session:
        home.simulation.faults.set(CURVES, "enedis:400:ADAM-ERR0075")
        day = date(2026, 5, 4)
        (piece,) = [piece for piece in await home.portal.pieces(session, day, day) if _curve_of_first(piece)]
        with pytest.raises(NotNowError) as caught:
            await home.portal.past(session, piece)
        left = await home.portal.pieces(session, day, day)
        home.clock.move(days=1)
        tomorrow = await home.portal.pieces(session, day, day)

        assert not isinstance(caught.value, EndOfPastError)
        assert not any(_curve_of_first(piece) for piece in left)
        assert piece.key in {each.key for each in tomorrow}


async def test_one_usage_point_refused_is_left_aside() -> None:
    """
    Of two usage points the one whose consent has ended is left aside; when it is the only one, the login is refused.
    """
    async with house() as home:
        home.simulation.source.closed[home.simulation.young.prm] = "ADAM-DC-0008"
        async with home.session() as session:
            pieces = await home.portal.pieces(session, date(2026, 5, 4), date(2026, 5, 4))
            refused = next(piece for piece in pieces if piece.ask["point"] == 1)
            with pytest.raises(NotNowError):
                await home.portal.past(session, refused)
            assert await home.portal.past(session, next(piece for piece in pieces if piece.ask["point"] == 0))
        only(home, {"prm": home.simulation.young.prm})
        async with home.session() as session:
            with pytest.raises(LoginError):
                await home.portal.past(session, (await home.portal.pieces(session, None, None))[0])


async def test_nothing_in_a_piece_is_remembered_too() -> None:
    """
    A week without a curve is asked once, although there is no reading to keep with it.
    """
    async with house() as home, home.session() as session:
        (gap,) = [p for p in await home.portal.pieces(session, date(2026, 6, 17), date(2026, 6, 17)) if _curve_of_first(p)]

        assert [each for each in await home.portal.past(session, gap) if isinstance(each, Interval)] == []
        again = await home.portal.pieces(session, date(2026, 6, 17), date(2026, 6, 17))
        assert gap.key not in {piece.key for piece in again}


async def test_a_piece_before_the_beginning_ends_its_line() -> None:
    """
    A piece that lies before the contract says that there is nothing older.
    """
    async with house() as home, home.session() as session:
        old = date(2024, 3, 1)
        pieces = [piece for piece in await home.portal.pieces(session, old, old + DAY) if piece.ask["point"] == 1]
        with pytest.raises(EndOfPastError):
            await home.portal.past(session, pieces[0])
        count = len(home.simulation.seen)
        with pytest.raises(EndOfPastError):
            await home.portal.past(session, pieces[0])
        assert len(home.simulation.seen) == count


def test_what_was_never_asked() -> None:
    """
    Holes between what was asked are found on a grid that does not move, newest first.
    """
    progress = Progress("p", CURVE, 7)
    progress.cover(date(2026, 11, 1), date(2026, 11, 10))
    progress.cover(date(2026, 10, 20), date(2026, 10, 27))
    missing = list(progress.missing(date(2026, 10, 15), date(2026, 11, 12)))

    assert missing == [
        (date(2026, 11, 11), date(2026, 11, 12)),
        (date(2026, 10, 28), date(2026, 10, 31)),
        (date(2026, 10, 18), date(2026, 10, 19)),
        (date(2026, 10, 15), date(2026, 10, 17)),
    ]
    progress.rise(date(2026, 10, 30))
    assert list(progress.missing(date(2026, 10, 15), date(2026, 11, 10))) == [(date(2026, 10, 30), date(2026, 10, 31))]


def test_days_come_in_calls_of_a_year() -> None:
    """
    Three years of days are four or five calls.
    """
    assert 4 <= len(list(Progress("p", DAYS, 364).missing(date(2023, 11, 20), date(2026, 11, 12)))) <= 5


def _curve_of_first(piece: Piece) -> bool:
    return piece.ask == {"point": 0, "measure": "consumption_curve"}


def _between(first: date, last: date) -> list[date]:
    return [first + n * DAY for n in range((last - first).days + 1)]


async def _import(home: House, done: set[str]) -> bool:
    """Import as the program would; says whether the budget stopped it."""
    async with home.session() as session:
        ended: set[str] = set()
        for piece in await home.portal.pieces(session, None, None):
            if piece.key in done or piece.line in ended:
                continue
            try:
                told = await home.portal.past(session, piece)
            except EndOfPastError:
                ended.add(piece.line)
                continue
            except NoDataError:
                told = []
            except RateLimitError:
                return True
            done.add(piece.key)
            await home.keep(told)
    return False


@pytest.mark.parametrize("ahead", [timedelta(days=30), timedelta(days=365)])
def test_what_a_clock_ahead_said_is_forgotten(ahead) -> None:
    """
    A beginning, days asked and a pause that lie ahead of today are the word of a wrong clock; what lies before stays.
    """
    today = date(2026, 11, 20)
    before = (date(2026, 1, 1), date(2026, 10, 1))
    wrong = Progress("1", CURVE, 7, [before, (today - DAY, today + ahead), (today + ahead, today + 2 * ahead)])
    wrong.newest, wrong.floor, wrong.empty = today + ahead - DAY, today + ahead, 9
    wrong.off_until, wrong.off_why = today + ahead, "wait"
    wrong.forget_ahead(today)
    right = Progress("1", CURVE, 7, [before], newest=today - DAY, floor=before[0], off_until=today + 7 * DAY, off_why="wait")
    kept = replace(right)
    right.forget_ahead(today)

    assert wrong == Progress("1", CURVE, 7, [before, (today - DAY, today)])
    assert right == kept
