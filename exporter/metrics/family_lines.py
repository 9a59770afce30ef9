"""The lines of one family, with their gzip member; samples are read back from them."""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import compress, count
from typing import Self

from exporter.metrics.aggregates import MONTH_START_FAMILY, PERIOD_FAMILIES
from exporter.metrics.exposition import (
    build_line_prefixer,
    compress_member,
    decompress_member,
    format_lines,
    format_value,
    parse_labels,
    parse_usage_points,
)
from exporter.metrics.families import LabelValues

_VALUE_PATTERN = re.compile(rb" [^ \n]+\n")
MIN_OWN_MEMBER_BYTES = 16 * 1024
"""Lines of at least this size are a gzip member of their own; smaller ones are compressed with their neighbours."""
COMPACT_FAMILIES = PERIOD_FAMILIES | {MONTH_START_FAMILY}
"""Families that change once a day or less: of lines that are a member of their own no text is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class FamilyLines:
    """The lines of one family in a block, never changed, only replaced. Samples are read back from them to save memory."""

    family: str
    kept_text: bytes | None
    """The text; None where it is made from the compressed one when it is needed: of `COMPACT_FAMILIES`."""
    compressed: bytes | None

    @property
    def text(self) -> bytes:
        """The lines as text."""
        if self.kept_text is not None:
            return self.kept_text
        assert self.compressed is not None
        return decompress_member(self.compressed)

    @property
    def labels(self) -> list[LabelValues]:
        """The labels of the lines, in their order."""
        return parse_labels(self.family, self.text.decode())

    @property
    def lines(self) -> list[bytes]:
        """The lines, without line ends."""
        return self.text.split(b"\n")[:-1]

    @property
    def numbers(self) -> list[float]:
        """The values of the lines, in their order."""
        return [float(line[line.rindex(b" ") :]) for line in self.lines]

    @property
    def values(self) -> dict[LabelValues, float]:
        """The samples, in the order of the lines."""
        return dict(zip(self.labels, self.numbers, strict=True))

    @classmethod
    def from_samples(cls, family: str, values: Mapping[LabelValues, float]) -> Self | None:
        """Return the lines of samples; None without samples."""
        return cls._build(family, "\n".join([*format_lines(family, values), ""]).encode()) if values else None

    def replace_usage_points(self, names: Set[str], samples: Mapping[LabelValues, float]) -> Self | None:
        """Return the lines with `samples` as the only ones of the usage points of these names.

        Return this object if nothing differs. Of a known series only the value is formatted again.
        """
        lines, format_prefix = self.lines, build_line_prefixer(self.family)
        positions = list(compress(count(), map(names.__contains__, parse_usage_points(self.family, self.text.decode()))))
        known = parse_labels(self.family, b"".join(lines[position] + b"\n" for position in positions).decode())
        position_by_labels = dict(zip(known, positions, strict=True))
        for labels, value in samples.items():
            if (position := position_by_labels.pop(labels, None)) is None:
                lines.append((format_prefix(labels) + format_value(value)).encode())
            else:
                line = lines[position]
                lines[position] = line[: line.rindex(b" ") + 1] + format_value(value).encode()
        for position in sorted(position_by_labels.values(), reverse=True):
            del lines[position]
        text = b"\n".join([*lines, b""])
        return self if text == self.text else self._build(self.family, text) if text else None

    def replace_values(self, value: float) -> Self:
        """Return the lines with one value in all of them."""
        return self._build(self.family, _VALUE_PATTERN.sub(b" " + format_value(value).encode() + b"\n", self.text))

    @classmethod
    def _build(cls, family: str, text: bytes) -> Self:
        if len(text) < MIN_OWN_MEMBER_BYTES:
            return cls(family, text, None)
        return cls(family, None if family in COMPACT_FAMILIES else text, compress_member(text))
