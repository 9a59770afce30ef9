"""The true-time series as OpenMetrics text: for promtool, for VictoriaMetrics, for keeps."""

import fcntl
import glob
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

from exporter.errors import ExporterError, LedgerError
from exporter.history.encode import FIRST, LAST
from exporter.history.progress import progress
from exporter.history.series import Aliases, Labels, TrueSeries, catalogue
from exporter.ledger import Ledger, Look, to_ms

_END = ".part"
_START = 60
"""Letters of a file's name that its part's name begins with: more might be longer than a name may be."""
_NOON = 12 * 3_600_000
"""Between the ends of the days before, gas days at 06:00 among them, and the end of the first day that is meant."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is exported: an account or all, from a first to a last day, local to each account; None is without bound."""

    account: str | None = None
    first: date | None = None
    last: date | None = None


def export(ledger: Ledger, aliases: Aliases, part: Part, now: datetime, file: Path | None) -> int:
    """Write the series to a file, whole or not at all, or to standard output; gives how many samples there are.

    Raises LedgerError for an account of which the ledger knows nothing, and ExporterError for a file that cannot be written.
    """
    if file and Path(os.path.realpath(file)) in _files_of(ledger):
        raise ExporterError(f"{file} is the ledger itself")
    with ledger.look() as look, _opened(file) as out:
        spans = {series: _span(look, series, part, to_ms(now)) for series in _chosen(look, aliases, part)}
        total = sum(look.count(series.line, series.stamping, *span) for series, span in spans.items())
        with progress("exporting", total, "samples") as advance:
            for text in openmetrics(look, spans, advance):
                out.write(text.encode())
    return total


def openmetrics(look: Look, spans: dict[TrueSeries, tuple[int, int]], advance: Callable[[int], None]) -> Iterator[str]:
    """Write series, each with its span of stamps, family after family, a slice at a time."""
    for family, series in groupby(spans, key=lambda one: one.family):
        yield f"# TYPE {family.name} gauge\n# HELP {family.name} {family.help}\n"
        for one in series:
            named = _named(one.labels)
            for rows in look.slices(one.line, one.stamping, *spans[one]):
                yield "".join([f"{named} {value} {at // 1000}.{at % 1000:03}\n" for at, value in rows])
                advance(len(rows))
    yield "# EOF\n"


def _chosen(look: Look, aliases: Aliases, part: Part) -> list[TrueSeries]:
    accounts = look.zones()
    if part.account is not None and part.account not in accounts:
        raise LedgerError(f"the ledger has no account {part.account!r}; it has {', '.join(accounts) or 'none'}")
    return [series for series in catalogue(look, aliases) if part.account in (None, series.account)]


def _span(look: Look, series: TrueSeries, part: Part, now: int) -> tuple[int, int]:
    """Give the stamps that are meant: an interval belongs to the day it starts, an index or a peak to that of its instant."""
    zone = ZoneInfo(look.zones()[series.account])
    moved = series.stamping.shift if series.stamping.shift is not None else _NOON if series.form == "interval" else 0
    first = FIRST if part.first is None else _midnight(part.first, zone) + moved
    last = LAST if part.last is None or part.last == date.max else _midnight(part.last + timedelta(days=1), zone) + moved - 1
    return max(first, FIRST), min(last, now)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return to_ms(datetime.combine(day, time(), zone))


def _named(labels: Labels) -> str:
    (_, name), *others = labels
    return name + "{" + ",".join(f'{label}="{_escaped(value)}"' for label, value in others) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _files_of(ledger: Ledger) -> set[Path]:
    path = os.path.realpath(ledger.store.path)
    return {Path(path + end) for end in ("", "-wal", "-shm")}


@contextmanager
def _opened(file: Path | None) -> Iterator[BinaryIO]:
    """Open where to write; raises ExporterError when that cannot be done any more."""
    try:
        with _output(file) as out:
            yield out
    except OSError as error:
        raise ExporterError(f"{file or 'standard output'} cannot be written: {error.strerror}") from None


@contextmanager
def _output(file: Path | None) -> Iterator[BinaryIO]:
    """Open a regular file's part, or what is no regular file (a device, a FIFO, standard output by its name) as it is."""
    try:
        found = os.stat(file) if file else None
    except FileNotFoundError:
        found = None
    if file is None or (found and _is_standard_output(found)):
        with _standard_output() as out:
            yield out
    elif found and not stat.S_ISREG(found.st_mode):
        with file.open("wb") as out:
            yield out
    else:
        with _part(Path(os.path.realpath(file))) as out:
            yield out


def _is_standard_output(found: os.stat_result) -> bool:
    try:
        return os.path.samestat(found, os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # closed, or no file
        return False


@contextmanager
def _part(file: Path) -> Iterator[BinaryIO]:
    """Write aside, readable by its owner only, and put in place when all is written and on the disk.

    A part is locked as long as somebody writes it, so that what a killed export left behind is known, and removed.
    """
    start = f".{file.name[:_START]}."
    _remove_abandoned(file.parent, start)
    number, name = _locked(file.parent, start)
    try:
        with os.fdopen(number, "wb") as out:
            yield out
            out.flush()
            os.fsync(number)
            Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _locked(folder: Path, start: str) -> tuple[int, str]:
    while True:
        number, name = tempfile.mkstemp(prefix=start, suffix=_END, dir=folder)
        with suppress(OSError):  # a file system without locks: nothing is removed there
            fcntl.flock(number, fcntl.LOCK_EX)
        if os.path.exists(name):  # before it was locked, another export may have taken it for abandoned
            return number, name
        os.close(number)


def _remove_abandoned(folder: Path, start: str) -> None:
    for name in glob.glob(f"{glob.escape(start)}*{_END}", root_dir=folder, include_hidden=True):
        # What cannot be opened or locked is another's, or is just being written.
        with suppress(OSError), (folder / name).open("rb") as part:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / name).unlink()


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # What is left in the buffer would be tried again at the end of the program.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
