"""The configuration: reads the file, checks it to the last key, builds the accounts."""

import os
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SerializeAsAny

from exporter.colour import LINKY, Colour
from exporter.config.document import Data, Document, Place, read
from exporter.config.fill import fill, nearest, refuse_quoted, substitute
from exporter.config.schema import file_schema
from exporter.config.words import Model, build
from exporter.history.settings import HistorySettings
from exporter.portals.base import Portal

__all__ = ["Config", "load", "load_plain", "portals", "schema"]

GROUP = "utility_exporter.portals"


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _is_colour(text: str) -> str:
    return str(Colour.parse(text))


class Web(_Block):
    """How the status page looks."""

    colour: Annotated[
        str, AfterValidator(_is_colour), Field(description="The colour of the meters' faces: red, green and blue, as in c8d42a.")
    ] = LINKY


class LedgerKeys(_Block):
    """How long readings are kept."""

    index_days: Annotated[
        int,
        Field(
            ge=0,
            le=36500,
            description="Days that counters' readings are kept as read, at least; then the last of each day. 0: for ever.",
        ),
    ] = 90


class Config(_Block):
    """A file that was found good."""

    accounts: tuple[SerializeAsAny[Portal], ...]
    history: HistorySettings = HistorySettings()
    ledger: LedgerKeys = LedgerKeys()
    web: Web = Web()
    warnings: tuple[str, ...] = ()
    """What is no fault but should be known, a line each."""


class File(_Block):
    """The configuration of utility-exporter."""

    accounts: Annotated[tuple[Any, ...], Field(min_length=1, description="The logins, each at one portal.")]
    history: Annotated[HistorySettings, Field(description="The true-time series.")] = HistorySettings()
    ledger: Annotated[LedgerKeys, Field(description="How long readings are kept.")] = LedgerKeys()
    web: Annotated[Web, Field(description="The status page.")] = Web()


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration file.

    Raises ConfigError that lists every fault, one a line: `config.yaml:7: accounts[1].every: must be 15m to 1d`.
    """
    document = read(path)
    substitute(document, environment)
    document.data = fill(document, File, document.data, ())
    file = build(document, File, document.data, ())
    entries = document.data.get("accounts") if isinstance(document.data, dict) else None
    accounts = _accounts(document, entries if isinstance(entries, list) else [])
    document.check()
    assert file is not None
    return Config(
        accounts=tuple(accounts),
        history=file.history,
        ledger=file.ledger,
        web=file.web,
        warnings=tuple(_warnings(document, environment)),
    )


def load_plain(path: Path, model: type[Model]) -> Model:
    """Read another YAML file, such as the web configuration, into its model: the same checks, but no variables or secrets.

    It may be empty, its texts may have line breaks, and what is in quotes is neither a number nor true or false.
    Raises ConfigError as `load` does.
    """
    document = read(path, plain=True)
    refuse_quoted(document, model, document.data, ())
    made = build(document, model, fill(document, model, document.data, ()), ())
    document.check()
    assert made is not None
    return made


def portals(named: Collection[str] | None = None) -> dict[str, type[Portal]]:
    """Find the portals that are installed and can be used, by the name they have in the configuration.

    With `named` only these are loaded: each takes room and a start's time.
    """
    found = {name: _portal(entry) for name, entry in _installed().items() if named is None or name in named}
    return {name: portal for name, portal in found.items() if isinstance(portal, type)}


def schema() -> dict[str, Any]:
    """Describe the file for editors, as a JSON Schema of draft 2020-12."""
    return file_schema(File, portals())


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP))}


def _portal(entry: EntryPoint) -> type[Portal] | str:
    """Load a portal, or say why it cannot be loaded: it may be somebody else's."""
    try:
        portal = entry.load()
    except Exception as error:  # importing somebody else's package can raise anything
        return f"{type(error).__name__} while it was imported"
    return portal if isinstance(portal, type) and issubclass(portal, Portal) else "it is not a Portal"


def _accounts(document: Document, entries: list[Data]) -> list[Portal]:
    known = portals({str(entry.get("portal")) for entry in entries if isinstance(entry, dict)})
    names: dict[str, int] = {}
    accounts = []
    for position, entry in enumerate(entries):
        place: Place = ("accounts", position)
        if not isinstance(entry, dict):
            document.fault(place, "must be a block of keys, such as name and portal")
            continue
        if isinstance(name := entry.get("name"), str) and (first := names.setdefault(name, position)) != position:
            document.fault((*place, "name"), f"is the name of accounts[{first}] already")
        if account := _account(document, entry, place, known):
            accounts.append(account)
    return accounts


def _account(document: Document, entry: dict[str, Data], place: Place, known: Mapping[str, type[Portal]]) -> Portal | None:
    portal = known.get(str(entry.get("portal")))
    if portal is None:
        document.fault((*place, "portal"), _no_portal(entry.get("portal")))
        return None
    account = build(document, portal, fill(document, portal, entry, place), place)
    _check_aliases(document, entry.get("aliases"), account.named_points() if account else frozenset(), (*place, "aliases"))
    return account


def _no_portal(name: Data) -> str:
    known = portals()
    listed = f"the portals are {', '.join(sorted(known))}" if known else "no portal is installed"
    if name is None:
        return f"is missing; {listed}"
    if not isinstance(name, str):
        return f"must be a word; {listed}"
    if entry := _installed().get(name):
        return f"the package that brings this portal is installed but unusable: {_portal(entry)}"
    return f"unknown portal{nearest(name, known)}; {listed}"


def _check_aliases(document: Document, aliases: Data, points: frozenset[str], place: Place) -> None:
    """Two usage points must not come out under one name; `points` are those that the account names otherwise."""
    shown: set[str] = set()
    for point, alias in aliases.items() if isinstance(aliases, dict) else ():
        here = (*place, point)
        if alias == "":
            document.fault(here, "a name must not be empty")
        elif alias in shown:
            document.fault(here, "this name stands for two usage points")
        elif alias != point and alias in points | aliases.keys():
            document.fault(here, "this name is the id of another usage point")
        elif isinstance(alias, str):
            shown.add(alias)


def _warnings(document: Document, environment: Mapping[str, str]) -> list[str]:
    # What systemd hands over is its user's alone, by an access list whose mask looks like the rights of a group.
    handed_over = str(document.file.parent) == environment.get("CREDENTIALS_DIRECTORY")
    if document.readable and document.holds_secret and not handed_over:
        return [f"{document.file}: others on this machine may read the secrets in it; chmod 600 it, or use files for them"]
    return []
