"""When to visit: every hour of a local window, at a fixed minute, until yesterday is complete; then tomorrow."""

import math
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from exporter.client.session import Session
from exporter.models import DAY
from exporter.portals.enedis.timestamps import PARIS

_WINDOW_PATTERN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class VisitWindow:
    """The local hours [opens, closes) in which visits happen."""

    opens: time
    closes: time

    @classmethod
    def parse(cls, text: str) -> "VisitWindow":
        """Parse "05:00-20:00". Raise ValueError."""
        if not (found := _WINDOW_PATTERN.fullmatch(text)):
            raise ValueError("is not a window of hours; write it like 05:00-20:00")
        window = cls(time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4])))
        if datetime.combine(date.min, window.closes) - datetime.combine(date.min, window.opens) < timedelta(hours=1):
            raise ValueError("must last an hour or more, and end on the day it begins")
        return window

    def move_inside(self, at: datetime, minutes: int) -> datetime:
        """Return an instant inside the window; one outside moves to so many minutes after the next opening."""
        local = at.astimezone(PARIS)
        if self.opens <= local.time() < self.closes:
            return at
        day = local.date() + (DAY if local.time() >= self.closes else timedelta(0))
        return _local_instant(day, self.opens, timedelta(minutes=minutes))

    def list_visits(self, day: date, minute: int, every: timedelta) -> Iterator[datetime]:
        """Return the visits of a day: `every` from the first time in the window at that minute of the hour."""
        wait = timedelta(minutes=(minute - self.opens.minute) % 60)
        closes = _local_instant(day, self.closes)
        while (slot := _local_instant(day, self.opens, wait)) < closes:
            yield slot
            wait += every


def choose_next_visit(
    window: VisitWindow, minute: int, every: timedelta, now: datetime, *, awaited: int, remaining: int
) -> datetime:
    """Return the next visit: later today while so many series are awaited, else tomorrow's first.

    Where hourly visits would spend more than the `remaining` calls, some hours are skipped.
    """
    day = now.astimezone(PARIS).date()
    # A manual visit just before a slot replaces it.
    slots = [slot for slot in window.list_visits(day, minute, every) if slot - now >= every / 2]
    if not awaited or not slots:
        return next(window.list_visits(day + DAY, minute, every))
    stride = math.ceil(awaited * len(slots) / remaining) if remaining else len(slots)
    return slots[min(stride, len(slots)) - 1]


async def load_own_minute(session: Session) -> int:
    """Return the minute of the hour of this installation, chosen at random once to spread the load."""
    if (minute := await session.store.get("minute", session.now)) is None:
        minute = secrets.randbelow(60)
        await session.store.put("minute", minute)
    return int(minute)


def _local_instant(day: date, clock: time, offset: timedelta = timedelta(0)) -> datetime:
    return (datetime.combine(day, clock) + offset).replace(tzinfo=PARIS).astimezone(UTC)
