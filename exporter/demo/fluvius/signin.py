"""The sign-in of the simulated portal: Azure AD B2C's page flow, strict about cookies, proofs and lifetimes."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

TENANT = "/klanten.onmicrosoft.com/B2C_1A_customer_signup_signin"
POLICY = "B2C_1A_customer_signup_signin"
CLIENT = "0f0e0d0c-0b0a-4009-8008-070605040302"
SCOPES = {"openid", "offline_access", "https://klanten.onmicrosoft.com/MijnFluvius/user_impersonation"}
USERNAME, PASSWORD = "lena.peeters@example.com", "Kwartier+Piek=4 & meer"  # invented
TRIES = 5
LOCKED, CODE_LIFE, REFRESH_LIFE = timedelta(minutes=15), timedelta(minutes=10), timedelta(hours=24)
WRONG = "AADB2C90054", "De gebruikersnaam of het wachtwoord in de aanmeldingsgegevens is onjuist."
SHUT = "AADB2C90114", "Uw account is tijdelijk vergrendeld om onbevoegd gebruik te voorkomen."


@dataclass
class Transaction:
    """One page flow: what was asked for, the cookies it hangs on, and whether the password was right."""

    query: dict[str, str]
    csrf: str
    cookie: str
    passed: bool = False


@dataclass
class Code:
    """A code for tokens: works once, and not for long."""

    transaction: Transaction
    ends: datetime


@dataclass
class SignIn:
    """The login service; counts what a client does to it."""

    clock: Callable[[], datetime]
    life: timedelta = timedelta(hours=1)
    origin: str | None = None
    """Where the metadata says that the login service is; None: where the request came to."""
    portal: str = ""
    """Where the portal is, and a browser goes home to: there the metadata were asked for."""
    refreshes: bool = True
    sign_ins: int = 0
    renewals: int = 0
    password: str = PASSWORD
    transactions: dict[str, Transaction] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    tokens: dict[str, datetime] = field(default_factory=dict)
    refresh: dict[str, datetime] = field(default_factory=dict)
    wrong: list[datetime] = field(default_factory=list)
    made: int = 0

    def routes(self, app: web.Application) -> None:
        """Add the login service's addresses, and the metadata that lead to it."""
        app.router.add_get("/api/global/msal/config", self.metadata)
        app.router.add_get(f"{TENANT}/oauth2/v2.0/authorize", self.authorize)
        app.router.add_post(f"{TENANT}/SelfAsserted", self.self_asserted)
        app.router.add_get(f"{TENANT}/api/CombinedSigninAndSignup/confirmed", self.confirmed)
        app.router.add_get(f"{TENANT}/api/home", self.home)
        app.router.add_post(f"{TENANT}/oauth2/v2.0/token", self.token)

    def admits(self, authorization: str) -> bool:
        """Whether a bearer token is good now."""
        ends = self.tokens.get(authorization.removeprefix("Bearer "))
        return authorization.startswith("Bearer ") and ends is not None and self.clock() < ends

    async def metadata(self, request: web.Request) -> web.Response:
        """Say who the client is."""
        self.portal = here = str(request.url.origin())
        return web.json_response(
            {
                "auth": {"clientId": CLIENT, "authority": f"{self.origin or here}{TENANT}/", "redirectUri": f"{here}/"},
                "protectedResourceMap": {f"{here}/verbruik/api": {"httpMethod": "GET", "scopes": sorted(SCOPES)[1:]}},
            }
        )

    async def authorize(self, request: web.Request) -> web.Response:
        """Give the sign-in page, when the request is whole."""
        query = dict(request.query)
        fixed = {"client_id": CLIENT, "response_type": "code", "response_mode": "query", "code_challenge_method": "S256"}
        right = all(query.get(key) == value for key, value in fixed.items()) and query.get("redirect_uri") == f"{self.portal}/"
        right = right and set(query.get("scope", "").split()) >= SCOPES and len(query.get("code_challenge", "")) == 43
        if not right or min(len(query.get("state", "")), len(query.get("nonce", ""))) < 32:
            return web.Response(status=400, text="AADB2C90006: the request is not what the application is registered for")
        number = self._number()
        tx = f"StateProperties={_b64(json.dumps({'TID': number}))}"
        self.transactions[tx] = Transaction(query, csrf=_b64(f"csrf {number}") + "==", cookie=_b64(f"trans/{number}") + "=/==")
        return self._page(tx)

    async def self_asserted(self, request: web.Request) -> web.Response:
        """Judge e-mail and password: always with status 200, and as text/json."""
        transaction, form = self._transaction(request), await request.post()
        if transaction is None or request.headers.get("X-CSRF-TOKEN") != transaction.csrf:
            return _bad_request()
        if form.get("request_type") != "RESPONSE" or set(form) != {"request_type", "signInName", "password"}:
            return _bad_request()
        self.wrong = [at for at in self.wrong if self.clock() - at < LOCKED]
        if len(self.wrong) >= TRIES:
            return _verdict(*SHUT)
        if (form["signInName"], form["password"]) != (USERNAME, self.password):
            self.wrong.append(self.clock())
            return _verdict(*WRONG)
        transaction.passed = True
        return web.Response(text='{"status":"200"}', content_type="text/json")

    async def confirmed(self, request: web.Request) -> web.Response:
        """Send the browser on when the password was right."""
        transaction = self._transaction(request)
        if transaction is None or not transaction.passed or request.query.get("csrf_token") != transaction.csrf:
            return _bad_request()
        name = f"code.{self._number()}"
        self.codes[name] = Code(transaction, self.clock() + CODE_LIFE)
        to = urlencode({"state": transaction.query["state"], "client_info": _b64("{}"), "code": name})
        answer = web.Response(status=302, headers={"Location": f"{TENANT}/api/home?{urlencode({'to': to})}"})
        answer.headers.add("Set-Cookie", f"x-ms-cpim-sso:klanten.onmicrosoft.com/{POLICY.lower()}_0=bQ==; path=/; HttpOnly")
        return answer

    async def home(self, request: web.Request) -> web.Response:
        """Send the browser home with its code."""
        return web.Response(status=302, headers={"Location": f"{self.portal}/?{request.query['to']}"})

    async def token(self, request: web.Request) -> web.Response:
        """Swap a code or a refresh token, each once."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        right = self._code_right(form) if form.get("grant_type") == "authorization_code" else self._refresh_right(form)
        if form.get("client_id") != CLIENT or not right or not set(form.get("scope", "").split()) >= SCOPES:
            error = {"error": "invalid_grant", "error_description": "AADB2C90080: The provided grant has expired."}
            return web.json_response(error, status=400)
        number, now = self._number(), self.clock()
        access, refresh = f"eyJ.access.{number}", f"eyJ.refresh.{number}"
        self.tokens[access], self.refresh[refresh] = now + self.life, now + REFRESH_LIFE
        seconds = int(self.life.total_seconds())
        granted: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": str(seconds),
            "scope": form["scope"],
        }
        return web.json_response(granted | {"refresh_token": refresh, "refresh_token_expires_in": 86400})

    def _code_right(self, form: dict[str, str]) -> bool:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None or self.clock() >= code.ends:
            return False
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == code.transaction.query["code_challenge"]
        self.sign_ins += proven
        return proven and form.get("redirect_uri") == code.transaction.query["redirect_uri"]

    def _refresh_right(self, form: dict[str, str]) -> bool:
        ends = self.refresh.pop(form.get("refresh_token", ""), None)
        right = self.refreshes and form.get("grant_type") == "refresh_token" and ends is not None and self.clock() < ends
        self.renewals += right
        return right

    def _transaction(self, request: web.Request) -> Transaction | None:
        """Find the flow a request belongs to, when its cookies came back as they were set: unquoted."""
        sent = dict(pair.strip().split("=", 1) for pair in request.headers.get("Cookie", "").split(";") if "=" in pair)
        found = self.transactions.get(request.query.get("tx", ""))
        if found is None or request.query.get("p") != POLICY:
            return None
        return found if (sent.get("x-ms-cpim-csrf"), sent.get("x-ms-cpim-trans")) == (found.csrf, found.cookie) else None

    def _page(self, tx: str) -> web.Response:
        transaction = self.transactions[tx]
        answer = web.Response(text=page(tx, transaction.csrf), content_type="text/html")
        cookies = {"csrf": transaction.csrf, "trans": transaction.cookie, f"cache|{len(self.transactions)}_0": "bWFkZSB1cA=="}
        for name, value in cookies.items():
            answer.headers.add("Set-Cookie", f"x-ms-cpim-{name}={value}; path=/; HttpOnly")
        return answer

    def _number(self) -> str:
        self.made += 1
        return f"{self.made:08d}"


def page(tx: str, csrf: str, fields: tuple[str, ...] = ("signInName", "password"), api: str = "CombinedSigninAndSignup") -> str:
    """Write a page of the login service, its two variables among other script."""
    settings = {
        "remoteResource": "/x.html",
        "csrf": csrf,
        "transId": tx,
        "api": api,
        "hosts": {"tenant": TENANT, "policy": POLICY},
    }
    names = {"AttributeFields": [{"UX_INPUT_TYPE": "TextBox", "ID": name, "IS_PASSWORD": name == "password"} for name in fields]}
    return (
        "<!DOCTYPE html><html><head><title>Aanmelden</title><script>/* SETTINGS = soon */ var CP = {};</script>"
        f"<script data-container='true'>var CP = {{\"a\": 1}};var SA_FIELDS = {json.dumps(names)};"
        f'var SETTINGS = {json.dumps(settings)};var CONTENT = {{"x": "}};"}};</script></head><body><form></form></body></html>'
    )


def _verdict(code: str, message: str) -> web.Response:
    return web.Response(text=json.dumps({"status": "400", "errorCode": code, "message": message}), content_type="text/json")


def _bad_request() -> web.Response:
    return web.Response(status=400, text="<html><title>Bad Request</title></html>", content_type="text/html")


def _b64(text: str) -> str:
    return re.sub("=+$", "", base64.b64encode(text.encode()).decode())
