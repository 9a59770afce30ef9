"""The simulated CEM: one address, function numbers, a token and a cookie that expire."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from aiohttp import web

from exporter.simulators.base import Handler, Simulation, utc_now
from exporter.simulators.cem.building import GJ_PER_KWH, HEAT_TYPE, Building, SimulatedMeter

PRAGUE = ZoneInfo("Europe/Prague")
API_PATH = "/cemapi/api"
RETENTION = timedelta(days=3 * 365)


@dataclass(frozen=True, slots=True)
class CemLoginSession:
    """A session of one login: the cookie that belongs to its token."""

    cookie: str
    expires_at: datetime


class CemSimulation(Simulation):
    """A housing company of `flats` flats (six counters each); readings come about hourly and a few minutes late.

    Beside the faults of every simulation: `expired` and `second_login` (all tokens end), `unauthorized` (401 whatever is
    sent), `batch_refused` (id=8 by POST is unknown), `no_list` (an object where a list is expected), `partial` (every
    second row is missing), `nothing` (a list without rows), `null_row` (null at the end of a list), `redirect` (to a login
    page), `renamed:KEY` (a key has another name), `without:KEY` (a key is missing), `put:KEY:JSON` (the first row that has a
    key has this value in it), `put_all:KEY:JSON` (every row).
    """

    portal: ClassVar[str] = "cem"

    def __init__(
        self,
        clock: Callable[[], datetime] = utc_now,
        *,
        flats: int = 12,
        leak_from: datetime | None = None,
        has_sub_registers: bool = False,
    ) -> None:
        super().__init__(clock)
        self.building = Building(flats, leak_from or clock() - timedelta(hours=36), has_sub_registers)
        self.username, self.password = "svj-ukazka", "tajné heslo & 100%+"
        self.token_lifetime = timedelta(hours=1)
        self.wrap_lists: bool | None = None
        """Whether lists are wrapped; None: as the real portal does, differently for each function."""
        self.includes_last_day = False
        """Whether id=3 and id=20 include the day `to`; of the real portal it is not known."""
        self.lost_span: tuple[datetime, datetime] | None = None
        """A span of which the portal has lost all readings."""
        self.session_end = "unauthorized"
        """How a call without a living session is answered: with which fault."""
        self.heat_in_kwh = False
        """Whether the portal has changed the unit of heat from GJ to kWh."""
        self.lists_meters_twice = False
        """Whether each meter in service is listed a second time, closed."""
        self.access_expires: datetime | None = None
        self.sessions: dict[str, CemLoginSession] = {}
        self._functions: dict[tuple[str, str], Callable[[web.Request], Any]] = {
            ("GET", "9"): self._get_account,
            ("GET", "23"): lambda _: self._wrap_list(self._list_objects()),
            ("GET", "108"): lambda _: self._wrap_list(self._list_meters(), wrapped=True),
            ("GET", "107"): lambda _: self._wrap_list(self._list_counters(), wrapped=True),
            ("GET", "222"): lambda _: self._wrap_list(self._list_types(), wrapped=True),
            ("GET", "11"): self._get_code_list,
            ("GET", "8"): self._get_latest,
            ("GET", "3"): self._get_counter_history,
            ("GET", "20"): self._get_account_history,
        }

    @property
    def named_counters(self) -> dict[str, int]:
        """Return counters by a name: `leak`, `removed`, `replacement`, `gas`, `solar`, `door`, `never read`, ..."""
        return self.building.named_counters

    def true_value(self, counter: int, at: datetime) -> float:
        """Return what a counter shows at an instant, in the portal's unit."""
        return self._convert(counter, self.building.true_value(counter, at))

    def latest_reading(self, counter: int) -> tuple[datetime, float] | None:
        """Return the newest reading that the portal has now."""
        last = self.building.latest_reading(counter, self.clock())
        return (last[0], self._convert(counter, last[1])) if last else None

    def list_readings(self, counter: int, start: datetime, end: datetime) -> list[tuple[datetime, float]]:
        """Return the readings of [start, end) that the portal has now."""
        now = self.clock()
        readings = self.building.list_readings(counter, max(start, now - RETENTION), end, now)
        if self.lost_span:
            lost_from, lost_to = self.lost_span
            readings = [reading for reading in readings if not lost_from <= reading[0] < lost_to]
        return [(at, self._convert(counter, value)) for at, value in readings]

    def _convert(self, counter: int, value: float) -> float:
        is_changed = self.heat_in_kwh and self.building.counters[counter].type == HEAT_TYPE
        return round(value / GJ_PER_KWH, 3) if is_changed else value

    def build_accounts(self, url: str) -> list[dict[str, Any]]:
        """Return the company's account."""
        entry = {"name": "block-of-flats", "portal": self.portal, "base_url": url + API_PATH}
        return [entry | {"username": self.username, "password": self.password}]

    def aliases(self) -> dict[str, str]:
        """Return object and kind of every meter; a second one of a kind at the same object has its number too."""
        return self.building.meter_names()

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the account; its access expires in a year."""
        self.access_expires = self.clock().replace(microsecond=0) + timedelta(days=365)
        return super().demo_account(url)

    def add_routes(self, app: web.Application) -> None:
        """Add the portal's one route."""
        app.router.add_route("*", API_PATH, self._handle)

    async def inject_fault(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Respond with a fault of CEM, or of every simulation."""
        kind, _, key = fault.partition(":")
        if kind in ("expired", "second_login"):
            self.sessions.clear()
            return await handler(request)
        if kind == "redirect":
            return web.Response(status=302, headers={"Location": "/login"})
        if kind == "unauthorized":
            return _refuse(401, "Neplatný token")
        if kind == "batch_refused":
            return _refuse(400, "Neznámá funkce") if request.method == "POST" else await handler(request)
        changes: dict[str, Callable[[Any], Any]] = {
            "no_list": lambda _: {"message": "Chyba", "errors": []},
            "partial": lambda body: body[::2] if isinstance(body, list) else body | {"data": body["data"][::2]},
            "renamed": lambda body: _rename_field(body, key, f"{key}_new"),
            "without": lambda body: _rename_field(body, key, None),
            "nothing": lambda body: [] if isinstance(body, list) else body | {"data": []},
            "null_row": lambda body: [*body, None] if isinstance(body, list) else body | {"data": [*body["data"], None]},
            "put": lambda body: _put_field(body, *_parse_field(key), max_rows=1),
            "put_all": lambda body: _put_field(body, *_parse_field(key)),
        }
        if kind not in changes:
            return await super().inject_fault(fault, request, handler)
        response = await handler(request)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return web.json_response(changes[kind](json.loads(response.body)), headers=_copy_cookies(response))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        function = request.query.get("id", "")
        if function == "4":
            return await self._log_in(request)
        if not self._is_logged_in(request):
            return await self.inject_fault(self.session_end, request, self._handle)
        if request.headers.get("Accept") != "application/json":
            return _refuse(400, "Jen JSON")
        try:
            if (request.method, function) == ("POST", "8"):
                return web.json_response(await self._get_latest_batch(request))
            respond = self._functions.get((request.method, function))
            return web.json_response(respond(request)) if respond else _refuse(404, "Neznámá funkce")
        except (ValueError, KeyError, TypeError):
            return _refuse(400, "Chybný parametr")

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST" or set(request.query) != {"id"}:
            return _refuse(400, "Jen formulář")
        if request.content_type != "application/x-www-form-urlencoded":
            return _refuse(400, "Jen formulář")
        form = await request.post()
        if dict(form) != {"user": self.username, "pass": self.password}:
            return _refuse(401, "Chybné jméno nebo heslo")
        token, login = (
            secrets.token_hex(16),
            CemLoginSession(secrets.token_urlsafe(18) + "+/=", self.clock() + self.token_lifetime),
        )
        self.sessions[token] = login
        body = {"user": self.username, "access_token": token, "refresh_token": secrets.token_hex(16)}
        response = web.json_response(body | {"valid_to": _to_milliseconds(login.expires_at)})
        response.headers["Set-Cookie"] = f"CEMAPI={login.cookie}; HttpOnly; Secure; SameSite=Lax; Path=/cemapi"
        return response

    def _is_logged_in(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        login = self.sessions.get(token)
        if scheme != "Bearer" or login is None or login.expires_at <= self.clock():
            return False
        return f"CEMAPI={login.cookie}" in request.headers.get("Cookie", "").split("; ")

    def _wrap_list(self, rows: list[dict[str, Any]], wrapped: bool = False) -> Any:
        wrapped = wrapped if self.wrap_lists is None else self.wrap_lists
        return {"data": rows, "action": "get"} if wrapped else rows

    def _get_account(self, _: web.Request) -> dict[str, Any]:
        numbers = {"oso_id": 501, "fir_id": 301, "zak_id": 401}
        ends = _to_milliseconds(self.access_expires) if self.access_expires else None
        names: dict[str, Any] = {"show_name": "Jana Ukázková", "osoba": "Jana Ukázková", "firma": "SVJ Ukázka"}
        return names | numbers | {"log_od": 1640995200000, "log_do": ends}

    def _list_objects(self) -> list[dict[str, Any]]:
        empty = dict.fromkeys(("mis_nazev2", "mis_do", "mis_extid1", "mis_extid2", "adr_id", "mis_pzn", "prk_id", "mis_inst_pzn"))
        return [
            {"mis_id": row.id, "mis_idp": row.parent, "mit_id": row.kind, "mis_nazev": row.name, "mis_od": 1640995200000}
            | {"mis_sort": position}
            | empty
            for position, row in enumerate(self.building.objects)
        ]

    def _list_meters(self) -> list[dict[str, Any]]:
        empty = dict.fromkeys(("me_sdil", "me_extid", "me_plom", "me_typ_pzn"))
        return [
            {"me_id": meter.id, "mis_id": meter.object_id, "me_serial": meter.serial, "me_desc": meter.name, "met_id": 701}
            | {
                "me_pot_id": meter.main_type,
                "me_od": _to_milliseconds(meter.since),
                "me_do": _to_milliseconds(meter.removed) if meter.removed else None,
            }
            | {"me_over": _to_milliseconds(meter.since), "me_alarm": 168, "me_fakt": False, "me_zapoc": True}
            | empty
            for meter in self._list_meter_rows()
        ]

    def _list_meter_rows(self) -> list[SimulatedMeter]:
        meters = self.building.meters
        closed = [replace(meter, serial=f"OLD{meter.id}", removed=meter.since) for meter in meters if meter.removed is None]
        return meters + closed if self.lists_meters_twice else meters

    def _list_types(self) -> list[dict[str, Any]]:
        types = _build_counter_types()
        is_changed = [row["pot_id"] == HEAT_TYPE and self.heat_in_kwh for row in types]
        return [row | {"jed_zkr": "kWh"} if changed else row for row, changed in zip(types, is_changed, strict=True)]

    def _list_counters(self) -> list[dict[str, Any]]:
        empty = dict.fromkeys(("var_minint", "poc_servis", "poc_extid", "poc_insaval", "tds_id"))
        rows = []
        for counter in self.building.counters.values():
            at, value = self.latest_reading(counter.id) or (None, None)
            row: dict[str, Any] = {"var_id": counter.id, "pot_id": counter.type}
            row |= {"var_lastvar": value, "var_lasttime": _to_milliseconds(at) if at else None}
            row |= {"var_nasob": 1.0, "var_q": 0.0, "var_lastonly": False, "poc_typode": 2, "poc_perioda": 4}
            row |= {"poc_primary": counter.primary, "poc_serv": counter.service, "poc_desc": counter.name, **empty}
            rows += [row | {"me_id": meter} for meter in counter.meters]
        return rows

    def _get_code_list(self, request: web.Request) -> Any:
        if request.query["cis"] not in CODE_LISTS:
            raise KeyError
        return self._wrap_list(_build_code_list(request.query["cis"]))

    def _get_latest(self, request: web.Request) -> Any:
        counter = int(request.query["var_id"])
        return self._wrap_list(
            [{key: value for key, value in row.items() if key != "var_id"} for row in self._list_latest([counter])]
        )

    async def _get_latest_batch(self, request: web.Request) -> Any:
        requested = await request.json()
        if request.content_type != "application/json" or not all(set(item) == {"var_id"} for item in requested):
            raise ValueError
        if not all(type(item["var_id"]) is int for item in requested):
            raise ValueError
        # In another order than requested: they are matched by number.
        return self._wrap_list(self._list_latest([item["var_id"] for item in reversed(requested)]))

    def _list_latest(self, counters: list[int]) -> list[dict[str, Any]]:
        known = [(counter, self.latest_reading(counter)) for counter in counters if counter in self.building.counters]
        return [{"value": last[1], "timestamp": _to_milliseconds(last[0]), "var_id": counter} for counter, last in known if last]

    def _get_counter_history(self, request: web.Request) -> Any:
        return self._wrap_list(_format_readings(self.list_readings(int(request.query["var_id"]), *self._parse_span(request))))

    def _get_account_history(self, request: web.Request) -> Any:
        span = self._parse_span(request)
        rows = [(counter, _format_readings(self.list_readings(counter, *span))) for counter in self.building.counters]
        # The real portal repeats some readings.
        return self._wrap_list([{"var_id": str(counter), "values": values + values[-1:]} for counter, values in rows])

    def _parse_span(self, request: web.Request) -> tuple[datetime, datetime]:
        query = request.query
        if "from_ms" in query:
            return _from_milliseconds(int(query["from_ms"])), _from_milliseconds(int(query["to_ms"]))
        first, last = (datetime.strptime(query[key], "%Y-%m-%d").replace(tzinfo=PRAGUE) for key in ("from", "to"))
        return first.astimezone(UTC), (last + timedelta(days=self.includes_last_day)).astimezone(UTC)


def _format_readings(readings: list[tuple[datetime, float]]) -> list[dict[str, Any]]:
    return [{"timestamp": _to_milliseconds(at), "value": value} for at, value in readings]


def _rename_field(body: Any, key: str, name: str | None) -> Any:
    if isinstance(body, list):
        return [_rename_field(item, key, name) for item in body]
    if not isinstance(body, dict):
        return body
    named = {name if known == key else known: _rename_field(value, key, name) for known, value in body.items()}
    return {known: value for known, value in named.items() if known is not None}


def _parse_field(text: str) -> tuple[str, Any]:
    key, _, value = text.partition(":")
    return key, json.loads(value)


def _put_field(body: Any, key: str, value: Any, max_rows: int | None = None) -> Any:
    rows = [row for row in _list_json_objects(body) if key in row]
    for row in rows[:max_rows]:
        row[key] = value
    return body


def _list_json_objects(body: Any) -> list[dict[str, Any]]:
    children = list(body.values()) if isinstance(body, dict) else body if isinstance(body, list) else []
    found = [found for child in children for found in _list_json_objects(child)]
    return [body, *found] if isinstance(body, dict) else found


def _copy_cookies(response: web.Response) -> dict[str, str]:
    return {"Set-Cookie": response.headers["Set-Cookie"]} if "Set-Cookie" in response.headers else {}


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"message": message, "errors": []}, status=status)


def _to_milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _from_milliseconds(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


UNITS = {
    1: "kWh", 2: "GJ", 3: "m³", 4: "°C", 5: "KPD°", 6: "%", 7: "kPa", 8: "HCA", 9: "ppm ", 10: "dBm", 11: "V", 13: "cm",
    15: "díl.", 16: "l", 17: "bar", 23: "kW", 26: "ppb", 100: "jedn.", 102: " ", 103: "kVArh",
}  # fmt: skip
TYPES = (
    (1, "ELVT", 1, 1), (2, "ELNT", 1, 1), (3, "SV", 3, 1), (4, "EL", 1, 1), (5, "TV", 3, 1), (6, "PLY", 3, 1),
    (7, "INTEP", 4, 0), (8, "TEP", 5, 3), (9, "OUTTEP", 4, 0), (10, "PROTEP", 4, 0), (11, "TEPPRUM", 5, 1),
    (12, "VLH", 6, 0), (13, "KALKWH", 1, 1), (14, "KALGJ", 2, 1), (15, "TLAKKPA", 7, 0), (16, "TEPDIL", 15, 1),
    (17, "CO2", 9, 0), (18, "KLAPK", 100, 2), (19, "VSTUPTEPL", 4, 0), (20, "VYSTUPTEPL", 4, 0), (21, "SVVEL", 3, 1),
    (22, "TVVEL", 3, 1), (23, "VZDA", 13, 0), (24, "TEPHCA", 8, 1), (25, "TLAK", 17, 0), (26, "KAP", 16, 0),
    (27, "ELDOD", 1, 1), (28, "KONT", 102, 2), (29, "CITAC", 102, 1), (30, "U", 11, 0), (31, "ELQI", 103, 1),
    (32, "ELQC", 103, 1), (33, "STRCINVYK", 23, 0), (34, "STRJALVYK", 23, 0), (35, "TGFI", 100, 0), (36, "ELSO", 1, 3),
    (37, "ELQCS", 103, 3), (38, "CO2MAX", 9, 0), (39, "TVOC", 26, 0), (40, "TVOCMAX", 26, 0), (41, "KALCHGJ", 2, 1),
    (42, "KALCHKWH", 1, 1), (43, "KALTGJ", 2, 1), (44, "KALTKWH", 1, 1), (45, "DVERE", 102, 2), (46, "ZAPLA", 102, 2),
    (47, "SECURE", 102, 2), (48, "CH4", 6, 0), (101, "RSSI", 10, 0), (1000, "OBPR", 100, 1), (1001, "OBAB", 100, 0),
    (1002, "OBSO", 100, 3),
)  # fmt: skip
"""Number, key, unit, kind of value."""
CODE_LISTS = {
    "50": {0: "Absolutní", 1: "Přírustková", 2: "Výčtová", 3: "Absolutní součtová"},
    "135": {1: "Vodoměr", 2: "Elektroměr", 3: "Plynoměr", 4: "Teploměr", 5: "Měřič tepla", 6: "Tlakoměr", 10: "Čidlo"},
}


def _build_counter_types() -> list[dict[str, Any]]:
    """Return the response of id=222."""
    return [
        {
            "pot_id": number,
            "lt_key": f"LB_POCTYP_{key}",
            "jed_id": unit,
            "jed_nazev": UNITS[unit],
            "jed_zkr": UNITS[unit],
            "pot_type": kind,
            "ptv_id": None,
            "pot_defcolor": "#0000C0",
        }
        for number, key, unit, kind in TYPES
    ]


def _build_code_list(number: str) -> list[dict[str, Any]]:
    """Return the response of id=11; its order is arbitrary, as the portal's."""
    return [
        {"cik_fk": key, "cik_nazev": name, "lt_key": f"LB_CIS_{number}_{key}", "cik_cislo": 0, "cik_pzn": "", "cik_akt": True}
        for key, name in reversed(CODE_LISTS[number].items())
    ]
