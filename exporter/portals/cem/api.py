"""The way to CEM: one address, one function number, a token and a cookie."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from exporter.answer import Answer
from exporter.errors import LoginError, ResponseError
from exporter.portals.cem.answers import instant, one, whole
from exporter.session import Session
from exporter.tokens import Token, Tokens

COOKIE = "CEMAPI"
JSON = {"Accept": "application/json"}
RENEWED = timedelta(minutes=5)
"""How long before its end a token is renewed, and the least distance between two logins."""


class RefusedError(ResponseError):
    """The portal refused one call as such: a 4xx other than 401 and 429."""


class Api:
    """One visit's calls, each with the account's token."""

    def __init__(self, session: Session, base_url: str, username: str, password: SecretStr) -> None:
        self.session = session
        self._url, self._username, self._password = base_url, username, password
        self._tokens = Tokens(session, self._log_in, margin=RENEWED, least=RENEWED)

    async def get(self, function: int, keys: Mapping[str, str] | None = None) -> Any:
        """Ask one function with GET; see `_ask`."""
        return await self._ask("GET", function, keys or {}, None)

    async def get_text(self, function: int, keys: Mapping[str, str] | None = None) -> Answer:
        """Ask one function with GET, and give the answer as it came."""
        return await self._answer("GET", function, keys or {}, None)

    async def post(self, function: int, body: Any) -> Any:
        """Ask one function with a JSON body; see `_ask`."""
        return await self._ask("POST", function, {}, body)

    async def _ask(self, method: str, function: int, keys: Mapping[str, str], body: Any) -> Any:
        """Give the answer's JSON."""
        return (await self._answer(method, function, keys, body)).json()

    async def _answer(self, method: str, function: int, keys: Mapping[str, str], body: Any) -> Answer:
        """Give the answer; raises RefusedError for a 4xx, and what the session and the login raise."""
        params = {"id": str(function), **keys}

        async def ask(token: Token) -> Answer:
            return await self.session.request(method, self._url, params=params, headers=_proof(token), json=body)

        answer = await self._tokens.call(ask)
        if 400 <= answer.status < 500:
            raise RefusedError(f"{answer.what} (id={function}) answered with status {answer.status}")
        return answer

    async def _log_in(self, _: Token | None) -> Token:
        """Log in with id=4: the password goes into the form, never into the query; no refresh call is known."""
        await self.session.forget_cookies()
        form = {"user": self._username, "pass": self._password.get_secret_value()}
        answer = await self.session.post(self._url, params={"id": "4"}, data=form, headers=JSON)
        if answer.status in (401, 403):
            raise LoginError("the portal refused the user name or the password")
        return _token(one(answer.json()), _cookie(answer))


def _token(answer: Any, cookie: str | None) -> Token:
    """Understand {"access_token": "5f2c...", "valid_to": 1767225600000}."""
    stated = answer if isinstance(answer, dict) else {}
    value, ends = stated.get("access_token"), stated.get("valid_to")
    if not (isinstance(value, str) and value and ends):
        raise LoginError("the portal's answer to the login holds no token or no end of it")
    if (until := instant(whole(ends))) is None:
        raise ResponseError("id=4 (login) has changed: valid_to: not a time in milliseconds")
    return Token(value, until, {"cookie": cookie} if cookie else {})


def _cookie(answer: Answer) -> str | None:
    # Read from the answer, not from the session's jar: the cookie is kept with the token, and the jar hides a Secure one
    # from a portal of one's own that has no TLS.
    for header in answer.headers.getall("Set-Cookie", []):
        name, _, rest = header.partition("=")
        if name.strip() == COOKIE and (value := rest.partition(";")[0].strip()):
            return value
    return None


def _proof(token: Token) -> dict[str, str]:
    """Send token and cookie: older addresses know the cookie only, newer ones the token."""
    cookie = (token.more or {}).get("cookie")
    return {**JSON, "Authorization": f"Bearer {token.value}", **({"Cookie": f"{COOKIE}={cookie}"} if cookie else {})}
