"""The policy's table, row by row."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sync.coverage import Coverage, DayState
from exporter.sync.feeds import DAY_SECONDS, Days, Feed
from exporter.sync.policy import HOUR, DayPosition, describe_misread, find_next_ask
from tests.sync.declarations import CEM, CEM_ACCOUNT, ENEDIS_ACCOUNT, FLUVIUS, FLUVIUS_FEEDS, WATER

FEED, GAS = FLUVIUS[0], FLUVIUS[1]
A_DAY = 739_000
END = FEED.start(A_DAY + 1)


def ask(
    state: DayState, *, asked: int, tries: int = 1, place: DayPosition = DayPosition.INSIDE, now: int = 0, feed: Feed = FEED
) -> int | None:
    """Return how long after the last asking the day is asked again."""
    at = find_next_ask(feed, A_DAY, state, place, asked=asked, tries=tries, now=now or asked + 60)
    return None if at is None else at - asked


def test_an_absent_day_is_asked_at_each_visit_while_it_is_not_due_yet() -> None:
    assert ask(DayState.ABSENT, asked=END + HOUR, tries=9) == HOUR


@pytest.mark.parametrize(("tries", "hours"), [(1, 3), (2, 6), (3, 12), (4, 24), (5, 24), (60, 24)])
def test_a_day_that_lacks_something_is_asked_ever_more_rarely(tries: int, hours: int) -> None:
    assert ask(DayState.PARTIAL, asked=END + HOUR, tries=tries) == hours * HOUR
    assert ask(DayState.ABSENT, asked=END + 2 * DAY_SECONDS, tries=tries) == hours * HOUR


@pytest.mark.parametrize(("tries", "days"), [(1, 1), (2, 3), (3, 7), (4, 14), (5, 28), (7, 28), (8, 84), (50, 84)])
def test_an_old_hole_is_asked_in_growing_distances(tries: int, days: int) -> None:
    assert ask(DayState.ABSENT, asked=END + 300 * DAY_SECONDS, tries=tries) == days * DAY_SECONDS


def test_asks_of_a_young_day_do_not_count_when_it_is_old() -> None:
    settled = END + 14 * DAY_SECONDS
    assert ask(DayState.ABSENT, asked=settled - HOUR, tries=30, now=settled + 60) == DAY_SECONDS
    assert ask(DayState.ABSENT, asked=settled + DAY_SECONDS, tries=31) == 3 * DAY_SECONDS
    assert ask(DayState.ABSENT, asked=settled + 4 * DAY_SECONDS, tries=32) == 7 * DAY_SECONDS


@pytest.mark.parametrize(("tries", "days"), [(1, 1), (2, 28), (3, 84), (9, 84)])
def test_emptiness_before_everything_known_is_looked_at_again(tries: int, days: int) -> None:
    assert ask(DayState.ABSENT, asked=END + 300 * DAY_SECONDS, tries=tries, place=DayPosition.BEFORE) == days * DAY_SECONDS


def test_nothing_is_asked_by_itself_after_everything_known_once_it_is_old() -> None:
    assert ask(DayState.ABSENT, asked=END + 300 * DAY_SECONDS, place=DayPosition.AFTER) is None


@pytest.mark.parametrize(("tries", "days"), [(0, 1), (1, 2), (2, 4), (3, 8)])
def test_a_young_whole_day_is_read_again_for_corrections(tries: int, days: int) -> None:
    assert ask(DayState.WHOLE, asked=END + DAY_SECONDS, tries=tries) == days * DAY_SECONDS


def test_a_whole_day_is_read_once_more_when_its_week_has_settled() -> None:
    asked = END + 9 * DAY_SECONDS
    week_end = FEED.start(A_DAY - A_DAY % 7 + 7)
    settled = week_end + 14 * DAY_SECONDS
    assert ask(DayState.WHOLE, asked=asked, tries=4) == settled - asked
    assert ask(DayState.WHOLE, asked=asked, tries=4, now=END + 40 * DAY_SECONDS) == settled - asked
    assert ask(DayState.WHOLE, asked=END + 14 * DAY_SECONDS, tries=5) is None
    assert ask(DayState.WHOLE, asked=asked, feed=replace(FEED, settles=timedelta(0))) is None


def test_where_a_request_holds_one_day_it_is_read_once_more_as_soon_as_it_has_settled() -> None:
    asked = END + 9 * DAY_SECONDS
    assert ask(DayState.WHOLE, asked=asked, tries=4, feed=replace(FEED, chunk=Days(1))) == 5 * DAY_SECONDS


def test_gas_is_read_again_after_a_hundred_days_and_not_twice() -> None:
    end = GAS.start(A_DAY + 1)
    at = ask(DayState.WHOLE, asked=end + 20 * DAY_SECONDS, feed=GAS)
    assert at is not None
    assert 80 * DAY_SECONDS <= at <= 87 * DAY_SECONDS
    assert ask(DayState.WHOLE, asked=end + 108 * DAY_SECONDS, feed=GAS) is None
    assert find_next_ask(GAS, A_DAY, DayState.WHOLE, DayPosition.INSIDE, asked=0, tries=1, now=end + 200 * DAY_SECONDS) is None


def test_an_index_is_not_read_again_for_corrections() -> None:
    assert ask(DayState.WHOLE, asked=END + HOUR, feed=CEM[0]) is None


@given(
    state=st.sampled_from(DayState),
    place=st.sampled_from(DayPosition),
    after=st.integers(0, 2000 * DAY_SECONDS),
    tries=st.integers(0, 100),
    later=st.integers(0, 2000 * DAY_SECONDS),
    feed=st.sampled_from([*FLUVIUS, *CEM]),
)
def test_nothing_is_asked_again_within_an_hour(
    state: DayState, place: DayPosition, after: int, tries: int, later: int, feed: Feed
) -> None:
    asked = feed.start(A_DAY + 1) + after
    at = find_next_ask(feed, A_DAY, state, place, asked=asked, tries=tries, now=asked + later)
    assert at is None or at >= asked + HOUR


@pytest.mark.parametrize("feed", [*WATER, *FLUVIUS_FEEDS, *ENEDIS_ACCOUNT, *CEM_ACCOUNT], ids=lambda feed: feed.key)
def test_a_note_names_its_feed_and_no_number(feed: Feed) -> None:
    (note,) = describe_misread(feed, Coverage().with_misread(A_DAY, A_DAY, END))

    assert feed.label
    assert not any(point in feed.label for point in feed.usage_points)
    assert note == f"{feed.label}: cannot parse the response for 2024-04-24 to 2024-04-24; it is requested again later"
