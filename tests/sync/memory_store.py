"""A ledger in memory, as far as the engine needs one."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from exporter.models import Index, Interval, Peak, Reading
from exporter.sync.feeds import Feed, FeedResult, Period


@dataclass(frozen=True)
class Saved:
    new: int = 0
    corrected: int = 0


def value_of(reading: Reading) -> float:
    match reading:
        case Interval(amount=value) | Index(value=value) | Peak(power=value):
            return value


@dataclass
class MemoryStore:
    feeds: Sequence[Feed]
    coverage: dict[str, str] = field(default_factory=dict)
    held: dict[str, dict[Period, float]] = field(default_factory=lambda: defaultdict(dict))
    """By feed and period: the value."""
    by_point: dict[str, list[Feed]] = field(default_factory=dict)
    order: dict[str, list[Period]] = field(default_factory=lambda: defaultdict(list))

    async def load_coverage(self) -> Mapping[str, str]:
        return self.coverage

    async def read_periods(self, feeds: Sequence[Feed], start: datetime, end: datetime) -> Mapping[str, Sequence[Period]]:
        since, until = start.timestamp(), end.timestamp()
        return {feed.key: self._between(feed.key, since, until) for feed in feeds}

    async def save(self, coverage: Mapping[str, str], result: FeedResult | None, at: datetime, *, refusal: str = "") -> Saved:
        self.coverage |= coverage
        asked = [feed for feed in self.feeds if feed.key in coverage]
        return self.record(result.readings, asked) if result else Saved()

    def _feeds_of(self, reading: Reading) -> Sequence[Feed]:
        point = reading.usage_point.id if isinstance(reading, Peak) else reading.register.usage_point.id
        if point not in self.by_point:
            self.by_point[point] = [feed for feed in self.feeds if point in feed.usage_points]
        return self.by_point[point]

    def _between(self, key: str, since: float, until: float) -> Sequence[Period]:
        periods, held = self.order[key], self.held[key]
        if len(periods) != len(held):
            periods[:] = sorted(held)
        return periods[bisect_left(periods, (since,)) : bisect_left(periods, (until,))]

    def record(self, readings: Sequence[Reading], asked: Sequence[Feed] = ()) -> Saved:
        """Store readings, those of a request in the feeds that were asked: the messy portal gives no others."""
        new = corrected = 0
        for reading in readings:
            for feed in asked or self._feeds_of(reading):
                if period := feed.period(reading):
                    before = self.held[feed.key].get(period)
                    new += before is None
                    corrected += before is not None and before != value_of(reading)
                    self.held[feed.key][period] = value_of(reading)
        return Saved(new, corrected)
