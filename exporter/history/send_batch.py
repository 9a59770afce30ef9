"""What goes in one request of remote write."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from exporter.history import encode
from exporter.ledger import Due, Progress

SLICE = 2048
"""How many samples are encoded at a time: long numbers cost more than their share."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes in one request, and how far the round has come with it."""

    rows: Sequence[Due]
    """Series by series, each in time order."""
    labels: Mapping[int, bytes]
    """Of all series, encoded."""
    place: Progress

    @property
    def size(self) -> int:
        """How many samples it has."""
        return len(self.rows)

    def body(self) -> bytes:
        """Write it as a WriteRequest."""
        blob, start, out = b"".join(self._samples()), 0, list[bytes]()
        # A town's batch has thousands of series with a sample or two of each: what is done here for a series is what it costs.
        for number, count in Counter(number for number, _, _ in self.rows).items():
            labels, end = self.labels[number], start + count * encode.SAMPLE
            out += (encode.head(1, len(labels) + end - start), labels, blob[start:end])
            start = end
        return b"".join(out)

    def split(self) -> "tuple[Batch, Batch]":
        """Halve it: the older half, and the newer one."""
        order = sorted((stamp, number) for number, stamp, _ in self.rows)
        middle = order[len(order) // 2]
        older = [row for row in self.rows if (row[1], row[0]) < middle]
        newer = [row for row in self.rows if (row[1], row[0]) >= middle]
        return replace(self, rows=older), replace(self, rows=newer)

    def newest(self) -> "Batch":
        """Take its newest sample alone."""
        return replace(self, rows=[max(self.rows, key=itemgetter(1))])

    def _samples(self) -> Iterator[bytes]:
        for start in range(0, len(self.rows), SLICE):
            rows = self.rows[start : start + SLICE]
            yield encode.columns([stamp for _, stamp, _ in rows], [value for _, _, value in rows])
