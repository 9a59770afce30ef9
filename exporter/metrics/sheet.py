"""Lines that are kept: those of one family for a run of usage points, as text and as gzip."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from exporter.metrics.lines import labels_of, lines, number, starter
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
    def values(self) -> dict[Labels, float]:
        """Give the samples, in the order of the lines."""
        values = (float(line[line.rindex(b" ") :]) for line in self.text.split(b"\n")[:-1])
        return dict(zip(self.labels, values, strict=True))

    @classmethod
    def of(cls, family: str, values: Mapping[Labels, float]) -> Self:
        """Write a sheet."""
        return cls._made(family, "\n".join([*lines(family, values), ""]).encode())

    def replaced(self, known: Iterable[Labels], gone: Collection[Labels], told: Mapping[Labels, float]) -> Self:
        """Give the sheet without the lines that are `gone`, with those that are `told`: this very one where nothing differs.

        `known` are the labels of its lines, in their order, which whoever asks has read back already.
        The text is where the starts of the lines are kept: of a known series only the number is written anew.
        """
        kept, start = dict(zip(known, self.text.split(b"\n"), strict=False)), starter(self.family)
        for labels in gone:
            del kept[labels]
        for labels, value in told.items():
            line = kept.get(labels)
            before = line[: line.rindex(b" ") + 1] if line else start(labels).encode()
            kept[labels] = before + number(value).encode()
        text = b"\n".join([*kept.values(), b""])
        return self if text == self.text else self._made(self.family, text)

    @classmethod
    def _made(cls, family: str, text: bytes) -> Self:
        return cls(family, text, zipped(text) if len(text) >= LARGE else None)
