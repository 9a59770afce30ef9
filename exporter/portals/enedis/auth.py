"""Logins at Enedis: the claims of a Conso token, the OAuth token of Data Connect, the access check of MyElectricalData v1."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError

from exporter.client.session import Session
from exporter.client.token_cache import Token
from exporter.errors import LoginError, RateLimitError
from exporter.models import DAY
from exporter.portals.base import ResponseModel, parse_response
from exporter.portals.enedis.refusals import ConsentError, RefusalReason, raise_for_refusal
from exporter.portals.enedis.timestamps import parse_instant


class _TokenPayload(ResponseModel):
    sub: Annotated[list[str], BeforeValidator(lambda sub: [sub] if isinstance(sub, str) else sub)] = Field(default_factory=list)
    exp: Annotated[float, Field(gt=0, lt=1e11)] | None = None


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of a token, its signature not verified: its usage points, and when it expires (aware, UTC)."""

    prms: tuple[str, ...] = ()
    expires_at: datetime | None = None


def parse_token_claims(token: SecretStr) -> TokenClaims:
    """Return the claims of a JSON Web Token; none for any other token."""
    parts = token.get_secret_value().split(".")
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        found = _TokenPayload.model_validate(payload)
    except (IndexError, ValueError, RecursionError, ValidationError):
        return TokenClaims()
    prms = tuple(dict.fromkeys(prm for prm in found.sub if len(prm) == 14 and prm.isascii() and prm.isdecimal()))
    return TokenClaims(prms, datetime.fromtimestamp(found.exp, UTC) if found.exp else None)


def is_complete_token(token: SecretStr) -> bool:
    """Return whether a token has the three parts of a JSON Web Token, and claims that can be read."""
    return token.get_secret_value().count(".") == 2 and parse_token_claims(token) != TokenClaims()


class _DataConnectTokenResponse(ResponseModel):
    access_token: Annotated[str, Field(min_length=1)]
    # A number or a text, by the documents.
    expires_in: Annotated[int, Field(gt=0)]


def _find_token_refusal(status: int, code: str, body: Any) -> RefusalReason | None:
    credentials = code in {"invalid_client", "unauthorized_client", "invalid_grant", "access_denied"}
    return RefusalReason.INVALID_TOKEN if credentials or (status == 401 and body) else None


async def log_in(session: Session, base_url: str, client_id: str, client_secret: SecretStr) -> Token:
    """Return a token of Data Connect; the secret is sent in the body, because queries end up in logs. Raise LoginError."""
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret.get_secret_value()}
    response = await session.post(f"{base_url}/oauth2/v3/token", data=form, raise_for_status=False)
    try:
        body = raise_for_refusal(response, session.now, _find_token_refusal)
        found = parse_response(_DataConnectTokenResponse, body, "the token")
    except LoginError:
        raise LoginError("Enedis refuses client_id and client_secret") from None
    return Token(found.access_token, session.now + timedelta(seconds=found.expires_in))


def _parse_local(text: Any) -> Any:
    """Parse an instant without offset as local time; the gateway does not document it."""
    return parse_instant(text) if isinstance(text, str) and text else None


LocalInstant = Annotated[datetime | None, BeforeValidator(_parse_local)]


class _AccessResponse(ResponseModel):
    valid: bool
    quota_reached: bool = False
    ban: bool = False
    quota_reset_at: LocalInstant = None
    consent_expiration_date: LocalInstant = None


def parse_access(body: Any, where: str, now: datetime) -> datetime | None:
    """Return when the consent for a usage point expires, if known.

    Raise ConsentError without a valid token or consent, and RateLimitError when the quota is used up.
    """
    access = parse_response(_AccessResponse, body, where)
    if access.ban or not access.valid:
        raise ConsentError(f"{where}: {'banned' if access.ban else 'token or consent is not valid'}")
    if access.quota_reached:
        raise RateLimitError(f"{where}: {RefusalReason.DAILY_QUOTA}", _wait_until(access.quota_reset_at, now))
    return access.consent_expiration_date


def _wait_until(reset: datetime | None, now: datetime) -> timedelta:
    return min(max(reset - now, timedelta(minutes=1)), DAY) if reset else timedelta(hours=1)
