"""The token address: a code, or a refresh token, for an access token."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from pydantic import Field

from exporter.errors import PortalError, RateLimitError, UnreachableError
from exporter.pkce import Proof
from exporter.portals.base import AnswerShape, understand
from exporter.portals.fluvius import refusal
from exporter.portals.fluvius.client import Client, same_host
from exporter.portals.fluvius.keys import Keys
from exporter.session import Session
from exporter.tokens import Token

HOUR = 3600


class _Granted(AnswerShape):
    access_token: str = Field(min_length=1, pattern=r"^[!-~]+$")
    expires_in: int | None = Field(default=None, gt=0, le=7 * 86400)
    refresh_token: str | None = None


async def redeem(keys: Keys, session: Session, client: Client, code: str, proof: Proof) -> Token:
    """Swap the code of a sign-in; raises LoginError or ResponseError."""
    sent = {"code": code, "redirect_uri": client.redirect, "code_verifier": proof.verifier}
    return await _granted(keys, session, client, {"grant_type": "authorization_code", **sent})


async def refreshed(keys: Keys, session: Session, old: Token | None) -> Token | None:
    """Renew an access token that has ended; None when there is nothing to do it with, or the portal does not do it.

    Raises UnreachableError and RateLimitError: then a sign-in would not work either.
    """
    if not (old and old.more and old.more.get("refresh_token")) or session.now < old.ends - timedelta(minutes=1):
        return None  # A token refused before its end was withdrawn, and its refresh token with it.
    client = Client(**old.more["client"])
    same_host(client.authority, keys.identity_url, "the authority")
    sent = {"grant_type": "refresh_token", "refresh_token": old.more["refresh_token"]}
    try:
        return await _granted(keys, session, client, sent, kept=sent["refresh_token"])
    except (UnreachableError, RateLimitError):
        raise
    except PortalError:
        return None


async def _granted(keys: Keys, session: Session, client: Client, sent: dict[str, str], kept: str | None = None) -> Token:
    form = {"client_id": client.id, "scope": client.scope, **sent}
    answer = await session.post(client.url("token"), headers={**keys.headers(), "Accept": "application/json"}, data=form)
    if 400 <= answer.status < 500:
        raise refusal.token_refused(answer)
    granted = understand(_Granted, answer.json(), "the token")
    more: dict[str, Any] = {"refresh_token": granted.refresh_token or kept, "client": asdict(client)}
    return Token(granted.access_token, session.now + timedelta(seconds=granted.expires_in or HOUR), more)
