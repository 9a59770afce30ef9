"""What each command does; those on one account may run beside a `serve`, whose ledger and tokens they share."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exporter import runtime
from exporter.account_status import LOGIN_SUSPENSION, AccountHealth
from exporter.accounts import build_account_view, open_account, open_session
from exporter.app import DEFAULT_ADDRESS, Exporter, ServeOptions, read_web_config
from exporter.client.login_attempts import allow_login
from exporter.client.session import Session
from exporter.config.loader import load_config
from exporter.errors import ConfigError, LedgerError, LoginError
from exporter.feed_reader import read_feeds_dry
from exporter.history.export import ExportSelection, export_series
from exporter.history.remote_write import request_resend
from exporter.import_command import ImportOptions, import_feeds
from exporter.ledger.account_state import AccountState
from exporter.ledger.database import LEDGER_FILE
from exporter.ledger.ledger import Ledger
from exporter.metrics.page import MetricsPage
from exporter.models import Discovery, VisitResult
from exporter.portals.base import Portal
from exporter.printing import format_discovery, format_discovery_json, format_json, format_visit, strip_control
from exporter.recording.last_failure import get_file, slugify
from exporter.recording.recording import Recording, read_document, write_document
from exporter.recording.summary import summarize
from exporter.report import record_visit
from exporter.suggestion import find_similar, suggest
from exporter.web.access_control import load_access_control


def serve(options: argparse.Namespace) -> int:
    """Run the exporter until it is stopped."""
    runtime.limit_arenas()
    runtime.tune_interpreter()
    asyncio.run(Exporter(build_options(options)).run())
    return 0


def start(options: argparse.Namespace) -> int:
    """Serve, or run the demo without a configuration: what the image does by default."""
    if has_configuration(options.config_file):
        return serve(options)
    options.storage_path = None
    return run_demo(options)


def run_demo(options: argparse.Namespace) -> int:
    """Run the exporter against simulations of the portals."""
    from exporter.demo import serve_demo  # noqa: PLC0415  # the simulations are loaded only for the demo

    asyncio.run(serve_demo(build_options(options), temporary=options.storage_path is None))
    return 0


def check(options: argparse.Namespace) -> int:
    """Validate the configuration and the web configuration; raise ConfigError of every fault at once."""
    faults, valid = [], []
    for check_file in (check_config, check_web_config):
        try:
            valid += check_file(options)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    sys.stdout.write("".join(f"{line}, no faults\n" for line in valid))
    return 0


def check_config(options: argparse.Namespace) -> list[str]:
    """Return what the configuration has; raise ConfigError."""
    config = load_config(options.config_file)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return [f"{options.config_file}: {len(config.accounts)} account(s)"]


def check_web_config(options: argparse.Namespace) -> list[str]:
    """Return what the web configuration and the files it names have, if there is one; raise ConfigError."""
    if (file := options.web_config_file) is None:
        return []
    access_control = load_access_control(file, read_web_config)
    access_control.close()
    return [f"{file}: {'TLS' if access_control.config.tls.enabled else 'no TLS'}, {len(access_control.config.users)} user(s)"]


def print_visit(options: argparse.Namespace) -> int:
    """Visit an account once and print a table of what came, or the metrics of it."""
    visited = asyncio.run(visit_once(build_context(options)))
    sys.stdout.write(visited.page if options.page else visited.table + "\n")
    failure = visited.failure
    return report_failure(failure) if failure else 0


def print_discovery(options: argparse.Namespace) -> int:
    """Print what an account holds; return 1 when nothing was found."""
    discovery = asyncio.run(discover_account(build_context(options)))
    sys.stdout.write((format_discovery_json if options.json else format_discovery)(discovery) + "\n")
    return 1 if discovery.is_empty else 0


def print_raw(options: argparse.Namespace) -> int:
    """Print the portal's own response to a call, or the calls there are."""
    options.account, options.call, options.keys = sort_raw_words(options.config_file, options.words)
    if options.call is None:
        portal = find_account(build_context(options))
        for name, call in portal.raw_calls.items():
            keys = " ".join(f"{key}=..." if key in call.required else f"[{key}=...]" for key in call.parameters)
            sys.stdout.write(f"{name} {keys}".rstrip() + f"\n    {call.description}\n")
        return 0
    response = asyncio.run(call_raw(build_context(options), options.call, dict(options.keys)))
    sys.stdout.write(format_json(response) + "\n")
    return 0


def sort_raw_words(config_file: Path, words: Sequence[str]) -> tuple[str, str | None, list[tuple[str, str]]]:
    """Return account, call and parameters; the account may be left out where it is the only one. Raise ConfigError."""
    plain = [word for word in words if "=" not in word]
    keys = [(key, value) for key, equals, value in (word.partition("=") for word in words) if equals]
    accounts = {portal.name: portal for portal in load_config(config_file).accounts}
    if not plain or (len(plain) == 1 and plain[0] not in accounts and len(accounts) == 1 and is_call(accounts, plain[0])):
        plain.insert(0, find_only_account(config_file))
    if len(plain) > 2 or any(not key for key, _ in keys):
        raise ConfigError(f"{plain[-1]!r} is not KEY=VALUE")
    return plain[0], plain[1] if len(plain) > 1 else None, keys


