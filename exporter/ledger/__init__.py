"""What the portals told us: readings, corrections and the state of every account, in one SQLite file."""

import asyncio
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from exporter.errors import LedgerError
from exporter.ledger import bulk, delivery, thinning, view
from exporter.ledger.bulk import SLICE, Rows, Stamping
from exporter.ledger.delivery import Deliveries, Due, DueReading, Progress, Round, Span
from exporter.ledger.delivery import Wanted as WantedReadings
from exporter.ledger.directory import Directories, Directory
from exporter.ledger.instants import from_ms, to_ms
from exporter.ledger.record import Recorded, record
from exporter.ledger.state import (
    AccountState,
    LedgerMemory,
    account_id,
    imported,
    load_state,
    mark_imported,
    name_login,
    open_account,
    save_health,
    suspend,
    suspension,
)
from exporter.ledger.store import FILE, Store
from exporter.ledger.view import Kept, PointRow, SeriesRow
from exporter.model import Fact, KnownInterval, Reading, Remember, Told

__all__ = [
    "FILE",
    "SLICE",
    "AccountState",
    "Deliveries",
    "Due",
    "DueReading",
    "Kept",
    "Ledger",
    "LedgerKnown",
    "LedgerMemory",
    "Look",
    "PointRow",
    "Progress",
    "Recorded",
    "Round",
    "Rows",
    "SeriesRow",
    "Span",
    "Stamping",
    "WantedReadings",
    "from_ms",
    "to_ms",
]


class Ledger:
    """The readings and states of all accounts, under a storage folder.

    Methods block on the disk: call them off the event loop. They may be called from any thread, and raise LedgerError.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, serving: bool = False) -> None:
        """Open the ledger; `read_only` is for a second process beside the one that has opened and checked it.

        `serving` is for the one that shows what is kept even where the disk is full.
        """
        self.folder = folder
        self.store = Store(folder, read_only=read_only, serving=serving)
        self._held: dict[str, dict[str, Any]] = {}
        self._directories = Directories(self.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def claim(self) -> None:
        """Take the folder for one `serve`."""
        self.store.claim()

    def open_account(self, name: str, *, portal: str, zone: str, login: str) -> AccountState:
        """Find or begin an account; a login other than before lifts a suspension and empties the account's memory."""
        self._held.pop(name, None)
        state = open_account(self.store, name, portal, zone, login)
        if self.store.cramped:  # due at once: a visit that cannot be kept asks nobody, and the first that can mends it
            why = self._no_room()
            return replace(state, up=False, reason=why.reason, message=str(why), next_visit=None)
        return state

    def _no_room(self) -> LedgerError:
        return LedgerError(f"{self.store.path}: {self.store.cramped}")

    def state(self, account: str) -> AccountState:
        """Give an account's state."""
        with self.store.read() as db:
            return load_state(db, account)

    def begin_visit(self, account: str, state: AccountState, *, login: str) -> None:
        """Keep that a visit has begun, and by which login: only a change of that one is a change."""
        with self.store.write() as db:
            if self.store.cramped:  # little may fit still, but not what a visit brings
                raise self._no_room()
            name_login(db, account, login)
            save_health(db, account, state)

    def save_health(self, account: str, state: AccountState) -> None:
        """Keep an account's health."""
        with self.store.write() as db:
            save_health(db, account, state)

    def suspension(self, account: str, *, login: str) -> tuple[datetime, str] | None:
        """Give until when an account is suspended and why, where it was this login that was refused."""
        return suspension(self.store, account, login)

    def suspend(self, account: str, why: str, *, until: datetime) -> None:
        """Keep that the portal has refused an account's login, besides what a running `serve` keeps of its health."""
        with self.store.write() as db:
            suspend(db, account, why, until)

    def record_visit(
        self, account: str, told: Sequence[Told], health: AccountState, *, at: datetime, personal: bool = False
    ) -> tuple[Recorded, AccountState]:
        """Keep all that a visit told and the health it left, in one transaction; gives the state as it is then."""
        with self.store.write() as db:
            done = record(db, self._directory(db, account, personal=personal), told, at=at, personal=personal, past=False)
            save_health(db, account, health)
            state = load_state(db, account)
        return done, state

    @contextmanager
    def rehearsal(self, account: str, told: Sequence[Told], *, at: datetime, personal: bool) -> Iterator["Look"]:
        """Look at the ledger as it would be with what a visit told; nothing of it is kept."""
        with suppress(_Over), self.store.write() as db:
            record(db, self._directory(db, account, personal=personal), told, at=at, personal=personal, past=False)
            yield Look(db)
            raise _Over

    def record_piece(self, account: str, piece: str | None, told: Sequence[Reading | Remember], *, at: datetime) -> Recorded:
        """Keep a piece of the past, and that it was brought home (unless it has no name), in one transaction."""
        with self.store.write() as db:
            done = record(db, self._directory(db, account, personal=False), told, at=at, personal=False, past=True)
            if piece is not None:
                mark_imported(db, account, piece)
        return done

    def present(self, now: datetime) -> dict[int, datetime]:
        """Return account number -> the instant that the age of its readings counts from; see `thinning.present`."""
        with self.store.read() as db:
            return thinning.present(db, now)

    def thin(self, present: Mapping[int, datetime], days: int, after: int) -> int | None:
        """Thin old readings of a few series with numbers above `after`; gives how far it came, None at the end."""
        with self.store.write() as db:
            return thinning.thin(db, present, days, after)

    def clear_spending(self, now: datetime) -> None:
        """Forget calls that are too old to count against any budget."""
        with self.store.write() as db:
            thinning.clear_spending(db, now)

    def shorten(self) -> bool:
        """Give some of the file's free room back; says whether there is more of it to do."""
        with self.store.write() as db:
            return thinning.shorten(db)

    def _directory(self, db: sqlite3.Connection, account: str, *, personal: bool) -> Directory:
        return self._directories.of(db, account_id(db, account), personal=personal)

    def imported(self, account: str) -> set[str]:
        """Name the pieces of the past that were brought home."""
        return imported(self.store, account)

    def memory(self, account: str) -> LedgerMemory:
        """Give the account's memory."""
        return LedgerMemory(self.store, account, self._held.setdefault(account, {}))

    def deliveries(self) -> Deliveries:
        """Give the books of what was sent to whom."""
        return Deliveries(self.store)

    def known(self, account: str) -> "LedgerKnown":
        """Give the account's view on what is kept."""
        return LedgerKnown(self.store, account)

    @contextmanager
    def look(self) -> Iterator["Look"]:
        """Look at everything in one consistent view."""
        with self.store.read() as db:
            yield Look(db)


