"""Metering days: local midnight to midnight, for gas 06:00 to 06:00, and how a range of them is written in a query."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from exporter.models import DAY, Commodity

ZONE = ZoneInfo("Europe/Brussels")


def day_start(day: date, commodity: Commodity) -> datetime:
    """Return the instant (UTC) at which a metering day begins."""
    hour = 6 if commodity is Commodity.GAS else 0
    return datetime.combine(day, time(hour), ZONE).astimezone(UTC)


def metering_day(at: datetime, commodity: Commodity) -> date:
    """Return the metering day of an instant."""
    wall = at.astimezone(ZONE).replace(tzinfo=None)
    return (wall - timedelta(hours=6 if commodity is Commodity.GAS else 0)).date()


def last_complete_day(now: datetime, commodity: Commodity) -> date:
    """Return the newest metering day that has ended."""
    return metering_day(now, commodity) - DAY


def month_start(month: date) -> datetime:
    """Return the instant (UTC) at which the calendar month of a day begins."""
    return day_start(month.replace(day=1), Commodity.ELECTRICITY)


def subtract_months(month: date, count: int) -> date:
    """Return the first day of the month that lies `count` months before that of a day."""
    index = month.year * 12 + month.month - 1 - count
    return date(index // 12, index % 12 + 1, 1)


@dataclass(frozen=True, slots=True)
class DayRange:
    """The metering days [first, last]."""

    first: date
    last: date
    commodity: Commodity

    @property
    def start(self) -> datetime:
        """The instant at which it begins (UTC)."""
        return day_start(self.first, self.commodity)

    @property
    def end(self) -> datetime:
        """The instant at which it ends (UTC)."""
        return day_start(self.last + DAY, self.commodity)

    def extend_one_day_back(self) -> "DayRange":
        """Return the range that begins one day earlier."""
        return DayRange(self.first - DAY, self.last, self.commodity)

    def format_local_query(self) -> Mapping[str, str]:
        """Return the query of the API of 2025: local times, each with its own offset, the last millisecond included."""
        last = self.end - timedelta(milliseconds=1)
        return {
            name: at.astimezone(ZONE).isoformat(timespec="milliseconds")
            for name, at in zip(_QUERY_KEYS, (self.start, last), strict=True)
        }

    def format_utc_query(self) -> Mapping[str, str]:
        """Return the query of the API of 2024: UTC, the end excluded."""
        return {name: f"{at:%Y-%m-%dT%H:%M:%SZ}" for name, at in zip(_QUERY_KEYS, (self.start, self.end), strict=True)}


_QUERY_KEYS = "historyFrom", "historyUntil"
