"""The simulations of Data Connect, strict about every parameter, of the Conso API, and of both versions of MyElectricalData."""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from aiohttp import web

from exporter.simulators.enedis.homes import PARIS, SimulatedHome
from exporter.simulators.enedis.source import (
    EnedisRefusalError,
    EnedisSource,
    SourceData,
    build_body_2026,
    build_body_v5,
    build_contract_object,
    build_contract_v5,
    build_contracts,
    move_stamps_to_starts,
)

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


def _respond(request: web.Request, body: Callable[[], Any]) -> Any:
    """Return the body. Raise the refusal that a fault has set on the request."""
    if refusal := request.get(REFUSAL_KEY):
        raise refusal
    return body()


def _build_enedis_error(refusal: EnedisRefusalError) -> dict[str, str]:
    """Return the body of a refusal by Enedis itself."""
    return {"error": refusal.code, "error_description": "made up", "error_uri": "https://example.org/"}


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
                body = _respond(request, lambda: build_body(request))
            except EnedisRefusalError as refusal:
                return web.json_response(_build_enedis_error(refusal), status=refusal.status)
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
            return _respond_refusal(405, "Seules les requêtes GET sont acceptées")
        query = {PARAMETER_ALIASES.get(key, key): value for key, value in request.query.items()}
        if not {"pointId", "dateDebut", "dateFin"} <= set(query) or "Authorization" not in request.headers:
            return _respond_refusal(400, "Paramètres invalides", {"issues": [], "name": "ZodError"})
        is_valid = request.headers["Authorization"] == f"Bearer {self.token}" and query["pointId"] in self._source.homes
        if not is_valid or self._source.clock() >= self._expires_at:
            return _respond_refusal(401, "Votre token est invalide ou ne permet pas d'accéder à ce PRM")
        try:
            return web.json_response(_respond(request, lambda: self._build_body(request.match_info["type"], query)))
        except EnedisRefusalError as refusal:
            return _respond_refusal(refusal.status, "The Enedis API returned an error", _build_enedis_error(refusal))

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


def _respond_refusal(status: int, message: str, error: object = None) -> web.Response:
    return web.json_response({"status": status, "message": message} | ({"error": error} if error else {}), status=status)


V2_PATHS: Mapping[str, SeriesName] = {
    "consumption/daily": ("days", False),
    "consumption/detail": ("curve", False),
    "power": ("max", False),
    "production/daily": ("days", True),
    "production/detail": ("curve", True),
}
_V2_ERROR_CODES = {"no_data_found": "NO_DATA", "ADAM-ERR0125": "DATE_TOO_OLD", "RATE_LIMIT_EXCEEDED": "RATE_LIMIT_EXCEEDED"}
"""The gateway's own codes; of all other refusals the code stands in the message only."""


