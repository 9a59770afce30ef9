"""The page's body, put together out of what is kept and what moves with the clock, as text and as gzip."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import is_

from exporter.metrics.ages import AGE, ages_text
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


AGES = Solid(b"", b"")
"""Stands where the ages come."""


class Body:
    """A page's kept parts in the order of the families; a family's lines stand together, whatever the account."""

    def __init__(self, content_type: str, accounts: Sequence[Derived]) -> None:
        self._accounts = accounts
        self.parts: list[Solid | Moving] = list(_parts(content_type, accounts))
        self._header = header(AGE, content_type)
        self._ages = [leaf.ages for account in accounts for leaf in account.leaves if leaf.ages.starts]
        self._aged: dict[bool, tuple[int, bytes]] = {}

    def says(self, accounts: Sequence[Derived]) -> bool:
        """Tell whether these are the accounts it was put together of, as they are now."""
        return len(accounts) == len(self._accounts) and all(map(is_, accounts, self._accounts))

    def ages(self, now: int, *, gzip: bool) -> bytes:
        """Give the ages as of a whole second; whoever asks in the same second is given the same ones."""
        at, said = self._aged.get(gzip, (None, b""))
        if at != now:
            text = self._header + ages_text(self._ages, now) if self._ages else b""
            said = zipped(text) if gzip else text
            self._aged[gzip] = now, said
        return said


def _parts(content_type: str, accounts: Sequence[Derived]) -> Iterator[Solid | Moving]:
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
            yield AGES
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
