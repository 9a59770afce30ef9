"""What remote write still has to send to a receiver, in batches.

The ledger's delivery state names, for each series, the ranges of time in which samples may be pending. A round covers what the
ledger knew when it began (up to a visit, `upto`) and what has settled since (`settled`); later visits belong to the next round.

A round goes through time in windows, oldest first, each read from the ledger in one snapshot and small enough for memory: its
length adapts to the number of samples in it. A window is sent in batches of `samples_per_request`; after each accepted batch
the progress is saved, so that a killed sender resumes there and sends at most one batch twice.

Invariants: a sample is sent only once it has settled, and once; nothing of the future is sent; a correction of a delivered
sample is counted and sent again or ignored, by configuration; a correction made since the round began is sent with its new
value; ranges that have not settled at the end of a round stay pending.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from operator import itemgetter

from exporter.history import encoding
from exporter.history.config import Receiver
from exporter.history.series import MIN_TIMESTAMP_MS, Aliases, HistorySeries, list_series
from exporter.ledger.database import DAY_MS, to_ms
from exporter.ledger.delivery_state import DeliveryProgress, DeliveryRound, PendingQuery, PendingRange, PendingSample
from exporter.ledger.ledger import Ledger, Snapshot
from exporter.ledger.samples import TimestampRule

SAMPLES_PER_SLICE = 2048
"""How many samples are encoded at a time: the cost of long integers grows faster than their length."""
HOUR_MS = 3_600_000
TARGET_WINDOW_SAMPLES = 50_000
"""How many samples a window should have."""
MAX_WINDOW_SAMPLES = 4 * TARGET_WINDOW_SAMPLES
"""A window that has more is shortened, if possible."""
UNLIMITED = 1 << 62
"""No limit on visits or samples."""
MIN_WINDOW_MS, MAX_WINDOW_MS = 60_000, 100 * 366 * DAY_MS


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples of one request, and the round's position after it."""

    samples: Sequence[PendingSample]
    """By series, each in time order."""
    encoded_labels: Mapping[int, bytes]
    """The encoded labels of all series."""
    position: DeliveryRound

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(self.samples)

    def encode(self) -> bytes:
        """Return the encoded WriteRequest."""
        blob, start, out = b"".join(self._encode_samples()), 0, list[bytes]()
        # The batch of a large portal has thousands of series with one or two samples each: work done per series dominates.
        for number, count in Counter(number for number, _, _ in self.samples).items():
            labels, end = self.encoded_labels[number], start + count * encoding.SAMPLE_BYTES
            out += (encoding.encode_field_header(1, len(labels) + end - start), labels, blob[start:end])
            start = end
        return b"".join(out)

    def split(self) -> "tuple[Batch, Batch]":
        """Return the older and the newer half."""
        order = sorted((stamp, number) for number, stamp, _ in self.samples)
        middle = order[len(order) // 2]
        older = [row for row in self.samples if (row[1], row[0]) < middle]
        newer = [row for row in self.samples if (row[1], row[0]) >= middle]
        return replace(self, samples=older), replace(self, samples=newer)

    def select_newest(self) -> "Batch":
        """Return a batch of its newest sample alone."""
        return replace(self, samples=[max(self.samples, key=itemgetter(1))])

    def _encode_samples(self) -> Iterator[bytes]:
        for start in range(0, len(self.samples), SAMPLES_PER_SLICE):
            rows = self.samples[start : start + SAMPLES_PER_SLICE]
            yield encoding.encode_columns([stamp for _, stamp, _ in rows], [value for _, _, value in rows])


@dataclass(frozen=True, slots=True)
class SettlementGroup:
    """Series with the same timestamp rule and settling delay."""

    timestamp_rule: TimestampRule
    form: str
    period_end_offset_ms: int
    """How long after its `at` the period of a reading has ended for certain; never before its timestamp."""


class WriteQueue:
    """The rest of a receiver's round. Its methods read the ledger, and raise LedgerError."""

    def __init__(
        self, ledger: Ledger, receiver: Receiver, aliases: Aliases, progress: DeliveryProgress, delivery_round: DeliveryRound
    ) -> None:
        self._ledger, self._receiver = ledger, receiver
        self._progress, self._round = progress, delivery_round
        self.corrections = 0
        """Samples delivered before and corrected since."""
        self.unsettled_ranges: list[PendingRange] = []
        """Ranges that stay pending at the end of the round."""
        self._pending_ranges: dict[SettlementGroup, list[PendingRange]] = defaultdict(list)
        """Where samples may be pending, in the order of the series."""
        self._encoded_labels: dict[int, bytes] = {}
        with ledger.snapshot() as snapshot:
            self._load_pending_ranges(snapshot, aliases)
            self._corrected_instants = snapshot.select_corrected(progress.after, self._round.upto)

    def generate_batches(self) -> Iterator[Batch]:
        """Yield the rest of the round in batches."""
        step, first, last, resumed = HOUR_MS, self._round.first, self._round.last, self._round.first is not None
        if first is None:
            first = min((first for _, first, _ in self._iterate_ranges()), default=None)
            last = (first or 0) + step
        while first is not None:
            narrow = not resumed and last - first > MIN_WINDOW_MS
            rows, corrections = self._read_window(first, last, MAX_WINDOW_SAMPLES if narrow else UNLIMITED, resumed=resumed)
            if narrow and len(rows) > MAX_WINDOW_SAMPLES:
                step = max(step // 4, MIN_WINDOW_MS)
                last = first + step
                continue
            self.corrections += corrections
            yield from self._split_into_batches(rows, first, last)
            step = _adjust_step(step, len(rows))
            first = self._find_next_window(last)
            last, resumed = (first or 0) + step, False

    def count_pending(self, snapshot: Snapshot, now: int) -> int:
        """Count the pending samples: the rest of the round, and what is new since."""
        settled, done = settled_until(self._receiver, now), self._round.first or 0
        return sum(
            snapshot.count_pending(
                self._build_selection(group, 0, settled[group.form] - group.period_end_offset_ms, now),
                (number for number, _, _ in ranges),
                done,
            )
            for group, ranges in self._pending_ranges.items()
        )

    def _load_pending_ranges(self, snapshot: Snapshot, aliases: Aliases) -> None:
        series_by_id = {series.series_id: series for series in list_series(snapshot, aliases, stored_only=True)}
        extra = self._receiver.extra_labels
        for number, first, last in snapshot.pending_ranges(self._receiver.key):
            if (series := series_by_id.get(number)) is None:
                continue
            group = classify_series(series)
            end = self._round.settled[group.form] - group.period_end_offset_ms
            if last > end:
                self.unsettled_ranges.append((number, max(first, end + 1), last))
            if first <= end:
                self._encoded_labels[number] = encoding.encode_labels(sorted((dict(series.labels) | extra).items()))
                self._pending_ranges[group].append((number, first, min(last, end)))

    def _iterate_ranges(self) -> Iterator[PendingRange]:
        return chain.from_iterable(self._pending_ranges.values())

    def _find_next_window(self, last: int) -> int | None:
        """Return where the window after one that ends at `last` begins; nothing is pending between the two."""
        if any(begin <= last <= end for _, begin, end in self._iterate_ranges()):
            return last
        return min((begin for _, begin, _ in self._iterate_ranges() if begin > last), default=None)

    def _read_window(self, first: int, last: int, limit: int, *, resumed: bool) -> tuple[list[PendingSample], int]:
        """Return the due samples of a window, by series, and how many were corrected; if there are more than `limit`, a part."""
        found, after = list[PendingSample](), (self._round.series, self._round.stamp) if resumed else (0, 0)
        corrections = 0
        with self._ledger.snapshot() as snapshot:
            corrected_since = snapshot.select_corrected(self._round.upto)
            for group, ranges in self._pending_ranges.items():
                series_ids = [number for number, begin, end in ranges if begin < last and end >= first and number >= after[0]]
                selection = self._build_selection(
                    group, first, min(last - 1, self._round.settled[group.form] - group.period_end_offset_ms), self._round.begun
                )
                rows, corrected = self._select_due(snapshot, selection, series_ids, corrected_since, limit + 1 - len(found))
                corrections += corrected
                if len(found) + len(rows) > limit:
                    return found + rows, corrections
                found += rows if group.timestamp_rule.shift is not None else _deduplicate(rows)
        if len(self._pending_ranges) > 1:
            found.sort()
        return [row for row in found if row[:2] > after] if resumed else found, corrections

    def _select_due(
        self,
        snapshot: Snapshot,
        selection: PendingQuery,
        series_ids: Sequence[int],
        corrected_since: Mapping[int, Collection[int]],
        limit: int,
    ) -> tuple[list[PendingSample], int]:
        """Return up to `limit` due samples of series of one group, and how many are corrected; those series are read apart."""
        corrected = (corrected_since.keys() | self._corrected_instants.keys()).intersection(series_ids)
        rows = snapshot.select_pending(
            selection, [number for number in series_ids if number not in corrected] if corrected else series_ids, limit
        )
        if not corrected:
            return rows, 0
        corrections = 0
        for sample, is_correction in self._iterate_due(snapshot, selection, sorted(corrected), corrected_since):
            if len(rows) == limit:
                break
            corrections += is_correction
            if not is_correction or self._receiver.corrections == "resend":
                rows.append(sample)
        return sorted(rows), corrections

    def _iterate_due(
        self,
        snapshot: Snapshot,
        selection: PendingQuery,
        series_ids: Sequence[int],
        corrected_since: Mapping[int, Collection[int]],
    ) -> Iterator[tuple[PendingSample, bool]]:
        """Yield the due samples of series that have corrections, and whether each corrects one that was delivered."""
        for number, stamp, value, at, visit in snapshot.iterate_pending_readings(replace(selection, upto=UNLIMITED), series_ids):
            # A sample known when the round began and corrected since is sent with its new value.
            if visit > self._round.upto and at not in corrected_since.get(number, ()):
                continue
            yield (number, stamp, value), at in self._corrected_instants.get(number, ()) and at <= selection.fresh

    def _build_selection(self, group: SettlementGroup, first: int, last: int, now: int) -> PendingQuery:
        fresh, since = self._progress.settled.get(group.form, -DAY_MS), self._round.since
        fresh = (fresh if since is None else min(fresh, since - 1)) - group.period_end_offset_ms
        floor = max(_oldest_timestamp(self._receiver.not_before, now), MIN_TIMESTAMP_MS)
        key, after, upto = self._receiver.key, self._progress.after, self._round.upto
        return PendingQuery(key, group.timestamp_rule, first, last, floor, after, upto, fresh)

    def _split_into_batches(self, rows: Sequence[PendingSample], first: int, last: int) -> Iterator[Batch]:
        limit = self._receiver.samples_per_request
        for start in range(0, len(rows), limit):
            part = rows[start : start + limit]
            number, stamp, _ = part[-1]
            position = replace(self._round, first=first, last=last, series=number, stamp=stamp)
            yield Batch(part, self._encoded_labels, position)


def settled_until(receiver: Receiver, now: int) -> dict[str, int]:
    """Return form -> end of the last period that has settled; nothing of the future has."""
    settle = receiver.settle
    ages = {"index": settle.index, "interval": settle.interval, "day": settle.day, "peak": settle.peak}
    return {form: now - age // timedelta(milliseconds=1) for form, age in ages.items()}


def classify_series(series: HistorySeries) -> SettlementGroup:
    """Return the settlement group of a series; its form is a key of `settle`."""
    if series.form == "index":
        return SettlementGroup(series.timestamp_rule, "index", 0)
    form = series.form if series.form == "peak" else "interval" if series.resolution.startswith("PT") else "day"
    if series.timestamp_rule.shift is not None:
        return SettlementGroup(series.timestamp_rule, form, series.timestamp_rule.shift + 1)
    return SettlementGroup(series.timestamp_rule, form, 25 * HOUR_MS if series.resolution == "P1D" else 31 * DAY_MS + HOUR_MS)


def _deduplicate(rows: Sequence[PendingSample]) -> list[PendingSample]:
    """Return samples in order; of two of a series at one instant, the higher."""
    return [(number, stamp, value) for (number, stamp), value in {row[:2]: row[2] for row in sorted(rows)}.items()]


def _oldest_timestamp(not_before: date | timedelta | None, now: int) -> int:
    if not_before is None:
        return 0
    if isinstance(not_before, timedelta):
        return now - not_before // timedelta(milliseconds=1)
    return to_ms(datetime(not_before.year, not_before.month, not_before.day, tzinfo=UTC))


def _adjust_step(step: int, count: int) -> int:
    if count > 2 * TARGET_WINDOW_SAMPLES:
        return max(step // 2, MIN_WINDOW_MS)
    return min(step * 2, MAX_WINDOW_MS) if count < TARGET_WINDOW_SAMPLES // 2 else step
