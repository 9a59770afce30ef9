"""The login: SAP Cloud Identity Services, OAuth 2 with PKCE, done the way a browser does it.

Five steps: the portal, the login page, its form, the password, the token. Every failure names its step. The provider
locks an account after five wrong passwords, so until the password is sent a failure may be tried again, and after that
**whatever is not a code is a refusal**, unless it says plainly that it is a maintenance page.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr
from yarl import URL

from exporter.answer import Answer
from exporter.errors import LoginError, PortalError, ResponseError, UnreachableError
from exporter.forms import Form, Page, read_page
from exporter.pkce import Proof
from exporter.portals.base import AnswerShape, understand
from exporter.session import Session
from exporter.tokens import Token

BROWSER = {"User-Agent": "Mozilla/5.0"}
"""What the portal has always been asked with."""
USER, PASSWORD = "j_username", "j_password"
HIDDEN = ("authenticity_token", "xsrfProtection", "RelayState", "spId", "targetUrl")
"""What the form has carried for years; without one of them it is another form, and no password is given to it."""

MAINTENANCE = r"maintenance|onderhoud|wartung|(temporarily|currently) unavailable|(on|niet )beschikbaar|indisponible"
LOCKED = r"\blocked|geblokkeerd|vergrendeld|bloqué|verrouillé|too many|te veel|trop de"
CAPTCHA = r"captcha|\brobot"
SECOND_FACTOR = (
    r"(two|multi|second).?(factor|step)|verification code|passcode|authenticator|one.?time|twee(staps|factor)"
    r"|verificatiecode|eenmalige code|(deux|double) (facteurs?|étapes|authentification)|code de vérification|usage unique"
)
RENEWAL = (
    r"(new|change|reset|expired).{0,20}password|password.{0,30}expired|nieuw wachtwoord|wachtwoord.{0,40}(verlopen|wijzig)"
    r"|nouveau mot de passe|mot de passe.{0,40}(expiré|modifi|chang)"
)
TERMS = r"terms|voorwaarden|conditions (générales|d.utilisation)"
WANTS = {
    LOCKED: "the account is locked; wait an hour, then sign in with a browser",
    CAPTCHA: "a captcha is asked for; sign in with a browser once",
    SECOND_FACTOR: "a second factor is asked for, which this program cannot give",
    RENEWAL: "a new password is asked for; sign in with a browser once",
    TERMS: "new terms are to be accepted; sign in with a browser once",
}
"""What a page without the login form asks a person for, in Dutch, English or French."""


@dataclass(frozen=True, slots=True)
class Client:
    """The portal's own OAuth 2 client, which is a public one: it has no secret."""

    portal_url: str
    identity_url: str
    client_id: str
    redirect_uri: str
    scope: str


class TokenAnswer(AnswerShape):
    """Step 5's answer. Where it does not say, a token lives 60 minutes, the product's default."""

    access_token: Annotated[str, Field(min_length=1)]
    expires_in: Annotated[float, Field(gt=0, le=366 * 86400)] | None = None
    """Seconds."""


async def log_in(session: Session, client: Client, username: str, password: SecretStr) -> Token:
    """Log in once, with one password sent at most.

    Raises LoginError (refused, or a person is wanted), UnreachableError (also a maintenance page), RateLimitError, and
    ResponseError (the login has changed).
    """
    login = Login(session, client)
    page = await login.ask()
    if not page.location:  # else a live session needs no password
        page = await login.send(login.form(page), username, password)
    return await login.swap(login.code(page))


