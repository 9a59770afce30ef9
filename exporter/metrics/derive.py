"""What a page says of an account's usage points, worked out from what the ledger holds of them.

Everything here is a fact of the ledger or a sum of facts; nothing depends on the present instant but `Months`, whose
closed ones are counted when the page is rendered.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby
from zoneinfo import ZoneInfo

from exporter.ledger import Kept, Look, PointRow, SeriesRow
from exporter.metrics.days import LATE, Days
from exporter.metrics.words import Labels, Samples, Shown
from exporter.model import Direction, Fact, Nature, Unit, clean

FLOOR_KW = 2.5
"""The Flemish capacity tariff counts a lower monthly peak as this one."""

_INDEXES: Mapping[tuple[str, str, str], str] = {
    (Nature.COUNTER, Unit.KWH, Direction.CONSUMPTION): "utility_consumption_index_kwh",
    (Nature.COUNTER, Unit.M3, Direction.CONSUMPTION): "utility_consumption_index_m3",
    (Nature.COUNTER, Unit.KWH, Direction.INJECTION): "utility_injection_index_kwh",
    (Nature.MOMENTARY, Unit.CELSIUS, Direction.CONSUMPTION): "utility_temperature_celsius",
    (Nature.MOMENTARY, Unit.RELATIVE_HUMIDITY, Direction.CONSUMPTION): "utility_humidity_ratio",
    (Nature.MOMENTARY, Unit.KW, Direction.CONSUMPTION): "utility_power_kw",
}
_FACTS: Mapping[Fact, str] = {
    Fact.SUBSCRIBED_POWER: "utility_subscribed_power_kva",
    **{fact: f"utility_{fact}" for fact in Fact if fact is not Fact.SUBSCRIBED_POWER},
}
STANDING = frozenset({"utility_usage_point_info", "utility_register_info", *_FACTS.values()})
"""The families that new readings alone do not change."""
Line = tuple[SeriesRow, tuple[int, float] | None]
"""A series; of an index also the newest milliseconds and value."""


@dataclass(frozen=True, slots=True)
class Months:
    """Monthly peaks in kW by the instant at which the month has ended, newest first."""

    peaks: tuple[tuple[datetime, float], ...]

    def average(self, now: datetime) -> tuple[float, int] | None:
        """Give the mean over the newest 12 closed months, each at least `FLOOR_KW`, and how many they are."""
        closed = [max(FLOOR_KW, power) for ended, power in self.peaks if ended <= now][:12]
        return (math.fsum(closed) / len(closed), len(closed)) if closed else None


@dataclass(slots=True)
class Draft:
    """What is said of some usage points, while it is being worked out."""

    points: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Name shown -> the usage points under it: one, unless two names come out alike."""
    samples: Samples = field(default_factory=lambda: defaultdict(dict))
    months: dict[Labels, Months] = field(default_factory=dict)
    """(account, usage_point) -> its monthly peaks."""
    registers: set[Labels] = field(default_factory=set)


def name_of(shown: Shown, usage_point: str) -> str:
    """Give the name by which a usage point is shown."""
    return clean(shown.aliases.get(usage_point, usage_point))


def say(look: Look, shown: Shown, draft_of: Callable[[str], Draft], only: Collection[str] | None = None) -> None:
    """Write what the page says of an account's usage points (or of `only` these) into the drafts of their names."""
    writer = _Writer(look, shown)
    lines = groupby(look.shown_series(shown.account, only), key=lambda line: line[0].usage_point)
    following = next(lines, None)
    for point in look.points(shown.account, only):
        draft = draft_of(name := name_of(shown, point.usage_point))
        draft.points[name].append(point.usage_point)
        own: list[Line] = []
        if following and following[0] == point.usage_point:
            own, following = list(following[1]), next(lines, None)
        writer.point(draft, name, point, own)
    for usage_point, fact, value in look.facts(shown.account, only):
        name = name_of(shown, usage_point)
        draft_of(name).samples[_FACTS[fact]].setdefault((shown.account, name), value)


def say_readings(look: Look, shown: Shown, draft_of: Callable[[str], Draft], only: Collection[str]) -> None:
    """Write only what readings make of some usage points: nothing of `STANDING`, and no points under their names."""
    writer = _Writer(look, shown)
    for usage_point, lines in groupby(look.shown_series(shown.account, only), key=lambda line: line[0].usage_point):
        name = name_of(shown, usage_point)
        writer.readings(draft_of(name), name, list(lines))


