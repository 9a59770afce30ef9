"""JSON whose numbers keep the form they were written in, long lists of it cut, and files of it that a person can read."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LINE_WIDTH = 400
"""What fits into one line stands in one."""
MAX_VALUES = 5000
"""A list of more values, in all its rows, is cut; three years of days and a week of ten minutes are not."""
END_ROWS = 20
"""Kept at either end of a list that is cut."""
MAX_KINDS = 30
MIN_KEY_LENGTH = 4
"""Shorter values are codes and flags, not identifiers."""


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


def sample(values: Sequence[Any], max_values: int = MAX_VALUES) -> tuple[list[Any], int]:
    """Return JSON values with their long lists cut, all in the same way; and how many rows were left out."""
    lists = {
        id(rows): _LongList(rows, _select_ends_and_kinds(rows)) for value in values for rows in _find_long(value, max_values)
    }
    for long in lists.values():
        long.by_key = _index_rows(long.rows)
    _keep_related(list(lists.values()))
    left_out = sum(len(long.rows) - len(long.kept) for long in lists.values())
    return [_cut(value, lists) for value in values], left_out


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


@dataclass(slots=True)
class _LongList:
    rows: list[Any]
    kept: set[int]
    by_key: dict[str, int] = field(default_factory=dict)
    """The rows by their own identifiers: values of fields that no two rows share."""


def _find_long(value: Any, max_values: int) -> Iterator[list[Any]]:
    if isinstance(value, list) and len(value) > 2 * END_ROWS and _count_values(value) > max_values:
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(part, dict | list):
            yield from _find_long(part, max_values)


def _count_values(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value
    return sum(_count_values(part) if isinstance(part, dict | list) else 1 for part in parts)


def _select_ends_and_kinds(rows: list[Any]) -> set[int]:
    kept = {*range(min(END_ROWS, len(rows))), *range(max(len(rows) - END_ROWS, 0), len(rows))}
    kinds: dict[object, int] = {}
    for position, row in enumerate(rows):
        kinds.setdefault(_describe_kind(row), position)
    return kept | set(list(kinds.values())[:MAX_KINDS])


def _describe_kind(value: Any) -> object:
    """Return what a row is like: its fields, their types, and which short codes stand in them."""
    match value:
        case dict():
            return tuple((name, _describe_kind(part)) for name, part in value.items())
        case list():
            return ("list", _describe_kind(value[0]) if value else None)
        case Number(text):
            return ("number", text if len(text) < 3 and text.isdecimal() else "." in text)
        case None | bool():
            return value
    return type(value).__name__


def _index_rows(rows: list[Any]) -> dict[str, int]:
    columns: dict[str, list[str]] = {}
    for row in rows:
        for name, value in _list_keys(row):
            columns.setdefault(name, []).append(value)
    own = {name for name, values in columns.items() if len(set(values)) == len(values)}
    return {value: position for position, row in enumerate(rows) for name, value in _list_keys(row) if name in own}


def _list_keys(row: Any) -> Iterator[tuple[str, str]]:
    """Return what may identify a row or point to another: whole numbers, and texts without blanks."""
    for name, value in row.items() if isinstance(row, Mapping) else ():
        text = value.text if isinstance(value, Number) else value
        if isinstance(text, str) and len(text) >= MIN_KEY_LENGTH and text.isalnum():
            yield name, text


def _keep_related(lists: list[_LongList]) -> None:
    """Keep the rows that rows kept point to, until nothing is missing."""
    shared = Counter(value for long in lists for value in long.by_key)
    new = [long.rows[position] for long in lists for position in long.kept]
    while new:
        wanted = {value for row in new for _, value in _list_keys(row) if value in shared}
        new = []
        for long in lists:
            found = {long.by_key[value] for value in wanted if value in long.by_key} - long.kept
            long.kept |= found
            new += [long.rows[position] for position in found]


def _cut(value: Any, lists: Mapping[int, _LongList]) -> Any:
    match value:
        case dict():
            return {name: _cut(part, lists) for name, part in value.items()}
        case list():
            long = lists.get(id(value))
            rows = [value[position] for position in sorted(long.kept)] if long else value
            return [_cut(row, lists) for row in rows]
    return value
