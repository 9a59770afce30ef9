"""Local French time without offset: both days on which clocks change, whole."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.portals.enedis.timestamps import (
    PARIS,
    PlacedValue,
    StampedValue,
    day_span,
    parse_instant,
    place_by_end,
    place_by_start,
)

SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
HALF = timedelta(minutes=30)


def whole_day(day: date, length: timedelta) -> list[PlacedValue]:
    """The truth: a day's intervals, each with its own value."""
    start, end = day_span(day)
    count = int((end - start) / length)
    return [PlacedValue(start + n * length, start + (n + 1) * length, float(n)) for n in range(count)]


def local(at: datetime) -> datetime:
    return at.astimezone(PARIS).replace(tzinfo=None)


def by_end(day: list[PlacedValue]) -> list[StampedValue]:
    return [StampedValue(local(each.end), each.end - each.start, each.value) for each in day]


def by_start(day: list[PlacedValue]) -> list[StampedValue]:
    return [StampedValue(local(each.start), each.end - each.start, each.value) for each in day]


@given(
    day=st.sampled_from([SPRING, AUTUMN, date(2026, 11, 1)]),
    minutes=st.sampled_from([5, 10, 15, 30, 60]),
)
def test_every_day_is_whole(day: date, minutes: int) -> None:
    """
    A day of 23, 24 or 25 hours in intervals of any length keeps each of them, stamped at ends or at starts.
    """
    truth = whole_day(day, timedelta(minutes=minutes))
    naive_starts = [StampedValue(each.at - each.length, each.length, each.value) for each in by_end(truth)]

    assert place_by_end(by_end(truth)) == truth
    assert place_by_start(by_start(truth)) == truth
    assert place_by_start(naive_starts) == truth


def test_the_days_have_as_many_halves_as_hours() -> None:
    """
    In March 46 half-hours, and the stamp after 01:30 is 03:00; in October 50, and 02:00 and 02:30 come twice.
    """
    spring, autumn = ([stamp.at.strftime("%H:%M") for stamp in by_end(whole_day(day, HALF))] for day in (SPRING, AUTUMN))

    assert len(spring) == 46
    assert spring[2:5] == ["01:30", "03:00", "03:30"]
    assert len(autumn) == 50
    assert autumn[2:8] == ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]


def test_doubled_points_may_come_sorted() -> None:
    """
    Of a doubled local time the first is summer time and the second winter time, also where equal stamps stand together.
    """
    truth = whole_day(AUTUMN, HALF)
    stamps = sorted(by_end(truth), key=lambda stamp: stamp.at)

    assert sorted(place_by_end(stamps), key=lambda each: each.start) == truth


def wall_starts(day: date) -> list[StampedValue]:
    """A day as MyElectricalData stamps it: ends by the wall clock, moved back by a step, sorted as text."""
    return sorted(
        [StampedValue(each.at - each.length, each.length, each.value) for each in by_end(whole_day(day, HALF))],
        key=lambda stamp: stamp.at,
    )


def test_wall_clock_starts_are_sorted_as_text() -> None:
    """
    The night in October has 50 half-hours, two pairs of which share a text, also amid a week.
    """
    stamps = wall_starts(AUTUMN)
    texts = [stamp.at.strftime("%H:%M") for stamp in stamps]
    week = [date(2026, 10, 22) + timedelta(days=n) for n in range(7)]

    assert texts[2:9] == ["01:00", "01:30", "01:30", "02:00", "02:00", "02:30", "03:00"]
    assert sorted(place_by_start(stamps), key=lambda each: each.start) == whole_day(AUTUMN, HALF)
    placed = place_by_start([stamp for day in week for stamp in wall_starts(day)])
    assert sorted(placed, key=lambda each: each.start) == [each for day in week for each in whole_day(day, HALF)]


def test_a_store_that_kept_one_of_each_pair_leaves_the_doubled_hour_alone() -> None:
    """
    With 48 points the two of which one was lost could be of summer or of winter time: both hours stay empty, all else is right.
    """
    lossy = list({stamp.at: stamp for stamp in wall_starts(AUTUMN)}.values())
    truth = whole_day(AUTUMN, HALF)

    assert len(lossy) == 48
    assert place_by_start(lossy) == truth[:3] + truth[7:]


@pytest.mark.parametrize("missing", [3, 4, 5, 6])
def test_a_single_doubled_time_joins_the_one_before(missing: int) -> None:
    """
    When one of two doubled points is missing, the other is where it continues the point before it.
    """
    truth = whole_day(AUTUMN, HALF)
    del truth[missing]

    found = place_by_end(by_end(truth))

    assert found == truth


def test_offsets_and_disorder_are_accepted() -> None:
    """
    A stamp with an offset needs no guess, and a list in disorder is put in order.
    """
    truth = whole_day(AUTUMN, HALF)
    aware = [StampedValue(each.end.astimezone(PARIS), HALF, each.value) for each in truth]
    ordinary = whole_day(date(2026, 11, 1), HALF)

    assert place_by_end(aware) == truth
    assert place_by_end(by_end(truth)[::-1]) == truth
    assert place_by_end([*by_end(ordinary)[24:], *by_end(ordinary)[:24]]) == ordinary


def test_instants() -> None:
    """
    A date is its midnight, a local time is local, an offset is kept.
    """
    assert parse_instant("2026-07-01") == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert parse_instant("2026-11-01 19:42:11") == datetime(2026, 11, 1, 18, 42, 11, tzinfo=UTC)
    assert parse_instant("2026-11-01T19:42:11+02:00") == datetime(2026, 11, 1, 17, 42, 11, tzinfo=UTC)
    assert parse_instant("2026-10-25 02:30:00") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
