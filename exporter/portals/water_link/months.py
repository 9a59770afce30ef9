"""The calendar of Belgian days and months that the portal's charts are drawn by."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Brussels")


def midnight(day: date) -> datetime:
    """The instant a day begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).astimezone(UTC)


def local_day(at: datetime) -> date:
    """The day an instant falls on."""
    return at.astimezone(ZONE).date()


def month_before(day: date) -> date:
    """The first day of the month before."""
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


def month_end(day: date) -> date:
    """The last day of the same month."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def months_back(first: date, last: date) -> list[date]:
    """The first days of the months that hold [first, last], newest first."""
    months, month = list[date](), last.replace(day=1)
    while first <= last and month >= first.replace(day=1):
        months.append(month)
        month = month_before(month)
    return months


def read_month(text: str) -> date:
    """Read "2026-03" as the first day of that month. Raises ValueError."""
    if not re.fullmatch("2[0-9]{3}-(0[1-9]|1[0-2])", text):
        raise ValueError("a month is written like 2026-03")
    return date.fromisoformat(f"{text}-01")
