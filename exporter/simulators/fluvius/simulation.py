"""The simulation of Fluvius: login, data APIs of 2025 and 2024, and the true amounts behind both."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web

from exporter.simulators.base import Handler, Simulation, utc_now
from exporter.simulators.fluvius.data_api import DataApi
from exporter.simulators.fluvius.login_service import TENANT_PATH, USERNAME, LoginService, build_page
from exporter.simulators.fluvius.usage_points import (
    BRUSSELS,
    CUBIC_METRES,
    DAY,
    INJECTION,
    NIGHT,
    MountedMeter,
    RegisterCode,
    SimulatedUsagePoint,
)

SOLAR_EAN, SINGLE_RATE_EAN, GAS_EAN = "541448820000000017", "541448820000000024", "541448820000000031"
FAR_FUTURE = datetime(9999, 12, 30, 23, tzinfo=UTC)
HISTORY = timedelta(days=2 * 365)


@dataclass(frozen=True, slots=True)
class TrueAmount:
    """An amount that is true now, in [start, end) (UTC)."""

    ean: str
    register: str
    direction: str
    unit: str
    start: datetime
    end: datetime
    value: float


class FluviusSimulation(Simulation):
    """Two years of two electricity connections and one of gas.

    The first has solar panels, day and night registers, and a meter replaced at `replaced_at`; its quarter-hours and the gas
    hours are switched on since `intervals_since`. The second has a single register and no intervals.
    """

    portal: ClassVar[str] = "fluvius"

    def __init__(
        self,
        clock: Callable[[], datetime] = utc_now,
        *,
        since: date | None = None,
        replaced_at: datetime | None = None,
        intervals_since: date | None = None,
    ) -> None:
        super().__init__(clock)
        today = clock().astimezone(BRUSSELS).date()
        since = since or today - HISTORY
        intervals_since = intervals_since or today - timedelta(days=90)
        replaced_at = replaced_at or datetime(today.year, today.month, today.day, 9, 30, tzinfo=UTC) - timedelta(days=130)
        begin = datetime(since.year, since.month, since.day, tzinfo=UTC) - timedelta(days=1000)
        self.login_service = LoginService(clock)
        self.usage_points = (
            SimulatedUsagePoint(
                SOLAR_EAN,
                "electricity",
                (MountedMeter("1SAG1100000017", begin, replaced_at), MountedMeter("1SAG3200000018", replaced_at, FAR_FUTURE)),
                since,
                intervals_since,
                has_day_and_night=True,
                has_solar=True,
            ),
            SimulatedUsagePoint(SINGLE_RATE_EAN, "electricity", (MountedMeter("1SAG3200000024", begin, FAR_FUTURE),), since),
            SimulatedUsagePoint(GAS_EAN, "gas", (MountedMeter("7FLO2100000031", begin, FAR_FUTURE),), since, intervals_since),
        )
        self.data_api = DataApi(self.usage_points, clock)

    def add_routes(self, app: web.Application) -> None:
        """Add the portal's routes."""
        self.login_service.add_routes(app)
        app.router.add_get("/verbruik/api/{kind:(?:meter-measurement|consumption)-[a-z]+}/{ean}", self._handle_data)

    def build_accounts(self, url: str) -> list[dict[str, Any]]:
        """Return the configuration of its account."""
        meters = [
            {
                "ean": usage_point.ean,
                "serial": [meter.serial for meter in usage_point.meters],
                "commodity": usage_point.commodity,
                "intervals": usage_point.intervals_since is not None,
            }
            for usage_point in self.usage_points
        ]
        login = {
            "username": USERNAME,
            "password": self.login_service.password,
            "portal_url": url,
            "identity_url": url,
        }
        return [{"name": "demo-power", "portal": self.portal, **login, "meters": meters}]

    def aliases(self) -> dict[str, str]:
        """Return the names of the connections."""
        return {SOLAR_EAN: "home", SINGLE_RATE_EAN: "studio", GAS_EAN: "home gas"}

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the account under the name that somebody at home would choose."""
        return super().demo_account(url) | {"name": "home-power"}

    def list_true_days(self, ean: str, first: date, last: date) -> list[TrueAmount]:
        """Return what is published by now of the days [first, last]; estimates are true until they are corrected."""
        usage_point, found = self.data_api.usage_points[ean], []
        for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
            sums: dict[RegisterCode, float] = {}
            for meter in usage_point.meters if self.data_api.is_published(usage_point, day) else ():
                for code, amount in self.data_api.compute_amounts(usage_point, meter, day)[0].items():
                    sums[code] = round(sums.get(code, 0) + amount, 4)
            found += [
                _build_amount(
                    usage_point, code, usage_point.day_start(day), usage_point.day_start(day + timedelta(days=1)), sums[code]
                )
                for code in sums
            ]
        return found

    def list_true_intervals(self, ean: str, day: date) -> list[TrueAmount]:
        """Return what is published by now of one day, by quarter-hour or gas hour."""
        usage_point = self.data_api.usage_points[ean]
        if (
            usage_point.intervals_since is None
            or day < usage_point.intervals_since
            or not self.data_api.is_published(usage_point, day)
        ):
            return []
        return [
            _build_amount(usage_point, code, at, at + usage_point.interval_length(), amount)
            for at, amounts in self.data_api.list_shown_intervals(usage_point, day)
            for code, amount in amounts.items()
        ]

    def find_true_peak(self, ean: str, month: date) -> tuple[float, datetime] | None:
        """Return the highest quarter-hour of a month so far: kW and its start; of two meters the higher."""
        usage_point = self.data_api.usage_points[ean]
        found = [
            peak for meter in usage_point.meters if (peak := self.data_api.find_peak(usage_point, meter, month.replace(day=1)))
        ]
        return max(found, key=lambda peak: peak[0], default=None)

    async def inject_fault(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Add this portal's own faults to those of all portals: `_RESPONSE_FAULTS`, and those of `_change_response`."""
        if fault in _RESPONSE_FAULTS:
            return _RESPONSE_FAULTS[fault]()
        response = await handler(request)
        if isinstance(response, web.Response) and (changed := _change_response(fault, response)):
            return changed
        return await super().inject_fault(fault, request, handler)

    async def _handle_data(self, request: web.Request) -> web.Response:
        if not self.login_service.accepts_token(request.headers.get("Authorization", "")):
            return web.Response(status=401)
        return self.data_api.handle(request.match_info["kind"], request.match_info["ean"], dict(request.query))