class Login:
    """One login, with the proof and the state that belong to it alone."""

    def __init__(self, session: Session, client: Client) -> None:
        self._session, self._client = session, client
        self._proof, self._state = Proof.new(), secrets.token_hex(16)
        self._sent = False

    async def ask(self) -> Answer:
        """Steps 1 and 2: with an empty cookie jar, see the portal and ask for the login page."""
        await self._session.forget_cookies()
        with _step(1, "the portal"):  # one that is down costs no login
            await self._session.get(self._client.portal_url, headers=BROWSER)
        query = {
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_uri,
            "response_type": "code",
            "scope": self._client.scope,
            "state": self._state,
            "code_challenge": self._proof.challenge,
            "code_challenge_method": "S256",
            "response_mode": "query",
        }
        with _step(2, "the login page"):
            answer = await self._session.get(f"{self._client.identity_url}/oauth2/authorize", params=query, headers=BROWSER)
            if answer.status >= 400:
                raise ResponseError(f"status {answer.status}: are client_id and redirect_uri still right?")
            return answer

    def form(self, answer: Answer) -> Form:
        """Step 3: find the form, and see that it is the one we know and keeps the password on the identity host."""
        with _step(3, "the login form"):
            page = read_page(answer.text(), answer.url)
            form = next((form for form in page.forms if form.asks_for("password")), None)
            if form is None:
                raise UnreachableError("a maintenance page") if _says(page, MAINTENANCE) else ResponseError("there is none")
            if missing := [name for name in (USER, PASSWORD, *HIDDEN) if name not in form.values]:
                raise ResponseError(f"it has no input {', '.join(missing)}")
            if form.method != "post" or not form.stays_at(self._client.identity_url):
                raise ResponseError("it would send the password elsewhere than to the identity host")
            return form

    async def send(self, form: Form, username: str, password: SecretStr) -> Answer:
        """Step 4: send all the form carries, with user and password; the redirect is not followed."""
        filled = form.values | {USER: username, PASSWORD: password.get_secret_value()}
        with _step(4, "the password"):
            self._sent = True
            answer = await self._session.post(form.action, data=filled, headers=BROWSER)
            if not answer.location:
                raise _refusal(read_page(answer.text(), answer.url))
            return answer

    def code(self, answer: Answer) -> str:
        """Take the code out of the redirect that ends step 4 (or step 2, of a live session)."""
        with _step(4 if self._sent else 2, "the code"):
            target = URL(answer.location or "")
            refused = LoginError if self._sent else ResponseError
            if _bare(target) != _bare(URL(self._client.redirect_uri)):
                raise refused("sent on to another address than redirect_uri; sign in with a browser to see why")
            if error := target.query.get("error"):
                raise (
                    UnreachableError("not now") if error in _LATER else refused("the login was refused without a reason we know")
                )
            if target.query.get("state") != self._state:
                raise ResponseError("state is not the one that was sent")
            if not (code := target.query.get("code")):
                raise refused("there is none")
            return code

    async def swap(self, code: str) -> Token:
        """Step 5: change the code, which works once, for a token."""
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self._proof.verifier,
            "redirect_uri": self._client.redirect_uri,
            "client_id": self._client.client_id,
        }
        with _step(5, "the token"):
            answer = await self._session.post(f"{self._client.identity_url}/oauth2/token", data=data, headers=BROWSER)
            token = understand(TokenAnswer, answer.json())
            return Token(token.access_token, self._session.now + timedelta(seconds=token.expires_in or 3600))


_LATER = ("server_error", "temporarily_unavailable")
"""The two errors of OAuth 2 that are nobody's fault."""


@contextmanager
def _step(number: int, name: str) -> Iterator[None]:
    """Put the step's name before what went wrong in it."""
    try:
        yield
    except PortalError as error:
        error.args = (f"login, step {number} ({name}): {error}",)
        raise


def _refusal(page: Page) -> PortalError:
    """Say why a page came back instead of a redirect."""
    if any(form.asks_for("password") and PASSWORD in form.values for form in page.forms):
        known = next((WANTS[sign] for sign in (LOCKED, CAPTCHA) if _says(page, sign)), None)
        return LoginError(known or "user name or password is refused")
    if known := next((wanted for sign, wanted in WANTS.items() if _says(page, sign)), None):
        return LoginError(known)
    if _says(page, MAINTENANCE):
        return UnreachableError("a maintenance page")
    return LoginError("a page that we do not know came back; sign in with a browser to see what it asks")


def _says(page: Page, sign: str) -> bool:
    return re.search(sign, page.text, re.IGNORECASE) is not None


def _bare(url: URL) -> str:
    """An address without its query, and without the slash that stands for no path."""
    return str(url.with_query(None).with_fragment(None)).rstrip("/")
