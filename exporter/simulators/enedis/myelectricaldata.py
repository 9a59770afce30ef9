"""The simulation of both versions of MyElectricalData."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from exporter.simulators.enedis.bodies import build_body_2026, build_body_v5, move_stamps_to_starts
from exporter.simulators.enedis.gateways import RESOURCES_V5, CallCounter, SeriesName, respond
from exporter.simulators.enedis.homes import PARIS, SimulatedHome
from exporter.simulators.enedis.source import EnedisRefusalError, EnedisSource, SourceData, build_contract_2026, build_contract_v5

V2_PATHS: Mapping[str, SeriesName] = {
    "consumption/daily": ("days", False),
    "consumption/detail": ("curve", False),
    "power": ("max", False),
    "production/daily": ("days", True),
    "production/detail": ("curve", True),
}
_V2_ERROR_CODES = {
    "no_data_found": "NO_DATA",
    "ADAM-ERR0125": "DATE_TOO_OLD",
    "technical_error": "ENEDIS_ERROR",
    "ADAM-DC-0008": "ACCESS_DENIED",
}


class MyElectricalDataV1Simulator:
    """Version 1: a token for each usage point, errors in `detail`."""

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
                return web.json_response(respond(request, lambda: body(request)))
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
        return build_contract_v5(self._source.find_home(request.match_info["pdl"]))

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
    """Version 2: envelopes with status 200, and timestamps of curves at the starts of intervals."""

    def __init__(self, source: EnedisSource, secret: str) -> None:
        self._source, self._secret = source, secret
        self._call_counter = CallCounter(source.clock)
        self.naive_starts = False

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
                data = respond(request, lambda: body(request, new))
            except EnedisRefusalError as refusal:
                error = {"code": _V2_ERROR_CODES.get(refusal.code, refusal.code), "message": "made up", "field": None}
                return web.json_response({"success": False, "data": None, "error": error} | stamped)
            headers = {} if new else {"Deprecation": "true"}
            return web.json_response({"success": True, "data": data, "error": None} | stamped, headers=headers)

        return guarded

    def _get_measure(self, series: SeriesName) -> Callable[[web.Request, bool], Any]:
        def body(request: web.Request, new: bool) -> Any:
            end = min(request.query["end"], str(self._source.today))
            data = _query(self._source, series, request.match_info["pdl"], request.query["start"], end)
            data = move_stamps_to_starts(data, naive=self.naive_starts)
            return build_body_2026(data) if new else {"meter_reading": build_body_v5(data)}

        return body

    def _get_contract(self, request: web.Request, new: bool) -> Any:
        home: SimulatedHome = self._source.find_home(request.match_info["pdl"])
        return build_contract_2026(home) if new else build_contract_v5(home)


def _query(source: EnedisSource, series: SeriesName, prm: str, start: str, end: str) -> SourceData:
    return source.query(prm, *series, start, end)
