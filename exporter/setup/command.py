"""`setup`: ask for portal, login and meters, try them once, and write them to the configuration."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.commands import CommandContext, discover_account
from exporter.config.loader import load_config
from exporter.errors import ConfigError, LoginError
from exporter.models import Discovery, Finding
from exporter.printing import format_discovery
from exporter.setup import questions
from exporter.setup.config_file import read_account, write_account, write_secret
from exporter.setup.forms import FORMS, PortalForm

SELECTION_KEYS = frozenset({"meters", "counters", "usage_points"})


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """What is known from flags; the rest is asked, unless `yes`."""

    config_file: Path
    storage_path: Path
    account: str | None = None
    portal: str | None = None
    username: str | None = None
    secret_file: Path | None = None
    meters: Sequence[str] = ()
    names: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    yes: bool = False


@dataclass(slots=True)
class Draft:
    """An account as far as it is known."""

    form: PortalForm
    entry: dict[str, Any]
    secret: str = ""
    """Empty where it stands in the configuration or in a file of its own already."""


def run_setup(options: SetupOptions) -> int:
    """Set an account up; return the exit code. Raise ConfigError, and PortalError where the login fails twice."""
    if not options.yes and not sys.stdin.isatty():
        raise ConfigError("setup asks questions, and there is no terminal: give the answers by flags, with --yes")
    draft = start_draft(options)
    draft, discovery = discover_draft(draft, options)
    sys.stdout.write(format_discovery(Discovery(discovery.findings, "", discovery.notes)) + "\n")
    if discovery.is_empty:
        raise ConfigError("nothing was found: check the numbers; the configuration is as it was")
    if not options.yes:
        choose_meters(draft, discovery, options)
        ask_names(draft, options)
    if draft.secret:
        key = draft.form.secret_key
        draft.entry[f"{key}_file"] = write_secret(options.config_file, draft.entry["name"], key, draft.secret)
    write_account(options.config_file, draft.entry, SELECTION_KEYS)
    config = load_config(options.config_file)
    flag = "" if options.config_file == Path("config.yaml") else f" --config.file={options.config_file}"
    sys.stdout.write(
        f"{options.config_file}: {len(config.accounts)} account(s), no faults\n\nNext: utility-exporter serve{flag}\n"
    )
    return 0


def start_draft(options: SetupOptions) -> Draft:
    """Return what flags, the configuration and the first answers give."""
    known = read_account(options.config_file, options.account) if options.account else {}
    portal = str(known.get("portal") or options.portal or "")
    if not portal:
        portal = questions.ask_portal() if not options.yes else _require(None, "--portal")
    if (form := FORMS.get(portal)) is None:
        raise ConfigError(f"setup does not know the portal {portal!r}; it knows {', '.join(FORMS)}")
    if known:
        entry = {**known, **options.keys}
        draft = Draft(form, entry)
    else:
        sys.stdout.write(f"{form.intro}\n")
        draft = _ask_login(portal, form, options)
    listed = {_describe_meter(meter): meter for meter in known.get("meters") or []}
    words = list(options.meters)
    if form.meters and not words:
        words = list(listed) if options.yes else questions.ask_words(form.meters, " ".join(listed))
    if form.meters and not words:
        _require(None, "--meter")
    if words:
        selection = form.build_selection(words)
        if "meters" in selection:  # what is there keeps its other keys
            selection["meters"] = [listed.get(word, meter) for word, meter in zip(words, selection["meters"], strict=True)]
        draft.entry |= selection
    draft.entry |= {"aliases": options.names} if options.names else {}
    return draft


def discover_draft(draft: Draft, options: SetupOptions) -> tuple[Draft, Discovery]:
    """Return what the account holds; a refused secret that was typed is asked for once more. Raise PortalError."""
    try:
        return draft, _discover(draft, options)
    except LoginError as error:
        if not draft.secret:
            raise
        sys.stdout.write(f"The login is refused: {error}\nOnce more; a third wrong one may lock the account.\n")
        draft.secret = questions.ask_secret(draft.form.secret)
        return draft, _discover(draft, options)


def choose_meters(draft: Draft, discovery: Discovery, options: SetupOptions) -> None:
    """Let people tick what is read, where the portal lists it."""
    if options.meters or draft.form.meters:
        return
    choices = list(list_choices(discovery.findings))
    chosen = [] if len(choices) < 2 or questions.confirm("Read all of it?") else questions.ask_choices(choices)
    for key in SELECTION_KEYS & draft.entry.keys():
        del draft.entry[key]
    draft.entry |= draft.form.build_selection(chosen)


def ask_names(draft: Draft, options: SetupOptions) -> None:
    """Ask for names of the usage points whose numbers would be shown."""
    if options.names or draft.entry.get("aliases"):
        return
    with tempfile.TemporaryDirectory() as folder:
        (portal,) = load_config(_write_trial(draft, Path(folder), options.config_file.parent)).accounts
    names = {point: questions.ask(f"A name for {point} (empty: none)") for point in sorted(portal.configured_usage_points())}
    if named := {point: name for point, name in names.items() if name}:
        draft.entry["aliases"] = named


def list_choices(findings: Sequence[Finding], depth: int = 0) -> Iterator[questions.Choice]:
    """Return what can be ticked, branches before their parts."""
    for finding in findings:
        if numbers := tuple(_list_numbers(finding)):
            yield questions.Choice("  " * depth + finding.text, numbers)
            yield from list_choices(finding.children, depth + 1)


def _list_numbers(finding: Finding) -> Iterator[str]:
    number = finding.facts.get("var_id", finding.facts.get("prm"))
    if number is not None:
        yield str(number)
    for child in finding.children:
        yield from _list_numbers(child)


def _ask_login(portal: str, form: PortalForm, options: SetupOptions) -> Draft:
    name = options.account or (
        _require(None, "ACCOUNT") if options.yes else questions.ask("A name for the account", form.account)
    )
    draft = Draft(form, {"name": name, "portal": portal, **form.keys, **options.keys})
    if form.username:
        draft.entry["username"] = options.username or (
            _require(None, "--username") if options.yes else questions.ask(form.username)
        )
    if options.secret_file:
        draft.entry[f"{form.secret_key}_file"] = str(options.secret_file.absolute())
    elif options.yes:
        _require(None, "--password-file")
    else:
        draft.secret = questions.ask_secret(form.secret)
    return draft


def _describe_meter(meter: Any) -> str:
    """Return a meter of the configuration as it is typed here."""
    if not isinstance(meter, dict):
        return str(meter)
    serial = meter.get("serial", "")
    newest = serial[-1] if isinstance(serial, list) and serial else serial
    return f"{meter.get('ean', '')}:{newest}:{meter.get('commodity', '')}"


def _require(value: Any, flag: str) -> Any:
    if not value:
        raise ConfigError(f"an answer is missing: give {flag}")
    return value


def _discover(draft: Draft, options: SetupOptions) -> Discovery:
    sys.stdout.write("Logging in once ...\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        trial = _write_trial(draft, Path(folder), options.config_file.parent)
        context = CommandContext(trial, options.storage_path, str(draft.entry["name"]), force=True)
        return asyncio.run(discover_account(context))


def _write_trial(draft: Draft, folder: Path, config_folder: Path) -> Path:
    """Write a configuration of this account alone into a folder that nobody else may read."""
    entry = draft.entry | ({draft.form.secret_key: draft.secret.replace("${", "$${")} if draft.secret else {})
    entry |= {key: str((config_folder / str(path)).absolute()) for key, path in entry.items() if key.endswith("_file")}
    file = folder / "config.yaml"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"accounts": [entry]}))
    return file
