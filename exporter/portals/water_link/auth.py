"""The login of Water-Link: SAP Cloud Identity Services, OAuth 2 with PKCE, as a browser does it.

Five steps: the portal, the login page, its form, the password, the token. Every error names its step. The provider
locks an account after five wrong passwords: a failure before the password is sent may be retried; after that
**everything but a code is a refused login**, except a maintenance page. A token that has expired is renewed by its refresh
token, if the provider issues one.
"""

import re
import secrets
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Annotated

from pydantic import Field
from yarl import URL

from exporter.client.html_forms import UNKNOWN_STEP_HINT, HtmlForm, HtmlPage, RequiredStep, parse_page
from exporter.client.login_attempts import post_password
from exporter.client.pkce import PkcePair
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.portals.base import Detail, ResponseModel, parse_response, prefix_errors
from exporter.portals.water_link.config import WaterLinkConfig

BROWSER_HEADERS = {"User-Agent": "Mozilla/5.0"}
"""The headers that the portal is known to accept."""
USER_FIELD, PASSWORD_FIELD = "j_username", "j_password"
HIDDEN_FIELDS = ("authenticity_token", "xsrfProtection", "RelayState", "spId", "targetUrl")
"""The hidden inputs of the form; without one of them it is another form, and gets no password."""

MAINTENANCE = r"maintenance|onderhoud|wartung|(temporarily|currently) unavailable|(on|niet )beschikbaar|indisponible"
LOCKED = r"\blocked|geblokkeerd|vergrendeld|bloqué|verrouillé|too many|te veel|trop de"
LOCKED_MESSAGE = "the account is locked; wait an hour, then sign in with a browser"
_KNOWN_FIELDS = frozenset({USER_FIELD, PASSWORD_FIELD})


class TokenResponse(ResponseModel):
    """The response of step 5; without `expires_in` a token lives 60 minutes, the product's default."""

    access_token: Annotated[str, Field(min_length=1)]
    expires_in: Annotated[float, Field(gt=0, le=366 * 86400)] | None = None
    """Seconds."""
    refresh_token: Detail[str] = None


async def renew_or_log_in(session: Session, config: WaterLinkConfig, previous: Token | None) -> Token:
    """Renew a token that has expired by its refresh token, if there is one that is accepted; else log in.

    Raise what `log_in` raises.
    """
    refresh_token = previous.extra.get("refresh_token") if previous and previous.extra else None
    # A token refused before it expired was revoked, and its refresh token with it.
    if previous and refresh_token and session.now >= previous.expires_at - timedelta(minutes=2):
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": config.client_id}
        try:
            return await request_token(session, config, form)
        except (UnreachableError, RateLimitError):
            raise
        except PortalError:
            pass
    return await log_in(session, config)


async def request_token(session: Session, config: WaterLinkConfig, form: dict[str, str]) -> Token:
    """Return the token for a code or a refresh token. Raise ResponseError."""
    response = await session.post(f"{config.identity_url}/oauth2/token", data=form, headers=BROWSER_HEADERS)
    body = parse_response(TokenResponse, response.json())
    expires_at = session.now + timedelta(seconds=body.expires_in or 3600)
    refresh_token = body.refresh_token or form.get("refresh_token")
    return Token(body.access_token, expires_at, {"refresh_token": refresh_token} if refresh_token else None)


async def log_in(session: Session, config: WaterLinkConfig) -> Token:
    """Log in once, sending at most one password.

    Raise LoginError (refused, or a person must act), UnreachableError (also for a maintenance page), RateLimitError, and
    ResponseError (the login has changed).
    """
    login = LoginFlow(session, config)
    page = await login.request_login_page()
    if not page.location:  # else a live session needs no password
        page = await login.submit_form(login.find_form(page))
    return await login.redeem_code(login.extract_code(page))


