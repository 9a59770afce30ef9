"""`history import`: the same engine in the foreground."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from exporter.errors import FeedRefusedError, LoginError, RateLimitError, ResponseError, UnreachableError
from exporter.sync.coverage import DayState
from exporter.sync.feeds import DAY_SECONDS, Feed, FeedResult
from exporter.sync.importer import Importer, Progress
from tests.sync.declarations import CEM, ENEDIS, FLUVIUS, WATER
from tests.sync.messy_portal import Day, Mess
from tests.sync.test_engine import TIDY, days, settle, stubborn
from tests.sync.test_messy_portal import missing
from tests.sync.world import World


class Run:
    """An import whose sleep moves the clock."""

    def __init__(self, world: World, **keys: Any) -> None:
        self.world, self.reports, self.slept = world, list[tuple[int, int, bool]](), list[timedelta]()
        world.portal.asked.clear()
        self.importer = Importer(world.engine, now=self.now, sleep=self.sleep, report=self.report, **keys)

    def now(self) -> datetime:
        self.world.portal.now = self.world.now
        return self.world.now

    async def sleep(self, length: timedelta) -> None:
        self.slept.append(length)
        self.world.now += length

    def report(self, progress: Progress) -> None:
        self.reports.append((progress.done, progress.remaining, progress.waits_until is not None))

    async def run(self) -> Progress:
        return await self.importer.run(None)


@pytest.mark.parametrize("feeds", [WATER, FLUVIUS, ENEDIS, CEM])
async def test_an_import_brings_all_that_the_portal_has(feeds: Sequence[Feed]) -> None:
    world = World(feeds, replace(TIDY, history=300))
    run = Run(world)
    progress = await run.run()
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)
    assert progress.remaining == 0
    assert progress.done == len(world.portal.asked)
    assert progress.new == sum(len(held) for held in world.store.held.values())
    assert all(remaining >= 0 for _, remaining, _ in run.reports)
    assert len({(one.feed, one.first, one.last) for one in world.portal.asked}) == len(world.portal.asked)


@pytest.mark.parametrize("hint", [None, 60])
async def test_an_import_finds_the_first_day(hint: int | None) -> None:
    begins = World(ENEDIS).start.date() - timedelta(days=hint) if hint else None
    world = World([replace(feed, start_hint=begins) for feed in ENEDIS], replace(TIDY, activation=200))
    await Run(world).run()
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)


async def test_the_same_command_brings_what_came_meanwhile() -> None:
    world = World(FLUVIUS, replace(TIDY, history=100))
    day, hours = world.start.toordinal() - 50, FLUVIUS[2]
    facts = world.portal.day

    def late(feed: Feed, ordinal: int) -> Day:
        found = facts(feed, ordinal)
        return found._replace(published=int((world.start + timedelta(days=1)).timestamp())) if ordinal == day else found

    world.portal.day = late
    await Run(world).run()
    assert world.engine.get_coverage(hours.key).runs
    world.now += timedelta(days=2)
    progress = await Run(world, first=date.fromordinal(day), last=date.fromordinal(day)).run()
    assert progress.done == len(FLUVIUS)
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)


async def test_what_is_whole_and_settled_is_asked_only_with_again() -> None:
    world = World(FLUVIUS[:2], TIDY)
    await settle(world)
    start = world.start.date()
    keys = {"first": start - timedelta(days=300), "last": start - timedelta(days=200)}
    assert (await Run(world, **keys).run()).done == 0
    assert (await Run(world, **keys, reread=True).run()).done == 8
    progress = await Run(world).run()
    assert min(first for first, _ in days(world, "days:e1") if first > -600) >= -14
    assert -100 <= min(first for first, _ in days(world, "days:g1") if first > -600) < -80
    assert progress.done <= 9


async def test_again_asks_for_whole_days_before_what_other_feeds_lack() -> None:
    world = World(FLUVIUS[:2], TIDY)
    await settle(world)
    world.portal.declared = world.store.feeds = FLUVIUS
    world.store.by_point.clear()
    start = world.start.date()
    await Run(world, first=start - timedelta(days=40), last=start - timedelta(days=30), reread=True).run()

    keys = [one.feed for one in world.portal.asked]
    assert keys == ["days:e1", "days:g1", *["hours:e1"] * 11]


async def test_an_emptiness_is_asked_for_once_unless_a_day_is_named() -> None:
    world = World(FLUVIUS[2:], replace(TIDY, history=30))
    await settle(world)
    progress = await Run(world).run()
    assert progress.done <= 15
    first = world.start.date() - timedelta(days=150)
    progress = await Run(world, first=first, last=first + timedelta(days=50)).run()
    assert progress.done == 51


class Budget:
    """A portal that answers so many requests an hour."""

    def __init__(self, world: World, count: int, wait: timedelta | None) -> None:
        self.world, self.count, self.wait, self.read, self.times = world, count, wait, world.portal.read, list[datetime]()
        world.portal.read = self  # type: ignore[assignment]

    async def __call__(self, session: None, feed: Feed, first: date, last: date) -> FeedResult:
        self.times = [at for at in self.times if at > self.world.now - timedelta(hours=1)]
        if len(self.times) >= self.count:
            raise RateLimitError("the budget of this hour is spent", self.wait)
        self.times.append(self.world.now)
        return await self.read(session, feed, first, last)


async def test_a_spent_budget_pauses_an_import_and_the_next_one_goes_on() -> None:
    world = World(FLUVIUS, replace(TIDY, history=100))
    Budget(world, 20, timedelta(hours=1))
    progress = await Run(world).run()
    assert progress.paused
    assert progress.done == 20
    assert str(progress).startswith("20 of ")
    assert progress.remaining > 50
    for _ in range(40):
        world.now += timedelta(hours=1)
        progress = await Run(world).run()
        if not progress.paused:
            break
    assert not missing(world, int(world.start.timestamp()) - 5 * DAY_SECONDS)


@pytest.mark.parametrize(("wait", "is_waiting"), [(timedelta(hours=1), True), (timedelta(minutes=10), False), (None, True)])
async def test_an_import_waits_out_a_budget_when_told_or_when_it_is_short(wait: timedelta | None, is_waiting: bool) -> None:
    world = World(FLUVIUS, replace(TIDY, history=100))
    Budget(world, 50, wait)
    run = Run(world, wait=is_waiting)
    progress = await run.run()
    assert progress.paused is None
    assert run.slept
    assert any(waits for *_, waits in run.reports)
    assert not run.reports[-1][2]
    assert not missing(world, int(world.start.timestamp()) - 5 * DAY_SECONDS)


@pytest.mark.parametrize("error", [FeedRefusedError("no consent"), ResponseError("not understood")])
async def test_one_failing_feed_spares_the_others(error: Exception) -> None:
    world = stubborn(ENEDIS, ENEDIS[0].key, error)
    progress = await Run(world).run()
    assert (progress.failures or progress.refused).keys() == {ENEDIS[0].key}
    assert len(days(world, ENEDIS[0].key)) <= 3
    world.feeds = ENEDIS[1:]
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)


async def test_what_is_not_reached_is_tried_again_and_then_said() -> None:
    world = stubborn(WATER, WATER[0].key, UnreachableError("timeout"))
    run = Run(world)
    with pytest.raises(UnreachableError):
        await run.run()
    assert [length.total_seconds() for length in run.slept] == [5, 30, 120]


async def test_a_refused_login_ends_an_import() -> None:
    world = stubborn(WATER, WATER[0].key, LoginError("refused"))
    with pytest.raises(LoginError):
        await Run(world).run()


async def test_an_import_after_a_mess_mends_it() -> None:
    world = World(FLUVIUS, Mess(seed=7, history=200))
    await world.run(3)
    world.now += timedelta(days=90)
    await Run(world).run()
    assert not missing(world, int(world.now.timestamp()) - 2 * DAY_SECONDS)
    assert all(run.state is not DayState.ABSENT or run.asked for run in world.engine.get_coverage("days:e1").runs)


async def test_what_was_just_asked_is_not_asked_again_for_corrections() -> None:
    world = World(FLUVIUS[2:], replace(TIDY, history=30))
    await Run(world).run()
    again = (await Run(world).run()).done
    world.now += timedelta(hours=13)

    assert again <= 2  # the day that is not there yet, and the day before all others
    assert (await Run(world).run()).done >= 13
    assert (await Run(world, first=world.now.date() - timedelta(days=9), reread=True).run()).done >= 8


async def test_load_curves_are_not_asked_for_what_only_a_recheck_may_change() -> None:
    curve = replace(FLUVIUS[2], recheck=timedelta(days=100))
    world = World([curve], replace(TIDY, history=90))
    await Run(world).run()
    world.now += timedelta(days=1)

    assert (await Run(world).run()).done <= 17
