"""The history series: their names, labels and timestamps, by series of the ledger."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import SeriesRow
from exporter.ledger.samples import Calendar, CalendarRule, TimestampRule
from exporter.models import Direction, Nature, Unit, clean_label

LabelPairs = tuple[tuple[str, str], ...]
"""Names and values in the order of the names, `__name__` first; none is empty."""
Aliases = Mapping[str, Mapping[str, str]]
"""Account -> usage point id -> the name shown instead."""

RESERVED_LABELS = frozenset({"__name__", "account", "register", "resolution", "usage_point"})
"""The labels of history series."""
MIN_TIMESTAMP_MS, MAX_TIMESTAMP_MS = 1 << 35, (1 << 42) - 1
"""The timestamps of samples lie between them (1971 to 2109): each takes six bytes as a varint."""
_RESOLUTION_LENGTHS = {"PT1H": timedelta(hours=1), **{f"PT{m}M": timedelta(minutes=m) for m in range(1, 60) if 60 % m == 0}}


@dataclass(frozen=True, slots=True)
class HistoryFamily:
    """A metric family of history series."""

    name: str
    help: str


_KWH, _M3 = str(Unit.KWH), str(Unit.M3)
_CONSUMPTION, _INJECTION = str(Direction.CONSUMPTION), str(Direction.INJECTION)
_INTERVAL_TIMESTAMP = "of [start, end), stamped at end - 1 ms"
_IN_MONTH = "in the local month up to a day, stamped at that day's end - 1 ms"
_IN_YEAR = "in the local year up to a day, stamped at that day's end - 1 ms"
ESTIMATED_FAMILY = HistoryFamily(
    "utility_interval_estimated", f"1 for an amount that the portal calls estimated, {_INTERVAL_TIMESTAMP}."
)
HISTORY_FAMILIES: Mapping[tuple[str, str, str], HistoryFamily] = {
    ("interval", _KWH, _CONSUMPTION): HistoryFamily(
        "utility_interval_consumption_kwh", f"Energy delivered by the network, {_INTERVAL_TIMESTAMP}."
    ),
    ("interval", _M3, _CONSUMPTION): HistoryFamily(
        "utility_interval_consumption_m3", f"Volume delivered, {_INTERVAL_TIMESTAMP}."
    ),
    ("interval", _KWH, _INJECTION): HistoryFamily(
        "utility_interval_injection_kwh", f"Energy injected into the network, {_INTERVAL_TIMESTAMP}."
    ),
    ("index", _KWH, _CONSUMPTION): HistoryFamily(
        "utility_measured_index_kwh", "The register, stamped at the instant it was read."
    ),
    ("index", _M3, _CONSUMPTION): HistoryFamily("utility_measured_index_m3", "The register, stamped at the instant it was read."),
    ("index", _KWH, _INJECTION): HistoryFamily(
        "utility_measured_injection_index_kwh", "The register of injected energy, stamped at the instant it was read."
    ),
    ("month_to_date", _KWH, _CONSUMPTION): HistoryFamily(
        "utility_month_to_date_consumption_kwh", f"Energy consumed from the grid {_IN_MONTH}."
    ),
    ("month_to_date", _M3, _CONSUMPTION): HistoryFamily("utility_month_to_date_consumption_m3", f"Volume consumed {_IN_MONTH}."),
    ("month_to_date", _KWH, _INJECTION): HistoryFamily(
        "utility_month_to_date_injection_kwh", f"Energy injected into the grid {_IN_MONTH}."
    ),
    ("year_to_date", _KWH, _CONSUMPTION): HistoryFamily(
        "utility_year_to_date_consumption_kwh", f"Energy consumed from the grid {_IN_YEAR}."
    ),
    ("year_to_date", _M3, _CONSUMPTION): HistoryFamily("utility_year_to_date_consumption_m3", f"Volume consumed {_IN_YEAR}."),
    ("year_to_date", _KWH, _INJECTION): HistoryFamily(
        "utility_year_to_date_injection_kwh", f"Energy injected into the grid {_IN_YEAR}."
    ),
    ("estimated", "", ""): ESTIMATED_FAMILY,
    ("peak", str(Unit.KW), _CONSUMPTION): HistoryFamily(
        "utility_measured_peak_kw", "The peak, stamped at the start of its quarter-hour."
    ),
    ("peak", str(Unit.KVA), _CONSUMPTION): HistoryFamily("utility_measured_peak_kva", "The peak, stamped at its own instant."),
}
"""By form, unit and direction; any other register has no history series."""


_INTERVAL_KEYS = {key for key in HISTORY_FAMILIES if key[0] == "interval"}


@dataclass(frozen=True, slots=True)
class HistorySeries:
    """One history series, and the series of the ledger that it is read from."""

    labels: LabelPairs
    series_id: int
    account: str
    timestamp_rule: TimestampRule
    family: HistoryFamily
    form: str
    resolution: str


def list_series(snapshot: Snapshot, aliases: Aliases, *, stored_only: bool = False) -> list[HistorySeries]:
    """Return all history series of the ledger in label order; of two with the same labels (equal aliases) the first.

    An account that is no longer configured has no aliases. `stored_only` leaves out what is calculated or selected from others.
    """
    found: dict[LabelPairs, HistorySeries] = {}
    rows = snapshot.select_series()
    for series in _iterate_stored(rows, aliases) if stored_only else _iterate_all(rows, aliases, snapshot.select_zones()):
        found.setdefault(series.labels, series)
    return sorted(found.values(), key=lambda series: series.labels)


def _iterate_stored(rows: Iterable[SeriesRow], aliases: Aliases) -> Iterator[HistorySeries]:
    return filter(None, (_build_stored_series(row, aliases.get(row.account, {})) for row in rows))


def _iterate_all(rows: Sequence[SeriesRow], aliases: Aliases, zones: Mapping[str, str]) -> Iterator[HistorySeries]:
    """Yield the history series of stored series, each followed by what is calculated from its days and marks its estimates."""
    days, lengths = defaultdict[tuple[str, ...], list[int]](list), defaultdict[tuple[str, ...], list[int]](list)
    for row in filter(_is_amount, rows):
        lengths[_length_key(row)].append(row.id)
        if row.resolution == "P1D":
            days[_days_key(row)].append(row.id)
    for row in rows:
        yield from _iterate_stored([row], aliases)
        if _is_amount(row):
            names = aliases.get(row.account, {})
            if row.resolution == "P1D":
                yield from _build_calendar_series(row, names, ZoneInfo(zones[row.account]), tuple(days[_days_key(row)]))
            if (ids := lengths[_length_key(row)])[0] == row.id:
                rule = replace(_choose_timestamp_rule(row.form, row.resolution), estimated=tuple(ids))
                yield _build(row, names, ESTIMATED_FAMILY, rule, row.resolution)


def _is_amount(row: SeriesRow) -> bool:
    """Return whether a series has amounts of at most a day."""
    return (row.form, row.unit, row.direction) in _INTERVAL_KEYS and row.resolution != "P1M"


def _days_key(row: SeriesRow) -> tuple[str, ...]:
    return row.account, row.usage_point, row.direction, row.unit


def _length_key(row: SeriesRow) -> tuple[str, ...]:
    return row.account, row.usage_point, row.register, row.resolution


def _build_calendar_series(
    row: SeriesRow, aliases: Mapping[str, str], zone: ZoneInfo, companions: tuple[int, ...]
) -> Iterator[HistorySeries]:
    """Yield the history series that are calculated from a series of days."""
    for calendar in (Calendar.MONTH_TO_DATE, Calendar.YEAR_TO_DATE):
        family = HISTORY_FAMILIES[calendar.value, row.unit, row.direction]
        rule = TimestampRule(offset=1, calendar=CalendarRule(calendar, zone, companions))
        yield _build(row, aliases, family, rule, "")


def _build_stored_series(row: SeriesRow, aliases: Mapping[str, str]) -> HistorySeries | None:
    """Return the history series of a series of the ledger; None if it has none."""
    family = HISTORY_FAMILIES.get((row.form, row.unit, row.direction))
    if family is None or (row.form == "index" and row.nature is not Nature.COUNTER):
        return None
    return _build(row, aliases, family, _choose_timestamp_rule(row.form, row.resolution), row.resolution)


def _build(
    row: SeriesRow, aliases: Mapping[str, str], family: HistoryFamily, rule: TimestampRule, resolution: str
) -> HistorySeries:
    labels = {
        "__name__": family.name,
        "account": clean_label(row.account),
        "register": "" if row.form == "peak" else clean_label(row.register),
        "resolution": resolution,
        "usage_point": clean_label(aliases.get(row.usage_point, row.usage_point)),
    }
    pairs = tuple(_share_pair(name, value) for name, value in labels.items() if value)
    return HistorySeries(pairs, row.id, row.account, rule, family, row.form, resolution)


@lru_cache(maxsize=256)
def _share_pair(name: str, value: str) -> tuple[str, str]:
    """Return a label; series listed one after the other share it, which halves the memory of many."""
    return name, value


@lru_cache(maxsize=256)
def _choose_timestamp_rule(form: str, resolution: str) -> TimestampRule:
    if form == "index":
        return TimestampRule(0)
    if form == "peak":
        return TimestampRule()
    length = _RESOLUTION_LENGTHS.get(resolution)
    return TimestampRule(offset=1) if length is None else TimestampRule(length // timedelta(milliseconds=1) - 1)
