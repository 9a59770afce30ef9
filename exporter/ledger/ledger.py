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
from exporter.ledger import delivery_state, queries, retention
from exporter.ledger.account_state import (
    AccountState,
    LedgerAccountStore,
    load_state,
    mark_chunk_imported,
    open_account,
    save_health,
    save_login,
    select_account_id,
    select_imported_chunks,
    select_suspension,
    suspend,
)
from exporter.ledger.catalog import AccountCatalog, CatalogCache
from exporter.ledger.database import LEDGER_FILE, Database, from_ms, to_ms
from exporter.ledger.delivery_state import (
    DeliveryProgress,
    DeliveryRound,
    DeliveryState,
    PendingRange,
    PendingReading,
    PendingSample,
)
from exporter.ledger.delivery_state import PendingQuery as WantedReadings
from exporter.ledger.queries import ROWS_PER_FETCH, SampleRows, SeriesRow, StoredReading, TimestampRule, UsagePointRow
from exporter.ledger.writer import LedgerChanges, write_visit
from exporter.models import Fact, Reading, StateUpdate, StoredInterval, VisitPart

__all__ = [
    "LEDGER_FILE",
    "ROWS_PER_FETCH",
    "AccountState",
    "DeliveryProgress",
    "DeliveryRound",
    "DeliveryState",
    "Ledger",
    "LedgerAccountStore",
    "LedgerChanges",
    "LedgerReadings",
    "PendingRange",
    "PendingReading",
    "PendingSample",
    "SampleRows",
    "SeriesRow",
    "Snapshot",
    "StoredReading",
    "TimestampRule",
    "UsagePointRow",
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
        self.database = Database(folder, read_only=read_only, serving=serving)
        self._store_caches: dict[str, dict[str, Any]] = {}
        self._catalogs = CatalogCache(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def lock_folder(self) -> None:
        """Take the folder for one `serve`."""
        self.database.lock_folder()

    def open_account(self, name: str, *, portal: str, zone: str, login: str) -> AccountState:
        """Find or begin an account; a login other than before lifts a suspension and empties the account's memory."""
        self._store_caches.pop(name, None)
        state = open_account(self.database, name, portal, zone, login)
        if self.database.cramped:  # due at once: a visit that cannot be kept asks nobody, and the first that can mends it
            why = self._no_room()
            return replace(state, up=False, reason=why.reason, message=str(why), next_visit=None)
        return state

    def _no_room(self) -> LedgerError:
        return LedgerError(f"{self.database.path}: {self.database.cramped}")

    def get_state(self, account: str) -> AccountState:
        """Give an account's state."""
        with self.database.read() as db:
            return load_state(db, account)

    def record_visit_start(self, account: str, state: AccountState, *, login: str) -> None:
        """Keep that a visit has begun, and by which login: only a change of that one is a change."""
        with self.database.write() as db:
            if self.database.cramped:  # little may fit still, but not what a visit brings
                raise self._no_room()
            save_login(db, account, login)
            save_health(db, account, state)

    def save_health(self, account: str, state: AccountState) -> None:
        """Keep an account's health."""
        with self.database.write() as db:
            save_health(db, account, state)

    def get_suspension(self, account: str, *, login: str) -> tuple[datetime, str] | None:
        """Give until when an account is suspended and why, where it was this login that was refused."""
        return select_suspension(self.database, account, login)

    def suspend(self, account: str, reason: str, *, until: datetime) -> None:
        """Keep that the portal has refused an account's login, besides what a running `serve` keeps of its health."""
        with self.database.write() as db:
            suspend(db, account, reason, until)

    def record_visit(
        self, account: str, parts: Sequence[VisitPart], health: AccountState, *, at: datetime, keep_personal: bool = False
    ) -> tuple[LedgerChanges, AccountState]:
        """Keep all that a visit told and the health it left, in one transaction; gives the state as it is then."""
        with self.database.write() as db:
            done = write_visit(
                db,
                self._get_catalog(db, account, keep_personal=keep_personal),
                parts,
                at=at,
                keep_personal=keep_personal,
                is_import=False,
            )
            save_health(db, account, health)
            state = load_state(db, account)
        return done, state

    @contextmanager
    def dry_run(self, account: str, parts: Sequence[VisitPart], *, at: datetime, keep_personal: bool) -> Iterator["Snapshot"]:
        """Look at the ledger as it would be with what a visit told; nothing of it is kept."""
        with suppress(_Rollback), self.database.write() as db:
            write_visit(
                db,
                self._get_catalog(db, account, keep_personal=keep_personal),
                parts,
                at=at,
                keep_personal=keep_personal,
                is_import=False,
            )
            yield Snapshot(db)
            raise _Rollback

    def record_chunk(
        self, account: str, chunk: str | None, parts: Sequence[Reading | StateUpdate], *, at: datetime
    ) -> LedgerChanges:
        """Keep a piece of the past, and that it was brought home (unless it has no name), in one transaction."""
        with self.database.write() as db:
            done = write_visit(
                db, self._get_catalog(db, account, keep_personal=False), parts, at=at, keep_personal=False, is_import=True
            )
            if chunk is not None:
                mark_chunk_imported(db, account, chunk)
        return done

    def present(self, now: datetime) -> dict[int, datetime]:
        """Return account number -> the instant that the age of its readings counts from; see `thinning.present`."""
        with self.database.read() as db:
            return retention.present(db, now)

    def thin_readings(self, present: Mapping[int, datetime], keep_days: int, after_series: int) -> int | None:
        """Thin old readings of a few series with numbers above `after`; gives how far it came, None at the end."""
        with self.database.write() as db:
            return retention.thin_readings(db, present, keep_days, after_series)

    def clear_spending(self, now: datetime) -> None:
        """Forget calls that are too old to count against any budget."""
        with self.database.write() as db:
            retention.clear_spending(db, now)

    def vacuum(self) -> bool:
        """Give some of the file's free room back; says whether there is more of it to do."""
        with self.database.write() as db:
            return retention.vacuum(db)

    def _get_catalog(self, db: sqlite3.Connection, account: str, *, keep_personal: bool) -> AccountCatalog:
        return self._catalogs.get(db, select_account_id(db, account), keep_personal=keep_personal)

    def get_imported_chunks(self, account: str) -> set[str]:
        """Name the pieces of the past that were brought home."""
        return select_imported_chunks(self.database, account)

    def get_account_store(self, account: str) -> LedgerAccountStore:
        """Give the account's memory."""
        return LedgerAccountStore(self.database, account, self._store_caches.setdefault(account, {}))

    def get_delivery_state(self) -> DeliveryState:
        """Give the books of what was sent to whom."""
        return DeliveryState(self.database)

    def get_stored_readings(self, account: str) -> "LedgerReadings":
        """Give the account's view on what is kept."""
        return LedgerReadings(self.database, account)

    @contextmanager
    def snapshot(self) -> Iterator["Snapshot"]:
        """Look at everything in one consistent view."""
        with self.database.read() as db:
            yield Snapshot(db)


class _Rollback(Exception):  # noqa: N818  # no error: it ends a rehearsal
    """Rolls a rehearsal back."""


class Snapshot:
    """One consistent view of the ledger, open while its `with` block lasts; see the functions of `view`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get_state(self, account: str) -> AccountState:
        """Give an account's state."""
        return load_state(self._db, account)

    def select_usage_points(self, account: str, usage_points: Collection[str] | None = None) -> Iterator[UsagePointRow]:
        """Give the usage points that the account holds now, or those of them named in `only`."""
        return queries.select_usage_points(self._db, account, usage_points)

    def select_facts(self, account: str, usage_points: Collection[str] | None = None) -> Iterator[tuple[str, Fact, float]]:
        """Give usage point, fact and value of all that is stated now."""
        return queries.select_facts(self._db, account, usage_points)

    def select_series(self, account: str | None = None, *, shown_only: bool = False) -> list[SeriesRow]:
        """Give the series of an account, or of all."""
        return queries.select_series(self._db, account, shown_only=shown_only)

    def select_shown_series(
        self, account: str, usage_points: Collection[str] | None = None
    ) -> Iterator[tuple[SeriesRow, tuple[int, float] | None]]:
        """Give what the account holds now, usage point by usage point; an index with its newest milliseconds and value."""
        return queries.select_shown_series(self._db, account, usage_points)

    def select_newest(self, series_id: int, count: int = 1) -> list[StoredReading]:
        """Give a series' newest readings, newest first."""
        return queries.select_newest(self._db, series_id, count)

    def select_readings(self, series_id: int, start: datetime, end: datetime) -> Iterator[StoredReading]:
        """Give a series' readings with `at` in [start, end), in time order."""
        return queries.select_readings(self._db, series_id, start, end)

    def select_first(self, series_id: int) -> StoredReading | None:
        """Give a series' oldest reading."""
        return queries.select_first(self._db, series_id)

    def count_samples(self, series_id: int, rule: TimestampRule, first: int, last: int) -> int:
        """Count a series' samples with stamps in [first, last] milliseconds."""
        return queries.count_samples(self._db, series_id, rule, first, last)

    def iterate_samples(self, series_id: int, rule: TimestampRule, first: int, last: int) -> Iterator[SampleRows]:
        """Give a series' samples with stamps in [first, last] milliseconds, a slice at a time."""
        return queries.iterate_samples(self._db, series_id, rule, first, last)

    def select_zones(self) -> dict[str, str]:
        """Give the accounts with the names of their time zones."""
        return queries.select_zones(self._db)

    def pending_ranges(self, key: str) -> list[PendingRange]:
        """Give where the next round of a target has to look."""
        return delivery_state.pending_ranges(self._db, key)

    def select_pending(self, query: WantedReadings, series_ids: Iterable[int], limit: int) -> list[PendingSample]:
        """Give what a target is owed of these series, series by series; `most` at most."""
        return delivery_state.select_pending(self._db, query, series_ids, limit)

    def iterate_pending_readings(self, query: WantedReadings, series_ids: Iterable[int]) -> Iterator[PendingReading]:
        """Give what a target is owed of these series, with `at` and visit."""
        return delivery_state.iterate_pending_readings(self._db, query, series_ids)

    def count_pending(self, query: WantedReadings, series_ids: Iterable[int], done_until: int) -> int:
        """Count what it is owed and was not sent yet."""
        return delivery_state.count_pending(self._db, query, series_ids, done_until)

    def select_corrected(self, after: int, up_to: int | None = None) -> dict[int, set[int]]:
        """Give series -> `at` of what was known by a visit and replaced since."""
        return delivery_state.select_corrected(self._db, after, up_to)

    def get_series_version(self) -> tuple[int, ...]:
        """Give numbers that change whenever the list of series does."""
        return queries.select_series_version(self._db)


class LedgerReadings:
    """What a portal may ask the ledger during a visit, off the event loop."""

    def __init__(self, database: Database, account: str) -> None:
        self._database, self._account = database, account

    async def intervals(
        self, usage_point: str, start: datetime, end: datetime, resolution: str | None = None
    ) -> list[StoredInterval]:
        """Give the kept intervals that start in [start, end), in order of their start."""

        def look() -> list[StoredInterval]:
            with self._database.read() as db:
                return queries.select_stored_intervals(db, self._account, usage_point, start, end, resolution)

        return await asyncio.to_thread(look)

    async def span(self, usage_point: str, resolution: str) -> tuple[datetime, datetime] | None:
        """Give start and end of the first and last kept interval of a resolution."""

        def look() -> tuple[datetime, datetime] | None:
            with self._database.read() as db:
                return queries.select_stored_span(db, self._account, usage_point, resolution)

        return await asyncio.to_thread(look)
