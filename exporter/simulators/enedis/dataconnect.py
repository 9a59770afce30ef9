"""The simulation of Data Connect, strict about every parameter."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.simulators.enedis.bodies import build_body_2026, build_body_v5
from exporter.simulators.enedis.gateways import RESOURCES_2026, CallCounter, SeriesName, build_enedis_error, respond
from exporter.simulators.enedis.source import EnedisRefusalError, EnedisSource, build_contract_v5, build_contracts

V5_PATHS: Mapping[str, SeriesName] = {
    "metering_data_dc/v5/daily_consumption": ("days", False),
    "metering_data_clc/v5/consumption_load_curve": ("curve", False),
    "metering_data_dcmp/v5/daily_consumption_max_power": ("max", False),
    "metering_data_dp/v5/daily_production": ("days", True),
    "metering_data_plc/v5/production_load_curve": ("curve", True),
}


class DataConnectSimulator:
    """Data Connect: tokens of three and a half hours, 1000 calls an hour, status 500 for unexpected parameters."""

    def __init__(self, source: EnedisSource, client_id: str, client_secret: str) -> None:
        self._source, self._client_id, self._client_secret = source, client_id, client_secret
        self._tokens: dict[str, datetime] = {}
        self._call_counter = CallCounter(source.clock)
        self.unsubscribed: set[str] = set()

    def add_routes(self, app: web.Application) -> None:
        """Add its routes."""
        app.router.add_post("/oauth2/v3/token", self._issue_token)
        app.router.add_get("/mesure_synchrone_auto/v2/{resource}", self._guard(self._get_measure))
        app.router.add_get("/situation_contrat_auto/v1/{prm}", self._guard(self._get_contract))
        app.router.add_get("/customers_upc/v5/usage_points/contracts", self._guard(self._get_v5_contract))
        for path, series in V5_PATHS.items():
            app.router.add_get(f"/{path}", self._guard(self._get_v5(series)))

    def expire_tokens(self) -> None:
        """Expire all tokens."""
        self._tokens.clear()

    async def _issue_token(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return web.json_response({"error": "unsupported_media_type"}, status=415)
        form = await request.post()
        if (form.get("client_id"), form.get("client_secret")) != (self._client_id, self._client_secret):
            return web.json_response({"error": "invalid_client", "error_description": "A made-up refusal"}, status=401)
        if form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        token = f"made-up-{len(self._tokens)}-{self._source.clock().timestamp():.0f}"
        self._tokens[token] = self._source.clock() + timedelta(seconds=12600)
        scope = "am_application_scope default"
        return web.json_response({"access_token": token, "scope": scope, "token_type": "Bearer", "expires_in": 12600})

    def _guard(self, build_body: Callable[[web.Request], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or self._tokens.get(token, self._source.clock()) <= self._source.clock():
                return _build_gateway_error(401, "900901", "Invalid Credentials")
            if self._call_counter.count_call(timedelta(hours=1)) > 1000:
                next_access = self._source.clock() + timedelta(hours=1)
                return _build_gateway_error(
                    429, "900804", "Message throttled out", nextAccessTime=f"{next_access:%Y-%b-%d %H:%M:%S}+0000 UTC"
                )
            if request.path.split("/")[1] in self.unsubscribed:
                return _build_gateway_error(403, "900908", "Resource forbidden")
            try:
                body = respond(request, lambda: build_body(request))
            except EnedisRefusalError as refusal:
                return web.json_response(build_enedis_error(refusal), status=refusal.status)
            return web.Response(body=json.dumps(body).encode(), content_type="application/octet-stream")

        return guarded

    def _get_measure(self, request: web.Request) -> Any:
        kind, producing = RESOURCES_2026.get(request.match_info["resource"], ("", False))
        expected = {"pointId", "dateDebut", "dateFin"} | ({"mesuresPas", "grandeurPhysique"} if kind == "max" else set())
        if not kind or set(request.query) != expected:
            raise EnedisRefusalError("technical_error")
        if kind == "max" and (request.query["mesuresPas"], request.query["grandeurPhysique"]) != ("P1D", "PMA"):
            raise EnedisRefusalError("technical_error")
        query = request.query
        return build_body_2026(self._source.query(query["pointId"], kind, producing, query["dateDebut"], query["dateFin"]))

    def _get_v5(self, series: SeriesName) -> Callable[[web.Request], Any]:
        def build_body(request: web.Request) -> Any:
            if set(request.query) != {"usage_point_id", "start", "end"}:
                raise EnedisRefusalError("Invalid_request")
            query = request.query
            return {
                "meter_reading": build_body_v5(self._source.query(query["usage_point_id"], *series, query["start"], query["end"]))
            }

        return build_body

    def _get_contract(self, request: web.Request) -> Any:
        if request.query:
            raise EnedisRefusalError("technical_error")
        return build_contracts(self._source, self._source.find_home(request.match_info["prm"]))

    def _get_v5_contract(self, request: web.Request) -> Any:
        return build_contract_v5(self._source, self._source.find_home(request.query.get("usage_point_id", "")))


def _build_gateway_error(status: int, code: str, message: str, **more: str) -> web.Response:
    return web.json_response({"code": code, "message": message, "description": "made up"} | more, status=status)
