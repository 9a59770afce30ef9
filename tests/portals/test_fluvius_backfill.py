"""The backfill of Fluvius: three years in chunks that may stop anywhere, within a quota."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from exporter.errors import HistoryExhaustedError, RateLimitError, ResponseError
from exporter.models import Interval, Peak
from exporter.portals.base import BackfillChunk
from exporter.portals.fluvius.account import Fluvius
from exporter.simulators.fluvius.simulation import GAS_EAN, SINGLE_RATE_EAN, SOLAR_EAN, FluviusSimulation
from tests.conftest import FakeClock, OpenSession
from tests.portals.fluvius_account import StoredIntervals, build_amounts, run_account

ALL = SOLAR_EAN, SINGLE_RATE_EAN, GAS_EAN
FREE = {"past_requests": 100_000}


async def imported(
    home: Fluvius, visit: OpenSession, kept: StoredIntervals, done: set[str], chunks: Sequence[BackfillChunk], stop: int = 10**6
) -> list[BackfillChunk]:
    """Do what an import does: skip what is done, drop ended lines, stop after so many chunks; returns those it asked."""
    asked, ended = [], set()
    async with visit() as session:
        for chunk in chunks:
            if chunk.key in done or chunk.feed in ended:
                continue
            if len(asked) == stop:
                break
            asked.append(chunk)
            try:
                kept.store(await home.fetch_backfill_chunk(session, chunk), session.now)
            except HistoryExhaustedError:
                ended.add(chunk.feed)
            done.add(chunk.key)
    return asked


async def listed(home: Fluvius, visit: OpenSession, first: date | None = None, last: date | None = None) -> list[BackfillChunk]:
    async with visit() as session:
        return await home.list_backfill_chunks(session, first, last)


def held(kept: StoredIntervals, resolution: str) -> set[Any]:
    return {
        (key[0], key[1], str(key[2]), known.start, known.amount) for key, known in kept.readings.items() if key[4] == resolution
    }


def true_days(simulation: FluviusSimulation, first: date, last: date) -> set[Any]:
    truth = (one for ean in ALL for one in simulation.list_true_days(ean, first, last))
    return {(one.ean, one.register, one.direction, one.start, one.value) for one in truth}


async def test_all_that_the_portal_has(clock: FakeClock, visit: OpenSession) -> None:
    """
    An import brings every day of two years, the replaced meter's too, and every quarter-hour since they were switched on.
    """
    kept = StoredIntervals()
    async with run_account(clock, **FREE) as (simulation, home):
        chunks = await listed(home, visit)
        asked = await imported(home, visit, kept, set(), chunks)

        assert held(kept, "P1D") == true_days(simulation, date(2024, 11, 20), date(2026, 11, 19))
        for ean, resolution in ((SOLAR_EAN, "PT15M"), (GAS_EAN, "PT1H")):
            days = [date(2026, 8, 20) + timedelta(days=n) for n in range(92)]
            truth = {
                (ean, one.register, one.direction, one.start, one.value)
                for day in days
                for one in simulation.list_true_intervals(ean, day)
            }
            assert {one for one in held(kept, resolution) if one[0] == ean} == truth
        assert len(chunks) - len(asked) > 1800


async def test_the_newest_comes_first(clock: FakeClock, visit: OpenSession) -> None:
    """
    Chunks run back from yesterday for three years, each key once, none of them with a number of a meter.
    """
    async with run_account(clock) as (_, home):
        chunks = await listed(home, visit)

        assert [chunk.last for chunk in chunks] == sorted((chunk.last for chunk in chunks), reverse=True)
        assert (chunks[0].last, min(chunk.first for chunk in chunks)) == (date(2026, 11, 19), date(2023, 11, 19))
        assert len({chunk.key for chunk in chunks}) == len(chunks)
        assert not any(number in str(chunk) for chunk in chunks for number in ("5414488", "1SAG", "7FLO"))


async def test_a_line_covers_its_days_once(clock: FakeClock, visit: OpenSession) -> None:
    """
    The chunks of a feed are adjacent, whatever the first and the last day.
    """
    async with run_account(clock) as (_, home):
        chunks = await listed(home, visit, date(2026, 1, 15), date(2026, 6, 7))

        for line in {chunk.feed for chunk in chunks}:
            mine = sorted((chunk.first, chunk.last) for chunk in chunks if chunk.feed == line)
            assert (mine[0][0], mine[-1][1]) == (date(2026, 1, 15), date(2026, 6, 7))
            assert all(later[0] - earlier[1] == timedelta(days=1) for earlier, later in pairwise(mine))


@pytest.mark.parametrize("stop", [1, 7, 40])
async def test_an_import_may_stop_anywhere(stop: int, clock: FakeClock, visit: OpenSession) -> None:
    """
    Stopped and continued, even days later, an import requests no settled chunk twice and stores the same.
    """
    whole, halves, done, keys = StoredIntervals(), StoredIntervals(), set[str](), []
    span = date(2026, 7, 1), date(2026, 8, 31)
    async with run_account(clock, **FREE) as (_, home):
        await imported(home, visit, whole, set(), await listed(home, visit, *span))
        while asked := await imported(home, visit, halves, done, await listed(home, visit, *span), stop):
            keys += [chunk.key for chunk in asked]
            clock.advance(hours=1)

        assert len(set(keys)) == len(keys)
        assert held(halves, "P1D") == held(whole, "P1D")
        assert held(halves, "PT15M") == held(whole, "PT15M")


async def test_days_that_are_not_settled_are_asked_again_tomorrow(clock: FakeClock, visit: OpenSession) -> None:
    """
    A chunk keeps its key once its days are two weeks old; younger days have another key each day.
    """
    async with run_account(clock) as (_, home):
        today = {chunk.key: chunk for chunk in await listed(home, visit)}
        clock.advance(days=1)
        tomorrow = {chunk.key for chunk in await listed(home, visit)}

        gone = [chunk for key, chunk in today.items() if key not in tomorrow]
        old = [chunk for chunk in today.values() if date(2024, 1, 1) < chunk.last < date(2026, 11, 5)]
        assert all(chunk.last > date(2026, 11, 5) or chunk.first == date(2023, 11, 19) for chunk in gone)
        assert all(chunk.key in tomorrow for chunk in old)


async def test_intervals_end_where_they_were_switched_on(clock: FakeClock, visit: OpenSession) -> None:
    """
    Thirty empty days end a line; an import that goes on knows it after one request.
    """
    done: set[str] = set()
    async with run_account(clock, intervals_since=date(2026, 9, 1), **FREE) as (simulation, home):
        chunks = [chunk for chunk in await listed(home, visit) if chunk.parameters["what"] == "intervals"]
        first = await imported(home, visit, StoredIntervals(), done, chunks)
        before = len(simulation.requests)
        again = await imported(home, visit, StoredIntervals(), done, chunks)

        assert {min(chunk.first for chunk in first if chunk.feed == line) for line in {one.feed for one in first}} == {
            date(2026, 8, 2)
        }
        assert len(again) == 2
        assert len(simulation.requests) - before <= 4


async def test_a_stop_among_empty_days(clock: FakeClock, visit: OpenSession) -> None:
    """
    The run of empty days is counted over a stop, and an empty day in between does not end a line.
    """
    done: set[str] = set()
    async with run_account(clock, intervals_since=date(2026, 10, 20), past_empty_days=5, **FREE) as (_, home):
        chunks = [
            chunk for chunk in await listed(home, visit, last=date(2026, 10, 22)) if chunk.parameters["what"] == "intervals"
        ]
        one_line = [chunk for chunk in chunks if chunk.feed == chunks[0].feed]
        asked = [len(await imported(home, visit, StoredIntervals(), done, one_line, stop=6)) for _ in range(2)]

        assert asked == [6, 2]


async def test_a_replaced_meter_costs_no_second_request(clock: FakeClock, visit: OpenSession) -> None:
    """
    Before the day of a replacement only the old meter is requested, after it only the new one; on that day both.
    """
    swapped = datetime(2026, 9, 15, 9, 30, tzinfo=UTC)
    async with run_account(clock, replaced_at=swapped, **FREE) as (simulation, home):
        chunks = [
            chunk
            for chunk in await listed(home, visit, date(2026, 9, 1), date(2026, 9, 30))
            if chunk.parameters["what"] == "intervals"
        ]
        kept = StoredIntervals()
        await imported(home, visit, kept, set(), chunks)
        serials = [seen.query["meterSerialNumber"][-2:] for seen in simulation.requests if seen.query.get("granularity") == "1"]

        truth = {
            one.start
            for n in range(30)
            for one in simulation.list_true_intervals(SOLAR_EAN, date(2026, 9, 1) + timedelta(days=n))
        }
        assert {one[3] for one in held(kept, "PT15M")} == truth
        assert serials == ["18"] * 16 + ["17"] + ["18", "17"] + ["17"] * 13


async def test_a_budget(clock: FakeClock, visit: OpenSession) -> None:
    """
    An import makes so many requests an hour; then an error names the wait, and it continues where it was.
    """
    done: set[str] = set()
    async with run_account(clock, past_requests=10) as (simulation, home):
        chunks = [chunk for chunk in await listed(home, visit) if chunk.parameters["what"] == "days"]
        with pytest.raises(RateLimitError, match="10 requests of this hour") as caught:
            await imported(home, visit, StoredIntervals(), done, chunks)
        spent, wait = len([seen for seen in simulation.requests if "verbruik" in seen.path]), caught.value.retry_after

        assert (spent, wait) == (10, timedelta(hours=1))
        assert home.quotas() == {"history": (10, timedelta(hours=1))}
        clock.advance(minutes=61)
        assert len(await imported(home, visit, StoredIntervals(), done, chunks, stop=5)) == 5


async def test_peaks_of_the_past(clock: FakeClock, visit: OpenSession) -> None:
    """
    Three years of monthly peaks come in four requests for a meter that was not replaced, each month whole.
    """
    async with run_account(clock, **FREE) as (simulation, home):
        chunks = [chunk for chunk in await listed(home, visit) if chunk.parameters["what"] == "peaks"]
        async with visit() as session:
            results = [one for chunk in chunks for one in await home.fetch_backfill_chunk(session, chunk)]

        mine = {
            one.start: (one.power, one.at) for one in results if isinstance(one, Peak) and one.usage_point.id == SINGLE_RATE_EAN
        }
        months = [date(2024 + n // 12, n % 12 + 1, 1) for n in range(10, 35)]
        assert sorted(mine.values(), key=lambda one: one[1]) == [
            simulation.find_true_peak(SINGLE_RATE_EAN, month) for month in months
        ]
        assert len([seen for seen in simulation.requests if "spikes" in seen.path and seen.path.endswith(SINGLE_RATE_EAN)]) == 4


async def test_a_meter_that_left_the_configuration(clock: FakeClock, visit: OpenSession) -> None:
    """
    A chunk of a meter that is no longer configured is an error.
    """
    async with run_account(clock) as (_, home), visit() as session:
        chunk = (await home.list_backfill_chunks(session, None, None))[0]
        other = home.model_copy(update={"meters": ()})
        with pytest.raises(ResponseError, match="no longer in the configuration"):
            await other.fetch_backfill_chunk(session, chunk)


async def test_the_past_of_2024(clock: FakeClock, visit: OpenSession) -> None:
    """
    The old API has a history of days and peaks too.
    """
    async with run_account(clock, api=2024, meters=[{"ean": GAS_EAN, "serial": "7FLO2100000031", "commodity": "gas"}]) as (
        simulation,
        home,
    ):
        chunks = await listed(home, visit, date(2026, 3, 1), date(2026, 3, 31))
        async with visit() as session:
            results = [one for chunk in chunks for one in await home.fetch_backfill_chunk(session, chunk)]

        assert all(isinstance(one, Interval) for one in results)
        assert build_amounts(results) == set(simulation.list_true_days(GAS_EAN, date(2026, 3, 1), date(2026, 3, 31)))
