"""What stands elsewhere, brought into the data: the environment's variables and the files of secrets."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from exporter.config.document import Data, Document, Place, has_control, read_text

LARGEST_SECRET = 64 << 10

_VARIABLE = re.compile(r"(?P<literal>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})?")


def substitute(document: Document, environment: Mapping[str, str]) -> None:
    """Put the variables in the place of `${NAME}` in all texts; `$${` is a `${` that stays."""

    def walk(data: Data, place: Place) -> Data:
        if isinstance(data, dict):
            return {key: walk(value, (*place, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [walk(value, (*place, at)) for at, value in enumerate(data)]
        return _VARIABLE.sub(lambda match: _variable(document, environment, match, place), data) if data else data

    document.data = walk(document.data, ())


def _variable(document: Document, environment: Mapping[str, str], match: re.Match[str], place: Place) -> str:
    if match["literal"]:
        return "${"
    document.from_environment.add(place)
    name = match["name"]
    if name is None:
        document.fault(place, "has a ${ that is not like ${NAME}; a ${ that is meant is written $${")
    elif name not in environment:
        document.fault(place, f"wants the environment variable {name}, which is not set")
    elif has_control(environment[name]):
        document.fault(place, f"wants the environment variable {name}, which has a line break or the like in it")
    else:
        return environment[name]
    return ""


def fill(document: Document, kind: Any, data: Data, place: Place) -> Data:
    """Make data ready for the type it is for: unknown keys are faults, secrets come from their files.

    A `Path` is made to start at the configuration's folder, and the text 4 is the literal 4 (pydantic converts all other
    numbers itself). What has the wrong form is left for pydantic to refuse.
    """
    models = [part for part in alternatives(kind) if isinstance(part, type) and issubclass(part, BaseModel)]
    if models and isinstance(data, dict):
        return _fill_block(document, models, data, place)
    for part in alternatives(kind):
        inner = get_args(part)
        if get_origin(part) is dict and isinstance(data, dict):
            document.private.add(place)
            return {key: fill(document, inner[1], value, (*place, key)) for key, value in data.items()}
        if get_origin(part) in (list, tuple, set, frozenset) and inner and isinstance(data, list):
            return [fill(document, inner[0], value, (*place, at)) for at, value in enumerate(data)]
        if part is Path and isinstance(data, str):
            return str(document.file.parent / data)
        if get_origin(part) is Literal:
            return next((value for value in inner if str(value) == data), data)
    return data


def refuse_quoted(document: Document, kind: Any, data: Data, place: Place) -> None:
    """Note every number, true or false that stands in quotes."""
    kinds = set(alternatives(kind)) - {NoneType}
    if place in document.quoted and kinds and kinds <= {bool, int, float}:
        document.fault(place, "must stand without quotes")
    for part in kinds:
        if isinstance(part, type) and issubclass(part, BaseModel) and isinstance(data, dict):
            for name in data.keys() & part.model_fields.keys():
                refuse_quoted(document, part.model_fields[name].annotation, data[name], (*place, name))


def alternatives(kind: Any) -> Iterator[Any]:
    """Give the types that an annotation allows: the members of a union, without what is annotated."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from alternatives(get_args(kind)[0])
    elif origin in (Union, UnionType):
        for part in get_args(kind):
            yield from alternatives(part)
    else:
        yield kind


def secret_fields(model: type[BaseModel]) -> list[str]:
    """Name the keys of a model that have a twin ending in `_file`."""
    return [name for name, field in model.model_fields.items() if SecretStr in alternatives(field.annotation)]


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word may have been meant: `; did you mean every?`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _fill_block(document: Document, models: list[type[BaseModel]], data: dict[str, Data], place: Place) -> dict[str, Data]:
    kinds = {name: field.annotation for model in models for name, field in model.model_fields.items()}
    secrets = {name for model in models for name in secret_fields(model)}
    document.secrets |= {(*place, name) for name in secrets}
    twins = {f"{name}_file": name for name in secrets}
    filled: dict[str, Data] = {}
    for key, value in data.items():
        here = (*place, key)
        if key in kinds and value is None and not _may_be_none(kinds[key]):
            if not _is_block(kinds[key]):
                document.fault(here, "has no value")
        elif key in kinds:
            filled.setdefault(key, fill(document, kinds[key], value, here))
            document.holds_secret |= key in secrets and value is not None and here not in document.from_environment
        elif key in twins:
            filled[twins[key]] = _from_file(document, value, here, data.get(twins[key]))
        else:
            document.fault(here, f"unknown key{nearest(key, [*kinds, *twins])}")
    _refuse_empty(document, filled, secrets, place)
    return filled


def _may_be_none(kind: Any) -> bool:
    return not {None, NoneType, Any}.isdisjoint(alternatives(kind))


def _is_block(kind: Any) -> bool:
    """Tell whether a key holds more keys or a list: with nothing under it, it is as good as absent."""
    return any(get_origin(part) or (isinstance(part, type) and issubclass(part, BaseModel)) for part in alternatives(kind))


def _from_file(document: Document, file: Data, place: Place, beside: Data) -> str:
    """Read a secret's file; whatever is wrong with it is a fault, and gives a text so that the key is not missed too."""
    key = str(place[-1]).removesuffix("_file")
    if beside is not None:
        document.fault(place, f"stands beside {key}; one of the two is enough")
    elif not isinstance(file, str) or not file:
        document.fault(place, "must be the path of a file")
    else:
        return _secret_text(document, document.file.parent / file, place)
    return "-"


def _secret_text(document: Document, file: Path, place: Place) -> str:
    try:
        text = read_text(file, LARGEST_SECRET).rstrip("\r\n")
    except ValueError as error:
        document.fault(place, f"the file {error}")
    else:
        if not text:
            document.fault(place, "the file is empty")
        elif has_control(text):
            document.fault(place, "the file has more than one line, or is not text")
        else:
            return text
    return "-"


def _refuse_empty(document: Document, filled: dict[str, Data], secrets: set[str], place: Place) -> None:
    for name in secrets & filled.keys():
        if filled[name] == "":
            document.fault((*place, name), "must not be empty")
