"""Durations as Prometheus writes them: 30m, 1h30m, 7d."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

_UNIT_MILLISECONDS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_PATTERN = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _UNIT_MILLISECONDS), re.ASCII)


def parse_duration(text: object) -> timedelta:
    """Return a duration written with units from the largest to the smallest, each once; raise ValueError that shows the form."""
    if isinstance(text, timedelta):
        return text
    match = _PATTERN.fullmatch(text) if isinstance(text, str) and text else None
    if not match:
        raise ValueError("is not a duration; write it like 30m, 2h, 1h30m or 7d")
    total = sum(int(number) * size for number, size in zip(match.groups(), _UNIT_MILLISECONDS.values(), strict=True) if number)
    if total > 100 * _UNIT_MILLISECONDS["y"]:
        raise ValueError("is longer than a hundred years")
    return timedelta(milliseconds=total)


def format_duration(length: timedelta) -> str:
    """Return a duration in the form that `parse_duration` reads, with no unit larger than days."""
    rest, text = round(length.total_seconds() * 1000), ""
    for unit in ("d", "h", "m", "s", "ms"):
        number, rest = divmod(rest, _UNIT_MILLISECONDS[unit])
        text += f"{number}{unit}" if number else ""
    return text or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    Field(json_schema_extra={"type": "string", "pattern": r"^([0-9]+(ms|s|m|h|d|w|y))+$", "format": ""}),
]
"""A duration as Prometheus writes it: `30m`, `1h30m`, `7d`."""
