"""The configuration file: read, validated to the last key, and built into accounts."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exporter.config.json_schema import build_file_schema
from exporter.config.secrets import FilledData, fill_model, substitute_variables
from exporter.config.settings import Config, ConfigFile
from exporter.config.yaml_document import Data, KeyPath, Problem, YamlDocument, read_document
from exporter.errors import ConfigError, suggest
from exporter.files import FileStamps, find_exposure
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
    document = substitute_variables(read_document(path), environment)
    file = read_section(document, ConfigFile, document.data, ())
    entries = document.data.get("accounts") if isinstance(document.data, dict) else None
    accounts = _build_accounts(document, entries if isinstance(entries, list) else [])
    filled = [file.filled, *(account.filled for account in accounts if account.filled)]
    problems = [*document.problems, *file.problems, *(problem for account in accounts for problem in account.problems)]
    if file.model is None or not all(problem.is_warning for problem in problems):
        raise _build_error(document, problems, filled)
    return Config(
        accounts=tuple(account.portal for account in accounts if account.portal),
        history=file.model.history,
        ledger=file.model.ledger,
        web=file.model.web,
        recording=file.model.recording,
        warnings=tuple(_format_warnings(document, problems, filled, environment)),
        stamps=_merge_stamps([document.stamps, *(one.secret_stamps for one in filled)]),
    )


def load_yaml_model(path: Path, model: type[Model]) -> Model:
    """Return the model of another YAML file, such as the web configuration: the same checks, but no variables or secrets.

    It may be empty, and its strings may have line breaks. Raise ConfigError as `load_config` does.
    """
    document = read_document(path, plain=True)
    whole = read_section(document, model, document.data, ())
    problems = [*document.problems, *whole.problems]
    if whole.model is None or not all(problem.is_warning for problem in problems):
        raise _build_error(document, problems, [whole.filled])
    return whole.model


def load_portals(names: Collection[str] | None = None) -> dict[str, type[Portal]]:
    """Return the portals that are installed and usable, by their name in the configuration.

    With `names` only these are loaded: each costs memory and time at the start.
    """
    found = {name: _load_portal(entry) for name, entry in _installed_portals().items() if names is None or name in names}
    return {name: portal for name, portal in found.items() if isinstance(portal, type)}


def build_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, draft 2020-12, for editors."""
    return build_file_schema(ConfigFile, {name: portal.config_model for name, portal in load_portals().items()})


@dataclass(frozen=True, slots=True)
class Section(Generic[Model]):
    """A part of a document: its model, None where there are faults, and all problems in it."""

    model: Model | None
    problems: tuple[Problem, ...]
    filled: FilledData


def read_section(document: YamlDocument, model: type[Model], data: Data, path: KeyPath) -> Section[Model]:
    """Return the model of a part of a document, or why it is none."""
    filled = fill_model(document, model, data, path)
    try:
        return Section(model.model_validate(filled.data), filled.problems, filled)
    except ValidationError as error:
        problems = list(filled.problems)
        for details in error.errors(include_url=False):
            error_path = _resolve_path(filled.data, details, path)
            if error_path in filled.excused_paths or _has_faults_below(error_path, [*document.problems, *problems]):
                continue
            message = _format_message(details)
            if details["type"] == "missing" and error_path in document.line_numbers:  # an empty text counts as absent
                message = "must not be empty"
            elif details["type"] == "missing" and error_path in filled.secret_paths:
                message += f" ({error_path[-1]} or {error_path[-1]}_file)"
            problems.append(Problem(error_path, message))
        return Section(None, tuple(problems), filled)


def _has_faults_below(path: KeyPath, problems: Iterable[Problem]) -> bool:
    """Return whether a part of a value has a fault: what is wrong with the whole may only follow from that."""
    return any(len(one.path) > len(path) and one.path[: len(path)] == path for one in problems if not one.is_warning)


def _build_error(document: YamlDocument, problems: Iterable[Problem], filled: Sequence[FilledData]) -> ConfigError:
    named = [stamps for one in filled for stamps in (one.secret_stamps, one.other_stamps)]
    message = "\n".join(document.format_faults(problems, _join_private_paths(filled)))
    return ConfigError(message, _merge_stamps([document.stamps, *named]))


def _join_private_paths(filled: Sequence[FilledData]) -> frozenset[KeyPath]:
    return frozenset[KeyPath]().union(*(one.private_paths for one in filled))


def _merge_stamps(stamps: Sequence[FileStamps]) -> FileStamps:
    """Return all of them; of a file in two the first counts: it may have changed before it was read again."""
    return {file: stamp for one in reversed(stamps) for file, stamp in one.items()}


