"""The progress of a long command on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

MAX_LINES = 10
"""Number of plain lines that report the progress."""


@contextmanager
def show_progress(activity: str, total: int, unit: str, out: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done while the block lasts; yield the function that advances it."""
    out = sys.stderr if out is None else out
    with _show_bar(activity, total, unit, out) if out.isatty() else _print_lines(activity, total, unit, out) as advance:
        yield advance


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
