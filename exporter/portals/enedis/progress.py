"""How far a series of a usage point has been read: kept over restarts, so that nothing is asked twice."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from exporter.model import Index, Interval, Reading, Remember
from exporter.portals.enedis.measures import Kind, Measure
from exporter.portals.enedis.refusals import WaitDayError, WaitWeekError
from exporter.portals.enedis.stamps import local_day, midnight
from exporter.session import Session

DAY = timedelta(days=1)
LONGEST_PAUSE = timedelta(days=7)
Days = tuple[date, date]
"""First and last local day, both included."""


@dataclass(slots=True)
class Progress:
    """What is known of a series.

    `newest` is its newest whole day, `floor` the day before which nothing exists, `asked` the days that need not be asked
    again, `idle` a day on which no more is expected, `off_until` and `off_why` a pause that the source asked for.
    """

    prm: str
    measure: Measure
    longest: int
    asked: list[Days] = field(default_factory=list)
    newest: date | None = None
    floor: date | None = None
    idle: date | None = None
    off_until: date | None = None
    off_why: str = ""
    empty: int = 0

    def due(self, today: date) -> bool:
        """Whether yesterday is still to come."""
        return not (self.newest and self.newest >= today - DAY) and self.idle != today and not self.off(today)

    def off(self, today: date) -> bool:
        """Whether the source has said that there is nothing to ask for now."""
        return self.off_until is not None and today < self.off_until

    def pause_after(self, refusal: WaitDayError | WaitWeekError, today: date) -> None:
        """Do not ask for as long as the source's refusal is likely to last."""
        self.off_why, self.off_until = str(refusal), today + (LONGEST_PAUSE if isinstance(refusal, WaitWeekError) else DAY)

    def took_week(self, readings: Sequence[Reading], first: date, today: date) -> None:
        """Take note of what the newest days brought; a series that stands still is left alone until tomorrow."""
        self.off_until, self.off_why = None, ""
        if (newest := newest_day(self.measure, readings)) is not None:
            self.newest = max(newest, self.newest or newest)
            self.cover(first, newest)
        if self.newest is None or (today - self.newest).days > self.measure.limits.patience:
            self.idle = today

    def took_past(self, readings: Sequence[Reading], first: date, last: date, settled: date) -> None:
        """Take note of what older days brought; many calls in vain mean that the series begins after them.

        Days after `settled` that did not come may still come.
        """
        self.cover(first, min(last, max(settled, newest_day(self.measure, readings) or settled)))
        if (last - first).days < self.longest // 2:
            return
        self.empty = 0 if readings else self.empty + 1
        if self.empty >= self.measure.limits.empty_calls:
            self.rise(last + DAY)

    def rise(self, floor: date) -> None:
        """Nothing exists before `floor`."""
        self.floor = max(floor, self.floor or floor)

    def cover(self, first: date, last: date) -> None:
        """Days [first, last] need not be asked again."""
        merged: list[Days] = []
        for span in sorted([*self.asked, (first, last)]) if first <= last else self.asked:
            if merged and span[0] <= merged[-1][1] + DAY:
                merged[-1] = merged[-1][0], max(merged[-1][1], span[1])
            else:
                merged.append(span)
        self.asked = merged

    def missing(self, first: date, last: date) -> Iterator[Days]:
        """Give what of [first, last] was never asked, newest first, each within one call.

        Calls lie on a grid that does not move with the days, so that they are the same ones tomorrow.
        """
        first = max(first, self.floor or first)
        while last >= first:
            start = max(date.fromordinal(last.toordinal() // self.longest * self.longest), first)
            yield from reversed(list(self._unasked(start, last)))
            last = start - DAY

    def _unasked(self, first: date, last: date) -> Iterator[Days]:
        for known_first, known_last in self.asked:
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
            self.floor, self.empty = None, 0
        if self.off_until and self.off_until > today + LONGEST_PAUSE:
            self.off_until, self.off_why = None, ""
        self.asked = [(first, min(last, today)) for first, last in self.asked if first <= today]

    def remember(self) -> Remember:
        """Say what is to be kept with the readings."""
        days = {"newest": self.newest, "floor": self.floor, "idle": self.idle, "off_until": self.off_until}
        value: dict[str, Any] = {name: day.isoformat() for name, day in days.items() if day}
        value |= {"longest": self.longest, "empty": self.empty, "off_why": self.off_why}
        return Remember(_key(self.prm, self.measure), value | {"asked": [[str(first), str(last)] for first, last in self.asked]})


async def recall(session: Session, prm: str, measure: Measure) -> Progress:
    """Give what is kept of a series, or an empty record."""
    kept = await session.memory.get(_key(prm, measure), session.now)
    progress = Progress(prm, measure, measure.limits.longest)
    if not kept:
        return progress
    for name in ("newest", "floor", "idle", "off_until"):
        setattr(progress, name, date.fromisoformat(kept[name]) if name in kept else None)
    progress.longest, progress.empty, progress.off_why = kept["longest"], kept["empty"], kept["off_why"]
    progress.asked = [(date.fromisoformat(first), date.fromisoformat(last)) for first, last in kept["asked"]]
    progress.forget_ahead(local_day(session.now))
    return progress


async def keep(session: Session, progress: Progress) -> None:
    """Keep at once what no reading hangs on: that there is nothing."""
    told = progress.remember()
    await session.memory.put(told.key, told.value)


def newest_day(measure: Measure, readings: Sequence[Reading]) -> date | None:
    """Give the newest day that is whole: of a load curve, one whose last interval ends at midnight."""
    if measure.kind is Kind.CURVE:
        ends = [reading.end for reading in readings if isinstance(reading, Interval)]
        days = [local_day(end) - DAY for end in ends if midnight(local_day(end)) == end]
    else:
        days = [local_day(reading.at if isinstance(reading, Index) else reading.start) for reading in readings]
    return max(days, default=None)


def mark(prm: str) -> str:
    """Name a usage point where its number should not stand."""
    return hashlib.sha256(prm.encode()).hexdigest()[:12]


def _key(prm: str, measure: Measure) -> str:
    return f"{measure.key}:{prm}"
