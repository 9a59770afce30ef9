"""The words: what a portal can tell about a meter, with its units and instants."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from exporter.errors import PortalError, ReadingError

MAX_VALUE = 1e15
"""No meter shows more than this; twice as much as a float holds would end every sum."""
MIN_YEAR, MAX_YEAR = 1900, 9000
"""The years in which readings lie; beyond them the calendar itself ends."""


class Commodity(StrEnum):
    """What is delivered at a usage point."""

    ELECTRICITY = "electricity"
    GAS = "gas"
    WATER = "water"
    HEAT = "heat"
    COLD = "cold"
    OTHER = "other"


class Unit(StrEnum):
    """The units that leave a portal; a counter in none of them keeps the portal's own text."""

    KWH = "kWh"
    M3 = "m³"
    KW = "kW"
    KVA = "kVA"
    CELSIUS = "°C"
    RELATIVE_HUMIDITY = "RH"
    """Relative humidity as a ratio from 0 to 1."""


class Direction(StrEnum):
    """Which way it flowed: what the network delivered, or what was fed in."""

    CONSUMPTION = "consumption"
    INJECTION = "injection"


class Nature(StrEnum):
    """What the number of a register means."""

    COUNTER = "counter"
    """It counts up; what was used is the difference of two readings."""
    MOMENTARY = "momentary"
    """A value of that moment, such as a temperature."""
    AMOUNT = "amount"
    """Each value is an amount of its own; the span it covers is not known."""
    STATE = "state"
    """A number out of a list, such as open or shut."""


class Fact(StrEnum):
    """What a portal states about a usage point besides readings; flags are 0 or 1."""

    DIVERGENT_CONSUMPTION = "divergent_consumption"
    METER_ACTIVE = "meter_active"
    FLOW_LIMITATION = "flow_limitation"
    UP_TO_DATE = "up_to_date"
    NO_DATA_PERMISSION = "no_data_permission"
    DAY_OFFSET = "day_offset"
    SUBSCRIBED_POWER = "subscribed_power"
    """kVA."""


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """Where a commodity is delivered.

    `id` is the portal's own (EAN, PRM, water meter number, CEM `me_id`); `meter` is the serial of the device mounted
    there now; `address` is personal and dropped unless the account allows it.
    """

    id: str
    commodity: Commodity
    meter: str = ""
    site: str = ""
    name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Register:
    """One counting line of a usage point.

    `unit` is a `Unit`, or the portal's own text for what is none of them; `kind`, `portal_unit` and `description` only
    describe.
    """

    usage_point: UsagePoint
    unit: str
    direction: Direction = Direction.CONSUMPTION
    name: str = "total"
    nature: Nature = Nature.COUNTER
    kind: str = ""
    portal_unit: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """What a register showed at an instant (aware, UTC)."""

    register: Register
    value: float
    at: datetime

    def __post_init__(self) -> None:
        _require_possible_value(self.value)
        _require_aware(self.at)


@dataclass(frozen=True, slots=True)
class Interval:
    """What passed through a register in [start, end) (aware, UTC), in the register's unit."""

    register: Register
    start: datetime
    end: datetime
    amount: float
    is_estimated: bool = False
    """Whether the portal says that it is an estimate, or provisional."""

    def __post_init__(self) -> None:
        _require_possible_value(self.amount)
        _require_aware(self.start, self.end)
        format_resolution(self.end - self.start)


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest power of the period [start, end), in kW or kVA, reached at `at` (aware, UTC; None: not known)."""

    usage_point: UsagePoint
    unit: Unit
    start: datetime
    end: datetime
    power: float
    at: datetime | None

    def __post_init__(self) -> None:
        _require_possible_value(self.power)
        _require_aware(self.start, self.end, self.at or self.start)
        format_resolution(self.end - self.start)


Reading = Index | Interval | Peak


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the portal states now about a usage point; what is not among the values is no longer stated."""

    usage_point: UsagePoint
    values: Mapping[Fact, float]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the account (personal, dropped unless the account allows it), and until when access lasts."""

    name: str = ""
    company: str = ""
    company_id: str = ""
    customer_id: str = ""
    person_id: str = ""
    access_expires: datetime | None = None
    """End of what a person must renew; never of a token the program renews itself."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the account holds now: points and registers outside it leave the page (the ledger keeps them).

    `registers` is None where a portal does not list them: then all registers of the points stay.
    """

    usage_points: tuple[UsagePoint, ...]
    registers: tuple[Register, ...] | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something its user should know that is no failure; shown on the status page, logged when it is new."""

    text: str


@dataclass(frozen=True, slots=True)
class NextVisit:
    """When the portal's own rhythm wants us back after a visit that succeeded (aware, UTC)."""

    at: datetime


