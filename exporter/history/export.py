"""The export of history series as OpenMetrics text, for promtool and VictoriaMetrics."""

import errno
import fcntl
import glob
import os
import select
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, cast
from zoneinfo import ZoneInfo

from exporter.errors import ExporterError, LedgerError
from exporter.history.series import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, Aliases, HistorySeries, LabelPairs, list_series
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger, Snapshot

ShowProgress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]
"""Called with what is done, how many there are, and their unit; the block it opens is given the function that advances it."""
MAX_STALL_SECONDS = 60.0
"""How long an export waits for whoever reads its pipe."""
_PART_SUFFIX = ".part"
_MAX_PREFIX_LETTERS = 60
"""Letters of a file's name that its part's name begins with: more might be longer than a name may be."""
_NOON_MS = 12 * 3_600_000
"""Lies between the ends of earlier days, including gas days at 06:00, and the end of the first selected day."""


@dataclass(frozen=True, slots=True)
class ExportSelection:
    """What to export: one account or all, from a first to a last day, local to each account; None is unbounded."""

    account: str | None = None
    first_day: date | None = None
    last_day: date | None = None


def export_series(
    ledger: Ledger,
    aliases: Aliases,
    selection: ExportSelection,
    now: datetime,
    file: Path | None,
    show_progress: ShowProgress = lambda *_: nullcontext(lambda _: None),
) -> int:
    """Write the series atomically to a file, or to standard output; return the number of samples.

    Raise LedgerError for an account that is not in the ledger, and ExporterError for a file that cannot be written.
    """
    if file and Path(os.path.realpath(file)) in _list_ledger_files(ledger):
        raise ExporterError(f"{file} is the ledger itself")
    with ledger.snapshot() as snapshot, _open_output(file) as out:
        time_ranges = {
            series: _find_time_range(snapshot, series, selection, to_ms(now))
            for series in _select_series(snapshot, aliases, selection)
        }
        total = sum(
            snapshot.count_samples(series.series_id, series.timestamp_rule, *time_range)
            for series, time_range in time_ranges.items()
        )
        with show_progress("exporting", total, "samples") as advance:
            for text in format_openmetrics(snapshot, time_ranges, advance):
                out.write(text.encode())
    return total


def format_openmetrics(
    snapshot: Snapshot, time_ranges: dict[HistorySeries, tuple[int, int]], advance: Callable[[int], None]
) -> Iterator[str]:
    """Yield the text of series, each with its range of timestamps, by family, in chunks."""
    for family, series in groupby(time_ranges, key=lambda single: single.family):
        yield f"# TYPE {family.name} gauge\n# HELP {family.name} {family.help}\n"
        for single in series:
            name = _format_series(single.labels)
            for rows in snapshot.iterate_samples(single.series_id, single.timestamp_rule, *time_ranges[single]):
                yield "".join([f"{name} {value} {at // 1000}.{at % 1000:03}\n" for at, value in rows])
                advance(len(rows))
    yield "# EOF\n"


def _select_series(snapshot: Snapshot, aliases: Aliases, selection: ExportSelection) -> list[HistorySeries]:
    accounts = snapshot.select_zones()
    if selection.account is not None and selection.account not in accounts:
        raise LedgerError(f"the ledger has no account {selection.account!r}; it has {', '.join(accounts) or 'none'}")
    return [series for series in list_series(snapshot, aliases) if selection.account in (None, series.account)]


def _find_time_range(snapshot: Snapshot, series: HistorySeries, selection: ExportSelection, now: int) -> tuple[int, int]:
    """Return the selected timestamps: an interval belongs to the day it starts, an index or a peak to that of its instant."""
    zone = ZoneInfo(snapshot.select_zones()[series.account])
    shift = (
        series.timestamp_rule.shift if series.timestamp_rule.shift is not None else _NOON_MS if series.form == "interval" else 0
    )
    first = MIN_TIMESTAMP_MS if selection.first_day is None else _midnight_ms(selection.first_day, zone) + shift
    last = (
        MAX_TIMESTAMP_MS
        if selection.last_day is None or selection.last_day == date.max
        else _midnight_ms(selection.last_day + timedelta(days=1), zone) + shift - 1
    )
    return max(first, MIN_TIMESTAMP_MS), min(last, now)


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return to_ms(datetime.combine(day, time(), zone))


