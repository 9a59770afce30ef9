"""The order of a visit, and that no feed holds up another."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from exporter.errors import (
    FeedRefusedError,
    LedgerError,
    LoginError,
    PortalError,
    RateLimitError,
    ResponseError,
    TooLongError,
    TooOldError,
    UnreachableError,
)
from exporter.models import Reading
from exporter.sync.coverage import Coverage, DayState, Run
from exporter.sync.engine import Engine
from exporter.sync.feeds import DAY_SECONDS, Days, Feed, FeedResult, Form, Pace
from exporter.sync.planner import NEVER, plan
from tests.sync.declarations import CEM, ENEDIS, FLUVIUS, WATER
from tests.sync.memory_store import MemoryStore, Saved
from tests.sync.messy_portal import Asked, Mess, MessyPortal, make_readings
from tests.sync.test_messy_portal import missing
from tests.sync.world import World

TIDY = Mess(late=0, very_late=0, holes=0, corrected=0)


def days(world: World, key: str) -> list[tuple[int, int]]:
    """Return what was asked of a feed, in days from the start."""
    start = world.start.date()
    return [((one.first - start).days, (one.last - start).days) for one in world.portal.asked if one.feed == key]


async def settle(world: World) -> None:
    """Make a visit and all its steps, a minute apart; the next visit is not waited for."""
    result, at = await world.visit(), world.now
    while result.next_step and result.next_step - at < timedelta(days=3):
        at = result.next_step
        result = await world.step(at)
    world.now = at


@pytest.mark.parametrize("feeds", [WATER, FLUVIUS, ENEDIS])
async def test_the_running_year_of_all_meters_comes_before_any_year_before_it(feeds: Sequence[Feed]) -> None:
    small = [replace(feed, chunk=Days(31)) if feed.chunk == Days(364) else feed for feed in feeds]
    world = World(small, TIDY)
    await settle(world)
    first_of_year = date(world.start.year, 1, 1)
    asked = [one for one in world.portal.asked if not {feed.key: feed for feed in small}[one.feed].priority]
    older = next(place for place, one in enumerate(asked) if one.last < first_of_year)
    seen = {
        feed.key: {day for one in asked[:older] if one.feed == feed.key for day in span(one.first, one.last)} for feed in small
    }
    for feed in small:
        if not feed.priority:
            year = span(first_of_year, date.fromordinal(feed.last_day(int(world.start.timestamp()))))
            assert seen[feed.key] >= year
    assert not missing(world, int(world.start.timestamp()) - 5 * DAY_SECONDS)


def span(first: date, last: date) -> set[int]:
    return set(range(first.toordinal(), last.toordinal() + 1))


async def test_a_first_start_reads_days_before_curves_and_this_month_first() -> None:
    world = World(FLUVIUS, TIDY)
    result = await world.visit()
    assert [one.feed for one in world.portal.asked[:3]] == ["days:e1", "days:g1", "hours:e1"]
    assert result.pending > 600
    assert result.next_step == world.now + timedelta(minutes=1)
    assert world.engine.estimate_remaining(world.now) > timedelta(minutes=60)
    await settle(world)
    backlog = [one.feed for one in world.portal.asked[3:]]
    assert [key for key in backlog if key != "hours:e1"] == backlog[: backlog.index("hours:e1")]
    assert world.engine.count_pending(world.now) == 0


async def test_a_restart_goes_on_where_it_was() -> None:
    world = World(FLUVIUS, TIDY)
    await world.visit()
    await world.step(world.now + timedelta(minutes=1))
    before = list(world.portal.asked)
    world.restarted()
    world.now += timedelta(hours=3)
    await settle(world)
    young = world.start.date() - timedelta(days=14)
    again = {one[:3] for one in world.portal.asked[len(before) :] if one.last < young} & {one[:3] for one in before}
    assert not again
    assert not missing(world, int(world.start.timestamp()) - 5 * DAY_SECONDS)


@pytest.mark.parametrize(
    ("feeds", "max_requests"),
    [(WATER, 8), (FLUVIUS[:1], 8), (FLUVIUS[1:2], 9), (FLUVIUS[2:], 10), (ENEDIS[:1], 8), (ENEDIS[1:2], 8)],
)
async def test_a_quiet_day_asks_little(feeds: Sequence[Feed], max_requests: float) -> None:
    """Visits every three hours: days at most once a visit, of days one by one at most six for their corrections besides."""
    world = World(feeds, TIDY)
    await world.run(30)
    counted = len(world.portal.asked)
    await world.run(50)
    per_feed = (len(world.portal.asked) - counted) / 50 / len(feeds)
    assert per_feed <= max_requests


async def test_a_feed_that_never_gives_anything_is_asked_twice_a_day() -> None:
    world = World(FLUVIUS[2:], replace(TIDY, history=-1000))
    await world.run(10)
    assert len(world.portal.asked) < 40
    counted = len(world.portal.asked)
    await world.run(10)
    assert len(world.portal.asked) - counted <= 20
    assert world.engine.count_pending(world.now) == 0


async def test_a_feed_that_begins_is_read_at_once() -> None:
    world = World(FLUVIUS[2:], replace(TIDY, history=-30))
    await world.run(60)
    assert not missing(world, int(world.now.timestamp()) - 2 * DAY_SECONDS)


class Stubborn(MessyPortal):
    """One feed fails in a way of its own."""

    error: Exception | None = None
    key = ""

    async def read(self, session: None, feed: Feed, first: date, last: date) -> FeedResult:
        if feed.key == self.key and self.error:
            self.asked.append(Asked(feed.key, first, last, int(self.now.timestamp()), in_vain=True))
            raise self.error
        return await super().read(session, feed, first, last)


def stubborn(feeds: Sequence[Feed], key: str, error: Exception) -> World:
    world = World(feeds, TIDY)
    portal = Stubborn(feeds, TIDY, world.start, world.start)
    portal.error, portal.key = error, key
    world.portal = portal
    world.restarted()
    return world


@pytest.mark.parametrize("error", [UnreachableError("status 500"), FeedRefusedError("no consent"), ResponseError("what?")])
async def test_one_failing_feed_holds_up_no_other(error: Exception) -> None:
    world = stubborn(ENEDIS, ENEDIS[0].key, error)
    result = await world.visit()
    assert (result.refused or result.failures).keys() == {ENEDIS[0].key}
    assert result.stopped is None
    await world.run(3)
    asked = Counter(one.feed for one in world.portal.asked)
    assert asked[ENEDIS[0].key] < 20
    world.feeds = ENEDIS[1:]
    assert not missing(world, int(world.now.timestamp()) - 2 * DAY_SECONDS)


async def test_a_portal_that_is_not_reached_is_left_alone() -> None:
    world = World(ENEDIS, replace(TIDY, failing=(-1, 0, 0)))

    async def fail(*_: Any) -> FeedResult:
        raise UnreachableError("timeout")

    world.portal.read = fail  # type: ignore[method-assign]
    result = await world.visit()
    assert result.requests == 2
    assert isinstance(result.stopped, UnreachableError)


@dataclass
class FailingStore(MemoryStore):
    """A ledger of which one transaction fails."""

    left: int = 0

    async def save(self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = "") -> Saved:
        self.left -= 1
        if self.left == 0:
            raise LedgerError("disk full")
        return await super().save(coverage, result, at, refusal=refusal)


@pytest.mark.parametrize("error", [None, UnreachableError("timeout"), LoginError("refused")])
@pytest.mark.parametrize("feeds", [CEM, ENEDIS])
@pytest.mark.parametrize("transaction", [1, 2, 3])
async def test_what_is_not_stored_is_not_known(feeds: Sequence[Feed], error: PortalError | None, transaction: int) -> None:
    """
    After any transaction that fails the engine knows what the ledger has and no more, so the next visit loses nothing.
    """
    world = World(feeds, TIDY)
    world.store = store = FailingStore(feeds)
    engine, read = world.restarted(), world.portal.read
    await world.visit()
    refused = engine.get_coverage(feeds[0].key)
    await store.save(
        {feeds[0].key: replace(refused, retry_at=int(world.now.timestamp()) + 2 * DAY_SECONDS).encode()}, None, world.now
    )
    world.now, store.left = world.now + timedelta(days=1), transaction

    async def fail(*arguments: Any) -> FeedResult:
        if error:
            raise error
        return await read(*arguments)

    world.portal.read = fail  # type: ignore[method-assign]
    with suppress(LedgerError):
        await world.visit()

    assert {key: engine.get_coverage(key) for key in engine.feeds} == {
        key: Coverage.decode(store.coverage[key]) for key in engine.feeds
    }


@pytest.mark.parametrize("error", [RateLimitError("slow down", timedelta(minutes=20)), LoginError("refused")])
async def test_a_rate_limit_or_a_refused_login_ends_the_visit(error: Exception) -> None:
    world = World(ENEDIS, TIDY)

    async def fail(*_: Any) -> FeedResult:
        raise error

    world.portal.read = fail  # type: ignore[method-assign]
    result = await world.visit()
    assert result.requests == 1
    assert result.stopped is error
    assert result.next_step == (world.now + timedelta(minutes=20) if isinstance(error, RateLimitError) else None)


async def test_a_request_that_is_too_long_is_made_shorter_and_that_is_remembered() -> None:
    feed = ENEDIS[1]
    world = World([feed], TIDY)
    read = world.portal.read

    async def shorter(session: None, asked: Feed, first: date, last: date) -> FeedResult:
        if (last - first).days >= 6:
            raise TooLongError("at most 6 days")
        return await read(session, asked, first, last)

    world.portal.read = shorter  # type: ignore[method-assign]
    await settle(world)
    assert world.engine.get_coverage(feed.key).max_days == 6
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)


@pytest.mark.parametrize("hint", [None, 60, 200])
async def test_the_first_day_is_found_by_halving_whatever_the_contract_says(hint: int | None) -> None:
    feed = replace(ENEDIS[0], start_hint=World(ENEDIS).start.date() - timedelta(days=hint) if hint else None)
    world = World([feed], replace(TIDY, activation=200))
    await settle(world)
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)
    bound = world.engine.get_coverage(feed.key).too_old
    assert bound
    assert bound.first == bound.last == world.portal.beginning() - 1
    assert len(world.portal.asked) < 16


@pytest.mark.parametrize("mess", [replace(TIDY, activation=200), replace(TIDY, history=200)])
async def test_the_beginning_of_the_history_is_known_only_when_all_before_it_was_asked(mess: Mess) -> None:
    feeds = [replace(ENEDIS[0], chunk=Days(31)), *ENEDIS[2:3]]
    world = World(feeds, mess)
    world.engine = Engine(world.portal, world.store, every=world.every, pace=Pace(requests=1, visit=4))
    await world.visit()
    assert world.engine.find_history_start(feeds[0].key, world.now) is None
    await settle(world)
    for feed in feeds:
        assert world.engine.find_history_start(feed.key, world.now) == world.start.date() - timedelta(days=200)


async def test_a_first_day_of_no_data_hides_nothing_for_long() -> None:
    world = World(ENEDIS, replace(TIDY, activation=200, no_data=0))
    await world.run(4)
    assert not missing(world, int(world.now.timestamp()) - 3 * DAY_SECONDS)


async def test_days_switched_off_are_asked_as_soon_as_it_runs() -> None:
    world = World(FLUVIUS, replace(TIDY, off=10))
    await world.run(36)
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)


async def test_an_index_that_was_silent_is_asked_for_at_the_next_visit() -> None:
    world = World(CEM, TIDY, every=timedelta(hours=1))
    await settle(world)

    def newest() -> Sequence[Reading]:
        at = int(world.portal.now.timestamp())
        return [make_readings(feed, feed.day_at(at), 0, at)[-1] for feed in CEM]

    world.portal.latest_readings = newest
    await world.run(1)
    counted = len(world.portal.asked)
    await world.run(0.4)
    assert len(world.portal.asked) == counted
    world.now += timedelta(hours=20)
    await world.visit()
    assert {one.feed for one in world.portal.asked[counted:]} == {feed.key for feed in CEM}
    hours = sorted(world.store.held[CEM[0].key])
    assert max(two[0] - one[0] for one, two in pairwise(hours)) == 3600


async def test_all_registers_of_an_account_are_one_feed_that_is_asked_after_silence() -> None:
    feed = replace(CEM[0], key="all", form=Form.VISIT, settles=timedelta(0))
    world = World([feed], TIDY, every=timedelta(hours=1))
    await settle(world)
    counted = len(world.portal.asked)
    await world.run(2)
    assert len(world.portal.asked) == counted
    world.now += timedelta(hours=20)
    await world.visit()
    assert days(world, "all")[counted:] == [(2, 3)]


async def test_without_backfill_only_recent_days_are_asked() -> None:
    world = World(ENEDIS, TIDY)
    world.engine = Engine(world.portal, world.store, every=world.every, reads_backlog=False)
    result = await world.visit()
    assert result.pending == 0
    assert result.next_step is None
    assert all(first >= -14 for feed in ENEDIS for first, _ in days(world, feed.key))


async def test_nothing_is_asked_before_the_configured_day() -> None:
    world = World(FLUVIUS, TIDY)
    world.engine = Engine(world.portal, world.store, every=world.every, oldest=world.start.date() - timedelta(days=100))
    await settle(world)
    assert min(first for feed in FLUVIUS for first, _ in days(world, feed.key)) == -100


async def test_an_older_ledger_is_seen_by_its_readings_and_only_the_rest_is_asked() -> None:
    world = World(FLUVIUS[:1], TIDY)
    await settle(world)
    held = world.store.held
    for period in sorted(held["days:e1"])[200:203]:
        del held["days:e1"][period]
    world.store.coverage.clear()
    world.portal.asked.clear()
    world.restarted()
    await settle(world)
    # The unsettled days, the three that are missing, and what lies before everything.
    assert len(world.portal.asked) <= 2 + 3
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)


async def test_what_cannot_be_read_of_the_coverage_is_asked_again() -> None:
    world = World(FLUVIUS[:1], TIDY)
    await settle(world)
    world.store.coverage["days:e1"] = "[9,[],[]]"
    world.restarted()
    world.now += timedelta(hours=3)
    await settle(world)
    assert world.engine.count_pending(world.now) == 0
    assert not missing(world, int(world.now.timestamp()) - 5 * DAY_SECONDS)


def test_two_thousand_feeds_with_three_years_of_days_are_planned_in_a_blink() -> None:
    now = int(datetime(2026, 11, 20, 9, tzinfo=UTC).timestamp())
    feed = FLUVIUS[1]
    today = feed.last_day(now)
    runs = [Run(today - 1095, today - 100, DayState.WHOLE, 0, 1), Run(today - 99, today - 15, DayState.WHOLE)]
    for hole in range(today - 400, today - 200, 20):
        coverage = Coverage(tuple(runs)).with_runs([Run(hole, hole, DayState.ABSENT, now - hole % 7 * DAY_SECONDS - 9999, 9)])
        runs = list(coverage.runs)
    runs += [Run(day, day, DayState.WHOLE, now - 3600 * (day % 20 + 1), day % 5) for day in range(today - 14, today + 1)]
    coverages = [Coverage(tuple(runs)) for _ in range(2000)]
    started = time.process_time()
    plans = [plan(feed, coverage, now) for coverage in coverages]
    assert time.process_time() - started < 2, "0.2 s is what it takes; a test must not fail on a busy machine"
    assert all(one.next_due < NEVER for one in plans)


async def test_too_old_days_of_a_feed_that_gave_older_ones_are_just_not_there() -> None:
    world = World(ENEDIS[:1], TIDY)
    await settle(world)
    world.now += timedelta(days=2)
    read = world.portal.read

    async def bad_day(*_: Any) -> FeedResult:
        raise TooOldError("ADAM-ERR0123")

    world.portal.read = bad_day  # type: ignore[method-assign]
    await world.visit()
    coverage = world.engine.get_coverage(ENEDIS[0].key)
    assert coverage.find_known_range()
    bound = coverage.too_old
    assert bound is None or bound.first <= bound.last < coverage.find_known_range()[0]
    world.portal.read = read  # type: ignore[method-assign]
    world.now += timedelta(hours=3)
    await world.visit()
    assert not missing(world, int(world.now.timestamp()) - 2 * DAY_SECONDS)


async def test_the_pace_bounds_a_step() -> None:
    world = World(FLUVIUS, TIDY)
    world.engine = Engine(world.portal, world.store, every=world.every, pace=Pace(requests=3, visit=5))
    assert (await world.visit()).requests == 5
    assert (await world.step(world.now + timedelta(minutes=1))).requests == 3


async def test_recent_days_are_asked_newest_first_all_feeds_in_turn() -> None:
    feeds = [replace(FLUVIUS[2], key=key, priority=0) for key in ("hours:e1", "hours:e2")]
    world = World(feeds, TIDY)
    await world.visit()
    asked = [(one.feed, (one.first - world.start.date()).days) for one in world.portal.asked[:4]]
    assert asked == [("hours:e1", -1), ("hours:e2", -1), ("hours:e1", -2), ("hours:e2", -2)]


async def test_a_feed_that_stops_is_asked_twice_a_day() -> None:
    world = World(FLUVIUS[2:], replace(TIDY, history=40))
    await settle(world)
    world.portal.of_day = lambda *_: ()  # type: ignore[method-assign]
    await world.run(50)
    counted = len(world.portal.asked)
    await world.run(10)
    assert 10 <= len(world.portal.asked) - counted <= 20


async def test_when_an_emptiness_gives_a_day_all_of_it_is_asked_again() -> None:
    world = World(FLUVIUS[2:], replace(TIDY, history=30))
    await settle(world)
    world.portal.mess = replace(TIDY, history=150)
    await world.run(2)
    assert not missing(world, int(world.now.timestamp()) - 3 * DAY_SECONDS)


def hinted(feeds: Sequence[Feed]) -> list[Feed]:
    return [replace(feed, if_empty=f"{feed.key} is empty", if_stopped=f"{feed.key} has stopped") for feed in feeds]


async def test_a_feed_that_brings_nothing_is_noted_after_a_day() -> None:
    world = World(hinted(FLUVIUS), replace(TIDY, history=-1000))
    notes = list[set[str]]()
    for _ in range(24):
        notes.append(set((await world.visit()).notes))
        world.now += world.every

    assert notes[0] == notes[2] == set()
    assert set().union(*notes[-8:]) == {f"{feed.key} is empty" for feed in FLUVIUS}


async def test_a_feed_that_stops_is_noted_with_its_last_day() -> None:
    world = World(hinted(FLUVIUS[:2]), TIDY)
    await settle(world)
    ended = world.now.date() - timedelta(days=1)
    world.portal.day = lambda feed, day: world.portal._day(feed, day)._replace(
        published=1 << 50 if day > ended.toordinal() else 0
    )  # type: ignore[assignment]
    world.now += timedelta(days=3)
    early = (await world.visit()).notes
    world.now += timedelta(days=6)

    assert early == []
    assert set((await world.visit()).notes) == {f"{feed.key} has stopped; the last day is {ended}" for feed in FLUVIUS[:2]}


async def test_being_switched_off_is_no_silence() -> None:
    world = World(hinted(FLUVIUS), TIDY)
    await settle(world)
    world.now += timedelta(days=25)

    assert (await world.visit()).notes == []
