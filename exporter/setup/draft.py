"""An account as `setup` knows it so far, and its configuration for a trial."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exporter.config.loader import load_config
from exporter.errors import ConfigError
from exporter.portals.base import AccountConfig
from exporter.setup.forms import PortalForm


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """What is known from flags; the rest is asked, unless `yes`."""

    config_file: Path
    storage_path: Path
    account: str | None = None
    portal: str | None = None
    access: str | None = None
    username: str | None = None
    secret_file: Path | None = None
    meters: Sequence[str] = ()
    production: Sequence[str] = ()
    names: dict[str, str] = field(default_factory=dict)
    suggest_names: bool = False
    keys: dict[str, str] = field(default_factory=dict)
    yes: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """An account as far as it is known."""

    form: PortalForm
    entry: Mapping[str, Any]
    is_new: bool = True
    known: frozenset[str] = frozenset()
    """The usage points that were configured before."""
    secret: str = ""
    """Empty where it stands in the configuration or in a file of its own already."""

    @property
    def meters(self) -> list[Any]:
        """What is configured to be read, where that is a list."""
        return list(self.entry.get(self.form.selection_key) or []) if self.form.selection_key != "counters" else []

    def with_keys(self, keys: Mapping[str, Any]) -> "Draft":
        """Return it with other keys."""
        return replace(self, entry={**self.entry, **keys})

    def with_meters(self, meters: Sequence[Any]) -> "Draft":
        """Return it with other meters, or usage points, to be read."""
        return self.with_keys({self.form.selection_key: list(meters)})

    def without(self, *keys: str) -> "Draft":
        """Return it without some keys."""
        return replace(self, entry={key: value for key, value in self.entry.items() if key not in keys})

    def with_login(self, user: str, secret: str) -> "Draft":
        """Return it with another login; its secret stands in no file yet."""
        draft = self.with_keys({self.form.user_key: user}) if self.form.user_key else self
        return replace(draft.without(f"{self.form.secret_key}_file"), secret=secret)


def load_draft(draft: Draft, options: SetupOptions) -> AccountConfig:
    """Return the account's configuration as its file would give it; raise ConfigError."""
    with tempfile.TemporaryDirectory() as folder:
        trial = write_trial(draft, Path(folder), options.config_file.parent)
        try:
            (portal,) = load_config(trial).accounts
        except ConfigError as error:
            raise ConfigError(str(error).replace(f"{trial}:1: ", "")) from None
    return portal.config


def write_trial(draft: Draft, folder: Path, config_folder: Path) -> Path:
    """Write a configuration of this account alone into a folder that nobody else may read."""
    entry = {**draft.entry} | ({draft.form.secret_key: draft.secret.replace("${", "$${")} if draft.secret else {})
    entry |= {key: str((config_folder / str(path)).absolute()) for key, path in entry.items() if key.endswith("_file")}
    file = folder / "config.yaml"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"accounts": [entry]}))
    return file


def require_flag(value: Any, flag: str) -> Any:
    """Return an answer that a flag gave; raise ConfigError without one."""
    if not value:
        raise ConfigError(f"an answer is missing: give {flag}")
    return value
