"""The Conso API: a private person's gateway for private persons."""

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.demo.enedis.bodies import form_2026, form_v5
from exporter.demo.enedis.doors import NEW, OLD, Meter, answered, business
from exporter.demo.enedis.source import RefusalError, Source

ALIASES = {"prm": "pointId", "start": "dateDebut", "end": "dateFin"}
"""The old names of parameters, still taken."""


class Conso:
    """The gateway of a private person: a signed token, and a ban for whoever calls a hundred times in twelve hours."""

    def __init__(self, source: Source, ends: datetime) -> None:
        self._source, self._ends = source, ends
        self.banned = False
        self._meter = Meter(source.clock)
        self.token = web_token(list(source.homes), ends)

    def routes(self, app: web.Application) -> None:
        """Add its one path."""
        app.router.add_route("*", "/api/{type}", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.banned = self.banned or self._meter.count(timedelta(hours=12)) >= 100
        if self.banned:
            return web.Response(status=403, text="<!DOCTYPE html><title>Blocked</title>", content_type="text/html")
        if request.method != "GET":
            return _said(405, "Seules les requêtes GET sont acceptées")
        query = {
            {"prm": "pointId", "start": "dateDebut", "end": "dateFin"}.get(key, key): value
            for key, value in request.query.items()
        }
        if not {"pointId", "dateDebut", "dateFin"} <= set(query) or "Authorization" not in request.headers:
            return _said(400, "Paramètres invalides", {"issues": [], "name": "ZodError"})
        good = request.headers["Authorization"] == f"Bearer {self.token}" and query["pointId"] in self._source.homes
        if not good or self._source.clock() >= self._ends:
            return _said(401, "Votre token est invalide ou ne permet pas d'accéder à ce PRM")
        try:
            return web.json_response(answered(request, lambda: self._body(request.match_info["type"], query)))
        except RefusalError as refusal:
            return _said(refusal.status, "The Enedis API returned an error", business(refusal))

    def _body(self, kind: str, query: Mapping[str, str]) -> Any:
        asked = (query["pointId"], query["dateDebut"], query["dateFin"])
        if kind in NEW:
            return form_2026(self._source.ask(asked[0], *NEW[kind], *asked[1:]))
        series = ("max", False) if kind == "consumption_max_power" else OLD[kind]
        return form_v5(self._source.ask(asked[0], *series, *asked[1:]))


def web_token(prms: list[str], ends: datetime) -> str:
    """Make a token such as the site gives: its signature is not worth anything."""
    issued = ends - timedelta(days=1094)
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": prms, "iat": int(issued.timestamp()), "exp": int(ends.timestamp())})
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*texts, "made-up-signature"])


def _said(status: int, message: str, error: object = None) -> web.Response:
    return web.json_response({"status": status, "message": message} | ({"error": error} if error else {}), status=status)
