"""The configuration file: read, validated to the last key, and built into accounts."""

import os
import re
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exporter.config.json_schema import build_file_schema
from exporter.config.secrets import fill_model, substitute_variables
from exporter.config.settings import Config, ConfigFile
from exporter.config.yaml_document import Data, KeyPath, YamlDocument, read_document
from exporter.errors import suggest
from exporter.files import find_exposure
from exporter.portals.base import Portal

ENTRY_POINT_GROUP = "utility_exporter.portals"
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


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of a file.

    Raise ConfigError that lists every fault, one a line: `config.yaml:7: accounts[1].every: must be 15m to 1d`.
    """
    document = read_document(path)
    substitute_variables(document, environment)
    document.data = fill_model(document, ConfigFile, document.data, ())
    file = validate(document, ConfigFile, document.data, ())
    entries = document.data.get("accounts") if isinstance(document.data, dict) else None
    accounts = _build_accounts(document, entries if isinstance(entries, list) else [])
    document.raise_faults()
    assert file is not None
    return Config(
        accounts=tuple(accounts),
        history=file.history,
        ledger=file.ledger,
        web=file.web,
        recording=file.recording,
        warnings=tuple(_collect_warnings(document, environment)),
        secret_files=tuple(document.secret_files),
        secret_stamps=document.secret_stamps,
    )


def load_yaml_model(path: Path, model: type[Model]) -> Model:
    """Return the model of another YAML file, such as the web configuration: the same checks, but no variables or secrets.

    It may be empty, and its strings may have line breaks. Raise ConfigError as `load_config` does.
    """
    document = read_document(path, plain=True)
    result = validate(document, model, fill_model(document, model, document.data, ()), ())
    document.raise_faults()
    assert result is not None
    return result


def load_portals(names: Collection[str] | None = None) -> dict[str, type[Portal]]:
    """Return the portals that are installed and usable, by their name in the configuration.

    With `names` only these are loaded: each costs memory and time at the start.
    """
    found = {name: _load_portal(entry) for name, entry in _installed_portals().items() if names is None or name in names}
    return {name: portal for name, portal in found.items() if isinstance(portal, type)}


def build_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, draft 2020-12, for editors."""
    return build_file_schema(ConfigFile, {name: portal.config_model for name, portal in load_portals().items()})


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


def _installed_portals() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=ENTRY_POINT_GROUP))}


def _load_portal(entry: EntryPoint) -> type[Portal] | str:
    """Return a portal, or why it cannot be loaded: it may be of another package."""
    try:
        portal = entry.load()
    except Exception as error:  # importing another package can raise anything
        return f"{type(error).__name__} while it was imported"
    return portal if isinstance(portal, type) and issubclass(portal, Portal) else "it is not a Portal"


def _build_accounts(document: YamlDocument, entries: list[Data]) -> list[Portal]:
    known = load_portals({str(entry.get("portal")) for entry in entries if isinstance(entry, dict)})
    names: dict[str, int] = {}
    accounts = []
    for position, entry in enumerate(entries):
        path: KeyPath = ("accounts", position)
        if not isinstance(entry, dict):
            document.add_fault(path, "must be a block of keys, such as name and portal")
            continue
        if isinstance(name := entry.get("name"), str) and (first := names.setdefault(name, position)) != position:
            document.add_fault((*path, "name"), f"is the name of accounts[{first}] already")
        if account := _build_account(document, entry, path, known):
            accounts.append(account)
    return accounts


def _build_account(
    document: YamlDocument, entry: dict[str, Data], path: KeyPath, known: Mapping[str, type[Portal]]
) -> Portal | None:
    portal = known.get(str(entry.get("portal")))
    if portal is None:
        document.add_fault((*path, "portal"), _describe_unknown_portal(entry.get("portal")))
        return None
    config = validate(document, portal.config_model, fill_model(document, portal.config_model, entry, path), path)
    usage_points = config.configured_usage_points() if config else frozenset()
    _check_aliases(document, entry.get("aliases"), usage_points, (*path, "aliases"))
    return portal(config) if config else None


def _describe_unknown_portal(name: Data) -> str:
    known = load_portals()
    listed = f"the portals are {', '.join(sorted(known))}" if known else "no portal is installed"
    if name is None:
        return f"is missing; {listed}"
    if not isinstance(name, str):
        return f"must be a word; {listed}"
    if entry := _installed_portals().get(name):
        return f"the package that brings this portal is installed but unusable: {_load_portal(entry)}"
    return f"unknown portal{suggest(name, known)}; {listed}"


def _check_aliases(document: YamlDocument, aliases: Data, usage_points: frozenset[str], path: KeyPath) -> None:
    """Report two usage points of one name; `usage_points` are those that other keys of the account name."""
    names: set[str] = set()
    if usage_points and isinstance(aliases, dict) and (strange := aliases.keys() - usage_points):
        for line in sorted({document.line_numbers[*path, key] for key in strange}):
            document.add_warning(path, "a name for a usage point that is not configured", line)
    for usage_point, alias in aliases.items() if isinstance(aliases, dict) else ():
        alias_path = (*path, usage_point)
        if alias == "":
            document.add_fault(alias_path, "a name must not be empty")
        elif alias in names:
            document.add_fault(alias_path, "this name stands for two usage points")
        elif alias != usage_point and alias in usage_points | aliases.keys():
            document.add_fault(alias_path, "this name is the id of another usage point")
        elif isinstance(alias, str):
            names.add(alias)


def _collect_warnings(document: YamlDocument, environment: Mapping[str, str]) -> list[str]:
    warnings = list(document.warnings)
    for path in sorted(document.secret_paths & document.commented_paths, key=document.line_numbers.__getitem__):
        place = f"{document.file}:{document.line_numbers[path]}: {document.format_path(path)}"
        warnings.append(f"{place}: the # and the rest of the line are a comment; if they belong to it, it needs quotes")
    files = {document.file: document.holds_secret} | dict.fromkeys(document.other_files, False)
    files |= dict.fromkeys(document.secret_files, True)
    exposures = (find_exposure(file, holds_secret=secret, environment=environment) for file, secret in files.items())
    return warnings + [exposure for exposure in exposures if exposure]


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
