"""The history series: their names, labels and timestamps, by series of the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from exporter.ledger.ledger import Snapshot
from exporter.ledger.queries import SeriesRow, TimestampRule
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
    ("peak", str(Unit.KW), _CONSUMPTION): HistoryFamily(
        "utility_measured_peak_kw", "The peak, stamped at the start of its quarter-hour."
    ),
    ("peak", str(Unit.KVA), _CONSUMPTION): HistoryFamily("utility_measured_peak_kva", "The peak, stamped at its own instant."),
}
"""By form, unit and direction; any other register has no history series."""


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


def list_series(snapshot: Snapshot, aliases: Aliases) -> list[HistorySeries]:
    """Return all history series of the ledger in label order; of two with the same labels (equal aliases) the first.

    An account that is no longer configured has no aliases.
    """
    found: dict[LabelPairs, HistorySeries] = {}
    for row in snapshot.select_series():
        if series := build_series(row, aliases.get(row.account, {})):
            found.setdefault(series.labels, series)
    return sorted(found.values(), key=lambda series: series.labels)


def build_series(row: SeriesRow, aliases: Mapping[str, str]) -> HistorySeries | None:
    """Return the history series of a series of the ledger; None if it has none."""
    family = HISTORY_FAMILIES.get((row.form, row.unit, row.direction))
    if family is None or (row.form == "index" and row.nature is not Nature.COUNTER):
        return None
    labels = {
        "__name__": family.name,
        "account": clean_label(row.account),
        "register": "" if row.form == "peak" else clean_label(row.register),
        "resolution": row.resolution,
        "usage_point": clean_label(aliases.get(row.usage_point, row.usage_point)),
    }
    pairs = tuple((name, value) for name, value in labels.items() if value)
    return HistorySeries(pairs, row.id, row.account, _choose_timestamp_rule(row), family, row.form, row.resolution)


def _choose_timestamp_rule(row: SeriesRow) -> TimestampRule:
    if row.form == "index":
        return TimestampRule(0)
    if row.form == "peak":
        return TimestampRule()
    length = _RESOLUTION_LENGTHS.get(row.resolution)
    return TimestampRule(offset=1) if length is None else TimestampRule(length // timedelta(milliseconds=1) - 1)
