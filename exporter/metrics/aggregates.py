"""What is derived from stored readings: sums of days, gaps, loads, peaks, and the health of accounts."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby, islice
from operator import itemgetter
from zoneinfo import ZoneInfo

from exporter.account_status import AccountHealth, AccountView
from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import NewestIndex, SeriesRow, UsagePointRow
from exporter.metrics.day_statistics import DayStatistics
from exporter.metrics.days import MAX_SILENCE, DailyAggregates, SampleContext, strip_noise
from exporter.metrics.families import FAILURE_REASONS, FAMILY_GROUPS, STATUS_CLASSES, LabelValues, Samples
from exporter.models import Direction, Fact, Nature, Unit, clean_label

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
MONTH_START_FAMILY = "utility_month_start_timestamp_seconds"
READING_INDEPENDENT_FAMILIES = frozenset(
    {"utility_usage_point_info", "utility_register_info", MONTH_START_FAMILY, *_FACT_FAMILIES.values()}
)
"""Families that new readings alone do not change."""
PERIOD_FAMILIES = frozenset(family.name for group in ("amounts", "days", "powers") for family in FAMILY_GROUPS[group])
"""Families of days, intervals and peaks: a new index alone does not change them."""
USAGE_POINTS_PER_QUERY = 1000
SeriesWithIndex = tuple[SeriesRow, tuple[int, float] | None]
"""A series, and for an index the newest timestamp in milliseconds and value."""


@dataclass(frozen=True, slots=True)
class MonthlyPeakHistory:
    """Monthly peaks in kW by the instant at which the month has ended, newest first."""

    peaks: tuple[tuple[datetime, float], ...]
    zone: ZoneInfo

    def average_closed(self, now: datetime) -> tuple[float, int] | None:
        """Return the mean of the 12 months before the running one, and how many of them are known.

        Each is at least `MIN_MONTHLY_PEAK_KW`.
        """
        running = find_month_start(now, self.zone)
        after = running.replace(year=running.year - 1)
        closed = [max(MIN_MONTHLY_PEAK_KW, power) for ended, power in self.peaks if after < ended <= running]
        return (strip_noise(math.fsum(closed) / len(closed)), len(closed)) if closed else None


@dataclass(slots=True)
class SampleDraft:
    """The samples of some usage points while they are being aggregated."""

    usage_points: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Display name -> its usage points: one, unless two have the same name."""
    samples: Samples = field(default_factory=lambda: defaultdict(dict))
    monthly_peaks: dict[LabelValues, MonthlyPeakHistory] = field(default_factory=dict)
    """(account, usage_point) -> its monthly peaks."""
    known_registers: set[LabelValues] = field(default_factory=set)


def display_name(view: AccountView, usage_point: str) -> str:
    """Return the name of a usage point on the page."""
    return clean_label(view.aliases.get(usage_point, usage_point))


def aggregate_usage_points(
    snapshot: Snapshot,
    context: SampleContext,
    get_draft: Callable[[str], SampleDraft],
    usage_points: Collection[str] | None = None,
) -> None:
    """Write the samples of an account's usage points (or only of `usage_points`) into the drafts of their names."""
    writer, view = _SampleWriter(snapshot, context), context.view
    lines = writer.group_series(snapshot.select_shown_series(view.account, usage_points))
    following = next(lines, None)
    for point in snapshot.select_usage_points(view.account, usage_points):
        draft = get_draft(name := display_name(view, point.usage_point))
        draft.usage_points[name].append(point.usage_point)
        own: list[SeriesWithIndex] = []
        if following and following[0] == point.usage_point:
            own, following = following[1], next(lines, None)
        writer.write_usage_point(draft, name, point, own)
    for usage_point, fact, value in snapshot.select_facts(view.account, usage_points):
        name = display_name(view, usage_point)
        get_draft(name).samples[_FACT_FAMILIES[fact]].setdefault((view.account, name), value)


def aggregate_readings(
    snapshot: Snapshot, context: SampleContext, get_draft: Callable[[str], SampleDraft], usage_points: Collection[str]
) -> None:
    """Write only the samples of readings into the drafts: none of `READING_INDEPENDENT_FAMILIES`, and no usage points."""
    writer, view = _SampleWriter(snapshot, context), context.view
    for usage_point, lines in writer.group_series(snapshot.select_shown_series(view.account, usage_points)):
        name = display_name(view, usage_point)
        writer.write_readings(get_draft(name), name, lines)


def aggregate_indexes(
    snapshot: Snapshot, context: SampleContext, get_draft: Callable[[str], SampleDraft], usage_points: Collection[str]
) -> None:
    """Write only the samples of indexes into the drafts, of usage points that have nothing else but derived days.

    None of `READING_INDEPENDENT_FAMILIES` nor of `PERIOD_FAMILIES`.
    """
    writer, view = _SampleWriter(snapshot, context), context.view
    for usage_point, indexes in groupby(snapshot.select_newest_indexes(view.account, usage_points), key=itemgetter(0)):
        name = display_name(view, usage_point)
        writer.write_indexes(get_draft(name), name, indexes)


