"""Commands beside a running `serve`, whose ledger and tokens they share: visit, discover, raw, and those of history."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exporter.client.session import Session
from exporter.config.loader import load_config
from exporter.errors import ConfigError, LedgerError, LoginError
from exporter.history.export import ExportSelection, export_series
from exporter.importer import HistoryImport
from exporter.ledger.account_state import AccountState
from exporter.ledger.database import LEDGER_FILE
from exporter.ledger.ledger import Ledger
from exporter.metrics.page import MetricsPage
from exporter.models import Discovery, Finding, VisitPart
from exporter.poller import LOGIN_SUSPENSION, build_account_view, open_session
from exporter.portals.base import Portal


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Where the configuration and the ledger are, and whose account is meant."""

    config_file: Path
    storage_path: Path
    account: str
    force: bool = False


@asynccontextmanager
async def open_visit(
    context: CommandContext, hint: str = ", except with --force"
) -> AsyncIterator[tuple[Portal, Ledger, Session]]:
    """Open an account for one going to its portal.

    Raises ConfigError, LedgerError, and LoginError while the account is suspended (unless forced).
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
            yield portal, ledger, session
    finally:
        await asyncio.to_thread(ledger.close)


async def visit_once(context: CommandContext) -> tuple[str, str]:
    """Visit once; gives the page that the account would have, and the reason of what failed in part."""
    async with open_visit(context) as (portal, ledger, session):
        result = await portal.latest(session, ledger.get_stored_readings(portal.name))
        failure = next(iter(result.failures), None)
        page = await asyncio.to_thread(_render_dry_run, portal, ledger, list(result.parts()))
        return page, f"{failure.reason}: {failure}" if failure else ""


async def discover_account(context: CommandContext) -> Discovery:
    """Look at what an account holds."""
    async with open_visit(context) as (portal, _, session):
        return await portal.discover(session)


async def run_import(context: CommandContext, first: date | None, last: date | None, *, quiet: bool = False) -> None:
    """Bring home an account's past, and say on standard error how much of it is there, however it ends, unless `quiet`.

    Raises what `Import.run` does; a login that is refused suspends the account, as a visit would.
    """
    async with open_visit(context, "") as (portal, ledger, session):
        run = HistoryImport(portal, ledger, session, quiet=quiet)
        try:
            await run.run(first, last)
        except LoginError as error:
            await asyncio.to_thread(ledger.suspend, portal.name, str(error), until=session.now + LOGIN_SUSPENSION)
            raise
        finally:
            if not quiet:
                sys.stderr.write(f"{portal.name}: {run.progress}\n")


def write_history(context: CommandContext, selection: ExportSelection, file: Path | None) -> int:
    """Write the true-time series as OpenMetrics; gives how many samples there are."""
    aliases = {portal.name: portal.aliases for portal in load_config(context.config_file).accounts}
    with open_existing_ledger(context.storage_path) as ledger:
        return export_series(ledger, aliases, selection, utc_now(), file)


def open_existing_ledger(folder: Path) -> Ledger:
    """Open a ledger that is there; raises LedgerError."""
    if not (folder / LEDGER_FILE).exists():
        raise LedgerError(f"{folder} holds no ledger; --storage.path names the folder of the one that is meant")
    return Ledger(folder)


async def call_raw(context: CommandContext, call: str, keys: Mapping[str, str]) -> Any:
    """Give the portal's own answer to one of its named calls; raises ConfigError for a call or key it does not have."""
    portal = find_account(context)
    known = portal.raw_calls.get(call)
    if known is None:
        raise ConfigError(f"{portal.portal} has no call {call!r}; it has {', '.join(portal.raw_calls)}")
    if strange := sorted(set(keys) - set(known.parameters)):
        raise ConfigError(f"{call} takes no {strange[0]!r}; it takes {', '.join(known.parameters) or 'nothing'}")
    if missing := sorted(known.required - set(keys)):
        raise ConfigError(f"{call} needs {missing[0]}=... ({known.parameters[missing[0]]})")
    async with open_visit(context) as (_, _, session):
        return await portal.fetch_raw(session, call, keys)


def find_account(context: CommandContext) -> Portal:
    """Find an account in the configuration; raises ConfigError that names those there are."""
    accounts = {portal.name: portal for portal in load_config(context.config_file).accounts}
    if context.account not in accounts:
        raise ConfigError(f"{context.config_file} has no account {context.account!r}; it has {', '.join(accounts) or 'none'}")
    return accounts[context.account]


def open_account(ledger: Ledger, portal: Portal) -> AccountState:
    """Open an account in the ledger without visiting it."""
    return ledger.open_account(portal.name, portal=portal.portal, zone=portal.zone.key, login=portal.login_digest())


def format_discovery(discovery: Discovery) -> str:
    """Write a discovery as an indented tree, its notes, and the lines of configuration."""
    lines = [line for finding in discovery.findings for line in _format_finding(finding, "")]
    notes = [f"note: {note}" for note in discovery.notes]
    config = ["", "# config.yaml", *discovery.config.rstrip().splitlines()] if discovery.config else []
    return "\n".join(map(strip_control, [*lines, *notes, *config]))


def format_discovery_json(discovery: Discovery) -> str:
    """Write a discovery as JSON."""

    def branch(finding: Finding) -> dict[str, Any]:
        return {"text": finding.text, "facts": dict(finding.facts), "under": [branch(below) for below in finding.children]}

    return format_json(
        {"tree": [branch(finding) for finding in discovery.findings], "notes": list(discovery.notes), "config": discovery.config}
    )


def format_json(value: Any) -> str:
    """Write JSON for a person: letters as they are, what a terminal might obey as JSON's escapes."""
    said = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in said)


def strip_control(line: str) -> str:
    """Take out of a line what a terminal might obey: portals write what they like."""
    return "".join(letter if letter.isprintable() else "�" for letter in line)


def utc_now() -> datetime:
    """Give the present instant."""
    return datetime.now(UTC)


def _format_finding(finding: Finding, indent: str) -> Sequence[str]:
    facts = ", ".join(f"{key}: {value}" for key, value in finding.facts.items() if value not in (None, ""))
    line = f"{indent}{finding.text}" + (f"  ({facts})" if facts else "")
    return [line, *(below for under in finding.children for below in _format_finding(under, indent + "  "))]


def _render_dry_run(portal: Portal, ledger: Ledger, parts: Sequence[VisitPart], now: Callable[[], datetime] = utc_now) -> str:
    page = MetricsPage(ledger, now, version("utility-exporter"))
    part = page.add_account(build_account_view(portal), portal.every)
    at = now()
    health = AccountState(last_visit=at, last_success=at, up=True)
    with ledger.dry_run(portal.name, parts, at=at, keep_personal=portal.personal_data) as look:
        page.refresh_from_snapshot(look, portal.name)
    part.health.state = health
    return page.render().decode()
