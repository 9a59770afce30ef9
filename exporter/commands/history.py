"""The commands of `history`, and their progress on stderr: a bar on a terminal, plain lines elsewhere."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TextIO

from exporter.client.session import Session
from exporter.clock import WallClock
from exporter.commands.context import CommandContext, build_context, open_existing_ledger, open_visit, utc_now
from exporter.config.loader import load_config
from exporter.history.export import ExportSelection, export_series
from exporter.history.remote_write import request_resend
from exporter.ledger.ledger import Ledger
from exporter.portals.base import Portal
from exporter.sync.engine import Engine
from exporter.sync.importer import Importer, Progress

ReportRequests = Callable[[int, int, datetime | None], None]
"""Called with the number of requests made, their total, and the end of a limit that is waited for."""
MAX_LINES = 10
"""Number of plain lines that report the progress."""


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


def import_history(options: argparse.Namespace) -> int:
    """Import an account's past readings."""
    asyncio.run(
        run_import(
            build_context(options),
            ImportOptions(options.first, options.last, again=options.again, wait=options.wait),
        )
    )
    return 0


async def run_import(context: CommandContext, options: ImportOptions) -> None:
    """Import an account's past readings, and report the progress on stderr however it ends.

    Raise what `import_feeds` raises.
    """
    async with open_visit(context, "") as visit:
        oldest = load_config(context.config_file).history.from_
        await import_feeds(visit.portal, visit.ledger, visit.session, options, oldest=oldest)
        await visit.record_login(None)


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
            reread=options.again,
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


def export_history(options: argparse.Namespace) -> int:
    """Write the history series as OpenMetrics."""
    selection = ExportSelection(options.account, options.first, options.last)
    count = write_history(options.config_file, options.storage_path, selection, options.output)
    if options.output:
        sys.stderr.write(f"{options.output}: {count} samples\n")
    return 0


def write_history(config_file: Path, storage_path: Path, selection: ExportSelection, file: Path | None) -> int:
    """Write the history series as OpenMetrics; return the number of samples."""
    aliases = {portal.name: portal.config.aliases for portal in load_config(config_file).accounts}
    with open_existing_ledger(storage_path) as ledger:
        return export_series(ledger, aliases, selection, utc_now(), file, show_progress)


def resend_history(options: argparse.Namespace) -> int:
    """Schedule everything to be sent again to a receiver of remote write."""
    receivers = load_config(options.config_file).history.remote_write
    with open_existing_ledger(options.storage_path) as ledger:
        lines = request_resend(ledger, receivers, options.target, options.first)
    sys.stdout.write("".join(f"{line}\n" for line in lines or ["history.remote_write is empty: no receiver to send to"]))
    return 0


@contextmanager
def show_progress(activity: str, total: int, unit: str, out: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done while the block lasts; yield the function that advances it."""
    out = sys.stderr if out is None else out
    with _show_bar(activity, total, unit, out) if out.isatty() else _print_lines(activity, total, unit, out) as advance:
        yield advance


@contextmanager
def show_requests(activity: str, out: TextIO | None = None) -> Iterator[ReportRequests]:
    """Show the progress of an import while the block lasts; yield the function that shows it."""
    out = sys.stderr if out is None else out
    with _show_request_bar(activity, out) if out.isatty() else nullcontext(_RequestLines(activity, out)) as report:
        yield report


@contextmanager
def _show_request_bar(activity: str, out: TextIO) -> Iterator[ReportRequests]:
    from rich.console import Console  # noqa: PLC0415  # loaded only where a bar is drawn
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("requests"), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=out)) as bar:
        task = bar.add_task(activity, total=None)

        def report(done: int, total: int, waits_until: datetime | None) -> None:
            waits = f", waiting until {waits_until:%H:%M} UTC" if waits_until else ""
            bar.update(task, completed=done, total=total, description=activity + waits)

        yield report


class _RequestLines:
    """Writes a line for about each tenth of an import."""

    def __init__(self, activity: str, out: TextIO) -> None:
        self._activity, self._out = activity, out
        self._printed = -1

    def __call__(self, done: int, total: int, waits_until: datetime | None) -> None:
        if waits_until:
            self._out.write(f"{self._activity}: waiting until {waits_until:%Y-%m-%d %H:%M} UTC\n")
        tenth = done * MAX_LINES // total if total else 0
        if tenth > self._printed:
            self._printed = tenth
            self._out.write(f"{self._activity}: {done} of {total} requests\n")


@contextmanager
def _show_bar(activity: str, total: int, unit: str, out: TextIO) -> Iterator[Callable[[int], None]]:
    from rich.console import Console  # noqa: PLC0415  # loaded only where a bar is drawn
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=out)) as bar:
        task = bar.add_task(activity, total=total)
        yield lambda count: bar.update(task, advance=count)


@contextmanager
def _print_lines(activity: str, total: int, unit: str, out: TextIO) -> Iterator[Callable[[int], None]]:
    done, printed = 0, 0

    def advance(count: int) -> None:
        nonlocal done, printed
        done += count
        if total and done * MAX_LINES // total > printed:
            printed = done * MAX_LINES // total
            out.write(f"{activity}: {done} of {total} {unit}\n")

    out.write(f"{activity}: {total} {unit}\n")
    yield advance
