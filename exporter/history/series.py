"""The true-time series: which line of the ledger is which, under what labels, stamped where."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from exporter.ledger import Look, SeriesRow, Stamping
from exporter.model import Direction, Nature, Unit, clean

Labels = tuple[tuple[str, str], ...]
"""Names and values in the order of the names, `__name__` first; none is empty."""
Aliases = Mapping[str, Mapping[str, str]]
"""Account -> usage point id -> the name shown instead."""

OURS = frozenset({"__name__", "account", "register", "resolution", "usage_point"})
"""The labels that true-time series have."""
_LENGTHS = {"PT1H": timedelta(hours=1), **{f"PT{m}M": timedelta(minutes=m) for m in range(1, 60) if 60 % m == 0}}


@dataclass(frozen=True, slots=True)
class TrueFamily:
    """A family of true-time series."""

    name: str
    help: str


_KWH, _M3 = str(Unit.KWH), str(Unit.M3)
_IN, _OUT = str(Direction.CONSUMPTION), str(Direction.INJECTION)
_STAMPED = "of [start, end), stamped at end - 1 ms"
FAMILIES: Mapping[tuple[str, str, str], TrueFamily] = {
    ("interval", _KWH, _IN): TrueFamily("utility_interval_consumption_kwh", f"Energy delivered by the network, {_STAMPED}."),
    ("interval", _M3, _IN): TrueFamily("utility_interval_consumption_m3", f"Volume delivered, {_STAMPED}."),
    ("interval", _KWH, _OUT): TrueFamily("utility_interval_injection_kwh", f"Energy fed into the network, {_STAMPED}."),
    ("index", _KWH, _IN): TrueFamily("utility_measured_index_kwh", "The register, stamped at the instant it was read."),
    ("index", _M3, _IN): TrueFamily("utility_measured_index_m3", "The register, stamped at the instant it was read."),
    ("index", _KWH, _OUT): TrueFamily(
        "utility_measured_injection_index_kwh", "The register of fed-in energy, stamped at the instant it was read."
    ),
    ("peak", str(Unit.KW), _IN): TrueFamily("utility_measured_peak_kw", "The peak, stamped at the start of its quarter-hour."),
    ("peak", str(Unit.KVA), _IN): TrueFamily("utility_measured_peak_kva", "The peak, stamped at its own instant."),
}
"""By form, unit and direction; a register of any other kind has no true-time series."""


@dataclass(frozen=True, slots=True)
class TrueSeries:
    """One true-time series, and the line of the ledger it is read from."""

    labels: Labels
    line: int
    account: str
    stamping: Stamping
    family: TrueFamily
    form: str
    resolution: str


def catalogue(look: Look, aliases: Aliases) -> list[TrueSeries]:
    """List all true-time series of the ledger in label order; of two with the same labels (two aliases alike) the first stays.

    An account that is no longer configured has no aliases.
    """
    found: dict[Labels, TrueSeries] = {}
    for row in look.series():
        if one := true_series(row, aliases.get(row.account, {})):
            found.setdefault(one.labels, one)
    return sorted(found.values(), key=lambda one: one.labels)


def true_series(row: SeriesRow, aliases: Mapping[str, str]) -> TrueSeries | None:
    """Name a line of the ledger; None where it has no true-time series."""
    family = FAMILIES.get((row.form, row.unit, row.direction))
    if family is None or (row.form == "index" and row.nature is not Nature.COUNTER):
        return None
    labels = {
        "__name__": family.name,
        "account": clean(row.account),
        "register": "" if row.form == "peak" else clean(row.register),
        "resolution": row.resolution,
        "usage_point": clean(aliases.get(row.usage_point, row.usage_point)),
    }
    shown = tuple((name, value) for name, value in labels.items() if value)
    return TrueSeries(shown, row.id, row.account, _stamping(row), family, row.form, row.resolution)


def _stamping(row: SeriesRow) -> Stamping:
    if row.form == "index":
        return Stamping(0)
    if row.form == "peak":
        return Stamping()
    length = _LENGTHS.get(row.resolution)
    return Stamping(less=1) if length is None else Stamping(length // timedelta(milliseconds=1) - 1)
