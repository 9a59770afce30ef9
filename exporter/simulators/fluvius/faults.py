"""Faults of this portal alone: pages that ask for a further step, responses that have changed."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from exporter.simulators.fluvius.login_service import TENANT_PATH, build_page


def _build_html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


def _build_refusal(message: str, code: str = "") -> web.Response:
    return web.Response(text=json.dumps({"status": "400", "errorCode": code, "message": message}), content_type="text/json")


_LOGIN_INPUTS = '<input name="signInName"><input type="password" name="password">'
_PAGE_ADDITIONS = {
    "captcha-widget": f'{_LOGIN_INPUTS}<div class="g-recaptcha" data-sitekey="x"></div>',
    "captcha-box": f'{_LOGIN_INPUTS}<label for="tekens">Typ de tekens over</label><input id="tekens" name="tekens">',
    "remember-me": f'{_LOGIN_INPUTS}<input type="checkbox" name="rememberMe"><a href="/x">Algemene voorwaarden</a>',
}
"""What the sign-in page shows besides; the last is harmless."""
RESPONSE_FAULTS: Mapping[str, Callable[[], web.Response]] = {
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


def change_response(fault: str, response: web.Response) -> web.Response | None:
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
    records = json.loads(response.text or "[]")
    for record in records:
        _RECORD_FAULTS[fault](record)
    return web.json_response(records)


def _add_unknown_codes(record: dict[str, Any]) -> None:
    """Add an unknown register, direction and unit."""
    for code in ({"dc": 7}, {"t": 5}, {"u": 9}):
        record["v"] = [*(record["v"] or []), {"dc": 1, "t": 1, "st": 0, "v": 1.5, "vs": 2, "u": 3, "gcuv": None} | code]


def _clear_values(record: dict[str, Any]) -> None:
    for entry in record["v"] or []:
        entry["v"] = None


def _add_odd_values(record: dict[str, Any]) -> None:
    """Add values that cannot be understood: not a number, negative, no register."""
    for odd in ({"v": "NaN"}, {"v": -0.25}, {"dc": None}):
        record["v"] = [*(record["v"] or []), {"dc": 1, "t": 1, "st": 0, "v": 1.5, "vs": 2, "u": 3, "gcuv": None} | odd]


def _rename_value(record: dict[str, Any]) -> None:
    for entry in record["v"] or []:
        entry["value"] = entry.pop("v")


def _drop_end(record: dict[str, Any]) -> None:
    del record["de"]


_RECORD_FAULTS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "codes": _add_unknown_codes,
    "odd": _add_odd_values,
    "nulls": _clear_values,
    "renamed-value": _rename_value,
    "endless": _drop_end,
}
