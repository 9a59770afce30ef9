"""A portal in memory whose days come late, lack hours, are corrected, and whose feeds fail: the world as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from random import Random
from typing import NamedTuple

from exporter.errors import FeedRefusedError, NoDataError, PortalError, TooOldError, UnreachableError
from exporter.models import Commodity, Direction, Index, Interval, Peak, Reading, Register, Unit, UsagePoint
from exporter.sync.feeds import DAY_SECONDS, Feed, FeedResult, Form, get_length
from tests.sync.memory_store import value_of

NEVER = 1 << 50


class Day(NamedTuple):
    """What the portal has of a day, and from when on (Unix seconds)."""

    published: int
    partial_until: int
    """Until then the second half of the day is missing."""
    value: float
    corrected: int
    corrected_value: float


@dataclass(frozen=True)
class Mess:
    """The mess of one world; days count from the start of the simulation."""

    seed: int = 0
    late: float = 0.1
    very_late: float = 0.01
    holes: float = 0.02
    corrected: float = 0.05
    no_data: int = -1
    """The day on which every answer is "no data"."""
    off: int = -1
    """The first of 25 days on which we are switched off."""
    refused: tuple[int, int] = (-100, 0)
    """The first of 7 days on which the feed of that place is refused."""
    failing: tuple[int, int, int] = (-1, 0, 0)
    """From when, for how many days, and which feed is unreachable."""
    history: int = 700
    """How many days of history there are at the start."""
    activation: int | None = None
    """How many days before the start requests are refused as too old; None: they are answered with nothing."""


class Asked(NamedTuple):
    feed: str
    first: date
    last: date
    at: int
    in_vain: bool


@dataclass
class MessyPortal:
    declared: Sequence[Feed]
    mess: Mess
    start: datetime
    now: datetime
    asked: list[Asked] = field(default_factory=list)
    known: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    latest_readings: Callable[[], Sequence[Reading]] = tuple

    def __post_init__(self) -> None:
        self.day = cache(self._day)

    async def fetch_latest(self, session: None) -> Sequence[Reading]:
        return self.latest_readings()

    def list_feeds(self) -> Sequence[Feed]:
        return self.declared

    async def read(self, session: None, feed: Feed, first: date, last: date) -> FeedResult:
        at = round(self.now.timestamp())
        assert first <= last
        assert last.toordinal() <= feed.last_day(at), "nobody asks for days to come"
        try:
            self._fail(feed, first)
            by_day = [(day, self.of_day(feed, day, at)) for day in range(first.toordinal(), last.toordinal() + 1)]
        except PortalError:
            self.asked.append(Asked(feed.key, first, last, at, in_vain=True))
            raise
        changed = False
        for day, found in by_day:
            if found:  # all readings of a day follow from its value and their number
                current = value_of(found[0]), len(found)
                changed |= self.known.get((feed.key, day)) != current
                self.known[feed.key, day] = current
        readings = [reading for _, found in by_day for reading in found]
        self.asked.append(Asked(feed.key, first, last, at, in_vain=not changed))
        if not readings:
            raise NoDataError("nothing for these days")
        return FeedResult(readings)

    def of_day(self, feed: Feed, day: int, at: int) -> Sequence[Reading]:
        """Return what the portal gives of a day at an instant."""
        facts = self.day(feed, day)
        if at < facts.published or day < self.beginning():
            return ()
        value = facts.corrected_value if at >= facts.corrected else facts.value
        readings = make_readings(feed, day, value, at)
        return readings[: len(readings) // 2] if at < facts.partial_until and len(readings) > 1 else readings

    def beginning(self) -> int:
        return self.start.toordinal() - (self.mess.history if self.mess.activation is None else self.mess.activation)

    def _fail(self, feed: Feed, first: date) -> None:
        place, mess, today = self.declared.index(feed), self.mess, (self.now - self.start).days
        if mess.no_data == today:
            raise TooOldError("nothing there") if mess.activation is not None else NoDataError("nothing there")
        if mess.refused[0] <= today < mess.refused[0] + 7 and place == mess.refused[1] % len(self.declared):
            raise FeedRefusedError("no consent", self.now + timedelta(hours=5))
        if mess.failing[0] <= today < mess.failing[0] + mess.failing[1] and place == mess.failing[2] % len(self.declared):
            raise UnreachableError("status 500")
        if mess.activation is not None and first.toordinal() < self.beginning():
            raise TooOldError("before the activation")

    def _day(self, feed: Feed, day: int) -> Day:
        mess, chance = self.mess, Random(f"{self.mess.seed} {feed.key} {day}")
        end = feed.start(day + 1)
        usual = end + round(feed.delay.total_seconds()) - DAY_SECONDS + 10 * 3600 + chance.randrange(7200)
        if feed.includes_today:
            usual = feed.start(day)
        published, kind = usual, chance.random()
        if kind < mess.holes:
            published = usual + chance.randint(10, 60) * DAY_SECONDS if chance.random() < 0.5 else NEVER
        elif kind < mess.holes + mess.very_late:
            published = usual + chance.randint(22, 60) * DAY_SECONDS
        elif kind < mess.holes + mess.very_late + mess.late:
            published = usual + chance.randint(1, 21) * DAY_SECONDS
        partial = published + chance.randint(1, 40) * DAY_SECONDS if chance.random() < mess.holes else 0
        value, corrected, changed = chance.randint(1, 500) / 10, NEVER, 0.0
        settled = end + 14 * DAY_SECONDS
        if chance.random() < mess.corrected and published < settled - 1 and not partial and feed.form is not Form.INDEX:
            corrected, changed = chance.randrange(published, settled), value + 1
        return Day(published, partial, value, corrected, changed)


def make_readings(feed: Feed, day: int, value: float, at: int) -> list[Reading]:
    """Return the readings of a whole day; of the running day those before `at`."""
    start, end = feed.start(day), feed.start(day + 1)
    point = UsagePoint(feed.usage_points[0], Commodity.ELECTRICITY)
    register = Register(point, Unit.KWH, feed.direction or Direction.CONSUMPTION)
    if feed.form is Form.PEAK and feed.resolution == "P1D":
        return [Peak(point, Unit.KVA, moment(start), moment(end), value, moment(start))]
    if feed.form is Form.PEAK:
        month = date.fromordinal(day).replace(day=1)
        after = (month.replace(day=28) + timedelta(days=4)).replace(day=1)
        since, until = moment(feed.start(month.toordinal())), moment(feed.start(after.toordinal()))
        return [Peak(point, Unit.KW, since, until, value, since)]
    if feed.form is Form.INDEX and feed.resolution == "P1D":
        return [Index(register, value, moment(start))]
    if feed.form in {Form.INDEX, Form.VISIT}:
        return [Index(register, value + place, moment(one)) for place, one in enumerate(range(start, end, 3600)) if one <= at]
    return list(intervals(feed, day, value, register))


@lru_cache(maxsize=2048)
def intervals(feed: Feed, day: int, value: float, register: Register) -> Sequence[Interval]:
    start, end = feed.start(day), feed.start(day + 1)
    step = end - start if feed.resolution == "P1D" else get_length(feed.resolution or "")
    return [Interval(register, moment(one), moment(one + step), value) for one in range(start, end, step)]


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
