"""Environment variables and files of secrets, substituted into the data."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from exporter.config.yaml_document import Data, KeyPath, Problem, YamlDocument, has_control_character, read_text
from exporter.errors import find_similar, suggest
from exporter.files import FileStamp, FileStamps, read_pem, stamp_files

MAX_SECRET_BYTES = 64 << 10

_VARIABLE = re.compile(r"(?P<literal>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})?")


@dataclass(frozen=True, slots=True)
class FilledData:
    """Data prepared for its model: secrets stand in it as the texts of their files."""

    data: Data
    problems: tuple[Problem, ...]
    secret_stamps: FileStamps
    """The files that secrets were read from, or should be; each as it was before."""
    other_stamps: FileStamps
    """The files that other keys name, such as certificates."""
    secret_paths: frozenset[KeyPath]
    """Values that are secrets."""
    excused_paths: frozenset[KeyPath]
    """Keys that are not missing, but misspelt: the unknown key is the fault."""
    private_paths: frozenset[KeyPath]
    """Mappings whose keys are the user's own, such as usage points: no message shows them."""
    holds_secret: bool
    """Whether the configuration itself holds a secret."""


def substitute_variables(document: YamlDocument, environment: Mapping[str, str]) -> YamlDocument:
    """Return the document with every `${NAME}` replaced by its environment variable; `$${` is a literal `${`."""
    substitution = _Substitution(environment)
    data = substitution.replace_in(document.data, ())
    paths = document.environment_paths | substitution.paths
    return replace(document, data=data, problems=(*document.problems, *substitution.problems), environment_paths=paths)


def fill_model(document: YamlDocument, model: type[BaseModel], data: Data, path: KeyPath) -> FilledData:
    """Return data prepared for its model: secrets are read from their files, unknown keys are faults.

    A `Path` is a file to be read; it is relative to the configuration's folder. The text 4 is the literal 4 (pydantic
    converts all other numbers itself). Data of the wrong form is left for pydantic to reject.
    """
    filler = _Filler(document)
    filled = filler.fill(model, data, path)
    return FilledData(
        filled,
        tuple(filler.problems),
        filler.secret_stamps,
        filler.other_stamps,
        frozenset(filler.secret_paths),
        frozenset(filler.excused_paths),
        frozenset(filler.private_paths),
        filler.holds_secret,
    )


