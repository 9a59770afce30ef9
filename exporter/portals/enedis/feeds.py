"""The feeds of an account, one for each series of a usage point, and reading some days of one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from exporter.errors import FeedRefusedError, LoginError, NoDataError
from exporter.models import DAY
from exporter.portals.base import build_skip_notes
from exporter.portals.enedis.client import EnedisApiClient, describe_call
from exporter.portals.enedis.contract import ContractTerms
from exporter.portals.enedis.measures import ConfiguredPoint, Measure, MeasureKind
from exporter.portals.enedis.refusals import ConsentError, SeriesOutageError
from exporter.portals.enedis.timestamps import PARIS
from exporter.sync.feeds import Days, Feed, FeedResult, Form

REFUSAL_PAUSE = timedelta(hours=23)
"""A series without consent is asked for again at the same hour of the next day."""
OUTAGE_PAUSE = timedelta(hours=3)
"""A load curve that fails: with its collection switched off, for months."""
FORMS = {
    MeasureKind.DAYS: Form.INTERVAL,
    MeasureKind.MAX: Form.PEAK,
    MeasureKind.INDEX: Form.INDEX,
    MeasureKind.CURVE: Form.INTERVAL,
}
CURVE_OFF_NOTE = (
    "no load curve comes: when days do, its recording in the meter and its hourly collection are probably off; "
    'both are switched on in the customer\'s account at Enedis, on the page "enregistrement et collecte"'
)
EMPTY_NOTE = "nothing comes: check that the meter is a communicating one, that the consent is effective, and the number"
STOPPED_NOTES = {MeasureKind.CURVE: "no load curve comes any more: check whether its hourly collection was switched off"}
DEFAULT_STOPPED_NOTE = "nothing comes any more: check whether the contract ended, or has another holder"


def build_feed(point: ConfiguredPoint, measure: Measure, begins: date | None) -> Feed:
    """Return the feed of a series."""
    is_curve = measure.kind is MeasureKind.CURVE
    return Feed(
        key=f"{measure.key}:{hashlib.sha256(point.prm.encode()).hexdigest()[:12]}",
        zone=PARIS,
        chunk=Days(measure.max_days_per_call),
        usage_points=(point.prm,),
        form=FORMS[measure.kind],
        resolution="PT30M" if is_curve else "P1D",
        other_resolutions=("PT5M", "PT10M", "PT15M", "PT1H") if is_curve else (),
        direction=measure.direction,
        reach=measure.history,
        start_hint=begins,
        priority=int(is_curve),
        label=describe_call(point, measure.key),
        if_empty=CURVE_OFF_NOTE if is_curve else EMPTY_NOTE,
        if_stopped=STOPPED_NOTES.get(measure.kind, DEFAULT_STOPPED_NOTE),
    )


@dataclass(slots=True)
class EnedisFeeds:
    """The feeds of one account. What it remembers is of this process only."""

    points: Sequence[ConfiguredPoint]
    _terms: dict[ConfiguredPoint, ContractTerms] = field(default_factory=dict)
    """The contracts, as of the last visit."""
    _refused: dict[str, ConsentError] = field(default_factory=dict)
    """By feed: the refusal of its last request."""
    _refused_points: dict[ConfiguredPoint, tuple[ConsentError, datetime]] = field(default_factory=dict)
    """What was refused for all series of a usage point, and until when no other one is asked for."""
    _silent: set[str] = field(default_factory=set)
    """Feeds whose last response shows neither consent nor its absence."""
    _newest: dict[str, date] = field(default_factory=dict)
    """By feed: the newest day of which something came."""

    @property
    def series(self) -> dict[str, tuple[ConfiguredPoint, Measure]]:
        """The series that are read, by the keys of their feeds."""
        listed = ((point, measure) for point in self.points for measure in point.measures)
        return {build_feed(point, measure, None).key: (point, measure) for point, measure in listed}

    def record_terms(self, point: ConfiguredPoint, terms: ContractTerms) -> None:
        """Record the terms of a contract: hints where feeds begin."""
        self._terms[point] = terms

    def list_feeds(self) -> list[Feed]:
        """Return the feeds; the dates of contracts are hints where they begin."""
        found = self.series.values()
        return [
            build_feed(point, measure, self._terms.get(point, ContractTerms()).get_start(measure)) for point, measure in found
        ]

    def count_awaited(self, today: date) -> int:
        """Return how many feeds are not known to have yesterday."""
        return sum(self._newest.get(key, date.min) < today - DAY for key in self.series.keys() - self._refused.keys())

    async def read(self, client: EnedisApiClient, feed: Feed, first: date, last: date) -> FeedResult:
        """Return the readings of local days [first, last] of a feed. Raise PortalErrors.

        A series without consent is refused by itself; when all are, so is the login.
        """
        point, measure = self.series[feed.key]
        now = client.session.now
        self._raise_if_point_is_refused(feed.key, point, now)
        try:
            await client.check_access(point)
            found = await client.fetch_measure(point, measure, first, last + DAY)
        except ConsentError as refusal:
            self._record_refusal(feed.key, point, refusal, now)
            raise FeedRefusedError(str(refusal), now + REFUSAL_PAUSE) from None
        except SeriesOutageError as outage:
            if measure.kind is not MeasureKind.CURVE:
                raise
            raise FeedRefusedError(f"{outage}; {CURVE_OFF_NOTE}", now + OUTAGE_PAUSE) from None
        except FeedRefusedError:
            self._record_silence(feed.key)
            raise
        except NoDataError:
            if client.hides_curve_refusals and measure.kind is MeasureKind.CURVE:
                self._record_silence(feed.key)
            else:
                self._refused.pop(feed.key, None)
            return FeedResult(requests=client.calls_made)
        self._refused.pop(feed.key, None)
        self._silent.discard(feed.key)
        newest = feed.day_at(round(max(period[0] for reading in found.readings if (period := feed.period(reading)))))
        self._newest[feed.key] = max(date.fromordinal(newest), self._newest.get(feed.key, date.min))
        notes = build_skip_notes(describe_call(point, measure.key), found.skipped)
        return FeedResult(found.readings, notes, found.skipped.total(), client.calls_made)

    def _raise_if_point_is_refused(self, key: str, point: ConfiguredPoint, now: datetime) -> None:
        refusal, until = self._refused_points.get(point, (None, now))
        if refusal and now < until:
            self._refused[key] = refusal
            self._raise_if_all_refused()
            raise FeedRefusedError(str(refusal), until)

    def _record_refusal(self, key: str, point: ConfiguredPoint, refusal: ConsentError, now: datetime) -> None:
        self._refused[key] = refusal
        self._silent.discard(key)
        if refusal.is_whole_point:
            self._refused_points[point] = refusal, now + OUTAGE_PAUSE
            self._refused |= {key: refusal for key, (other, _) in self.series.items() if other == point}
        self._raise_if_all_refused()

    def _record_silence(self, key: str) -> None:
        self._refused.pop(key, None)
        self._silent.add(key)
        self._raise_if_all_refused()

    def _raise_if_all_refused(self) -> None:
        """Raise LoginError when every series that could be is refused; the next visit then tries them all."""
        if not self._refused or self.series.keys() - self._refused.keys() - self._silent:
            return
        first = next(iter(self._refused.values()))
        self._refused.clear()
        self._refused_points.clear()
        raise LoginError(str(first) if len(self.points) == 1 else f"all {len(self.points)} usage points are refused; {first}")
