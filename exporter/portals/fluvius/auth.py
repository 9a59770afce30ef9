"""Login at Fluvius: the page flow of Azure AD B2C with e-mail and password, and renewal by refresh token.

Each step raises LoginError when the account is refused and ResponseError when the flow has changed; the message names the
step. The password is only ever sent to the host of `identity_url`.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from pydantic import Field

from exporter.client.login_attempts import post_password
from exporter.client.pkce import PkcePair
from exporter.client.response import Response
from exporter.client.session import Session
from exporter.client.token_cache import Token
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.portals.base import ResponseModel, parse_response, prefix_errors
from exporter.portals.fluvius.config import FluviusConfig
from exporter.portals.fluvius.login_page import (
    PageSettings,
    build_page_error,
    build_step_error,
    find_step_before_password,
    parse_form_fields,
    parse_settings,
)
from exporter.portals.fluvius.refusals import build_redirect_error, build_token_error, raise_for_refusal

METADATA_PATH = "/api/global/msal/config"
TENANT_PATH = "/klanten.onmicrosoft.com/B2C_1A_customer_signup_signin"
REQUIRED_SCOPES = "openid", "offline_access", "https://klanten.onmicrosoft.com/MijnFluvius/user_impersonation"
DEFAULT_TOKEN_SECONDS = 3600
MAX_REDIRECTS = 8


async def log_in(config: FluviusConfig, session: Session) -> Token:
    """Return the token of a login, which has five steps; what renews it is in `extra`."""
    await session.clear_cookies()
    with prefix_errors("login, metadata"):
        client = await _fetch_client(config, session)
    flow = _LoginFlow(config, session, client, PkcePair.generate(), secrets.token_urlsafe(32))
    with prefix_errors("login, page"):
        form = await flow.request_page()
    with prefix_errors("login, e-mail and password"):
        await flow.send_credentials(form)
    with prefix_errors("login, confirmation"):
        code = await flow.confirm(form)
    with prefix_errors("login, token"):
        return await redeem_code(config, session, client, code, flow.pkce)


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """An OAuth 2 client; its scopes are separated by spaces."""

    authority: str
    client_id: str
    redirect_uri: str
    scope: str

    def build_url(self, endpoint: str) -> str:
        """Return the URL of `authorize` or `token`."""
        return f"{self.authority}/oauth2/v2.0/{endpoint}"


async def _fetch_client(config: FluviusConfig, session: Session) -> OAuthClient:
    """Return the client in the portal's metadata. Raise ResponseError without one, or with an authority of another origin."""
    response = await session.get(f"{config.portal_url}{METADATA_PATH}", headers=config.build_headers())
    return parse_client(response.json(), config)


def parse_client(body: Any, config: FluviusConfig) -> OAuthClient:
    """Parse `{"clientId": ..., "authority": ..., "redirectUri": ..., "scopes": [...]}`, flat or with an `auth` in it."""
    if not isinstance(body, dict):
        raise ResponseError("the metadata has changed: expected an object")
    client_id = _find_text(body, "clientId")
    if client_id is None:
        raise ResponseError("the metadata has changed: clientId: field required")
    authority = (_find_text(body, "authority") or f"{config.identity_url}{TENANT_PATH}").rstrip("/")
    _require_same_origin(authority, config.identity_url, "the authority")
    redirect = _resolve_url(f"{config.portal_url}/", _find_text(body, "redirectUri") or "/")
    _require_same_origin(redirect, config.portal_url, "the redirect address")
    return OAuthClient(authority, client_id, redirect, " ".join(dict.fromkeys([*_find_scopes(body), *REQUIRED_SCOPES])))


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
    """Yield the scopes in a string, a list or an object's values.

    Words in capitals are HTTP methods (MSAL's protectedResourceMap).
    """
    if isinstance(value, str):
        yield from (text for text in value.split() if not text.isupper())
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _split_scopes(inner)


