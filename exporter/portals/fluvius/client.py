"""What the portal says of its sign-in: the authority, the client and the scopes, never hard-coded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from exporter.errors import ResponseError
from exporter.portals.fluvius.keys import Keys
from exporter.session import Session

METADATA = "/api/global/msal/config"
TENANT = "/klanten.onmicrosoft.com/B2C_1A_customer_signup_signin"
SCOPES = "openid", "offline_access", "https://klanten.onmicrosoft.com/MijnFluvius/user_impersonation"


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth 2 client: addresses, its id, and the scopes it asks for (blank-separated)."""

    authority: str
    id: str
    redirect: str
    scope: str

    def url(self, name: str) -> str:
        """The address of `authorize` or `token`."""
        return f"{self.authority}/oauth2/v2.0/{name}"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address; raises ResponseError for what is no address."""
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}[parts.scheme]
        host, port = parts.hostname, parts.port or usual
    except (ValueError, KeyError):
        host = None
    if not host:
        raise ResponseError("a web address is due where something else stands")
    return parts.scheme, host, port


def absolute(base: str, target: str) -> str:
    """Complete an address that may be relative; raises ResponseError."""
    try:
        return urljoin(base, target)
    except ValueError:
        raise ResponseError("a web address is due where something else stands") from None


def same_host(url: str, host: str, what: str) -> str:
    """Give the address back when it lies on `host` (scheme and port too); raises ResponseError."""
    if origin(url) != origin(host):
        raise ResponseError(f"{what} leads to another host than the one configured; nothing was sent there")
    return url


async def metadata(keys: Keys, session: Session) -> Client:
    """Ask the portal for its client; raises ResponseError when there is none, or its authority is on a foreign host."""
    answer = await session.get(f"{keys.portal_url}{METADATA}", headers=keys.headers())
    return understood(answer.json(), keys)


def understood(config: Any, keys: Keys) -> Client:
    """Read `{"clientId": ..., "authority": ..., "redirectUri": ..., "scopes": [...]}`, flat or with an `auth` in it."""
    if not isinstance(config, dict):
        raise ResponseError("the metadata has changed: it is no object")
    client_id = _text(config, "clientId")
    if client_id is None:
        raise ResponseError("the metadata has changed: it names no clientId")
    authority = (_text(config, "authority") or f"{keys.identity_url}{TENANT}").rstrip("/")
    same_host(authority, keys.identity_url, "the authority")
    redirect = absolute(f"{keys.portal_url}/", _text(config, "redirectUri") or "/")
    same_host(redirect, keys.portal_url, "the redirect address")
    return Client(authority, client_id, redirect, " ".join(dict.fromkeys([*_scopes(config), *SCOPES])))


def _text(config: Mapping[str, Any], key: str) -> str | None:
    """Look for a text under its key, then under `auth`."""
    inner = config.get("auth")
    for place in (config, inner if isinstance(inner, dict) else {}):
        if isinstance(value := place.get(key), str) and value.strip():
            return value.strip()
    return None


def _scopes(config: Mapping[str, Any]) -> Iterator[str]:
    request = config.get("authRequest")
    for key in ("scopes", "defaultScopes", "apiScopes"):
        yield from _texts(config.get(key))
    yield from _texts(request.get("scopes") if isinstance(request, dict) else None)
    yield from _texts(config.get("protectedResourceMap"))


def _texts(value: Any) -> Iterator[str]:
    """Give every scope in a text, a list or the values of an object; a map of resources names HTTP methods too."""
    if isinstance(value, str):
        yield from (text for text in value.split() if not text.isupper())
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
