"""The commands `visit`, `discover` and `raw`: one visit to an account, and what it printed."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exporter.account_status import AccountHealth
from exporter.commands.context import (
    CommandContext,
    build_context,
    find_account,
    find_only_account,
    open_visit,
    report_failure,
    utc_now,
)
from exporter.commands.printing import format_discovery, format_discovery_json, format_json, format_visit
from exporter.config.loader import load_config
from exporter.errors import ConfigError, find_similar, select_main_failure, suggest
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.models import Discovery, VisitResult
from exporter.portals.base import Portal
from exporter.visit import build_account_view, read_feeds_dry


def print_visit(options: argparse.Namespace) -> int:
    """Visit an account once and print a table of what came, or the metrics of it."""
    visited = asyncio.run(visit_once(build_context(options)))
    sys.stdout.write(visited.page if options.page else visited.table + "\n")
    failure = visited.failure
    return report_failure(failure) if failure else 0


@dataclass(frozen=True, slots=True)
class VisitOutput:
    """What a visit brought: the metrics that the account would have, a table, and the reason of a partial failure."""

    page: str
    table: str
    failure: str


async def visit_once(context: CommandContext) -> VisitOutput:
    """Visit once; return what came."""
    async with open_visit(context) as visit:
        portal, ledger = visit.portal, visit.ledger
        latest = await portal.fetch_latest(visit.session)
        readings, feed_failures = await read_feeds_dry(portal, ledger, visit.session)
        failures = [*latest.failures, *feed_failures]
        failure = select_main_failure(failures)
        await visit.record_login(failure)
        result = replace(latest, readings=[*latest.readings, *readings])
        page = await asyncio.to_thread(_render_dry_run, portal, ledger, result)
        table = format_visit(result.readings, portal.config.aliases, portal.zone)
        return VisitOutput(page, table, f"{failure.reason}: {failure}" if failure else "")


def _render_dry_run(portal: Portal, ledger: Ledger, result: VisitResult, now: Callable[[], datetime] = utc_now) -> str:
    page = MetricsPage(ledger, now, version("utility-exporter"))
    at = now()
    state = AccountState(last_visit=at, last_success=at, up=True)
    page.add_account(build_account_view(portal), AccountHealth(portal.config.every, state))
    with ledger.dry_run(portal.name, result, at=at, keep_personal=portal.config.personal_data) as snapshot:
        page.refresh_from_snapshot(snapshot, portal.name)
    return page.render().decode()


def print_discovery(options: argparse.Namespace) -> int:
    """Print what an account holds; return 1 when nothing was found."""
    discovery = asyncio.run(discover_account(build_context(options)))
    sys.stdout.write((format_discovery_json if options.json else format_discovery)(discovery) + "\n")
    return 1 if discovery.is_empty else 0


async def discover_account(context: CommandContext) -> Discovery:
    """Return what an account holds."""
    async with open_visit(context) as visit:
        discovery = await visit.portal.discover(visit.session)
        await visit.record_login(None)
        return discovery


def print_raw(options: argparse.Namespace) -> int:
    """Print the portal's own response to a call, or the calls there are."""
    account, call_name, parameters = sort_raw_words(options.config_file, options.words)
    context = CommandContext(options.config_file, options.storage_path, account, options.force)
    if call_name is None:
        portal = find_account(context)
        for name, call in portal.raw_calls.items():
            keys = " ".join(f"{key}=..." if key in call.required else f"[{key}=...]" for key in call.parameters)
            sys.stdout.write(f"{name} {keys}".rstrip() + f"\n    {call.description}\n")
        return 0
    response = asyncio.run(call_raw(context, call_name, parameters))
    sys.stdout.write(format_json(response) + "\n")
    return 0


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
    async with open_visit(context) as visit:
        response = await portal.fetch_raw(visit.session, call, parameters)
        await visit.record_login(None)
        return response


def sort_raw_words(config_file: Path, words: Sequence[str]) -> tuple[str, str | None, dict[str, str]]:
    """Return account, call and parameters; the account may be left out where it is the only one. Raise ConfigError."""
    plain = [word for word in words if "=" not in word]
    parameters = {key: value for key, equals, value in (word.partition("=") for word in words) if equals}
    accounts = {portal.name: portal for portal in load_config(config_file).accounts}
    if not plain or (len(plain) == 1 and plain[0] not in accounts and len(accounts) == 1 and is_call(accounts, plain[0])):
        plain.insert(0, find_only_account(config_file))
    if len(plain) > 2 or "" in parameters:
        raise ConfigError(f"{plain[-1]!r} is not KEY=VALUE")
    return plain[0], plain[1] if len(plain) > 1 else None, parameters


def is_call(accounts: Mapping[str, Portal], word: str) -> bool:
    """Return whether a word is, or is nearly, a call of the only account."""
    return any(find_similar(word, [*accounts, *portal.raw_calls]) in portal.raw_calls for portal in accounts.values())
