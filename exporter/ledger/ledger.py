"""The ledger: readings, corrections and the state of every account, in one SQLite file."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from exporter import runtime
from exporter.errors import LedgerError
from exporter.ledger import delivery_state, queries, retention, usage_queries
from exporter.ledger.account_state import (
    AccountState,
    LedgerAccountStore,
    drop_notes_of_other_feeds,
    has_login,
    lift_suspension,
    load_state,
    open_account,
    save_login,
    save_state,
    select_account_id,
    suspend,
    write_coverage,
)
from exporter.ledger.catalog import AccountCatalog, CatalogCache
from exporter.ledger.database import Database
from exporter.ledger.delivery_state import DeliveryState, PendingQuery, PendingRange, PendingReading, PendingSample
from exporter.ledger.feed_store import LedgerFeedStore
from exporter.ledger.queries import DaySums, NewestIndex, SeriesRow, StoredReading, UsagePointRow
from exporter.ledger.samples import CalendarRule, SampleReader, SampleRows, TimestampRule
from exporter.ledger.usage_queries import Amount, RegisterReading
from exporter.ledger.writer import LedgerChanges, derive_older_months, start_deriving_days, write_feed_readings, write_visit
from exporter.models import Fact, VisitResult
from exporter.sync.feeds import FeedResult


class Ledger:
    """The readings and states of all accounts, in a storage folder.

    Methods block on the disk: call them off the event loop. They may be called from any thread, and raise LedgerError.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, serving: bool = False) -> None:
        """Open the ledger.

        `read_only` is for a second process beside one that has opened and checked it; `serving` opens the ledger on a full disk
        too, to serve what is stored.
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
        """Close all connections."""
        self.database.close()

    def free_memory(self) -> None:
        """Free what is kept of the file until it is needed again, and return free memory to the system."""
        self.database.free_memory()
        runtime.trim_memory()

    def lock_folder(self) -> None:
        """Lock the folder for one `serve`; raise LedgerError if another one has it."""
        self.database.lock_folder()

    def open_account(self, name: str, *, portal: str, zone: str, login: str, derives_days: bool = False) -> AccountState:
        """Return an account's state, creating it if new; a changed login lifts a suspension and empties the account's store.

        `derives_days`: the portal states only what its counters show, so amounts of days are calculated.
        """
        self._store_caches.pop(name, None)
        state = open_account(self.database, name, portal, zone, login)
        if not self.database.sharing_error:
            with self.database.write() as db:
                catalog, now = self._get_catalog(db, name, keep_personal=False), datetime.now(UTC)
                if derives_days:
                    start_deriving_days(db, catalog, now)
                derive_older_months(db, catalog, now)
        if self.database.sharing_error:  # due at once: while visits cannot be stored they send no request
            error = self._build_sharing_error()
            return replace(state, up=False, reason=error.reason, message=str(error), next_visit=None)
        return state

    def _build_sharing_error(self) -> LedgerError:
        return LedgerError(f"{self.database.path}: {self.database.sharing_error}")

    def get_state(self, account: str) -> AccountState:
        """Return an account's state."""
        with self.database.read() as db:
            return load_state(db, account)

    def record_visit_start(self, account: str, state: AccountState, *, login: str) -> None:
        """Store that a visit has begun, and with which login: a change of login is a change from this one."""
        with self.database.write() as db:
            if self.database.sharing_error:  # a little may still fit, but not the results of a visit
                raise self._build_sharing_error()
            save_login(db, account, login)
            save_state(db, account, state)

    def save_state(self, account: str, state: AccountState) -> None:
        """Store an account's state."""
        with self.database.write() as db:
            save_state(db, account, state)

    def get_state_of_login(self, account: str, *, login: str) -> AccountState | None:
        """Return an account's state, or None where another process has opened it with another login."""
        with self.database.read() as db:
            return load_state(db, account) if has_login(db, account, login) else None

    def suspend(self, account: str, reason: str, *, until: datetime) -> None:
        """Store that the portal refused an account's login, and nothing else of the health that a running `serve` stores."""
        with self.database.write() as db:
            suspend(db, account, reason, until)

    def lift_suspension(self, account: str) -> None:
        """Store that a suspended account's login was accepted."""
        with self.database.write() as db:
            lift_suspension(db, account)

    def record_visit(
        self, account: str, result: VisitResult, state: AccountState, *, at: datetime, keep_personal: bool = False
    ) -> tuple[LedgerChanges, AccountState]:
        """Store a visit's result and the account's state, in one transaction; return the changes and the state as stored."""
        with self.database.write() as db:
            catalog = self._get_catalog(db, account, keep_personal=keep_personal)
            changes = write_visit(db, catalog, result, at=at, keep_personal=keep_personal)
            catalog.forget_rows()
            save_state(db, account, state)
            stored = load_state(db, account)
        return changes, stored

    @contextmanager
    def dry_run(self, account: str, result: VisitResult, *, at: datetime, keep_personal: bool) -> Iterator["Snapshot"]:
        """Provide a snapshot of the ledger as a visit's result would change it; nothing is stored."""
        with suppress(_Rollback), self.database.write() as db:
            write_visit(
                db,
                self._get_catalog(db, account, keep_personal=keep_personal),
                result,
                at=at,
                keep_personal=keep_personal,
            )
            yield Snapshot(db)
            raise _Rollback

    def record_feed(
        self,
        account: str,
        coverage: Mapping[str, str],
        result: FeedResult | None,
        *,
        at: datetime,
        keep_personal: bool = False,
        refusal: str = "",
    ) -> LedgerChanges:
        """Store the coverage of feeds and what a request of one brought, in one transaction."""
        with self.database.write() as db:
            changes = LedgerChanges()
            if result is not None and result.readings:
                catalog = self._get_catalog(db, account, keep_personal=keep_personal, is_visit=False)
                changes = write_feed_readings(db, catalog, result.readings, at=at, keep_personal=keep_personal)
                catalog.forget_rows()
            row_id, feed_notes = select_account_id(db, account), result.notes if result else None
            notes = write_coverage(db, row_id, coverage, feed_notes, at, refusal=refusal)
        return replace(changes, notes=notes)

    def get_feed_store(self, account: str, *, keep_personal: bool = False) -> LedgerFeedStore:
        """Return what the sync engine stores of an account."""
        return LedgerFeedStore(
            self.database,
            account,
            lambda coverage, result, at, refusal: self.record_feed(
                account, coverage, result, at=at, keep_personal=keep_personal, refusal=refusal
            ),
        )

    def drop_notes_of_other_feeds(self, account: str, feeds: Collection[str]) -> None:
        """Drop the notes of feeds that an account does not have any more."""
        with self.database.write() as db:
            drop_notes_of_other_feeds(db, select_account_id(db, account), feeds)

    def select_reading_counts(self) -> dict[str, tuple[int, int]]:
        """Return account -> numbers of readings (thinned ones included) and of corrections."""
        with self.database.read() as db:
            rows = db.execute("SELECT name, readings + thinned, corrections FROM account")
            return {name: (readings, corrections) for name, readings, corrections in rows}

    def select_reference_times(self, now: datetime) -> dict[int, datetime]:
        """Return account ID -> the instant from which the age of its readings counts; see `retention.select_reference_times`."""
        with self.database.read() as db:
            return retention.select_reference_times(db, now)

    def thin_readings(self, reference_times: Mapping[int, datetime], keep_days: int, after_series: int) -> int | None:
        """Thin old readings of the next few series; return the last series' ID, or None at the end."""
        with self.database.write() as db:
            return retention.thin_readings(db, reference_times, keep_days, after_series)

    def delete_old_calls(self, now: datetime) -> None:
        """Delete calls that are too old to count against any quota."""
        with self.database.write() as db:
            retention.delete_old_calls(db, now)

    def vacuum(self) -> bool:
        """Release some of the file's free pages to the disk; return whether more remain."""
        with self.database.write() as db:
            return retention.vacuum(db)

    def _get_catalog(self, db: sqlite3.Connection, account: str, *, keep_personal: bool, is_visit: bool = True) -> AccountCatalog:
        return self._catalogs.get(db, select_account_id(db, account), keep_personal=keep_personal, is_visit=is_visit)

    def get_account_store(self, account: str) -> LedgerAccountStore:
        """Return the account's store."""
        return LedgerAccountStore(self.database, account, self._store_caches.setdefault(account, {}))

    def get_delivery_state(self) -> DeliveryState:
        """Return what each receiver of remote write was sent."""
        return DeliveryState(self.database)

    @contextmanager
    def snapshot(self) -> Iterator["Snapshot"]:
        """Provide one consistent view of everything."""
        with self.database.read() as db:
            yield Snapshot(db)


