"""The simulated identity provider of Water-Link: login page, password, code, token, each strict about the one before."""

import base64
import hashlib
import html
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiohttp import web

CLIENT_ID = "07967700-64cf-4f26-825c-b13042574400"
REDIRECT_URI = "https://portaaldigitalemeters.water-link.be"
HIDDEN_FIELDS = ("authenticity_token", "xsrfProtection", "RelayState", "spId", "targetUrl")
VISITOR_COOKIE, SESSION_COOKIE = "JSESSIONID", "IDP_SESSION"
CODE_LIFETIME = timedelta(minutes=2)
SESSION_LIFETIME = timedelta(hours=12)
LOCK_DURATION = timedelta(hours=1)
MAX_WRONG_PASSWORDS = 5

PAGE_TEXTS = {
    "wrong_password": {
        "nl": "Uw aanmelding is mislukt. Controleer uw e-mail en wachtwoord.",
        "fr": "Échec de la connexion : identifiant ou mot de passe incorrect.",
        "en": "We could not authenticate you. Try again.",
    },
    "locked": {
        "nl": "Uw account is vergrendeld. Probeer het over een uur opnieuw.",
        "fr": "Votre compte est verrouillé. Réessayez dans une heure.",
        "en": "Your account has been locked for one hour.",
    },
    "second_factor": {
        "nl": "Tweestapsverificatie: geef de verificatiecode in.",
        "fr": "Authentification à deux facteurs : saisissez le code.",
        "en": "Two-Factor Authentication: enter the passcode of your device.",
    },
    "terms": {
        "nl": "De gebruiksvoorwaarden zijn gewijzigd. Aanvaard ze om verder te gaan.",
        "fr": "Nos conditions d’utilisation ont changé. Acceptez-les pour continuer.",
        "en": "Our Terms of Use have changed. Accept them to continue.",
    },
    "new_password": {
        "nl": "Uw wachtwoord is verlopen. Kies een nieuw wachtwoord.",
        "fr": "Votre mot de passe a expiré. Choisissez-en un autre.",
        "en": "Your password has expired. Choose another one.",
    },
    "captcha": {"nl": "Ik ben geen robot", "fr": "Je ne suis pas un robot", "en": "Type the captcha"},
    "maintenance": {
        "nl": "Onderhoud: deze dienst is even niet beschikbaar.",
        "fr": "Service indisponible pour cause de maintenance.",
        "en": "This service is temporarily unavailable.",
    },
    "unknown_page": {"nl": "Welkom!", "fr": "Bienvenue !", "en": "Welcome!"},
}
"""The texts of pages that come instead of a redirect."""
_WIDGET = "<div class='g-recaptcha' data-sitekey='x'></div>"
FURTHER_FIELDS = {
    "captcha_widget": dict.fromkeys(("nl", "fr", "en"), _WIDGET),
    "captcha_box": {
        "nl": "<label for='c'>Typ de tekens over</label><input id='c' name='answer'>",
        "fr": "<label>Recopiez les caractères <input name='answer'></label>",
        "en": "<input name='answer' placeholder='Type the characters you see'>",
    },
    "code_box": {
        "nl": "<label>Verificatiecode <input name='answer'></label>",
        "fr": "<label>Code de vérification <input name='answer'></label>",
        "en": "<input name='answer' autocomplete='one-time-code'>",
    },
    "further_box": dict.fromkeys(("nl", "fr", "en"), "<input name='answer'>"),
}
"""What a login page asks for besides the password, by fault and language."""


@dataclass(slots=True)
class LoginVisitor:
    """The login page that belongs to a cookie: its query, and the two tokens in its form."""

    query: dict[str, str]
    tokens: tuple[str, str]


@dataclass(slots=True)
class IssuedCode:
    """An authorization code: for which challenge, and when it was issued."""

    challenge: str
    issued_at: datetime


