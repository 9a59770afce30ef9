"""Refusals by Enedis and the gateways: every shape, every code, one error each."""

import json
from datetime import timedelta
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from exporter.client.response import Response
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
from exporter.portals.enedis.refusals import REASON_BY_CODE, ConsentError, SeriesOutageError, raise_for_refusal
from tests.conftest import NOW

MEANINGS: list[tuple[int, str, type[PortalError]]] = [
    (400, "Invalid_request", ResponseError),
    (400, "ADAM-ERR0002", ResponseError),
    (400, "ADAM-ERR0123", TooOldError),
    (400, "ADAM-ERR0125", TooOldError),
    (400, "ADAM-DC-0016", TooOldError),
    (400, "ADAM-ERR0126", TooLongError),
    (400, "ADAM-DC-0015", TooLongError),
    (400, "ADAM-ERR0069", FeedRefusedError),
    (400, "ADAM-ERR0075", FeedRefusedError),
    (400, "ADAM-ERR0061", ConsentError),
    (401, "900901", LoginError),
    (401, "900902", LoginError),
    (403, "ADAM-DC-0008", ConsentError),
    (403, "ADAM_DC_0008", ConsentError),
    (403, "ADAM-DC-0007", ConsentError),
    (403, "ADAM-DC-0009", TooOldError),
    (403, "900908", FeedRefusedError),
    (403, "unauthorized_user", ConsentError),
    (404, "no_data_found", NoDataError),
    (404, "STM-ERR-0000014", NoDataError),
    (404, "STM-ERR-0000019", NoDataError),
    (404, "STM-ERR-0000020", NoDataError),
    (429, "900804", RateLimitError),
    (429, "900807", RateLimitError),
    (429, "429", RateLimitError),
    (500, "technical_error", SeriesOutageError),
    (500, "ADAM-DC-0500", SeriesOutageError),
    (500, "STM-ERR-0000001", SeriesOutageError),
    (200, "DATE_TOO_OLD", TooOldError),
    (200, "INVALID_DATE_FORMAT", ResponseError),
    (200, "INVALID_DATE_RANGE", ResponseError),
    (200, "RATE_LIMIT_EXCEEDED", RateLimitError),
    (200, "ACCESS_DENIED", ConsentError),
    (200, "ENEDIS_UNAVAILABLE", SeriesOutageError),
    (200, "ENEDIS_ERROR", SeriesOutageError),
    (200, "NO_DATA", NoDataError),
]
SHAPES = {
    "business": lambda code: {"error": code, "error_description": "made up", "error_uri": "x"},
    "gateway": lambda code: {"code": code, "message": "made up", "description": "made up"},
    "fault": lambda code: {"fault": {"code": int(code) if code.isdecimal() else code, "message": "made up"}},
    "list": lambda code: [{"code": code, "message": "made up"}],
    "wrapped by conso": lambda code: {"status": 1, "message": "made up", "error": {"error": code}},
    "wrapped by v2": lambda code: {"success": False, "data": None, "error": {"code": code, "message": "made up"}},
}


def answer(status: int, body: Any, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, "http://127.0.0.1/", CIMultiDictProxy(CIMultiDict(headers)), raw, "consumption_days of house")


def nothing_own(status: int, code: str, body: Any) -> None:
    return None


def error_of(found: Response) -> PortalError:
    with pytest.raises(PortalError) as caught:
        raise_for_refusal(found, NOW, nothing_own)
    return caught.value


@pytest.mark.parametrize(("status", "code", "error"), MEANINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_code_in_every_shape(status: int, code: str, error: type[PortalError], shape: str) -> None:
    """
    Each documented code is one error, in every shape.
    """
    if status == 200 and shape in ("gateway", "list"):
        status = 400

    found = error_of(answer(status, SHAPES[shape](code)))

    assert type(found) is error
    assert str(found).startswith("consumption_days of house")


def test_no_code_is_forgotten() -> None:
    """
    The table of meanings here and the one of the program have the same codes.
    """
    assert {code.lower().replace("_dc_", "-dc-").replace("adam_", "adam-") for _, code, _ in MEANINGS} == set(REASON_BY_CODE)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"message": "no"}, LoginError),
        (403, {"message": "no"}, ConsentError),
        (429, b"slow down", RateLimitError),
        (500, b"<html>", UnreachableError),
        (503, b"<html>maintenance", UnreachableError),
        (200, b"<!DOCTYPE html>", ResponseError),
        (200, b"", ResponseError),
        (200, b'{"half": [', ResponseError),
        (403, b"<html>blocked", ResponseError),
        (404, {"detail": "Not Found"}, ResponseError),
        (400, {"error": "something_new"}, ResponseError),
        (400, {"detail": "Enedis: ADAM-ERR0123"}, TooOldError),
        (404, {"detail": "no_data_found"}, NoDataError),
        (400, {"detail": [{"msg": "Enedis said ERR0069"}]}, FeedRefusedError),
        (
            500,
            {"status": 500, "message": "made up", "error": "ADAM-ERR0075: made up"},
            FeedRefusedError,
        ),
        (403, {"code": "new", "message": "ADAM-DC-0008: made up"}, ConsentError),
        (403, {"title": "Error 1020: made up", "status": 403, "error_code": 1020}, RateLimitError),
        (403, {"cloudflare_error": True, "error": "access denied"}, RateLimitError),
    ],
)
def test_bodies_without_a_known_code(status: int, body: Any, error: type[PortalError]) -> None:
    """
    Without a known code the status decides; an HTML page is no refusal of the login.
    """
    assert type(error_of(answer(status, body))) is error


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("ADAM-DC-0008: made up", ConsentError),
        ("ADAM_DC_0008", ConsentError),
        ("made up (ADAM-ERR0123)", TooOldError),
        ("ERR0069", FeedRefusedError),
        ("no_data_found", NoDataError),
        ("STM-ERR-0000014", NoDataError),
        ("unauthorized_user: made up", ConsentError),
        ("technical_error: made up", SeriesOutageError),
        ("STM-ERR-00000690069", SeriesOutageError),
    ],
)
def test_a_generic_code_is_explained_by_its_message(message: str, error: type[PortalError]) -> None:
    """
    Of "Enedis refused" the reason stands in the text only.
    """
    body = {"success": False, "data": None, "error": {"code": "ENEDIS_ERROR", "message": message, "field": None}}

    assert type(error_of(answer(200, body))) is error