class _SampleWriter:
    """Writes samples into drafts; of two with the same labels (equal names) it keeps the first."""

    def __init__(self, snapshot: Snapshot, context: SampleContext) -> None:
        self._snapshot, self._context = snapshot, context
        self._view, self._account = context.view, context.view.account
        self._clean_label = cache(clean_label)
        """Also shares one object among equal texts."""
        self._samples: Samples = {}
        self._statistics: DayStatistics | None = None

    def group_series(self, series: Iterable[SeriesWithIndex]) -> Iterator[tuple[str, list[SeriesWithIndex]]]:
        """Yield usage points with their series, after the statistics of their derived days were read, many at a time."""
        groups = groupby(series, key=lambda line: line[0].usage_point)
        while batch := [(usage_point, list(lines)) for usage_point, lines in islice(groups, USAGE_POINTS_PER_QUERY)]:
            derived = [line.id for _, lines in batch for line, _ in lines if line.is_derived and line.resolution == "P1D"]
            self._statistics = DayStatistics(self._snapshot, derived, self._context) if derived else None
            yield from batch

    def write_usage_point(self, draft: SampleDraft, name: str, point: UsagePointRow, series: list[SeriesWithIndex]) -> None:
        self._samples = draft.samples
        key = self._account, name
        self._add_usage_point_info(key, point)
        self._add_sample(MONTH_START_FAMILY, self._context.month_start, key)
        for line, _ in series:
            if line.form != "peak":
                self._add_register_info(draft, name, line)
        self.write_readings(draft, name, series)

    def write_readings(self, draft: SampleDraft, name: str, series: list[SeriesWithIndex]) -> None:
        self._samples, key = draft.samples, (self._account, name)
        newest: list[float] = []
        for line, index in series:
            if index:
                self._add_index(name, line, index[1])
                newest.append(index[0] / 1000)
        if rest := [line for line, index in series if not index]:
            newest += self._add_periods(draft, key, rest)
        if newest:
            self._add_sample("utility_reading_timestamp_seconds", max(newest), key)

    def _add_sample(self, family: str, value: float, labels: LabelValues) -> None:
        self._samples[family].setdefault(labels, value)

    def _add_usage_point_info(self, key: LabelValues, point: UsagePointRow) -> None:
        address = point.address if self._view.show_personal else ""
        facts = map(
            self._clean_label, (self._view.portal, point.commodity, point.meter, point.site, point.name, address, point.place_id)
        )
        self._add_sample("utility_usage_point_info", 1, (*key, *facts))

    def _add_register_info(self, draft: SampleDraft, name: str, series: SeriesRow) -> None:
        # One series for each register, so that joins work, though it may count in both directions.
        known, clean = draft.known_registers, self._clean_label
        start = (self._account, name, clean(series.register))
        if start not in known:
            known.add(start)
            unit = series.portal_unit or series.unit
            facts = series.commodity, series.kind, unit, series.description, series.part_of, series.value_type, series.type_id
            labels = (*start, *map(clean, facts))
            self._samples["utility_register_info"][labels] = 1

    def write_indexes(self, draft: SampleDraft, name: str, indexes: Iterable[NewestIndex]) -> None:
        self._samples, newest = draft.samples, 0
        for index in indexes:
            self._add_index(name, index, index.value)
            newest = max(newest, index.at)
        self._add_sample("utility_reading_timestamp_seconds", newest / 1000, (self._account, name))

    def _add_index(self, name: str, series: SeriesRow | NewestIndex, value: float) -> None:
        labels: LabelValues = (self._account, name, self._clean_label(series.register))
        family = _INDEX_FAMILY_NAMES.get((series.nature, series.unit, series.direction))
        if family is None:
            family, labels = "utility_register_value", (*labels, self._clean_label(series.unit))
        self._samples[family].setdefault(labels, value)

    def _add_periods(self, draft: SampleDraft, key: LabelValues, series: list[SeriesRow]) -> Iterator[float]:
        ends = self._add_days(key, [line for line in series if line.resolution == "P1D" and line.form == "interval"])
        yield from (end.timestamp() for end in ends)
        ends = self._add_loads(key, [line for line in series if line.resolution.startswith("PT")])
        yield from (end.timestamp() for end in ends)
        self._add_peaks(draft, key, [line for line in series if line.form == "peak"])

    def _add_days(self, key: LabelValues, series: list[SeriesRow]) -> Iterator[datetime]:
        is_derived = bool(series) and all(line.is_derived for line in series)
        if is_derived and self._statistics and (summary := self._statistics.summarize(series)):
            for family, of_register, value in summary[0]:
                self._add_sample(family, value, key if of_register is None else (*key, self._clean_label(of_register)))
            yield summary[1]
            return
        days = DailyAggregates.from_snapshot(self._snapshot, series, self._context)
        if days is None:
            return
        for family, register, value in days.sum_periods():
            self._add_sample(family, value, (*key, self._clean_label(register)))
        self._add_sample("utility_latest_day_timestamp_seconds", days.latest_start.timestamp(), key)
        self._add_sample("utility_history_start_timestamp_seconds", days.first_start.timestamp(), key)
        for family, missing in days.count_gap_families():
            self._add_sample(family, missing, key)
        yield days.newest_end

    def _add_loads(self, key: LabelValues, series: list[SeriesRow]) -> Iterator[datetime]:
        ends: dict[Direction, datetime] = {}
        for line in series:
            end = self._snapshot.select_newest(line.id)[0].end
            ends[line.direction] = max(ends.get(line.direction, end), end)
        if not ends:
            return
        # Both directions are shown of the same interval; one that has gone silent holds the other back no longer.
        common = min(end for end in ends.values() if end > max(ends.values()) - MAX_SILENCE)
        loads = _sum_loads(self._snapshot, [line for line in series if line.unit == Unit.KWH], common)
        for direction, load in loads.items():
            self._add_sample(_LOAD_FAMILY_NAMES[direction], strip_noise(load), (*key, "total"))
        if loads:
            self._add_sample("utility_load_timestamp_seconds", common.timestamp(), key)
        yield max(ends.values())

    def _add_peaks(self, draft: SampleDraft, key: LabelValues, series: list[SeriesRow]) -> None:
        for line in series:
            if (line.unit, line.resolution) == (Unit.KW, "P1M"):
                peaks = self._snapshot.select_newest(line.id, 24)
                self._add_sample("utility_monthly_peak_kw", peaks[0].value, key)
                if peaks[0].has_span:
                    self._add_sample("utility_monthly_peak_timestamp_seconds", peaks[0].end.timestamp(), key)
                draft.monthly_peaks[key] = MonthlyPeakHistory(
                    tuple((_next_month(peak.at, self._view.zone), peak.value) for peak in peaks), self._view.zone
                )
            elif (line.unit, line.resolution) == (Unit.KVA, "P1D"):
                peak = self._snapshot.select_newest(line.id)[0]
                self._add_sample("utility_daily_peak_kva", peak.value, key)
                if peak.has_span:
                    self._add_sample("utility_daily_peak_timestamp_seconds", peak.end.timestamp(), key)


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


