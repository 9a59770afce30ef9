"""Lines that are kept: those of one family for a run of usage points, as text and as gzip."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from exporter.metrics.lines import lines, number, starter
from exporter.metrics.words import Labels
from exporter.metrics.zipping import zipped

LARGE = 16 * 1024
"""A sheet from this many bytes on is a gzip member of its own; smaller ones are compressed with their neighbours."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Samples and the lines they make, in one order; never changed, only replaced."""

    family: str
    values: Mapping[Labels, float]
    text: bytes
    zipped: bytes | None

    @classmethod
    def of(cls, family: str, values: Mapping[Labels, float]) -> Self:
        """Write a sheet."""
        return cls._made(family, values, "\n".join([*lines(family, values), ""]).encode())

    def replaced(self, gone: Collection[Labels], told: Mapping[Labels, float]) -> Self:
        """Write the sheet anew where it differs: without the lines that are `gone`, with those that are `told`.

        The text is where the starts of the lines are kept: of a known series only the number is written anew.
        """
        kept = dict(zip(self.values, self.text.split(b"\n"), strict=False))
        values, start = dict(self.values), starter(self.family)
        for labels in gone:
            del kept[labels], values[labels]
        for labels, value in told.items():
            known = kept.get(labels)
            before = known[: known.rindex(b" ") + 1] if known else start(labels).encode()
            kept[labels] = before + number(value).encode()
            values[labels] = value
        return self._made(self.family, values, b"\n".join([*kept.values(), b""]))

    @classmethod
    def _made(cls, family: str, values: Mapping[Labels, float], text: bytes) -> Self:
        return cls(family, values, text, zipped(text) if len(text) >= LARGE else None)
