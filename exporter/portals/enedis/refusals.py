"""Why Enedis or a gateway did not answer: four shapes of bodies, one table of codes, our errors."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from exporter.answer import Answer
from exporter.errors import EndOfPastError, LoginError, NoDataError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.portals.enedis.stamps import PARIS, midnight
from exporter.session import retry_after


class ConsentError(LoginError):
    """The usage point is refused; others of the account may be open."""


class TooLongError(ResponseError):
    """The call asked for more days than the source gives at once."""


class WaitWeekError(NoDataError):
    """The series does not exist for this usage point, or not for this application; asked again after a week."""


class WaitDayError(NoDataError):
    """The customer keeps this series to himself; asked again after a day."""


class Why(StrEnum):
    """What a code means to us."""

    OUR_BUG = "our call was not understood"
    TOO_EARLY = "nothing is kept that far back"
    TOO_LONG = "more days were asked for than are given at once"
    NO_SUCH_SERIES = "this usage point does not measure in that direction"
    OBJECTED = "its customer objected to the recording of the load curve"
    NOT_SUBSCRIBED = "the application has not subscribed to this call"
    TOKEN = "the token is wrong or has expired"  # noqa: S105  # a sentence
    NOT_HOLDER = "who consented does not hold the contract"
    NO_CONSENT = "there is no consent, or it has expired"
    MOVED_OUT = "the customer who consented has moved out"
    NO_RIGHT = "the token gives no right to it"
    NO_DATA = "nothing is there for these days"
    QUOTA = "the quota of calls is used up"
    DAILY_QUOTA = "the quota of the day is used up"
    TROUBLE = "Enedis is in trouble"


CODES = {
    "invalid_request": Why.OUR_BUG,
    "adam-err0002": Why.OUR_BUG,
    "adam-err0123": Why.TOO_EARLY,
    "adam-err0125": Why.TOO_EARLY,
    "adam-dc-0016": Why.TOO_EARLY,
    "adam-dc-0009": Why.TOO_EARLY,
    "adam-err0126": Why.TOO_LONG,
    "adam-dc-0015": Why.TOO_LONG,
    "adam-err0069": Why.NO_SUCH_SERIES,
    "adam-err0075": Why.OBJECTED,
    "adam-err0061": Why.NOT_HOLDER,
    "900901": Why.TOKEN,
    "900902": Why.TOKEN,
    "900908": Why.NOT_SUBSCRIBED,
    "adam-dc-0008": Why.NO_CONSENT,
    "adam-dc-0007": Why.MOVED_OUT,
    "unauthorized_user": Why.NO_RIGHT,
    "no_data_found": Why.NO_DATA,
    "stm-err-0000014": Why.NO_DATA,
    "stm-err-0000019": Why.NO_DATA,
    "stm-err-0000020": Why.NO_DATA,
    "900804": Why.QUOTA,
    "900807": Why.QUOTA,
    "429": Why.QUOTA,
    "technical_error": Why.TROUBLE,
    "adam-dc-0500": Why.TROUBLE,
    "stm-err-0000001": Why.TROUBLE,
    # MyElectricalData v2
    "date_too_old": Why.TOO_EARLY,
    "invalid_date_format": Why.OUR_BUG,
    "invalid_date_range": Why.OUR_BUG,
    "rate_limit_exceeded": Why.DAILY_QUOTA,
    "access_denied": Why.NO_CONSENT,
    "enedis_unavailable": Why.TROUBLE,
    "enedis_error": Why.TROUBLE,
    "no_data": Why.NO_DATA,
}
ERRORS: dict[Why, type[PortalError]] = {
    Why.OUR_BUG: ResponseError,
    Why.TOO_EARLY: EndOfPastError,
    Why.TOO_LONG: TooLongError,
    Why.NO_SUCH_SERIES: WaitWeekError,
    Why.NOT_SUBSCRIBED: WaitWeekError,
    Why.OBJECTED: WaitDayError,
    Why.TOKEN: LoginError,
    Why.NOT_HOLDER: ConsentError,
    Why.NO_CONSENT: ConsentError,
    Why.MOVED_OUT: ConsentError,
    Why.NO_RIGHT: ConsentError,
    Why.NO_DATA: NoDataError,
    Why.TROUBLE: UnreachableError,
}
UNSAID_WAIT = timedelta(hours=1)
_FIT_TO_SHOW = re.compile(r"(?!.*\d{8})[A-Za-z0-9_-]{1,40}", re.ASCII)
_IN_TEXT = re.compile(r"ADAM[-_][A-Z]{2,3}[-_]?\d{4}", re.ASCII)
_NEXT_ACCESS = re.compile(r"(\d{4})-([A-Z][a-z]{2})-(\d{2}) (\d{2}:\d{2}:\d{2})([+-]\d{4})", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
Own = Callable[[int, str, Any], Why | None]
"""What a status, a code ("" for none) and a body mean to one way in particular; None: what they mean to all."""


def said(answer: Answer, now: datetime, own: Own) -> Any:
    """Give the JSON of a good answer, or raise the error that its refusal means."""
    body = answer.json_if_any()
    if 200 <= answer.status < 300 and body is not None and not _refuses(body):
        return body
    code = code_of(body)
    meant = own(answer.status, code, body) or CODES.get(_plain(code)) or _by_status(answer.status, body)
    if meant:
        raise error_of(meant, answer, body, now)
    shown = f" and code {code}" if _FIT_TO_SHOW.fullmatch(code) else ""
    seen = "a web page, " if answer.body.lstrip()[:1] == b"<" else ""
    raise ResponseError(f"{answer.what} answered with {seen}status {answer.status}{shown}, which we do not understand")


def error_of(why: Why, answer: Answer, body: Any, now: datetime) -> PortalError:
    """Make the error of a refusal, with the wait where it is one of quota."""
    message = f"{answer.what}: {why}"
    if why in {Why.QUOTA, Why.DAILY_QUOTA}:
        return RateLimitError(message, _wait(why, answer, body, now))
    return ERRORS[why](message)


def code_of(body: Any) -> str:
    """Find the code in any of the four shapes, also inside what a gateway wraps around it; "" when there is none."""
    if isinstance(body, list):
        return code_of(body[0]) if body else ""
    if not isinstance(body, dict):
        return ""
    for inner in (body.get("fault"), body.get("error")):
        if isinstance(inner, dict | list) and (within := code_of(inner)):
            return within
    code = body.get("code", body.get("error", ""))
    if not code and (inside := _IN_TEXT.search(str(body.get("detail", "")))):
        return inside[0]
    return str(code) if isinstance(code, str | int) else ""


def _plain(code: str) -> str:
    """Write ADAM_DC_0008 and ADAM-DC-0008 alike."""
    return code.lower().replace("_dc_", "-dc-").replace("adam_", "adam-")


def _refuses(body: Any) -> bool:
    return isinstance(body, dict) and (body.get("success") is False or bool(body.get("error")) or "fault" in body)


def _by_status(status: int, body: Any) -> Why | None:
    if status >= 500:
        return Why.TROUBLE
    return {401: Why.TOKEN, 403: Why.NO_RIGHT, 429: Why.QUOTA}.get(status) if body is not None or status == 429 else None


def _wait(why: Why, answer: Answer, body: Any, now: datetime) -> timedelta:
    if told := retry_after(answer.headers.get("Retry-After"), now):
        return told
    if (at := _next_access(body)) and at > now:
        return min(at - now, timedelta(days=1))
    if why is Why.DAILY_QUOTA:
        return midnight(now.astimezone(PARIS).date() + timedelta(days=1)) - now
    return UNSAID_WAIT


def _next_access(body: Any) -> datetime | None:
    """Read `nextAccessTime`, written like "2026-Nov-02 05:00:00+0000 UTC", wherever the body holds it."""
    found = _NEXT_ACCESS.search(json.dumps(body))
    if not found or found[2] not in _MONTHS:
        return None
    try:
        text = f"{found[1]}-{_MONTHS.index(found[2]) + 1:02}-{found[3]}T{found[4]}{found[5]}"
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
