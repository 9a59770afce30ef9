"""How long ago each usage point was read: what of a whole fleet moves with every scrape."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import add
from typing import Self

from exporter.metrics.lines import number, starter
from exporter.metrics.sheet import Sheet

AGE = "utility_reading_age_seconds"
INSTANT = "utility_reading_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class Ages:
    """The starts of the lines of some usage points, and the instants (seconds since 1970) that their ages count from."""

    starts: list[str]
    instants: list[float]

    @classmethod
    def of(cls, sheet: Sheet) -> Self:
        """Take them from the sheet of the instants."""
        return cls(list(map(starter(AGE), sheet.values)), list(sheet.values.values()))


def ages_text(parts: Iterable[Ages], now: int) -> bytes:
    """Write all ages as of a whole second."""
    said = _Said(now)
    return "".join([line for part in parts for line in map(add, part.starts, map(said.__getitem__, part.instants))]).encode()


class _Said(dict[float, str]):
    """Instant -> the end of a line: many readings are of one instant, and its age is written once."""

    def __init__(self, now: int) -> None:
        self._now = now

    def __missing__(self, instant: float) -> str:
        said = self[instant] = f"{number(self._now - instant)}\n"
        return said