def _format_series(labels: LabelPairs) -> str:
    (_, name), *others = labels
    return name + "{" + ",".join(f'{label}="{_escape_label_value(value)}"' for label, value in others) + "}"


def _escape_label_value(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _list_ledger_files(ledger: Ledger) -> set[Path]:
    path = os.path.realpath(ledger.database.path)
    return {Path(path + end) for end in ("", "-wal", "-shm")}


@contextmanager
def _open_output(file: Path | None) -> Iterator[BinaryIO]:
    """Open the output; raise ExporterError if it cannot be written."""
    try:
        with _open_file_or_stream(file) as out:
            yield out
    except OSError as error:
        raise ExporterError(f"{file or 'standard output'} cannot be written: {error.strerror}") from None


@contextmanager
def _open_file_or_stream(file: Path | None) -> Iterator[BinaryIO]:
    """Open a regular file's part, or what is no regular file (a device, a FIFO, standard output by its name) as it is."""
    try:
        found = os.stat(file) if file else None
    except FileNotFoundError:
        found = None
    if file is None or (found and _is_standard_output(found)):
        with _open_standard_output() as out:
            yield out
    elif found and not stat.S_ISREG(found.st_mode):
        with file.open("wb") as out:
            yield _guard_pipe(out)
    else:
        with _open_part(Path(os.path.realpath(file))) as out:
            yield out


class _GuardedPipe:
    """A pipe whose reader may not stand still: as long as an export waits, the ledger's log cannot be folded into its file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        """Write everything; raise OSError once nothing was read for `MAX_STALL_SECONDS`."""
        left = memoryview(data)
        while left:
            if not select.select([], [self._descriptor], [], MAX_STALL_SECONDS)[1]:
                raise OSError(errno.ETIMEDOUT, f"reader stalled for {MAX_STALL_SECONDS:g} s")
            left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
        return len(data)


def _guard_pipe(out: BinaryIO) -> BinaryIO:
    """Return an output that gives up a reader that stands still, where it is a pipe."""
    try:
        descriptor = out.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except (OSError, ValueError):  # closed, or no file
        return out
    out.flush()
    return cast(BinaryIO, _GuardedPipe(descriptor)) if is_pipe else out


def _is_standard_output(found: os.stat_result) -> bool:
    try:
        return os.path.samestat(found, os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # closed, or no file
        return False


@contextmanager
def _open_part(file: Path) -> Iterator[BinaryIO]:
    """Write aside, readable by its owner only, and put in place when all is written and on the disk.

    A part is locked as long as somebody writes it, so that what a killed export left behind is known, and removed.
    """
    start = f".{file.name[:_MAX_PREFIX_LETTERS]}."
    _remove_abandoned(file.parent, start)
    number, name = _create_locked_part(file.parent, start)
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


def _create_locked_part(folder: Path, start: str) -> tuple[int, str]:
    while True:
        number, name = tempfile.mkstemp(prefix=start, suffix=_PART_SUFFIX, dir=folder)
        with suppress(OSError):  # a file system without locks: nothing is removed there
            fcntl.flock(number, fcntl.LOCK_EX)
        if os.path.exists(name):  # before it was locked, another export may have taken it for abandoned
            return number, name
        os.close(number)


def _remove_abandoned(folder: Path, start: str) -> None:
    for name in glob.glob(f"{glob.escape(start)}*{_PART_SUFFIX}", root_dir=folder, include_hidden=True):
        # What cannot be opened or locked is another's, or is just being written.
        with suppress(OSError), (folder / name).open("rb") as part:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / name).unlink()


@contextmanager
def _open_standard_output() -> Iterator[BinaryIO]:
    try:
        yield _guard_pipe(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Otherwise Python would try to write the rest of the buffer when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
