"""How far a long command is: a bar on a terminal, plain lines anywhere else; on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

MAX_LINES = 10
"""How many plain lines say how far it is."""


@contextmanager
def show_progress(activity: str, total: int, unit: str, out: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done while the block lasts; gives the function that is told of more."""
    out = sys.stderr if out is None else out
    with _show_bar(activity, total, unit, out) if out.isatty() else _print_lines(activity, total, unit, out) as advance:
        yield advance


@contextmanager
def _show_bar(activity: str, total: int, unit: str, out: TextIO) -> Iterator[Callable[[int], None]]:
    from rich.console import Console  # noqa: PLC0415  # what draws bars is loaded only where one is drawn
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=out)) as bar:
        task = bar.add_task(activity, total=total)
        yield lambda more: bar.update(task, advance=more)


@contextmanager
def _print_lines(activity: str, total: int, unit: str, out: TextIO) -> Iterator[Callable[[int], None]]:
    done, said = 0, 0

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        if total and done * MAX_LINES // total > said:
            said = done * MAX_LINES // total
            out.write(f"{activity}: {done} of {total} {unit}\n")

    out.write(f"{activity}: {total} {unit}\n")
    yield advance
