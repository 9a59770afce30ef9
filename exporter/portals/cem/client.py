"""The API of CEM: one address, function numbers, JSON."""

from collections.abc import Mapping
from typing import Any

from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token, TokenCache
from exporter.errors import PortalError, ResponseError, UnreachableError
from exporter.portals.cem.auth import RENEW_MARGIN, build_auth_headers, log_in
from exporter.portals.cem.config import CemConfig

FUNCTIONS = {
    "account": 9,
    "objects": 23,
    "meters": 108,
    "counters": 107,
    "counter_last": 8,
    "counter_history": 3,
    "account_history": 20,
    "types": 222,
    "value_types": 11,
}
"""The numbers of the functions that are called."""


class RefusedCallError(ResponseError):
    """The portal refused one call as such: a 4xx other than 401 and 429."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def is_call_refused(error: PortalError) -> bool:
    """Return whether an error concerns one call as such: it is refused, or the portal fails at it (500)."""
    return isinstance(error, RefusedCallError) or (isinstance(error, UnreachableError) and error.status == 500)


class CemApiClient:
    """The calls of one account in one visit, each with the account's token."""

    def __init__(self, config: CemConfig, session: Session) -> None:
        self.session = session
        self.request_count = 0
        self._url = config.base_url
        self._tokens = TokenCache(session, lambda _: log_in(session, config), renew_before=RENEW_MARGIN, min_age=RENEW_MARGIN)

    async def get_json(self, function: int, parameters: Mapping[str, str] | None = None) -> Any:
        """Call a function with GET and return its JSON; raise what `get_response` raises."""
        return (await self.get_response(function, parameters)).json()

    async def get_response(self, function: int, parameters: Mapping[str, str] | None = None) -> Response:
        """Call a function with GET; raise RefusedCallError, and what the session and the login raise."""
        return await self._request("GET", function, parameters or {}, None)

    async def post_json(self, function: int, body: Any) -> Any:
        """Call a function with a JSON body and return its JSON; raise what `get_response` raises."""
        return (await self._request("POST", function, {}, body)).json()

    async def _request(self, method: str, function: int, parameters: Mapping[str, str], body: Any) -> Response:
        params = {"id": str(function), **parameters}

        async def send(token: Token) -> Response:
            self.request_count += 1
            return await self.session.request(method, self._url, params=params, headers=build_auth_headers(token), json=body)

        numbers = [value for name, value in params.items() if name == "id" or name.endswith("_id")]
        response = await self._tokens.send(send, " ".join([method, *numbers]))
        if 400 <= response.status < 500:
            raise RefusedCallError(f"{response.label} (id={function}) returned status {response.status}", response.status)
        return response
