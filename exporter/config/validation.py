"""Validation by pydantic, with its errors in plain words and without the values."""

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exporter.config.yaml_document import Data, KeyPath, YamlDocument

Model = TypeVar("Model", bound=BaseModel)

_MESSAGES: dict[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "unknown key",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match {pattern}",
    "url_type": "must be an address like https://example.com",
    "url_parsing": "must be an address like https://example.com",
    "url_scheme": "must be an address that begins with {expected_schemes}",
    "path_type": "must be the path of a file",
    "time_parsing": "must be a time like 05:00",
    "date_from_datetime_parsing": "must be a day like 2026-01-31",
}


def validate(document: YamlDocument, model: type[Model], data: Data, path: KeyPath) -> Model | None:
    """Return the model of data; on errors record them as faults of the document and return None."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            error_path = _resolve_path(data, details, path)
            if error_path in document.excused_paths or document.has_faults_below(error_path):
                continue
            message = _format_message(details)
            if details["type"] == "missing" and error_path in document.line_numbers:  # an empty text counts as absent
                message = "must not be empty"
            elif details["type"] == "missing" and error_path in document.secret_paths:
                message += f" ({error_path[-1]} or {error_path[-1]}_file)"
            document.add_fault(error_path, message)
        return None


def _format_message(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return _strip_value(str(context["error"]), error["input"])
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        return _format_length(kind, context)
    if kind in _MESSAGES:
        plain = {key: _format_context(value) for key, value in context.items()}
        return _MESSAGES[kind].format_map(plain).replace("'", "")
    return f"is not usable ({kind.replace('_', ' ')})"


def _format_context(value: object) -> object:
    """Return a limit or the expected values as written in the file: electricity, not <Commodity.ELECTRICITY: 'electricity'>."""
    return f"{value:g}" if isinstance(value, float) else re.sub(r"<\w+\.\w+: ('[^']*')>", r"\1", str(value))


def _format_length(kind: str, context: dict[str, Any]) -> str:
    things = "characters" if kind.startswith("string") else "entries"
    if kind.endswith("long"):
        return f"must have at most {context['max_length']} {things}" if context["max_length"] else "must be empty"
    minimum = context["min_length"]
    return "must not be empty" if minimum == 1 else f"must have at least {minimum} {things}"


def _strip_value(reason: str, value: object) -> str:
    """Return a model's own message, unless it quotes the value."""
    quoted = isinstance(value, str) and len(value) > 2 and value in reason
    return "is not usable" if quoted or not reason else reason


def _resolve_path(data: Data, error: ErrorDetails, path: KeyPath) -> KeyPath:
    """Return the path of an error: pydantic's location without the parts that are not in the data."""
    for part in error["loc"]:
        if isinstance(data, dict) and part in data:
            data, path = data[str(part)], (*path, part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data, path = data[part], (*path, part)
    return (*path, error["loc"][-1]) if error["type"] == "missing" else path
