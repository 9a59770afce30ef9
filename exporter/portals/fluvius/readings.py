"""Readings built from the records of one meter: amounts by period and register, and monthly peaks.

The peak of a month is its highest quarter-hour, the base of the capacity tariff.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from exporter.models import DAY, Commodity, Direction, Interval, Peak, Register, Unit, UsagePoint, format_resolution
from exporter.portals.fluvius.days import day_start, metering_day, month_start, subtract_months

CONSUMPTION_CODE, INJECTION_CODE = 1, 2
ALL_TARIFFS, DAY_TARIFF, NIGHT_TARIFF = 0, 1, 2
KWH_CODE, KW_CODE, M3_CODE = 3, 4, 5


@dataclass(frozen=True, slots=True, order=True)
class RegisterKey:
    """A register of a Fluvius meter."""

    direction: Direction
    name: str
    unit: Unit


ESTIMATED_STATE = 1
VALIDATION_STATES: Mapping[str, int] = {"READ": 2, "EST": ESTIMATED_STATE, "VAL": 2, "NVAL": 3}
"""The official names of the validation states, should the portal write them; 0 is the state of a value that does not exist."""


@dataclass(frozen=True, slots=True)
class RecordValue:
    """A value as the portal sends it.

    `direction_code` (t): 1 consumption, 2 injection. `register_code` (dc): 1 day, 2 night, 0 total. `unit_code` (u): 3 kWh,
    4 kW, 5 m³. `validation_state` (vs): 0 for values that do not exist. `has_provisional_factor`: of gas in kWh.
    """

    direction_code: int
    register_code: int
    unit_code: int
    value: float | None
    validation_state: int | None
    has_provisional_factor: bool = False

    @property
    def codes(self) -> tuple[int, int, int]:
        """Direction, register and unit."""
        return self.direction_code, self.register_code, self.unit_code

    @property
    def amount(self) -> "MeterAmount | None":
        """The amount; None where nothing was measured: no value, or a zero with state 0, which is a blank."""
        if self.value is None or (self.value == 0 and self.validation_state == 0):
            return None
        is_provisional = self.has_provisional_factor and self.unit_code == KWH_CODE
        return MeterAmount(self.value, self.validation_state == ESTIMATED_STATE or is_provisional)


class MeterAmount(NamedTuple):
    """An amount, and whether the portal calls it estimated or provisional."""

    value: float
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the portal: [start, end) in UTC; a missing end is None."""

    start: datetime
    end: datetime | None
    values: tuple[RecordValue, ...]


FIRST_YEAR, LAST_YEAR = 2000, 2100
"""Outside of these there is no measurement: the portal writes years 1 and 9999 for never."""
TimeSpan = tuple[datetime, datetime]
RegisterAmounts = Mapping[RegisterKey, MeterAmount]


@dataclass(slots=True)
class ParsedAmounts:
    """Amounts by period; `skipped` counts what could not be parsed, by its description."""

    amounts: dict[TimeSpan, RegisterAmounts] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def drop_before(self, start: datetime) -> "ParsedAmounts":
        """Return the amounts of periods that begin at `start` or later."""
        kept = {span: amounts for span, amounts in self.amounts.items() if span[0] >= start}
        return ParsedAmounts(kept, self.skipped.copy())

    def sum_interval_time(self) -> timedelta:
        """Return the time that periods shorter than a day cover together."""
        return sum((end - start for start, end in self.amounts if end - start < DAY / 2), timedelta())

    def has_whole_days(self) -> bool:
        """Return whether any period is a day."""
        return any(end - start > DAY / 2 for start, end in self.amounts)

    def build_readings(self, point: UsagePoint, now: datetime) -> Iterator[Interval]:
        """Return the intervals that have ended, in order."""
        for (start, end), amounts in sorted(self.amounts.items()):
            if end <= now:
                for key in sorted(amounts):
                    yield Interval(build_register(point, key), start, end, *amounts[key])


def build_register(point: UsagePoint, key: RegisterKey) -> Register:
    """Return the register of a usage point."""
    descriptions = {"day": "Dag", "night": "Nacht"}
    return Register(point, key.unit, key.direction, key.name, description=descriptions.get(key.name, ""))


