"""Water-Link's portal, simulated: the identity provider under /identity, the portal and its API under /portal."""

import calendar
import json
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any

from aiohttp import web

from exporter.demo.base import Handler, Simulation, utc_now
from exporter.demo.water_link.household import DAY, LOCAL, Household
from exporter.demo.water_link.identity import Identity

FOREIGN = "999999"
"""A meter of somebody else."""


class WaterLinkSimulation(Simulation):
    """One account with a house and a garden meter; `households` is the truth, `identity.logins` counts passwords sent.

    Faults of its own, by what they strike: the login page (`renamed:INPUT`, `foreign_action`, `get_form`,
    `live_session`), the password (`wrong_password`, `locked`, `second_factor`, `terms`, `new_password`, `captcha`,
    `maintenance`, `unknown_page`, `wrong_state`, `refused_code`, `later`, `no_code`, `stray`), the token (`no_expiry`), the API
    (`set:FIELD=JSON`, `drop:FIELD`). `post:` before any word spares GET requests.
    """

    portal = "water-link"

    def __init__(self, clock: Callable[[], datetime] = utc_now, *, since: date = date(2025, 1, 1)) -> None:
        super().__init__(clock)
        self.identity = Identity(clock, "bewoner@example.com", "geheim-Water1&+=%")
        street = {"street": "Verzonnenlaan", "number": 7, "city": "2000 Antwerpen"}
        self.households = {
            "204417": Household("204417", "Verzonnenlaan 7, 2000 Antwerpen", since),
            "204418": Household("204418", street, since, 3_120, flow_limitation=None),
        }
        self.future_days = True
        """Whether the days to come stand in the chart, as not measured, or are missing."""

    @property
    def logins(self) -> int:
        """How many passwords were sent, right and wrong."""
        return self.identity.logins

    def expire(self) -> None:
        """End all tokens before their time."""
        self.identity.tokens.clear()

    def accounts(self, url: str) -> list[dict[str, Any]]:
        """Give the one account."""
        return [
            {
                "name": "home-water",
                "portal": self.portal,
                "username": self.identity.username,
                "password": self.identity.password,
                "meters": list(self.households),
                "portal_url": f"{url}/portal",
                "identity_url": f"{url}/identity",
            }
        ]

    def aliases(self) -> dict[str, str]:
        """Return the names of both meters."""
        return {"204417": "home water", "204418": "garden"}

    def routes(self, app: web.Application) -> None:
        """Add both hosts' addresses."""
        app.router.add_get("/identity/oauth2/authorize", self._identity)
        app.router.add_post("/identity/oauth2/authorize", self._identity)
        app.router.add_post("/identity/oauth2/token", self._identity)
        app.router.add_get("/portal", self._start)
        app.router.add_get("/portal/api/meters/{meter}", self._api(self._meter))
        app.router.add_get("/portal/api/measurements/day", self._api(self._days))
        app.router.add_get("/portal/api/alarms/{meter}", self._api(self._alarms))

    async def fail(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer wrongly; words for the identity provider are its own to understand."""
        if fault.startswith("post:"):
            return await (self.fail(fault[5:], request, handler) if request.method == "POST" else handler(request))
        if fault.startswith(("set:", "drop:")):
            return _changed(fault, await handler(request))
        if request.path.startswith("/identity") and fault.partition(":")[0] in OWN:
            return await self._identity(request, fault)
        return await super().fail(fault, request, handler)

    async def _identity(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        if request.path.endswith("/token"):
            return await self.identity.swap(request, fault)
        return await (self.identity.ask if request.method == "GET" else self.identity.send)(request, fault)

    async def _start(self, request: web.Request) -> web.Response:
        answer = web.Response(text="<!DOCTYPE html><title>Mijn Water-Link</title>", content_type="text/html")
        answer.set_cookie("portal", "1", path="/portal")
        return answer

    def _api(self, tell: Callable[[web.Request, Household], web.Response]) -> Handler:
        """Ask for a token, and for a meter of this account, before anything is told."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if not self.identity.accepts(request):
                return web.json_response({"message": "Unauthorized"}, status=401)
            number = request.match_info.get("meter") or request.query.get("meterNumber", "")
            if number not in self.households:
                return web.json_response({"message": "no"}, status=403 if number == FOREIGN else 404)
            return tell(request, self.households[number])

        return handler

    def _meter(self, request: web.Request, household: Household) -> web.Response:
        return web.json_response(household.state(self.clock()) | {"contractType": "invented"})

    def _days(self, request: web.Request, household: Household) -> web.Response:
        try:
            month = date.fromisoformat(request.query["from"]).replace(day=1)
        except (KeyError, ValueError):
            return web.json_response({"message": "from must be YYYY-MM-DD"}, status=400)
        return web.json_response(self.chart(household, month))

    def _alarms(self, request: web.Request, household: Household) -> web.Response:
        if {"index", "size", "sortingDirection", "sortBy"} - request.query.keys():
            return web.json_response({"message": "paging is missing"}, status=400)
        return web.json_response({"items": [], "totalCount": 0})

    def chart(self, household: Household, month: date) -> dict[str, Any]:
        """Draw one month as the portal does."""
        now, days = self.clock(), list(_days_of(month))
        today = now.astimezone(LOCAL).date()
        seen = {day: litres for day in days if (litres := household.shown(day, now)) is not None}
        used = [litres for litres in seen.values() if litres]
        average = round(sum(used) / len(used), 1) if used else 0
        bars = []
        for day in days:
            if day < household.since or (day > today and not self.future_days):
                continue
            if day == today:
                bars.append(_bar(day, household.used_so_far(now), actual=True))
            elif day in seen:
                bars.append(_bar(day, seen[day] or round(average * 0.02, 2), actual=True, zero=not seen[day]))
            else:
                bars.append(_bar(day, 0, actual=day < today and day.day % 2 == 0))
        late = [_bar(day, average, actual=False) for day in days if household.since <= day < today and day not in seen]
        return {"estimatedConsumption": late, "actualConsumption": bars, "average": average, "total": sum(used)}


OWN = {
    *("renamed", "foreign_action", "get_form", "live_session"),
    *("wrong_password", "locked", "second_factor", "terms", "new_password", "captcha", "maintenance", "unknown_page"),
    *("wrong_state", "refused_code", "later", "no_code", "stray", "no_expiry"),
}


def _days_of(month: date) -> Iterator[date]:
    for n in range(calendar.monthrange(month.year, month.month)[1]):
        yield month + n * DAY


def _bar(day: date, litres: float, *, actual: bool, zero: bool = False) -> dict[str, Any]:
    return {
        "day": day.day,
        "isActualConsumption": actual,
        "y": litres,
        "x": f"{day.day:02}",
        "isOnTop": litres > 0,
        "total": litres,
        "isZeroConsumption": zero,
    }


def _changed(fault: str, answer: web.StreamResponse) -> web.StreamResponse:
    """Change one field of a JSON answer, or take it away."""
    assert isinstance(answer, web.Response)
    assert answer.text is not None
    told = json.loads(answer.text)
    name, _, value = fault.partition(":")[2].partition("=")
    if fault.startswith("drop:"):
        told.pop(name, None)
    else:
        told[name] = json.loads(value)
    return web.json_response(told, status=answer.status)
