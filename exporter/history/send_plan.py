"""What a receiver is to be sent now, oldest first, in batches that fit a request."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice

from exporter.history import encode
from exporter.history.receivers import Receiver
from exporter.history.send_batch import Batch
from exporter.history.series import Aliases, TrueSeries, catalogue
from exporter.ledger import Due, Ledger, Look, Progress, Span, Stamping, WantedReadings, to_ms

HOUR, DAY = 3_600_000, 86_400_000
PAGE = 50_000
"""About how many samples are read out of the ledger at a time."""
MOST = 4 * PAGE
"""A window that has more is made smaller, if it can be."""
ANY = 1 << 62
"""No limit, of visits or of samples."""
LEAST_STEP, MOST_STEP = 60_000, 100 * 366 * DAY


@dataclass(frozen=True, slots=True)
class Kind:
    """Series that are stamped alike and settle alike."""

    stamping: Stamping
    form: str
    reach: int
    """How long after its `at` the period of a reading has ended for certain; never before its stamp."""


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
        self._lines: dict[Kind, list[Span]] = defaultdict(list)
        """Where something may be owed, in the order of the series."""
        self._labels: dict[int, bytes] = {}
        with ledger.look() as look:
            self._open(look, aliases)
            self._corrected = look.corrected(progress.after, self._round.upto)

    def batches(self) -> Iterator[Batch]:
        """Give all that is left of the round, a batch at a time."""
        step, first, last, resumed = HOUR, self._round.first, self._round.last, self._round.first is not None
        if first is None:
            first = min((first for _, first, _ in self._spans()), default=None)
            last = (first or 0) + step
        while first is not None:
            narrow = not resumed and last - first > LEAST_STEP
            rows = self._read(first, last, MOST if narrow else ANY, resumed=resumed)
            if narrow and len(rows) > MOST:
                step = max(step // 4, LEAST_STEP)
                last = first + step
                continue
            self.corrections += self._met
            yield from self._cut(rows, first, last)
            step = _stepped(step, len(rows))
            first = self._following(last)
            last, resumed = (first or 0) + step, False

    def pending(self, look: Look, now: int) -> int:
        """Count what the receiver is owed now: the rest of the round, and what was learned since."""
        settled, done = settled_at(self._receiver, now), self._round.first or 0
        return sum(
            look.count_due(self._wanted(kind, 0, settled[kind.form] - kind.reach, now), (number for number, _, _ in spans), done)
            for kind, spans in self._lines.items()
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
                self._labels[number] = encode.labels(sorted((dict(series.labels) | extra).items()))
                self._lines[kind].append((number, first, min(last, end)))

    def _spans(self) -> Iterator[Span]:
        return chain.from_iterable(self._lines.values())

    def _following(self, last: int) -> int | None:
        """Tell where the window after one that ends at `last` begins: nothing lies between the two."""
        if any(begin <= last <= end for _, begin, end in self._spans()):
            return last
        return min((begin for _, begin, _ in self._spans() if begin > last), default=None)

    def _read(self, first: int, last: int, most: int, *, resumed: bool) -> list[Due]:
        """Give what is due in a window, series by series; of more than `most` only a part."""
        found, after = list[Due](), (self._round.series, self._round.stamp) if resumed else (0, 0)
        self._met = 0
        with self._ledger.look() as look:
            moved = look.corrected(self._round.upto)
            for kind, spans in self._lines.items():
                near = [number for number, begin, end in spans if begin < last and end >= first and number >= after[0]]
                wanted = self._wanted(kind, first, min(last - 1, self._round.settled[kind.form] - kind.reach), self._round.begun)
                rows = self._due(look, wanted, near, moved, most + 1 - len(found))
                if len(found) + len(rows) > most:
                    return found + rows
                found += rows if kind.stamping.shift is not None else _once(rows)
        if len(self._lines) > 1:
            found.sort()
        return [row for row in found if row[:2] > after] if resumed else found

    def _due(
        self, look: Look, wanted: WantedReadings, near: Sequence[int], moved: Mapping[int, Collection[int]], most: int
    ) -> list[Due]:
        """Give what is due of series of one kind, `most` at most; those with corrections are gone through one by one."""
        special = (moved.keys() | self._corrected.keys()).intersection(near)
        rows = look.due(wanted, [number for number in near if number not in special] if special else near, most)
        if special:
            rows += islice(self._one_by_one(look, wanted, sorted(special), moved), most - len(rows))
            rows.sort()
        return rows

    def _one_by_one(
        self, look: Look, wanted: WantedReadings, special: Sequence[int], moved: Mapping[int, Collection[int]]
    ) -> Iterator[Due]:
        """Give what is due of series that have corrections."""
        for number, stamp, value, at, visit in look.due_readings(replace(wanted, upto=ANY), special):
            # What was known when the round began and has been corrected since goes with its new value.
            if visit > self._round.upto and at not in moved.get(number, ()):
                continue
            if at in self._corrected.get(number, ()) and at <= wanted.fresh:
                self._met += 1
                if self._receiver.corrections == "ignore":
                    continue
            yield number, stamp, value

    def _wanted(self, kind: Kind, first: int, last: int, now: int) -> WantedReadings:
        fresh, since = self._progress.settled.get(kind.form, -DAY), self._round.since
        fresh = (fresh if since is None else min(fresh, since - 1)) - kind.reach
        floor = max(_floor(self._receiver.not_before, now), encode.FIRST)
        key, after, upto = self._receiver.key, self._progress.after, self._round.upto
        return WantedReadings(key, kind.stamping, first, last, floor, after, upto, fresh)

    def _cut(self, rows: Sequence[Due], first: int, last: int) -> Iterator[Batch]:
        most = self._receiver.samples_per_request
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            number, stamp, _ = part[-1]
            place = replace(self._round, first=first, last=last, series=number, stamp=stamp)
            yield Batch(part, self._labels, replace(self._progress, round=place))


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


def _once(rows: Sequence[Due]) -> list[Due]:
    """Put samples in order; of two of a series on one instant the higher stays."""
    return [(number, stamp, value) for (number, stamp), value in {row[:2]: row[2] for row in sorted(rows)}.items()]


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
