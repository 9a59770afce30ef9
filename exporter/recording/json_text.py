"""JSON whose numbers keep the form they were written in, and files of it that a person can read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LINE_WIDTH = 400
"""What fits into one line stands in one."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: `1.50` is not `1.5`."""

    text: str


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text, its numbers as `Number`; raise ValueError."""
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def format_compact(value: Any) -> str:
    """Return a value as JSON in one line, as portals send it."""
    return "".join(_format_flat(value, ",", ":"))


def format_readable(value: Any) -> str:
    """Return a value as JSON for people: a row a line, in printable characters."""
    return "".join(_format_lines(value, 0)) + "\n"


def to_plain(value: Any) -> Any:
    """Return a value with Python's own numbers."""
    match value:
        case Number():
            return json.loads(value.text)
        case dict():
            return {key: to_plain(part) for key, part in value.items()}
        case list():
            return [to_plain(part) for part in value]
    return value


def _format_lines(value: Any, depth: int) -> Iterator[str]:
    if not isinstance(value, dict | list) or not value:
        yield from _format_flat(value, ", ", ": ")
        return
    flat = "".join(_format_flat(value, ", ", ": "))
    if len(flat) + depth <= LINE_WIDTH:
        yield flat
        return
    inner, (opening, closing) = "\n" + " " * (depth + 1), "{}" if isinstance(value, dict) else "[]"
    yield opening
    parts = value.items() if isinstance(value, dict) else ((None, part) for part in value)
    for position, (key, part) in enumerate(parts):
        yield f"{',' if position else ''}{inner}"
        if key is not None:
            yield f"{_format_text(key)}: "
        yield from _format_lines(part, depth + 1)
    yield f"\n{' ' * depth}{closing}"


def _format_flat(value: Any, comma: str, colon: str) -> Iterator[str]:
    match value:
        case Number():
            yield value.text
        case str():
            yield _format_text(value)
        case dict():
            yield "{"
            for position, (key, part) in enumerate(value.items()):
                yield f"{comma if position else ''}{_format_text(key)}{colon}"
                yield from _format_flat(part, comma, colon)
            yield "}"
        case list():
            yield "["
            for position, part in enumerate(value):
                yield comma if position else ""
                yield from _format_flat(part, comma, colon)
            yield "]"
        case _:
            yield json.dumps(value)


def _format_text(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in json.dumps(text, ensure_ascii=False)
    )


def _reject_constant(name: str) -> float:
    raise ValueError(name)
