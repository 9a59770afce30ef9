"""What is derived from stored readings: sums of days, gaps, loads and peaks."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from exporter.account_status import AccountView
from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import NewestIndex, SeriesRow, UsagePointRow
from exporter.metrics.days import MAX_SILENCE, DailyAggregates, DayStatistics, SampleContext
from exporter.metrics.families import MONTH_START_FAMILY, TIMESTAMP_FAMILY, LabelValues, Sample, Samples
from exporter.models import Direction, Fact, Nature, Unit, clean_label, next_month, strip_noise

_LOAD_FAMILY_NAMES: Mapping[Direction, str] = {
    Direction.CONSUMPTION: "utility_consumption_load_kw",
    Direction.INJECTION: "utility_injection_load_kw",
}
MIN_MONTHLY_PEAK_KW = 2.5
"""The Flemish capacity tariff counts a lower monthly peak as this."""
_INDEX_FAMILY_NAMES: Mapping[tuple[str, str, str], str] = {
    (Nature.COUNTER, Unit.KWH, Direction.CONSUMPTION): "utility_consumption_index_kwh",
    (Nature.COUNTER, Unit.M3, Direction.CONSUMPTION): "utility_consumption_index_m3",
    (Nature.COUNTER, Unit.KWH, Direction.INJECTION): "utility_injection_index_kwh",
    (Nature.MOMENTARY, Unit.CELSIUS, Direction.CONSUMPTION): "utility_temperature_celsius",
    (Nature.MOMENTARY, Unit.RELATIVE_HUMIDITY, Direction.CONSUMPTION): "utility_humidity_ratio",
    (Nature.MOMENTARY, Unit.KW, Direction.CONSUMPTION): "utility_power_kw",
}
_FACT_FAMILIES: Mapping[Fact, str] = {
    Fact.DIVERGENT_CONSUMPTION: "utility_divergent_consumption",
    Fact.METER_ACTIVE: "utility_meter_active",
    Fact.FLOW_LIMITATION: "utility_flow_limitation",
    Fact.UP_TO_DATE: "utility_up_to_date",
    Fact.NO_DATA_PERMISSION: "utility_no_data_permission",
    Fact.DAY_OFFSET: "utility_day_offset",
    Fact.SUBSCRIBED_POWER: "utility_subscribed_power_kva",
}
READING_INDEPENDENT_FAMILIES = frozenset(
    {"utility_usage_point_info", "utility_register_info", MONTH_START_FAMILY, *_FACT_FAMILIES.values()}
)
"""Families that new readings alone do not change."""
USAGE_POINTS_PER_QUERY = 1000
SeriesWithIndex = tuple[SeriesRow, tuple[int, float] | None]
"""A series, and for an index the newest timestamp in milliseconds and value."""
UsagePointKey = tuple[str, str]
"""Account, and the name of a usage point on the page."""
PeriodSamples = tuple[list[Sample], datetime | None]
"""Samples, and the end of the newest period."""


@dataclass(frozen=True, slots=True)
class MonthlyPeakHistory:
    """Monthly peaks in kW by the instant at which the month has ended, newest first."""

    peaks: tuple[tuple[datetime, float], ...]

    def average_closed(self, month_start: datetime) -> tuple[float, int] | None:
        """Return the mean of the 12 months before the running one, and how many of them are known.

        Each is at least `MIN_MONTHLY_PEAK_KW`.
        """
        after = month_start.replace(year=month_start.year - 1)
        closed = [max(MIN_MONTHLY_PEAK_KW, power) for ended, power in self.peaks if after < ended <= month_start]
        return (strip_noise(math.fsum(closed) / len(closed)), len(closed)) if closed else None


def average_peaks(monthly_peaks: Mapping[LabelValues, MonthlyPeakHistory], month_start: datetime) -> Samples:
    """Return the samples of the mean monthly peaks, as of the month that began then."""
    averages = {key: average for key, peaks in monthly_peaks.items() if (average := peaks.average_closed(month_start))}
    return {
        "utility_average_monthly_peak_kw": {key: power for key, (power, _) in averages.items()},
        "utility_average_monthly_peak_months": {key: months for key, (_, months) in averages.items()},
    }


def display_name(view: AccountView, usage_point: str) -> str:
    """Return the name of a usage point on the page."""
    return clean_label(view.aliases.get(usage_point, usage_point))


class UsagePointSamples(NamedTuple):
    """Samples of one usage point, read together."""

    usage_point: str
    name: str
    """Its name on the page; where two have the same name, samples have the same labels."""
    samples: list[Sample]
    monthly_peaks: MonthlyPeakHistory | None = None


class AccountSampleReader:
    """Reads the samples of an account's usage points from the ledger."""

    def __init__(self, snapshot: Snapshot, context: SampleContext) -> None:
        self._snapshot, self._context = snapshot, context
        self._view, self._account = context.view, context.view.account
        self._clean_label = cache(clean_label)
        """Also shares one object among equal texts."""

    def read_usage_points(self, usage_points: Collection[str] | None) -> Iterator[UsagePointSamples]:
        """Yield all samples of these usage points (None: of all), in the order of the ledger."""
        series_groups, fact_groups = self._select_series(usage_points), self._select_facts(usage_points)
        next_series, next_facts = next(series_groups, None), next(fact_groups, None)
        registers, month_start = set[LabelValues](), self._context.month_start.timestamp()
        for point in self._snapshot.select_usage_points(self._account, usage_points):
            name = display_name(self._view, point.usage_point)
            key, monthly_peaks = (self._account, name), None
            samples = [self._describe_usage_point(key, point), (MONTH_START_FAMILY, key, month_start)]
            if next_series and next_series[0] == point.usage_point:
                _, series, statistics = next_series
                next_series = next(series_groups, None)
                for line, _ in series:
                    # One series for each register, so that joins work, though it may count in both directions.
                    register = (self._account, name, self._clean_label(line.register))
                    if line.form != "peak" and register not in registers:
                        registers.add(register)
                        samples.append(self._describe_register(register, line))
                readings, monthly_peaks = self._read_series(key, series, statistics)
                samples += readings
            if next_facts and next_facts[0] == point.usage_point:
                samples += [(_FACT_FAMILIES[fact], key, value) for fact, value in next_facts[1]]
                next_facts = next(fact_groups, None)
            yield UsagePointSamples(point.usage_point, name, samples, monthly_peaks)

    def read_readings(self, usage_points: Collection[str]) -> Iterator[UsagePointSamples]:
        """Yield only the samples of readings: none of `READING_INDEPENDENT_FAMILIES`."""
        for usage_point, series, statistics in self._select_series(usage_points):
            name = display_name(self._view, usage_point)
            yield UsagePointSamples(usage_point, name, *self._read_series((self._account, name), series, statistics))

    def read_indexes(self, usage_points: Collection[str]) -> Iterator[UsagePointSamples]:
        """Yield only the samples of indexes, of usage points that have nothing else but derived days.

        None of `READING_INDEPENDENT_FAMILIES` nor of `PERIOD_FAMILIES`.
        """
        found = self._snapshot.select_newest_indexes(self._account, usage_points)
        for usage_point, indexes in groupby(found, key=itemgetter(0)):
            name, newest = display_name(self._view, usage_point), 0
            key, samples = (self._account, name), list[Sample]()
            for index in indexes:
                samples.append(self._build_index(key, index, index.value))
                newest = max(newest, index.at)
            samples.append((TIMESTAMP_FAMILY, key, newest / 1000))
            yield UsagePointSamples(usage_point, name, samples)

    def _select_series(
        self, usage_points: Collection[str] | None
    ) -> Iterator[tuple[str, list[SeriesWithIndex], DayStatistics | None]]:
        """Yield usage points with their series and the statistics of their derived days, which are read many at a time."""
        series = self._snapshot.select_shown_series(self._account, usage_points)
        groups = groupby(series, key=lambda line: line[0].usage_point)
        while batch := [(usage_point, list(lines)) for usage_point, lines in islice(groups, USAGE_POINTS_PER_QUERY)]:
            derived = [line.id for _, lines in batch for line, _ in lines if line.is_derived and line.resolution == "P1D"]
            statistics = DayStatistics(self._snapshot, derived, self._context) if derived else None
            yield from ((usage_point, lines, statistics) for usage_point, lines in batch)

    def _select_facts(self, usage_points: Collection[str] | None) -> Iterator[tuple[str, list[tuple[Fact, float]]]]:
        """Yield usage points with their facts."""
        facts = self._snapshot.select_facts(self._account, usage_points)
        for usage_point, group in groupby(facts, key=itemgetter(0)):
            yield usage_point, [(fact, value) for _, fact, value in group]

    def _describe_usage_point(self, key: UsagePointKey, point: UsagePointRow) -> Sample:
        address = point.address if self._view.show_personal else ""
        facts = (self._view.portal, point.commodity, point.meter, point.site, point.name, address, point.place_id)
        return "utility_usage_point_info", (*key, *map(self._clean_label, facts)), 1

    def _describe_register(self, register: LabelValues, series: SeriesRow) -> Sample:
        unit = series.portal_unit or series.unit
        facts = series.commodity, series.kind, unit, series.description, series.part_of, series.value_type, series.type_id
        return "utility_register_info", (*register, *map(self._clean_label, facts)), 1

    def _read_series(
        self, key: UsagePointKey, series: list[SeriesWithIndex], statistics: DayStatistics | None
    ) -> tuple[list[Sample], MonthlyPeakHistory | None]:
        samples, monthly_peaks, newest = list[Sample](), None, list[float]()
        for line, index in series:
            if index:
                samples.append(self._build_index(key, line, index[1]))
                newest.append(index[0] / 1000)
        if rest := [line for line, index in series if not index]:
            days = [line for line in rest if line.resolution == "P1D" and line.form == "interval"]
            for found, end in (
                self._read_days(key, days, statistics),
                self._read_loads(key, [line for line in rest if line.resolution.startswith("PT")]),
            ):
                samples += found
                newest += [end.timestamp()] if end else []
            peaks, monthly_peaks = self._read_peaks(key, [line for line in rest if line.form == "peak"])
            samples += peaks
        if newest:
            samples.append((TIMESTAMP_FAMILY, key, max(newest)))
        return samples, monthly_peaks

    def _build_index(self, key: UsagePointKey, series: SeriesRow | NewestIndex, value: float) -> Sample:
        labels = (key[0], key[1], self._clean_label(series.register))
        family = _INDEX_FAMILY_NAMES.get((series.nature, series.unit, series.direction))
        if family is None:
            return "utility_register_value", (*labels, self._clean_label(series.unit)), value
        return family, labels, value

    def _read_days(self, key: UsagePointKey, series: list[SeriesRow], statistics: DayStatistics | None) -> PeriodSamples:
        is_derived = bool(series) and all(line.is_derived for line in series)
        if is_derived and statistics and (summary := statistics.summarize(series)):
            return [
                (family, key if register is None else (*key, self._clean_label(register)), value)
                for family, register, value in summary[0]
            ], summary[1]
        days = DailyAggregates.from_snapshot(self._snapshot, series, self._context)
        if days is None:
            return [], None
        return [
            *((family, (*key, self._clean_label(register)), value) for family, register, value in days.sum_periods()),
            ("utility_latest_day_timestamp_seconds", key, days.latest_start.timestamp()),
            ("utility_history_start_timestamp_seconds", key, days.first_start.timestamp()),
            *((family, key, missing) for family, missing in days.count_gap_families()),
        ], days.newest_end

    def _read_loads(self, key: UsagePointKey, series: list[SeriesRow]) -> PeriodSamples:
        ends: dict[Direction, datetime] = {}
        for line in series:
            end = self._snapshot.select_newest(line.id)[0].end
            ends[line.direction] = max(ends.get(line.direction, end), end)
        if not ends:
            return [], None
        # Both directions are shown of the same interval; one that has gone silent holds the other back no longer.
        common = min(end for end in ends.values() if end > max(ends.values()) - MAX_SILENCE)
        loads = _sum_loads(self._snapshot, [line for line in series if line.unit == Unit.KWH], common)
        samples: list[Sample] = [
            (_LOAD_FAMILY_NAMES[direction], (*key, "total"), strip_noise(load)) for direction, load in loads.items()
        ]
        if loads:
            samples.append(("utility_load_timestamp_seconds", key, common.timestamp()))
        return samples, max(ends.values())

    def _read_peaks(self, key: UsagePointKey, series: list[SeriesRow]) -> tuple[list[Sample], MonthlyPeakHistory | None]:
        samples, monthly_peaks = list[Sample](), None
        for line in series:
            if (line.unit, line.resolution) == (Unit.KW, "P1M"):
                peaks = self._snapshot.select_newest(line.id, 24)
                samples.append(("utility_monthly_peak_kw", key, peaks[0].value))
                if peaks[0].has_span:
                    samples.append(("utility_monthly_peak_timestamp_seconds", key, peaks[0].end.timestamp()))
                history = MonthlyPeakHistory(tuple((self._find_month_end(peak.at), peak.value) for peak in peaks))
                monthly_peaks = monthly_peaks or history
                averages = average_peaks({key: history}, self._context.month_start)
                samples += [(family, key, values[key]) for family, values in averages.items() if values]
            elif (line.unit, line.resolution) == (Unit.KVA, "P1D"):
                peak = self._snapshot.select_newest(line.id)[0]
                samples.append(("utility_daily_peak_kva", key, peak.value))
                if peak.has_span:
                    samples.append(("utility_daily_peak_timestamp_seconds", key, peak.end.timestamp()))
        return samples, monthly_peaks

    def _find_month_end(self, at: datetime) -> datetime:
        zone = self._view.zone
        return datetime.combine(next_month(at.astimezone(zone)), time(), zone)


def _sum_loads(snapshot: Snapshot, series: Iterable[SeriesRow], end: datetime) -> dict[Direction, float]:
    loads: dict[Direction, float] = {}
    shortest: dict[Direction, timedelta] = {}
    for line in series:
        for reading in snapshot.select_readings(line.id, end - timedelta(hours=1), end):
            if reading.end != end or reading.span > shortest.get(line.direction, reading.span):
                continue
            if reading.span < shortest.get(line.direction, reading.span):
                loads[line.direction] = 0.0
            shortest[line.direction] = reading.span
            loads[line.direction] = loads.get(line.direction, 0.0) + reading.value / (reading.span / timedelta(hours=1))
    return loads


def find_month_start(at: datetime, zone: ZoneInfo) -> datetime:
    """Return when the local month of an instant began."""
    local = at.astimezone(zone)
    return datetime(local.year, local.month, 1, tzinfo=zone)