class LoginFlow:
    """One login, with its own PKCE verifier and state."""

    def __init__(self, session: Session, config: WaterLinkConfig) -> None:
        self._session, self._config = session, config
        self._pkce, self._state = PkcePair.generate(), secrets.token_hex(16)
        self._password_sent = False

    async def request_login_page(self) -> Response:
        """Steps 1 and 2: with an empty cookie jar, request the portal and the login page."""
        await self._session.clear_cookies()
        with _prefix_step_errors(1, "the portal"):  # one that is down costs no login
            await self._session.get(self._config.portal_url, headers=BROWSER_HEADERS)
        query = {
            "client_id": self._config.client_id,
            "redirect_uri": self._config.redirect_uri,
            "response_type": "code",
            "scope": self._config.scope,
            "state": self._state,
            "code_challenge": self._pkce.challenge,
            "code_challenge_method": "S256",
            "response_mode": "query",
        }
        with _prefix_step_errors(2, "the login page"):
            response = await self._session.get(
                f"{self._config.identity_url}/oauth2/authorize", params=query, headers=BROWSER_HEADERS
            )
            if response.status >= 400:
                raise ResponseError(f"status {response.status}: are client_id and redirect_uri still right?")
            return response

    def find_form(self, response: Response) -> HtmlForm:
        """Step 3: return the form; raise ResponseError if it is unknown or would send the password to another host."""
        with _prefix_step_errors(3, "the login form"):
            page = parse_page(response.text(), response.url)
            form = next((form for form in page.forms if form.has_input("password")), None)
            if form is None:
                if _matches(page, MAINTENANCE):
                    raise UnreachableError("returned a maintenance page")
                raise (
                    LoginError(f"{step}; no password was sent")
                    if (step := page.find_required_step(by_words=False))
                    else ResponseError("no login form found")
                )
            if missing := [name for name in (USER_FIELD, PASSWORD_FIELD, *HIDDEN_FIELDS) if name not in form.values]:
                raise ResponseError(f"missing input {', '.join(missing)}")
            if step := page.find_step_before_password(form, _KNOWN_FIELDS):
                raise LoginError(f"{step}; no password was sent")
            if form.method != "post" or not form.posts_to_origin(self._config.identity_url):
                raise ResponseError("form posts to another origin; no password was sent")
            return form

    async def submit_form(self, form: HtmlForm) -> Response:
        """Step 4: submit the form with user and password; the redirect is not followed."""
        filled = form.values | {USER_FIELD: self._config.username, PASSWORD_FIELD: self._config.password.get_secret_value()}
        with _prefix_step_errors(4, "the password"):
            self._password_sent = True
            response = await post_password(self._session, form.action, data=filled, headers=BROWSER_HEADERS)
            if not response.location:
                raise _build_refusal(parse_page(response.text(), response.url))
            return response

    def extract_code(self, response: Response) -> str:
        """Return the code of the redirect after step 4 (or after step 2, with a live session)."""
        with _prefix_step_errors(4 if self._password_sent else 2, "the code"):
            target = URL(response.location or "")
            error_class = LoginError if self._password_sent else ResponseError
            if _strip_query(target) != _strip_query(URL(self._config.redirect_uri)):
                raise error_class("sent on to another address than redirect_uri; sign in with a browser to see why")
            if error := target.query.get("error"):
                if error in _TEMPORARY_ERRORS:
                    raise UnreachableError("login service temporarily unavailable")
                raise error_class("the login was refused without a known reason")
            if target.query.get("state") != self._state:
                raise ResponseError("state mismatch")
            if not (code := target.query.get("code")):
                raise error_class("redirect has no code")
            return code

    async def redeem_code(self, code: str) -> Token:
        """Step 5: exchange the code, which works once, for a token."""
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self._pkce.verifier,
            "redirect_uri": self._config.redirect_uri,
            "client_id": self._config.client_id,
        }
        with _prefix_step_errors(5, "the token"):
            return await request_token(self._session, self._config, data)


_TEMPORARY_ERRORS = ("server_error", "temporarily_unavailable")
"""The errors of OAuth 2 after which a retry may succeed."""


def _prefix_step_errors(number: int, name: str) -> AbstractContextManager[None]:
    return prefix_errors(f"login, step {number} ({name})")


def _build_refusal(page: HtmlPage) -> PortalError:
    """Return the error for a page that came back instead of a redirect."""
    is_login_page = any(form.has_input("password") and PASSWORD_FIELD in form.values for form in page.forms)
    if _matches(page, LOCKED):
        return LoginError(LOCKED_MESSAGE)
    step = page.find_required_step()
    if is_login_page:
        return LoginError(step if step is RequiredStep.CAPTCHA else "user name or password is refused")
    if step:
        return LoginError(step)
    if _matches(page, MAINTENANCE):
        return UnreachableError("returned a maintenance page")
    return LoginError(f"an unknown page came back, {UNKNOWN_STEP_HINT}")


def _matches(page: HtmlPage, pattern: str) -> bool:
    return re.search(pattern, page.text, re.IGNORECASE) is not None


def _strip_query(url: URL) -> str:
    """Return an address without query, fragment and final slash."""
    return str(url.with_query(None).with_fragment(None)).rstrip("/")
