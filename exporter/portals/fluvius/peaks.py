"""Monthly peaks, the base of the capacity tariff: the highest quarter-hour of each calendar month."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from exporter.model import Commodity, Peak, Unit, UsagePoint
from exporter.portals.fluvius.days import day_of, month_edge, months_before
from exporter.portals.fluvius.sheet import FIRST_YEAR, LAST_YEAR, Span

TAKEN, KW = 1, 4


@dataclass(frozen=True, slots=True)
class Spike:
    """A month's peak as the portal tells it: `v` in kW (`u` 4), `at` the start of its quarter-hour, all in UTC."""

    start: datetime
    end: datetime | None
    t: int
    u: int | None
    v: float | None
    vs: int | None
    at: datetime | None


@dataclass(slots=True)
class MonthlyPeaks:
    """kW and the start of the quarter-hour, by month; `left_out` counts what was not understood."""

    months: dict[Span, tuple[float, datetime]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, span: Span, power: float, at: datetime) -> None:
        """Keep the higher of two peaks of a month; of equal ones the earlier."""
        kept = self.months.get(span)
        if kept is None or (power, kept[1]) > (kept[0], at):
            self.months[span] = power, at

    def without_before(self, start: datetime) -> "MonthlyPeaks":
        """Drop the months that begin before an instant."""
        return MonthlyPeaks({span: peak for span, peak in self.months.items() if span[0] >= start}, self.left_out)

    def readings(self, point: UsagePoint) -> Iterator[Peak]:
        """Give the peaks in order."""
        for (start, end), (power, at) in sorted(self.months.items()):
            yield Peak(point, Unit.KW, start, end, power, at)


def understood_spikes(spikes: Iterable[Spike]) -> MonthlyPeaks:
    """Read one meter's peaks; only what was taken from the grid counts, in whichever register."""
    peaks = MonthlyPeaks()
    for spike in spikes:
        if spike.v is None or spike.at is None or (spike.v == 0 and spike.vs == 0) or spike.t != TAKEN:
            continue
        span = _month(spike)
        if span is None:
            peaks.left_out["peaks of something else than a month"] += 1
        elif spike.u not in (None, KW):
            peaks.left_out[f"peaks in the unknown unit {spike.u}"] += 1
        else:
            peaks.add(span, spike.v, spike.at)
    return peaks


def joined_peaks(meters: Iterable[MonthlyPeaks]) -> MonthlyPeaks:
    """Put the meters of one usage point together: in the month of a replacement the higher peak counts."""
    whole = MonthlyPeaks()
    for peaks in meters:
        whole.left_out += peaks.left_out
        for span, (power, at) in peaks.months.items():
            whole.add(span, power, at)
    return whole


def _month(spike: Spike) -> Span | None:
    """Give the calendar month a peak is of; the running month may be told up to now, and is its month all the same."""
    if not FIRST_YEAR <= spike.start.year <= LAST_YEAR:
        return None
    month = day_of(spike.start, Commodity.ELECTRICITY)
    end = month_edge(months_before(month, -1))
    whole = spike.start == month_edge(month) and (spike.end is None or spike.start < spike.end <= end)
    return (spike.start, end) if whole else None
