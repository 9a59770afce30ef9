"""How far a series of a usage point has been read: kept over restarts, so that nothing is asked twice."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from exporter.client.session import Session
from exporter.models import DAY, Index, Interval, Reading, StateUpdate
from exporter.portals.enedis.measures import Measure, MeasureKind
from exporter.portals.enedis.refusals import RetryNextDayError, RetryNextWeekError
from exporter.portals.enedis.timestamps import day_start, local_day

MAX_PAUSE = timedelta(days=7)
DaySpan = tuple[date, date]
"""First and last local day, both included."""


@dataclass(slots=True)
class SeriesProgress:
    """What is known of a series.

    `newest` is its newest whole day, `floor` the day before which nothing exists, `covered` the days that need not be requested
    again, `idle` a day on which no more is expected, `off_until` and `pause_reason` a pause that the source asked for.
    """

    prm: str
    measure: Measure
    max_days: int
    covered: list[DaySpan] = field(default_factory=list)
    newest: date | None = None
    floor: date | None = None
    idle: date | None = None
    off_until: date | None = None
    pause_reason: str = ""
    empty_calls: int = 0

    def is_due(self, today: date) -> bool:
        """Whether yesterday is still to come."""
        return not (self.newest and self.newest >= today - DAY) and self.idle != today and not self.is_paused(today)

    def is_paused(self, today: date) -> bool:
        """Whether the source has said that there is nothing to ask for now."""
        return self.off_until is not None and today < self.off_until

    def pause_after(self, refusal: RetryNextDayError | RetryNextWeekError, today: date) -> None:
        """Do not ask for as long as the source's refusal is likely to last."""
        self.pause_reason, self.off_until = (
            str(refusal),
            today + (MAX_PAUSE if isinstance(refusal, RetryNextWeekError) else DAY),
        )

    def record_newest_days(self, readings: Sequence[Reading], first: date, today: date) -> None:
        """Take note of what the newest days brought; a series that stands still is left alone until tomorrow."""
        self.off_until, self.pause_reason = None, ""
        if (newest := find_newest_whole_day(self.measure, readings)) is not None:
            self.newest = max(newest, self.newest or newest)
            self.mark_covered(first, newest)
        if self.newest is None or (today - self.newest).days > self.measure.limits.stale_after_days:
            self.idle = today

    def record_older_days(self, readings: Sequence[Reading], first: date, last: date, settled: date) -> None:
        """Take note of what older days brought; many calls in vain mean that the series begins after them.

        Days after `settled` that did not come may still come.
        """
        self.mark_covered(first, min(last, max(settled, find_newest_whole_day(self.measure, readings) or settled)))
        if (last - first).days < self.max_days // 2:
            return
        self.empty_calls = 0 if readings else self.empty_calls + 1
        if self.empty_calls >= self.measure.limits.max_empty_calls:
            self.raise_floor(last + DAY)

    def raise_floor(self, floor: date) -> None:
        """Nothing exists before `floor`."""
        self.floor = max(floor, self.floor or floor)

    def mark_covered(self, first: date, last: date) -> None:
        """Days [first, last] need not be asked again."""
        merged: list[DaySpan] = []
        for span in sorted([*self.covered, (first, last)]) if first <= last else self.covered:
            if merged and span[0] <= merged[-1][1] + DAY:
                merged[-1] = merged[-1][0], max(merged[-1][1], span[1])
            else:
                merged.append(span)
        self.covered = merged

    def list_missing(self, first: date, last: date) -> Iterator[DaySpan]:
        """Return what of [first, last] was never asked, newest first, each within one call.

        Calls lie on a grid that does not move with the days, so that they are the same ones tomorrow.
        """
        first = max(first, self.floor or first)
        while last >= first:
            start = max(date.fromordinal(last.toordinal() // self.max_days * self.max_days), first)
            yield from reversed(list(self._list_uncovered(start, last)))
            last = start - DAY

    def _list_uncovered(self, first: date, last: date) -> Iterator[DaySpan]:
        for known_first, known_last in self.covered:
            if known_first > last or known_last < first:
                continue
            if first < known_first:
                yield first, known_first - DAY
            first = known_last + DAY
        if first <= last:
            yield first, last

    def forget_ahead(self, today: date) -> None:
        """Forget what only a clock that ran ahead can have said: days to come, and a beginning or a pause among them."""
        if self.newest and self.newest > today:
            self.newest = None
        if self.floor and self.floor > today:
            self.floor, self.empty_calls = None, 0
        if self.off_until and self.off_until > today + MAX_PAUSE:
            self.off_until, self.pause_reason = None, ""
        self.covered = [(first, min(last, today)) for first, last in self.covered if first <= today]

    def build_state_update(self) -> StateUpdate:
        """Return the state to store with the readings."""
        days = {"newest": self.newest, "floor": self.floor, "idle": self.idle, "off_until": self.off_until}
        value: dict[str, Any] = {name: day.isoformat() for name, day in days.items() if day}
        value |= {"longest": self.max_days, "empty": self.empty_calls, "off_why": self.pause_reason}
        return StateUpdate(
            _progress_key(self.prm, self.measure), value | {"asked": [[str(first), str(last)] for first, last in self.covered]}
        )


async def load_progress(session: Session, prm: str, measure: Measure) -> SeriesProgress:
    """Return the stored progress of a series, or an empty one."""
    stored = await session.store.get(_progress_key(prm, measure), session.now)
    progress = SeriesProgress(prm, measure, measure.limits.max_days_per_call)
    if not stored:
        return progress
    for name in ("newest", "floor", "idle", "off_until"):
        setattr(progress, name, date.fromisoformat(stored[name]) if name in stored else None)
    progress.max_days, progress.empty_calls, progress.pause_reason = stored["longest"], stored["empty"], stored["off_why"]
    progress.covered = [(date.fromisoformat(first), date.fromisoformat(last)) for first, last in stored["asked"]]
    progress.forget_ahead(local_day(session.now))
    return progress


async def store_progress(session: Session, progress: SeriesProgress) -> None:
    """Keep at once what no reading hangs on: that there is nothing."""
    update = progress.build_state_update()
    await session.store.put(update.key, update.value)


def find_newest_whole_day(measure: Measure, readings: Sequence[Reading]) -> date | None:
    """Return the newest day that is whole: of a load curve, one whose last interval ends at midnight."""
    if measure.kind is MeasureKind.CURVE:
        ends = [reading.end for reading in readings if isinstance(reading, Interval)]
        days = [local_day(end) - DAY for end in ends if day_start(local_day(end)) == end]
    else:
        days = [local_day(reading.at if isinstance(reading, Index) else reading.start) for reading in readings]
    return max(days, default=None)


def hash_prm(prm: str) -> str:
    """Return a name of a usage point that does not reveal its PRM."""
    return hashlib.sha256(prm.encode()).hexdigest()[:12]


def _progress_key(prm: str, measure: Measure) -> str:
    return f"{measure.key}:{prm}"
