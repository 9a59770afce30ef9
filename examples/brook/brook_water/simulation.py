"""Brook's portal, simulated from its protocol alone: it shares no code with the client, so that neither hides a mistake."""

import asyncio
import json
import secrets
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web

from exporter.demo.base import Simulation, running, utc_now

DUBLIN = ZoneInfo("Europe/Dublin")
CONTRACT, USER, PASSWORD = "C-1042", "mia", "stony-Ford&7"


class BrookSimulation(Simulation):
    """One contract with one meter; what a household uses is the same on each weekday.

    `leak` is the portal's flag; `late` is how many of the last days are not in yet.
    """

    portal = "brook"

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock)
        self.tokens: set[str] = set()
        self.leak, self.late, self.logins = False, 1, 0

    def accounts(self, url: str) -> list[dict[str, Any]]:
        """Give the one account."""
        login = {"username": USER, "password": PASSWORD}
        return [{"name": "cottage", "portal": self.portal, **login, "contract": CONTRACT, "portal_url": url}]

    def routes(self, app: web.Application) -> None:
        """Add the portal's three addresses."""
        app.router.add_post("/login", self._login)
        app.router.add_get("/contracts/{contract}/meter", self._meter)
        app.router.add_get("/contracts/{contract}/days", self._days)

    def litres(self, day: date) -> int:
        """Give the truth: what was used on a day."""
        return 150 + 40 * day.weekday()

    def index(self) -> tuple[float, datetime]:
        """Give what the meter showed at the last midnight (local, without zone): all days of this century."""
        today = self.clock().astimezone(DUBLIN).date()
        days = (date(2020, 1, 1) + timedelta(days=n) for n in range((today - date(2020, 1, 1)).days))
        return sum(map(self.litres, days)) / 1000, datetime(today.year, today.month, today.day)  # noqa: DTZ001  # as Brook does

    async def _login(self, request: web.Request) -> web.Response:
        self.logins += 1
        form = await request.post()
        if (form.get("user"), form.get("pass")) != (USER, PASSWORD):
            return web.json_response({"message": "no"}, status=401)
        self.tokens.add(token := secrets.token_hex(8))
        return web.json_response({"token": token, "seconds": 3600})

    async def _meter(self, request: web.Request) -> web.Response:
        value, at = self.index()
        said = {"serial": "B-17", "m3": f"{value:.3f}".replace(".", ","), "read": at.isoformat(), "leak": self.leak}
        return self._refused(request) or web.json_response(said)

    async def _days(self, request: web.Request) -> web.Response:
        first, last = (date.fromisoformat(request.query[key]) for key in ("from", "to"))
        if (last - first).days >= 31:
            return web.json_response({"message": "at most 31 days"}, status=400)
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        newest = self.clock().astimezone(DUBLIN).date() - timedelta(days=1 + self.late)
        said = [{"day": str(day), "litres": self.litres(day) if day <= newest else None} for day in days]
        return self._refused(request) or web.json_response({"days": said})

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.json_response({"message": "who are you?"}, status=401)
        if request.match_info["contract"] != CONTRACT:
            return web.json_response({"message": "no such contract"}, status=404)
        return None


async def main() -> None:
    """Simulate until told to stop; prints a configuration (YAML takes JSON) that visits it."""
    simulation = BrookSimulation()
    async with running(simulation) as url:
        sys.stdout.write(json.dumps({"accounts": simulation.accounts(url)}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
