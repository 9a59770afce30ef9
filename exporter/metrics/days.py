"""The days of a usage point: the latest complete one, sums up to it, and the holes."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger import Look, SeriesRow
from exporter.metrics.families import amount
from exporter.model import Direction, Unit

LATE = timedelta(days=14)
"""A line of days that has been silent this long no longer holds back the others' latest complete day."""
DAY = timedelta(days=1)
GAPS_SEEN = 60
FAR = datetime(9000, 1, 1, tzinfo=UTC)

_AMOUNTS: Mapping[tuple[str, str], str] = {
    (Unit.KWH, Direction.CONSUMPTION): "consumption_kwh",
    (Unit.M3, Direction.CONSUMPTION): "consumption_m3",
    (Unit.KWH, Direction.INJECTION): "injection_kwh",
}


@dataclass(frozen=True, slots=True)
class Lane:
    """The days of one direction in one unit, over all its registers."""

    direction: Direction
    unit: str
    registers: Mapping[str, Mapping[date, float]]
    first: date
    known: frozenset[date]


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a usage point: the latest that is complete in all lanes, sums up to it, and the holes."""

    lanes: tuple[Lane, ...]
    latest: date
    newest: date
    start: datetime
    end: datetime
    """Start of the latest complete day; end of the newest day of any lane."""

    @classmethod
    def of(cls, look: Look, lines: Iterable[SeriesRow], zone: ZoneInfo) -> "Days | None":
        """Read the days since the January before the newest day's year."""
        grouped: dict[tuple[Direction, str], list[SeriesRow]] = defaultdict(list)
        for line in lines:
            grouped[line.direction, line.unit].append(line)
        newest = [look.newest(line.id)[0] for group in grouped.values() for line in group]
        if not newest:
            return None
        end = max(day.end for day in newest)
        since = datetime(max(day.at for day in newest).astimezone(zone).year - 1, 1, 1, tzinfo=zone)
        starts: dict[date, datetime] = {}
        lanes = tuple(_lane(look, key, group, since, zone, starts) for key, group in grouped.items())
        latest = _latest_complete(lanes)
        return cls(lanes, latest, max(starts), starts[latest], end)

    def amounts(self) -> Iterator[tuple[str, str, float]]:
        """Give family, register and value of every sum up to the latest complete day."""
        this_month, this_year = self.latest.replace(day=1), self.latest.replace(month=1, day=1)
        month_before, year_before = (this_month - DAY).replace(day=1), this_year.replace(year=this_year.year - 1)
        for lane in self.lanes:
            if (quantity := _AMOUNTS.get((lane.unit, lane.direction))) is None:
                continue
            for period, start, end in (
                ("daily", self.latest, self.latest),
                ("monthly", this_month, self.latest),
                ("yearly", this_year, self.latest),
                ("previous_month", month_before, this_month - DAY),
                ("previous_year", year_before, this_year - DAY),
            ):
                if period.startswith("previous") and any(day not in lane.known for day in _each(start, end)):
                    continue
                for register, days in lane.registers.items():
                    if values := [value for day, value in days.items() if start <= day <= end]:
                        yield amount(period, quantity), register, math.fsum(values)

    def gaps(self, start: date, end: date) -> int:
        """Count the days of [start, end] that some lane lacks, none before the lane's first day."""
        begun = _live(self.lanes)
        return sum(any(lane.first <= day and day not in lane.known for lane in begun) for day in _each(start, end))

    def counted(self) -> Iterator[tuple[str, int]]:
        """Give family and number of the days that are missing."""
        yield "utility_monthly_day_gaps", self.gaps(self.latest.replace(day=1), self.latest)
        yield "utility_yearly_day_gaps", self.gaps(self.latest.replace(month=1, day=1), self.latest)
        yield "utility_day_gaps", self.gaps(self.newest - (GAPS_SEEN - 1) * DAY, self.newest)


def _lane(
    look: Look,
    key: tuple[Direction, str],
    lines: list[SeriesRow],
    since: datetime,
    zone: ZoneInfo,
    starts: dict[date, datetime],
) -> Lane:
    registers: dict[str, dict[date, float]] = {}
    firsts = []
    for line in lines:
        days = registers.setdefault(line.register, {})
        for day in look.readings(line.id, since, FAR):
            local = day.at.astimezone(zone).date()
            days[local] = day.value
            starts[local] = day.at
        if first := look.first(line.id):
            firsts.append(first.at.astimezone(zone).date())
    return Lane(*key, registers, min(firsts), frozenset(day for days in registers.values() for day in days))


def _live(lanes: Iterable[Lane]) -> list[Lane]:
    with_days = [lane for lane in lanes if lane.known]
    newest = max(max(lane.known) for lane in with_days)
    return [lane for lane in with_days if max(lane.known) > newest - LATE]


def _latest_complete(lanes: Iterable[Lane]) -> date:
    live = _live(lanes)
    common = frozenset.intersection(*(lane.known for lane in live))
    return max(common) if common else max(max(lane.known) for lane in live)


def _each(start: date, end: date) -> Iterator[date]:
    return (start + number * DAY for number in range((end - start).days + 1))
