"""CEM, simulated from its protocol alone: one address, function numbers, a token and a cookie that end."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from aiohttp import web

from exporter.demo.base import Handler, Simulation, utc_now
from exporter.demo.cem.building import Building
from exporter.demo.cem.lists import CODES, code_list, counter_types

PRAGUE = ZoneInfo("Europe/Prague")
PATH = "/cemapi/api"
KEPT = timedelta(days=3 * 365)


@dataclass(frozen=True, slots=True)
class Login:
    """A session: its cookie goes with its token."""

    cookie: str
    ends: datetime


class CemSimulation(Simulation):
    """A housing company of `flats` flats (six counters each); readings come about hourly and a few minutes late.

    Beside the faults of every simulation: `expired` and `second_login` (all tokens end), `unauthorized` (401 whatever is
    sent), `batch_refused` (id=8 by POST is no longer known), `no_list` (an object where a list is due), `partial` (every
    second entry is missing), `renamed:KEY` (a key has another name), `without:KEY` (a key is missing).
    """

    portal: ClassVar[str] = "cem"

    def __init__(self, clock: Callable[[], datetime] = utc_now, *, flats: int = 12, leak_from: datetime | None = None) -> None:
        super().__init__(clock)
        self.building = Building(flats, leak_from or clock() - timedelta(hours=36))
        self.username, self.password = "svj-ukazka", "tajné heslo & 100%+"
        self.life = timedelta(hours=1)
        self.wrapped: bool | None = None
        """Whether lists come wrapped; None: as the real portal does, differently for each function."""
        self.to_included = False
        """Whether the day `to` belongs to the answer of id=3 and id=20: the real portal has not told."""
        self.hole: tuple[datetime, datetime] | None = None
        """A span of which the portal has lost all readings."""
        self.access_ends: datetime | None = None
        self.sessions: dict[str, Login] = {}
        self._functions: dict[tuple[str, str], Callable[[web.Request], Any]] = {
            ("GET", "9"): self._account,
            ("GET", "23"): lambda _: self._list(self._places()),
            ("GET", "108"): lambda _: self._list(self._meters(), wrapped=True),
            ("GET", "107"): lambda _: self._list(self._counters(), wrapped=True),
            ("GET", "222"): lambda _: self._list(counter_types(), wrapped=True),
            ("GET", "11"): self._codes,
            ("GET", "8"): self._last,
            ("GET", "3"): self._past_of_one,
            ("GET", "20"): self._past_of_all,
        }

    @property
    def special(self) -> dict[str, int]:
        """Counters by what they stand for: `leak`, `removed`, `replacement`, `gas`, `solar`, `door`, `never read`, ..."""
        return self.building.special

    def truth(self, counter: int, at: datetime) -> float:
        """What a counter shows at an instant, in the portal's unit."""
        return self.building.truth(counter, at)

    def last(self, counter: int) -> tuple[datetime, float] | None:
        """The newest reading that the portal has now."""
        return self.building.last(counter, self.clock())

    def readings(self, counter: int, start: datetime, end: datetime) -> list[tuple[datetime, float]]:
        """The readings of [start, end) that the portal has now."""
        now = self.clock()
        found = self.building.readings(counter, max(start, now - KEPT), end, now)
        return [one for one in found if not (self.hole and self.hole[0] <= one[0] < self.hole[1])]

    def accounts(self, url: str) -> list[dict[str, Any]]:
        """Give the entry of the company's account."""
        entry = {"name": "block-of-flats", "portal": self.portal, "base_url": url + PATH}
        return [entry | {"username": self.username, "password": self.password}]

    def aliases(self) -> dict[str, str]:
        """Return place and kind of every meter; a second one of a kind at the same place has its number too."""
        return self.building.meter_names()

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the account; its login ends in a year, as a contract may say."""
        self.access_ends = self.clock().replace(microsecond=0) + timedelta(days=365)
        return super().demo_account(url)

    def routes(self, app: web.Application) -> None:
        """Add the one address."""
        app.router.add_route("*", PATH, self._answer)

    async def fail(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer wrongly in CEM's own ways."""
        kind, _, key = fault.partition(":")
        if kind in ("expired", "second_login"):
            self.sessions.clear()
            return await handler(request)
        if kind == "unauthorized":
            return _refusal(401, "Neplatný token")
        if kind == "batch_refused":
            return _refusal(400, "Neznámá funkce") if request.method == "POST" else await handler(request)
        changes: dict[str, Callable[[Any], Any]] = {
            "no_list": lambda _: {"message": "Chyba", "errors": []},
            "partial": lambda answer: answer[::2] if isinstance(answer, list) else answer | {"data": answer["data"][::2]},
            "renamed": lambda answer: _changed(answer, key, f"{key}_new"),
            "without": lambda answer: _changed(answer, key, None),
        }
        if kind not in changes:
            return await super().fail(fault, request, handler)
        answer = await handler(request)
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        return web.json_response(changes[kind](json.loads(answer.body)), headers=_cookies(answer))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        function = request.query.get("id", "")
        if function == "4":
            return await self._log_in(request)
        if not self._logged_in(request):
            return _refusal(401, "Neplatný token")
        if request.headers.get("Accept") != "application/json":
            return _refusal(400, "Jen JSON")
        try:
            if (request.method, function) == ("POST", "8"):
                return web.json_response(await self._batch(request))
            answer = self._functions.get((request.method, function))
            return web.json_response(answer(request)) if answer else _refusal(404, "Neznámá funkce")
        except (ValueError, KeyError, TypeError):
            return _refusal(400, "Chybný parametr")

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST" or set(request.query) != {"id"}:
            return _refusal(400, "Jen formulář")
        if request.content_type != "application/x-www-form-urlencoded":
            return _refusal(400, "Jen formulář")
        form = await request.post()
        if dict(form) != {"user": self.username, "pass": self.password}:
            return _refusal(401, "Chybné jméno nebo heslo")
        token, login = secrets.token_hex(16), Login(secrets.token_urlsafe(18) + "+/=", self.clock() + self.life)
        self.sessions[token] = login
        answer = {"user": self.username, "access_token": token, "refresh_token": secrets.token_hex(16)}
        response = web.json_response(answer | {"valid_to": _ms(login.ends)})
        response.headers["Set-Cookie"] = f"CEMAPI={login.cookie}; HttpOnly; Secure; SameSite=Lax; Path=/cemapi"
        return response

    def _logged_in(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        login = self.sessions.get(token)
        if scheme != "Bearer" or login is None or login.ends <= self.clock():
            return False
        return f"CEMAPI={login.cookie}" in request.headers.get("Cookie", "").split("; ")

    def _list(self, rows: list[dict[str, Any]], wrapped: bool = False) -> Any:
        wrapped = wrapped if self.wrapped is None else self.wrapped
        return {"data": rows, "action": "get"} if wrapped else rows

    def _account(self, _: web.Request) -> dict[str, Any]:
        numbers = {"oso_id": 501, "fir_id": 301, "zak_id": 401}
        ends = _ms(self.access_ends) if self.access_ends else None
        names: dict[str, Any] = {"show_name": "Jana Ukázková", "osoba": "Jana Ukázková", "firma": "SVJ Ukázka"}
        return names | numbers | {"log_od": 1640995200000, "log_do": ends}

    def _places(self) -> list[dict[str, Any]]:
        empty = dict.fromkeys(("mis_nazev2", "mis_do", "mis_extid1", "mis_extid2", "adr_id", "mis_pzn", "prk_id", "mis_inst_pzn"))
        return [
            {"mis_id": one.id, "mis_idp": one.parent, "mit_id": one.kind, "mis_nazev": one.name, "mis_od": 1640995200000}
            | {"mis_sort": place}
            | empty
            for place, one in enumerate(self.building.places)
        ]

    def _meters(self) -> list[dict[str, Any]]:
        empty = dict.fromkeys(("me_sdil", "me_extid", "me_plom", "me_typ_pzn"))
        return [
            {"me_id": one.id, "mis_id": one.place, "me_serial": one.serial, "me_desc": one.name, "met_id": 701}
            | {"me_pot_id": one.main_type, "me_od": _ms(one.since), "me_do": _ms(one.removed) if one.removed else None}
            | {"me_over": _ms(one.since), "me_alarm": 168, "me_fakt": False, "me_zapoc": True}
            | empty
            for one in self.building.meters
        ]

    def _counters(self) -> list[dict[str, Any]]:
        empty = dict.fromkeys(("var_minint", "poc_servis", "poc_extid", "poc_insaval", "tds_id"))
        found = []
        for one in self.building.counters.values():
            at, value = self.last(one.id) or (None, None)
            row: dict[str, Any] = {"var_id": one.id, "pot_id": one.type}
            row |= {"var_lastvar": value, "var_lasttime": _ms(at) if at else None}
            row |= {"var_nasob": 1.0, "var_q": 0.0, "var_lastonly": False, "poc_typode": 2, "poc_perioda": 4}
            row |= {"poc_primary": one.primary, "poc_serv": one.service, "poc_desc": one.name, **empty}
            found += [row | {"me_id": meter} for meter in one.meters]
        return found

    def _codes(self, request: web.Request) -> Any:
        if request.query["cis"] not in CODES:
            raise KeyError
        return self._list(code_list(request.query["cis"]))

    def _last(self, request: web.Request) -> Any:
        counter = int(request.query["var_id"])
        return self._list([{key: value for key, value in row.items() if key != "var_id"} for row in self._newest([counter])])

    async def _batch(self, request: web.Request) -> Any:
        asked = await request.json()
        if request.content_type != "application/json" or not all(set(one) == {"var_id"} for one in asked):
            raise ValueError
        if not all(type(one["var_id"]) is int for one in asked):
            raise ValueError
        # Unlike the order they were asked in: they are matched by number.
        return self._list(self._newest([one["var_id"] for one in reversed(asked)]))

    def _newest(self, counters: list[int]) -> list[dict[str, Any]]:
        known = [(counter, self.last(counter)) for counter in counters if counter in self.building.counters]
        return [{"value": last[1], "timestamp": _ms(last[0]), "var_id": counter} for counter, last in known if last]

    def _past_of_one(self, request: web.Request) -> Any:
        return self._list(_points(self.readings(int(request.query["var_id"]), *self._span(request))))

    def _past_of_all(self, request: web.Request) -> Any:
        span = self._span(request)
        rows = [(counter, _points(self.readings(counter, *span))) for counter in self.building.counters]
        # The real portal repeats some readings.
        return self._list([{"var_id": str(counter), "values": values + values[-1:]} for counter, values in rows])

    def _span(self, request: web.Request) -> tuple[datetime, datetime]:
        query = request.query
        if "from_ms" in query:
            return _instant(int(query["from_ms"])), _instant(int(query["to_ms"]))
        first, last = (datetime.strptime(query[key], "%Y-%m-%d").replace(tzinfo=PRAGUE) for key in ("from", "to"))
        return first.astimezone(UTC), (last + timedelta(days=self.to_included)).astimezone(UTC)


def _points(readings: list[tuple[datetime, float]]) -> list[dict[str, Any]]:
    return [{"timestamp": _ms(at), "value": value} for at, value in readings]


def _changed(answer: Any, key: str, name: str | None) -> Any:
    if isinstance(answer, list):
        return [_changed(one, key, name) for one in answer]
    if not isinstance(answer, dict):
        return answer
    named = {name if known == key else known: _changed(value, key, name) for known, value in answer.items()}
    return {known: value for known, value in named.items() if known is not None}


def _cookies(answer: web.Response) -> dict[str, str]:
    return {"Set-Cookie": answer.headers["Set-Cookie"]} if "Set-Cookie" in answer.headers else {}


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"message": message, "errors": []}, status=status)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
