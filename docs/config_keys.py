"""Tables of the configuration's keys, generated from its models."""

from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs.reference import format_code, format_table
from exporter.config.loader import load_portals
from exporter.config.secrets import expand_union, list_keys
from exporter.config.settings import ConfigFile
from exporter.duration import format_duration
from exporter.portals.base import AccountConfig, Portal
from exporter.web.web_config import WebConfig
from tests.web_configs import CASES_BY_KEY, INLINE_SINCE, SAME_AS_PROMTOOL, WebConfigCase

TYPE_NAMES: Mapping[object, str] = {
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
"""The name of a type in the page."""
KEY_HEADER = ("key", "type", "default", "meaning")
EQUIVALENCE_HEADER = ("of", "both accept", "both refuse", "refused here, accepted by promtool", "the reverse")


def build_key_tables() -> Mapping[str, str]:
    """Return the tables: of every account, of each portal, and of the rest of the file."""
    common = AccountConfig.model_fields.keys() - {"every"}
    tables = {"every account": format_table(KEY_HEADER, (row for key, row in list_key_rows(AccountConfig) if key in common))}
    for name, portal in list_own_portals().items():
        tables[name] = format_table(KEY_HEADER, (row for key, row in list_key_rows(portal.config_model) if key not in common))
    for block in ("history", "ledger", "web", "recording"):
        tables[block] = format_table(KEY_HEADER, list(format_key_rows(block, ConfigFile.model_fields[block]))[1:])
    return tables


def list_own_portals() -> dict[str, type[Portal]]:
    """Return the portals of this project, without others that are installed."""
    return {name: portal for name, portal in load_portals().items() if portal.__module__.startswith("exporter.")}


def list_key_rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the rows of a model's keys, each with the key it belongs to."""
    for name, field in list_keys(model).items():
        for row in format_key_rows(f"{prefix}{name}", field, model):
            yield name, row


def format_key_rows(name: str, field: FieldInfo, model: type[BaseModel] | None = None) -> Iterator[tuple[str, ...]]:
    """Yield the row of a key, followed by those of the block that it holds."""
    text = describe_type(field.annotation)
    if model is not None and issubclass(model, AccountConfig) and name == "every":
        text += f", {format_duration(model.min_every)} to {format_duration(model.max_every)}"
    yield format_code(name), text + describe_bounds(field), describe_default(field), field.description or ""
    for block, dots in list_blocks(field.annotation):
        for _, row in list_key_rows(block, f"{name}{dots}."):
            yield row


def describe_type(annotation: Any) -> str:
    """Return what a value must be."""
    return " or ".join(dict.fromkeys(_describe_part(part) for part in expand_union(annotation) if part is not NoneType))


def _describe_part(part: Any) -> str:
    inner = get_args(part)
    if get_origin(part) is Literal:
        return ", ".join(format_code(getattr(value, "value", value)) for value in inner if value != "")
    if get_origin(part) in (tuple, frozenset, list):
        return f"list of {_pluralize(describe_type(inner[0]))}"
    if get_origin(part) is dict:
        return f"block: {describe_type(inner[0])} to {describe_type(inner[1])}"
    if isinstance(part, type) and issubclass(part, BaseModel):
        return "block"
    if isinstance(part, type) and issubclass(part, Enum):
        return ", ".join(format_code(value.value) for value in part)
    return TYPE_NAMES[part]


def _pluralize(words: str) -> str:
    return words if words.endswith(("t", "`")) else f"{words}s"


def describe_bounds(field: FieldInfo) -> str:
    """Return the minimum and the maximum of a number."""
    minimum = next((limit.ge for limit in field.metadata if hasattr(limit, "ge")), None)
    maximum = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    if minimum is None and maximum is None:
        return ""
    return f", {minimum} or more" if maximum is None else f", {minimum} to {maximum}"


def describe_default(field: FieldInfo) -> str:
    """Return the default of a key."""
    value = field.default
    if field.is_required():
        return "required"
    if isinstance(value, BaseModel):
        return "as below"
    if value is None or value in ((), {}, "", frozenset()):
        return "none" if value in (None, "") else "empty"
    return format_code(_format_value(value))


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return format_duration(value) if isinstance(value, timedelta) else str(value)


def list_blocks(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the blocks that a key holds, with the suffix of the key before theirs."""
    for part in expand_union(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part, ""
        elif get_origin(part) is tuple:
            yield from ((block, "[]") for block, _ in list_blocks(get_args(part)[0]))


def build_web_config_tables() -> Mapping[str, str]:
    """Return the table of the keys, and one with a row for each group of them, in which every file of the tests stands once."""
    found = (row for _, row in list_key_rows(WebConfig))
    return {
        "keys": format_table(
            ("key", "type", "meaning"), ((key, kind.replace("secret", "text"), why) for key, kind, _, why in found)
        ),
        "equivalence": format_table(
            EQUIVALENCE_HEADER, (format_equivalence_row(group, cases) for group, cases in CASES_BY_KEY.items())
        ),
    }


def format_equivalence_row(group: str, cases: Mapping[str, WebConfigCase]) -> tuple[str, ...]:
    """Return the row of a group."""
    predicates: tuple[Callable[[WebConfigCase], bool], ...] = (
        lambda case: case.is_accepted and case.comparison == SAME_AS_PROMTOOL,
        lambda case: not case.is_accepted and case.comparison == SAME_AS_PROMTOOL,
        lambda case: not case.is_accepted and case.comparison != SAME_AS_PROMTOOL,
        lambda case: case.is_accepted and case.comparison != SAME_AS_PROMTOOL,
    )
    return group, *(
        ", ".join(_format_name(name, case) for name, case in cases.items() if matches(case)) for matches in predicates
    )


def _format_name(name: str, case: WebConfigCase) -> str:
    mark = "³" if case.since == INLINE_SINCE else "²" if case.until < INLINE_SINCE else ""
    return format_code(name) + mark
