"""The simulation of Enedis itself, behind every gateway: refusals, publication of days, data, and the bodies of 2026 and v5."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from exporter.simulators.enedis.homes import (
    DAY,
    PARIS,
    SimulatedHome,
    build_curve,
    compute_day_wh,
    compute_index,
    day_start,
    find_peak,
    pseudo_random,
)

HISTORY_DAYS = {"days": 1110, "max": 1110, "index": 1110, "curve": 745}
"""How many days are kept: 36 and 24 months, and 15 days each."""
STATUS_BY_CODE = {
    "ADAM-ERR0002": 400,
    "ADAM-ERR0069": 400,
    "ADAM-ERR0075": 400,
    "ADAM-ERR0123": 400,
    "ADAM-ERR0125": 400,
    "ADAM-ERR0126": 400,
    "ADAM-DC-0007": 400,
    "Invalid_request": 400,
    "no_data_found": 404,
    "technical_error": 500,
}


class EnedisRefusalError(Exception):
    """A refusal by Enedis: a status and a code."""

    def __init__(self, code: str, status: int | None = None) -> None:
        super().__init__(code)
        self.code, self.status = code, status or STATUS_BY_CODE.get(code, 403)


@dataclass(frozen=True, slots=True)
class SourceValue:
    """A value as measured: its timestamp is the end of an interval, a day, or an instant; None where it was lost."""

    value: int | None
    at: datetime | date
    minutes: int = 0


@dataclass(frozen=True, slots=True)
class SourceData:
    """The data of a successful call."""

    home: SimulatedHome
    kind: str
    producing: bool
    start: date
    end: date
    values: list[SourceValue]
    indexes: list[tuple[date, dict[str, int]]]


@dataclass(slots=True)
class EnedisSource:
    """Enedis, with its own clock.

    `delays` postpones a day, or one series of a day; `refusals` refuses a usage point with a code, `refused_series` one
    series of it, such as (prm, "production_curve"). `contract_starts` are of newer contracts than the activation.
    """

    clock: Callable[[], datetime]
    homes: dict[str, SimulatedHome]
    delays: dict[date | tuple[date, str], timedelta] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    refused_series: dict[tuple[str, str], str] = field(default_factory=dict)
    contract_starts: dict[str, date] = field(default_factory=dict)

    @property
    def today(self) -> date:
        """The local day."""
        return self.clock().astimezone(PARIS).date()

    def query(self, prm: str, kind: str, producing: bool, start: str, end: str) -> SourceData:
        """Return the data of local days [start, end). Raise EnedisRefusalError."""
        home = self.find_home(prm)
        first, last = _parse_day(start), _parse_day(end)
        self._check_request(home, kind, producing, first, last)
        days = [first + n * DAY for n in range((last - first).days)]
        ready = [day for day in days if self.ready_at(home, kind, producing, day) <= self.clock()]
        values = [value for day in ready for value in _list_values(home, kind, producing, day)]
        indexes = [(day, compute_index(home, producing, day)) for day in ready] if kind == "index" else []
        if not values and not indexes:
            raise EnedisRefusalError("no_data_found")
        return SourceData(home, kind, producing, first, last, values, indexes)

    def find_home(self, prm: str) -> SimulatedHome:
        """Return a home that consented. Raise EnedisRefusalError."""
        if len(prm) != 14 or not prm.isdecimal():
            raise EnedisRefusalError("Invalid_request")
        if prm not in self.homes:
            raise EnedisRefusalError("unauthorized_user", 403)
        if code := self.refusals.get(prm):
            raise EnedisRefusalError(code)
        return self.homes[prm]

    def ready_at(self, home: SimulatedHome, kind: str, producing: bool, day: date) -> datetime:
        """Return when a day of a series is published: between 8:00 and 10:30 on the next day, each on its own."""
        delay = timedelta(hours=8, minutes=pseudo_random(home.prm, kind, producing, day) % 150)
        extra_delay = self.delays.get(day, timedelta(0)) + self.delays.get((day, kind), timedelta(0))
        return day_start(day + DAY) + delay + extra_delay

    def _check_request(self, home: SimulatedHome, kind: str, producing: bool, first: date, last: date) -> None:
        if last <= first:
            raise EnedisRefusalError("ADAM-ERR0002")
        if last > self.today:
            raise EnedisRefusalError("Invalid_request")
        if code := self.refused_series.get((home.prm, f"{'production' if producing else 'consumption'}_{kind}")):
            raise EnedisRefusalError(code)
        if producing and not home.is_producer:
            raise EnedisRefusalError("ADAM-ERR0069")
        if kind == "curve" and (last - first).days > 7:
            raise EnedisRefusalError("ADAM-ERR0126")
        if first < (home.production_since if producing else home.activation):
            raise EnedisRefusalError("ADAM-ERR0123")
        if first < self.today - timedelta(days=HISTORY_DAYS[kind]):
            raise EnedisRefusalError("ADAM-ERR0125")


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise EnedisRefusalError("Invalid_request") from None


def _list_values(home: SimulatedHome, kind: str, producing: bool, day: date) -> Iterable[SourceValue]:
    """Return the values of a day: the 23rd has no daily energy, the 17th no curve, the 9th a hole, the 5th a lost peak."""
    if kind == "days" and day.day != 23:
        yield SourceValue(compute_day_wh(home, producing, day), day)
    elif kind == "max":
        at, va = find_peak(home, day)
        yield SourceValue(None if day.day == 5 else va, at)
    elif kind == "curve" and day.day != 17 and home.hourly_since and day >= home.hourly_since:
        for block in build_curve(home, producing, day):
            if not (day.day == 9 and 10 <= block.start.astimezone(PARIS).hour < 14):
                yield SourceValue(block.watts, block.end, home.get_interval_minutes(day))


def build_contracts(source: EnedisSource, home: SimulatedHome) -> list[dict[str, Any]]:
    """Return the contracts of a home by 2026, including the customer; a producer's has no subscribed power."""
    start = source.contract_starts.get(home.prm, home.activation)
    rows: list[tuple[str, str, dict[str, str] | None, date]] = [
        ("Contrat GRD-F", "C5", {"unit": "kVA", "value": str(home.subscribed_kva)}, start)
    ]
    if home.is_producer:
        rows.insert(0, ("Contrat GRD-A", "P4", None, home.production_since))
    return [
        {
            "usage_point_id": home.prm,
            "contract_start": f"{begins}T00:00:00+0100",
            "contract_type": kind,
            "contractor": "SUPPLIER",
            "customer": {"name": "Invented Person", "email": "invented@example.org"},
            "distribution_tariff": "CU4",
            "subscribed_power": power,
            "segment": segment,
        }
        for kind, segment, power, begins in rows
    ]


