"""Enedis itself, behind every gateway: what it refuses, when a day is ready, and what it says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from exporter.demo.enedis.homes import DAY, PARIS, Home, chance, curve, day_wh, index, midnight, peak

HISTORY = {"days": 1110, "max": 1110, "index": 1110, "curve": 745}
"""How many days are kept: 36 and 24 months, and 15 days each."""
ERRORS = {
    "ADAM-ERR0002": 400,
    "ADAM-ERR0069": 400,
    "ADAM-ERR0075": 400,
    "ADAM-ERR0123": 400,
    "ADAM-ERR0125": 400,
    "ADAM-ERR0126": 400,
    "Invalid_request": 400,
    "no_data_found": 404,
    "technical_error": 500,
}


class RefusalError(Exception):
    """Enedis refuses: a status and a code."""

    def __init__(self, code: str, status: int | None = None) -> None:
        super().__init__(code)
        self.code, self.status = code, status or ERRORS.get(code, 403)


@dataclass(frozen=True, slots=True)
class Value:
    """A value as measured: its stamp is the end of an interval, a day, or an instant; `v` is None where it was lost."""

    v: int | None
    at: datetime | date
    minutes: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a good call is answered with."""

    home: Home
    kind: str
    producing: bool
    start: date
    end: date
    values: list[Value]
    indexes: list[tuple[date, dict[str, int]]]


@dataclass(slots=True)
class Source:
    """Enedis, on its own clock.

    `late` moves the readiness of a day, or of one series of a day; `closed` refuses a usage point with a code.
    """

    clock: Callable[[], datetime]
    homes: dict[str, Home]
    late: dict[date | tuple[date, str], timedelta] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)

    @property
    def today(self) -> date:
        """The local day."""
        return self.clock().astimezone(PARIS).date()

    def ask(self, prm: str, kind: str, producing: bool, start: str, end: str) -> Taken:
        """Answer for local days [start, end), or raise RefusalError."""
        home = self.home(prm)
        first, last = _day(start), _day(end)
        self._check(home, kind, producing, first, last)
        days = [first + n * DAY for n in range((last - first).days)]
        ready = [day for day in days if self.ready(home, kind, producing, day) <= self.clock()]
        values = [value for day in ready for value in _values(home, kind, producing, day)]
        indexes = [(day, index(home, producing, day)) for day in ready] if kind == "index" else []
        if not values and not indexes:
            raise RefusalError("no_data_found")
        return Taken(home, kind, producing, first, last, values, indexes)

    def home(self, prm: str) -> Home:
        """Find a home that consented."""
        if len(prm) != 14 or not prm.isdecimal():
            raise RefusalError("Invalid_request")
        if prm not in self.homes:
            raise RefusalError("unauthorized_user", 403)
        if code := self.closed.get(prm):
            raise RefusalError(code)
        return self.homes[prm]

    def ready(self, home: Home, kind: str, producing: bool, day: date) -> datetime:
        """Say when a day of a series can be had: between eight and half past ten on the next morning, each on its own."""
        delay = timedelta(hours=8, minutes=chance(home.prm, kind, producing, day) % 150)
        late = self.late.get(day, timedelta(0)) + self.late.get((day, kind), timedelta(0))
        return midnight(day + DAY) + delay + late

    def _check(self, home: Home, kind: str, producing: bool, first: date, last: date) -> None:
        if last <= first:
            raise RefusalError("ADAM-ERR0002")
        if last > self.today:
            raise RefusalError("Invalid_request")
        if producing and not home.producing:
            raise RefusalError("ADAM-ERR0069")
        if kind == "curve" and (last - first).days > 7:
            raise RefusalError("ADAM-ERR0126")
        if first < home.activation:
            raise RefusalError("ADAM-ERR0123")
        if first < self.today - timedelta(days=HISTORY[kind]):
            raise RefusalError("ADAM-ERR0125")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RefusalError("Invalid_request") from None


def _values(home: Home, kind: str, producing: bool, day: date) -> Iterable[Value]:
    """Give what was kept of a day: the 23rd has no daily energy, the 17th no curve, the 9th a hole, the 5th a lost peak."""
    if kind == "days" and day.day != 23:
        yield Value(day_wh(home, producing, day), day)
    elif kind == "max":
        at, va = peak(home, day)
        yield Value(None if day.day == 5 else va, at)
    elif kind == "curve" and day.day != 17 and home.hourly_since and day >= home.hourly_since:
        for block in curve(home, producing, day):
            if not (day.day == 9 and 10 <= block.start.astimezone(PARIS).hour < 14):
                yield Value(block.watts, block.end, home.minutes(day))


def contract_2026(home: Home) -> list[dict[str, Any]]:
    """Say the contracts of a home, customer included."""
    found = [
        {
            "usage_point_id": home.prm,
            "contract_start": f"{home.activation}T00:00:00+0100",
            "contract_type": kind,
            "contractor": "SUPPLIER",
            "customer": {"name": "Invented Person", "email": "invented@example.org"},
            "distribution_tariff": "CU4",
            "subscribed_power": {"unit": "kVA", "value": str(kva)},
            "segment": segment,
        }
        for kind, segment, kva in (("Contrat GRD-A", "P4", 3), ("Contrat GRD-F", "C5", home.kva))
    ]
    return found if home.producing else found[1:]


def contract_v5(home: Home) -> dict[str, Any]:
    """Say the contract as before 2026."""
    contracts = {
        "segment": "C5",
        "subscribed_power": f"{home.kva} kVA",
        "last_activation_date": f"{home.activation}+01:00",
        "distribution_tariff": "BTINFMUDT",
        "offpeak_hours": None if len(home.classes) == 1 else "HC (22H00-6H00)",
        "contract_type": "Contrat GRD-F",
        "contract_status": "SERVC",
    }
    point = {"usage_point_id": home.prm, "usage_point_status": "com", "meter_type": "AMM"}
    return {"customer": {"customer_id": "1000000000", "usage_points": [{"usage_point": point, "contracts": contracts}]}}