def is_call(accounts: Mapping[str, Portal], word: str) -> bool:
    """Return whether a word is, or is nearly, a call of the only account."""
    return any(find_similar(word, [*accounts, *portal.raw_calls]) in portal.raw_calls for portal in accounts.values())


def report(options: argparse.Namespace) -> int:
    """Record a visit, or fetch the recording of the last failed one, show what is in it, and write it."""
    context = build_context(options)
    document = read_last_failure(context) if options.last_failure else asyncio.run(record_account(context)).document
    file = options.output or Path(f"report-{slugify(options.account)}.json")
    sys.stdout.write(f"Recording of {strip_control(options.account)}; nothing has been sent to anybody.\n")
    sys.stdout.write("".join(f"{strip_control(line)}\n" for line in summarize(document).splitlines()))
    size = write_document(document, file)
    sys.stdout.write(f"Look through it before you publish it: {file} ({max(size // 1000, 1)} kB)\n")
    return 0


def import_history(options: argparse.Namespace) -> int:
    """Import an account's past readings."""
    asyncio.run(
        run_import(
            build_context(options),
            ImportOptions(options.first, options.last, again=options.again, wait=options.wait),
        )
    )
    return 0


def export_history(options: argparse.Namespace) -> int:
    """Write the history series as OpenMetrics."""
    selection = ExportSelection(options.account, options.first, options.last)
    count = write_history(options.config_file, options.storage_path, selection, options.output)
    if options.output:
        sys.stderr.write(f"{options.output}: {count} samples\n")
    return 0


def resend_history(options: argparse.Namespace) -> int:
    """Schedule everything to be sent again to a receiver of remote write."""
    receivers = load_config(options.config_file).history.remote_write
    with open_existing_ledger(options.storage_path) as ledger:
        lines = request_resend(ledger, receivers, options.target, options.first)
    sys.stdout.write("".join(f"{line}\n" for line in lines or ["history.remote_write is empty: no receiver to send to"]))
    return 0


def report_failure(message: str) -> int:
    """Write a message to stderr; return the exit code 1."""
    sys.stderr.write("\n".join(map(strip_control, message.rstrip().split("\n"))) + "\n")
    return 1


def build_options(options: argparse.Namespace) -> ServeOptions:
    """Return the options of `serve` and `demo` from their flags."""
    return ServeOptions(
        config_file=options.config_file,
        storage_path=options.storage_path or Path("data"),
        addresses=tuple(options.addresses or [DEFAULT_ADDRESS]),
        telemetry_path=options.telemetry_path,
        enable_lifecycle=options.lifecycle,
        watch_config=options.watch_config,
        web_config_file=options.web_config_file,
        systemd_socket=options.systemd_socket,
        shard=options.shard,
    )