def build_contract_object(source: EnedisSource, home: SimulatedHome) -> dict[str, Any]:
    """Return what MyElectricalData v2 puts together of three calls, one of which had no answer."""
    synthesis: dict[str, Any] = {"segments": [{"segment": "C5"}], "services_level": "made up"}
    synthesis["consumption_last_activation_date"] = f"{home.activation}T00:00:00+0100"
    if home.is_producer:
        synthesis["generation_last_activation_date"] = f"{home.production_since}T00:00:00+0100"
    return {"situation_contrat": build_contracts(source, home), "synthese_contrat": synthesis, "comptage": None}


def build_contract_v5(source: EnedisSource, home: SimulatedHome) -> dict[str, Any]:
    """Return the contract of a home in the form of v5."""
    contracts = {
        "segment": "C5",
        "subscribed_power": f"{home.subscribed_kva} kVA",
        "last_activation_date": f"{source.contract_starts.get(home.prm, home.activation)}+01:00",
        "distribution_tariff": "BTINFMUDT",
        "offpeak_hours": None if len(home.classes) == 1 else "HC (22H00-6H00)",
        "contract_type": "Contrat GRD-F",
        "contract_status": "SERVC",
    }
    point = {"usage_point_id": home.prm, "usage_point_status": "com", "meter_type": "AMM"}
    return {"customer": {"customer_id": "1000000000", "usage_points": [{"usage_point": point, "contracts": contracts}]}}


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
        reading = {"value": None if value.value is None else str(value.value), "date": _format_stamp(value.at)}
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
    return replace(data, values=sorted(moved, key=lambda value: _format_stamp(value.at)))


def _move_stamp(value: SourceValue, naive: bool) -> datetime:
    assert isinstance(value.at, datetime)
    length = timedelta(minutes=value.minutes)
    return value.at.astimezone(PARIS).replace(tzinfo=None) - length if naive else value.at - length


def _format_stamp(at: datetime | date) -> str:
    """Return a local time without offset."""
    if not isinstance(at, datetime):
        return str(at)
    return f"{at if at.tzinfo is None else at.astimezone(PARIS):%Y-%m-%d %H:%M:%S}"


def _build_quantity(data: SourceData) -> dict[str, Any]:
    physical, unit = PHYSICAL_QUANTITIES[data.kind]
    return {"grandeurMetier": "PROD" if data.producing else "CONS", "grandeurPhysique": physical, "unite": unit}


def _build_point(value: SourceValue) -> dict[str, Any]:
    point: dict[str, Any] = {"v": None if value.value is None else str(value.value), "d": _format_stamp(value.at)}
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
