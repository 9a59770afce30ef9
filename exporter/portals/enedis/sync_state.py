"""The state of a visit: refused usage points, failures, and whether the portal responds at all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from exporter.errors import LoginError, PortalError, RateLimitError, UnreachableError
from exporter.models import Note, PartialFailure
from exporter.portals.enedis.client import ConfiguredPoint, EnedisApiClient
from exporter.portals.enedis.progress import SeriesProgress, load_progress
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.timestamps import local_day

REFUSAL_PAUSE = timedelta(hours=23)
"""A refused usage point is tried again at the same hour of the next day."""
MAX_UNANSWERED_CALLS = 3
"""So many consecutive calls without a response mean that the portal is unreachable."""


@dataclass(slots=True)
class SyncState:
    """The state of one visit: its client, its usage points and the progress of each of their series."""

    client: EnedisApiClient
    series: dict[ConfiguredPoint, list[SeriesProgress]]
    today: date
    refusals: dict[ConfiguredPoint, str] = field(default_factory=dict)
    failures: list[PortalError] = field(default_factory=list)
    access_expiries: list[datetime] = field(default_factory=list)
    activation_days: dict[ConfiguredPoint, date | None] = field(default_factory=dict)
    has_response: bool = False
    unanswered_calls: int = 0

    @classmethod
    async def load(cls, client: EnedisApiClient, points: Sequence[ConfiguredPoint]) -> "SyncState":
        """Load the progress of all series, the usage points that waited longest first, so that a small quota serves each."""
        records: dict[ConfiguredPoint, list[SeriesProgress]] = {}
        for point in points:
            offered = [measure for measure in point.measures if client.offers(measure)]
            records[point] = [await load_progress(client.session, point.prm, measure) for measure in offered]
        waiting = sorted(points, key=lambda point: records[point][0].newest or date.min)
        return cls(client, {point: records[point] for point in waiting}, local_day(client.session.now))

    @property
    def open_points(self) -> list[ConfiguredPoint]:
        """The usage points that were not refused."""
        return [point for point in self.series if point not in self.refusals]

    @property
    def awaited_series(self) -> int:
        """How many series lack yesterday."""
        return sum(progress.is_due(self.today) for point in self.open_points for progress in self.series[point])

    @property
    def is_stopped(self) -> bool:
        """Whether the visit makes no more calls."""
        return self.unanswered_calls >= MAX_UNANSWERED_CALLS or any(
            isinstance(failure, RateLimitError) for failure in self.failures
        )

    def record_response(self) -> None:
        """Record a response, also one without data."""
        self.has_response, self.unanswered_calls = True, 0

    def record_failure(self, failure: PortalError) -> None:
        """Record the failure of a part. Raise a LoginError that concerns all usage points."""
        if isinstance(failure, LoginError):
            raise failure
        self.failures.append(failure)
        self.unanswered_calls = self.unanswered_calls + 1 if isinstance(failure, UnreachableError) else 0

    async def record_refusal(self, point: ConfiguredPoint, refusal: ConsentError) -> Note:
        """Pause a usage point for a day and return the note about it."""
        self.refusals[point] = str(refusal)
        await self.client.session.store.put(_refusal_key(point), str(refusal), self.client.session.now + REFUSAL_PAUSE)
        return Note(str(refusal))

    async def recall_refusal(self, point: ConfiguredPoint) -> Note | None:
        """Return the note about a paused usage point, None for any other."""
        reason = await self.client.session.store.get(_refusal_key(point), self.client.session.now)
        if reason is None:
            return None
        self.refusals[point] = reason
        return Note(reason)

    async def raise_if_all_refused(self) -> None:
        """Raise LoginError when every usage point is refused; the next visit then tries them all."""
        if self.open_points:
            return
        for point in self.series:
            await self.client.session.store.delete(_refusal_key(point))
        first = next(iter(self.refusals.values()))
        raise LoginError(first if len(self.refusals) == 1 else f"all {len(self.refusals)} usage points are refused; {first}")

    def list_failures(self) -> list[PartialFailure]:
        """Return the first failure, a rate limit before all others. Raise it when there was no response at all."""
        failures = sorted(self.failures, key=lambda failure: not isinstance(failure, RateLimitError))
        if failures and not self.has_response:
            raise failures[0]
        return [PartialFailure(failures[0])] if failures else []


def _refusal_key(point: ConfiguredPoint) -> str:
    return f"refused:{point.prm}"
