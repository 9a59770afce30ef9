"""The metrics, out of the one table of families, and the true-time series."""

from collections.abc import Mapping

from docs.tables import code, table
from exporter.history.series import FAMILIES as TRUE
from exporter.metrics.families import CACHED, GROUPS, Family, Kind

UNITS = {
    "timestamp_seconds": "seconds since 1970",
    "seconds": "seconds",
    "kwh": "kWh",
    "m3": "m³",
    "kw": "kW",
    "kva": "kVA",
    "celsius": "°C",
    "ratio": "0 to 1",
    "info": "always 1",
}
"""By the end of the name."""


def parts() -> Mapping[str, str]:
    """Make a table for each group of the live page, and one of the true-time series."""
    made = {name: table(("family", "labels", "unit", "says"), map(row, group)) for name, group in GROUPS.items()}
    true = {family.name: (code(family.name), unit(family.name, family.help), family.help) for family in TRUE.values()}
    return made | {"true-time": table(("family", "unit", "says"), true.values())}


def row(family: Family) -> tuple[str, ...]:
    """Write the row of one family."""
    labels, says = ", ".join(map(code, family.labels)) or "none", family.help.replace(f"; {CACHED}", "")
    return code(family.name), labels, "counter" if family.kind is Kind.COUNTER else unit(family.name, says), says


def unit(name: str, says: str) -> str:
    """Say the unit that a family's name ends in; a flag says what its 1 means."""
    plain = "0 or 1" if says.startswith("1 w") else "number"
    return next((said for end, said in UNITS.items() if name.endswith(f"_{end}")), plain)
