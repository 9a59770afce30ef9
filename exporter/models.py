"""The data model: readings, facts and all else that a visit to a portal can return."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from exporter.errors import PortalError, ReadingError

MAX_VALUE = 1e15
"""No meter shows more than this; values near the maximum of a float would break every sum."""
MIN_YEAR, MAX_YEAR = 2000, 9000
"""The years in which readings lie; beyond them `datetime` itself ends."""


class Commodity(StrEnum):
    """What is delivered at a usage point."""

    ELECTRICITY = "electricity"
    GAS = "gas"
    WATER = "water"
    HEAT = "heat"
    COLD = "cold"
    OTHER = "other"


class Unit(StrEnum):
    """The units that portals are converted to; a counter in another unit keeps the portal's own text."""

    KWH = "kWh"
    M3 = "m³"
    KW = "kW"
    KVA = "kVA"
    CELSIUS = "°C"
    RELATIVE_HUMIDITY = "RH"
    """Relative humidity as a ratio from 0 to 1."""


class Direction(StrEnum):
    """Consumption from the grid, or injection into it."""

    CONSUMPTION = "consumption"
    INJECTION = "injection"


class Nature(StrEnum):
    """What the number of a register means."""

    COUNTER = "counter"
    """It counts up; consumption is the difference of two readings."""
    MOMENTARY = "momentary"
    """A value of that moment, such as a temperature."""
    AMOUNT = "amount"
    """Each value is an amount of its own; its period is not known."""
    STATE = "state"
    """A number from a list, such as open or closed."""


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
    place_id: str = ""
    """The portal's own number of the place where it is mounted (CEM `mis_id`)."""


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
    part_of: str = ""
    """The register of the same usage point that counts this one too, such as the total of two tariffs; sums leave it out."""
    value_type: str = ""
    """The portal's own name of what the number means."""
    type_id: str = ""
    """The portal's own number of the kind (CEM `pot_id`)."""


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
    """The amount that passed through a register in [start, end) (aware, UTC), in the register's unit."""

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
    """All that the portal states at present about a usage point; what is absent is no longer stated."""

    usage_point: UsagePoint
    values: Mapping[Fact, float]


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the account (personal, dropped unless the account allows it), and from when to when access is given."""

    name: str = ""
    company: str = ""
    company_id: str = ""
    customer_id: str = ""
    person_id: str = ""
    access_expires: datetime | None = None
    """End of a consent or token that a person must renew; never of a token that the program renews itself."""
    login_valid_from: datetime | None = None
    """Since when the login is valid, where the portal states it."""

    def without_personal_data(self) -> "Holder":
        """Return only the instants."""
        return Holder(access_expires=self.access_expires, login_valid_from=self.login_valid_from)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the account holds at present: other usage points and registers leave the page (the ledger keeps them).

    `registers` is None where a portal does not list them: then all registers of the usage points stay.
    """

    usage_points: tuple[UsagePoint, ...]
    registers: tuple[Register, ...] | None = None


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """A JSON value for the account's store, written in the same transaction as the visit's readings, or not at all.

    Which days were requested is recorded this way: written to `session.store` at once, it would outlive a visit whose
    readings were lost, and they would never be requested again.
    """

    key: str
    value: object
    expires_at: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class Finding:
    """One line that `discover` prints, its facts, and the lines below it."""

    text: str
    facts: Mapping[str, object] = field(default_factory=dict)
    children: tuple["Finding", ...] = ()
    is_missing: bool = False
    """Whether the configuration names it and the portal has nothing of it."""
    printed: tuple[str, ...] | None = None
    """The facts that people are shown beside the text; None: all that the text does not have."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an account holds: a tree, and the lines of configuration that select it."""

    findings: tuple[Finding, ...]
    config: str
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was found."""
        return all(finding.is_missing for finding in self.findings)


DAY = timedelta(days=1)
_NAMED_RESOLUTIONS = {timedelta(hours=1): "PT1H", **{timedelta(hours=h): "P1D" for h in (23, 24, 25)}}


def format_resolution(length: timedelta) -> str:
    """Return the ISO 8601 name of a period's length; days have 23 to 25 hours, months 28 to 31 days, an hour more or less.

    Raise ValueError for a length that no portal delivers.
    """
    if named := _NAMED_RESOLUTIONS.get(length):
        return named
    minutes, remainder = divmod(length, timedelta(minutes=1))
    if not remainder and 0 < minutes < 60 and 60 % minutes == 0:
        return f"PT{minutes}M"
    if timedelta(days=27, hours=23) <= length <= timedelta(days=31, hours=1):
        return "P1M"
    raise ValueError(f"a period of {length} is neither an interval, a day nor a month")


def name_resolutions(resolutions: Iterable[str]) -> str:
    """Return the lengths of intervals in words, with a comma before them; nothing of days and months, which name themselves."""
    names = {"PT15M": "by quarter-hour", "PT30M": "by half-hour", "PT1H": "by hour"}
    shorter = [one for one in resolutions if one.startswith("PT")]
    return "".join(f", {names.get(one, f'every {one[2:-1]} minutes')}" for one in shorter)


def is_possible_value(value: float) -> bool:
    """Return whether a meter can show a value."""
    return -MAX_VALUE <= value <= MAX_VALUE  # NaN is neither


def next_month(day: date) -> date:
    """Return the first day of the month after that of a day."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def strip_noise(value: float) -> float:
    """Return a calculated value rounded to the 15 digits that a float holds for certain: 34.992, not 34.992000000000004."""
    return float(f"{value:.15g}")


def clean_label(text: str) -> str:
    """Return a portal's free text as a label: no control characters, at most 200 characters."""
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text[:400]))
    return text[:200].strip()


def natural_sort_key(text: str) -> str:
    """Return a key that sorts Flat 9 before Flat 10."""
    return re.sub(r"\d+", lambda match: match[0].zfill(18), text.casefold())


def _require_possible_value(value: float) -> None:
    if not is_possible_value(value):
        raise ReadingError("a reading must be a finite number, such as a meter can show")


def _require_aware(*instants: datetime) -> None:
    for at in instants:
        if at.tzinfo is not UTC and at.utcoffset() is None:
            raise ValueError("an instant must be aware")
        if not MIN_YEAR <= at.year <= MAX_YEAR:
            raise ReadingError("a reading must lie in our time")
