"""MyElectricalData, both versions."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from exporter.demo.enedis.bodies import at_starts, form_2026, form_v5
from exporter.demo.enedis.doors import OLD, Meter, Series, answered
from exporter.demo.enedis.homes import PARIS, Home
from exporter.demo.enedis.source import RefusalError, Source, Taken, contract_2026, contract_v5

V2_PATHS: Mapping[str, Series] = {
    "consumption/daily": ("days", False),
    "consumption/detail": ("curve", False),
    "power": ("max", False),
    "production/daily": ("days", True),
    "production/detail": ("curve", True),
}
_V2_CODES = {
    "no_data_found": "NO_DATA",
    "ADAM-ERR0125": "DATE_TOO_OLD",
    "technical_error": "ENEDIS_ERROR",
    "ADAM-DC-0008": "ACCESS_DENIED",
}


class MedV1:
    """MyElectricalData, first version: a token for each usage point, `detail` for what goes wrong."""

    def __init__(self, source: Source, tokens: Mapping[str, str], consent_ends: datetime) -> None:
        self._source, self._tokens, self._ends = source, tokens, consent_ends
        self._stored, self._direct = Meter(source.clock), Meter(source.clock)
        self.access: dict[str, dict[str, Any]] = {}

    def routes(self, app: web.Application) -> None:
        """Add its paths; `/cache` at the end counts against the larger quota."""
        services = dict(OLD) | {"daily_consumption_max_power": ("max", False)}
        for service, series in services.items():
            for end in ("", "/cache"):
                path = f"/{service}/{{pdl}}/start/{{start}}/end/{{end}}{end}"
                app.router.add_get(path, self._guarded(self._measure(series)))
        for end in ("", "/cache"):
            app.router.add_get(f"/contracts/{{pdl}}{end}", self._guarded(self._contract))
            app.router.add_get(f"/valid_access/{{pdl}}{end}", self._guarded(self._valid_access))

    def _guarded(self, body: Callable[[web.Request], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != self._tokens.get(request.match_info["pdl"]):
                return web.json_response({"detail": "a made-up word about the token"}, status=401)
            meter, quota = (self._stored, 500) if request.path.endswith("/cache") else (self._direct, 50)
            if meter.count(None) > quota:
                return web.json_response({"detail": "a made-up word about the quota"}, status=409)
            try:
                return web.json_response(answered(request, lambda: body(request)))
            except RefusalError as refusal:
                return web.json_response({"detail": f"Enedis: {refusal.code}"}, status=refusal.status)

        return guarded

    def _measure(self, series: Series) -> Callable[[web.Request], Any]:
        def body(request: web.Request) -> Any:
            asked = request.match_info
            return {"meter_reading": form_v5(_ask(self._source, series, asked["pdl"], asked["start"], asked["end"]))}

        return body

    def _contract(self, request: web.Request) -> Any:
        return contract_v5(self._source.home(request.match_info["pdl"]))

    def _valid_access(self, request: web.Request) -> Any:
        reset = f"{self._source.today}T23:59:59.999999"
        said = {"valid": True, "information": "", "consent_expiration_date": f"{self._ends.astimezone(PARIS):%Y-%m-%dT%H:%M:%S}"}
        said |= {"call_number": 4, "quota_reached": False, "quota_limit": 50, "quota_reset_at": reset, "ban": False}
        return said | self.access.get(request.match_info["pdl"], {})


class MedV2:
    """MyElectricalData, second version: envelopes at status 200, and stamps of curves at their starts."""

    def __init__(self, source: Source, secret: str) -> None:
        self._source, self._secret = source, secret
        self._meter = Meter(source.clock)
        self.naive_starts = False

    def routes(self, app: web.Application) -> None:
        """Add its paths."""
        for path, series in V2_PATHS.items():
            app.router.add_get(f"/api/enedis/{path}/{{pdl}}", self._guarded(self._measure(series)))
        app.router.add_get("/api/enedis/contract/{pdl}", self._guarded(self._contract))

    def _guarded(self, body: Callable[[web.Request, bool], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != f"Bearer {self._secret}":
                return web.json_response({"detail": "a made-up word about the token"}, status=401)
            stamped = {"timestamp": self._source.clock().isoformat()}
            new = request.headers.get("X-MED-Format") == "2026"
            try:
                if self._meter.count(None) > 1000:
                    raise RefusalError("RATE_LIMIT_EXCEEDED")  # noqa: TRY301  # refused like by Enedis
                data = answered(request, lambda: body(request, new))
            except RefusalError as refusal:
                error = {"code": _V2_CODES.get(refusal.code, refusal.code), "message": "made up", "field": None}
                return web.json_response({"success": False, "data": None, "error": error} | stamped)
            headers = {} if new else {"Deprecation": "true"}
            return web.json_response({"success": True, "data": data, "error": None} | stamped, headers=headers)

        return guarded

    def _measure(self, series: Series) -> Callable[[web.Request, bool], Any]:
        def body(request: web.Request, new: bool) -> Any:
            end = min(request.query["end"], str(self._source.today))
            taken = _ask(self._source, series, request.match_info["pdl"], request.query["start"], end)
            taken = at_starts(taken, naive=self.naive_starts)
            return form_2026(taken) if new else {"meter_reading": form_v5(taken)}

        return body

    def _contract(self, request: web.Request, new: bool) -> Any:
        home: Home = self._source.home(request.match_info["pdl"])
        return contract_2026(home) if new else contract_v5(home)


def _ask(source: Source, series: Series, prm: str, start: str, end: str) -> Taken:
    return source.ask(prm, *series, start, end)
