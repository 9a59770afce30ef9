"""What a receiver is to be sent now, oldest first, in batches that fit a request."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain, groupby
from operator import itemgetter

from exporter.history import encode
from exporter.history.receivers import Receiver
from exporter.history.series import Aliases, TrueSeries, catalogue
from exporter.ledger import Due, Ledger, Look, Progress, Rows, Span, Stamping, WantedReadings, to_ms

HOUR, DAY = 3_600_000, 86_400_000
PAGE = 50_000
"""About how many samples are read out of the ledger at a time."""
MOST = 4 * PAGE
"""A window that has more is made smaller, if it can be."""
SLICE = 2048
"""How many samples are encoded at a time: long numbers cost more than their share."""
ANY_VISIT = 1 << 62
LEAST_STEP, MOST_STEP = 60_000, 100 * 366 * DAY


@dataclass(frozen=True, slots=True)
class Kind:
    """Series that are stamped alike and settle alike."""

    stamping: Stamping
    form: str
    reach: int
    """How long after its `at` the period of a reading has ended for certain; never before its stamp."""


@dataclass(frozen=True, slots=True)
class Line:
    """A series that a receiver may be owed something of, at instants `at` in [first, last]."""

    number: int
    labels: bytes
    first: int
    last: int


Part = tuple[Line, Rows]


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes in one request, and how far the round has come with it."""

    parts: Sequence[Part]
    place: Progress

    @property
    def size(self) -> int:
        """How many samples it has."""
        return sum(len(rows) for _, rows in self.parts)

    def body(self) -> bytes:
        """Write it as a WriteRequest."""
        every = list(chain.from_iterable(rows for _, rows in self.parts))
        blob = b"".join(encode.samples(every[start : start + SLICE]) for start in range(0, len(every), SLICE))
        start, out = 0, list[bytes]()
        for line, rows in self.parts:
            end = start + len(rows) * encode.SAMPLE
            out += (encode.head(1, len(line.labels) + end - start), line.labels, blob[start:end])
            start = end
        return b"".join(out)

    def split(self) -> "tuple[Batch, Batch]":
        """Halve it: the older half, and the newer one."""
        order = sorted((stamp, place) for place, (_, rows) in enumerate(self.parts) for stamp, _ in rows)
        middle = order[len(order) // 2]
        older, newer = list[Part](), list[Part]()
        for place, (line, rows) in enumerate(self.parts):
            before = [row for row in rows if (row[0], place) < middle]
            older += [(line, before)] if before else []
            newer += [(line, rows[len(before) :])] if len(before) < len(rows) else []
        return replace(self, parts=older), replace(self, parts=newer)

    def newest(self) -> "Batch":
        """Take its newest sample alone."""
        line, rows = max(self.parts, key=lambda part: part[1][-1][0])
        return replace(self, parts=[(line, rows[-1:])])


class Plan:
    """A round of a receiver: which series, which instants, and what is left of it.

    Its methods read the ledger, and raise LedgerError.
    """

    def __init__(self, ledger: Ledger, receiver: Receiver, aliases: Aliases, progress: Progress) -> None:
        assert progress.round is not None
        self._ledger, self._receiver = ledger, receiver
        self._progress, self._round = progress, progress.round
        self.corrections = 0
        """Samples met that were delivered before and corrected since."""
        self._met = 0
        """Those of the window that was read last."""
        self.unsettled: list[Span] = []
        """What the receiver stays owed at the end of the round."""
        self._lines: dict[Kind, list[Line]] = defaultdict(list)
        with ledger.look() as look:
            self._open(look, aliases)
            self._corrected = look.corrected(progress.after, self._round.upto)

    def batches(self) -> Iterator[Batch]:
        """Give all that is left of the round, a batch at a time."""
        lines = [line for of_kind in self._lines.values() for line in of_kind]
        step, newest = HOUR, max((line.last for line in lines), default=0)
        first, last, resumed = self._round.first, self._round.last, self._round.first is not None
        if first is None:
            first = min((line.first for line in lines), default=1)
            last = first + step
        while first <= newest:
            parts, count = self._read(first, last, resumed=resumed)
            if count > MOST and step > LEAST_STEP and not resumed:
                step = max(step // 4, LEAST_STEP)
                last = first + step
                continue
            self.corrections += self._met
            yield from self._cut(parts, first, last)
            step = _stepped(step, count)
            # Nothing lies between the windows.
            first = min((max(line.first, last) for line in lines if line.last >= last), default=newest + 1)
            last, resumed = first + step, False

    def pending(self, look: Look, now: int) -> int:
        """Count what the receiver is owed now: the rest of the round, and what was learned since."""
        settled, done = settled_at(self._receiver, now), self._round.first or 0
        return sum(
            look.count_due(self._wanted(kind, 0, settled[kind.form] - kind.reach, now), (line.number for line in lines), done)
            for kind, lines in self._lines.items()
        )

    def _open(self, look: Look, aliases: Aliases) -> None:
        named = {series.line: series for series in catalogue(look, aliases)}
        extra = self._receiver.extra_labels
        for number, first, last in look.owed(self._receiver.key):
            if (series := named.get(number)) is None:
                continue
            kind = kind_of(series)
            end = self._round.settled[kind.form] - kind.reach
            if last > end:
                self.unsettled.append((number, max(first, end + 1), last))
            if first <= end:
                labels = encode.labels(sorted((dict(series.labels) | extra).items()))
                self._lines[kind].append(Line(number, labels, first, min(last, end)))

    def _read(self, first: int, last: int, *, resumed: bool) -> tuple[list[Part], int]:
        """Give what is due in a window, series by series, and how much it is; of more than `MOST` only a part."""
        after, found, count = (self._round.series, self._round.stamp) if resumed else (0, 0), list[Part](), 0
        self._met = 0
        with self._ledger.look() as look:
            moved = look.corrected(self._round.upto)
            for kind, lines in self._lines.items():
                near = {
                    line.number: line for line in lines if line.first < last and line.last >= first and line.number >= after[0]
                }
                for number, due in groupby(self._due(look, kind, first, last, near.keys(), moved), itemgetter(0)):
                    rows = [(stamp, value) for _, stamp, value, _, _ in due]
                    if kind.stamping.shift is None:
                        rows = list(dict(sorted(rows)).items())
                    if number == after[0]:
                        rows = [row for row in rows if row[0] > after[1]]
                    found += [(near[number], rows)] if rows else []
                    count += len(rows)
                    if count > MOST and last - first > LEAST_STEP and not resumed:
                        return found, count
        found.sort(key=lambda part: part[0].number)
        return found, count

    def _due(
        self, look: Look, kind: Kind, first: int, last: int, near: Set[int], moved: Mapping[int, Collection[int]]
    ) -> Iterator[Due]:
        """Give what is due of the series of a kind; those that have corrections are gone through reading by reading."""
        end = min(last - 1, self._round.settled[kind.form] - kind.reach)
        wanted = self._wanted(kind, first, end, self._round.begun)
        special = near & (moved.keys() | self._corrected.keys())
        yield from look.due(wanted, sorted(near - special))
        for row in look.due(replace(wanted, upto=ANY_VISIT), sorted(special)) if special else ():
            number, _, _, at, visit = row
            # What was known when the round began and has been corrected since goes with its new value.
            if visit > self._round.upto and at not in moved.get(number, ()):
                continue
            if at in self._corrected.get(number, ()) and at <= wanted.fresh:
                self._met += 1
                if self._receiver.corrections == "ignore":
                    continue
            yield row

    def _wanted(self, kind: Kind, first: int, last: int, now: int) -> WantedReadings:
        fresh, since = self._progress.settled.get(kind.form, -DAY), self._round.since
        fresh = (fresh if since is None else min(fresh, since - 1)) - kind.reach
        floor = max(_floor(self._receiver.not_before, now), encode.FIRST)
        key, after, upto = self._receiver.key, self._progress.after, self._round.upto
        return WantedReadings(key, kind.stamping, first, last, floor, after, upto, fresh)

    def _cut(self, parts: list[Part], first: int, last: int) -> Iterator[Batch]:
        most, batch, room = self._receiver.samples_per_request, list[Part](), self._receiver.samples_per_request
        for line, rows in parts:
            start = 0
            while start < len(rows):
                batch.append((line, rows[start : start + room]))
                start += room
                room -= len(batch[-1][1])
                if not room:
                    yield self._batch(batch, first, last)
                    batch, room = [], most
        if batch:
            yield self._batch(batch, first, last)

    def _batch(self, parts: list[Part], first: int, last: int) -> Batch:
        line, rows = parts[-1]
        place = replace(self._round, first=first, last=last, series=line.number, stamp=rows[-1][0])
        return Batch(parts, replace(self._progress, round=place))


def settled_at(receiver: Receiver, now: int) -> dict[str, int]:
    """Give form -> end of the last period that counts as settled; nothing of the future does."""
    settle = receiver.settle
    ages = {"index": settle.index, "interval": settle.interval, "day": settle.day, "peak": settle.peak}
    return {form: now - age // timedelta(milliseconds=1) for form, age in ages.items()}


def kind_of(series: TrueSeries) -> Kind:
    """Tell how a series is stamped and settles; its form is a key of `settle`."""
    if series.form == "index":
        return Kind(series.stamping, "index", 0)
    form = series.form if series.form == "peak" else "interval" if series.resolution.startswith("PT") else "day"
    if series.stamping.shift is not None:
        return Kind(series.stamping, form, series.stamping.shift + 1)
    return Kind(series.stamping, form, 25 * HOUR if series.resolution == "P1D" else 31 * DAY + HOUR)


def _floor(not_before: date | timedelta | None, now: int) -> int:
    if not_before is None:
        return 0
    if isinstance(not_before, timedelta):
        return now - not_before // timedelta(milliseconds=1)
    return to_ms(datetime(not_before.year, not_before.month, not_before.day, tzinfo=UTC))


def _stepped(step: int, count: int) -> int:
    if count > 2 * PAGE:
        return max(step // 2, LEAST_STEP)
    return min(step * 2, MOST_STEP) if count < PAGE // 2 else step
