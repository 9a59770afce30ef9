"""Why Fluvius's login service refuses: the codes of Azure AD B2C, the words of its messages, and the errors of OAuth 2."""

import re
from collections.abc import Mapping
from typing import Any

from exporter.client.html_forms import recognize_step
from exporter.client.response import Response
from exporter.errors import LoginError, PortalError, ResponseError, UnreachableError

_CODE_MESSAGES = {
    "AADB2C90053": "there is no personal account with this e-mail address",
    "AADB2C90054": "wrong password",
    "AADB2C90225": "wrong e-mail address or password",
    "AADB2C90114": "the account is locked for a while after too many wrong passwords",
    "AADB2C90111": "the account is locked",
}
TEXT_MESSAGES = {
    r"itsme|\beid\b|profession|zakelijk": "this is a professional account: it signs in with itsme or eID, which is not supported",
    r"lock|vergrendel|geblokkeerd": "the account is locked",
}
_LOGIN_ERRORS = {"access_denied", "login_required", "interaction_required", "consent_required"}
_TEMPORARY_ERRORS = {"server_error", "temporarily_unavailable"}


def raise_for_refusal(body: Any) -> None:
    """Check `{"status": "200"}`. Raise LoginError with the reason of a refusal, ResponseError for anything else."""
    status = body.get("status") if isinstance(body, dict) else None
    if str(status) in ("200", "success"):
        return
    if status is None:
        raise ResponseError("the response has changed: status: field required")
    raise LoginError(_explain_refusal(f"{body.get('errorCode', '')} {body.get('message', '')}"))


def build_redirect_error(query: Mapping[str, str]) -> PortalError:
    """Return the error of a redirect with `error` instead of a code."""
    return _build_oauth_error(query.get("error", ""), query.get("error_description", ""))


def build_token_error(response: Response) -> PortalError:
    """Return the error of a refusal by the token endpoint: `{"error": "invalid_grant", "error_description": ...}`."""
    body = response.json_or_none()
    if not isinstance(body, dict):
        return ResponseError(f"{response.label} returned status {response.status}")
    return _build_oauth_error(str(body.get("error")), str(body.get("error_description")))


def _explain_refusal(text: str) -> str:
    """Return a text of our own for a refusal: the portal's may contain the e-mail address."""
    code = _find_code(text)
    known = _CODE_MESSAGES.get(code) or next(
        (message for pattern, message in TEXT_MESSAGES.items() if re.search(pattern, text, re.IGNORECASE)), None
    )
    known = known or recognize_step(text)
    return f"{known or 'the portal refuses e-mail address or password'}{f' ({code})' if code else ''}"


def _build_oauth_error(error: str, description: str) -> PortalError:
    code = _find_code(description)
    name = error if re.fullmatch(r"[a-z_]{1,40}", error) else "an unknown error"
    if error in _LOGIN_ERRORS or code in _CODE_MESSAGES:
        return LoginError(
            _explain_refusal(description)
            if code in _CODE_MESSAGES
            else f"the portal refuses ({name}{f', {code}' if code else ''})"
        )
    kind = UnreachableError if error in _TEMPORARY_ERRORS else ResponseError
    return kind(f"the login service answered with {name}{f' ({code})' if code else ''}")


def _find_code(text: str) -> str:
    found = re.search(r"AADB2C[0-9]{5}\b", text)
    return found[0] if found else ""
