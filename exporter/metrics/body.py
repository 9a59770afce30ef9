"""The page's body, put together out of what is kept and what moves with the clock, as text and as gzip."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import is_

from exporter.metrics.ages import AGE, Said
from exporter.metrics.exposition import header
from exporter.metrics.families import AT_SCRAPE, FAMILIES
from exporter.metrics.leaves import Derived
from exporter.metrics.zipping import zipped


@dataclass(frozen=True, slots=True)
class Solid:
    """A part that is kept, as text and as a gzip member."""

    text: bytes
    zipped: bytes


@dataclass(frozen=True, slots=True)
class Moving:
    """The place of families that are written when somebody asks."""

    families: tuple[str, ...]


class Aged:
    """The place of the ages."""


Parts = list[bytes | Moving | Aged]


class Body:
    """A page's kept parts in the order of the families; a family's lines stand together, whatever the account."""

    def __init__(self, content_type: str, accounts: Sequence[Derived]) -> None:
        self._accounts = accounts
        *parts, last = _parts(content_type, accounts)
        assert isinstance(last, Moving)
        self.last = last.families
        """What stands at the end of the page is written when somebody asks."""
        self.text: Parts = [part.text if isinstance(part, Solid) else part for part in parts]
        self.zipped: Parts = list(_joined(parts))
        """The same compressed; what stands together is one piece, which costs a scrape less than many small ones."""
        self.ages = Said(header(AGE, content_type), (leaf.ages for account in accounts for leaf in account.leaves))

    def says(self, accounts: Sequence[Derived]) -> bool:
        """Tell whether these are the accounts it was put together of, as they are now."""
        return len(accounts) == len(self._accounts) and all(map(is_, accounts, self._accounts))

    def succeed(self, before: "Body", now: int) -> None:
        """Be ready for whoever asked the body before."""
        self.ages.asked |= before.ages.asked
        self.ages.write(now, [0])


def _joined(parts: Iterable[Solid | Moving | Aged]) -> Iterator[bytes | Moving | Aged]:
    for kind, run in groupby(parts, type):
        if kind is Solid:
            yield b"".join(part.zipped for part in run if isinstance(part, Solid))
        else:
            yield from (part for part in run if not isinstance(part, Solid))


def _parts(content_type: str, accounts: Sequence[Derived]) -> Iterator[Solid | Moving | Aged]:
    """Give the parts in their order; the last one is `Moving`."""
    small, moving = bytearray(), list[str]()
    for family in FAMILIES:
        sheets = [sheet for account in accounts for sheet in account.sheets.get(family.name, ())]
        if family.name in AT_SCRAPE and family.name != AGE:
            yield from _solid(small)
            moving.append(family.name)
            continue
        if moving and (sheets or family.name == AGE):
            yield Moving(tuple(moving))
            moving.clear()
        if family.name == AGE:
            yield from _solid(small)
            yield Aged()
        small += header(family.name, content_type) if sheets else b""
        for sheet in sheets:
            if sheet.zipped is None:
                small += sheet.text
            else:
                yield from _solid(small)
                yield Solid(sheet.text, sheet.zipped)
    yield from _solid(small)
    yield Moving(tuple(moving))


def _solid(small: bytearray) -> Iterator[Solid]:
    if small:
        text = bytes(small)
        small.clear()
        yield Solid(text, zipped(text))
