"""The past of Fluvius: three years in pieces that may stop anywhere, within a budget."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from exporter.demo.fluvius import FLAT, GAS, SOLAR, FluviusSimulation
from exporter.errors import EndOfPastError, RateLimitError, ResponseError
from exporter.model import Interval, Peak
from exporter.portals.base import Piece
from exporter.portals.fluvius import Fluvius
from tests.conftest import Clock, Visit
from tests.portals.fluvius import Kept, amounts, portal

ALL = SOLAR, FLAT, GAS
FREE = {"past_requests": 100_000}


async def imported(
    home: Fluvius, visit: Visit, kept: Kept, done: set[str], pieces: Sequence[Piece], stop: int = 10**6
) -> list[Piece]:
    """Do what an import does: skip what is done, drop ended lines, stop after so many pieces; gives those it asked."""
    asked, ended = [], set()
    async with visit() as session:
        for piece in pieces:
            if piece.key in done or piece.line in ended:
                continue
            if len(asked) == stop:
                break
            asked.append(piece)
            try:
                kept.keep(await home.past(session, piece), session.now)
            except EndOfPastError:
                ended.add(piece.line)
            done.add(piece.key)
    return asked


async def listed(home: Fluvius, visit: Visit, first: date | None = None, last: date | None = None) -> list[Piece]:
    async with visit() as session:
        return await home.pieces(session, first, last)


def held(kept: Kept, resolution: str) -> set[Any]:
    return {
        (key[0], key[1], str(key[2]), known.start, known.amount) for key, known in kept.readings.items() if key[4] == resolution
    }


def true_days(simulation: FluviusSimulation, first: date, last: date) -> set[Any]:
    truth = (one for ean in ALL for one in simulation.true_days(ean, first, last))
    return {(one.ean, one.register, one.direction, one.start, one.value) for one in truth}


async def test_all_that_the_portal_has(clock: Clock, visit: Visit) -> None:
    """
    An import brings every day of two years, the replaced meter's too, and every quarter-hour since they were switched on.
    """
    kept = Kept()
    async with portal(clock, **FREE) as (simulation, home):
        pieces = await listed(home, visit)
        asked = await imported(home, visit, kept, set(), pieces)

        assert held(kept, "P1D") == true_days(simulation, date(2024, 11, 20), date(2026, 11, 19))
        for ean, resolution in ((SOLAR, "PT15M"), (GAS, "PT1H")):
            days = [date(2026, 8, 20) + timedelta(days=n) for n in range(92)]
            truth = {
                (ean, one.register, one.direction, one.start, one.value)
                for day in days
                for one in simulation.true_intervals(ean, day)
            }
            assert {one for one in held(kept, resolution) if one[0] == ean} == truth
        assert len(pieces) - len(asked) > 1800


async def test_the_newest_comes_first(clock: Clock, visit: Visit) -> None:
    """
    Pieces run back from yesterday for three years, each key once, none of them with a number of a meter.
    """
    async with portal(clock) as (_, home):
        pieces = await listed(home, visit)

        assert [piece.last for piece in pieces] == sorted((piece.last for piece in pieces), reverse=True)
        assert (pieces[0].last, min(piece.first for piece in pieces)) == (date(2026, 11, 19), date(2023, 11, 19))
        assert len({piece.key for piece in pieces}) == len(pieces)
        assert not any(number in str(piece) for piece in pieces for number in ("5414488", "1SAG", "7FLO"))


async def test_a_line_covers_its_days_once(clock: Clock, visit: Visit) -> None:
    """
    The pieces of a line lie end to end, whatever the first and the last day.
    """
    async with portal(clock) as (_, home):
        pieces = await listed(home, visit, date(2026, 1, 15), date(2026, 6, 7))

        for line in {piece.line for piece in pieces}:
            mine = sorted((piece.first, piece.last) for piece in pieces if piece.line == line)
            assert (mine[0][0], mine[-1][1]) == (date(2026, 1, 15), date(2026, 6, 7))
            assert all(later[0] - earlier[1] == timedelta(days=1) for earlier, later in pairwise(mine))


@pytest.mark.parametrize("stop", [1, 7, 40])
async def test_an_import_may_stop_anywhere(stop: int, clock: Clock, visit: Visit) -> None:
    """
    Stopped and continued, even days later, an import asks no settled piece twice and brings the same.
    """
    whole, halves, done, keys = Kept(), Kept(), set[str](), []
    span = date(2026, 7, 1), date(2026, 8, 31)
    async with portal(clock, **FREE) as (_, home):
        await imported(home, visit, whole, set(), await listed(home, visit, *span))
        while asked := await imported(home, visit, halves, done, await listed(home, visit, *span), stop):
            keys += [piece.key for piece in asked]
            clock.move(hours=1)

        assert len(set(keys)) == len(keys)
        assert held(halves, "P1D") == held(whole, "P1D")
        assert held(halves, "PT15M") == held(whole, "PT15M")


async def test_days_that_are_not_settled_are_asked_again_tomorrow(clock: Clock, visit: Visit) -> None:
    """
    A piece keeps its key for ever once its days are two weeks old; younger days have another key each day.
    """
    async with portal(clock) as (_, home):
        today = {piece.key: piece for piece in await listed(home, visit)}
        clock.move(days=1)
        tomorrow = {piece.key for piece in await listed(home, visit)}

        gone = [piece for key, piece in today.items() if key not in tomorrow]
        old = [piece for piece in today.values() if date(2024, 1, 1) < piece.last < date(2026, 11, 5)]
        assert all(piece.last > date(2026, 11, 5) or piece.first == date(2023, 11, 19) for piece in gone)
        assert all(piece.key in tomorrow for piece in old)


async def test_intervals_end_where_they_were_switched_on(clock: Clock, visit: Visit) -> None:
    """
    Thirty empty days end a line; an import that goes on knows it after one request.
    """
    done: set[str] = set()
    async with portal(clock, intervals_since=date(2026, 9, 1), **FREE) as (simulation, home):
        pieces = [piece for piece in await listed(home, visit) if piece.ask["what"] == "intervals"]
        first = await imported(home, visit, Kept(), done, pieces)
        before = len(simulation.seen)
        again = await imported(home, visit, Kept(), done, pieces)

        assert {min(piece.first for piece in first if piece.line == line) for line in {one.line for one in first}} == {
            date(2026, 8, 2)
        }
        assert len(again) == 2
        assert len(simulation.seen) - before <= 4


async def test_a_stop_among_empty_days(clock: Clock, visit: Visit) -> None:
    """
    The run of empty days is counted over a stop, and an empty day in between does not end a line.
    """
    done: set[str] = set()
    async with portal(clock, intervals_since=date(2026, 10, 20), past_empty_days=5, **FREE) as (_, home):
        pieces = [piece for piece in await listed(home, visit, last=date(2026, 10, 22)) if piece.ask["what"] == "intervals"]
        one_line = [piece for piece in pieces if piece.line == pieces[0].line]
        asked = [len(await imported(home, visit, Kept(), done, one_line, stop=6)) for _ in range(2)]

        assert asked == [6, 2]


async def test_a_replaced_meter_costs_no_second_request(clock: Clock, visit: Visit) -> None:
    """
    Before the day of a replacement only the old meter is asked, after it only the new one; on that day both.
    """
    swapped = datetime(2026, 9, 15, 9, 30, tzinfo=UTC)
    async with portal(clock, swapped=swapped, **FREE) as (simulation, home):
        pieces = [
            piece for piece in await listed(home, visit, date(2026, 9, 1), date(2026, 9, 30)) if piece.ask["what"] == "intervals"
        ]
        kept = Kept()
        await imported(home, visit, kept, set(), pieces)
        serials = [seen.query["meterSerialNumber"][-2:] for seen in simulation.seen if seen.query.get("granularity") == "1"]

        truth = {one.start for n in range(30) for one in simulation.true_intervals(SOLAR, date(2026, 9, 1) + timedelta(days=n))}
        assert {one[3] for one in held(kept, "PT15M")} == truth
        assert serials == ["18"] * 16 + ["17"] + ["18", "17"] + ["17"] * 13


async def test_a_budget(clock: Clock, visit: Visit) -> None:
    """
    An import makes so many requests an hour; then it is told how long to wait, and goes on where it was.
    """
    done: set[str] = set()
    async with portal(clock, past_requests=10) as (simulation, home):
        pieces = [piece for piece in await listed(home, visit) if piece.ask["what"] == "days"]
        with pytest.raises(RateLimitError, match="10 requests of this hour") as caught:
            await imported(home, visit, Kept(), done, pieces)
        spent, wait = len([seen for seen in simulation.seen if "verbruik" in seen.path]), caught.value.wait

        assert (spent, wait) == (10, timedelta(hours=1))
        assert home.budgets() == {"history": (10, timedelta(hours=1))}
        clock.move(minutes=61)
        assert len(await imported(home, visit, Kept(), done, pieces, stop=5)) == 5


async def test_peaks_of_the_past(clock: Clock, visit: Visit) -> None:
    """
    Three years of monthly peaks come in four requests for a meter that was not replaced, each month whole.
    """
    async with portal(clock, **FREE) as (simulation, home):
        pieces = [piece for piece in await listed(home, visit) if piece.ask["what"] == "peaks"]
        async with visit() as session:
            told = [one for piece in pieces for one in await home.past(session, piece)]

        mine = {one.start: (one.power, one.at) for one in told if isinstance(one, Peak) and one.point.id == FLAT}
        months = [date(2024 + n // 12, n % 12 + 1, 1) for n in range(10, 35)]
        assert sorted(mine.values(), key=lambda one: one[1]) == [simulation.true_peak(FLAT, month) for month in months]
        assert len([seen for seen in simulation.seen if "spikes" in seen.path and seen.path.endswith(FLAT)]) == 4


async def test_a_meter_that_left_the_configuration(clock: Clock, visit: Visit) -> None:
    """
    A piece of a meter that is no longer configured says so.
    """
    async with portal(clock) as (_, home), visit() as session:
        piece = (await home.pieces(session, None, None))[0]
        other = home.model_copy(update={"meters": ()})
        with pytest.raises(ResponseError, match="no longer in the configuration"):
            await other.past(session, piece)


async def test_the_past_of_2024(clock: Clock, visit: Visit) -> None:
    """
    The old API has a past of days and peaks too.
    """
    async with portal(clock, api=2024, meters=[{"ean": GAS, "serial": "7FLO2100000031", "commodity": "gas"}]) as (
        simulation,
        home,
    ):
        pieces = await listed(home, visit, date(2026, 3, 1), date(2026, 3, 31))
        async with visit() as session:
            told = [one for piece in pieces for one in await home.past(session, piece)]

        assert all(isinstance(one, Interval) for one in told)
        assert amounts(told) == set(simulation.true_days(GAS, date(2026, 3, 1), date(2026, 3, 31)))
