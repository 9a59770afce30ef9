"""The API of CEM: one address, function numbers, JSON."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token, TokenCache
from exporter.errors import ResponseError
from exporter.portals.cem.auth import RENEW_MARGIN, build_auth_headers, log_in

FUNCTIONS = {
    "user_info": 9,
    "objects": 23,
    "meters": 108,
    "counters": 107,
    "counter_last": 8,
    "counter_history": 3,
    "types": 222,
    "value_types": 11,
}
"""The function numbers of read-only calls, by the names that `raw` uses."""
VALUE_TYPES_LIST = "50"
"""The code list of the kinds of value (`pot_type`)."""


class RefusedCallError(ResponseError):
    """The portal refused one call as such: a 4xx other than 401 and 429."""


class CemApiClient:
    """The calls of one account in one visit, each with the account's token."""

    def __init__(self, session: Session, base_url: str, username: str, password: SecretStr) -> None:
        self.session = session
        self._url = base_url
        self._tokens = TokenCache(
            session,
            lambda _: log_in(session, base_url, username, password),
            renew_before=RENEW_MARGIN,
            min_age=RENEW_MARGIN,
        )

    async def get_json(self, function: int, parameters: Mapping[str, str] | None = None) -> Any:
        """Call a function with GET and return its JSON; raise what `get_response` raises."""
        return (await self.get_response(function, parameters)).json()

    async def get_response(self, function: int, parameters: Mapping[str, str] | None = None) -> Response:
        """Call a function with GET; raise RefusedCallError for a 4xx, and what the session and the login raise."""
        return await self._request("GET", function, parameters or {}, None)

    async def post_json(self, function: int, body: Any) -> Any:
        """Call a function with a JSON body and return its JSON; raise what `get_response` raises."""
        return (await self._request("POST", function, {}, body)).json()

    async def _request(self, method: str, function: int, parameters: Mapping[str, str], body: Any) -> Response:
        params = {"id": str(function), **parameters}

        async def send(token: Token) -> Response:
            return await self.session.request(method, self._url, params=params, headers=build_auth_headers(token), json=body)

        response = await self._tokens.send(send)
        if 400 <= response.status < 500:
            raise RefusedCallError(f"{response.label} (id={function}) returned status {response.status}")
        return response