def build_amounts(records: Iterable[Record], commodity: Commodity, skipped: Mapping[str, int] | None = None) -> ParsedAmounts:
    """Build one meter's amounts from its records, by their length and codes; `skipped` counts what has no record.

    The portal sends a zero with validation state 0 for a register that the meter does not have, and for a blank.
    """
    parsed = ParsedAmounts(skipped=Counter(skipped))
    for record in records:
        if all(value.amount is None for value in record.values):
            continue
        span = _find_span(record, commodity)
        if span is None and (other := _find_other_commodity(record, commodity)):
            parsed.skipped[f"{other}, where `commodity` is {commodity}"] += 1
            continue
        if span is None:
            parsed.skipped["periods of an unknown length"] += 1
            continue
        amounts, skipped_values = _collect_amounts(record, commodity)
        parsed.skipped += skipped_values
        if amounts:
            parsed.amounts[span] = amounts
    return parsed


def merge_amounts(parts: Iterable[ParsedAmounts], skipped: Mapping[str, int] | None = None) -> ParsedAmounts:
    """Merge the meters of one usage point: on the day of a replacement their amounts are added.

    Two meters never measure exactly the same; amounts equal in every register are the same data sent twice.
    """
    whole = ParsedAmounts(skipped=Counter(skipped))
    for parsed in parts:
        whole.skipped += parsed.skipped
        for span, amounts in parsed.amounts.items():
            known = whole.amounts.get(span, {})
            whole.amounts[span] = amounts if known == amounts else _add_amounts(known, amounts)
    return whole


def _add_amounts(first: RegisterAmounts, second: RegisterAmounts) -> RegisterAmounts:
    # The portal sends at most four decimals: rounding to six removes the error of adding floats.
    sums = {**first, **second}
    for key in first.keys() & second.keys():
        (one, one_estimated), (other, other_estimated) = first[key], second[key]
        sums[key] = MeterAmount(round(one + other, 6), one_estimated or other_estimated)
    return sums


def _find_span(record: Record, commodity: Commodity) -> TimeSpan | None:
    """Return the period of a whole metering day, or of an aligned interval of at most an hour; None for any other."""
    if not FIRST_YEAR <= record.start.year <= LAST_YEAR:
        return None
    day = metering_day(record.start, commodity)
    if record.start == day_start(day, commodity) and record.end in (None, day_start(day + DAY, commodity)):
        return record.start, day_start(day + DAY, commodity)
    if record.end is None or not timedelta(0) < record.end - record.start <= timedelta(hours=1):
        return None
    length = record.end - record.start
    try:
        format_resolution(length)
    except ValueError:
        return None
    return None if record.start.timestamp() % length.total_seconds() else (record.start, record.end)


def _find_other_commodity(record: Record, commodity: Commodity) -> Commodity | None:
    """Return the commodity that can have a record's codes and period, where it is another than the configured one."""
    codes = {value.codes for value in record.values if value.amount}
    fitting = [one for one, known in _REGISTER_KEYS.items() if codes <= known.keys() and _find_span(record, one)]
    return fitting[0] if fitting and commodity not in fitting else None


def _collect_amounts(record: Record, commodity: Commodity) -> tuple[RegisterAmounts, Counter[str]]:
    """Return the amounts of a record by register, and what was skipped."""
    amounts: dict[RegisterKey, MeterAmount] = {}
    skipped: Counter[str] = Counter()
    for value in record.values:
        amount, key = value.amount, _REGISTER_KEYS[commodity].get(value.codes)
        if amount is None:
            continue
        if key is None:
            skipped["values with the codes t {}, dc {}, u {}".format(*value.codes)] += 1
        elif key in amounts:
            skipped["second values of one register"] += 1
        else:
            amounts[key] = amount
    totals = _find_redundant_totals(amounts)
    return {key: amount for key, amount in amounts.items() if key not in totals}, skipped


def _find_redundant_totals(amounts: Iterable[RegisterKey]) -> set[RegisterKey]:
    """Return the totals that have day and night registers beside them: counted too, their energy would be counted twice."""
    split = {key.direction for key in amounts if key.name in ("day", "night")}
    return {key for key in amounts if key.name == "total" and key.direction in split}