class _Over(Exception):  # noqa: N818  # no error: it ends a rehearsal
    """Rolls a rehearsal back."""


class Look:
    """One consistent view of the ledger, open while its `with` block lasts; see the functions of `view`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def state(self, account: str) -> AccountState:
        """Give an account's state."""
        return load_state(self._db, account)

    def points(self, account: str, only: Collection[str] | None = None) -> Iterator[PointRow]:
        """Give the usage points that the account holds now, or those of them named in `only`."""
        return view.points(self._db, account, only)

    def facts(self, account: str, only: Collection[str] | None = None) -> Iterator[tuple[str, Fact, float]]:
        """Give usage point, fact and value of all that is stated now."""
        return view.facts(self._db, account, only)

    def series(self, account: str | None = None, *, shown: bool = False) -> list[SeriesRow]:
        """Give the series of an account, or of all."""
        return view.series(self._db, account, shown=shown)

    def shown_series(
        self, account: str, only: Collection[str] | None = None
    ) -> Iterator[tuple[SeriesRow, tuple[int, float] | None]]:
        """Give what the account holds now, usage point by usage point; an index with its newest milliseconds and value."""
        return view.shown_series(self._db, account, only)

    def newest(self, line: int, count: int = 1) -> list[Kept]:
        """Give a series' newest readings, newest first."""
        return view.newest(self._db, line, count)

    def readings(self, line: int, start: datetime, end: datetime) -> Iterator[Kept]:
        """Give a series' readings with `at` in [start, end), in time order."""
        return view.readings(self._db, line, start, end)

    def first(self, line: int) -> Kept | None:
        """Give a series' oldest reading."""
        return view.first(self._db, line)

    def count(self, line: int, stamping: Stamping, first: int, last: int) -> int:
        """Count a series' samples with stamps in [first, last] milliseconds."""
        return bulk.count(self._db, line, stamping, first, last)

    def slices(self, line: int, stamping: Stamping, first: int, last: int) -> Iterator[Rows]:
        """Give a series' samples with stamps in [first, last] milliseconds, a slice at a time."""
        return bulk.slices(self._db, line, stamping, first, last)

    def zones(self) -> dict[str, str]:
        """Give the accounts with the names of their time zones."""
        return bulk.zones(self._db)

    def owed(self, key: str) -> list[Span]:
        """Give where the next round of a target has to look."""
        return delivery.owed(self._db, key)

    def due(self, wanted: WantedReadings, lines: Iterable[int], most: int) -> list[Due]:
        """Give what a target is owed of these series, series by series; `most` at most."""
        return delivery.due(self._db, wanted, lines, most)

    def due_readings(self, wanted: WantedReadings, lines: Iterable[int]) -> Iterator[DueReading]:
        """Give what a target is owed of these series, with `at` and visit."""
        return delivery.due_readings(self._db, wanted, lines)

    def count_due(self, wanted: WantedReadings, lines: Iterable[int], done: int) -> int:
        """Count what it is owed and was not sent yet."""
        return delivery.count_due(self._db, wanted, lines, done)

    def corrected(self, after: int, upto: int | None = None) -> dict[int, set[int]]:
        """Give series -> `at` of what was known by a visit and replaced since."""
        return delivery.corrected(self._db, after, upto)

    def shape(self) -> tuple[int, ...]:
        """Give numbers that change whenever the list of series does."""
        return bulk.shape(self._db)


class LedgerKnown:
    """What a portal may ask the ledger during a visit, off the event loop."""

    def __init__(self, store: Store, account: str) -> None:
        self._store, self._account = store, account

    async def intervals(
        self, usage_point: str, start: datetime, end: datetime, resolution: str | None = None
    ) -> list[KnownInterval]:
        """Give the kept intervals that start in [start, end), in order of their start."""

        def look() -> list[KnownInterval]:
            with self._store.read() as db:
                return view.known_intervals(db, self._account, usage_point, start, end, resolution)

        return await asyncio.to_thread(look)

    async def span(self, usage_point: str, resolution: str) -> tuple[datetime, datetime] | None:
        """Give start and end of the first and last kept interval of a resolution."""

        def look() -> tuple[datetime, datetime] | None:
            with self._store.read() as db:
                return view.known_span(db, self._account, usage_point, resolution)

        return await asyncio.to_thread(look)