@dataclass(frozen=True, slots=True)
class _LoginForm:
    """The login page: its settings, the names of its fields, and the URL below which it is submitted."""

    settings: PageSettings
    user_field: str
    password_field: str
    base_url: str

    def build_query(self) -> dict[str, str]:
        """Return the query of every request that answers the page."""
        return {"tx": self.settings.transaction, "p": self.settings.hosts.policy}


@dataclass(frozen=True, slots=True)
class _LoginFlow:
    """One login, from the authorize request to the code."""

    config: FluviusConfig
    session: Session
    client: OAuthClient
    pkce: PkcePair
    state: str

    async def request_page(self) -> _LoginForm:
        """Return the parts of the login page that are sent back with the credentials.

        Raise LoginError where it requires more than a password.
        """
        response = await self._follow_redirects(self.client.build_url("authorize"), self._build_authorize_query())
        if not isinstance(response, Response):
            raise build_redirect_error(response)
        if response.status != 200:
            raise ResponseError(f"{response.label} returned status {response.status}")
        html = response.text()
        if step := find_step_before_password(html, response.url):
            raise LoginError(f"{build_step_error(step)}; no password was sent")
        settings, (user, password) = parse_settings(html), parse_form_fields(html)
        base = _resolve_url(response.url, settings.hosts.tenant).rstrip("/")
        return _LoginForm(settings, user, password, _require_same_origin(base, self.config.identity_url, "the page"))

    async def send_credentials(self, form: _LoginForm) -> None:
        """Send e-mail and password. Raise LoginError for a refusal: it is in the body, with status 200 and any content type."""
        assert self.config.username
        assert self.config.password
        response = await post_password(
            self.session,
            f"{form.base_url}/SelfAsserted",
            params=form.build_query(),
            headers={
                **self.config.build_headers(),
                "X-CSRF-TOKEN": form.settings.csrf,
                "X-Requested-With": "XMLHttpRequest",
                "Accept": "application/json, text/javascript, */*; q=0.01",
                "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
                "Origin": form.base_url.removesuffix(urlsplit(form.base_url).path),
                "Referer": form.base_url,
            },
            data={
                "request_type": "RESPONSE",
                form.user_field: self.config.username,
                form.password_field: self.config.password.get_secret_value(),
            },
        )
        raise_for_refusal(response.json())

    async def confirm(self, form: _LoginForm) -> str:
        """Follow the redirects up to the one to the portal and return its code; the portal's page itself is not requested."""
        url = f"{form.base_url}/api/{form.settings.api}/confirmed"
        query = {"rememberMe": "false", "csrf_token": form.settings.csrf, **form.build_query()}
        redirect_query = await self._follow_redirects(url, query)
        if isinstance(redirect_query, Response):
            raise build_page_error(redirect_query)
        if redirect_query.get("state") != self.state:
            raise ResponseError("state mismatch")
        if "code" not in redirect_query:
            raise build_redirect_error(redirect_query)
        return redirect_query["code"]

    async def _follow_redirects(self, url: str, query: Mapping[str, str]) -> Response | dict[str, str]:
        """Follow redirects on the login host; return the page they end at, or the query of the redirect to the portal."""
        response = await self.session.get(url, params=query, headers=self.config.build_headers())
        for _ in range(MAX_REDIRECTS):
            location = response.headers.get("Location")
            if not 300 <= response.status < 400 or location is None:
                return response
            target = _resolve_url(response.url, location)
            if (redirect_query := self._parse_portal_redirect(target)) is not None:
                return redirect_query
            _require_same_origin(target, self.config.identity_url, "a redirect")
            response = await self.session.get(target, headers=self.config.build_headers())
        raise ResponseError("too many redirects")

    def _parse_portal_redirect(self, target: str) -> dict[str, str] | None:
        """Return the query of a redirect to the portal, None for one within the login service."""
        portal = self.client.redirect_uri
        if _parse_origin(target) != _parse_origin(portal):
            return None
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        return query if {"code", "error"} & query.keys() or parts.path == urlsplit(portal).path else None

    def _build_authorize_query(self) -> dict[str, str]:
        return {
            "client_id": self.client.client_id,
            "redirect_uri": self.client.redirect_uri,
            "response_type": "code",
            "response_mode": "query",
            "scope": self.client.scope,
            "code_challenge": self.pkce.challenge,
            "code_challenge_method": "S256",
            "state": self.state,
            "nonce": secrets.token_urlsafe(32),
            "prompt": "login",
            "client_info": "1",
        }


