"""What a visit came to so far: who was refused, what failed, and whether anybody answers at all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from exporter.errors import LoginError, PortalError, RateLimitError, UnreachableError
from exporter.model import Note, Shortfall
from exporter.portals.enedis.progress import Progress, recall
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.stamps import local_day
from exporter.portals.enedis.way import Point, Way

REFUSED_FOR = timedelta(hours=23)
"""A refused usage point is tried again at the same hour of the next day."""
GIVE_UP_AFTER = 3
"""So many calls in a row without an answer mean that nobody is there."""


@dataclass(slots=True)
class Outcome:
    """The state of one visit: the way it goes, its usage points and how far each of their series has been read."""

    way: Way
    records: dict[Point, list[Progress]]
    today: date
    refused: dict[Point, str] = field(default_factory=dict)
    failures: list[PortalError] = field(default_factory=list)
    ends: list[datetime] = field(default_factory=list)
    activations: dict[Point, date | None] = field(default_factory=dict)
    answered: bool = False
    silent: int = 0

    @classmethod
    async def begin(cls, way: Way, points: Sequence[Point]) -> "Outcome":
        """Recall what is kept; first come those that wait the longest, so that a small budget serves each in its turn."""
        records: dict[Point, list[Progress]] = {}
        for point in points:
            offered = [measure for measure in point.measures if way.offers(measure)]
            records[point] = [await recall(way.session, point.prm, measure) for measure in offered]
        waiting = sorted(points, key=lambda point: records[point][0].newest or date.min)
        return cls(way, {point: records[point] for point in waiting}, local_day(way.session.now))

    @property
    def open_points(self) -> list[Point]:
        """The usage points that were not refused."""
        return [point for point in self.records if point not in self.refused]

    @property
    def awaited(self) -> int:
        """How many series of yesterday that this account can have are still to come."""
        return sum(progress.due(self.today) for point in self.open_points for progress in self.records[point])

    @property
    def stopped(self) -> bool:
        """Whether more calls would be a nuisance."""
        return self.silent >= GIVE_UP_AFTER or any(isinstance(failure, RateLimitError) for failure in self.failures)

    def good(self) -> None:
        """Note an answer, also one that there is nothing."""
        self.answered, self.silent = True, 0

    def failed(self, failure: PortalError) -> None:
        """Note a failure of a part; raises a LoginError that concerns more than one usage point."""
        if isinstance(failure, LoginError):
            raise failure
        self.failures.append(failure)
        self.silent = self.silent + 1 if isinstance(failure, UnreachableError) else 0

    async def refuse(self, point: Point, refusal: ConsentError) -> Note:
        """Leave a usage point alone for a day."""
        self.refused[point] = str(refusal)
        await self.way.session.memory.put(_key(point), str(refusal), self.way.session.now + REFUSED_FOR)
        return Note(str(refusal))

    async def still_refused(self, point: Point) -> Note | None:
        """Say why a usage point is left alone, when it is."""
        said = await self.way.session.memory.get(_key(point), self.way.session.now)
        if said is None:
            return None
        self.refused[point] = said
        return Note(said)

    async def raise_if_all_refused(self) -> None:
        """Raise LoginError when no usage point is open; the next try then asks them all anew."""
        if self.open_points:
            return
        for point in self.records:
            await self.way.session.memory.drop(_key(point))
        first = next(iter(self.refused.values()))
        raise LoginError(first if len(self.refused) == 1 else f"all {len(self.refused)} usage points are refused; {first}")

    def shortfall(self) -> list[Shortfall]:
        """Give what failed, the wait the source asks for before all else; raises it when nothing was answered."""
        failures = sorted(self.failures, key=lambda failure: not isinstance(failure, RateLimitError))
        if failures and not self.answered:
            raise failures[0]
        return [Shortfall(failures[0])] if failures else []


def _key(point: Point) -> str:
    return f"refused:{point.prm}"
