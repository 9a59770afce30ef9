"""Long lists cut to rows that stand for all: the first and the last ones, each kind, and what belongs to a row that is kept."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.recording.json_text import Number

MAX_VALUES = 5000
"""A list of more values, in all its rows, is cut; three years of days and a week of ten minutes are not."""
END_ROWS = 20
"""Kept at either end of a list that is cut."""
MAX_KINDS = 30
MIN_KEY_LENGTH = 4
"""Shorter values are codes and flags, not identifiers."""


@dataclass(slots=True)
class _LongList:
    rows: list[Any]
    kept: set[int]
    by_key: dict[str, int] = field(default_factory=dict)
    """The rows by their own identifiers: values of fields that no two rows share."""


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
