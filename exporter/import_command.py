"""The command `history import`: the importer of `exporter/sync` run in the foreground, with a bar and a report of its end."""

import sys
from dataclasses import dataclass
from datetime import date, datetime

from exporter.client.session import Session
from exporter.clock import WallClock
from exporter.ledger.ledger import Ledger
from exporter.portals.base import Portal
from exporter.progress import show_requests
from exporter.sync.engine import Engine
from exporter.sync.importer import Importer, Progress


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Which days an import asks for."""

    first: date | None = None
    """None: as far back as the portal goes."""
    last: date | None = None
    again: bool = False
    """Also days that are complete and settled."""
    wait: bool = False
    """Wait until the portal's limits end instead of pausing."""


async def import_feeds(portal: Portal, ledger: Ledger, session: Session, options: ImportOptions, *, oldest: date | None) -> None:
    """Import the days of an account's feeds, and report the progress on stderr however it ends.

    `oldest` is the day before which nothing is asked for, unless the options have a first day. Raise LoginError,
    UnreachableError, LedgerError, and the first failure of a feed once the others are read; what was read is stored.
    """
    store = ledger.get_feed_store(portal.name, keep_personal=portal.config.personal_data)
    engine = Engine[Session](portal, store, every=portal.config.every, pace=portal.pace, oldest=None if options.first else oldest)
    with show_requests(f"importing {portal.name}") as show:
        importer = Importer[Session](
            engine,
            now=lambda: session.now,
            sleep=WallClock().sleep,
            first=options.first,
            last=options.last,
            again=options.again,
            wait=options.wait,
            report=lambda progress: show(progress.done, progress.total, progress.waits_until),
        )
        try:
            await importer.run(session)
        finally:
            progress = importer.progress
            _print_end(portal.name, progress, session.now)
    if progress.failures and not progress.paused:
        raise next(iter(progress.failures.values()))


def _print_end(account: str, progress: Progress, now: datetime) -> None:
    notes = dict.fromkeys([*progress.notes, *map(str, progress.refused.values())])
    lines = [*(f"note: {note}" for note in notes), describe_import(progress, now)]
    sys.stderr.write("".join(f"{account}: {line}\n" for line in lines))


def describe_import(progress: Progress, now: datetime) -> str:
    """Return how an import ended."""
    readings = f"{progress.new} readings new, {progress.corrected} corrected"
    if paused := progress.paused:
        when = f" at {now + paused.retry_after:%Y-%m-%d %H:%M} UTC" if paused.retry_after else ""
        return (
            f"paused: {progress} requests, continues by itself{when} (with `serve`, or this command again); {readings}; {paused}"
        )
    return f"{progress} requests, {readings}"
