"""What a command works on: the configuration, and one account of it, opened for a visit."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from exporter.account_status import LOGIN_SUSPENSION
from exporter.client.login_attempts import allow_login
from exporter.client.session import Session
from exporter.commands.printing import strip_control
from exporter.config.loader import load_config
from exporter.errors import ConfigError, LedgerError, LoginError, PortalError, suggest
from exporter.ledger.database import LEDGER_FILE
from exporter.ledger.ledger import Ledger
from exporter.portals.base import Portal
from exporter.visit import open_account, open_session


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The configuration, the ledger and the account that a command works on."""

    config_file: Path
    storage_path: Path
    account: str
    force: bool = False


def build_context(options: argparse.Namespace) -> CommandContext:
    """Return the context of a command on one account from its flags."""
    account = options.account or find_only_account(options.config_file)
    return CommandContext(options.config_file, options.storage_path, account, getattr(options, "force", False))


def find_only_account(config_file: Path) -> str:
    """Return the name of the only account; raise ConfigError that lists them where there are several."""
    names = [portal.name for portal in load_config(config_file).accounts]
    if len(names) > 1:
        raise ConfigError(f"{config_file} has {len(names)} accounts; name one: {', '.join(names)}")
    return names[0]


def find_account(context: CommandContext) -> Portal:
    """Return an account of the configuration; raise ConfigError that lists the accounts."""
    accounts = {portal.name: portal for portal in load_config(context.config_file).accounts}
    if context.account not in accounts:
        known = f"{suggest(context.account, accounts)}; it has {', '.join(accounts) or 'none'}"
        raise ConfigError(f"{context.config_file} has no account {context.account!r}{known}")
    return accounts[context.account]


@dataclass(frozen=True, slots=True)
class AccountVisit:
    """One visit of a command to an account."""

    portal: Portal
    ledger: Ledger
    session: Session
    suspended_until: datetime | None
    """As it was before the visit."""

    async def record_login(self, error: PortalError | None) -> None:
        """Store how the visit ended: a refused login suspends the account, also for `serve`; without an error, that is lifted."""
        name = self.portal.name
        if isinstance(error, LoginError):
            await asyncio.to_thread(self.ledger.suspend, name, str(error), until=utc_now() + LOGIN_SUSPENSION)
        elif error is None and self.suspended_until:
            await asyncio.to_thread(self.ledger.lift_suspension, name)


@asynccontextmanager
async def open_visit(context: CommandContext, hint: str = ", except with --force") -> AsyncIterator[AccountVisit]:
    """Open an account for one visit to its portal; where that raises no PortalError, the caller records how it ended.

    Raise ConfigError, LedgerError, and LoginError while the login is suspended (unless forced).
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
            visit = AccountVisit(portal, ledger, session, state.suspended_until)
            try:
                yield visit
            except PortalError as error:
                await visit.record_login(error)
                raise
    finally:
        await asyncio.to_thread(ledger.close)


def open_existing_ledger(folder: Path) -> Ledger:
    """Return an existing ledger; raise LedgerError."""
    if not (folder / LEDGER_FILE).exists():
        raise LedgerError(f"{folder} holds no ledger; set --storage.path to its folder")
    return Ledger(folder)


def report_failure(message: str) -> int:
    """Write a message to stderr; return the exit code 1."""
    sys.stderr.write("\n".join(map(strip_control, message.rstrip().split("\n"))) + "\n")
    return 1


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)
