"""Lines that are kept: those of one family for a run of usage points, as text and as gzip."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import compress, count
from typing import Self

from exporter.metrics.lines import labels_of, lines, names_of, number, starter
from exporter.metrics.words import Labels
from exporter.metrics.zipping import zipped

LARGE = 16 * 1024
"""A sheet from this many bytes on is a gzip member of its own; smaller ones are compressed with their neighbours."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Lines, never changed, only replaced. The samples are read back out of them: kept beside, they take twice the room."""

    family: str
    text: bytes
    zipped: bytes | None

    @property
    def labels(self) -> list[Labels]:
        """Give the labels of the lines, in their order."""
        return labels_of(self.family, self.text.decode())

    @property
    def lines(self) -> list[bytes]:
        """Give the lines, without their ends."""
        return self.text.split(b"\n")[:-1]

    @property
    def values(self) -> dict[Labels, float]:
        """Give the samples, in the order of the lines."""
        values = (float(line[line.rindex(b" ") :]) for line in self.lines)
        return dict(zip(self.labels, values, strict=True))

    @classmethod
    def of(cls, family: str, values: Mapping[Labels, float]) -> Self | None:
        """Write a sheet; None without lines."""
        return cls._made(family, "\n".join([*lines(family, values), ""]).encode()) if values else None

    def replaced(self, names: Set[str], told: Mapping[Labels, float]) -> Self | None:
        """Give the sheet with what is `told` of the usage points under these names, and with nothing else of them.

        It is this very one where nothing differs. The text is where the starts of the lines are kept: of a known series
        only the number is written anew.
        """
        kept, start = self.lines, starter(self.family)
        found = list(compress(count(), map(names.__contains__, names_of(self.family, self.text.decode()))))
        known = labels_of(self.family, b"".join(kept[place] + b"\n" for place in found).decode())
        places = dict(zip(known, found, strict=True))
        for labels, value in told.items():
            if (place := places.pop(labels, None)) is None:
                kept.append((start(labels) + number(value)).encode())
            else:
                line = kept[place]
                kept[place] = line[: line.rindex(b" ") + 1] + number(value).encode()
        for place in sorted(places.values(), reverse=True):
            del kept[place]
        text = b"\n".join([*kept, b""])
        return self if text == self.text else self._made(self.family, text) if text else None

    @classmethod
    def _made(cls, family: str, text: bytes) -> Self:
        return cls(family, text, zipped(text) if len(text) >= LARGE else None)
