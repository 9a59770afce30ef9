"""Dates and times in texts and numbers, moved or invented, in the form they were written in.

They are moved by 28 years, after which the calendar repeats: a day keeps its weekday and its place in the month, and the
night in which a clock changes stays one. What lies years from the visit (a birthday, the beginning of a contract) is invented.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

MOVE = timedelta(days=28 * 365 + 7)
MAX_PAST, MAX_FUTURE = timedelta(days=1500), timedelta(days=1200)
"""Portals keep readings for about three years, and consents last as long."""
NEVER = frozenset({"0001-01-01", "1900-01-01", "1970-01-01", "9999-12-31"})
"""What databases write for no date at all."""
_EPOCH, _EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DATE_PATTERN = re.compile(
    r"(?<![\w.-])(?:"
    rf"(?P<iso>(?P<year>\d{{4}})-(?P<month>\d\d|{'|'.join(_MONTH_NAMES)})-(?P<day>\d\d))(?!\d)"
    r"(?:(?P<between>[T ])(?P<time>\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)(?P<offset>Z|[+-]\d\d:?\d\d)?)?(?!\d)"
    r"|(?P<european>(?P<day2>\d\d)(?P<dot>[./-])(?P<month2>\d\d)(?P=dot)(?P<year2>\d{4}))(?!\d)"
    r"|(?P<whole_month>(?P<year3>\d{4})-(?P<month3>\d\d))(?![\d-])"
    r")",
    re.ASCII,
)
_HTTP_DATE = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


@dataclass(frozen=True, slots=True)
class DateRedaction:
    """How the dates of one recording are changed: `draw` returns a stable number below a limit for a text."""

    now: datetime
    draw: Callable[[str, int], int]

    def redact_match(self, match: re.Match[str]) -> str | None:
        """Return what stands in the place of a match of `DATE_PATTERN`; None where it is no date of a calendar."""
        if match["iso"] in NEVER:
            return match[0]
        year = match["year"] or match["year2"] or match["year3"]
        month = match["month"] or match["month2"] or match["month3"]
        number = _MONTH_NAMES.index(month) + 1 if month in _MONTH_NAMES else int(month)
        try:
            written = datetime(int(year), number, int(match["day"] or match["day2"] or 1), tzinfo=UTC)
        except ValueError:
            return None
        moved = self.move(written)
        name = _MONTH_NAMES[moved.month - 1] if month in _MONTH_NAMES else f"{moved.month:02}"
        if match["whole_month"]:
            return f"{moved.year}-{name}"
        if match["european"]:
            return f"{moved.day:02}{match['dot']}{name}{match['dot']}{moved.year}"
        time = match["time"] or ""
        if moved - written != MOVE and re.search("[1-9]", time):
            time = f"{self.draw(time, 23):02}:{self.draw(f'minute {time}', 59):02}{time[5:]}"
        return f"{moved.year}-{name}-{moved.day:02}{match['between'] or ''}{time}{match['offset'] or ''}"

    def move(self, at: datetime) -> datetime:
        """Return an instant moved, or on an invented day where it lies years from the visit."""
        if -MAX_PAST <= at - self.now <= MAX_FUTURE:
            return at + MOVE
        years = self.draw(f"year {at}", 12) + 5
        year = (self.now + MOVE).year + (years if at > self.now else -years)
        return at.replace(year=year, month=1 + self.draw(f"month {at}", 12), day=1 + self.draw(f"day {at}", 28))

    def redact_number(self, text: str) -> str | None:
        """Return seconds or milliseconds since 1970 moved; None where they are neither."""
        whole, point, fraction = text.partition(".")
        if not (whole.isdecimal() and len(whole) < 16):
            return None
        for scale in (1, 1000):
            if _EARLIEST.timestamp() <= int(whole) / scale < _LATEST.timestamp():
                moved = self.move(_EPOCH + timedelta(seconds=int(whole)) / scale)
                return f"{(moved - _EPOCH) // timedelta(milliseconds=1) * scale // 1000}{point}{fraction}"
        return None

    def redact_http_date(self, text: str) -> str | None:
        """Return the date of a header such as Retry-After moved; None for anything else."""
        if not _HTTP_DATE.fullmatch(text):
            return None
        try:
            return format_datetime((parsedate_to_datetime(text) + MOVE).astimezone(UTC), usegmt=True)
        except (ValueError, OverflowError):
            return None