@dataclass(frozen=True, slots=True)
class PartialFailure:
    """A part of the visit that failed while the rest is good: what was told is kept, the visit counts as failed."""

    error: PortalError


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """A JSON value for the portal's memory that is kept in the same transaction as the readings told, or not at all.

    What was asked and brought readings is remembered so: put into `session.memory` at once it would outlive a visit whose
    readings were lost, and they would never be asked again.
    """

    key: str
    value: object
    expires_at: datetime | None = None


VisitPart = Reading | Facts | Holder | Inventory | Note | NextVisit | PartialFailure | StateUpdate
"""A part of a visit."""


@dataclass(frozen=True, slots=True)
class VisitResult:
    """What a visit brought; all of it is stored in one transaction, or nothing."""

    readings: Sequence[Reading] = ()
    facts: Sequence[Facts] = ()
    inventory: Inventory | None = None
    """None: what is shown stays."""
    holder: Holder | None = None
    notes: Sequence[str] = ()
    """What the user should know that is no failure; shown on the status page, logged when it is new."""
    state: Sequence[StateUpdate] = ()
    next_visit: datetime | None = None
    """When the portal's own rhythm wants the next visit after one that succeeded (aware, UTC)."""
    failures: Sequence[PortalError] = ()
    """What failed while the rest is good: the rest is stored, the visit counts as failed."""
    skipped: int = 0
    """Values or rows of responses that could not be understood and were left out."""

    @classmethod
    def from_parts(cls, parts: Sequence[VisitPart]) -> "VisitResult":
        """Return a result of parts."""
        return cls(
            readings=[part for part in parts if isinstance(part, Index | Interval | Peak)],
            facts=[part for part in parts if isinstance(part, Facts)],
            inventory=next((part for part in reversed(parts) if isinstance(part, Inventory)), None),
            holder=next((part for part in reversed(parts) if isinstance(part, Holder)), None),
            notes=[part.text for part in parts if isinstance(part, Note)],
            state=[part for part in parts if isinstance(part, StateUpdate)],
            next_visit=next((part.at for part in parts if isinstance(part, NextVisit)), None),
            failures=[part.error for part in parts if isinstance(part, PartialFailure)],
        )

    def parts(self) -> Iterator[VisitPart]:
        """Return what the ledger stores."""
        yield from self.readings
        yield from self.facts
        if self.holder:
            yield self.holder
        if self.inventory:
            yield self.inventory
        yield from map(Note, self.notes)
        yield from self.state


@dataclass(frozen=True, slots=True)
class StoredInterval:
    """An interval the ledger holds, and when we learned its present amount."""

    register: str
    direction: Direction
    unit: str
    start: datetime
    end: datetime
    amount: float
    learned_at: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what `discover` prints, its facts, and what stands under it."""

    text: str
    facts: Mapping[str, object] = field(default_factory=dict)
    children: tuple["Finding", ...] = ()


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an account holds: a tree, and the lines of the configuration that would select it."""

    findings: tuple[Finding, ...]
    config: str
    notes: tuple[str, ...] = ()


DAY = timedelta(days=1)
_NAMED_RESOLUTIONS = {timedelta(hours=1): "PT1H", **{timedelta(hours=h): "P1D" for h in (23, 24, 25)}}


def format_resolution(length: timedelta) -> str:
    """Give the ISO 8601 name of a period's length; days have 23, 24 or 25 hours, months 28 to 31 days give or take one.

    Raises ValueError for a length that no portal delivers.
    """
    if named := _NAMED_RESOLUTIONS.get(length):
        return named
    minutes, rest = divmod(length, timedelta(minutes=1))
    if not rest and 0 < minutes < 60 and 60 % minutes == 0:
        return f"PT{minutes}M"
    if timedelta(days=27, hours=23) <= length <= timedelta(days=31, hours=1):
        return "P1M"
    raise ValueError(f"a period of {length} is neither an interval, a day nor a month")


def is_possible_value(value: float) -> bool:
    """Say whether a meter can show a number."""
    return -MAX_VALUE <= value <= MAX_VALUE  # not a number is neither


def clean_label(text: str) -> str:
    """Make a portal's free text fit for a label: no control characters, at most 200 characters."""
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text[:400]))
    return text[:200].strip()


def _require_possible_value(value: float) -> None:
    if not is_possible_value(value):
        raise ReadingError("a reading must be a finite number, such as a meter can show")


def _require_aware(*instants: datetime) -> None:
    for at in instants:
        if at.tzinfo is not UTC and at.utcoffset() is None:
            raise ValueError("an instant must be aware")
        if not MIN_YEAR <= at.year <= MAX_YEAR:
            raise ReadingError("a reading must lie in our time")
