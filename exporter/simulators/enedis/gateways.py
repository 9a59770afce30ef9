"""What the simulated gateways share: names of series, call counters, refusals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.simulators.enedis.homes import PARIS
from exporter.simulators.enedis.source import EnedisRefusalError

SeriesName = tuple[str, bool]
REFUSAL_KEY = web.RequestKey("refusal", EnedisRefusalError)
"""A refusal set by a fault, for a gateway to write in its own form."""
RESOURCES_2026: Mapping[str, SeriesName] = {
    "consommation_quotidienne": ("days", False),
    "courbe_de_charge_consommation": ("curve", False),
    "puissance_conso_max_quotidienne": ("max", False),
    "production_quotidienne": ("days", True),
    "courbe_de_charge_production": ("curve", True),
    "index_consommation": ("index", False),
    "index_production": ("index", True),
}
RESOURCES_V5: Mapping[str, SeriesName] = {
    "daily_consumption": ("days", False),
    "consumption_load_curve": ("curve", False),
    "daily_production": ("days", True),
    "production_load_curve": ("curve", True),
}


@dataclass(slots=True)
class CallCounter:
    """The calls in a sliding window or since local midnight."""

    clock: Callable[[], datetime]
    calls: list[datetime] = field(default_factory=list)

    def count_call(self, since: timedelta | None) -> int:
        """Count a call and return how many there are in the window (None: today)."""
        now = self.clock()
        self.calls.append(now)
        if since is not None:
            return sum(at > now - since for at in self.calls)
        return sum(at.astimezone(PARIS).date() == now.astimezone(PARIS).date() for at in self.calls)


def respond(request: web.Request, body: Callable[[], Any]) -> Any:
    """Return the body. Raise the refusal that a fault has set on the request."""
    if refusal := request.get(REFUSAL_KEY):
        raise refusal
    return body()


def build_enedis_error(refusal: EnedisRefusalError) -> dict[str, str]:
    """Return the body of a refusal by Enedis itself."""
    return {"error": refusal.code, "error_description": "made up", "error_uri": "https://example.org/"}
