"""Coverage: judged by readings, kept in runs, stored as a short text."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sync.coverage import Coverage, DayState, Misread, Run, TooOld, judge_days
from exporter.sync.feeds import DAY_SECONDS, Days, Feed, Form
from tests.sync.declarations import CEM, FLUVIUS, WATER
from tests.sync.messy_portal import make_readings

FEED, GAS, HOURS = FLUVIUS
QUARTERS = replace(HOURS, resolution="PT15M")
LATER = FEED.start(date(2027, 1, 1).toordinal())


def periods(feed: Feed, day: int) -> list[Any]:
    return [feed.period(reading) for reading in make_readings(feed, day, 1.0, LATER)]


@pytest.mark.parametrize(("day", "quarters"), [("2026-03-29", 92), ("2026-10-25", 100), ("2026-06-01", 96)])
def test_a_day_is_whole_with_all_its_quarters(day: str, quarters: int) -> None:
    ordinal = date.fromisoformat(day).toordinal()
    all_of_it = periods(QUARTERS, ordinal)
    assert len(all_of_it) == quarters
    assert judge_days(QUARTERS, ordinal, ordinal, all_of_it, LATER) == [DayState.WHOLE]
    assert judge_days(QUARTERS, ordinal, ordinal, all_of_it[:-1], LATER) == [DayState.PARTIAL]
    assert judge_days(QUARTERS, ordinal - 1, ordinal + 1, all_of_it[1:], LATER) == [
        DayState.ABSENT,
        DayState.PARTIAL,
        DayState.ABSENT,
    ]


def test_a_gas_day_begins_at_six() -> None:
    hours, day = replace(HOURS, day_start=GAS.day_start), date(2026, 10, 24).toordinal()
    assert len(periods(hours, day)) == 25
    assert judge_days(hours, day - 1, day + 1, periods(hours, day), LATER) == [DayState.ABSENT, DayState.WHOLE, DayState.ABSENT]
    assert judge_days(GAS, day - 1, day + 1, periods(GAS, day), LATER) == [DayState.ABSENT, DayState.WHOLE, DayState.ABSENT]
    assert GAS.day_at(GAS.start(day) - 1) == day - 1
    assert GAS.day_at(GAS.start(day)) == day


def test_an_index_shows_silence_by_the_distance_between_readings() -> None:
    feed, day = CEM[0], date(2026, 6, 10).toordinal()
    hours = [period for one in range(day - 2, day + 4) for period in periods(feed, one)]
    assert set(judge_days(feed, day, day + 1, hours, LATER)) == {DayState.WHOLE}
    silent = [one for one in hours if not feed.start(day) + 5 * 3600 <= one[0] < feed.start(day) + 10 * 3600]
    assert judge_days(feed, day, day + 1, silent, LATER) == [DayState.PARTIAL, DayState.WHOLE]
    one_lost = [one for one in hours if one[0] != feed.start(day) + 5 * 3600]
    assert judge_days(feed, day, day, one_lost, LATER) == [DayState.WHOLE]
    off = [one for one in hours if not feed.start(day) + 20 * 3600 <= one[0] < feed.start(day + 2) - 3600]
    assert judge_days(feed, day, day + 1, off, LATER) == [DayState.PARTIAL, DayState.PARTIAL]


def test_a_month_that_is_not_over_is_not_whole() -> None:
    feed = replace(CEM[0], form=Form.PEAK, resolution="P1M", zone=FEED.zone)
    month = date(2026, 6, 1).toordinal()
    reading = [(feed.start(month), feed.start(month + 30))]
    assert judge_days(feed, month, month + 9, reading, feed.start(month + 10)) == [DayState.PARTIAL] * 10
    assert set(judge_days(feed, month, month + 29, reading, LATER)) == {DayState.WHOLE}


runs = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 8), st.sampled_from(DayState), st.integers(0, 3), st.integers(0, 2)), max_size=12
)


def as_days(coverage: Coverage) -> dict[int, tuple[int, int, int]]:
    return {day: run[2:] for run in coverage.runs for day in range(run.first, run.last + 1)}


@given(runs, st.integers(1, 40), st.integers(0, 40))
def test_runs_are_what_a_table_of_days_would_be(
    pieces: Sequence[tuple[int, int, DayState, int, int]], first: int, more: int
) -> None:
    coverage, table = Coverage(), dict[int, tuple[int, int, int]]()
    for start, length, *rest in pieces:
        run = Run(start, start + length - 1, *rest)
        coverage = coverage.with_runs([run])
        table |= dict.fromkeys(range(run.first, run.last + 1), run[2:])
    assert as_days(coverage) == table
    assert all(one.last < two.first for one, two in zip(coverage.runs, coverage.runs[1:], strict=False))
    assert all(one.last + 1 < two.first or one[2:] != two[2:] for one, two in zip(coverage.runs, coverage.runs[1:], strict=False))
    days = range(first, first + more + 1)
    never = {day for since, until in coverage.list_unasked_ranges(days[0], days[-1]) for day in range(since, until + 1)}
    assert never == set(days) - table.keys()
    assert as_days(Coverage(tuple(coverage.list_runs(days[0], days[-1])))) == {d: v for d, v in table.items() if d in days}
    forgotten = coverage.without_empty_days(days[0], days[-1])
    assert as_days(forgotten) == {day: value for day, value in table.items() if day not in days or value[0]}
    assert Coverage.decode(coverage.encode()) == coverage


def test_everything_is_stored() -> None:
    coverage = Coverage(
        (Run(5, 7, DayState.PARTIAL, 9, 2),), TooOld(1, 3, 99, 2), 6, 2, 1_800_000_000, 17, (Misread(1, 31, 9, 2),)
    )
    assert Coverage.decode(coverage.encode()) == coverage
    assert Coverage.decode("[1,[null,null,0,0,17],[]]") == Coverage(last_visit=17)


def test_responses_that_were_not_understood_are_told_apart() -> None:
    """
    Each has its own tries; an answer to any day of one forgets it, and so does a clock that ran ahead.
    """
    june, july = (1, 30), (31, 61)
    coverage = Coverage().with_misread(*july, 100).with_misread(*june, 200).with_misread(*july, 300)
    assert coverage.misread == (Misread(*june, 200, 1), Misread(*july, 300, 2))
    assert coverage.with_response(WATER[0], 40, 40, [DayState.WHOLE], 400).misread == (Misread(*june, 200, 1),)
    assert coverage.clamp_to(250).misread == (Misread(*june, 200, 1),)


def test_years_of_settled_days_are_one_run_in_few_bytes() -> None:
    first, now = date(2023, 12, 1).toordinal(), LATER
    coverage = Coverage().with_response(FEED, first, FEED.day_at(now) - 1, [DayState.WHOLE] * (FEED.day_at(now) - first), now)
    assert len(coverage.runs) == 2
    assert len(coverage.encode()) < 100


def test_an_answer_with_less_takes_nothing_away() -> None:
    day = date(2026, 6, 1).toordinal()
    coverage = Coverage().with_response(FEED, day, day, [DayState.WHOLE], FEED.start(day + 2))
    again = coverage.with_response(FEED, day, day, [DayState.ABSENT], FEED.start(day + 3))
    assert again.runs == (Run(day, day, DayState.WHOLE, FEED.start(day + 3), 1),)


def test_what_a_clock_that_ran_ahead_left_counts_as_not_asked() -> None:
    now = FEED.start(date(2026, 6, 1).toordinal())
    ahead = now + 400 * DAY_SECONDS
    coverage = Coverage(
        (Run(10, 12, DayState.ABSENT, ahead, 3), Run(13, 14, DayState.WHOLE, ahead, 1)), failures=2, retry_at=ahead
    )
    assert coverage.clamp_to(now) == Coverage((Run(13, 14, DayState.WHOLE),), failures=2)
    assert coverage.clamp_to(ahead) is coverage


def test_a_visit_after_silence_leaves_the_days_between_to_be_asked() -> None:
    feed = replace(CEM[0], form=Form.VISIT, chunk=Days(7))
    noon = feed.start(date(2026, 6, 10).toordinal()) + 12 * 3600
    day = feed.day_at(noon)
    known = Coverage((Run(day - 9, day, DayState.WHOLE),), last_visit=noon)
    assert known.with_visit(feed, noon + 7200, 3600).runs == known.runs
    assert known.with_visit(feed, noon + 20 * 3600, 3600).runs == (
        Run(day - 9, day - 1, DayState.WHOLE),
        Run(day, day + 1, DayState.PARTIAL),
    )
    assert WATER[0].last_day(noon) == day - 1