class _B2cTokenResponse(ResponseModel):
    access_token: str = Field(min_length=1, pattern=r"^[!-~]+$")
    expires_in: int | None = Field(default=None, gt=0, le=7 * 86400)
    refresh_token: str | None = None


async def redeem_code(config: FluviusConfig, session: Session, client: OAuthClient, code: str, pkce: PkcePair) -> Token:
    """Return the token for an authorization code. Raise LoginError or ResponseError."""
    parameters = {"code": code, "redirect_uri": client.redirect_uri, "code_verifier": pkce.verifier}
    return await _request_token(config, session, client, {"grant_type": "authorization_code", **parameters})


async def renew_token(config: FluviusConfig, session: Session, previous: Token | None) -> Token | None:
    """Return a renewed token; None without a refresh token, or when the portal refuses it.

    Raise UnreachableError and RateLimitError: then a login would fail too.
    """
    refresh_token = previous.extra.get("refresh_token") if previous and previous.extra else None
    # A token refused before it expired was revoked, and its refresh token with it.
    if not (previous and previous.extra and refresh_token) or session.now < previous.expires_at - timedelta(minutes=1):
        return None
    parameters = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    try:
        client = _load_client(previous.extra.get("client"))
        _require_same_origin(client.authority, config.identity_url, "the authority")
        return await _request_token(config, session, client, parameters, previous_refresh_token=refresh_token)
    except (UnreachableError, RateLimitError):
        raise
    except PortalError:
        return None


def _dump_client(client: OAuthClient) -> dict[str, str]:
    """Return what is stored with a token; the keys are those of the ledgers there are."""
    return {"authority": client.authority, "id": client.client_id, "redirect": client.redirect_uri, "scope": client.scope}


def _load_client(stored: object) -> OAuthClient:
    """Return the client stored with a token; raise ResponseError for any other form."""
    fields = [stored.get(key) for key in ("authority", "id", "redirect", "scope")] if isinstance(stored, dict) else []
    texts = [text for text in fields if isinstance(text, str)]
    if len(texts) != 4:
        raise ResponseError("the stored client has another form")
    authority, client_id, redirect_uri, scope = texts
    return OAuthClient(authority, client_id, redirect_uri, scope)


async def _request_token(
    config: FluviusConfig,
    session: Session,
    client: OAuthClient,
    parameters: dict[str, str],
    previous_refresh_token: str | None = None,
) -> Token:
    form = {"client_id": client.client_id, "scope": client.scope, **parameters}
    response = await session.post(
        client.build_url("token"), headers={**config.build_headers(), "Accept": "application/json"}, data=form
    )
    if 400 <= response.status < 500:
        raise build_token_error(response)
    body = parse_response(_B2cTokenResponse, response.json(), "the token")
    extra: dict[str, Any] = {"refresh_token": body.refresh_token or previous_refresh_token, "client": _dump_client(client)}
    return Token(body.access_token, session.now + timedelta(seconds=body.expires_in or DEFAULT_TOKEN_SECONDS), extra)


def _parse_origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL. Raise ResponseError for an invalid one."""
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}[parts.scheme]
        host, port = parts.hostname, parts.port or usual
    except (ValueError, KeyError):
        host = None
    if not host:
        raise ResponseError("returned an invalid URL")
    return parts.scheme, host, port


def _resolve_url(base: str, location: str) -> str:
    """Return the absolute URL of one that may be relative. Raise ResponseError."""
    try:
        return urljoin(base, location)
    except ValueError:
        raise ResponseError("returned an invalid URL") from None


def _require_same_origin(url: str, other: str, description: str) -> str:
    """Return the URL when it has the scheme, host and port of the other. Raise ResponseError otherwise."""
    if _parse_origin(url) != _parse_origin(other):
        raise ResponseError(f"{description} points to another host; request not sent")
    return url
