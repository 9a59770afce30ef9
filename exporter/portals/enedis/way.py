"""A way to the measures: what the three of them share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar

from pydantic import SecretStr

from exporter.answer import Answer
from exporter.errors import NoDataError
from exporter.model import Reading
from exporter.portals.enedis.answers import readings
from exporter.portals.enedis.budget import Budget
from exporter.portals.enedis.measures import Measure, measures_of
from exporter.portals.enedis.refusals import Why, said
from exporter.session import Session


@dataclass(frozen=True, slots=True)
class Point:
    """A usage point that is read: its number, how messages call it, and what is read of it."""

    prm: str
    called: str
    production: bool = False
    load_curve: bool = True
    token: SecretStr | None = None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The series it is read for."""
        return tuple(measures_of(production=self.production, load_curve=self.load_curve))


@dataclass(frozen=True, slots=True)
class Ask:
    """A call: its address, and what goes with it."""

    url: str
    what: str
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None


class Way(ABC):
    """One way in, for one visit. Every call is counted against the budget, and every refusal made one of our errors."""

    budget: ClassVar[Budget]
    starts: ClassVar[bool] = False
    """Stamps of load curves are starts of their intervals, not ends."""

    def __init__(self, session: Session, base: str, *, past: bool = False) -> None:
        self.session, self._base, self._past = session, base, past
        self.made = 0

    @abstractmethod
    def offers(self, measure: Measure) -> bool:
        """Whether this way gives a series at all."""

    @abstractmethod
    def measure(self, point: Point, measure: Measure, first: date, end: date) -> Ask:
        """Say how local days [first, end) of a series are asked for."""

    def contract(self, point: Point) -> Ask | None:
        """Say how the contract is asked for; None where this way has none."""
        return None

    async def admission(self, point: Point) -> datetime | None:
        """Give the end of access to a usage point, where it is known.

        Raises LoginError and ConsentError when it is known to have none, and RateLimitError.
        """
        return None

    async def read(self, point: Point, measure: Measure, first: date, end: date) -> list[Reading]:
        """Read local days [first, end) of a series; raises the PortalErrors, of which `refusals` has some of its own."""
        return readings(await self.json(self.measure(point, measure, first, end)), point.prm, measure, starts=self.starts)

    async def terms(self, point: Point) -> Any:
        """Give the answer about the contract."""
        if (ask := self.contract(point)) is None:
            raise NoDataError("this access gives no contract")
        return await self.json(ask)

    async def json(self, ask: Ask) -> Any:
        """Make a call and give what it says, out of its envelope where it has one."""
        await self.budget.spend(self.session, past=self._past)
        self.made += 1
        return said(await self._call(ask), self.session.now, self._own)

    async def _call(self, ask: Ask) -> Answer:
        return await self._get(ask, ask.headers or {})

    async def _get(self, ask: Ask, headers: Mapping[str, str]) -> Answer:
        accept = {"Accept": "application/json", **headers}
        return await self.session.get(ask.url, params=ask.params, headers=accept, what=ask.what, checked=False)

    def _own(self, status: int, code: str, body: Any) -> Why | None:
        """Say what a refusal means here other than everywhere."""
        return None


def named(point: Point, what: str) -> str:
    """Name a call in messages: never by its path, which can hold the number of the usage point."""
    return f"{what} of {point.called}"


NEW_NAMES: Mapping[str, str] = {
    "consumption_days": "consommation_quotidienne",
    "consumption_curve": "courbe_de_charge_consommation",
    "consumption_max": "puissance_conso_max_quotidienne",
    "consumption_index": "index_consommation",
    "production_days": "production_quotidienne",
    "production_curve": "courbe_de_charge_production",
    "production_index": "index_production",
}
"""The resources of 2026, as Enedis and the Conso API name them."""


def new_query(point: Point, measure: Measure, first: date, end: date) -> dict[str, str]:
    """Give the query of 2026; the end is excluded. An unknown or missing key is answered with 500."""
    query = {"pointId": point.prm, "dateDebut": first.isoformat(), "dateFin": end.isoformat()}
    return query | ({"mesuresPas": "P1D", "grandeurPhysique": "PMA"} if measure.kind == "max" else {})
