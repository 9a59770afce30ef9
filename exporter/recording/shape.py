"""The shape that a client relies on: which fields of its models a portal's responses have, of which types, and what changed.

The fields come from the pydantic models by which responses are validated, so there is no second description to keep.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

MAX_ROWS = 50
"""Rows of a list that are looked at."""
MAX_BYTES = 1 << 16
_NUMBER = re.compile(r"\[\d+\]|\d{2,}")
_NEXT_ROW = re.compile(r"[\s,]*")
SHOWN_FOR = timedelta(days=30)
MAX_CHANGES = 20
MISSING, NULL = "missing", "null"
_TYPE_NAMES = {NoneType: NULL, bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}


@dataclass(slots=True)
class Shapes:
    """The types seen of each field in one visit, by its path, such as `MonthResponse.actualConsumption.total`."""

    fields: dict[str, set[str]] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    """Fields that no model has."""


@dataclass(frozen=True, slots=True)
class ShapeChange:
    """One field that changed, and the day that it was noticed."""

    text: str
    day: str

    def __str__(self) -> str:
        return f"the portal's responses have changed ({self.day}): {self.text}"


_CURRENT: ContextVar[Shapes | None] = ContextVar("shapes", default=None)


@contextmanager
def watch_shapes() -> Iterator[Shapes]:
    """Collect the shapes of all responses that are validated inside, in this task and in the threads it starts."""
    shapes = Shapes()
    token = _CURRENT.set(shapes)
    try:
        yield shapes
    finally:
        _CURRENT.reset(token)


def observe_shape(model: type, body: Any, where: str = "") -> None:
    """Note the shape of a response to a kind of call, `where` without its numbers; without a watch nothing happens."""
    if (shapes := _CURRENT.get()) is not None:
        kind = _NUMBER.sub("", where)
        _walk(shapes, model, body, f"{kind}: {model.__name__.strip('_')}" if kind else model.__name__.strip("_"))


def observe_rows(model: type, body: bytes) -> None:
    """Note the shape of the first rows of a list that is too long to be parsed twice."""
    if (shapes := _CURRENT.get()) is not None:
        for row in islice(_parse_first_rows(body), MAX_ROWS):
            _walk(shapes, model, row, model.__name__.strip("_"))


def compare_shapes(known: Mapping[str, list[str]], shapes: Shapes, day: date) -> tuple[dict[str, list[str]], list[ShapeChange]]:
    """Return what is known after a visit, and what changed in it; a change that is known is not one again."""
    after = dict(known)
    changes = []
    for path, types in sorted(shapes.fields.items()):
        before = set(known.get(path, ()))
        if before and (text := _describe_change(path, before, types, is_required=path in shapes.required)):
            changes.append(ShapeChange(text, day.isoformat()))
        after[path] = sorted(before | types)
    return after, changes


@dataclass(slots=True)
class ShapeHistory:
    """What an account's store keeps of shapes."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    changes: list[ShapeChange] = field(default_factory=list)

    @classmethod
    def parse(cls, stored: Any) -> "ShapeHistory":
        """Return a history as `dump` wrote it; of anything else, an empty one."""
        try:
            return cls(dict(stored["fields"]), [ShapeChange(text, day) for text, day in stored["changes"]])
        except (KeyError, TypeError, ValueError):
            return cls()

    def dump(self) -> dict[str, Any]:
        """Return the history as JSON."""
        return {"fields": self.fields, "changes": [[change.text, change.day] for change in self.changes]}

    def add(self, shapes: Shapes, day: date) -> list[ShapeChange]:
        """Add a visit; return what changed in it."""
        self.fields, changes = compare_shapes(self.fields, shapes, day)
        self.changes = [*self.changes, *changes][-MAX_CHANGES:]
        return changes

    def recent(self, day: date) -> list[str]:
        """Return the changes that the status page shows."""
        return [str(change) for change in self.changes if date.fromisoformat(change.day) >= day - SHOWN_FOR]


def _describe_change(path: str, before: set[str], types: set[str], *, is_required: bool) -> str | None:
    values, new = before - {MISSING, NULL}, types - before
    if types == {MISSING} and new:
        return f"{path} is gone"
    if before == {MISSING} and new:
        return f"{path} is there now"
    if types <= {MISSING, NULL} and NULL in new and is_required and values:
        return f"{path} is null now"
    if values and (other := sorted(new - {MISSING, NULL})):
        return f"{path} is {' or '.join(other)} now, it was {' or '.join(sorted(values))}"
    return None


def _parse_first_rows(body: bytes) -> Iterator[Any]:
    text = body[:MAX_BYTES].decode(errors="ignore")
    position, decoder = text.find("[") + 1, json.JSONDecoder()
    while position:
        try:
            row, end = decoder.raw_decode(text, _NEXT_ROW.match(text, position).end())  # type: ignore[union-attr]  # it matches nothing too
        except (ValueError, RecursionError):
            return
        yield row
        position = end


def _walk(shapes: Shapes, type_: Any, value: Any, path: str) -> None:
    model, item = _analyse(type_)
    if item is not None and isinstance(value, list):
        for row in (*value[:MAX_ROWS], *value[max(len(value) - 5, MAX_ROWS) :]):
            _walk(shapes, item, row, path)
    elif model is not None and isinstance(value, dict):
        _walk_model(shapes, model, value, path)


def _walk_model(shapes: Shapes, model: Any, value: dict[str, Any], path: str) -> None:
    names = set()
    for name, info in model.__pydantic_fields__.items():
        alias = info.validation_alias or info.alias or name
        if not isinstance(alias, str):
            continue
        names.add(alias)
        here = f"{path}.{alias}"
        part = value.get(alias, MISSING) if alias in value else MISSING
        seen = MISSING if alias not in value else _TYPE_NAMES.get(type(part), "other")
        shapes.fields.setdefault(here, set()).add(seen)
        if info.is_required():
            shapes.required.add(here)
        _walk(shapes, info.annotation, part, here)
    shapes.unknown.update(f"{path}.{name}" for name in value.keys() - names)


@cache
def _analyse(type_: Any) -> tuple[Any | None, Any | None]:
    """Return the model that a type has, and the type of its items where it is a list."""
    if get_origin(type_) is Annotated:
        return _analyse(get_args(type_)[0])
    if get_origin(type_) in (Union, UnionType):
        parts = [_analyse(part) for part in get_args(type_) if part is not NoneType]
        return next((part for part in parts if part != (None, None)), (None, None))
    if get_origin(type_) in (list, tuple):
        return None, get_args(type_)[0]
    fields = getattr(type_, "__pydantic_fields__", None)
    if fields and list(fields) == ["root"]:
        return _analyse(fields["root"].annotation)
    return (type_, None) if fields else (None, None)
