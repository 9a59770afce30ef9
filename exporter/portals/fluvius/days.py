"""Fluvius's days: local midnight to midnight, for gas 06:00 to 06:00, and the words in which a window of them is asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from exporter.model import DAY, Commodity

ZONE = ZoneInfo("Europe/Brussels")


def edge(day: date, commodity: Commodity) -> datetime:
    """Give the instant (UTC) at which a metering day begins."""
    hour = 6 if commodity is Commodity.GAS else 0
    return datetime.combine(day, time(hour), ZONE).astimezone(UTC)


def day_of(at: datetime, commodity: Commodity) -> date:
    """Name the metering day an instant lies in."""
    wall = at.astimezone(ZONE).replace(tzinfo=None)
    return (wall - timedelta(hours=6 if commodity is Commodity.GAS else 0)).date()


def last_whole_day(now: datetime, commodity: Commodity) -> date:
    """Name the newest metering day that has ended."""
    return day_of(now, commodity) - DAY


def month_edge(month: date) -> datetime:
    """Give the instant (UTC) at which the calendar month of a day begins."""
    return edge(month.replace(day=1), Commodity.ELECTRICITY)


def months_before(month: date, count: int) -> date:
    """Give the first day of the month that lies `count` months before that of a day."""
    index = month.year * 12 + month.month - 1 - count
    return date(index // 12, index % 12 + 1, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """The metering days [first, last]."""

    first: date
    last: date
    commodity: Commodity

    @property
    def start(self) -> datetime:
        """Where it begins (UTC)."""
        return edge(self.first, self.commodity)

    @property
    def end(self) -> datetime:
        """Where it has ended (UTC)."""
        return edge(self.last + DAY, self.commodity)

    def __iter__(self) -> Iterator[date]:
        """Give its days, the newest first."""
        return (self.last - timedelta(days=n) for n in range((self.last - self.first).days + 1))

    def with_day_before(self) -> "Window":
        """Begin one day earlier."""
        return Window(self.first - DAY, self.last, self.commodity)

    def local(self) -> Mapping[str, str]:
        """Say it as the API of 2025 wants it: local, each end with its own offset, the last millisecond included."""
        last = self.end - timedelta(milliseconds=1)
        return {
            name: at.astimezone(ZONE).isoformat(timespec="milliseconds")
            for name, at in zip(_ENDS, (self.start, last), strict=True)
        }

    def utc(self) -> Mapping[str, str]:
        """Say it as the API of 2024 wants it: UTC, the end excluded."""
        return {name: f"{at:%Y-%m-%dT%H:%M:%SZ}" for name, at in zip(_ENDS, (self.start, self.end), strict=True)}


_ENDS = "historyFrom", "historyUntil"