def has_configuration(config_file: Path) -> bool:
    """Return whether the configuration's folder has anything in it, even under a wrong name, or cannot be read.

    Simulated meters must never appear where a user expects their own.
    """
    try:
        return any(config_file.parent.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The configuration, the ledger and the account that a command works on."""

    config_file: Path
    storage_path: Path
    account: str
    force: bool = False


def build_context(options: argparse.Namespace) -> CommandContext:
    """Return the context of a command on one account from its flags."""
    if options.account is None:
        options.account = find_only_account(options.config_file)
    return CommandContext(options.config_file, options.storage_path, options.account, getattr(options, "force", False))


def find_only_account(config_file: Path) -> str:
    """Return the name of the only account; raise ConfigError that lists them where there are several."""
    names = [portal.name for portal in load_config(config_file).accounts]
    if len(names) > 1:
        raise ConfigError(f"{config_file} has {len(names)} accounts; name one: {', '.join(names)}")
    return names[0]


@asynccontextmanager
async def open_visit(
    context: CommandContext, hint: str = ", except with --force", *, proves_login: bool = True
) -> AsyncIterator[tuple[Portal, Ledger, Session]]:
    """Open an account for one visit to its portal.

    A refused login suspends the account, for commands and `serve` alike. An end without an error lifts the suspension, where
    it `proves_login`. Raise ConfigError, LedgerError, and LoginError while the login is suspended (unless forced).
    """
    portal = find_account(context)
    ledger = await asyncio.to_thread(Ledger, context.storage_path)
    try:
        state = await asyncio.to_thread(open_account, ledger, portal)
        if state.suspended_until and utc_now() < state.suspended_until and not context.force:
            raise LoginError(
                f"the portal has refused the login of {portal.name} ({state.message}); it is not asked before"
                f" {state.suspended_until:%Y-%m-%d %H:%M} UTC or a change of the configuration{hint}"
            )
        async with open_session(portal, ledger, utc_now) as session:
            if context.force:
                await allow_login(session)
            try:
                yield portal, ledger, session
            except LoginError as error:
                await suspend(ledger, portal, error)
                raise
            if state.suspended_until and proves_login:
                await asyncio.to_thread(ledger.lift_suspension, portal.name)
    finally:
        await asyncio.to_thread(ledger.close)


@dataclass(frozen=True, slots=True)
class VisitOutput:
    """What a visit brought: the metrics that the account would have, a table, and the reason of a partial failure."""

    page: str
    table: str
    failure: str


async def visit_once(context: CommandContext) -> VisitOutput:
    """Visit once; return what came."""
    async with open_visit(context) as (portal, ledger, session):
        latest = await portal.latest(session)
        readings, failures = await read_feeds_dry(portal, ledger, session)
        failure = next(iter([*latest.failures, *failures]), None)
        result = replace(latest, readings=[*latest.readings, *readings])
        page = await asyncio.to_thread(_render_dry_run, portal, ledger, result)
        table = format_visit(result.readings, portal.config.aliases, portal.zone)
        return VisitOutput(page, table, f"{failure.reason}: {failure}" if failure else "")


async def record_account(context: CommandContext) -> Recording:
    """Return the recording of a visit that starts with an empty store; raise ConfigError, LedgerError and LoginError."""
    async with open_visit(context, proves_login=False) as (portal, ledger, _):
        visit = await record_visit(portal, utc_now, ledger.get_account_store(portal.name))
        if isinstance(visit.failure, LoginError):
            await suspend(ledger, portal, visit.failure)
        return visit.recording


async def suspend(ledger: Ledger, portal: Portal, error: LoginError) -> None:
    """Store that the portal refused an account's login: it is not asked again for a day."""
    await asyncio.to_thread(ledger.suspend, portal.name, str(error), until=utc_now() + LOGIN_SUSPENSION)


def read_last_failure(context: CommandContext) -> dict[str, Any]:
    """Return the recording of the account's last failed visit; raise ConfigError."""
    file = get_file(context.storage_path, find_account(context).name)
    try:
        return read_document(file)
    except FileNotFoundError:
        raise ConfigError(f"no failed visit of {context.account} is recorded in {context.storage_path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None


async def discover_account(context: CommandContext) -> Discovery:
    """Return what an account holds."""
    async with open_visit(context) as (portal, _, session):
        return await portal.discover(session)


async def run_import(context: CommandContext, options: ImportOptions) -> None:
    """Import an account's past readings, and report the progress on stderr however it ends.

    Raise what `import_feeds` raises.
    """
    async with open_visit(context, "") as (portal, ledger, session):
        oldest = load_config(context.config_file).history.from_
        await import_feeds(portal, ledger, session, options, oldest=oldest)


def write_history(config_file: Path, storage_path: Path, selection: ExportSelection, file: Path | None) -> int:
    """Write the history series as OpenMetrics; return the number of samples."""
    aliases = {portal.name: portal.config.aliases for portal in load_config(config_file).accounts}
    with open_existing_ledger(storage_path) as ledger:
        return export_series(ledger, aliases, selection, utc_now(), file)


def open_existing_ledger(folder: Path) -> Ledger:
    """Return an existing ledger; raise LedgerError."""
    if not (folder / LEDGER_FILE).exists():
        raise LedgerError(f"{folder} holds no ledger; set --storage.path to its folder")
    return Ledger(folder)


async def call_raw(context: CommandContext, call: str, parameters: Mapping[str, str]) -> Any:
    """Return the portal's own response to one of its named calls; raise ConfigError for an unknown call or parameter."""
    portal = find_account(context)
    raw_call = portal.raw_calls.get(call)
    if raw_call is None:
        raise ConfigError(
            f"{portal.config.portal} has no call {call!r}{suggest(call, portal.raw_calls)}; it has {', '.join(portal.raw_calls)}"
        )
    if unknown := sorted(set(parameters) - set(raw_call.parameters)):
        near = suggest(unknown[0], raw_call.parameters)
        raise ConfigError(f"{call} takes no {unknown[0]!r}{near}; it takes {', '.join(raw_call.parameters) or 'nothing'}")
    if missing := sorted(raw_call.required - set(parameters)):
        raise ConfigError(f"{call} needs {missing[0]}=... ({raw_call.parameters[missing[0]]})")
    async with open_visit(context) as (_, _, session):
        return await portal.fetch_raw(session, call, parameters)


def find_account(context: CommandContext) -> Portal:
    """Return an account of the configuration; raise ConfigError that lists the accounts."""
    accounts = {portal.name: portal for portal in load_config(context.config_file).accounts}
    if context.account not in accounts:
        known = f"{suggest(context.account, accounts)}; it has {', '.join(accounts) or 'none'}"
        raise ConfigError(f"{context.config_file} has no account {context.account!r}{known}")
    return accounts[context.account]


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


def _render_dry_run(portal: Portal, ledger: Ledger, result: VisitResult, now: Callable[[], datetime] = utc_now) -> str:
    page = MetricsPage(ledger, now, version("utility-exporter"))
    at = now()
    state = AccountState(last_visit=at, last_success=at, up=True)
    page.add_account(build_account_view(portal), AccountHealth(portal.config.every, state))
    with ledger.dry_run(portal.name, result, at=at, keep_personal=portal.config.personal_data) as snapshot:
        page.refresh_from_snapshot(snapshot, portal.name)
    return page.render().decode()
