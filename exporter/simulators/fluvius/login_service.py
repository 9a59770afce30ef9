"""The login service of the simulated portal: Azure AD B2C's page flow, strict about cookies, PKCE and lifetimes."""

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

TENANT_PATH = "/klanten.onmicrosoft.com/B2C_1A_customer_signup_signin"
POLICY = "B2C_1A_customer_signup_signin"
CLIENT_ID = "0f0e0d0c-0b0a-4009-8008-070605040302"
SCOPES = {"openid", "offline_access", "https://klanten.onmicrosoft.com/MijnFluvius/user_impersonation"}
USERNAME, PASSWORD = "lena.peeters@example.com", "Kwartier+Piek=4 & meer"  # invented
MAX_WRONG_PASSWORDS = 5
LOCK_DURATION, CODE_LIFETIME, REFRESH_LIFETIME = timedelta(minutes=15), timedelta(minutes=10), timedelta(hours=24)
WRONG_PASSWORD = "AADB2C90054", "De gebruikersnaam of het wachtwoord in de aanmeldingsgegevens is onjuist."
ACCOUNT_LOCKED = "AADB2C90114", "Uw account is tijdelijk vergrendeld om onbevoegd gebruik te voorkomen."


@dataclass
class LoginTransaction:
    """One page flow: its query, its cookies, and whether the password was accepted."""

    query: dict[str, str]
    csrf: str
    cookie: str
    password_accepted: bool = False


@dataclass
class AuthorizationCode:
    """An authorization code; valid once."""

    transaction: LoginTransaction
    expires_at: datetime


