"""What a portal answered, and reading it as text or JSON."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDictProxy
from yarl import URL

from exporter.errors import ResponseError

MIN_BYTES_PER_VALUE = 8
"""An answer of more values than this allows is made to fill our memory: an empty list is two bytes there and 56 here."""
_ALLOWED_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"})
"""What a page may be written in; some of Python's other codecs take hours for a few megabytes."""
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""The escape of half a character; JSON may hold one without its other half, and no file can."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a portal answered, the body read whole; `status` is below 500 and not 429 unless asked for with `checked=False`."""

    status: int
    url: str = field(repr=False)
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    label: str
    """Method and path, or the name the caller gave, for messages: no query, no secret, no number of a meter."""

    @property
    def location(self) -> str | None:
        """Where a redirect points, made absolute; None when it points nowhere usable."""
        target = self.headers.get("Location")
        try:
            return str(URL(self.url).join(URL(target))) if target else None
        except ValueError:
            return None

    def text(self) -> str:
        """Give the body as text, by its own charset where that is a usual one, else UTF-8."""
        charset = self.headers.get("Content-Type", "").lower().partition("charset=")[2].split(";")[0].strip(" \"'")
        return self.body.decode(charset if charset in _ALLOWED_CHARSETS else "utf-8", "replace")

    def json(self) -> Any:
        """Parse the body as JSON, whatever its content type says.

        Raises ResponseError for a status other than 2xx, for what is not JSON (NaN and Infinity are not), and for an
        answer of very many values. Half a character becomes a question mark.
        """
        if not 200 <= self.status < 300:
            raise ResponseError(f"{self.label} answered with status {self.status}")
        try:
            return self._parse_json()
        except (ValueError, RecursionError):
            seen = "a web page" if self.body.lstrip()[:1] == b"<" else "no JSON"
            raise ResponseError(f"{self.label} answered with {seen} where JSON is due") from None

    def json_or_none(self) -> Any | None:
        """Parse the body of a refusal, whatever its status; None for what is not JSON."""
        try:
            return self._parse_json()
        except (ValueError, RecursionError):
            return None

    def _parse_json(self) -> Any:
        if sum(map(self.body.count, (b",", b"[", b"{"))) > max(len(self.body) // MIN_BYTES_PER_VALUE, 1_000_000):
            raise ResponseError(f"{self.label} answered with more values than any meter has")
        told = json.loads(
            self.body.decode(json.detect_encoding(self.body)), parse_constant=_reject_constant, parse_float=_parse_finite_float
        )
        if _LONE_SURROGATE.search(self.body):
            told = json.loads(json.dumps(told, ensure_ascii=False).encode(errors="replace"))
        return told


def _reject_constant(name: str) -> float:
    raise ValueError(name)


def _parse_finite_float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("not a finite number")
    return number
