"""What a page says of one account, worked out from what the ledger holds of it.

Everything here is a fact of the ledger or a sum of facts; nothing depends on the present instant but `Months`, whose
closed ones are counted when the page is rendered.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger import Kept, Look, PointRow, SeriesRow
from exporter.metrics.families import amount
from exporter.model import Direction, Fact, Nature, Unit, clean

Labels = tuple[str, ...]
Samples = dict[str, dict[Labels, float]]
"""Family name -> label values (in the family's order) -> value."""

FLOOR_KW = 2.5
"""The Flemish capacity tariff counts a lower monthly peak as this one."""
LATE = timedelta(days=14)
"""A line of days that has been silent this long no longer holds back the others' latest complete day."""
DAY = timedelta(days=1)
GAPS_SEEN = 60
FAR = datetime(9000, 1, 1, tzinfo=UTC)

_INDEXES: Mapping[tuple[str, str, str], str] = {
    (Nature.COUNTER, Unit.KWH, Direction.CONSUMPTION): "utility_consumption_index_kwh",
    (Nature.COUNTER, Unit.M3, Direction.CONSUMPTION): "utility_consumption_index_m3",
    (Nature.COUNTER, Unit.KWH, Direction.INJECTION): "utility_injection_index_kwh",
    (Nature.MOMENTARY, Unit.CELSIUS, Direction.CONSUMPTION): "utility_temperature_celsius",
    (Nature.MOMENTARY, Unit.RELATIVE_HUMIDITY, Direction.CONSUMPTION): "utility_humidity_ratio",
    (Nature.MOMENTARY, Unit.KW, Direction.CONSUMPTION): "utility_power_kw",
}
_AMOUNTS: Mapping[tuple[str, str], str] = {
    (Unit.KWH, Direction.CONSUMPTION): "consumption_kwh",
    (Unit.M3, Direction.CONSUMPTION): "consumption_m3",
    (Unit.KWH, Direction.INJECTION): "injection_kwh",
}
_FACTS: Mapping[Fact, str] = {
    Fact.SUBSCRIBED_POWER: "utility_subscribed_power_kva",
    **{fact: f"utility_{fact}" for fact in Fact if fact is not Fact.SUBSCRIBED_POWER},
}


@dataclass(frozen=True, slots=True)
class Shown:
    """How an account is shown: its names and its local time."""

    account: str
    portal: str
    zone: ZoneInfo
    aliases: Mapping[str, str] = field(default_factory=dict)
    personal: bool = False


@dataclass(frozen=True, slots=True)
class Months:
    """Monthly peaks in kW by the instant at which the month has ended, newest first."""

    peaks: tuple[tuple[datetime, float], ...]

    def average(self, now: datetime) -> tuple[float, int] | None:
        """Give the mean over the newest 12 closed months, each at least `FLOOR_KW`, and how many they are."""
        closed = [max(FLOOR_KW, power) for ended, power in self.peaks if ended <= now][:12]
        return (math.fsum(closed) / len(closed), len(closed)) if closed else None


@dataclass(frozen=True, slots=True)
class Derived:
    """All that an account's readings say: samples, and what a render needs to say the rest."""

    samples: Samples
    months: Mapping[Labels, Months]
    """(account, usage_point) -> its monthly peaks."""


def derive(look: Look, shown: Shown) -> Derived:
    """Work out what the page says of an account's usage points."""
    page = _Writer(shown)
    points = {point.usage_point: point for point in look.points(shown.account)}
    series: dict[str, list[SeriesRow]] = defaultdict(list)
    for line in look.series(shown.account, shown=True):
        series[line.usage_point].append(line)
    indexes = look.newest_indexes(shown.account)
    for point in points.values():
        page.point(look, point, series[point.usage_point], indexes)
    for usage_point, fact, value in look.facts(shown.account):
        page.add(_FACTS[fact], value, usage_point)
    return Derived(dict(page.samples), page.months)


class _Writer:
    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self.samples: Samples = defaultdict(dict)
        self.months: dict[Labels, Months] = {}
        self._registers: set[Labels] = set()

    def add(self, family: str, value: float, usage_point: str, *more: str) -> None:
        """Add a sample; of two with the same labels (two aliases alike) the first stays."""
        labels = (self._shown.account, self._named(usage_point), *(clean(text) for text in more))
        self.samples[family].setdefault(labels, value)

    def point(self, look: Look, point: PointRow, series: list[SeriesRow], indexes: Mapping[int, Kept]) -> None:
        usage_point, newest = point.usage_point, list[datetime]()
        address = point.address if self._shown.personal else ""
        facts = (self._shown.portal, point.commodity, point.meter, point.site, point.name, address)
        self.add("utility_usage_point_info", 1, usage_point, *facts)
        for line in series:
            if line.form != "peak":
                said = (line.register, line.commodity, line.kind, line.portal_unit or line.unit, line.description)
                self._register_info(usage_point, *said)
            if line.form == "index":
                newest.append(self._index(line, indexes[line.id]))
        newest += self._days(look, usage_point, [line for line in series if line.resolution == "P1D" and line.form == "interval"])
        newest += self._load(look, usage_point, [line for line in series if line.resolution.startswith("PT")])
        self._peaks(look, usage_point, [line for line in series if line.form == "peak"])
        if newest:
            self.add("utility_reading_timestamp_seconds", max(newest).timestamp(), usage_point)

    def _named(self, usage_point: str) -> str:
        return clean(self._shown.aliases.get(usage_point, usage_point))

    def _register_info(self, usage_point: str, register: str, *facts: str) -> None:
        # One series for each register, so that joins work, though it may count in both directions.
        known = self.samples["utility_register_info"]
        start = (self._shown.account, self._named(usage_point), clean(register))
        if start not in self._registers:
            self._registers.add(start)
            known[(*start, *(clean(text) for text in facts))] = 1

    def _index(self, line: SeriesRow, kept: Kept) -> datetime:
        family = _INDEXES.get((line.nature, line.unit, line.direction))
        unit = () if family else (line.unit,)
        self.add(family or "utility_register_value", kept.value, line.usage_point, line.register, *unit)
        return kept.at

    def _days(self, look: Look, usage_point: str, lines: list[SeriesRow]) -> Iterator[datetime]:
        days = Days.of(look, lines, self._shown.zone)
        if days is None:
            return
        for family, register, value in days.amounts():
            self.add(family, value, usage_point, register)
        self.add("utility_latest_day_timestamp_seconds", days.start.timestamp(), usage_point)
        self.add("utility_monthly_day_gaps", days.gaps(days.latest.replace(day=1), days.latest), usage_point)
        self.add("utility_yearly_day_gaps", days.gaps(days.latest.replace(month=1, day=1), days.latest), usage_point)
        self.add("utility_day_gaps", days.gaps(days.newest - (GAPS_SEEN - 1) * DAY, days.newest), usage_point)
        yield days.end

    def _load(self, look: Look, usage_point: str, lines: list[SeriesRow]) -> Iterator[datetime]:
        ends: dict[Direction, datetime] = {}
        for line in lines:
            end = look.newest(line.id)[0].end
            ends[line.direction] = max(ends.get(line.direction, end), end)
        if not ends:
            return
        # Both directions are shown of the same interval; one that has gone silent holds the other back no longer.
        common = min(end for end in ends.values() if end > max(ends.values()) - LATE)
        loads = _loads_at(look, [line for line in lines if line.unit == Unit.KWH], common)
        for direction, load in loads.items():
            self.add(f"utility_{direction}_load_kw", load, usage_point, "total")
        if loads:
            self.add("utility_load_timestamp_seconds", common.timestamp(), usage_point)
        yield max(ends.values())

    def _peaks(self, look: Look, usage_point: str, lines: list[SeriesRow]) -> None:
        for line in lines:
            if (line.unit, line.resolution) == (Unit.KW, "P1M"):
                peaks = look.newest(line.id, 24)
                self._peak("utility_monthly_peak", "kw", usage_point, peaks[0])
                ended = tuple((_month_after(peak.at, self._shown.zone), peak.value) for peak in peaks)
                self.months[self._shown.account, self._named(usage_point)] = Months(ended)
            elif (line.unit, line.resolution) == (Unit.KVA, "P1D"):
                self._peak("utility_daily_peak", "kva", usage_point, look.newest(line.id)[0])

    def _peak(self, family: str, unit: str, usage_point: str, peak: Kept) -> None:
        self.add(f"{family}_{unit}", peak.value, usage_point)
        self.add(f"{family}_timestamp_seconds", peak.end.timestamp(), usage_point)


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


def _loads_at(look: Look, lines: Iterable[SeriesRow], end: datetime) -> dict[Direction, float]:
    loads: dict[Direction, float] = {}
    shortest: dict[Direction, timedelta] = {}
    for line in lines:
        for kept in look.readings(line.id, end - timedelta(hours=1), end):
            if kept.end != end or kept.span > shortest.get(line.direction, kept.span):
                continue
            if kept.span < shortest.get(line.direction, kept.span):
                loads[line.direction] = 0.0
            shortest[line.direction] = kept.span
            loads[line.direction] = loads.get(line.direction, 0.0) + kept.value / (kept.span / timedelta(hours=1))
    return loads


def _month_after(at: datetime, zone: ZoneInfo) -> datetime:
    local = at.astimezone(zone)
    return datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=zone)


def _each(start: date, end: date) -> Iterator[date]:
    return (start + number * DAY for number in range((end - start).days + 1))
