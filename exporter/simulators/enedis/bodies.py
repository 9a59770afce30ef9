"""Response bodies of 2026 and v5; timestamps are local times without offset."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from exporter.simulators.enedis.homes import PARIS, SimulatedHome
from exporter.simulators.enedis.source import SourceData, SourceValue

PHYSICAL_QUANTITIES = {"days": ("EA", "Wh"), "curve": ("PA", "W"), "max": ("PMA", "VA"), "index": ("EA", "Wh")}
READING_TYPES: dict[str, dict[str, str]] = {
    "days": {"unit": "Wh", "measurement_kind": "energy", "aggregate": "sum", "measuring_period": "P1D"},
    "max": {"unit": "VA", "measurement_kind": "power", "aggregate": "maximum", "measuring_period": "P1D"},
    "curve": {"unit": "W", "measurement_kind": "power", "aggregate": "average"},
}


def build_body_2026(data: SourceData) -> dict[str, Any]:
    """Return a body of 2026."""
    body: dict[str, Any] = {"idPrm": data.home.prm, "etapeMetier": "BRUT"}
    body["periode"] = {"dateDebut": str(data.start), "dateFin": str(data.end)}
    if data.kind == "index":
        return body | {"grandeur": [], "contexte": [_build_context(data)]}
    if data.kind == "days":
        body |= {"typeValeur": "GLOBALE", "modeCalcul": "DIFF.INDEX", "pas": "P1D"}
    else:
        body |= {"modeCalcul": "MESURE"} | ({"pas": "P1D"} if data.kind == "max" else {})
    points = [_build_point(value) for value in data.values]
    return body | {"grandeur": [_build_quantity(data) | {"points": points, "calendrier": []}], "contexte": []}


def build_body_v5(data: SourceData) -> dict[str, Any]:
    """Return what v5 has inside `meter_reading`."""
    readings = []
    for value in data.values:
        reading = {"value": None if value.value is None else str(value.value), "date": format_stamp(value.at)}
        readings.append(reading | ({"interval_length": f"PT{value.minutes}M", "measure_type": "B"} if value.minutes else {}))
    return {
        "usage_point_id": data.home.prm,
        "start": str(data.start),
        "end": str(data.end),
        "quality": "BRUT",
        "reading_type": READING_TYPES[data.kind],
        "interval_reading": readings,
    }


def move_stamps_to_starts(data: SourceData, *, naive: bool) -> SourceData:
    """Return a curve with the timestamps at the starts of its intervals, sorted as text; `naive` ignores clock changes."""
    moved = [replace(value, at=_move_stamp(value, naive)) for value in data.values]
    return replace(data, values=sorted(moved, key=lambda value: format_stamp(value.at)))


def _move_stamp(value: SourceValue, naive: bool) -> datetime:
    assert isinstance(value.at, datetime)
    length = timedelta(minutes=value.minutes)
    return value.at.astimezone(PARIS).replace(tzinfo=None) - length if naive else value.at - length


def format_stamp(at: datetime | date) -> str:
    """Return a local time without offset."""
    if not isinstance(at, datetime):
        return str(at)
    return f"{at if at.tzinfo is None else at.astimezone(PARIS):%Y-%m-%d %H:%M:%S}"


def _build_quantity(data: SourceData) -> dict[str, Any]:
    physical, unit = PHYSICAL_QUANTITIES[data.kind]
    return {"grandeurMetier": "PROD" if data.producing else "CONS", "grandeurPhysique": physical, "unite": unit}


def _build_point(value: SourceValue) -> dict[str, Any]:
    point: dict[str, Any] = {"v": None if value.value is None else str(value.value), "d": format_stamp(value.at)}
    return point | ({"p": f"PT{value.minutes}M", "n": "B", "iv": "0", "ec": "0"} if value.minutes else {})


def _build_context(data: SourceData) -> dict[str, Any]:
    calendar = [] if data.producing else [_build_calendar(data.home, data)]
    total = [{"d": f"{day} 00:00:00", "v": sum(shown.values()), "iv": 0} for day, shown in data.indexes]
    quantity = _build_quantity(data) | {"points": [], "calendrier": calendar}
    quantity["cadranTotalisateur"] = {"codeCadran": "EAS", "valeur": total}
    return {"etapeMetier": "BRUT", "contexteReleve": "COL", "typeReleve": "AQ", "grandeur": [quantity]}


def _build_calendar(home: SimulatedHome, data: SourceData) -> dict[str, Any]:
    classes = [
        {
            "idClasseTemporelle": each.id,
            "libelleClasseTemporelle": each.label,
            "codeCadran": f"{position:02}",
            "valeur": [{"d": f"{day} 00:00:00", "v": shown[each.id], "iv": 0} for day, shown in data.indexes],
        }
        for position, each in enumerate(home.classes, 1)
    ]
    return {"idCalendrier": "FC000002", "libelleCalendrier": "Invented calendar", "classeTemporelle": classes}
