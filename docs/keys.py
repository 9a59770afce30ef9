"""The keys of the configuration, out of the models that read it."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs.tables import code, table
from exporter.config import File, portals
from exporter.config.fill import alternatives
from exporter.duration import say_duration
from exporter.portals.base import Portal

WORDS: Mapping[object, str] = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    timedelta: "duration",
    date: "day",
    Path: "path of a file",
    SecretStr: "secret",
    Any: "anything",
}
"""What a type is called in the page."""
HEADS = ("key", "is", "if not given", "for")


def parts() -> Mapping[str, str]:
    """Make the tables: of every account, of each portal, and of the rest of the file."""
    common = Portal.model_fields.keys() - {"every"}
    made = {"every account": table(HEADS, (row for key, row in rows(Portal) if key in common))}
    for name, portal in ours().items():
        made[name] = table(HEADS, (row for key, row in rows(portal) if key not in common))
    for block in ("history", "ledger", "web"):
        made[block] = table(HEADS, list(rows_of(block, File.model_fields[block]))[1:])
    return made


def ours() -> dict[str, type[Portal]]:
    """Give the portals of this project, whatever others are installed beside it."""
    return {name: portal for name, portal in portals().items() if portal.__module__.startswith("exporter.")}


def rows(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give the rows of a model's keys, each with the key it belongs to."""
    for name, field in model.model_fields.items():
        for row in rows_of(f"{before}{name}", field, model):
            yield name, row


def rows_of(name: str, field: FieldInfo, model: type[BaseModel] | None = None) -> Iterator[tuple[str, ...]]:
    """Give the row of one key, and behind it those of the block that it holds."""
    said = kind(field.annotation)
    if model is not None and issubclass(model, Portal) and name == "every":
        said += f", {say_duration(model.least_every)} to {say_duration(model.most_every)}"
    yield code(name), said + bounds(field), default(field), field.description or ""
    for block, dots in blocks(field.annotation):
        for _, row in rows(block, f"{name}{dots}."):
            yield row


def kind(annotation: Any) -> str:
    """Say what a value must be."""
    return " or ".join(dict.fromkeys(_kind(part) for part in alternatives(annotation) if part is not NoneType))


def _kind(part: Any) -> str:
    inner = get_args(part)
    if get_origin(part) is Literal:
        return ", ".join(code(getattr(value, "value", value)) for value in inner if value != "")
    if get_origin(part) in (tuple, frozenset, list):
        return f"list of {_plural(kind(inner[0]))}"
    if get_origin(part) is dict:
        return f"block: {kind(inner[0])} to {kind(inner[1])}"
    if isinstance(part, type) and issubclass(part, BaseModel):
        return "block"
    if isinstance(part, type) and issubclass(part, Enum):
        return ", ".join(code(value.value) for value in part)
    return WORDS[part]


def _plural(words: str) -> str:
    return words if words.endswith("t") else f"{words}s"


def bounds(field: FieldInfo) -> str:
    """Say the least and the most of a number."""
    least = next((limit.ge for limit in field.metadata if hasattr(limit, "ge")), None)
    most = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    if least is None and most is None:
        return ""
    return f", {least} or more" if most is None else f", {least} to {most}"


def default(field: FieldInfo) -> str:
    """Say what holds when the key is not there."""
    value = field.default
    if field.is_required():
        return "must be given"
    if isinstance(value, BaseModel):
        return "as below"
    if value is None or value in ((), {}, "", frozenset()):
        return "none" if value in (None, "") else "empty"
    return code(_said(value))


def _said(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return say_duration(value) if isinstance(value, timedelta) else str(value)


def blocks(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Give the blocks that a key holds, with what stands behind the key before theirs."""
    for part in alternatives(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part, ""
        elif get_origin(part) is tuple:
            yield from ((block, "[]") for block, _ in blocks(get_args(part)[0]))