def _installed_portals() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=ENTRY_POINT_GROUP))}


def _load_portal(entry: EntryPoint) -> type[Portal] | str:
    """Return a portal, or why it cannot be loaded: it may be of another package."""
    try:
        portal = entry.load()
    except Exception as error:  # importing another package can raise anything
        return f"{type(error).__name__} while it was imported"
    return portal if isinstance(portal, type) and issubclass(portal, Portal) else "it is not a Portal"


@dataclass(frozen=True, slots=True)
class _Account:
    """An entry of `accounts`: its portal, None where there are faults, and all problems in it."""

    portal: Portal | None
    problems: tuple[Problem, ...]
    filled: FilledData | None = None


def _build_accounts(document: YamlDocument, entries: list[Data]) -> list[_Account]:
    known = load_portals({str(entry.get("portal")) for entry in entries if isinstance(entry, dict)})
    names: dict[str, int] = {}
    accounts = []
    for position, entry in enumerate(entries):
        path: KeyPath = ("accounts", position)
        if not isinstance(entry, dict):
            accounts.append(_Account(None, (Problem(path, "must be a block of keys, such as name and portal"),)))
            continue
        if isinstance(name := entry.get("name"), str) and (first := names.setdefault(name, position)) != position:
            accounts.append(_Account(None, (Problem((*path, "name"), f"is the name of accounts[{first}] already"),)))
        accounts.append(_build_account(document, entry, path, known))
    return accounts


def _build_account(document: YamlDocument, entry: dict[str, Data], path: KeyPath, known: Mapping[str, type[Portal]]) -> _Account:
    portal = known.get(str(entry.get("portal")))
    if portal is None:
        return _Account(None, (Problem((*path, "portal"), _describe_unknown_portal(entry.get("portal"))),))
    section = read_section(document, portal.config_model, entry, path)
    config = section.model
    usage_points = config.configured_usage_points() if config else frozenset()
    problems = (*section.problems, *_check_aliases(document, entry.get("aliases"), usage_points, (*path, "aliases")))
    return _Account(portal(config) if config else None, problems, section.filled)


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


def _check_aliases(document: YamlDocument, aliases: Data, usage_points: frozenset[str], path: KeyPath) -> list[Problem]:
    """Return what is wrong with names of usage points; `usage_points` are those that other keys of the account name."""
    if not isinstance(aliases, dict):
        return []
    unknown = aliases.keys() - usage_points if usage_points else ()
    lines = sorted({document.line_numbers[*path, usage_point] for usage_point in unknown})
    problems = [Problem(path, "a name for a usage point that is not configured", line, is_warning=True) for line in lines]
    others, first = usage_points | aliases.keys(), dict[str, str]()
    for usage_point, alias in aliases.items():
        if isinstance(alias, str):
            reason = _find_alias_fault(usage_point, alias, others, first.setdefault(alias, usage_point))
            problems += [Problem((*path, usage_point), reason)] if reason else []
    return problems


def _find_alias_fault(usage_point: str, alias: str, usage_points: Set[str], first: str) -> str:
    """Return what is wrong with the name of a usage point, or an empty text; `first` is the first one of this name."""
    if not alias:
        return "a name must not be empty"
    if first != usage_point:
        return "this name stands for two usage points"
    return "this name is the id of another usage point" if alias != usage_point and alias in usage_points else ""


def _format_warnings(
    document: YamlDocument, problems: Iterable[Problem], filled: Sequence[FilledData], environment: Mapping[str, str]
) -> list[str]:
    """Return the warnings about a valid configuration, a line each: of its values, and of files that others may read or write."""
    private_paths = _join_private_paths(filled)
    secret_paths = frozenset[KeyPath]().union(*(one.secret_paths for one in filled))
    reason = "the # and the rest of the line are a comment; if they belong to it, it needs quotes"
    commented = sorted(secret_paths & document.commented_paths, key=document.line_numbers.__getitem__)
    warnings = [problem for problem in problems if problem.is_warning] + [Problem(path, reason) for path in commented]
    files = {document.file: any(one.holds_secret for one in filled)}
    files |= dict.fromkeys((file for one in filled for file in one.other_stamps), False)
    files |= dict.fromkeys((file for one in filled for file in one.secret_stamps), True)
    exposures = (find_exposure(file, holds_secret=secret, environment=environment) for file, secret in files.items())
    return [document.format_problem(warning, private_paths) for warning in warnings] + [one for one in exposures if one]


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
