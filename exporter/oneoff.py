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

from exporter.config import load
from exporter.errors import ConfigError, LedgerError, LoginError
from exporter.history.export import Part, export
from exporter.ledger import FILE, AccountState, Ledger
from exporter.metrics import Page
from exporter.model import Discovery, Finding, Shortfall, Told
from exporter.past import Import
from exporter.poller import SUSPENSION, session_for, shown_as
from exporter.portals.base import Portal, Wanted
from exporter.session import Session


@dataclass(frozen=True, slots=True)
class Place:
    """Where the configuration and the ledger are, and whose account is meant."""

    config_file: Path
    storage_path: Path
    account: str
    force: bool = False


@asynccontextmanager
async def going(place: Place, way_out: str = ", except with --force") -> AsyncIterator[tuple[Portal, Ledger, Session]]:
    """Open an account for one going to its portal.

    Raises ConfigError, LedgerError, and LoginError while the account is suspended (unless forced).
    """
    portal = find(place)
    ledger = await asyncio.to_thread(Ledger, place.storage_path)
    try:
        state = await asyncio.to_thread(open_quietly, ledger, portal)
        if state.suspended_until and utc_now() < state.suspended_until and not place.force:
            raise LoginError(
                f"the portal has refused the login of {portal.name} ({state.message}); it is not asked before"
                f" {state.suspended_until:%Y-%m-%d %H:%M} UTC or a change of the configuration{way_out}"
            )
        async with session_for(portal, ledger, utc_now) as session:
            yield portal, ledger, session
    finally:
        await asyncio.to_thread(ledger.close)


async def visit(place: Place) -> tuple[str, str]:
    """Visit once; gives the page that the account would have, and the reason of what failed in part."""
    async with going(place) as (portal, ledger, session):
        told = [item async for item in portal.fetch(session, Wanted(ledger.known(portal.name)))]
        short = next((item.error for item in told if isinstance(item, Shortfall)), None)
        page = await asyncio.to_thread(_page_of, portal, ledger, told)
        return page, f"{short.reason}: {short}" if short else ""


async def discover(place: Place) -> Discovery:
    """Look at what an account holds."""
    async with going(place) as (portal, _, session):
        return await portal.discover(session)


async def bring_past(place: Place, first: date | None, last: date | None, *, quiet: bool = False) -> None:
    """Bring home an account's past, and say on standard error how much of it is there, however it ends, unless `quiet`.

    Raises what `Import.run` does; a login that is refused suspends the account, as a visit would.
    """
    async with going(place, "") as (portal, ledger, session):
        run = Import(portal, ledger, session, quiet=quiet)
        try:
            await run.run(first, last)
        except LoginError as error:
            await asyncio.to_thread(ledger.suspend, portal.name, str(error), until=session.now + SUSPENSION)
            raise
        finally:
            if not quiet:
                sys.stderr.write(f"{portal.name}: {run.brought}\n")


def export_history(place: Place, part: Part, file: Path | None) -> int:
    """Write the true-time series as OpenMetrics; gives how many samples there are."""
    aliases = {portal.name: portal.aliases for portal in load(place.config_file).accounts}
    with existing(place.storage_path) as ledger:
        return export(ledger, aliases, part, utc_now(), file)


def existing(folder: Path) -> Ledger:
    """Open a ledger that is there; raises LedgerError."""
    if not (folder / FILE).exists():
        raise LedgerError(f"{folder} holds no ledger; --storage.path names the folder of the one that is meant")
    return Ledger(folder)


async def raw(place: Place, call: str, keys: Mapping[str, str]) -> Any:
    """Give the portal's own answer to one of its named calls; raises ConfigError for a call or key it does not have."""
    portal = find(place)
    known = portal.calls.get(call)
    if known is None:
        raise ConfigError(f"{portal.portal} has no call {call!r}; it has {', '.join(portal.calls)}")
    if strange := sorted(set(keys) - set(known.keys)):
        raise ConfigError(f"{call} takes no {strange[0]!r}; it takes {', '.join(known.keys) or 'nothing'}")
    if missing := sorted(known.required - set(keys)):
        raise ConfigError(f"{call} needs {missing[0]}=... ({known.keys[missing[0]]})")
    async with going(place) as (_, _, session):
        return await portal.raw(session, call, keys)


def find(place: Place) -> Portal:
    """Find an account in the configuration; raises ConfigError that names those there are."""
    accounts = {portal.name: portal for portal in load(place.config_file).accounts}
    if place.account not in accounts:
        raise ConfigError(f"{place.config_file} has no account {place.account!r}; it has {', '.join(accounts) or 'none'}")
    return accounts[place.account]


def open_quietly(ledger: Ledger, portal: Portal) -> AccountState:
    """Open an account in the ledger without visiting it."""
    return ledger.open_account(portal.name, portal=portal.portal, zone=portal.zone.key, login=portal.login_digest())


def say_discovery(found: Discovery) -> str:
    """Write a discovery as an indented tree, its notes, and the lines of configuration."""
    lines = [line for finding in found.tree for line in _branch(finding, "")]
    notes = [f"note: {note}" for note in found.notes]
    config = ["", "# config.yaml", *found.config.rstrip().splitlines()] if found.config else []
    return "\n".join(map(plain, [*lines, *notes, *config]))


def discovery_json(found: Discovery) -> str:
    """Write a discovery as JSON."""

    def branch(finding: Finding) -> dict[str, Any]:
        return {"text": finding.text, "facts": dict(finding.facts), "under": [branch(below) for below in finding.under]}

    return say_json({"tree": [branch(finding) for finding in found.tree], "notes": list(found.notes), "config": found.config})


def say_json(told: Any) -> str:
    """Write JSON for a person: letters as they are, what a terminal might obey as JSON's escapes."""
    said = json.dumps(told, ensure_ascii=False, indent=2, default=str)
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in said)


def plain(line: str) -> str:
    """Take out of a line what a terminal might obey: portals write what they like."""
    return "".join(letter if letter.isprintable() else "�" for letter in line)


def utc_now() -> datetime:
    """Give the present instant."""
    return datetime.now(UTC)


def _branch(finding: Finding, indent: str) -> Sequence[str]:
    facts = ", ".join(f"{key}: {value}" for key, value in finding.facts.items() if value not in (None, ""))
    line = f"{indent}{finding.text}" + (f"  ({facts})" if facts else "")
    return [line, *(below for under in finding.under for below in _branch(under, indent + "  "))]


def _page_of(portal: Portal, ledger: Ledger, told: Sequence[Told], now: Callable[[], datetime] = utc_now) -> str:
    page = Page(ledger, now, version("utility-exporter"))
    part = page.add(shown_as(portal), portal.every)
    at = now()
    health = AccountState(last_visit=at, last_success=at, up=True)
    with ledger.rehearsal(portal.name, told, at=at, personal=portal.personal_data) as look:
        page.refresh_from(look, portal.name)
    part.health.state = health
    return page.render().decode()