class MyElectricalDataV1Simulator:
    """MyElectricalData, version 1: a token for each usage point, errors in `detail`."""

    def __init__(self, source: EnedisSource, tokens: Mapping[str, str], consent_ends: datetime) -> None:
        self._source, self._tokens, self._consent_ends = source, tokens, consent_ends
        self._cached_calls, self._direct_calls = CallCounter(source.clock), CallCounter(source.clock)
        self.access_overrides: dict[str, dict[str, Any]] = {}

    def add_routes(self, app: web.Application) -> None:
        """Add its routes; `/cache` at the end counts against the larger quota."""
        services = dict(RESOURCES_V5) | {"daily_consumption_max_power": ("max", False)}
        for service, series in services.items():
            for end in ("", "/cache"):
                path = f"/{service}/{{pdl}}/start/{{start}}/end/{{end}}{end}"
                app.router.add_get(path, self._guard(self._get_measure(series)))
        for end in ("", "/cache"):
            app.router.add_get(f"/contracts/{{pdl}}{end}", self._guard(self._get_contract))
            app.router.add_get(f"/valid_access/{{pdl}}{end}", self._guard(self._get_valid_access))

    def _guard(self, body: Callable[[web.Request], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != self._tokens.get(request.match_info["pdl"]):
                return web.json_response({"detail": "a made-up word about the token"}, status=401)
            counter, quota = (self._cached_calls, 500) if request.path.endswith("/cache") else (self._direct_calls, 50)
            if counter.count_call(None) > quota:
                return web.json_response({"detail": "a made-up word about the quota"}, status=409)
            try:
                return web.json_response(_respond(request, lambda: body(request)))
            except EnedisRefusalError as refusal:
                return web.json_response({"detail": f"Enedis: {refusal.code}"}, status=refusal.status)

        return guarded

    def _get_measure(self, series: SeriesName) -> Callable[[web.Request], Any]:
        def body(request: web.Request) -> Any:
            parameters = request.match_info
            return {
                "meter_reading": build_body_v5(
                    _query(self._source, series, parameters["pdl"], parameters["start"], parameters["end"])
                )
            }

        return body

    def _get_contract(self, request: web.Request) -> Any:
        return build_contract_v5(self._source, self._source.find_home(request.match_info["pdl"]))

    def _get_valid_access(self, request: web.Request) -> Any:
        reset = f"{self._source.today}T23:59:59.999999"
        body = {
            "valid": True,
            "information": "",
            "consent_expiration_date": f"{self._consent_ends.astimezone(PARIS):%Y-%m-%dT%H:%M:%S}",
        }
        body |= {"call_number": 4, "quota_reached": False, "quota_limit": 50, "quota_reset_at": reset, "ban": False}
        return body | self.access_overrides.get(request.match_info["pdl"], {})


class MyElectricalDataV2Simulator:
    """MyElectricalData, version 2: envelopes with status 200; curves stamped at the starts of intervals, sorted as text.

    The stamps are moved there by the wall clock.
    With `respects_clock_changes` the starts are right on the days of clock changes; with `keeps_one_of_pairs` only one
    of two points that share a text is kept, as in the gateway's store.
    """

    def __init__(self, source: EnedisSource, secret: str) -> None:
        self._source, self._secret = source, secret
        self._call_counter = CallCounter(source.clock)
        self.respects_clock_changes = False
        self.keeps_one_of_pairs = False

    def add_routes(self, app: web.Application) -> None:
        """Add its routes."""
        for path, series in V2_PATHS.items():
            app.router.add_get(f"/api/enedis/{path}/{{pdl}}", self._guard(self._get_measure(series)))
        app.router.add_get("/api/enedis/contract/{pdl}", self._guard(self._get_contract))

    def _guard(self, body: Callable[[web.Request, bool], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != f"Bearer {self._secret}":
                return web.json_response({"detail": "a made-up word about the token"}, status=401)
            stamped = {"timestamp": self._source.clock().isoformat()}
            new = request.headers.get("X-MED-Format") == "2026"
            try:
                if self._call_counter.count_call(None) > 1000:
                    raise EnedisRefusalError("RATE_LIMIT_EXCEEDED")  # noqa: TRY301  # refused like by Enedis
                data = body(request, new)
            except EnedisRefusalError as refusal:
                code = _V2_ERROR_CODES.get(refusal.code, "ENEDIS_ERROR")
                message = "made up" if code != "ENEDIS_ERROR" else f"{refusal.code}: made up"
                error = {"code": code, "message": message, "field": None}
                return web.json_response({"success": False, "data": None, "error": error} | stamped)
            headers = {} if new else {"Deprecation": "true"}
            return web.json_response({"success": True, "data": data, "error": None} | stamped, headers=headers)

        return guarded

    def _get_measure(self, series: SeriesName) -> Callable[[web.Request, bool], Any]:
        def body(request: web.Request, new: bool) -> Any:
            end = min(request.query["end"], str(self._source.today))
            data = self._query_or_empty(request, series, end)
            if series[0] == "curve":
                data = move_stamps_to_starts(data, naive=not self.respects_clock_changes)
                if self.keeps_one_of_pairs:
                    data = replace(data, values=list({value.at: value for value in data.values}.values()))
            return build_body_2026(data) if new else {"meter_reading": build_body_v5(data)}

        return body

    def _query_or_empty(self, request: web.Request, series: SeriesName, end: str) -> SourceData:
        """Return the data; what Enedis refuses as too early comes as success without points, any refused curve as no data."""
        home, start = self._source.find_home(request.match_info["pdl"]), request.query["start"]
        try:
            if refusal := request.get(REFUSAL_KEY):
                raise refusal
            return _query(self._source, series, home.prm, start, end)
        except EnedisRefusalError as refusal:
            if series[0] == "curve":
                raise EnedisRefusalError("no_data_found") from None
            if refusal.code != "ADAM-ERR0123":
                raise
            return SourceData(home, *series, date.fromisoformat(start), date.fromisoformat(end), [], [])

    def _get_contract(self, request: web.Request, new: bool) -> Any:
        home: SimulatedHome = _respond(request, lambda: self._source.find_home(request.match_info["pdl"]))
        return build_contract_object(self._source, home) if new else build_contract_v5(self._source, home)


def _query(source: EnedisSource, series: SeriesName, prm: str, start: str, end: str) -> SourceData:
    return source.query(prm, *series, start, end)
