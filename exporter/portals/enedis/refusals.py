"""Refusals by Enedis and the gateways: four shapes of bodies, one table of codes, the errors they raise."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Any

from exporter.client.response import Response
from exporter.client.session import parse_retry_after
from exporter.errors import (
    FeedRefusedError,
    LoginError,
    NoDataError,
    PortalError,
    RateLimitError,
    ResponseError,
    TooLongError,
    TooOldError,
    UnreachableError,
)
from exporter.portals.enedis.timestamps import PARIS, day_start


class ConsentError(LoginError):
    """A series is refused, or all of its usage point; others of the account may be accessible."""

    def __init__(self, message: str, *, is_whole_point: bool = True) -> None:
        super().__init__(message)
        self.is_whole_point = is_whole_point


class SeriesOutageError(UnreachableError):
    """Enedis answers this request with an error of its own; other series may be well."""


class RefusalReason(StrEnum):
    """The meaning of a code."""

    INVALID_REQUEST = "invalid request"
    TOO_EARLY = "nothing is kept that far back"
    TOO_MANY_DAYS = "more days were requested than are returned at once"
    NO_SUCH_SERIES = "this usage point does not measure that direction"
    OBJECTED = "its customer objected to the recording of the load curve"
    NOT_SUBSCRIBED = "the application has not subscribed to this call"
    INVALID_TOKEN = "the token is wrong or has expired"  # noqa: S105  # a sentence
    NOT_HOLDER = "who consented does not hold the contract"
    NO_CONSENT = "there is no consent, or it has expired"
    NOT_EFFECTIVE = "who consented is not the holder of the contract, or the consent is not yet effective"
    BLOCKED = "the gateway blocks this address, perhaps for too many calls"
    NO_RIGHT = "the token gives no right to it"
    NO_DATA = "no data for these days"
    QUOTA = "the quota of calls is used up"
    DAILY_QUOTA = "the quota of the day is used up"
    OUTAGE = "Enedis is unavailable"


REASON_BY_CODE = {
    "invalid_request": RefusalReason.INVALID_REQUEST,
    "adam-err0002": RefusalReason.INVALID_REQUEST,
    "adam-err0123": RefusalReason.TOO_EARLY,
    "adam-err0125": RefusalReason.TOO_EARLY,
    "adam-dc-0016": RefusalReason.TOO_EARLY,
    "adam-dc-0009": RefusalReason.TOO_EARLY,
    "adam-err0126": RefusalReason.TOO_MANY_DAYS,
    "adam-dc-0015": RefusalReason.TOO_MANY_DAYS,
    "adam-err0069": RefusalReason.NO_SUCH_SERIES,
    "adam-err0075": RefusalReason.OBJECTED,
    "adam-err0061": RefusalReason.NOT_HOLDER,
    "900901": RefusalReason.INVALID_TOKEN,
    "900902": RefusalReason.INVALID_TOKEN,
    "900908": RefusalReason.NOT_SUBSCRIBED,
    "adam-dc-0008": RefusalReason.NO_CONSENT,
    "adam-dc-0007": RefusalReason.NOT_EFFECTIVE,
    "unauthorized_user": RefusalReason.NO_RIGHT,
    "no_data_found": RefusalReason.NO_DATA,
    "stm-err-0000014": RefusalReason.NO_DATA,
    "stm-err-0000019": RefusalReason.NO_DATA,
    "stm-err-0000020": RefusalReason.NO_DATA,
    "900804": RefusalReason.QUOTA,
    "900807": RefusalReason.QUOTA,
    "429": RefusalReason.QUOTA,
    "technical_error": RefusalReason.OUTAGE,
    "adam-dc-0500": RefusalReason.OUTAGE,
    "stm-err-0000001": RefusalReason.OUTAGE,
    # MyElectricalData v2
    "date_too_old": RefusalReason.TOO_EARLY,
    "invalid_date_format": RefusalReason.INVALID_REQUEST,
    "invalid_date_range": RefusalReason.INVALID_REQUEST,
    "rate_limit_exceeded": RefusalReason.DAILY_QUOTA,
    "access_denied": RefusalReason.NO_CONSENT,
    "enedis_unavailable": RefusalReason.OUTAGE,
    "enedis_error": RefusalReason.OUTAGE,
    "no_data": RefusalReason.NO_DATA,
}
ERROR_BY_REASON: dict[RefusalReason, type[PortalError]] = {
    RefusalReason.INVALID_REQUEST: ResponseError,
    RefusalReason.TOO_EARLY: TooOldError,
    RefusalReason.TOO_MANY_DAYS: TooLongError,
    RefusalReason.INVALID_TOKEN: LoginError,
    RefusalReason.NO_RIGHT: ConsentError,
    RefusalReason.NO_DATA: NoDataError,
    RefusalReason.OUTAGE: UnreachableError,
}
PAUSES = {
    RefusalReason.NO_SUCH_SERIES: timedelta(days=7),
    RefusalReason.NOT_SUBSCRIBED: timedelta(days=7),
    RefusalReason.OBJECTED: timedelta(hours=23),
}
"""When a series that is not given is asked for again."""
CONSENT_REASONS = {RefusalReason.NOT_HOLDER, RefusalReason.NO_CONSENT, RefusalReason.NOT_EFFECTIVE}
"""Consents list series: of another one the same may be given."""
DEFAULT_WAIT = timedelta(hours=1)
BLOCKED_WAIT = timedelta(hours=6)
GENERIC_CODES = frozenset({"enedis_error"})
"""Codes of gateways for any refusal by Enedis, whose own code stands in the message."""
_SAFE_CODE = re.compile(r"(?!.*\d{8})[A-Za-z0-9_-]{1,40}", re.ASCII)
_CODE_IN_TEXT = re.compile(
    r"STM-ERR-\d{7}|(?:ADAM[-_])?(?:ERR|DC)[-_]?\d{4}(?!\d)|no_data_found|unauthorized_user", re.ASCII | re.IGNORECASE
)
_ADAM_CODE = re.compile(r"(?:adam[-_])?(err|dc)[-_]?(\d{4})", re.ASCII)
_NEXT_ACCESS_PATTERN = re.compile(r"(\d{4})-([A-Z][a-z]{2})-(\d{2}) (\d{2}:\d{2}:\d{2})([+-]\d{4})", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
OwnReasons = Callable[[int, str, Any], RefusalReason | None]
"""The reason for a status, a code ("" for none) and a body at one access; None: the common meaning."""


def raise_for_refusal(response: Response, now: datetime, own_reasons: OwnReasons) -> Any:
    """Return the JSON of a successful response. Raise the error of a refusal."""
    body = response.json_or_none()
    if 200 <= response.status < 300 and body is not None and not _is_refusal(body):
        return body
    code = find_code(body)
    reason = (
        _find_block(response.status, body)
        or own_reasons(response.status, code, body)
        or REASON_BY_CODE.get(_normalize_code(code))
        or _find_reason_by_status(response.status, body)
    )
    if reason:
        raise build_error(reason, response, body, now)
    suffix = f" and code {code}" if _SAFE_CODE.fullmatch(code) else ""
    prefix = "HTML, " if response.body.lstrip()[:1] == b"<" else ""
    raise ResponseError(f"{response.label} returned {prefix}status {response.status}{suffix}, which is unknown")


def build_error(reason: RefusalReason, response: Response, body: Any, now: datetime) -> PortalError:
    """Return the error of a refusal, with the wait for one of quota."""
    message = f"{response.label}: {reason}"
    if reason in {RefusalReason.QUOTA, RefusalReason.DAILY_QUOTA, RefusalReason.BLOCKED}:
        return RateLimitError(message, _find_wait(reason, response, body, now))
    if reason in PAUSES:
        return FeedRefusedError(message, now + PAUSES[reason])
    if reason in CONSENT_REASONS:
        return ConsentError(message, is_whole_point=False)
    if reason is RefusalReason.OUTAGE and response.status < 501 and body is not None:
        return SeriesOutageError(message)
    return ERROR_BY_REASON[reason](message)


def find_code(body: Any) -> str:
    """Return the code in any of the four shapes, also inside a gateway's wrapper or in the text of a message; "" for none."""
    codes = list(_list_codes(body))
    in_texts = [found[0] for text in _list_texts(body) if (found := _CODE_IN_TEXT.search(text))]
    specific = [code for code in (*codes, *in_texts) if _normalize_code(code) in REASON_BY_CODE.keys() - GENERIC_CODES]
    return next(chain(specific, codes, in_texts), "")


