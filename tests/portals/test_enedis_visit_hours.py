"""When Enedis is visited: inside the window, hourly until yesterday is in, then not before tomorrow."""

from collections import Counter
from datetime import UTC, datetime, time, timedelta

import pytest

from exporter.portals.enedis.timestamps import PARIS, local_day
from exporter.portals.enedis.visit_hours import VisitWindow, choose_next_visit
from tests.conftest import FakeClock
from tests.portals.enedis_account import EnedisAccount, restrict_usage_points, run_account

HOUR = timedelta(hours=1)
WINDOW = VisitWindow.parse("05:00-20:00")


def paris(*of: int) -> datetime:
    return datetime(*of, tzinfo=PARIS).astimezone(UTC)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("now", "awaited", "expected"),
    [
        (paris(2026, 11, 20, 10, 17), 4, paris(2026, 11, 20, 11, 17)),
        (paris(2026, 11, 20, 10, 18), 4, paris(2026, 11, 20, 11, 17)),
        (paris(2026, 11, 20, 10, 50), 4, paris(2026, 11, 20, 12, 17)),
        (paris(2026, 11, 20, 19, 17), 4, paris(2026, 11, 21, 5, 17)),
        (paris(2026, 11, 20, 3, 0), 4, paris(2026, 11, 20, 5, 17)),
        (paris(2026, 11, 20, 23, 0), 4, paris(2026, 11, 21, 5, 17)),
        (paris(2026, 11, 20, 8, 17), 0, paris(2026, 11, 21, 5, 17)),
        (paris(2026, 3, 28, 8, 17), 0, paris(2026, 3, 29, 5, 17)),
        (paris(2026, 10, 24, 19, 17), 4, paris(2026, 10, 25, 5, 17)),
    ],
)
def test_the_next_visit(now: datetime, awaited: int, expected: datetime) -> None:
    """
    Hourly at our own minute inside the window; a visit by hand stands for the slot just after it.
    """
    assert choose_next_visit(WINDOW, 17, HOUR, now, awaited=awaited, remaining=76) == expected


@pytest.mark.parametrize(
    ("awaited", "left", "hour"),
    [(4, 76, 6), (7, 73, 7), (11, 69, 8), (30, 50, 14), (100, 80, 19), (5, 0, 19)],
)
def test_a_budget_is_stretched_over_the_day(awaited: int, left: int, hour: int) -> None:
    """
    Many series cannot all be requested every hour: hours are skipped, so that calls last until the window closes.
    """
    at = choose_next_visit(WINDOW, 17, HOUR, paris(2026, 11, 20, 5, 17), awaited=awaited, remaining=left)

    assert at == paris(2026, 11, 20, hour, 17)


def test_another_window_and_distance() -> None:
    """
    A window may begin at any minute, and visits be two hours apart.
    """
    window = VisitWindow.parse("06:30-10:30")
    slots = [at.astimezone(PARIS).time() for at in window.list_visits(local_day(paris(2026, 11, 20, 12)), 15, 2 * HOUR)]

    assert slots == [time(7, 15), time(9, 15)]


async def test_an_instant_outside_is_moved_in() -> None:
    """
    A retry that falls into the night comes after the opening, at a minute of this account's own.
    """
    async with run_account() as home:
        night, evening, noon = paris(2026, 11, 20, 2), paris(2026, 11, 20, 20), paris(2026, 11, 20, 12, 34)
        moved = home.portal.adjust_visit_time(night)

        assert paris(2026, 11, 20, 5) <= moved < paris(2026, 11, 20, 6)
        assert home.portal.adjust_visit_time(evening) == moved + timedelta(days=1)
        assert home.portal.adjust_visit_time(noon) == noon
        assert home.portal.adjust_visit_time(moved) == moved


async def test_the_minute_is_chosen_once() -> None:
    """
    The minute is drawn at random and kept over restarts; a configured one is used.
    """
    async with run_account() as home:
        await home.visit()
        minute = home.get_next_visit().minute
        home.clock.advance(days=1)
        await home.visit()
        assert home.get_next_visit().minute == minute == home.account_store.values["minute"][0]

    async with run_account(minute=42) as home:
        await home.visit()
        assert home.get_next_visit().minute == 42
        assert "minute" not in home.account_store.values