@dataclass(slots=True)
class IdentityProvider:
    """The provider's state; `login_count` counts the passwords sent."""

    clock: Callable[[], datetime]
    username: str
    password: str
    language: str = "nl"
    token_lifetime: timedelta = timedelta(hours=1)
    refresh_lifetime: timedelta | None = timedelta(hours=12)
    """How long a refresh token can be used; None: there are none."""
    login_count: int = 0
    renewals: int = 0
    wrong_passwords: int = 0
    locked_until: datetime | None = None
    visitors: dict[str, LoginVisitor] = field(default_factory=dict)
    sessions: dict[str, datetime] = field(default_factory=dict)
    codes: dict[str, IssuedCode] = field(default_factory=dict)
    tokens: dict[str, datetime] = field(default_factory=dict)
    refresh_tokens: dict[str, datetime] = field(default_factory=dict)

    async def handle_authorize(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        """Step 2: the login page, or with a live session a redirect with a code."""
        query = dict(request.query)
        if error := self._find_request_error(query):
            return self._respond_with_page(f"<p>{error}</p>", status=400)
        expires_at = self.sessions.get(request.cookies.get(SESSION_COOKIE, ""))
        if (expires_at and self.clock() < expires_at) or fault == "live_session":
            return self._respond_with_redirect(query, fault)
        return self._respond_with_form(request, query, fault)

    async def handle_password(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        """Step 4: user and password."""
        query, form = dict(request.query), {name: str(value) for name, value in (await request.post()).items()}
        visitor = self.visitors.pop(request.cookies.get(VISITOR_COOKIE, ""), None)
        if visitor is None or visitor.query != query or visitor.tokens != tuple(form.get(name) for name in HIDDEN_FIELDS[:2]):
            return self._respond_with_page("<p>Invalid authenticity token</p>", status=403)
        if any(name not in form for name in HIDDEN_FIELDS) or form["spId"] != "sp-1" or form["RelayState"] != _join_query(query):
            return self._respond_with_page("<p>Bad request</p>", status=400)
        self.login_count += 1
        if fault == "marked_page":
            return self._respond_with_page("<main data-page='ids-two_factor_choice/logon'>Pokračujte prosím</main>")
        if fault in PAGE_TEXTS and fault not in ("wrong_password", "locked"):
            return self._respond_with_page(f"<p>{PAGE_TEXTS[fault][self.language]}</p>")
        if refusal := self._find_refusal(form, fault):
            return self._respond_with_form(request, query, "", PAGE_TEXTS[refusal][self.language])
        return self._respond_with_redirect(query, fault)

    async def handle_token(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        """Step 5: the token for the code, or for a refresh token."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") == "refresh_token":
            return self._renew(form, fault)
        code = self.codes.pop(form.get("code", ""), None)
        challenge = _base64url(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        expected = {"grant_type": "authorization_code", "client_id": CLIENT_ID, "redirect_uri": REDIRECT_URI}
        is_valid = code and code.challenge == challenge and self.clock() < code.issued_at + CODE_LIFETIME
        if not is_valid or any(form.get(name) != value for name, value in expected.items()):
            return web.json_response({"error": "invalid_grant"}, status=400)
        return self._respond_with_token(fault)

    def _renew(self, form: dict[str, str], fault: str) -> web.Response:
        """Renew a token; a refresh token works once, and for five minutes more."""
        expires_at = self.refresh_tokens.get(form.get("refresh_token", ""), self.clock())
        if form.get("client_id") != CLIENT_ID or self.clock() >= expires_at:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.refresh_tokens[form["refresh_token"]] = min(expires_at, self.clock() + timedelta(minutes=5))
        self.renewals += 1
        return self._respond_with_token(fault)

    def _respond_with_token(self, fault: str) -> web.Response:
        token = secrets.token_urlsafe(24)
        self.tokens[token] = self.clock() + self.token_lifetime
        body = {
            "access_token": token,
            "id_token": "x",
            "token_type": "Bearer",
            "expires_in": int(self.token_lifetime.total_seconds()),
        }
        if self.refresh_lifetime:
            body["refresh_token"] = secrets.token_urlsafe(24)
            self.refresh_tokens[str(body["refresh_token"])] = self.clock() + self.refresh_lifetime
        if fault == "no_expiry":
            del body["expires_in"]
        return web.Response(text=json.dumps(body, separators=(",", ":")), content_type="application/json")

    def has_valid_token(self, request: web.Request) -> bool:
        """Return whether a request has a token that is valid."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind == "Bearer" and self.clock() < self.tokens.get(token, self.clock())

    def _find_request_error(self, query: dict[str, str]) -> str:
        expected = {
            "client_id": CLIENT_ID,
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": "openid",
            "code_challenge_method": "S256",
            "response_mode": "query",
        }
        wrong = [name for name, value in expected.items() if query.get(name) != value]
        wrong += ["code_challenge"] * (len(query.get("code_challenge", "")) != 43) + ["state"] * (not query.get("state"))
        return f"invalid request: {html.escape(', '.join(wrong))}" if wrong else ""

    def _find_refusal(self, form: dict[str, str], fault: str) -> str:
        """Return the page that refuses a password; five wrong ones lock the account, for the right one too."""
        if self.locked_until and self.clock() >= self.locked_until:
            self.locked_until, self.wrong_passwords = None, 0
        if self.locked_until or fault == "locked":
            return "locked"
        if (form.get("j_username"), form.get("j_password")) == (self.username, self.password) and fault != "wrong_password":
            self.wrong_passwords = 0
            return ""
        self.wrong_passwords += 1
        if self.wrong_passwords >= MAX_WRONG_PASSWORDS:
            self.locked_until = self.clock() + LOCK_DURATION
        return "wrong_password"

    def _respond_with_redirect(self, query: dict[str, str], fault: str) -> web.Response:
        code, session = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
        self.codes[code] = IssuedCode(query["code_challenge"], self.clock())
        self.sessions[session] = self.clock() + SESSION_LIFETIME
        state = "0" * 32 if fault == "wrong_state" else query["state"]
        parameters = {"refused_code": "error=access_denied", "later": "error=temporarily_unavailable", "no_code": "iss=x"}
        result = parameters.get(fault, f"code={code}&iss=https%3A%2F%2Fidp.invalid")
        site = "https://elsewhere.invalid/landing" if fault == "stray" else REDIRECT_URI
        response = web.Response(status=302, headers={"Location": f"{site}?{result}&state={state}"})
        response.set_cookie(SESSION_COOKIE, session, path="/identity", httponly=True)
        return response

    def _respond_with_form(self, request: web.Request, query: dict[str, str], fault: str, message: str = "") -> web.Response:
        visitor, tokens = secrets.token_urlsafe(18), (secrets.token_urlsafe(32), secrets.token_urlsafe(32) + "&<'\">")
        self.visitors[visitor] = LoginVisitor(query, tokens)
        response = self._respond_with_page(_build_login_form(request, query, tokens, fault, message, self.language))
        response.set_cookie(VISITOR_COOKIE, visitor, path="/identity", httponly=True)
        return response

    def _respond_with_page(self, body: str, status: int = 200) -> web.Response:
        head = "<!DOCTYPE html><html><head><title>Water-Link</title><script>var locked = 'captcha maintenance';</script></head>"
        return web.Response(status=status, text=f"{head}<body>{body}</body></html>", content_type="text/html")


def _build_login_form(
    request: web.Request, query: dict[str, str], tokens: tuple[str, str], fault: str, message: str, language: str
) -> str:
    """Return the page's form as the product writes it: some values in single quotes, all escaped; a footer after it."""
    target = request.path_qs
    values = dict(zip(HIDDEN_FIELDS, (*tokens, _join_query(query), "sp-1", target), strict=True))
    renamed = fault.removeprefix("renamed:") if fault.startswith("renamed:") else ""
    hidden = "".join(_build_hidden_input(f"{name}New" if name == renamed else name, value) for name, value in values.items())
    action = "https://elsewhere.invalid/collect" if fault == "foreign_action" else target
    method = "get" if fault == "get_form" else "post"
    further = FURTHER_FIELDS.get(fault, {}).get(language, "")
    base = ""
    if fault == "base_href":
        base, action = "<base href='/identity/'>", target.removeprefix("/identity/")
    return (
        f"{base}"
        '<form action="/identity/language" method="get"><input name="lang" value="fr"><button>FR</button></form>'
        f"<div class='message'>{message}</div>"
        f"<form id='logOnForm' action='{html.escape(action)}' method='{method}'>{hidden}"
        "<input type='hidden' name='utf8' value='&#x2713;'><input type='hidden' name='method' value='GET'>"
        "<input type='hidden' name='sp' value='DIP Front-end'><input type='hidden' name='tfaToken' value=''>"
        f"<input type='email' name='j_username'><input type='password' name='j_password'>{further}"
        "<input type='checkbox' name='remember'><button type='submit' name='go' value='1'>OK</button></form>"
        "<a href='#'>Wachtwoord vergeten?</a> <a href='#'>Gebruiksvoorwaarden</a> <a href='#'>Terms of Use</a>"
    )


def _build_hidden_input(name: str, value: str) -> str:
    if name.startswith(("spId", "targetUrl")):
        return f"<input name='{name}' type='hidden' value='{html.escape(value)}'/>"
    return f'<input name="{name}" value="{html.escape(value)}" type="hidden"/>'


def _join_query(query: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in query.items())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
