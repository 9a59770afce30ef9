"""What is known of a contract, asked for once a week: subscribed power, and since when it is measured."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from exporter.errors import NoDataError
from exporter.model import Commodity, Fact, Facts, Note, UsagePoint
from exporter.portals.enedis.contract import contract
from exporter.portals.enedis.refusals import ConsentError, WaitWeekError
from exporter.portals.enedis.way import Point, Way

KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Terms:
    """A contract's subscribed power (kVA) and first day, and why they are not known."""

    power: float | None = None
    activation: date | None = None
    why_not: str = ""

    def told(self, prm: str) -> list[Facts | Note]:
        """Say it in the words of the model."""
        if self.why_not:
            return [Note(self.why_not)]
        point = UsagePoint(prm, Commodity.ELECTRICITY)
        return [Facts(point, {Fact.SUBSCRIBED_POWER: self.power})] if self.power is not None else []


async def terms_of(way: Way, point: Point) -> Terms:
    """Give the contract's terms, from the memory or anew; a way without contracts knows none.

    A contract that may not be read closes nothing else. Raises the PortalErrors other than LoginError and NoDataError.
    """
    if way.contract(point) is None:
        return Terms()
    key, now = f"contract:{point.prm}", way.session.now
    if (kept := await way.session.memory.get(key, now)) is None:
        kept = await _asked(way, point)
        await way.session.memory.put(key, kept, now + KEPT)
    activation = kept.get("activation")
    return Terms(kept.get("power"), date.fromisoformat(activation) if activation else None, kept.get("why_not", ""))


async def _asked(way: Way, point: Point) -> dict[str, Any]:
    try:
        found = contract(await way.terms(point))
    except (WaitWeekError, ConsentError) as refused:
        return {"why_not": str(refused)}
    except NoDataError:
        return {}
    return {"power": found.power, "activation": found.activation.isoformat() if found.activation else None}