async def test_a_week_with_late_data() -> None:
    """
    A week of late mornings costs at most one call an hour of each measure, all inside the window, and brings everything.
    """
    clock = FakeClock(paris(2026, 11, 10, 7, 41))
    async with run_account(clock=clock, minute=7) as home:
        await _by_itself(home, until=paris(2026, 11, 18, 4))

        calls = home.list_newest_calls()
        assert all(time(5) <= seen.received_at.astimezone(PARIS).time() < time(20) for seen in home.simulation.requests)
        per_hour = Counter((seen.path, seen.query["pointId"], seen.received_at.strftime("%d %H")) for seen in calls)
        assert max(per_hour.values()) == 1
        # Ready between 8:00 and 10:30: from the slots of 5:07 to the one after, and none when it is in.
        per_day = Counter((seen.path, seen.query["pointId"], seen.received_at.day) for seen in calls)
        assert max(per_day.values()) <= 7
        for day in (local_day(clock.at) - timedelta(days=n) for n in range(1, 9)):
            assert home.get_days()[day] == home.simulation.get_true_day(home.simulation.producer, day)


async def test_what_is_in_is_not_asked_again() -> None:
    """
    When one series is late, only it is requested until it comes; then the day is over.
    """
    clock = FakeClock(paris(2026, 11, 20, 12))
    async with run_account(clock=clock, minute=7) as home:
        yesterday = home.today - timedelta(days=1)
        home.simulation.source.delays[yesterday, "max"] = timedelta(hours=6)
        await home.visit()
        assert home.get_next_visit() == paris(2026, 11, 20, 13, 7)

        home.simulation.requests.clear()
        await _by_itself(home, until=paris(2026, 11, 21, 5))
        asked = {seen.path for seen in home.list_newest_calls()}
        assert asked == {"/api/puissance_conso_max_quotidienne"}
        assert max(seen.received_at for seen in home.simulation.requests) < paris(2026, 11, 20, 18)
        assert home.get_next_visit() == paris(2026, 11, 21, 5, 7)


async def test_late_data_is_no_failure() -> None:
    """
    Early in the morning nothing of yesterday is there: the visit is good, and there is another in an hour.
    """
    clock = FakeClock(paris(2026, 11, 20, 5, 7))
    async with run_account(clock=clock, minute=7) as home:
        restrict_usage_points(home, {"prm": home.simulation.recent_customer.prm})
        await home.visit()

        assert home.today - timedelta(days=1) not in home.get_days(prm=home.simulation.recent_customer.prm)
        assert home.get_next_visit() == paris(2026, 11, 20, 6, 7)


async def test_a_day_that_never_comes_ends_with_the_window() -> None:
    """
    A day with a gap is asked for until the window closes; the day after, the next one is enough.
    """
    clock = FakeClock(paris(2026, 11, 18, 12))
    async with run_account(clock=clock, minute=7) as home:
        await home.visit()
        home.simulation.requests.clear()
        await _by_itself(home, until=paris(2026, 11, 18, 23))
        assert {seen.path for seen in home.list_newest_calls()} == {
            "/api/courbe_de_charge_consommation",
            "/api/courbe_de_charge_production",
        }
        assert home.get_next_visit() == paris(2026, 11, 19, 5, 7)

        # The visit after the one that brought the next day finds nothing awaited.
        for hour in (12, 13):
            home.clock.at = paris(2026, 11, 19, hour, 7)
            await home.visit()
        assert home.get_next_visit() == paris(2026, 11, 20, 5, 7)


async def _by_itself(home: EnedisAccount, until: datetime) -> None:
    """Visit as the poller would: whenever the portal wants."""
    if not home.latest.next_visit:
        await home.visit()
    while (at := home.get_next_visit()) < until:
        home.clock.at = at
        await home.visit()