_REGISTER_KEYS: Mapping[Commodity, Mapping[tuple[int, int, int], RegisterKey]] = {
    Commodity.ELECTRICITY: {
        (t, dc, KWH_CODE): RegisterKey(direction, name, Unit.KWH)
        for t, direction in ((CONSUMPTION_CODE, Direction.CONSUMPTION), (INJECTION_CODE, Direction.INJECTION))
        for dc, name in ((ALL_TARIFFS, "total"), (DAY_TARIFF, "day"), (NIGHT_TARIFF, "night"))
    },
    Commodity.GAS: {
        (CONSUMPTION_CODE, ALL_TARIFFS, KWH_CODE): RegisterKey(Direction.CONSUMPTION, "energy", Unit.KWH),
        (CONSUMPTION_CODE, ALL_TARIFFS, M3_CODE): RegisterKey(Direction.CONSUMPTION, "volume", Unit.M3),
    },
}


@dataclass(frozen=True, slots=True)
class PeakRecord:
    """A month's peak as the portal sends it: `value` in kW (`unit_code` 4), `at` the start of its quarter-hour, all in UTC.

    After a breaker has been off, the portal estimates the peak, and `at` may be missing or no instant of the month.
    """

    start: datetime
    end: datetime | None
    direction_code: int
    unit_code: int | None
    value: float | None
    validation_state: int | None
    at: datetime | None


@dataclass(slots=True)
class MonthlyPeaks:
    """kW and the start of the quarter-hour (None: not known), by month; `skipped` counts what could not be parsed."""

    months: dict[TimeSpan, tuple[float, datetime | None]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, span: TimeSpan, power: float, at: datetime | None) -> None:
        """Keep the higher of two peaks of a month; one without an instant only where there is no other."""
        known = self.months.get(span)
        if known is None or _rank(power, at) > _rank(*known):
            self.months[span] = power, at

    def drop_before(self, start: datetime) -> "MonthlyPeaks":
        """Return the peaks of months that begin at `start` or later."""
        return MonthlyPeaks({span: peak for span, peak in self.months.items() if span[0] >= start}, self.skipped.copy())

    def build_readings(self, point: UsagePoint) -> Iterator[Peak]:
        """Return the peaks in order."""
        for (start, end), (power, at) in sorted(self.months.items()):
            yield Peak(point, Unit.KW, start, end, power, at)


def build_monthly_peaks(records: Iterable[PeakRecord], skipped: Mapping[str, int] | None = None) -> MonthlyPeaks:
    """Build one meter's peaks from its records; only consumption counts, in any register."""
    peaks = MonthlyPeaks(skipped=Counter(skipped))
    for record in records:
        value = record.value
        if value is None or (value == 0 and record.validation_state == 0) or record.direction_code != CONSUMPTION_CODE:
            continue
        span = _find_month(record)
        if span is None:
            peaks.skipped["peaks of something else than a month"] += 1
        elif record.unit_code not in (None, KW_CODE):
            peaks.skipped[f"peaks in the unknown unit {record.unit_code}"] += 1
        else:
            peaks.add(span, value, record.at if record.at and span[0] <= record.at < span[1] else None)
    return peaks


def merge_monthly_peaks(meters: Iterable[MonthlyPeaks], skipped: Mapping[str, int] | None = None) -> MonthlyPeaks:
    """Merge the meters of one usage point: in the month of a replacement the higher peak counts."""
    whole = MonthlyPeaks(skipped=Counter(skipped))
    for peaks in meters:
        whole.skipped += peaks.skipped
        for span, (power, at) in peaks.months.items():
            whole.add(span, power, at)
    return whole


def _rank(power: float, at: datetime | None) -> tuple[bool, float, float]:
    """Return the rank of a peak: with its instant, the higher, of equal ones the earlier."""
    return at is not None, power, -at.timestamp() if at else 0


def _find_month(record: PeakRecord) -> TimeSpan | None:
    """Return the calendar month of a peak; the record of the current month may end now."""
    if not FIRST_YEAR <= record.start.year <= LAST_YEAR:
        return None
    month = metering_day(record.start, Commodity.ELECTRICITY)
    end = month_start(subtract_months(month, -1))
    whole = record.start == month_start(month) and (record.end is None or record.start < record.end <= end)
    return (record.start, end) if whole else None
