"""How long ago each usage point was read: what of a whole fleet moves with every scrape.

Of many usage points the ages move in steps, and those of the next step are written before anybody asks for them: a
scrape then costs the same whether they are ten or a hundred thousand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import add, ne
from typing import Self

from exporter.metrics.lines import number
from exporter.metrics.sheet import Sheet
from exporter.metrics.zipping import zipped

AGE = "utility_reading_age_seconds"
INSTANT = "utility_reading_timestamp_seconds"
_NAME, _SKIPPED = AGE.encode(), len(INSTANT)
MANY = 1000
STEP = 15
"""The ages of more than `MANY` usage points are those of the last whole `STEP` seconds."""
REMEMBERED = 300
"""For so many seconds after somebody has asked, ages are written ahead."""


@dataclass(frozen=True, slots=True)
class Ages:
    """The starts of the lines of some usage points, and the instants (whole seconds since 1970) that their ages count from."""

    starts: list[bytes]
    instants: list[int]

    @classmethod
    def of(cls, sheet: Sheet) -> Self:
        """Take them from the sheet of the instants: its lines have the same labels, whatever is escaped in them."""
        cut = [_cut(line) for line in sheet.lines]
        return cls([start for start, _ in cut], [instant for _, instant in cut])

    def renewed(self, before: Sheet, now: Sheet) -> Self:
        """Take them from the sheet that replaced the one they were taken from: only what differs is read."""
        lines = now.lines
        if len(lines) != len(self.starts):
            return self.of(now)
        starts, instants = list(self.starts), list(self.instants)
        for place in compress(count(), map(ne, before.lines, lines)):
            starts[place], instants[place] = _cut(lines[place])
        return type(self)(starts, instants)


def _cut(line: bytes) -> tuple[bytes, int]:
    start, _, instant = line.rpartition(b" ")
    return _NAME + start[_SKIPPED:] + b" ", int(float(instant))


class Said:
    """The ages of a page, as text and as gzip, for the instants at which they are asked."""

    def __init__(self, head: bytes, parts: Iterable[Ages]) -> None:
        self._head, self._parts = head, [part for part in parts if part.starts]
        self._step = STEP if sum(len(part.starts) for part in self._parts) > MANY else 1
        self._kept: dict[tuple[int, bool], bytes] = {}
        self.asked: dict[bool, int] = {}
        """gzip or not -> when that was last asked for."""

    def at(self, now: int, *, gzip: bool) -> bytes:
        """Give the ages as of a whole second."""
        self.asked[gzip] = now
        key = now - now % self._step, gzip
        found = self._kept.get(key)
        return self._write(key[0], [gzip])[key] if found is None else found

    def write(self, now: int, steps: Sequence[int] = (0, 1)) -> None:
        """Write beforehand what was asked for of late: this step's ages and the next one's."""
        if self._step == 1:
            return
        forms = [gzip for gzip, asked in list(self.asked.items()) if now - asked < REMEMBERED]
        for at in (now - now % STEP + step * STEP for step in steps):
            if missing := [gzip for gzip in forms if (at, gzip) not in self._kept]:
                self._write(at, missing)

    def _write(self, at: int, forms: Iterable[bool]) -> dict[tuple[int, bool], bytes]:
        text = ages_text(self._head, self._parts, at)
        said = {(at, gzip): zipped(text) if gzip else text for gzip in forms}
        self._kept = {key: kept for key, kept in self._kept.items() if key[0] >= at - STEP} | said
        return said


def ages_text(head: bytes, parts: Sequence[Ages], now: int) -> bytes:
    """Write all ages as of a whole second."""
    said = _Ends(now)
    return (
        b"".join([head, *(b"".join(map(add, part.starts, map(said.__getitem__, part.instants))) for part in parts)])
        if parts
        else b""
    )


class _Ends(dict[int, bytes]):
    """Instant -> the end of a line: many readings are of one second, and its age is written once."""

    def __init__(self, now: int) -> None:
        self._now = now

    def __missing__(self, instant: int) -> bytes:
        said = self[instant] = number(max(self._now - instant, 0)).encode() + b"\n"
        return said
