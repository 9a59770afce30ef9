"""What the doors to Enedis share: names of series, call counters, refusals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.demo.enedis.homes import PARIS
from exporter.demo.enedis.source import RefusalError

Series = tuple[str, bool]
REFUSAL = web.RequestKey("refusal", RefusalError)
"""Where a fault puts the refusal that a gateway is to write in its own way."""
NEW: Mapping[str, Series] = {
    "consommation_quotidienne": ("days", False),
    "courbe_de_charge_consommation": ("curve", False),
    "puissance_conso_max_quotidienne": ("max", False),
    "production_quotidienne": ("days", True),
    "courbe_de_charge_production": ("curve", True),
    "index_consommation": ("index", False),
    "index_production": ("index", True),
}
OLD: Mapping[str, Series] = {
    "daily_consumption": ("days", False),
    "consumption_load_curve": ("curve", False),
    "daily_production": ("days", True),
    "production_load_curve": ("curve", True),
}


@dataclass(slots=True)
class Meter:
    """Counts calls by the clock, in a sliding window or since the local midnight."""

    clock: Callable[[], datetime]
    calls: list[datetime] = field(default_factory=list)

    def count(self, since: timedelta | None) -> int:
        """Count one more call; gives how many there are in the window (None: today)."""
        now = self.clock()
        self.calls.append(now)
        if since is not None:
            return sum(at > now - since for at in self.calls)
        return sum(at.astimezone(PARIS).date() == now.astimezone(PARIS).date() for at in self.calls)


def answered(request: web.Request, body: Callable[[], Any]) -> Any:
    """Give the answer, unless a fault has put a refusal of Enedis on the request."""
    if refusal := request.get(REFUSAL):
        raise refusal
    return body()


def business(refusal: RefusalError) -> dict[str, str]:
    """Write a refusal of Enedis itself."""
    return {"error": refusal.code, "error_description": "made up", "error_uri": "https://example.org/"}
