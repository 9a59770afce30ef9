"""The configuration as a file to change: an account added or changed, all comments kept, replaced whole or not at all."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from exporter.config.loader import load_config
from exporter.errors import ConfigError
from exporter.files import slugify

MAX_FILES = 1000
"""How many files of secrets an account may have, with those of before."""


def read_account(file: Path, name: str) -> dict[str, Any]:
    """Return an account's keys as they stand in the file, none where it is not there; raise ConfigError."""
    return next((dict(entry) for entry in _list_entries(file) if str(entry.get("name")) == name), {})


def list_account_names(file: Path) -> list[str]:
    """Return the names of the accounts in the file; raise ConfigError."""
    return [str(entry.get("name")) for entry in _list_entries(file)]


def _list_entries(file: Path) -> list[Any]:
    return [entry for entry in _read(file).get("accounts") or [] if isinstance(entry, dict)]


def write_account(
    file: Path,
    entry: Mapping[str, Any],
    replaced: frozenset[str],
    comments: Mapping[str, str] | None = None,
    secret_keys: frozenset[str] = frozenset(),
) -> list[str]:
    """Add an account, or change it: its keys of `replaced` that `entry` lacks are deleted. `comments` say what counters are.

    The texts of `secret_keys` are written to new files beside the configuration, which names these. So all changes at once,
    when the configuration is replaced; whoever stops before has changed nothing.
    Return the files of secrets that the account named before: they stay, as other accounts or programs may use them.
    Raise ConfigError when the whole would be no valid configuration.
    """
    before = read_account(file, entry["name"])
    named: dict[str, Any] = {}
    written: list[Path] = []
    try:
        for key, value in entry.items():
            if key in secret_keys:
                written.append(_write_secret(file.parent, entry["name"], key, value))
                named[f"{key}_file"] = written[-1].name
            else:
                named[key] = value
        _replace(file, _build_content(file, named, replaced | secret_keys, comments or {}))
    finally:
        _delete_unnamed(file, written)
    return [str(before[f"{key}_file"]) for key in secret_keys if f"{key}_file" in before]


def _write_secret(folder: Path, account: str, key: str, secret: str) -> Path:
    """Write a secret to a new file that its user alone may read; return it."""
    stem = slugify(account)
    names = (f"{stem}{suffix}.{key}" for suffix in ("", *(f"-{number}" for number in range(2, MAX_FILES))))
    file = next(file for name in names if not os.path.lexists(file := folder / name))
    _write(file, secret + "\n", 0o600)
    return file


def _delete_unnamed(file: Path, written: Iterable[Path]) -> None:
    """Delete new files of secrets that the configuration does not name, because it was not replaced."""
    named = set(_list_texts(_read(file)))
    for secret_file in written:
        if secret_file.name not in named:
            secret_file.unlink(missing_ok=True)


def _list_texts(data: Any) -> Iterator[str]:
    if isinstance(data, dict | list):
        for part in data.values() if isinstance(data, dict) else data:
            yield from _list_texts(part)
    else:
        yield str(data)


def _build_content(file: Path, entry: Mapping[str, Any], replaced: frozenset[str], comments: Mapping[str, str]) -> Any:
    """Return the content of a configuration with an account added or changed."""
    content = _read(file)
    if content.get("accounts") is None:
        content["accounts"] = CommentedSeq()
    accounts = content["accounts"]
    account = next((each for each in accounts if str(each.get("name")) == entry["name"]), None)
    if account is None:
        account = CommentedMap()
        accounts.append(account)
    for key in replaced & account.keys() - entry.keys():
        del account[key]
    _merge(account, entry)
    if isinstance(counters := account.get("counters"), CommentedMap):
        _add_comments(counters.get("include") or [], comments)
    return content


def _replace(file: Path, content: Any) -> None:
    """Replace a configuration in one step; raise ConfigError where it would not be valid."""
    text = io.StringIO()
    _build_yaml().dump(content, text)
    draft = file.with_name(f".{file.name}.setup")
    draft.unlink(missing_ok=True)
    try:
        _write(draft, text.getvalue(), file.stat().st_mode & 0o777 if file.exists() else 0o600)
        load_config(draft)
        draft.replace(file)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(draft), str(file))) from None
    finally:
        draft.unlink(missing_ok=True)


def _read(file: Path) -> Any:
    try:
        content = _build_yaml().load(file.read_text(encoding="utf-8")) if file.exists() else None
    except (YAMLError, UnicodeDecodeError):
        load_config(file)  # its messages are for people
        raise ConfigError(f"{file}: is not YAML that setup can change") from None
    if content is None:
        return CommentedMap()
    if not isinstance(content, dict) or not isinstance(content.get("accounts") or [], list):
        raise ConfigError(f"{file}: has no list `accounts` to add to")
    return content


def _build_yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _merge(old: Any, new: Mapping[str, Any]) -> None:
    """Change only what is different, so that the comments beside all else stay: they hang on the nodes of the tree."""
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), CommentedMap):
            for gone in old[key].keys() - value.keys():
                del old[key][gone]
            _merge(old[key], value)
        elif isinstance(value, list) and isinstance(old.get(key), CommentedSeq):
            _merge_list(old[key], value)
        elif key not in old or old[key] != value:
            old[key] = _quote(value)


def _merge_list(old: Any, new: list[Any]) -> None:
    for position in reversed(range(len(old))):
        if old[position] not in new and str(old[position]) not in new:
            del old[position]
    for value in new:
        if value not in old and value not in map(str, old):
            old.append(_quote(value))


def _add_comments(numbers: Any, comments: Mapping[str, str]) -> None:
    for position, number in enumerate(numbers):
        if str(number) in comments and position not in numbers.ca.items:
            numbers.yaml_add_eol_comment(comments[str(number)], position, column=0)


def _quote(value: Any) -> Any:
    """Return a value with its texts in quotes: no number loses its zeros, no # begins a comment."""
    if isinstance(value, dict):
        return CommentedMap({_quote(key) if str(key).isdecimal() else key: _quote(one) for key, one in value.items()})
    if isinstance(value, list):
        return CommentedSeq(map(_quote, value))
    return DoubleQuotedScalarString(value.replace("${", "$${")) if isinstance(value, str) else value


def _write(file: Path, text: str, mode: int) -> None:
    """Write a new file, to the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        file.unlink()
        raise