@pytest.mark.parametrize("status", [400, 403])
def test_not_the_holder_or_not_yet(status: int) -> None:
    """
    ADAM-DC-0007 comes for somebody else's contract, and for a consent that is hours old.
    """
    found = error_of(answer(status, {"error": "ADAM-DC-0007"}))

    assert str(found).endswith("who consented is not the holder of the contract, or the consent is not yet effective")


def test_an_unknown_code_is_shown_unless_it_could_be_a_number_of_somebody() -> None:
    """
    A code not yet known is worth seeing; what holds eight digits in a row could be a usage point.
    """
    assert "something_new" in str(error_of(answer(400, {"error": "something_new"})))
    assert "01234567890123" not in str(error_of(answer(400, {"error": "prm-01234567890123"})))


@pytest.mark.parametrize(
    ("found", "wait"),
    [
        (answer(429, {"code": "900804", "nextAccessTime": "2026-Nov-20 10:00:00+0000 UTC"}), timedelta(minutes=30)),
        (answer(429, {"fault": {"code": 900807, "description": "until 2026-Nov-20 09:45:00+0000 UTC"}}), timedelta(minutes=15)),
        (answer(429, {"code": "900804"}, **{"Retry-After": "120"}), timedelta(minutes=2)),
        (answer(429, {"code": "900804", "nextAccessTime": "2026-Foo-20 10:00:00+0000 UTC"}), timedelta(hours=1)),
        (answer(429, {"code": "900804"}), timedelta(hours=1)),
        (answer(200, {"success": False, "error": {"code": "RATE_LIMIT_EXCEEDED"}}), timedelta(hours=13, minutes=30)),
    ],
)
def test_the_wait_of_a_quota(found: Response, wait: timedelta) -> None:
    """
    The wait is that of the response, else an hour; a daily quota ends at local midnight.
    """
    error = error_of(found)

    assert isinstance(error, RateLimitError)
    assert error.retry_after == wait


@pytest.mark.parametrize(
    ("code", "wait"),
    [("ADAM-ERR0069", timedelta(days=7)), ("900908", timedelta(days=7)), ("ADAM-ERR0075", timedelta(hours=23))],
)
def test_when_a_series_that_is_not_given_is_asked_again(code: str, wait: timedelta) -> None:
    """
    What the meter or the application lacks is asked for again after a week, what the customer can change after a day.
    """
    error = error_of(answer(400, {"error": code}))

    assert isinstance(error, FeedRefusedError)
    assert error.until == NOW + wait


@pytest.mark.parametrize(
    ("status", "body", "is_whole_point"),
    [
        (403, {"error": "ADAM-DC-0008"}, False),
        (400, {"error": "ADAM-DC-0007"}, False),
        (400, {"error": "ADAM-ERR0061"}, False),
        (403, {"error": "unauthorized_user"}, True),
        (403, {"message": "no"}, True),
    ],
)
def test_a_consent_may_lack_one_series(status: int, body: Any, is_whole_point: bool) -> None:
    """
    Enedis refuses a series; that the token gives no right is about the usage point.
    """
    error = error_of(answer(status, body))

    assert isinstance(error, ConsentError)
    assert error.is_whole_point is is_whole_point


def test_a_good_response_is_returned_whatever_its_content_type() -> None:
    """
    JSON is read as JSON; an envelope that says `error: null`, and partial data, are good.
    """
    good = {"success": True, "data": {}, "error": None}

    assert raise_for_refusal(answer(200, good, **{"Content-Type": "application/octet-stream"}), NOW, nothing_own) == good
