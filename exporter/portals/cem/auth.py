"""The login of CEM: a form that is exchanged for a token and a cookie."""

from datetime import timedelta
from typing import Any

from exporter.client.login_attempts import post_password
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token
from exporter.errors import LoginError, ResponseError
from exporter.portals.cem.config import CemConfig
from exporter.portals.cem.parser import parse_integer, parse_milliseconds, unwrap_object

COOKIE_NAME = "CEMAPI"
JSON_HEADERS = {"Accept": "application/json"}
RENEW_MARGIN = timedelta(minutes=5)
"""How long before its end a token is renewed, and the minimum time between two logins."""


async def log_in(session: Session, config: CemConfig) -> Token:
    """Log in with id=4: the password goes into the form, never into the query; no refresh call is known.

    Raise LoginError for a refusal, and ResponseError for what is neither a token nor a refusal.
    """
    await session.clear_cookies()
    form = {"user": config.username, "pass": config.password.get_secret_value()}
    response = await post_password(session, config.base_url, params={"id": "4"}, data=form, headers=JSON_HEADERS)
    if response.status in (401, 403):
        raise LoginError("the portal refused the user name or the password")
    try:
        body = response.json()
    except ResponseError as error:
        usual_end = "" if config.base_url.endswith("/api") else ", it usually ends in /api"
        raise ResponseError(f"login: {error}; check base_url{usual_end}") from None
    return _parse_token(unwrap_object(body), _find_cookie(response))


def build_auth_headers(token: Token) -> dict[str, str]:
    """Return the headers with token and cookie: older addresses know the cookie only, newer ones the token."""
    cookie = (token.extra or {}).get("cookie")
    return {**JSON_HEADERS, "Authorization": f"Bearer {token.value}", **({"Cookie": f"{COOKIE_NAME}={cookie}"} if cookie else {})}


def _parse_token(body: Any, cookie: str | None) -> Token:
    """Parse {"access_token": "5f2c...", "valid_to": 1767225600000}."""
    fields = body if isinstance(body, dict) else {}
    value, valid_to = fields.get("access_token"), fields.get("valid_to")
    if not (isinstance(value, str) and value and valid_to):
        raise LoginError("the login response has no access_token or valid_to")
    if (expires_at := parse_milliseconds(parse_integer(valid_to))) is None:
        raise ResponseError("id=4 (login) has changed: valid_to: not a time in milliseconds")
    return Token(value, expires_at, {"cookie": cookie} if cookie else {})


def _find_cookie(response: Response) -> str | None:
    # Not from the session's cookie jar: the cookie is stored with the token, and the jar does not return a Secure cookie
    # for a portal without TLS.
    for header in response.headers.getall("Set-Cookie", []):
        name, _, rest = header.partition("=")
        if name.strip() == COOKIE_NAME and (value := rest.partition(";")[0].strip()):
            return value
    return None
