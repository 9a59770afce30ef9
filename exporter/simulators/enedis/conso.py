"""The simulation of the Conso API."""

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.simulators.enedis.bodies import build_body_2026, build_body_v5
from exporter.simulators.enedis.gateways import RESOURCES_2026, RESOURCES_V5, CallCounter, build_enedis_error, respond
from exporter.simulators.enedis.source import EnedisRefusalError, EnedisSource

PARAMETER_ALIASES = {"prm": "pointId", "start": "dateDebut", "end": "dateFin"}
"""The old names of parameters, still accepted."""


class ConsoSimulator:
    """The Conso API: a signed token, and a ban after a hundred calls in twelve hours."""

    def __init__(self, source: EnedisSource, expires_at: datetime) -> None:
        self._source, self._expires_at = source, expires_at
        self.is_banned = False
        self._call_counter = CallCounter(source.clock)
        self.token = build_token(list(source.homes), expires_at)

    def add_routes(self, app: web.Application) -> None:
        """Add its route."""
        app.router.add_route("*", "/api/{type}", self._handle)

    async def _handle(self, request: web.Request) -> web.Response:
        self.is_banned = self.is_banned or self._call_counter.count_call(timedelta(hours=12)) >= 100
        if self.is_banned:
            return _respond_blocked(as_json="application/json" in request.headers.get("Accept", ""))
        if request.method != "GET":
            return _respond(405, "Seules les requêtes GET sont acceptées")
        query = {PARAMETER_ALIASES.get(key, key): value for key, value in request.query.items()}
        if not {"pointId", "dateDebut", "dateFin"} <= set(query) or "Authorization" not in request.headers:
            return _respond(400, "Paramètres invalides", {"issues": [], "name": "ZodError"})
        is_valid = request.headers["Authorization"] == f"Bearer {self.token}" and query["pointId"] in self._source.homes
        if not is_valid or self._source.clock() >= self._expires_at:
            return _respond(401, "Votre token est invalide ou ne permet pas d'accéder à ce PRM")
        try:
            return web.json_response(respond(request, lambda: self._build_body(request.match_info["type"], query)))
        except EnedisRefusalError as refusal:
            return _respond(refusal.status, "The Enedis API returned an error", build_enedis_error(refusal))

    def _build_body(self, kind: str, query: Mapping[str, str]) -> Any:
        parameters = (query["pointId"], query["dateDebut"], query["dateFin"])
        if kind in RESOURCES_2026:
            return build_body_2026(self._source.query(parameters[0], *RESOURCES_2026[kind], *parameters[1:]))
        series = ("max", False) if kind == "consumption_max_power" else RESOURCES_V5[kind]
        return build_body_v5(self._source.query(parameters[0], *series, *parameters[1:]))


def build_token(prms: list[str], expires_at: datetime) -> str:
    """Return a token like those of the site, with an invalid signature."""
    issued = expires_at - timedelta(days=1094)
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": prms, "iat": int(issued.timestamp()), "exp": int(expires_at.timestamp())})
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*texts, "made-up-signature"])


def _respond_blocked(*, as_json: bool) -> web.Response:
    """Return the page of the network in front of the gateway: JSON for whoever accepts JSON."""
    if not as_json:
        return web.Response(status=403, text="<!DOCTYPE html><title>Blocked</title>", content_type="text/html")
    body = {"title": "Error 1006: made up", "status": 403, "error_code": 1006, "cloudflare_error": True}
    return web.json_response(body, status=403)


def _respond(status: int, message: str, error: object = None) -> web.Response:
    return web.json_response({"status": status, "message": message} | ({"error": error} if error else {}), status=status)
