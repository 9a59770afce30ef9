"""Lines that are kept: those of one family for a run of usage points, as text and as gzip."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from exporter.metrics.lines import lines, number, samples, starter
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
    def values(self) -> dict[Labels, float]:
        """Give the samples, in the order of the lines."""
        return samples(self.family, self.text.decode())

    @classmethod
    def of(cls, family: str, values: Mapping[Labels, float]) -> Self:
        """Write a sheet."""
        return cls._made(family, "\n".join([*lines(family, values), ""]).encode())

    def replaced(self, gone: Collection[Labels], told: Mapping[Labels, float]) -> Self:
        """Write the sheet anew where it differs: without the lines that are `gone`, with those that are `told`.

        The text is where the starts of the lines are kept: of a known series only the number is written anew.
        """
        kept, start = dict(zip(self.values, self.text.split(b"\n"), strict=False)), starter(self.family)
        for labels in gone:
            del kept[labels]
        for labels, value in told.items():
            known = kept.get(labels)
            before = known[: known.rindex(b" ") + 1] if known else start(labels).encode()
            kept[labels] = before + number(value).encode()
        return self._made(self.family, b"\n".join([*kept.values(), b""]))

    @classmethod
    def _made(cls, family: str, text: bytes) -> Self:
        return cls(family, text, zipped(text) if len(text) >= LARGE else None)