@dataclass
class LoginService:
    """The login service; counts logins and renewals."""

    clock: Callable[[], datetime]
    token_lifetime: timedelta = timedelta(hours=1)
    origin: str | None = None
    """The origin of the login service in the metadata; None: that of the request."""
    portal_origin: str = ""
    """The origin of the portal, at which the metadata was requested; redirects lead there."""
    allows_refresh: bool = True
    login_count: int = 0
    renewal_count: int = 0
    password: str = PASSWORD
    transactions: dict[str, LoginTransaction] = field(default_factory=dict)
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    tokens: dict[str, datetime] = field(default_factory=dict)
    refresh_tokens: dict[str, datetime] = field(default_factory=dict)
    wrong_passwords: list[datetime] = field(default_factory=list)
    issued_numbers: int = 0

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of the login service and of its metadata."""
        app.router.add_get("/api/global/msal/config", self.get_metadata)
        app.router.add_get(f"{TENANT_PATH}/oauth2/v2.0/authorize", self.authorize)
        app.router.add_post(f"{TENANT_PATH}/SelfAsserted", self.check_credentials)
        app.router.add_get(f"{TENANT_PATH}/api/CombinedSigninAndSignup/confirmed", self.confirm_login)
        app.router.add_get(f"{TENANT_PATH}/api/home", self.redirect_again)
        app.router.add_post(f"{TENANT_PATH}/oauth2/v2.0/token", self.issue_token)

    def accepts_token(self, authorization: str) -> bool:
        """Return whether a bearer token is valid now."""
        ends = self.tokens.get(authorization.removeprefix("Bearer "))
        return authorization.startswith("Bearer ") and ends is not None and self.clock() < ends

    async def get_metadata(self, request: web.Request) -> web.Response:
        """Return the OAuth metadata."""
        self.portal_origin = origin = str(request.url.origin())
        return web.json_response(
            {
                "auth": {
                    "clientId": CLIENT_ID,
                    "authority": f"{self.origin or origin}{TENANT_PATH}/",
                    "redirectUri": f"{origin}/",
                },
                "protectedResourceMap": {f"{origin}/verbruik/api": {"httpMethod": "GET", "scopes": sorted(SCOPES)[1:]}},
            }
        )

    async def authorize(self, request: web.Request) -> web.Response:
        """Return the login page for a complete request."""
        query = dict(request.query)
        fixed = {"client_id": CLIENT_ID, "response_type": "code", "response_mode": "query", "code_challenge_method": "S256"}
        is_valid = (
            all(query.get(key) == value for key, value in fixed.items()) and query.get("redirect_uri") == f"{self.portal_origin}/"
        )
        is_valid = is_valid and set(query.get("scope", "").split()) >= SCOPES and len(query.get("code_challenge", "")) == 43
        if not is_valid or min(len(query.get("state", "")), len(query.get("nonce", ""))) < 32:
            return web.Response(status=400, text="AADB2C90006: the request is not what the application is registered for")
        number = self._next_number()
        tx = f"StateProperties={_base64url(json.dumps({'TID': number}))}"
        self.transactions[tx] = LoginTransaction(
            query, csrf=_base64url(f"csrf {number}") + "==", cookie=_base64url(f"trans/{number}") + "=/=="
        )
        return self._respond_with_page(tx)

    async def check_credentials(self, request: web.Request) -> web.Response:
        """Check e-mail and password; always status 200, as text/json."""
        transaction, form = self._find_transaction(request), await request.post()
        if transaction is None or request.headers.get("X-CSRF-TOKEN") != transaction.csrf:
            return _bad_request()
        if form.get("request_type") != "RESPONSE" or set(form) != {"request_type", "signInName", "password"}:
            return _bad_request()
        self.wrong_passwords = [at for at in self.wrong_passwords if self.clock() - at < LOCK_DURATION]
        if len(self.wrong_passwords) >= MAX_WRONG_PASSWORDS:
            return _build_verdict(*ACCOUNT_LOCKED)
        if (form["signInName"], form["password"]) != (USERNAME, self.password):
            self.wrong_passwords.append(self.clock())
            return _build_verdict(*WRONG_PASSWORD)
        transaction.password_accepted = True
        return web.Response(text='{"status":"200"}', content_type="text/json")

    async def confirm_login(self, request: web.Request) -> web.Response:
        """Redirect when the password was accepted."""
        transaction = self._find_transaction(request)
        if transaction is None or not transaction.password_accepted or request.query.get("csrf_token") != transaction.csrf:
            return _bad_request()
        name = f"code.{self._next_number()}"
        self.codes[name] = AuthorizationCode(transaction, self.clock() + CODE_LIFETIME)
        to = urlencode({"state": transaction.query["state"], "client_info": _base64url("{}"), "code": name})
        response = web.Response(status=302, headers={"Location": f"{TENANT_PATH}/api/home?{urlencode({'to': to})}"})
        response.headers.add("Set-Cookie", f"x-ms-cpim-sso:klanten.onmicrosoft.com/{POLICY.lower()}_0=bQ==; path=/; HttpOnly")
        return response

    async def redirect_again(self, request: web.Request) -> web.Response:
        """Redirect to the portal with the code."""
        return web.Response(status=302, headers={"Location": f"{self.portal_origin}/?{request.query['to']}"})

    async def issue_token(self, request: web.Request) -> web.Response:
        """Return a token for a code or a refresh token, each valid once."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        is_valid = self._is_code_valid(form) if form.get("grant_type") == "authorization_code" else self._is_refresh_valid(form)
        if form.get("client_id") != CLIENT_ID or not is_valid or not set(form.get("scope", "").split()) >= SCOPES:
            error = {"error": "invalid_grant", "error_description": "AADB2C90080: The provided grant has expired."}
            return web.json_response(error, status=400)
        number, now = self._next_number(), self.clock()
        access, refresh = f"eyJ.access.{number}", f"eyJ.refresh.{number}"
        self.tokens[access], self.refresh_tokens[refresh] = now + self.token_lifetime, now + REFRESH_LIFETIME
        seconds = int(self.token_lifetime.total_seconds())
        granted: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": str(seconds),
            "scope": form["scope"],
        }
        return web.json_response(granted | {"refresh_token": refresh, "refresh_token_expires_in": 86400})

    def _is_code_valid(self, form: dict[str, str]) -> bool:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None or self.clock() >= code.expires_at:
            return False
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == code.transaction.query["code_challenge"]
        self.login_count += proven
        return proven and form.get("redirect_uri") == code.transaction.query["redirect_uri"]

    def _is_refresh_valid(self, form: dict[str, str]) -> bool:
        ends = self.refresh_tokens.pop(form.get("refresh_token", ""), None)
        is_valid = self.allows_refresh and form.get("grant_type") == "refresh_token" and ends is not None and self.clock() < ends
        self.renewal_count += is_valid
        return is_valid

    def _find_transaction(self, request: web.Request) -> LoginTransaction | None:
        """Return the transaction of a request whose cookies are as they were set: unquoted."""
        sent = dict(pair.strip().split("=", 1) for pair in request.headers.get("Cookie", "").split(";") if "=" in pair)
        found = self.transactions.get(request.query.get("tx", ""))
        if found is None or request.query.get("p") != POLICY:
            return None
        return found if (sent.get("x-ms-cpim-csrf"), sent.get("x-ms-cpim-trans")) == (found.csrf, found.cookie) else None

    def _respond_with_page(self, tx: str) -> web.Response:
        transaction = self.transactions[tx]
        response = web.Response(text=build_page(tx, transaction.csrf), content_type="text/html")
        cookies = {"csrf": transaction.csrf, "trans": transaction.cookie, f"cache|{len(self.transactions)}_0": "bWFkZSB1cA=="}
        for name, value in cookies.items():
            response.headers.add("Set-Cookie", f"x-ms-cpim-{name}={value}; path=/; HttpOnly")
        return response

    def _next_number(self) -> str:
        self.issued_numbers += 1
        return f"{self.issued_numbers:08d}"


def build_page(
    tx: str, csrf: str, fields: tuple[str, ...] = ("signInName", "password"), api: str = "CombinedSigninAndSignup"
) -> str:
    """Return a page of the login service, its two variables among other scripts."""
    settings = {
        "remoteResource": "/x.html",
        "csrf": csrf,
        "transId": tx,
        "api": api,
        "hosts": {"tenant": TENANT_PATH, "policy": POLICY},
    }
    names = {"AttributeFields": [{"UX_INPUT_TYPE": "TextBox", "ID": name, "IS_PASSWORD": name == "password"} for name in fields]}
    return (
        "<!DOCTYPE html><html><head><title>Aanmelden</title><script>/* SETTINGS = soon */ var CP = {};</script>"
        f"<script data-container='true'>var CP = {{\"a\": 1}};var SA_FIELDS = {json.dumps(names)};"
        f'var SETTINGS = {json.dumps(settings)};var CONTENT = {{"x": "}};"}};</script></head><body><form></form></body></html>'
    )


def _build_verdict(code: str, message: str) -> web.Response:
    return web.Response(text=json.dumps({"status": "400", "errorCode": code, "message": message}), content_type="text/json")


def _bad_request() -> web.Response:
    return web.Response(status=400, text="<html><title>Bad Request</title></html>", content_type="text/html")


def _base64url(text: str) -> str:
    return re.sub("=+$", "", base64.b64encode(text.encode()).decode())
