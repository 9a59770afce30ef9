"""Monthly peaks, the base of the capacity tariff: the highest quarter-hour of each calendar month."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from exporter.models import Commodity, Peak, Unit, UsagePoint
from exporter.portals.fluvius.amounts import CONSUMPTION_CODE, FIRST_YEAR, KW_CODE, LAST_YEAR, TimeSpan
from exporter.portals.fluvius.days import metering_day, month_start, subtract_months


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
        return MonthlyPeaks({span: peak for span, peak in self.months.items() if span[0] >= start}, self.skipped)

    def build_readings(self, point: UsagePoint) -> Iterator[Peak]:
        """Return the peaks in order."""
        for (start, end), (power, at) in sorted(self.months.items()):
            yield Peak(point, Unit.KW, start, end, power, at)


def build_monthly_peaks(records: Iterable[PeakRecord]) -> MonthlyPeaks:
    """Build one meter's peaks from its records; only consumption counts, in any register."""
    peaks = MonthlyPeaks()
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


def merge_monthly_peaks(meters: Iterable[MonthlyPeaks]) -> MonthlyPeaks:
    """Merge the meters of one usage point: in the month of a replacement the higher peak counts."""
    whole = MonthlyPeaks()
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