def _next_month(at: datetime, zone: ZoneInfo) -> datetime:
    local = at.astimezone(zone)
    return datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=zone)


def build_health_samples(view: AccountView, health: AccountHealth, now: datetime) -> Samples:
    """Return the samples of an account's health."""
    state, key = health.state, (view.account, view.portal)
    samples: Samples = {
        "utility_visits_total": {key: health.visits},
        "utility_visit_failures_total": {(*key, reason): health.failures[reason] for reason in FAILURE_REASONS},
        "utility_visit_interval_seconds": {key: health.interval.total_seconds()},
        "utility_login_suspended": {key: health.is_suspended(now)},
        "utility_portal_requests_total": {(*key, status): health.responses[status] for status in STATUS_CLASSES},
        "utility_ledger_readings": {(view.account,): state.readings},
        "utility_corrections_total": {(view.account,): state.corrections},
        "utility_history_pending_requests": {(view.account,): health.history.pending},
        "utility_skipped_values_total": {(view.account,): health.skipped},
        "utility_portal_shape_changes_total": {(view.account,): health.shape_changes},
        "utility_usage_point_configured": {(view.account, display_name(view, one)): 1 for one in sorted(view.configured)},
    }
    instants = {
        "utility_last_visit_timestamp_seconds": state.last_visit,
        "utility_last_success_timestamp_seconds": state.last_success,
        "utility_last_new_data_timestamp_seconds": state.last_new_data,
        "utility_next_visit_timestamp_seconds": state.next_visit,
        "utility_access_expires_timestamp_seconds": state.holder.access_expires,
        "utility_login_valid_from_timestamp_seconds": state.holder.login_valid_from,
        "utility_token_expires_timestamp_seconds": state.token_expires,
    }
    samples |= {family: {key: at.timestamp()} for family, at in instants.items() if at is not None}
    if state.up is not None:
        samples["utility_up"] = {key: state.up}
    if state.duration is not None:
        samples["utility_visit_duration_seconds"] = {key: state.duration}
    holder = state.holder
    personal = (holder.name, holder.company, holder.company_id, holder.customer_id, holder.person_id)
    labels = (clean_label(text) if view.show_personal else "" for text in personal)
    samples["utility_account_info"] = {(*key, *labels): 1}
    return samples
