"""How answers are written: the form of 2026 and v5, stamps in local time without offset."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from exporter.demo.enedis.homes import PARIS, Home
from exporter.demo.enedis.source import Taken, Value

PHYSICAL = {"days": ("EA", "Wh"), "curve": ("PA", "W"), "max": ("PMA", "VA"), "index": ("EA", "Wh")}
READING_TYPES: dict[str, dict[str, str]] = {
    "days": {"unit": "Wh", "measurement_kind": "energy", "aggregate": "sum", "measuring_period": "P1D"},
    "max": {"unit": "VA", "measurement_kind": "power", "aggregate": "maximum", "measuring_period": "P1D"},
    "curve": {"unit": "W", "measurement_kind": "power", "aggregate": "average"},
}


def form_2026(taken: Taken) -> dict[str, Any]:
    """Write an answer of 2026."""
    body: dict[str, Any] = {"idPrm": taken.home.prm, "etapeMetier": "BRUT"}
    body["periode"] = {"dateDebut": str(taken.start), "dateFin": str(taken.end)}
    if taken.kind == "index":
        return body | {"grandeur": [], "contexte": [_context(taken)]}
    if taken.kind == "days":
        body |= {"typeValeur": "GLOBALE", "modeCalcul": "DIFF.INDEX", "pas": "P1D"}
    else:
        body |= {"modeCalcul": "MESURE"} | ({"pas": "P1D"} if taken.kind == "max" else {})
    points = [_point(value) for value in taken.values]
    return body | {"grandeur": [_quantity(taken) | {"points": points, "calendrier": []}], "contexte": []}


def form_v5(taken: Taken) -> dict[str, Any]:
    """Write what v5 has inside `meter_reading`."""
    readings = []
    for value in taken.values:
        reading = {"value": None if value.v is None else str(value.v), "date": stamp(value.at)}
        readings.append(reading | ({"interval_length": f"PT{value.minutes}M", "measure_type": "B"} if value.minutes else {}))
    return {
        "usage_point_id": taken.home.prm,
        "start": str(taken.start),
        "end": str(taken.end),
        "quality": "BRUT",
        "reading_type": READING_TYPES[taken.kind],
        "interval_reading": readings,
    }


def at_starts(taken: Taken, *, naive: bool) -> Taken:
    """Move the stamps of a curve to the starts of its intervals; `naive` forgets that clocks change."""
    if taken.kind != "curve":
        return taken
    return replace(taken, values=[replace(value, at=_moved(value, naive)) for value in taken.values])


def _moved(value: Value, naive: bool) -> datetime:
    assert isinstance(value.at, datetime)
    length = timedelta(minutes=value.minutes)
    return value.at.astimezone(PARIS).replace(tzinfo=None) - length if naive else value.at - length


def stamp(at: datetime | date) -> str:
    """Write local time without offset."""
    if not isinstance(at, datetime):
        return str(at)
    return f"{at if at.tzinfo is None else at.astimezone(PARIS):%Y-%m-%d %H:%M:%S}"


def _quantity(taken: Taken) -> dict[str, Any]:
    physical, unit = PHYSICAL[taken.kind]
    return {"grandeurMetier": "PROD" if taken.producing else "CONS", "grandeurPhysique": physical, "unite": unit}


def _point(value: Value) -> dict[str, Any]:
    point: dict[str, Any] = {"v": None if value.v is None else str(value.v), "d": stamp(value.at)}
    return point | ({"p": f"PT{value.minutes}M", "n": "B", "iv": "0", "ec": "0"} if value.minutes else {})


def _context(taken: Taken) -> dict[str, Any]:
    calendar = [] if taken.producing else [_calendar(taken.home, taken)]
    total = [{"d": f"{day} 00:00:00", "v": sum(shown.values()), "iv": 0} for day, shown in taken.indexes]
    quantity = _quantity(taken) | {"points": [], "calendrier": calendar}
    quantity["cadranTotalisateur"] = {"codeCadran": "EAS", "valeur": total}
    return {"etapeMetier": "BRUT", "contexteReleve": "COL", "typeReleve": "AQ", "grandeur": [quantity]}


def _calendar(home: Home, taken: Taken) -> dict[str, Any]:
    classes = [
        {
            "idClasseTemporelle": each.id,
            "libelleClasseTemporelle": each.label,
            "codeCadran": f"{place:02}",
            "valeur": [{"d": f"{day} 00:00:00", "v": shown[each.id], "iv": 0} for day, shown in taken.indexes],
        }
        for place, each in enumerate(home.classes, 1)
    ]
    return {"idCalendrier": "FC000002", "libelleCalendrier": "Invented calendar", "classeTemporelle": classes}
