"""Mijn Fluvius: electricity and gas of Flanders by the day, by the quarter-hour, and the peaks of the capacity tariff."""

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from typing import Any, ClassVar

from exporter.model import Commodity, Discovery, Reading, Told
from exporter.portals.base import Call, Piece, Wanted
from exporter.portals.fluvius import look, past, raw, visit
from exporter.portals.fluvius.keys import Granularity, Keys, Meter
from exporter.session import Session

__all__ = ["Fluvius", "Granularity", "Meter"]


class Fluvius(Keys):
    """A personal account at Mijn Fluvius: e-mail and password, no second factor."""

    patience: ClassVar = {Commodity.GAS: timedelta(days=6)}
    """Gas comes three days late when all is well."""
    calls: ClassVar[Mapping[str, Call]] = raw.CALLS

    async def fetch(self, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
        """Tell the last days, the monthly peaks, and intervals that are missing."""
        async for told in visit.visit(self, session, wanted):
            yield told

    async def discover(self, session: Session) -> Discovery:
        """Look at what each configured meter has."""
        return await look.discover(self, session)

    async def raw(self, session: Session, call: str, keys: Mapping[str, str]) -> Any:
        """Give the portal's own answer; raises ConfigError too, for keys that are not understood."""
        return await raw.raw(self, session, call, keys)

    async def pieces(self, session: Session, first: date | None, last: date | None) -> list[Piece]:
        """List the requests for the past, the newest days first."""
        return past.pieces(self, session.now, first, last)

    async def past(self, session: Session, piece: Piece) -> list[Reading]:
        """Make the requests of one piece, within the hour's budget."""
        return await past.past(self, session, piece)

    def named_points(self) -> frozenset[str]:
        """The EANs of all meters."""
        return frozenset(meter.ean for meter in self.meters)

    def budgets(self) -> Mapping[str, tuple[int, timedelta]]:
        """The requests of an import."""
        return {past.BUDGET: (self.past_requests, past.HOUR)}