class _Writer:
    """Of two samples with the same labels (two names alike) the first one stays."""

    def __init__(self, look: Look, shown: Shown) -> None:
        self._look, self._shown, self._account = look, shown, shown.account
        self._clean = cache(clean)
        """Also makes one text of the many that are alike."""
        self._samples: Samples = {}

    def point(self, draft: Draft, name: str, point: PointRow, lines: list[Line]) -> None:
        self._samples = draft.samples
        self._point_info((self._account, name), point)
        for line, _ in lines:
            if line.form != "peak":
                self._register_info(draft, name, line)
        self.readings(draft, name, lines)

    def readings(self, draft: Draft, name: str, lines: list[Line]) -> None:
        self._samples, key = draft.samples, (self._account, name)
        newest: list[float] = []
        for line, index in lines:
            if index:
                self._index(name, line, *index)
                newest.append(index[0] / 1000)
        if rest := [line for line, index in lines if not index]:
            newest += self._periods(draft, key, rest)
        if newest:
            self._add("utility_reading_timestamp_seconds", max(newest), key)

    def _add(self, family: str, value: float, labels: Labels) -> None:
        self._samples[family].setdefault(labels, value)

    def _point_info(self, key: Labels, point: PointRow) -> None:
        address = point.address if self._shown.personal else ""
        facts = map(self._clean, (self._shown.portal, point.commodity, point.meter, point.site, point.name, address))
        self._add("utility_usage_point_info", 1, (*key, *facts))

    def _register_info(self, draft: Draft, name: str, line: SeriesRow) -> None:
        # One series for each register, so that joins work, though it may count in both directions.
        known, say = draft.registers, self._clean
        start = (self._account, name, say(line.register))
        if start not in known:
            known.add(start)
            unit = line.portal_unit or line.unit
            labels = (*start, say(line.commodity), say(line.kind), say(unit), say(line.description))
            self._samples["utility_register_info"][labels] = 1

    def _index(self, name: str, line: SeriesRow, at: int, value: float) -> None:
        labels: Labels = (self._account, name, self._clean(line.register))
        family = _INDEXES.get((line.nature, line.unit, line.direction))
        if family is None:
            family, labels = "utility_register_value", (*labels, self._clean(line.unit))
        self._samples[family].setdefault(labels, value)

    def _periods(self, draft: Draft, key: Labels, lines: list[SeriesRow]) -> Iterator[float]:
        ends = self._days(key, [line for line in lines if line.resolution == "P1D" and line.form == "interval"])
        yield from (end.timestamp() for end in ends)
        ends = self._load(key, [line for line in lines if line.resolution.startswith("PT")])
        yield from (end.timestamp() for end in ends)
        self._peaks(draft, key, [line for line in lines if line.form == "peak"])

    def _days(self, key: Labels, lines: list[SeriesRow]) -> Iterator[datetime]:
        days = Days.of(self._look, lines, self._shown.zone)
        if days is None:
            return
        for family, register, value in days.amounts():
            self._add(family, value, (*key, self._clean(register)))
        self._add("utility_latest_day_timestamp_seconds", days.start.timestamp(), key)
        for family, missing in days.counted():
            self._add(family, missing, key)
        yield days.end

    def _load(self, key: Labels, lines: list[SeriesRow]) -> Iterator[datetime]:
        ends: dict[Direction, datetime] = {}
        for line in lines:
            end = self._look.newest(line.id)[0].end
            ends[line.direction] = max(ends.get(line.direction, end), end)
        if not ends:
            return
        # Both directions are shown of the same interval; one that has gone silent holds the other back no longer.
        common = min(end for end in ends.values() if end > max(ends.values()) - LATE)
        loads = _loads_at(self._look, [line for line in lines if line.unit == Unit.KWH], common)
        for direction, load in loads.items():
            self._add(f"utility_{direction}_load_kw", load, (*key, "total"))
        if loads:
            self._add("utility_load_timestamp_seconds", common.timestamp(), key)
        yield max(ends.values())

    def _peaks(self, draft: Draft, key: Labels, lines: list[SeriesRow]) -> None:
        for line in lines:
            if (line.unit, line.resolution) == (Unit.KW, "P1M"):
                peaks = self._look.newest(line.id, 24)
                self._peak("utility_monthly_peak", "kw", key, peaks[0])
                draft.months[key] = Months(tuple((_month_after(peak.at, self._shown.zone), peak.value) for peak in peaks))
            elif (line.unit, line.resolution) == (Unit.KVA, "P1D"):
                self._peak("utility_daily_peak", "kva", key, self._look.newest(line.id)[0])

    def _peak(self, family: str, unit: str, key: Labels, peak: Kept) -> None:
        self._add(f"{family}_{unit}", peak.value, key)
        self._add(f"{family}_timestamp_seconds", peak.end.timestamp(), key)


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