def expand_union(type_: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows: the members of a union, without annotations."""
    origin = get_origin(type_)
    if origin is Annotated:
        yield from expand_union(get_args(type_)[0])
    elif origin in (Union, UnionType):
        for part in get_args(type_):
            yield from expand_union(part)
    else:
        yield type_


def list_keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a model with their fields; a key that is a word of Python has another name there."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def list_secret_fields(model: type[BaseModel]) -> list[str]:
    """Return the keys of a model that have a counterpart ending in `_file`."""
    return [name for name, field in model.model_fields.items() if SecretStr in expand_union(field.annotation)]


class _Substitution:
    """Replaces variables, and collects where there were any and what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.paths: set[KeyPath] = set()
        self.problems: list[Problem] = []

    def replace_in(self, data: Data, path: KeyPath) -> Data:
        if isinstance(data, dict):
            return {key: self.replace_in(value, (*path, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self.replace_in(value, (*path, at)) for at, value in enumerate(data)]
        return _VARIABLE.sub(lambda match: self._resolve(match, path), data) if data else data

    def _resolve(self, match: re.Match[str], path: KeyPath) -> str:
        if match["literal"]:
            return "${"
        self.paths.add(path)
        name = match["name"]
        if name is None:
            self._add_fault(path, "has a ${ that is not like ${NAME}; a ${ that is meant is written $${")
        elif name not in self._environment:
            self._add_fault(path, f"wants the environment variable {name}, which is not set")
        elif has_control_character(self._environment[name]):
            self._add_fault(path, f"wants the environment variable {name}, which has a line break or the like in it")
        else:
            return self._environment[name]
        return ""

    def _add_fault(self, path: KeyPath, reason: str) -> None:
        self.problems.append(Problem(path, reason))


class _Filler:
    """Prepares the data of a document for a model, and collects what `FilledData` tells of it."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self.problems: list[Problem] = []
        self.secret_stamps: dict[Path, FileStamp] = {}
        self.other_stamps: dict[Path, FileStamp] = {}
        self.secret_paths: set[KeyPath] = set()
        self.excused_paths: set[KeyPath] = set()
        self.private_paths: set[KeyPath] = set()
        self.holds_secret = False

    def fill(self, type_: Any, data: Data, path: KeyPath) -> Data:
        models = [part for part in expand_union(type_) if isinstance(part, type) and issubclass(part, BaseModel)]
        if models and isinstance(data, dict):
            return self._fill_section(models, data, path)
        for part in expand_union(type_):
            inner = get_args(part)
            if get_origin(part) is dict and isinstance(data, dict):
                self.private_paths.add(path)
                return {key: self.fill(inner[1], value, (*path, key)) for key, value in data.items()}
            if get_origin(part) in (list, tuple, set, frozenset) and inner and isinstance(data, list):
                return [self.fill(inner[0], value, (*path, at)) for at, value in enumerate(data)]
            if part is Path and isinstance(data, str):
                return str(self._check_file(self._document.file.parent / data, path))
            if part is SecretStr and data:
                self.holds_secret |= path not in self._document.environment_paths
            if get_origin(part) is Literal:
                return next((value for value in inner if str(value) == data), data)
        return data

    def _fill_section(self, models: list[type[BaseModel]], data: dict[str, Data], path: KeyPath) -> dict[str, Data]:
        kinds = {key: field.annotation for model in models for key, field in list_keys(model).items()}
        secrets = {name for model in models for name in list_secret_fields(model)}
        self.secret_paths |= {(*path, name) for name in secrets}
        file_keys = {f"{name}_file": name for name in secrets}
        filled: dict[str, Data] = {}
        for key, value in self._drop_empty(data, kinds, path).items():
            key_path = (*path, key)
            if key in secrets and value is None and key_path in self._document.commented_paths:
                self._add_fault(key_path, "has no value: all after the # is a comment; put the text in quotes")
            elif key in kinds and value is None and not _allows_none(kinds[key]):
                if not _is_section(kinds[key]):
                    self._add_fault(key_path, "has no value")
            elif key in kinds:
                filled.setdefault(key, self.fill(kinds[key], value, key_path))
            elif key in file_keys:
                filled[file_keys[key]] = self._read_secret(value, key_path, data.get(file_keys[key]))
            else:
                self._add_fault(key_path, f"unknown key{suggest(key, [*kinds, *file_keys])}")
                if meant := find_similar(key, [*kinds, *file_keys]):
                    self.excused_paths.add((*path, file_keys.get(meant, meant)))
        return filled

    def _drop_empty(self, data: dict[str, Data], kinds: dict[str, Any], path: KeyPath) -> dict[str, Data]:
        """Return data without the files and secrets that are an empty text: they count as absent, as in Prometheus."""
        empty = {key for key, value in data.items() if value == "" and _is_file_or_secret(key, kinds)}
        for key in empty:
            if (*path, key) in self._document.environment_paths:  # a variable that is set and empty is nobody's intention
                self._add_fault((*path, key), "must not be empty")
        return {key: value for key, value in data.items() if key not in empty}

    def _read_secret(self, file: Data, path: KeyPath, inline_value: Data) -> str:
        """Return the secret of a file; on a fault return a placeholder, so that the key is not reported missing too."""
        key = str(path[-1]).removesuffix("_file")
        if inline_value:
            self._add_fault(path, f"stands beside {key}; one of the two is enough")
        elif not isinstance(file, str) or not file:
            self._add_fault(path, "must be the path of a file")
        else:
            return self._read_secret_text(self._document.file.parent / file, path)
        return "-"

    def _read_secret_text(self, file: Path, path: KeyPath) -> str:
        self.secret_stamps = stamp_files([file]) | self.secret_stamps  # of one that is named twice, before it was read first
        try:
            text = read_text(file, MAX_SECRET_BYTES).rstrip("\r\n")
        except ValueError as error:
            self._add_file_fault(file, path, error)
        else:
            if not text:
                self._add_fault(path, f"the file {file} is empty")
            elif has_control_character(text):
                self._add_fault(path, f"the file {file} has more than one line, or is not text")
            else:
                return text
        return "-"

    def _check_file(self, file: Path, path: KeyPath) -> Path:
        """Return a file; record a fault if it cannot be read, and a warning if it is not there yet."""
        self.other_stamps = stamp_files([file]) | self.other_stamps
        if not os.path.exists(file):  # pathlib's raises where a folder may not be entered
            self.problems.append(Problem(path, f"the file {file} does not exist", is_warning=True))
            return file
        try:
            read_pem(file)
        except ValueError as error:
            self._add_file_fault(file, path, error)
        return file

    def _add_file_fault(self, file: Path, path: KeyPath, error: ValueError) -> None:
        hint = "; ~ is not expanded, write the whole path" if "~" in str(file) else ""
        self._add_fault(path, f"the file {file} {error}{hint}")

    def _add_fault(self, path: KeyPath, reason: str) -> None:
        self.problems.append(Problem(path, reason))


def _allows_none(type_: Any) -> bool:
    return not {None, NoneType, Any}.isdisjoint(expand_union(type_))


def _is_file_or_secret(key: str, kinds: dict[str, Any]) -> bool:
    """Return whether a key holds a secret or a PEM text, or names the file of one."""
    types = set(expand_union(kinds.get(key))) | set(expand_union(kinds.get(key.removesuffix("_file"))))
    return not {Path, SecretStr}.isdisjoint(types) or f"{key}_file" in kinds


def _is_section(type_: Any) -> bool:
    """Return whether a key holds a mapping or a list: without a value it counts as absent."""
    return any(get_origin(part) or (isinstance(part, type) and issubclass(part, BaseModel)) for part in expand_union(type_))
