"""What a meter's answers say, in our words: amounts by period and register, and what had to be left out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from exporter.model import DAY, Commodity, Direction, Interval, Register, Unit, UsagePoint, resolution
from exporter.portals.fluvius.days import day_of, edge


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A register of a Fluvius meter."""

    direction: Direction
    name: str
    unit: Unit


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as the portal tells it.

    `t` is the direction (1 taken, 2 injected), `dc` the register (1 day, 2 night, 0 no split), `u` the unit (3 kWh,
    4 kW, 5 m³), `vs` the state of validation (0 is what registers have that do not exist).
    """

    t: int
    dc: int
    u: int
    v: float | None
    vs: int | None

    @property
    def code(self) -> tuple[int, int, int]:
        """What the value is about."""
        return self.t, self.dc, self.u

    @property
    def idle(self) -> bool:
        """Whether it is what the portal sends for a register that the meter does not have (or no value at all)."""
        return self.v is None or (self.v == 0 and self.vs == 0)


@dataclass(frozen=True, slots=True)
class Period:
    """A record of the portal: [start, end) in UTC; an end that is not told is None."""

    start: datetime
    end: datetime | None
    entries: tuple[Entry, ...]


FIRST_YEAR, LAST_YEAR = 2000, 2100
"""What lies outside is no measurement: year 1 and year 9999 stand for never."""
Span = tuple[datetime, datetime]
Amounts = Mapping[Line, float]


@dataclass(slots=True)
class Sheet:
    """Amounts by period; `left_out` counts what was not understood, by the words a user is told."""

    amounts: dict[Span, Amounts] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def without_before(self, start: datetime) -> "Sheet":
        """Drop what begins before an instant."""
        return Sheet({span: amounts for span, amounts in self.amounts.items() if span[0] >= start}, self.left_out)

    def short_time(self) -> timedelta:
        """Say how much time periods shorter than a day cover together."""
        return sum((end - start for start, end in self.amounts if end - start < DAY / 2), timedelta())

    def has_days(self) -> bool:
        """Whether any period is a day."""
        return any(end - start > DAY / 2 for start, end in self.amounts)

    def readings(self, point: UsagePoint, now: datetime) -> Iterator[Interval]:
        """Give what has ended, in order."""
        for (start, end), amounts in sorted(self.amounts.items()):
            if end <= now:
                for line in sorted(amounts):
                    yield Interval(register(point, line), start, end, amounts[line])


def register(point: UsagePoint, line: Line) -> Register:
    """Give a usage point's register of a line."""
    words = {"day": "Dag", "night": "Nacht"}
    return Register(point, line.unit, line.direction, line.name, description=words.get(line.name, ""))


def understood(periods: Iterable[Period], commodity: Commodity) -> Sheet:
    """Read one meter's records by their measured length and their codes.

    A zero with validation state 0 is what the portal sends for a register that the meter does not have. So a register
    with nothing else in the whole answer is passed over, and so is a period with nothing else in any register: nothing
    was measured. Any other such zero is a zero of a register that exists.
    """
    periods = tuple(one for one in periods if not all(entry.idle for entry in one.entries))
    real = {entry.code for period in periods for entry in period.entries if not entry.idle}
    sheet = Sheet()
    for period in periods:
        span = _span(period, commodity)
        if span is None:
            sheet.left_out["periods of an unknown length"] += 1
        elif amounts := _amounts(period, commodity, real, sheet.left_out):
            sheet.amounts[span] = amounts
    return sheet


def joined(sheets: Iterable[Sheet]) -> Sheet:
    """Put the meters of one usage point together: on the day of a replacement their halves are added.

    Two meters never measure exactly the same; what is equal in every register is the same data told twice.
    """
    whole = Sheet()
    for sheet in sheets:
        whole.left_out += sheet.left_out
        for span, amounts in sheet.amounts.items():
            kept = whole.amounts.get(span, {})
            whole.amounts[span] = amounts if kept == amounts else _added(kept, amounts)
    return whole


def _added(kept: Amounts, more: Amounts) -> Amounts:
    # Thousandths of a kWh, and ten-thousandths of gas: six decimals take away what adding floats brings in.
    return {line: round(kept.get(line, 0.0) + more.get(line, 0.0), 6) for line in {**kept, **more}}


def _span(period: Period, commodity: Commodity) -> Span | None:
    """Tell where a record begins and ends: a day between its edges, or a part of an hour on the clock's marks."""
    if not FIRST_YEAR <= period.start.year <= LAST_YEAR:
        return None
    day = day_of(period.start, commodity)
    if period.start == edge(day, commodity) and period.end in (None, edge(day + DAY, commodity)):
        return period.start, edge(day + DAY, commodity)
    if period.end is None or not timedelta(0) < period.end - period.start <= timedelta(hours=1):
        return None
    length = period.end - period.start
    try:
        resolution(length)
    except ValueError:
        return None
    return None if period.start.timestamp() % length.total_seconds() else (period.start, period.end)


def _amounts(period: Period, commodity: Commodity, real: set[tuple[int, int, int]], left_out: Counter[str]) -> Amounts:
    amounts: dict[Line, float] = {}
    for entry in period.entries:
        if entry.v is None or entry.code not in real:
            continue
        line = _LINES[commodity].get(entry.code)
        if line is None:
            left_out["values with the codes t {}, dc {}, u {}".format(*entry.code)] += 1
        elif line in amounts:
            left_out["second values of one register"] += 1
        else:
            amounts[line] = entry.v
    return _without_totals(amounts, left_out)


def _without_totals(amounts: dict[Line, float], left_out: Counter[str]) -> Amounts:
    """Drop a total that stands beside its parts, so that nothing is summed twice."""
    split = {line.direction for line in amounts if line.name in ("day", "night")}
    totals = {line for line in amounts if line.name == "total" and line.direction in split}
    if totals:
        left_out["totals beside their parts"] += len(totals)
    return {line: amount for line, amount in amounts.items() if line not in totals}


_LINES: Mapping[Commodity, Mapping[tuple[int, int, int], Line]] = {
    Commodity.ELECTRICITY: {
        (t, dc, 3): Line(direction, name, Unit.KWH)
        for t, direction in ((1, Direction.CONSUMPTION), (2, Direction.INJECTION))
        for dc, name in ((0, "total"), (1, "day"), (2, "night"))
    },
    Commodity.GAS: {
        (1, 0, 3): Line(Direction.CONSUMPTION, "energy", Unit.KWH),
        (1, 0, 5): Line(Direction.CONSUMPTION, "volume", Unit.M3),
    },
}
