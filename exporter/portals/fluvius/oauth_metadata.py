"""The portal's OAuth metadata: authority, client and scopes, never hard-coded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from exporter.client.session import Session
from exporter.errors import ResponseError
from exporter.portals.fluvius.config import FluviusConfig

METADATA_PATH = "/api/global/msal/config"
TENANT_PATH = "/klanten.onmicrosoft.com/B2C_1A_customer_signup_signin"
REQUIRED_SCOPES = "openid", "offline_access", "https://klanten.onmicrosoft.com/MijnFluvius/user_impersonation"


@dataclass(frozen=True, slots=True)
class OAuthMetadata:
    """An OAuth 2 client: its URLs, its id and its scopes (separated by spaces)."""

    authority: str
    id: str
    redirect: str
    scope: str

    def build_url(self, endpoint: str) -> str:
        """Return the URL of `authorize` or `token`."""
        return f"{self.authority}/oauth2/v2.0/{endpoint}"


def parse_origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL. Raise ResponseError for an invalid one."""
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}[parts.scheme]
        host, port = parts.hostname, parts.port or usual
    except (ValueError, KeyError):
        host = None
    if not host:
        raise ResponseError("expected a URL")
    return parts.scheme, host, port


def resolve_url(base: str, location: str) -> str:
    """Return the absolute URL of one that may be relative. Raise ResponseError."""
    try:
        return urljoin(base, location)
    except ValueError:
        raise ResponseError("expected a URL") from None


def require_same_host(url: str, host: str, description: str) -> str:
    """Return the URL when it is on `host` (scheme and port too). Raise ResponseError otherwise."""
    if parse_origin(url) != parse_origin(host):
        raise ResponseError(f"{description} leads to another host than the configured one; nothing was sent there")
    return url


async def fetch_metadata(config: FluviusConfig, session: Session) -> OAuthMetadata:
    """Return the portal's metadata. Raise ResponseError without a client, or with an authority on another host."""
    response = await session.get(f"{config.portal_url}{METADATA_PATH}", headers=config.build_headers())
    return parse_metadata(response.json(), config)


def parse_metadata(body: Any, config: FluviusConfig) -> OAuthMetadata:
    """Parse `{"clientId": ..., "authority": ..., "redirectUri": ..., "scopes": [...]}`, flat or with an `auth` in it."""
    if not isinstance(body, dict):
        raise ResponseError("the metadata has changed: expected an object")
    client_id = _find_text(body, "clientId")
    if client_id is None:
        raise ResponseError("the metadata has changed: clientId: field required")
    authority = (_find_text(body, "authority") or f"{config.identity_url}{TENANT_PATH}").rstrip("/")
    require_same_host(authority, config.identity_url, "the authority")
    redirect = resolve_url(f"{config.portal_url}/", _find_text(body, "redirectUri") or "/")
    require_same_host(redirect, config.portal_url, "the redirect address")
    return OAuthMetadata(authority, client_id, redirect, " ".join(dict.fromkeys([*_find_scopes(body), *REQUIRED_SCOPES])))


def _find_text(body: Mapping[str, Any], key: str) -> str | None:
    """Return a text by its key, at the top or under `auth`."""
    auth = body.get("auth")
    for fields in (body, auth if isinstance(auth, dict) else {}):
        if isinstance(value := fields.get(key), str) and value.strip():
            return value.strip()
    return None


def _find_scopes(body: Mapping[str, Any]) -> Iterator[str]:
    request = body.get("authRequest")
    for key in ("scopes", "defaultScopes", "apiScopes"):
        yield from _split_scopes(body.get(key))
    yield from _split_scopes(request.get("scopes") if isinstance(request, dict) else None)
    yield from _split_scopes(body.get("protectedResourceMap"))


def _split_scopes(value: Any) -> Iterator[str]:
    """Return every scope in a text, a list or the values of an object; a map of resources contains HTTP methods too."""
    if isinstance(value, str):
        yield from (text for text in value.split() if not text.isupper())
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _split_scopes(inner)
