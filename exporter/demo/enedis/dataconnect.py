"""Data Connect: the official gateway, strict about every parameter."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.demo.enedis.bodies import form_2026, form_v5
from exporter.demo.enedis.doors import NEW, Meter, Series, answered, business
from exporter.demo.enedis.source import RefusalError, Source, contract_2026, contract_v5

OLD_PATHS: Mapping[str, Series] = {
    "metering_data_dc/v5/daily_consumption": ("days", False),
    "metering_data_clc/v5/consumption_load_curve": ("curve", False),
    "metering_data_dcmp/v5/daily_consumption_max_power": ("max", False),
    "metering_data_dp/v5/daily_production": ("days", True),
    "metering_data_plc/v5/production_load_curve": ("curve", True),
}


class DataConnect:
    """The official gateway: a token for three hours and a half, 1000 calls an hour, 500 for whatever it does not expect."""

    def __init__(self, source: Source, client: str, secret: str) -> None:
        self._source, self._client, self._secret = source, client, secret
        self._tokens: dict[str, datetime] = {}
        self._meter = Meter(source.clock)
        self.unsubscribed: set[str] = set()

    def routes(self, app: web.Application) -> None:
        """Add its paths."""
        app.router.add_post("/oauth2/v3/token", self._token)
        app.router.add_get("/mesure_synchrone_auto/v2/{resource}", self._guarded(self._measure))
        app.router.add_get("/situation_contrat_auto/v1/{prm}", self._guarded(self._contract))
        app.router.add_get("/customers_upc/v5/usage_points/contracts", self._guarded(self._old_contract))
        for path, series in OLD_PATHS.items():
            app.router.add_get(f"/{path}", self._guarded(self._old(series)))

    def forget_tokens(self) -> None:
        """End all tokens before their time."""
        self._tokens.clear()

    async def _token(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return web.json_response({"error": "unsupported_media_type"}, status=415)
        form = await request.post()
        if (form.get("client_id"), form.get("client_secret")) != (self._client, self._secret):
            return web.json_response({"error": "invalid_client", "error_description": "A made-up refusal"}, status=401)
        if form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        token = f"made-up-{len(self._tokens)}-{self._source.clock().timestamp():.0f}"
        self._tokens[token] = self._source.clock() + timedelta(seconds=12600)
        scope = "am_application_scope default"
        return web.json_response({"access_token": token, "scope": scope, "token_type": "Bearer", "expires_in": 12600})

    def _guarded(self, answer: Callable[[web.Request], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or self._tokens.get(token, self._source.clock()) <= self._source.clock():
                return _gateway(401, "900901", "Invalid Credentials")
            if self._meter.count(timedelta(hours=1)) > 1000:
                again = self._source.clock() + timedelta(hours=1)
                return _gateway(429, "900804", "Message throttled out", nextAccessTime=f"{again:%Y-%b-%d %H:%M:%S}+0000 UTC")
            if request.path.split("/")[1] in self.unsubscribed:
                return _gateway(403, "900908", "Resource forbidden")
            try:
                body = answered(request, lambda: answer(request))
            except RefusalError as refusal:
                return web.json_response(business(refusal), status=refusal.status)
            return web.Response(body=json.dumps(body).encode(), content_type="application/octet-stream")

        return guarded

    def _measure(self, request: web.Request) -> Any:
        kind, producing = NEW.get(request.match_info["resource"], ("", False))
        expected = {"pointId", "dateDebut", "dateFin"} | ({"mesuresPas", "grandeurPhysique"} if kind == "max" else set())
        if not kind or set(request.query) != expected:
            raise RefusalError("technical_error")
        if kind == "max" and (request.query["mesuresPas"], request.query["grandeurPhysique"]) != ("P1D", "PMA"):
            raise RefusalError("technical_error")
        query = request.query
        return form_2026(self._source.ask(query["pointId"], kind, producing, query["dateDebut"], query["dateFin"]))

    def _old(self, series: Series) -> Callable[[web.Request], Any]:
        def old(request: web.Request) -> Any:
            if set(request.query) != {"usage_point_id", "start", "end"}:
                raise RefusalError("Invalid_request")
            query = request.query
            return {"meter_reading": form_v5(self._source.ask(query["usage_point_id"], *series, query["start"], query["end"]))}

        return old

    def _contract(self, request: web.Request) -> Any:
        if request.query:
            raise RefusalError("technical_error")
        return contract_2026(self._source.home(request.match_info["prm"]))

    def _old_contract(self, request: web.Request) -> Any:
        return contract_v5(self._source.home(request.query.get("usage_point_id", "")))


def _gateway(status: int, code: str, message: str, **more: str) -> web.Response:
    return web.json_response({"code": code, "message": message, "description": "made up"} | more, status=status)