class _Rollback(Exception):  # noqa: N818  # not an error: it ends a dry run
    """Rolls back a dry run."""


class Snapshot:
    """One consistent view of the ledger, open while its `with` block lasts; see the functions of `queries`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._samples = SampleReader(db)

    def get_state(self, account: str) -> AccountState:
        """Return an account's state."""
        return load_state(self._db, account)

    def select_usage_points(self, account: str, usage_points: Collection[str] | None = None) -> Iterator[UsagePointRow]:
        """Return the usage points in the account's inventory, or those of them in `usage_points`."""
        return queries.select_usage_points(self._db, account, usage_points)

    def select_usage_points_with_days(self, account: str) -> frozenset[str]:
        """Return the usage points of which days are known, stated or derived."""
        return queries.select_usage_points_with_days(self._db, account)

    def select_facts(self, account: str, usage_points: Collection[str] | None = None) -> Iterator[tuple[str, Fact, float]]:
        """Return usage point, fact and value of all current facts."""
        return queries.select_facts(self._db, account, usage_points)

    def select_series(self, account: str | None = None, *, shown_only: bool = False) -> list[SeriesRow]:
        """Return the series of an account, or of all."""
        return queries.select_series(self._db, account, shown_only=shown_only)

    def select_shown_series(
        self, account: str, usage_points: Collection[str] | None = None
    ) -> Iterator[tuple[SeriesRow, tuple[int, float] | None]]:
        """Return the series in the account's inventory, by usage point; an index with its newest milliseconds and value."""
        return queries.select_shown_series(self._db, account, usage_points)

    def select_newest_indexes(self, account: str, usage_points: Collection[str]) -> Iterator[NewestIndex]:
        """Return the newest readings of the index series in the account's inventory, by usage point."""
        return queries.select_newest_indexes(self._db, account, usage_points)

    def select_newest(self, series_id: int, count: int = 1) -> list[StoredReading]:
        """Return a series' newest readings, newest first."""
        return queries.select_newest(self._db, series_id, count)

    def select_readings(self, series_id: int, start: datetime, end: datetime) -> Iterator[StoredReading]:
        """Return a series' readings with `at` in [start, end), in time order."""
        return queries.select_readings(self._db, series_id, start, end)

    def select_first(self, series_id: int) -> StoredReading | None:
        """Return a series' oldest reading."""
        return queries.select_first(self._db, series_id)

    def select_starts(self, series_ids: Collection[int], end: datetime) -> list[datetime]:
        """Return the distinct `at` of the readings of these series before `end`."""
        return queries.select_starts(self._db, series_ids, end)

    def select_newest_starts(self, series_ids: Sequence[int]) -> list[tuple[int, int]]:
        """Return these series, as far as they have readings, each with its newest `at`."""
        return queries.select_newest_starts(self._db, series_ids)

    def select_day_sums(self, series_ids: Sequence[int], newest: int, bounds: Sequence[int]) -> Iterator[DaySums]:
        """Yield counts and sums of series of days whose newest `at` this is."""
        return queries.select_day_sums(self._db, series_ids, newest, bounds)

    def count_samples(self, series_id: int, rule: TimestampRule, first: int, last: int) -> int:
        """Return the number of a series' samples with timestamps in [first, last] milliseconds."""
        return self._samples.count(series_id, rule, first, last)

    def iterate_samples(self, series_id: int, rule: TimestampRule, first: int, last: int) -> Iterator[SampleRows]:
        """Yield a series' samples with timestamps in [first, last] milliseconds, in slices."""
        return self._samples.iterate(series_id, rule, first, last)

    def calculate_samples(self, series_id: int, rule: CalendarRule, first: int, last: int) -> SampleRows:
        """Return the samples with timestamps in [first, last] milliseconds that are calculated from the days of a series."""
        return self._samples.calculate(series_id, rule, first, last)

    def select_zones(self) -> dict[str, str]:
        """Return account -> name of its time zone."""
        return queries.select_zones(self._db)

    def pending_ranges(self, key: str) -> list[PendingRange]:
        """Return which readings the next round of a target covers."""
        return delivery_state.pending_ranges(self._db, key)

    def select_pending(self, query: PendingQuery, series_ids: Iterable[int], limit: int) -> list[PendingSample]:
        """Return up to `limit` pending samples of these series, by series."""
        return delivery_state.select_pending(self._db, query, series_ids, limit)

    def iterate_pending_readings(self, query: PendingQuery, series_ids: Iterable[int]) -> Iterator[PendingReading]:
        """Yield the pending readings of these series, with `at` and visit."""
        return delivery_state.iterate_pending_readings(self._db, query, series_ids)

    def count_pending(self, query: PendingQuery, series_ids: Iterable[int], done_until: int) -> int:
        """Return the number of readings that are pending and not sent yet."""
        return delivery_state.count_pending(self._db, query, series_ids, done_until)

    def select_corrected(self, after: int, up_to: int | None = None) -> dict[int, set[int]]:
        """Return series -> `at` of readings known by a visit and corrected since."""
        return delivery_state.select_corrected(self._db, after, up_to)

    def get_series_version(self) -> tuple[int, ...]:
        """Return numbers that change whenever the list of series does."""
        return queries.select_series_version(self._db)

    def count_usage_points_by_site(self, account: str) -> dict[str, int]:
        """Return site -> how many usage points of the account's inventory it has."""
        return usage_queries.count_usage_points_by_site(self._db, account)

    def select_usage_points_of_sites(self, account: str, sites: Collection[str]) -> Iterator[UsagePointRow]:
        """Return the usage points of some sites in the account's inventory."""
        return usage_queries.select_usage_points_of_sites(self._db, account, sites)

    def select_usage_points_with_facts(self, account: str, facts: Mapping[Fact, float]) -> frozenset[str]:
        """Return the usage points in the account's inventory of which a fact has the value that is given for it."""
        return usage_queries.select_usage_points_with_facts(self._db, account, facts)

    def select_day_amounts(
        self,
        account: str,
        usage_points: Collection[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[Amount]:
        """Return the amounts of days that begin in [start, end), in order; None is all usage points, or no bound."""
        return usage_queries.select_day_amounts(self._db, account, usage_points, start, end)

    def select_curve_amounts(self, account: str, usage_point: str, start: datetime, end: datetime) -> list[Amount]:
        """Return the amounts of less than a day in [start, end), in order."""
        return usage_queries.select_curve_amounts(self._db, account, usage_point, start, end)

    def select_newest_curve_start(self, account: str, usage_point: str) -> int | None:
        """Return when the newest amount of less than a day begins, in milliseconds."""
        return usage_queries.select_newest_curve_start(self._db, account, usage_point)

    def select_register_readings(self, account: str, usage_point: str) -> list[RegisterReading]:
        """Return the newest index of each register of a usage point."""
        return usage_queries.select_register_readings(self._db, account, usage_point)

    def count_corrections(self, account: str, usage_point: str) -> int:
        """Return how many values of a usage point its portal has changed."""
        return usage_queries.count_corrections(self._db, account, usage_point)
