"""When to visit: every hour of a local window, at a minute of our own, until yesterday is in; then tomorrow."""

import math
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from exporter.portals.enedis.stamps import PARIS
from exporter.session import Session

DAY = timedelta(days=1)
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """The local hours [opens, closes) in which visits happen."""

    opens: time
    closes: time

    @classmethod
    def read(cls, text: str) -> "Window":
        """Read "05:00-20:00". Raises ValueError."""
        if not (found := _WINDOW.fullmatch(text)):
            raise ValueError("is not a window of hours; write it like 05:00-20:00")
        window = cls(time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4])))
        if datetime.combine(date.min, window.closes) - datetime.combine(date.min, window.opens) < timedelta(hours=1):
            raise ValueError("must last an hour or more, and end on the day it begins")
        return window

    def moved_in(self, at: datetime, minutes: int) -> datetime:
        """Move an instant into the window; what lies outside comes so many minutes after the next opening."""
        local = at.astimezone(PARIS)
        if self.opens <= local.time() < self.closes:
            return at
        day = local.date() + (DAY if local.time() >= self.closes else timedelta(0))
        return _at(day, self.opens, timedelta(minutes=minutes))

    def slots(self, day: date, minute: int, every: timedelta) -> Iterator[datetime]:
        """Give the visits of a day: `every` from the first time in the window at that minute of the hour."""
        wait = timedelta(minutes=(minute - self.opens.minute) % 60)
        closes = _at(day, self.closes)
        while (slot := _at(day, self.opens, wait)) < closes:
            yield slot
            wait += every


def next_visit(window: Window, minute: int, every: timedelta, now: datetime, *, awaited: int, left: int) -> datetime:
    """Give the next visit: later today while so many series are awaited, else tomorrow's first.

    Where hourly visits would spend more than the calls that are `left`, some hours are passed over.
    """
    day = now.astimezone(PARIS).date()
    # A visit made by hand just before a slot stands for it.
    slots = [slot for slot in window.slots(day, minute, every) if slot - now >= every / 2]
    if not awaited or not slots:
        return next(window.slots(day + DAY, minute, every))
    stride = math.ceil(awaited * len(slots) / left) if left else len(slots)
    return slots[min(stride, len(slots)) - 1]


async def own_minute(session: Session) -> int:
    """Give the minute of the hour of this installation: chosen at random once, so that not all ask at the same time."""
    if (kept := await session.memory.get("minute", session.now)) is None:
        kept = secrets.randbelow(60)
        await session.memory.put("minute", kept)
    return int(kept)


def _at(day: date, clock: time, later: timedelta = timedelta(0)) -> datetime:
    return (datetime.combine(day, clock) + later).replace(tzinfo=PARIS).astimezone(UTC)
