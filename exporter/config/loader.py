"""The configuration file: read, validated to the last key, and built into accounts."""

import os
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from exporter.config.colour import DEFAULT_COLOUR, Colour
from exporter.config.json_schema import build_file_schema
from exporter.config.secrets import fill_model, substitute_variables
from exporter.config.validation import Model, validate
from exporter.config.yaml_document import Data, KeyPath, YamlDocument, read_document
from exporter.feed_reader import BackfillSettings
from exporter.files import FileStamps, find_exposure
from exporter.history.config import HistorySettings
from exporter.portals.base import Portal
from exporter.suggestion import suggest
from exporter.sync.feeds import Pace

ENTRY_POINT_GROUP = "utility_exporter.portals"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _normalize_colour(text: str) -> str:
    return str(Colour.parse(text))


class WebSettings(_Section):
    """How the status page looks."""

    colour: Annotated[
        str,
        AfterValidator(_normalize_colour),
        Field(description="The colour of the meters' faces: red, green and blue, as in c8d42a."),
    ] = DEFAULT_COLOUR


class LedgerSettings(_Section):
    """How long readings are kept."""

    index_days: Annotated[
        int,
        Field(
            ge=0,
            le=36500,
            description="Days that counters' readings are kept as read, at least; then the last of each day. 0: for ever.",
        ),
    ] = 90


class RecordingSettings(_Section):
    """What is recorded for reports of failures."""

    last_failure: Annotated[
        bool,
        Field(description="Keep each account's last failed visit, redacted, for `report --last-failure`."),
    ] = True


class Config(_Section):
    """A valid configuration; its accounts are made already."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    accounts: tuple[Portal, ...]
    history: HistorySettings = HistorySettings()
    ledger: LedgerSettings = LedgerSettings()
    web: WebSettings = WebSettings()
    recording: RecordingSettings = RecordingSettings()
    warnings: tuple[str, ...] = ()
    """Warnings, one a line."""
    secret_files: tuple[Path, ...] = ()
    """The files that secrets were read from."""
    secret_stamps: FileStamps = ()
    """Their stamps before they were read."""

    pace: Pace | None = None
    """How fast the history is read; None: as each portal allows."""

    @property
    def backfill(self) -> BackfillSettings:
        """How the history is read."""
        return BackfillSettings(self.history.backfill, self.history.from_, self.pace)


class ConfigFile(_Section):
    """The configuration of utility-exporter."""

    accounts: Annotated[tuple[Any, ...], Field(min_length=1, description="The logins, each at one portal.")]
    history: Annotated[HistorySettings, Field(description="The history series.")] = HistorySettings()
    ledger: Annotated[LedgerSettings, Field(description="How long readings are kept.")] = LedgerSettings()
    web: Annotated[WebSettings, Field(description="The status page.")] = WebSettings()
    recording: Annotated[RecordingSettings, Field(description="Recordings of failed visits.")] = RecordingSettings()


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
