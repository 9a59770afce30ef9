"""Belgian days and months, by which the portal's charts are drawn."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Brussels")


def day_start(day: date) -> datetime:
    """Return the instant at which a day begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).astimezone(UTC)


def local_day(at: datetime) -> date:
    """Return the day of an instant."""
    return at.astimezone(ZONE).date()


def previous_month(day: date) -> date:
    """Return the first day of the month before."""
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


def month_end(day: date) -> date:
    """Return the last day of the same month."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def parse_month_key(text: str) -> date:
    """Return the first day of the month "2026-03"; raise ValueError for anything else."""
    if not re.fullmatch("2[0-9]{3}-(0[1-9]|1[0-2])", text):
        raise ValueError("a month is written like 2026-03")
    return date.fromisoformat(f"{text}-01")
