"""The configuration as a file to change: an account added or changed, all comments kept, replaced whole or not at all."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from exporter.config.loader import load_config
from exporter.errors import ConfigError
from exporter.recording.last_failure import slugify


def read_account(file: Path, name: str) -> dict[str, Any]:
    """Return an account's keys as they stand in the file, none where it is not there; raise ConfigError."""
    entries = _read(file).get("accounts") or []
    return next((dict(entry) for entry in entries if isinstance(entry, dict) and str(entry.get("name")) == name), {})


def write_account(file: Path, entry: Mapping[str, Any], replaced: frozenset[str]) -> None:
    """Add an account, or change it: its keys of `replaced` that `entry` lacks are deleted.

    Raise ConfigError when the whole would be no valid configuration; the file stays as it was then.
    """
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
    for key, value in entry.items():
        if key not in account or account[key] != value:
            account[key] = _quote(value)
    text = io.StringIO()
    _build_yaml().dump(content, text)
    draft = file.with_name(f".{file.name}.setup")
    _write_private(draft, text.getvalue(), file.stat().st_mode & 0o777 if file.exists() else 0o600)
    try:
        load_config(draft)
        draft.replace(file)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(draft), str(file))) from None
    finally:
        draft.unlink(missing_ok=True)


def write_secret(config_file: Path, account: str, key: str, secret: str) -> str:
    """Write a secret to a file that its user alone may read, beside the configuration; return its name."""
    name = f"{slugify(account)}.{key}"
    config_file.parent.mkdir(parents=True, exist_ok=True)
    _write_private(config_file.with_name(name), secret + "\n", 0o600)
    return name


def _read(file: Path) -> Any:
    try:
        content = _build_yaml().load(file.read_text(encoding="utf-8")) if file.exists() else None
    except (YAMLError, UnicodeDecodeError):
        load_config(file)  # its messages are for people
        raise ConfigError(f"{file}: is no YAML that setup can change") from None
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


def _quote(value: Any) -> Any:
    """Return a value with its texts in quotes: no number loses its zeros, no # begins a comment."""
    if isinstance(value, dict):
        return CommentedMap({_quote(key) if str(key).isdecimal() else key: _quote(one) for key, one in value.items()})
    if isinstance(value, list):
        return CommentedSeq(map(_quote, value))
    return DoubleQuotedScalarString(value.replace("${", "$${")) if isinstance(value, str) else value


def _write_private(file: Path, text: str, mode: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
