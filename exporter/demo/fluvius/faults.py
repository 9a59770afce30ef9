"""The faults that only this portal knows: pages that want more, answers that changed."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from exporter.demo.fluvius import signin


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


def _refused(message: str, code: str = "") -> web.Response:
    return web.Response(text=json.dumps({"status": "400", "errorCode": code, "message": message}), content_type="text/json")


BODIES: Mapping[str, Callable[[], web.Response]] = {
    "second-factor": lambda: _html(signin.page("x", "y", ("verificationCode",), "SelfAsserted")),
    "conditions": lambda: _html(signin.page("x", "y", ("extension_termsOfUse",), "SelfAsserted")),
    "locked": lambda: _refused("Uw account is tijdelijk vergrendeld.", "AADB2C90114"),
    "professional": lambda: _refused("Meld u aan met itsme voor uw professionele account."),
    "captcha": lambda: _refused("Los de CAPTCHA op."),
    "denied": lambda: web.Response(status=302, headers={"Location": "/?error=access_denied&error_description=AADB2C90091%3A+x"}),
    "elsewhere": lambda: web.Response(status=302, headers={"Location": "https://elsewhere.invalid/next"}),
    "nowhere": lambda: web.Response(status=302, headers={"Location": "http://[nowhere"}),
    "circle": lambda: web.Response(status=302, headers={"Location": f"{signin.TENANT}/api/home?to=circle"}),
    "expired": lambda: web.Response(status=401),
    "object": lambda: web.json_response({"message": "onderhoud"}),
    "verdictless": lambda: web.Response(text="{}", content_type="text/json"),
}


def changed(fault: str, answer: web.Response) -> web.Response | None:
    """Change a right answer in the way a fault says; None for a fault that is none of these."""
    if fault == "renamed":
        return _html((answer.text or "").replace("var SETTINGS", "var INSTELLINGEN"))
    if fault == "other-state":
        return web.Response(status=302, headers={"Location": answer.headers["Location"].replace("state=", "state=x")})
    if fault not in _DATA:
        return None
    records = json.loads(answer.text or "[]")
    for record in records:
        _DATA[fault](record)
    return web.json_response(records)


def _unknown_codes(record: dict[str, Any]) -> None:
    """A register, a direction and a unit that nobody has seen."""
    for code in ({"dc": 7}, {"t": 5}, {"u": 9}):
        record["v"] = [*(record["v"] or []), {"dc": 1, "t": 1, "st": 0, "v": 1.5, "vs": 2, "u": 3, "gcuv": None} | code]


def _nulls(record: dict[str, Any]) -> None:
    for entry in record["v"] or []:
        entry["v"] = None


def _renamed_value(record: dict[str, Any]) -> None:
    for entry in record["v"] or []:
        entry["value"] = entry.pop("v")


def _no_end(record: dict[str, Any]) -> None:
    del record["de"]


_DATA: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "codes": _unknown_codes,
    "nulls": _nulls,
    "renamed-value": _renamed_value,
    "endless": _no_end,
}
