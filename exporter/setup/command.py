"""`setup`: ask for portal, login and meters, try them once, and write them to the configuration."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter.commands.context import CommandContext
from exporter.commands.printing import format_discovery
from exporter.commands.visit import discover_account
from exporter.config.loader import load_config
from exporter.errors import ConfigError, LoginError, suggest
from exporter.models import Discovery
from exporter.setup import questions
from exporter.setup.config_file import list_account_names, name_secret_file, read_account, write_account, write_secret
from exporter.setup.draft import Draft, SetupOptions, load_draft, require_flag, write_trial
from exporter.setup.forms import (
    ACCESS_TITLES,
    ENEDIS_ACCESSES,
    FORMS,
    USUAL_CEM_ADDRESS,
    Check,
    PortalForm,
    check_cem_address,
    require_text,
)
from exporter.setup.meters import (
    choose_counters,
    choose_meters,
    correct_meters,
    describe_counters,
    find_missing,
    name_usage_points,
    set_intervals,
)

SELECTION_KEYS = frozenset({"meters", "counters", "usage_points"})
MAX_LINES = 40
"""What is more is counted instead of shown."""


def run_setup(options: SetupOptions) -> int:
    """Set an account up; return the exit code. Raise ConfigError, and PortalError where the login fails twice."""
    if not options.yes and not sys.stdin.isatty():
        raise ConfigError("setup asks questions, and there is no terminal: give the answers by flags, with --yes")
    if list_account_names(options.config_file):
        load_config(options.config_file)  # what is wrong in it is told before anything is asked
    try:
        add_account(options)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the configuration is as it was\n")
        raise
    print_end(options)
    return 0


def add_account(options: SetupOptions) -> None:
    """Ask for an account, try it, and write it; raise as `run_setup`."""
    draft = start_draft(options)
    if not draft.is_new:
        draft.known = load_draft(draft, options).configured_usage_points()
    choose_meters(draft, options)
    discovery = discover_draft(draft, options)
    choose_counters(draft, discovery, options)
    set_intervals(draft, discovery)
    name_usage_points(draft, discovery, options)
    config = load_draft(draft, options)
    for key in options.keys:  # a number is written as one
        if isinstance(value := getattr(config, key, None), int | float):
            draft.entry[key] = value
    write_draft(draft, discovery, options.config_file)


def write_draft(draft: Draft, discovery: Discovery, config_file: Path) -> None:
    """Write the secret to a file of its own and the account into the configuration, or neither; raise ConfigError."""
    replaced, secret_file = set(SELECTION_KEYS), None
    if draft.secret:
        key = draft.form.secret_key
        draft.entry[f"{key}_file"] = name = name_secret_file(draft.entry["name"], key)
        secret_file = config_file.with_name(name)
        is_new = not secret_file.exists()
        write_secret(secret_file, draft.secret)
        replaced.add(key)
        draft.entry.pop(key, None)
    for key in (*sorted(SELECTION_KEYS), "aliases"):  # the long ones stand last
        if key in draft.entry:
            draft.entry[key] = draft.entry.pop(key)
    try:
        write_account(config_file, draft.entry, frozenset(replaced), describe_counters(discovery.findings))
    except ConfigError:
        if secret_file and is_new:
            secret_file.unlink()
        raise


def start_draft(options: SetupOptions) -> Draft:
    """Return what flags, the configuration and the first answers give."""
    known = read_account(options.config_file, options.account) if options.account else {}
    portal = str(known.get("portal") or options.portal or "")
    if not portal:
        portal = questions.ask_portal() if not options.yes else require_flag(None, "--portal")
    if portal not in FORMS:
        raise ConfigError(
            f"setup does not know the portal {portal!r}{suggest(portal, FORMS)}; it knows {', '.join(FORMS)};"
            " write any other into the configuration by hand"
        )
    form = find_form(portal, known, options)
    if known:
        return Draft(form, {**known, **options.keys}, is_new=False)
    sys.stdout.write(f"{form.intro}\n")
    sys.stdout.flush()
    return ask_login(portal, form, options)


def find_form(portal: str, known: Mapping[str, Any], options: SetupOptions) -> PortalForm:
    """Return the form of a portal, for Enedis that of the access; raise ConfigError."""
    if portal != "enedis":
        return FORMS[portal]
    access = str(known.get("access") or options.access or options.keys.get("access") or "")
    if not access:
        access = "conso" if options.yes or known else questions.choose("Which access?", ACCESS_TITLES)
    if access not in ENEDIS_ACCESSES:
        raise ConfigError(
            f"there is no access {access!r}{suggest(access, ENEDIS_ACCESSES)}; there is {', '.join(ENEDIS_ACCESSES)}"
        )
    return ENEDIS_ACCESSES[access]


def ask_login(portal: str, form: PortalForm, options: SetupOptions) -> Draft:
    """Return a new account with its name and login."""
    names = list_account_names(options.config_file)
    name = options.account or (
        require_flag(None, "ACCOUNT")
        if options.yes
        else questions.ask("A name for the account", _find_free(form.account, names), _check_name(names))
    )
    draft = Draft(form, {"name": name, "portal": portal, **form.keys, **options.keys})
    if form.asks_address and "base_url" not in draft.entry and not options.yes:
        address = questions.ask("Address", USUAL_CEM_ADDRESS, check_cem_address)
        draft.entry |= {"base_url": address} if address != USUAL_CEM_ADDRESS else {}
    if form.user_key:
        draft.entry[form.user_key] = options.username or (
            require_flag(None, "--username") if options.yes else questions.ask(form.user, check=require_text)
        )
    if options.secret_file:
        draft.entry[f"{form.secret_key}_file"] = str(options.secret_file.absolute())
    elif options.yes:
        require_flag(None, "--password-file")
    else:
        draft.secret = questions.ask_secret(form.secret, form.check_secret)
    return draft


def discover_draft(draft: Draft, options: SetupOptions) -> Discovery:
    """Return what the account holds, and show it; what is refused is asked for once more.

    Raise PortalError, and ConfigError where a meter is not there.
    """
    try:
        discovery = _discover(draft, options)
    except LoginError as error:
        if options.yes:
            raise
        sys.stdout.write(f"The login is refused: {error}\nOnce more; a third wrong one may lock the account.\n")
        if draft.form.user_key:
            draft.entry[draft.form.user_key] = questions.ask(
                draft.form.user, str(draft.entry.get(draft.form.user_key, "")), require_text
            )
        draft.secret = questions.ask_secret(draft.form.secret, draft.form.check_secret)
        draft.entry.pop(f"{draft.form.secret_key}_file", None)
        discovery = _discover(draft, options)
    if not options.yes and draft.form.fields and (missing := find_missing(draft, discovery)):
        print_discovery(discovery)
        sys.stdout.write(f"Not found: {', '.join(missing)}\n")
        correct_meters(draft, missing, options)
        discovery = _discover(draft, options)
    print_discovery(discovery)
    if discovery.is_empty or any(finding.is_missing for finding in discovery.findings):
        missing = find_missing(draft, discovery)
        raise ConfigError(f"not found: {', '.join(missing) or 'anything'}; check the numbers; the configuration is as it was")
    return discovery


def print_discovery(discovery: Discovery) -> None:
    """Show what the account holds; the lines for the configuration are written by itself."""
    lines = format_discovery(replace(discovery, config="")).splitlines()
    if len(lines) > MAX_LINES:
        meters = [meter for site in discovery.findings for meter in site.children]
        counters = sum(len(meter.children) for meter in meters)
        lines = [f"{len(discovery.findings)} sites, {len(meters)} meters, {counters} counters (`discover` prints them all)"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def print_end(options: SetupOptions) -> None:
    """Check what is written, and say the next command."""
    config = load_config(options.config_file)
    for warning in config.warnings:
        sys.stdout.write(f"warning: {warning}\n")
    flags = "" if options.config_file == Path("config.yaml") else f" --config.file={options.config_file}"
    flags += "" if options.storage_path == Path("data") else f" --storage.path={options.storage_path}"
    sys.stdout.write(
        f"{options.config_file}: {len(config.accounts)} account(s), no faults\n\n"
        f"Next: {_find_program()} serve{flags}\n"
        "Then open http://localhost:10230; a `serve` that runs already takes it up by itself.\n"
    )


def _find_program() -> str:
    """Return the command as it was called, where the shell would not find it by its name."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "utility-exporter" and not shutil.which(called.name) else "utility-exporter"


def _find_free(name: str, names: Sequence[str]) -> str:
    numbered = (f"{name}-{number}" for number in range(2, len(names) + 3))
    return name if name not in names else next(one for one in numbered if one not in names)


def _check_name(names: Sequence[str]) -> Check:
    return lambda text: require_text(text) or (f"is there already; `setup {text}` changes it" if text in names else "")


def _discover(draft: Draft, options: SetupOptions) -> Discovery:
    load_draft(draft, options)
    sys.stdout.write(f"{draft.form.wait}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        # What is selected now must not hide what else could be.
        whole = replace(draft, entry={key: value for key, value in draft.entry.items() if key != "counters"})
        trial = write_trial(whole, Path(folder), options.config_file.parent)
        context = CommandContext(trial, options.storage_path, str(draft.entry["name"]), force=True)
        return asyncio.run(discover_account(context))