def _build_amount(
    usage_point: SimulatedUsagePoint, code: RegisterCode, start: datetime, end: datetime, value: float
) -> TrueAmount:
    direction, register, unit = code
    name = {DAY: "day", NIGHT: "night"}.get(register, "total")
    if usage_point.commodity == "gas":
        name = "volume" if unit == CUBIC_METRES else "energy"
    return TrueAmount(
        usage_point.ean,
        name,
        "injection" if direction == INJECTION else "consumption",
        "m³" if unit == CUBIC_METRES else "kWh",
        start,
        end,
        value,
    )


_LOGIN_INPUTS = '<input name="signInName"><input type="password" name="password">'
_PAGE_ADDITIONS = {
    "captcha-widget": f'{_LOGIN_INPUTS}<div class="g-recaptcha" data-sitekey="x"></div>',
    "captcha-box": f'{_LOGIN_INPUTS}<label for="tekens">Typ de tekens over</label><input id="tekens" name="tekens">',
    "remember-me": f'{_LOGIN_INPUTS}<input type="checkbox" name="rememberMe"><a href="/x">Algemene voorwaarden</a>',
}
"""What the login page shows besides; the last is harmless."""
_RESPONSE_FAULTS: Mapping[str, Callable[[], web.Response]] = {
    "second-factor": lambda: _build_html(build_page("x", "y", ("verificationCode",), "SelfAsserted")),
    "conditions": lambda: _build_html(build_page("x", "y", ("extension_termsOfUse",), "SelfAsserted")),
    "terms-nl": lambda: _build_html("<h1>Nieuwe gebruiksvoorwaarden</h1><p>Aanvaard de voorwaarden om verder te gaan.</p>"),
    "terms-fr": lambda: _build_html("<h1>Acceptez les conditions d'utilisation</h1>"),
    "factor-fr": lambda: _build_html("<p>Entrez le code de vérification reçu par SMS.</p>"),
    "factor-mark": lambda: _build_html('<body><div data-page="MultiFactorAuthentication-1.2.0"><p>Nog even geduld</p></div>'),
    "terms-mark": lambda: _build_html('<body data-page="TermsOfUse"><p>Een ogenblik</p>'),
    "login-page": lambda: web.Response(status=302, headers={"Location": "/aanmelden"}),
    "locked": lambda: _build_refusal("Uw account is tijdelijk vergrendeld.", "AADB2C90114"),
    "professional": lambda: _build_refusal("Meld u aan met itsme voor uw professionele account."),
    "captcha": lambda: _build_refusal("Los de CAPTCHA op."),
    "denied": lambda: web.Response(status=302, headers={"Location": "/?error=access_denied&error_description=AADB2C90091%3A+x"}),
    "elsewhere": lambda: web.Response(status=302, headers={"Location": "https://elsewhere.invalid/next"}),
    "nowhere": lambda: web.Response(status=302, headers={"Location": "http://[nowhere"}),
    "circle": lambda: web.Response(status=302, headers={"Location": f"{TENANT_PATH}/api/home?to=circle"}),
    "expired": lambda: web.Response(status=401),
    "object": lambda: web.json_response({"message": "onderhoud"}),
    "verdictless": lambda: web.Response(text="{}", content_type="text/json"),
}


