"""What a portal declares: its feeds, how a request of each is cut, and what one request brings; and what stores that."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from exporter.models import Direction, Index, Interval, Peak, Reading

DAY_SECONDS = 86_400
"""Seconds; local days have an hour less or more twice a year."""
Period = tuple[int, int]
"""Start and end of a reading in Unix seconds; both are the same for an index."""
SessionT_contra = TypeVar("SessionT_contra", contravariant=True)


class Form(StrEnum):
    """What the readings of a feed are; the words are those of the ledger's series."""

    INTERVAL = "interval"
    PEAK = "peak"
    INDEX = "index"
    VISIT = "visit"
    """Indexes of all registers of an account, read at each visit. Their readings are too many to be judged, so the
    visits themselves count: where two lie more than two rounds apart, the days between are asked for."""


@dataclass(frozen=True, slots=True)
class Days:
    """A request asks for up to `count` consecutive days, wherever they begin."""

    count: int

    def find_range(self, day: int) -> tuple[int, int]:
        """Return the first and last day (ordinals) of the widest request that ends with `day`."""
        return day - self.count + 1, day


@dataclass(frozen=True, slots=True)
class CalendarMonth:
    """A request asks for one calendar month."""

    def find_range(self, day: int) -> tuple[int, int]:
        """Return the first and last day (ordinals) of the month of `day`."""
        first = date.fromordinal(day).replace(day=1)
        return first.toordinal(), ((first.replace(day=28) + timedelta(days=4)).replace(day=1)).toordinal() - 1


@dataclass(frozen=True, slots=True)
class CalendarYear:
    """A request asks for one calendar year."""

    def find_range(self, day: int) -> tuple[int, int]:
        """Return the first and last day (ordinals) of the year of `day`."""
        year = date.fromordinal(day).year
        return date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal()


Chunk = Days | CalendarMonth | CalendarYear


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One series of questions to a portal, such as the days of one meter.

    `usage_points`, `form`, `resolution` and `direction` select the readings by which its days are judged; they may be a part
    of what a request brings.
    """

    key: str
    """Stable for ever: the coverage is stored under it. No personal number in it; use a digest."""
    zone: ZoneInfo
    chunk: Chunk
    usage_points: tuple[str, ...] = ()
    """Empty: all of the account."""
    form: Form = Form.INTERVAL
    resolution: str | None
    """What a whole day holds (P1D, PT15M, P1M: a part of a month). None: an index without a fixed number a day."""
    other_resolutions: tuple[str, ...] = ()
    """Resolutions that count as well: meters change the length of their intervals."""
    direction: Direction | None = None
    """None: either."""
    reach: timedelta | None = None
    """How far back the portal is known to go; None: not known."""
    delay: timedelta = timedelta(days=1)
    """Absent and younger than this: not yet, no hole."""
    settles: timedelta = timedelta(days=14)
    """Younger than this: may still be corrected. A whole day is asked once more when it has settled; 0: never."""
    recheck: timedelta | None = None
    """An age at which a whole day is asked once more: gas kWh, whose factor is set months later, at 100 days; hours that a
    gateway sends weeks late."""
    day_start: time = time(0)
    """When a day begins; gas: 06:00."""
    start_hint: date | None = None
    """A hint where the history begins, such as the date of a contract; never an end."""
    gap: timedelta = timedelta(days=60)
    """After so many empty days before everything known, what is older counts as empty too."""
    priority: int = 0
    """Lower goes first: days 0, load curves 1."""
    label: str = ""
    """Its name in notes: the entry of the configuration, such as `meters[0]`, and never a number."""
    if_empty: str = ""
    """The note when nothing of it has come for a day: what to check."""
    if_stopped: str = ""
    """The note when nothing has come for days of a feed that came before: what to check; the date is added."""

    @property
    def includes_today(self) -> bool:
        """Whether the running day has something to ask for: indexes but one a day, and months that are not over."""
        return self.form is Form.VISIT or (self.form is Form.INDEX and self.resolution is None) or self.resolution == "P1M"

    @property
    def resolutions(self) -> tuple[str, ...]:
        """The resolutions that count; none: all."""
        return (self.resolution, *self.other_resolutions) if self.resolution else ()

    def day_at(self, at: int) -> int:
        """Return the day (an ordinal) that an instant lies in."""
        wall = datetime.fromtimestamp(at, self.zone).replace(tzinfo=None)
        return (wall - timedelta(hours=self.day_start.hour, minutes=self.day_start.minute)).toordinal()

    def last_day(self, now: int) -> int:
        """Return the newest day (an ordinal) that can be asked for."""
        return self.day_at(now) - (0 if self.includes_today else 1)

    def first_unsettled_day(self, now: int) -> int:
        """Return the oldest day (an ordinal) that is younger than `settles`."""
        return self.day_at(now - round(self.settles.total_seconds()))

    def start(self, day: int) -> int:
        """Return when a day (an ordinal) begins."""
        return _start(self.zone, self.day_start, day)

    def period(self, reading: Reading) -> Period | None:
        """Return the period of a reading by which days of this feed are judged; None when it is none of the feed's."""
        # Large responses have a hundred thousand readings: what is cheapest is compared first.
        direction: Direction | None = None
        match reading:
            case Index(register=register, at=since) if self.form is Form.INDEX or self.form is Form.VISIT:
                until, point, direction = since, register.usage_point.id, register.direction
            case Interval(register=register, start=since, end=until) if self.form is Form.INTERVAL:
                point, direction = register.usage_point.id, register.direction
            case Peak(usage_point=usage_point, start=since, end=until) if self.form is Form.PEAK:
                point = usage_point.id
            case _:
                return None
        is_ours = not self.usage_points or point in self.usage_points
        if not is_ours or (self.direction is not None and direction is not None and direction != self.direction):
            return None
        start = round(since.timestamp())
        end = start if until is since else round(until.timestamp())
        is_length = start == end or not self.resolution or _has_length(self.resolution, self.other_resolutions, end - start)
        return (start, end) if is_length else None


