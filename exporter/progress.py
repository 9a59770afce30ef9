"""The progress of a long command on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import TextIO

ReportRequests = Callable[[int, int, datetime | None], None]
"""Called with the number of requests made, their total, and the end of a limit that is waited for."""

MAX_LINES = 10
"""Number of plain lines that report the progress."""


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
