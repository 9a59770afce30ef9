"""The simulated identity provider: login page, password, code, token, each strict about the one before."""

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
HIDDEN = ("authenticity_token", "xsrfProtection", "RelayState", "spId", "targetUrl")
COOKIE, SESSION = "JSESSIONID", "IDP_SESSION"
CODE_LIVES = timedelta(minutes=2)
SESSION_LIVES = timedelta(hours=12)
LOCKED_FOR = timedelta(hours=1)
TRIES = 5

SAID = {
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
"""What the pages say that stand where a redirect should be."""


@dataclass(slots=True)
class Visitor:
    """What the provider remembers of a cookie: the form it gave, by its two tokens and its query."""

    query: dict[str, str]
    tokens: tuple[str, str]


@dataclass(slots=True)
class Code:
    """A code that was given: for which challenge, and when."""

    challenge: str
    given: datetime


@dataclass(slots=True)
class Identity:
    """The provider's state. `logins` counts passwords sent, `lives` is how long a token works."""

    clock: Callable[[], datetime]
    username: str
    password: str
    language: str = "nl"
    lives: timedelta = timedelta(hours=1)
    logins: int = 0
    wrong: int = 0
    locked_until: datetime | None = None
    visitors: dict[str, Visitor] = field(default_factory=dict)
    sessions: dict[str, datetime] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    tokens: dict[str, datetime] = field(default_factory=dict)

    async def ask(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        """Step 2: the login page, or with a live session a redirect with a code."""
        query = dict(request.query)
        if complaint := self._complaint(query):
            return self._page(f"<p>{complaint}</p>", status=400)
        ends = self.sessions.get(request.cookies.get(SESSION, ""))
        if (ends and self.clock() < ends) or fault == "live_session":
            return self._redirect(query, fault)
        return self._form(request, query, fault)

    async def send(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        """Step 4: user and password."""
        query, sent = dict(request.query), {name: str(value) for name, value in (await request.post()).items()}
        visitor = self.visitors.pop(request.cookies.get(COOKIE, ""), None)
        if visitor is None or visitor.query != query or visitor.tokens != tuple(sent.get(name) for name in HIDDEN[:2]):
            return self._page("<p>Invalid authenticity token</p>", status=403)
        if any(name not in sent for name in HIDDEN) or sent["spId"] != "sp-1" or sent["RelayState"] != _readable(query):
            return self._page("<p>Bad request</p>", status=400)
        self.logins += 1
        if fault in SAID and fault not in ("wrong_password", "locked"):
            return self._page(f"<p>{SAID[fault][self.language]}</p>")
        if refused := self._refused(sent, fault):
            return self._form(request, query, "", SAID[refused][self.language])
        return self._redirect(query, fault)

    async def swap(self, request: web.Request, fault: str = "") -> web.StreamResponse:
        """Step 5: the token for the code."""
        sent = {name: str(value) for name, value in (await request.post()).items()}
        code = self.codes.pop(sent.get("code", ""), None)
        challenge = _base64url(hashlib.sha256(sent.get("code_verifier", "").encode()).digest())
        expected = {"grant_type": "authorization_code", "client_id": CLIENT_ID, "redirect_uri": REDIRECT_URI}
        good = code and code.challenge == challenge and self.clock() < code.given + CODE_LIVES
        if not good or any(sent.get(name) != value for name, value in expected.items()):
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = secrets.token_urlsafe(24)
        self.tokens[token] = self.clock() + self.lives
        answer = {"access_token": token, "id_token": "x", "token_type": "Bearer", "expires_in": int(self.lives.total_seconds())}
        if fault == "no_expiry":
            del answer["expires_in"]
        return web.Response(text=json.dumps(answer, separators=(",", ":")), content_type="application/json")

    def accepts(self, request: web.Request) -> bool:
        """Whether a call carries a token that works."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind == "Bearer" and self.clock() < self.tokens.get(token, self.clock())

    def _complaint(self, query: dict[str, str]) -> str:
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

    def _refused(self, sent: dict[str, str], fault: str) -> str:
        """Name the page that refuses a password: five wrong ones lock the account, then the right one does not help."""
        if self.locked_until and self.clock() >= self.locked_until:
            self.locked_until, self.wrong = None, 0
        if self.locked_until or fault == "locked":
            return "locked"
        if (sent.get("j_username"), sent.get("j_password")) == (self.username, self.password) and fault != "wrong_password":
            self.wrong = 0
            return ""
        self.wrong += 1
        if self.wrong >= TRIES:
            self.locked_until = self.clock() + LOCKED_FOR
        return "wrong_password"

    def _redirect(self, query: dict[str, str], fault: str) -> web.Response:
        code, session = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
        self.codes[code] = Code(query["code_challenge"], self.clock())
        self.sessions[session] = self.clock() + SESSION_LIVES
        state = "0" * 32 if fault == "wrong_state" else query["state"]
        answers = {"refused_code": "error=access_denied", "later": "error=temporarily_unavailable", "no_code": "iss=x"}
        told = answers.get(fault, f"code={code}&iss=https%3A%2F%2Fidp.invalid")
        site = "https://elsewhere.invalid/landing" if fault == "stray" else REDIRECT_URI
        answer = web.Response(status=302, headers={"Location": f"{site}?{told}&state={state}"})
        answer.set_cookie(SESSION, session, path="/identity", httponly=True)
        return answer

    def _form(self, request: web.Request, query: dict[str, str], fault: str, message: str = "") -> web.Response:
        visitor, tokens = secrets.token_urlsafe(18), (secrets.token_urlsafe(32), secrets.token_urlsafe(32) + "&<'\">")
        self.visitors[visitor] = Visitor(query, tokens)
        answer = self._page(_login_form(request, query, tokens, fault, message))
        answer.set_cookie(COOKIE, visitor, path="/identity", httponly=True)
        return answer

    def _page(self, body: str, status: int = 200) -> web.Response:
        head = "<!DOCTYPE html><html><head><title>Water-Link</title><script>var locked = 'captcha maintenance';</script></head>"
        return web.Response(status=status, text=f"{head}<body>{body}</body></html>", content_type="text/html")


def _login_form(request: web.Request, query: dict[str, str], tokens: tuple[str, str], fault: str, message: str) -> str:
    """The page's form, written as the product does: some values in single quotes, all escaped; a footer after it."""
    here = request.path_qs
    values = dict(zip(HIDDEN, (*tokens, _readable(query), "sp-1", here), strict=True))
    renamed = fault.removeprefix("renamed:") if fault.startswith("renamed:") else ""
    hidden = "".join(_hidden(f"{name}New" if name == renamed else name, value) for name, value in values.items())
    action = "https://elsewhere.invalid/collect" if fault == "foreign_action" else here
    method = "get" if fault == "get_form" else "post"
    return (
        '<form action="/identity/language" method="get"><input name="lang" value="fr"><button>FR</button></form>'
        f"<div class='message'>{message}</div>"
        f"<form id='logOnForm' action='{html.escape(action)}' method='{method}'>{hidden}"
        "<input type='hidden' name='utf8' value='&#x2713;'><input type='hidden' name='method' value='GET'>"
        "<input type='hidden' name='sp' value='DIP Front-end'><input type='hidden' name='tfaToken' value=''>"
        "<input type='email' name='j_username'><input type='password' name='j_password'>"
        "<input type='checkbox' name='remember'><button type='submit' name='go' value='1'>OK</button></form>"
        "<a href='#'>Wachtwoord vergeten?</a> <a href='#'>Gebruiksvoorwaarden</a> <a href='#'>Terms of Use</a>"
    )


def _hidden(name: str, value: str) -> str:
    if name.startswith(("spId", "targetUrl")):
        return f"<input name='{name}' type='hidden' value='{html.escape(value)}'/>"
    return f'<input name="{name}" value="{html.escape(value)}" type="hidden"/>'


def _readable(query: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in query.items())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
