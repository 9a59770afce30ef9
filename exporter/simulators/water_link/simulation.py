"""The simulated Water-Link: the identity provider under /identity, the portal and its API under /portal."""

import calendar
import json
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any

from aiohttp import web

from exporter.simulators.base import Handler, Simulation, utc_now
from exporter.simulators.water_link.identity_provider import FURTHER_FIELDS, IdentityProvider
from exporter.simulators.water_link.water_meter import BRUSSELS, DAY, WaterMeter

FOREIGN_METER = "999999"
"""A meter of another customer."""


class WaterLinkSimulation(Simulation):
    """One account with two meters, of the home and of the garden.

    Its own faults, by what they change: the login page (`renamed:INPUT`, `foreign_action`, `get_form`, `live_session`,
    `base_href`, `captcha_widget`, `captcha_box`, `code_box`, `further_box`), the password (`wrong_password`, `locked`,
    `second_factor`, `terms`, `new_password`, `captcha`, `maintenance`, `unknown_page`, `marked_page`, `wrong_state`,
    `refused_code`, `later`, `no_code`, `stray`), the token (`no_expiry`), the API (`set:FIELD=JSON`, `drop:FIELD`,
    `bar:NUMBER=JSON` for one day of a month). With the prefix `post:` a fault applies to POST requests only.
    """

    portal = "water-link"

    def __init__(self, clock: Callable[[], datetime] = utc_now, *, since: date = date(2025, 1, 1)) -> None:
        super().__init__(clock)
        self.identity_provider = IdentityProvider(clock, "bewoner@example.com", "geheim-Water1&+=%")
        address = {"street": "Verzonnenlaan", "number": 7, "city": "2000 Antwerpen"}
        self.meters = {
            "204417": WaterMeter("204417", "Verzonnenlaan 7, 2000 Antwerpen", since),
            "204418": WaterMeter("204418", address, since, 3_120, flow_limitation=None),
        }
        self.shows_future_days = True
        """Whether the chart has the days to come, as not measured, or leaves them out."""
        self.session_end = "401"
        """How a token that is not valid is answered: 401, 403, `redirect` to the login, or its `page` with status 200."""

    @property
    def login_count(self) -> int:
        """Return how many passwords were sent, right and wrong."""
        return self.identity_provider.login_count

    def expire_tokens(self) -> None:
        """End all tokens before they expire."""
        self.identity_provider.tokens.clear()

    def build_accounts(self, url: str) -> list[dict[str, Any]]:
        """Return the one account."""
        return [
            {
                "name": "home-water",
                "portal": self.portal,
                "username": self.identity_provider.username,
                "password": self.identity_provider.password,
                "meters": list(self.meters),
                "portal_url": f"{url}/portal",
                "identity_url": f"{url}/identity",
            }
        ]

    def aliases(self) -> dict[str, str]:
        """Return the names of both meters."""
        return {"204417": "home water", "204418": "garden"}

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of both hosts."""
        app.router.add_get("/identity/oauth2/authorize", self._handle_identity)
        app.router.add_post("/identity/oauth2/authorize", self._handle_identity)
        app.router.add_post("/identity/oauth2/token", self._handle_identity)
        app.router.add_get("/portal", self._get_start_page)
        app.router.add_get("/portal/api/meters/{meter}", self._guard(self._get_meter))
        app.router.add_get("/portal/api/measurements/day", self._guard(self._get_days))
        app.router.add_get("/portal/api/alarms/{meter}", self._guard(self._get_alarms))

    async def inject_fault(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Respond with a fault of Water-Link, of its identity provider, or of every simulation."""
        if fault.startswith("post:"):
            return await (self.inject_fault(fault[5:], request, handler) if request.method == "POST" else handler(request))
        if fault.startswith(("set:", "drop:", "bar:")):
            return _change_field(fault, await handler(request))
        if request.path.startswith("/identity") and fault.partition(":")[0] in IDENTITY_FAULTS:
            return await self._handle_identity(request, fault)
        return await super().inject_fault(fault, request, handler)

    async def _handle_identity(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        if request.path.endswith("/token"):
            return await self.identity_provider.handle_token(request, fault)
        if request.method == "GET":
            return await self.identity_provider.handle_authorize(request, fault)
        return await self.identity_provider.handle_password(request, fault)

    async def _get_start_page(self, request: web.Request) -> web.Response:
        response = web.Response(text="<!DOCTYPE html><title>Mijn Water-Link</title>", content_type="text/html")
        response.set_cookie("portal", "1", path="/portal")
        return response

    def _guard(self, respond: Callable[[web.Request, WaterMeter], web.Response]) -> Handler:
        """Require a token, and a meter of this account."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if not self.identity_provider.has_valid_token(request):
                return self._refuse_token()
            number = request.match_info.get("meter") or request.query.get("meterNumber", "")
            if number not in self.meters:
                return web.json_response({"message": "no"}, status=403 if number == FOREIGN_METER else 404)
            return respond(request, self.meters[number])

        return handler

    def _refuse_token(self) -> web.Response:
        if self.session_end == "redirect":
            return web.Response(status=302, headers={"Location": "/portal/login"})
        if self.session_end == "page":
            return web.Response(text="<!DOCTYPE html><title>Aanmelden</title>", content_type="text/html")
        return web.json_response({"message": "Unauthorized"}, status=int(self.session_end))

    def _get_meter(self, request: web.Request, meter: WaterMeter) -> web.Response:
        return web.json_response(meter.build_state(self.clock()) | {"contractType": "invented"})

    def _get_days(self, request: web.Request, meter: WaterMeter) -> web.Response:
        try:
            month = date.fromisoformat(request.query["from"]).replace(day=1)
        except (KeyError, ValueError):
            return web.json_response({"message": "from must be YYYY-MM-DD"}, status=400)
        return web.json_response(self.build_chart(meter, month))

    def _get_alarms(self, request: web.Request, meter: WaterMeter) -> web.Response:
        if {"index", "size", "sortingDirection", "sortBy"} - request.query.keys():
            return web.json_response({"message": "paging is missing"}, status=400)
        return web.json_response({"items": [], "totalCount": 0})

    def build_chart(self, meter: WaterMeter, month: date) -> dict[str, Any]:
        """Return the chart of one month."""
        now, days = self.clock(), list(_list_month_days(month))
        today = now.astimezone(BRUSSELS).date()
        shown = {day: litres for day in days if (litres := meter.get_shown_litres(day, now)) is not None}
        used = [litres for litres in shown.values() if litres]
        average = round(sum(used) / len(used), 1) if used else 0
        bars = []
        for day in days:
            if day < meter.since or (day > today and not self.shows_future_days):
                continue
            if day == today:
                bars.append(_build_bar(day, meter.compute_litres_so_far(now), actual=True))
            elif day in shown:
                bars.append(_build_bar(day, shown[day] or round(average * 0.02, 2), actual=True, zero=not shown[day]))
            else:
                bars.append(_build_bar(day, 0, actual=day < today and day.day % 2 == 0))
        late = [_build_bar(day, average, actual=False) for day in days if meter.since <= day < today and day not in shown]
        return {"estimatedConsumption": late, "actualConsumption": bars, "average": average, "total": sum(used)}


IDENTITY_FAULTS = {
    *("renamed", "foreign_action", "get_form", "live_session", "base_href", "marked_page", *FURTHER_FIELDS),
    *("wrong_password", "locked", "second_factor", "terms", "new_password", "captcha", "maintenance", "unknown_page"),
    *("wrong_state", "refused_code", "later", "no_code", "stray", "no_expiry"),
}


def _list_month_days(month: date) -> Iterator[date]:
    for n in range(calendar.monthrange(month.year, month.month)[1]):
        yield month + n * DAY


def _build_bar(day: date, litres: float, *, actual: bool, zero: bool = False) -> dict[str, Any]:
    return {
        "day": day.day,
        "isActualConsumption": actual,
        "y": litres,
        "x": f"{day.day:02}",
        "isOnTop": litres > 0,
        "total": litres,
        "isZeroConsumption": zero,
    }


def _change_field(fault: str, response: web.StreamResponse) -> web.StreamResponse:
    """Return a JSON response with one field changed or removed."""
    assert isinstance(response, web.Response)
    assert response.text is not None
    body = json.loads(response.text)
    name, _, value = fault.partition(":")[2].partition("=")
    if fault.startswith("bar:"):
        body["actualConsumption"][int(name)] = json.loads(value)
        return web.json_response(body, status=response.status)
    if fault.startswith("drop:"):
        body.pop(name, None)
    else:
        body[name] = json.loads(value)
    return web.json_response(body, status=response.status)