def _list_codes(body: Any) -> Iterator[str]:
    """Return the codes of a body, the innermost first: that is the one of Enedis."""
    for part in _list_parts(body):
        code = part.get("code", part.get("error", ""))
        if isinstance(code, str | int) and code != "":
            yield str(code)


def _list_texts(body: Any) -> Iterator[str]:
    for part in _list_parts(body):
        yield from (str(part[key]) for key in ("message", "description", "error_description", "detail", "error") if part.get(key))


def _list_parts(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, dict):
        yield from _list_parts(body.get("fault"))
        yield from _list_parts(body.get("error"))
        yield body


def _normalize_code(code: str) -> str:
    """Return the same code for ADAM_DC_0008, ADAM-DC-0008 and DC-0008."""
    code = code.lower()
    if found := _ADAM_CODE.fullmatch(code):
        return f"adam-{found[1]}{'-' if found[1] == 'dc' else ''}{found[2]}"
    return code


def _is_refusal(body: Any) -> bool:
    return isinstance(body, dict) and (body.get("success") is False or bool(body.get("error")) or "fault" in body)


def _find_block(status: int, body: Any) -> RefusalReason | None:
    """Return BLOCKED for the page of a content delivery network, which is JSON for whoever accepts JSON."""
    is_page = isinstance(body, dict) and ("error_code" in body or "cloudflare_error" in body)
    return RefusalReason.BLOCKED if is_page and status == 403 else None


def _find_reason_by_status(status: int, body: Any) -> RefusalReason | None:
    if status >= 500:
        return RefusalReason.OUTAGE
    return (
        {401: RefusalReason.INVALID_TOKEN, 403: RefusalReason.NO_RIGHT, 429: RefusalReason.QUOTA}.get(status)
        if body is not None or status == 429
        else None
    )


def _find_wait(reason: RefusalReason, response: Response, body: Any, now: datetime) -> timedelta:
    if wait := parse_retry_after(response.headers.get("Retry-After"), now):
        return wait
    if (at := _parse_next_access(body)) and at > now:
        return min(at - now, timedelta(days=1))
    if reason is RefusalReason.DAILY_QUOTA:
        return day_start(now.astimezone(PARIS).date() + timedelta(days=1)) - now
    if reason is RefusalReason.BLOCKED:
        return BLOCKED_WAIT
    return DEFAULT_WAIT


def _parse_next_access(body: Any) -> datetime | None:
    """Parse `nextAccessTime`, written like "2026-Nov-02 05:00:00+0000 UTC", anywhere in the body."""
    found = _NEXT_ACCESS_PATTERN.search(json.dumps(body))
    if not found or found[2] not in _MONTHS:
        return None
    try:
        text = f"{found[1]}-{_MONTHS.index(found[2]) + 1:02}-{found[3]}T{found[4]}{found[5]}"
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