def _change_response(fault: str, response: web.Response) -> web.Response | None:
    """Return the response changed by a fault; None for an unknown fault."""
    if fault in _PAGE_ADDITIONS:
        response.text = (response.text or "").replace("<form></form>", f"<form>{_PAGE_ADDITIONS[fault]}</form>")
        return response
    if fault.startswith("field:"):
        field = json.dumps({"UX_INPUT_TYPE": "TextBox", "ID": fault.removeprefix("field:"), "IS_REQ": True})
        response.text = (response.text or "").replace('"AttributeFields": [', f'"AttributeFields": [{field}, ')
        return response
    if fault == "renamed":
        return _build_html((response.text or "").replace("var SETTINGS", "var INSTELLINGEN"))
    if fault == "other-state":
        return web.Response(status=302, headers={"Location": response.headers["Location"].replace("state=", "state=x")})
    if fault not in _RECORD_FAULTS:
        return None
    return web.json_response([_RECORD_FAULTS[fault](record) for record in json.loads(response.text or "[]")])


def _build_html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


def _build_refusal(message: str, code: str = "") -> web.Response:
    return web.Response(text=json.dumps({"status": "400", "errorCode": code, "message": message}), content_type="text/json")


_USUAL_VALUE: Mapping[str, Any] = {"dc": 1, "t": 1, "st": 0, "v": 1.5, "vs": 2, "u": 3, "gcuv": None}


def _add_unknown_codes(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with an unknown register, direction and unit besides."""
    return _add_values(record, {"dc": 7}, {"t": 5}, {"u": 9})


def _add_odd_values(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with values that cannot be understood besides: not a number, negative, no register."""
    return _add_values(record, {"v": "NaN"}, {"v": -0.25}, {"dc": None})


def _add_values(record: dict[str, Any], *odd: Mapping[str, Any]) -> dict[str, Any]:
    return record | {"v": [*(record["v"] or []), *({**_USUAL_VALUE, **one} for one in odd)]}


def _clear_values(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"v": [entry | {"v": None} for entry in record["v"] or []]}


def _rename_value(record: dict[str, Any]) -> dict[str, Any]:
    return record | {
        "v": [{"value" if key == "v" else key: value for key, value in entry.items()} for entry in record["v"] or []]
    }


def _drop_end(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "de"}


_RECORD_FAULTS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "codes": _add_unknown_codes,
    "odd": _add_odd_values,
    "nulls": _clear_values,
    "renamed-value": _rename_value,
    "endless": _drop_end,
}
