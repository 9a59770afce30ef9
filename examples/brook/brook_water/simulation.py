"""The simulated Brook: written from its protocol alone, so that client and simulation do not share a mistake."""

import asyncio
import json
import secrets
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web

from exporter.simulators.base import Simulation, run_simulation, utc_now

ZONE = ZoneInfo("Europe/Dublin")
CONTRACT, USER, PASSWORD = "C-1042", "mia", "stony-Ford&7"


class BrookSimulation(Simulation):
    """One contract with one meter, whose consumption depends on the weekday.

    `has_leak` is the portal's flag; `late_days` is how many of the last days are not in yet.
    """

    portal = "brook"

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock)
        self.tokens: set[str] = set()
        self.has_leak, self.late_days, self.login_count = False, 1, 0

    def build_accounts(self, url: str) -> list[dict[str, Any]]:
        """Return the one account."""
        login = {"username": USER, "password": PASSWORD}
        return [{"name": "cottage", "portal": self.portal, **login, "contract": CONTRACT, "portal_url": url}]

    def add_routes(self, app: web.Application) -> None:
        """Add the portal's three routes."""
        app.router.add_post("/login", self._handle_login)
        app.router.add_get("/contracts/{contract}/meter", self._handle_meter)
        app.router.add_get("/contracts/{contract}/days", self._handle_days)

    def litres_on(self, day: date) -> int:
        """Return the true consumption of a day."""
        return 150 + 40 * day.weekday()

    def current_index(self) -> tuple[float, datetime]:
        """Return what the meter showed at the last midnight, and that midnight (local, without zone)."""
        today = self.clock().astimezone(ZONE).date()
        days = (date(2020, 1, 1) + timedelta(days=n) for n in range((today - date(2020, 1, 1)).days))
        return sum(map(self.litres_on, days)) / 1000, datetime(today.year, today.month, today.day)  # noqa: DTZ001  # as Brook does

    async def _handle_login(self, request: web.Request) -> web.Response:
        self.login_count += 1
        form = await request.post()
        if (form.get("user"), form.get("pass")) != (USER, PASSWORD):
            return web.json_response({"message": "no"}, status=401)
        self.tokens.add(token := secrets.token_hex(8))
        return web.json_response({"token": token, "seconds": 3600})

    async def _handle_meter(self, request: web.Request) -> web.Response:
        value, at = self.current_index()
        body = {"serial": "B-17", "m3": f"{value:.3f}".replace(".", ","), "read": at.isoformat(), "leak": self.has_leak}
        return self._check_request(request) or web.json_response(body)

    async def _handle_days(self, request: web.Request) -> web.Response:
        first, last = (date.fromisoformat(request.query[key]) for key in ("from", "to"))
        if (last - first).days >= 31:
            return web.json_response({"message": "at most 31 days"}, status=400)
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        newest = self.clock().astimezone(ZONE).date() - timedelta(days=1 + self.late_days)
        rows = [{"day": str(day), "litres": self.litres_on(day) if day <= newest else None} for day in days]
        return self._check_request(request) or web.json_response({"days": rows})

    def _check_request(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.json_response({"message": "who are you?"}, status=401)
        if request.match_info["contract"] != CONTRACT:
            return web.json_response({"message": "no such contract"}, status=404)
        return None


async def main() -> None:
    """Serve the simulation until it is stopped, and print a configuration for it (YAML includes JSON)."""
    simulation = BrookSimulation()
    async with run_simulation(simulation) as url:
        sys.stdout.write(json.dumps({"accounts": simulation.build_accounts(url)}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
