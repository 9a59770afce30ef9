"""Why a sign-in was refused, in words: the codes of Azure AD B2C, and what a further page would want."""

import re
from collections.abc import Mapping
from typing import Any

from exporter.answer import Answer
from exporter.errors import LoginError, PortalError, ResponseError, UnreachableError
from exporter.portals.fluvius import page

_CODES = {
    "AADB2C90053": "there is no personal account with this e-mail address",
    "AADB2C90054": "wrong password",
    "AADB2C90225": "wrong e-mail address or password",
    "AADB2C90114": "the account is locked for a while after too many wrong passwords",
    "AADB2C90111": "the account is locked",
}
_WORDS = {
    r"itsme|\beid\b|profession|zakelijk": "this is a professional account: it signs in with itsme or eID, which no program can",
    r"captcha": "the portal wants a captcha solved: sign in once with a browser",
    r"verificati|authenticator": "the account has a second factor: switch it off, or give a token by hand",
    r"lock|vergrendel|geblokkeerd": "the account is locked",
}
_PERSON = {"access_denied", "login_required", "interaction_required", "consent_required"}
_BUSY = {"server_error", "temporarily_unavailable"}


def verdict(answer: Any) -> None:
    """Read `{"status": "200"}`; raises LoginError that says why for a refusal, ResponseError for anything else."""
    status = answer.get("status") if isinstance(answer, dict) else None
    if str(status) in ("200", "success"):
        return
    if status is None:
        raise ResponseError("the answer has changed: it holds no status")
    raise LoginError(_why(f"{answer.get('errorCode', '')} {answer.get('message', '')}"))


def redirected(query: Mapping[str, str]) -> PortalError:
    """Say what an `error` in the place of a code means."""
    return _said(query.get("error", ""), query.get("error_description", ""))


def token_refused(answer: Answer) -> PortalError:
    """Say what a refusal of the token address means: `{"error": "invalid_grant", "error_description": "AADB2C90080: ..."}`."""
    body = answer.json_if_any()
    if not isinstance(body, dict):
        return ResponseError(f"{answer.what} answered with status {answer.status}")
    return _said(str(body.get("error")), str(body.get("error_description")))


def further_step(answer: Answer) -> PortalError:
    """Say what a page means that comes where the browser should be sent home."""
    html = answer.text()
    if page.wants_second_factor(html):
        return LoginError("the account has a second factor: switch it off, or give a token by hand")
    if page.is_b2c(html):
        return LoginError("the portal asks for a further step, such as new conditions: sign in once with a browser")
    return ResponseError(f"{answer.what} answered with status {answer.status} and no redirect: the sign-in has changed")


def _why(text: str) -> str:
    """Put a refusal into our own words: the portal's may hold the e-mail address."""
    code = _code(text)
    known = _CODES.get(code) or next((said for words, said in _WORDS.items() if re.search(words, text, re.IGNORECASE)), None)
    return f"{known or 'the portal refuses e-mail address or password'}{f' ({code})' if code else ''}"


def _said(error: str, description: str) -> PortalError:
    code = _code(description)
    name = error if re.fullmatch(r"[a-z_]{1,40}", error) else "an unknown error"
    if error in _PERSON or code in _CODES:
        return LoginError(_why(description) if code in _CODES else f"the portal refuses ({name}{f', {code}' if code else ''})")
    kind = UnreachableError if error in _BUSY else ResponseError
    return kind(f"the login service answered with {name}{f' ({code})' if code else ''}")


def _code(text: str) -> str:
    found = re.search(r"AADB2C[0-9]{5}\b", text)
    return found[0] if found else ""
