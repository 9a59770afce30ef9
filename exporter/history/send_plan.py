"""What a receiver is to be sent now, oldest first, in batches that fit a request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain

from exporter.history import encode
from exporter.history.receivers import Receiver
from exporter.history.series import Aliases, TrueSeries, catalogue
from exporter.ledger import Due, Ledger, Look, Progress, Rows, Span, WantedReadings, to_ms

HOUR, DAY = 3_600_000, 86_400_000
PAGE = 50_000
"""About how many samples are read out of the ledger at a time."""
LEAST_STEP, MOST_STEP = 60_000, 100 * 366 * DAY


@dataclass(frozen=True, slots=True)
class Line:
    """A series that a receiver may be owed something of, at instants `at` in [first, last]."""

    series: TrueSeries
    labels: bytes
    first: int
    last: int
    fresh: int
    """What lies beyond this `at` had not settled in the round before, or is wanted again."""


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
        blob, start, out = encode.samples(list(chain.from_iterable(rows for _, rows in self.parts))), 0, list[bytes]()
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
        with ledger.look() as look:
            self.unsettled: list[Span] = []
            """What the receiver stays owed at the end of the round."""
            self._lines = list(self._open(look, aliases))
            self._corrected = look.corrected(progress.after, self._round.upto)

    def batches(self) -> Iterator[Batch]:
        """Give all that is left of the round, a batch at a time."""
        if not self._lines:
            return
        step, newest = DAY, max(line.last for line in self._lines)
        first, last, resumed = self._round.first, self._round.last, self._round.first is not None
        if first is None:
            first = min(line.first for line in self._lines)
            last = first + step
        while first <= newest:
            parts, count = self._read(first, last, resumed=resumed)
            if count > 4 * PAGE and step > LEAST_STEP and not resumed:
                step = max(step // 4, LEAST_STEP)
                last = first + step
                continue
            yield from self._cut(parts, first, last)
            step = _stepped(step, count)
            first, resumed = self._next(last), False
            last = first + step

    def pending(self, look: Look, now: int) -> int:
        """Count what the receiver is owed now: the rest of the round, and what was learned since."""
        under_way, settled = self._round, settled_at(self._receiver, now)
        done = under_way.first if under_way.first is not None else 0
        total = 0
        spans = {series: (first, last) for series, first, last in look.owed(self._receiver.key)}
        for line in self._lines:
            first, last = spans.get(line.series.line, (line.first, line.last))
            last = min(last, settled[form_of(line.series)] - _reach(line.series))
            if first <= last:
                total += look.count_due(self._wanted(line, first, last, now), done)
        return total

    def _open(self, look: Look, aliases: Aliases) -> Iterator[Line]:
        named = {series.line: series for series in catalogue(look, aliases)}
        extra, under_way = self._receiver.extra_labels, self._round
        for number, first, last in look.owed(self._receiver.key):
            if (series := named.get(number)) is None:
                continue
            form, reach = form_of(series), _reach(series)
            end = under_way.settled[form] - reach
            if last > end:
                self.unsettled.append((number, max(first, end + 1), last))
            if first <= end:
                fresh = self._progress.settled.get(form, -DAY) - reach
                labels = encode.labels(sorted((dict(series.labels) | extra).items()))
                since = fresh if under_way.since is None else under_way.since - reach - 1
                yield Line(series, labels, first, min(last, end), min(fresh, since))

    def _read(self, first: int, last: int, *, resumed: bool) -> tuple[list[Part], int]:
        under_way, found, count = self._round, list[Part](), 0
        with self._ledger.look() as look:
            moved = look.corrected(under_way.upto)
            for line in self._lines:
                number = line.series.line
                if line.first >= last or line.last < first or (resumed and number < under_way.series):
                    continue
                wanted = self._wanted(line, max(line.first, first), min(line.last, last - 1), under_way.begun)
                due = self._without_corrections(line, look.due(wanted, moved.get(number, ())))
                after = under_way.stamp if resumed and number == under_way.series else 0
                if rows := [(stamp, value) for _, stamp, value in due if stamp > after]:
                    found.append((line, rows))
                    count += len(rows)
        return found, count

    def _without_corrections(self, line: Line, due: list[Due]) -> list[Due]:
        corrected = self._corrected.get(line.series.line)
        if not corrected:
            return due
        again = {at for at, _, _ in due if at in corrected and at <= line.fresh}
        self.corrections += len(again)
        return due if self._receiver.corrections == "resend" else [row for row in due if row[0] not in again]

    def _wanted(self, line: Line, first: int, last: int, now: int) -> WantedReadings:
        floor = max(_floor(self._receiver.not_before, now), encode.FIRST)
        after, upto, series = self._progress.after, self._round.upto, line.series
        return WantedReadings(series.line, series.stamping, first, last, floor, after, upto, line.fresh)

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
        place = replace(self._round, first=first, last=last, series=line.series.line, stamp=rows[-1][0])
        return Batch(parts, replace(self._progress, round=place))

    def _next(self, at: int) -> int:
        """Give where the next window begins: nothing lies between."""
        return min((max(line.first, at) for line in self._lines if line.last >= at), default=MOST_STEP)


def settled_at(receiver: Receiver, now: int) -> dict[str, int]:
    """Give form -> end of the last period that counts as settled; nothing of the future does."""
    settle = receiver.settle
    ages = {"index": settle.index, "interval": settle.interval, "day": settle.day, "peak": settle.peak}
    return {form: now - age // timedelta(milliseconds=1) for form, age in ages.items()}


def form_of(series: TrueSeries) -> str:
    """Name the key of `settle` that a series goes by."""
    if series.form == "interval":
        return "interval" if series.resolution.startswith("PT") else "day"
    return series.form


def _reach(series: TrueSeries) -> int:
    """Give how long after its `at` the period of a reading has ended for certain; never before its stamp."""
    if series.form == "index":
        return 0
    if series.stamping.shift is not None:
        return series.stamping.shift + 1
    return 25 * HOUR if series.resolution == "P1D" else 31 * DAY + HOUR


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