@dataclass(frozen=True, slots=True)
class FeedResult:
    """What a request brought."""

    readings: Sequence[Reading] = ()
    notes: tuple[str, ...] = ()
    """What the user should know."""
    skipped: int = 0
    """Values or rows that could not be understood and were left out."""
    requests: int = 1
    """How many HTTP requests it took, those for metadata among them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a portal may be asked: so many requests a step of the backlog, so long between two steps."""

    requests: int = 10
    pause: timedelta = timedelta(minutes=1)
    visit: int = 60
    """How many requests of feeds a visit may make. What a portal must keep of its budget for the visits of the day, it
    keeps by raising RateLimitError for older days only."""


class FeedSource(Protocol[SessionT_contra]):
    """The part of a portal that the engine asks."""

    def list_feeds(self) -> Sequence[Feed]:
        """Return the feeds; they may depend on the inventory that `latest` brought."""

    async def read(self, session: SessionT_contra, feed: Feed, first: date, last: date) -> FeedResult:
        """Make one request (or the few that make one) for local days [first, last].

        Raise NoDataError for a good response with nothing, FeedRefusedError, TooOldError, TooLongError; and the general ones:
        RateLimitError, UnreachableError, LoginError, ResponseError.
        """


class SaveResult(Protocol):
    """What a transaction changed."""

    @property
    def new(self) -> int:
        """How many readings were not known."""

    @property
    def corrected(self) -> int:
        """How many readings were stored with another value."""


class FeedStore(Protocol):
    """What the engine needs of the ledger, for one account."""

    async def load_coverage(self) -> Mapping[str, str]:
        """Return the stored coverage of all feeds, by key."""

    async def read_periods(self, feeds: Sequence[Feed], start: datetime, end: datetime) -> Mapping[str, Sequence[Period]]:
        """Return by key what the ledger holds of each feed's readings that begin in [start, end): sorted, each period once.

        Registers are not told apart. A feed of form VISIT is never asked for.
        """

    async def save(
        self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = ""
    ) -> SaveResult:
        """Store coverages and the readings and notes of a result, in one transaction.

        A `refusal` is a note too; it ends with the feed's next response.
        """


@lru_cache(maxsize=16384)
def _start(zone: ZoneInfo, day_start: time, day: int) -> int:
    return round(datetime.combine(date.fromordinal(day), day_start, zone).timestamp())


@lru_cache
def get_length(resolution: str) -> int:
    """Return the usual length of a period in seconds."""
    if found := re.fullmatch(r"PT(\d+)([HM])", resolution):
        return int(found[1]) * (3600 if found[2] == "H" else 60)
    return {"P1D": DAY_SECONDS, "P1M": 30 * DAY_SECONDS}[resolution]


@lru_cache(maxsize=4096)
def _has_length(resolution: str, others: tuple[str, ...], seconds: int) -> bool:
    spares = {"P1D": 3600, "P1M": 3 * DAY_SECONDS + 3600}
    return any(abs(seconds - get_length(each)) <= spares.get(each, 0) for each in (resolution, *others))
