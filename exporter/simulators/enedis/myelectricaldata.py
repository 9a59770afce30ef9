"""The simulation of both versions of MyElectricalData."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from aiohttp import web

from exporter.simulators.enedis.bodies import build_body_2026, build_body_v5, move_stamps_to_starts
from exporter.simulators.enedis.gateways import REFUSAL_KEY, RESOURCES_V5, CallCounter, SeriesName, respond
from exporter.simulators.enedis.homes import PARIS, SimulatedHome
from exporter.simulators.enedis.source import (
    EnedisRefusalError,
    EnedisSource,
    SourceData,
    build_contract_object,
    build_contract_v5,
)

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
    """Version 2: envelopes with status 200, and curves stamped at the starts of intervals by the wall clock, sorted as text.

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
        home: SimulatedHome = respond(request, lambda: self._source.find_home(request.match_info["pdl"]))
        return build_contract_object(self._source, home) if new else build_contract_v5(self._source, home)


def _query(source: EnedisSource, series: SeriesName, prm: str, start: str, end: str) -> SourceData:
    return source.query(prm, *series, start, end)
