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
from exporter.setup.config_file import list_account_names, read_account, write_account
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
NAME_QUESTION = "A name for the account (of your choice; metrics and commands show it)"
ADDRESS_QUESTION = "Address of your CEM (Enter keeps the usual one)"
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
        draft = replace(draft, known=load_draft(draft, options).configured_usage_points())
    draft, discovery = try_draft(choose_meters(draft, options), options)
    draft = choose_counters(draft, discovery, options)
    draft = name_usage_points(set_intervals(draft, discovery), discovery, options)
    config = load_draft(draft, options)
    # A number is written as one.
    numbers = {key: value for key in options.keys if isinstance(value := getattr(config, key, None), int | float)}
    write_draft(draft.with_keys(numbers), discovery, options.config_file)


def write_draft(draft: Draft, discovery: Discovery, config_file: Path) -> None:
    """Write the account into the configuration, a secret in a new file of its own, or nothing; raise ConfigError."""
    secrets = {draft.form.secret_key: draft.secret} if draft.secret else {}
    # The long keys stand last.
    ordered = {key: draft.entry[key] for key in (*sorted(SELECTION_KEYS), "aliases") if key in draft.entry}
    entry = {**draft.without(*ordered).entry, **secrets, **ordered}
    for unused in write_account(config_file, entry, SELECTION_KEYS, describe_counters(discovery.findings), frozenset(secrets)):
        sys.stdout.write(f"{entry['name']} no longer uses {unused}; delete it if nothing else does\n")


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
        access = "conso" if options.yes or known else questions.choose("Which access to Enedis?", ACCESS_TITLES)
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
        else questions.ask(NAME_QUESTION, _find_free(form.account, names), _check_name(names))
    )
    draft = Draft(form, {"name": name, "portal": portal, **form.keys, **options.keys})
    if form.asks_address and "base_url" not in draft.entry and not options.yes:
        address = questions.ask(ADDRESS_QUESTION, USUAL_CEM_ADDRESS, check_cem_address)
        draft = draft.with_keys({"base_url": address} if address != USUAL_CEM_ADDRESS else {})
    if form.user_key:
        user = options.username or (
            require_flag(None, "--username") if options.yes else questions.ask(form.user, check=require_text)
        )
        draft = draft.with_keys({form.user_key: user})
    if options.secret_file:
        return draft.with_keys({f"{form.secret_key}_file": str(options.secret_file.absolute())})
    if options.yes:
        require_flag(None, "--password-file")
    return replace(draft, secret=questions.ask_secret(form.secret, form.check_secret))


def try_draft(draft: Draft, options: SetupOptions) -> tuple[Draft, Discovery]:
    """Return the account, and what it holds, which is shown; what is refused is asked for once more.

    Raise PortalError, and ConfigError where a meter is not there.
    """
    form = draft.form
    try:
        discovery = _discover(draft, options)
    except LoginError as error:
        if options.yes:
            raise
        sys.stdout.write(f"The login is refused: {error}\nOnce more; a third wrong one may lock the account.\n")
        user = questions.ask(form.user, str(draft.entry.get(form.user_key, "")), require_text) if form.user_key else ""
        draft = draft.with_login(user, questions.ask_secret(form.secret, form.check_secret))
        discovery = _discover(draft, options)
    if not options.yes and form.fields and (missing := find_missing(draft, discovery)):
        print_discovery(discovery)
        sys.stdout.write(f"Not found: {', '.join(missing)}\n")
        draft = correct_meters(draft, missing, options)
        discovery = _discover(draft, options)
    print_discovery(discovery)
    if discovery.is_empty or any(finding.is_missing for finding in discovery.findings):
        missing = find_missing(draft, discovery)
        raise ConfigError(f"not found: {', '.join(missing) or 'anything'}; check the numbers; the configuration is as it was")
    return draft, discovery


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
        trial = write_trial(draft.without("counters"), Path(folder), options.config_file.parent)
        context = CommandContext(trial, options.storage_path, str(draft.entry["name"]), force=True)
        return asyncio.run(discover_account(context))
