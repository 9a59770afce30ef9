"""The response of a portal, as bytes, text or JSON."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDictProxy
from yarl import URL

from exporter.errors import ResponseError

MIN_BYTES_PER_VALUE = 8
"""A response of more values than this allows is meant to fill our memory: an empty list is 2 bytes there and 56 here."""
_ALLOWED_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"})
"""Charsets of a page; some of Python's other codecs take hours for a few megabytes."""
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""The escape of a surrogate; JSON may hold one without its pair, UTF-8 cannot."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response with its complete body; `status` is below 500 and not 429, unless requested with `raise_for_status=False`."""

    status: int
    url: str = field(repr=False)
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    label: str
    """Method and path, or the caller's name for the request, for messages: no query, no secret, no number of a meter."""

    @property
    def location(self) -> str | None:
        """The absolute target of a redirect; None if it is not usable."""
        target = self.headers.get("Location")
        try:
            return str(URL(self.url).join(URL(target))) if target else None
        except ValueError:
            return None

    def text(self) -> str:
        """Return the body as text, in its own charset if that is a usual one, else in UTF-8."""
        charset = self.headers.get("Content-Type", "").lower().partition("charset=")[2].split(";")[0].strip(" \"'")
        return self.body.decode(charset if charset in _ALLOWED_CHARSETS else "utf-8", "replace")

    def json(self) -> Any:
        """Return the body parsed as JSON, whatever its content type.

        Raise ResponseError for a status other than 2xx, for anything but JSON (NaN and Infinity are not), and for a
        response of very many values. A lone surrogate becomes a question mark.
        """
        if not 200 <= self.status < 300:
            raise ResponseError(f"{self.label} returned status {self.status}")
        try:
            return self._parse_json()
        except (ValueError, RecursionError):
            found = "HTML" if self.body.lstrip()[:1] == b"<" else "invalid data"
            raise ResponseError(f"{self.label} returned {found}, expected JSON") from None

    def json_or_none(self) -> Any | None:
        """Return the body of an error response parsed as JSON, whatever its status; None if it is not JSON."""
        try:
            return self._parse_json()
        except (ValueError, RecursionError):
            return None

    def _parse_json(self) -> Any:
        if sum(map(self.body.count, (b",", b"[", b"{"))) > max(len(self.body) // MIN_BYTES_PER_VALUE, 1_000_000):
            raise ResponseError(f"{self.label} returned more values than any meter has")
        value = json.loads(
            self.body.decode(json.detect_encoding(self.body)), parse_constant=_reject_constant, parse_float=_parse_finite_float
        )
        if _LONE_SURROGATE.search(self.body):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        return value


def _reject_constant(name: str) -> float:
    raise ValueError(name)


def _parse_finite_float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("not a finite number")
    return number
