"""The SQLite file of the ledger: one writer, several readers, safe to open beside other processes.

SQLite separates processes by POSIX locks, and a process loses all its locks on a file when it closes any descriptor of that
file. So only SQLite opens the ledger's files, except `_create_file`, which never opens an existing one; and the files are
renamed only while no other process of ours can have them open.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exporter.errors import LedgerError
from exporter.ledger.migrations import SCHEMA_VERSION, migrate, read_schema_version

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
DAY_MS = 86_400_000


def to_ms(at: datetime) -> int:
    """Return an aware instant as milliseconds since 1970."""
    return (at - EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """Return the instant, aware, in UTC."""
    return EPOCH + ms * _MS


def optional_to_ms(at: datetime | None) -> int | None:
    """Convert an instant that may be missing."""
    return None if at is None else to_ms(at)


def optional_from_ms(ms: int | None) -> datetime | None:
    """Convert an instant that may be missing."""
    return None if ms is None else from_ms(ms)


LEDGER_FILE, LOCK_FILE = "ledger.sqlite", "serve.lock"
MAX_CHECKED_BYTES = 256 * 1024 * 1024
"""A file up to this size is checked page by page at startup, a larger one only after an error that suggests damage."""
MAX_LOG_BYTES = 16 * 1024 * 1024
"""The write-ahead log is truncated to this size after a checkpoint; a long transaction makes it larger meanwhile."""
MIN_FREE_BYTES = 64 * 1024
"""With less free space the disk counts as full: SQLite needs 32 KB for the shared index of the write-ahead log."""
log = logging.getLogger(__name__)


class Database:
    """One SQLite file in WAL mode: one writing connection, a few reading ones.

    Methods may be called from any thread, but block: never call them on the event loop.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, serving: bool = False) -> None:
        """Open the file; with `serving` also on a full disk, where it can only be read."""
        self.path = folder / LEDGER_FILE
        self._damage_marker = folder / f"{LEDGER_FILE}.suspect"
        self._write_lock = threading.RLock()
        self._readers: list[sqlite3.Connection] = []
        self._lock_file: int | None = None
        self._closed = False
        self._rollbacks = 0
        self.sharing_error = ""
        """Why this process cannot share the file with others, and so only reads it; normally empty."""
        with _translate_errors(self.path):
            _create_folder(folder)
            if serving:
                self._open_serving()
            else:
                self._connection = self._connect_reader() if read_only else self._open()
            self._files = OpenFiles(self.path)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Hold the writing connection for one transaction, committed as a whole or rolled back.

        Raise LedgerError if the disk is full, or the file locked, read-only, damaged, removed or replaced.
        """
        with self._write_lock, _translate_errors(self.path, self._damage_marker):
            self._files.check()
            if self.sharing_error:
                self._connection.close()
                self._open_serving()
                self._files = OpenFiles(self.path)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._rollbacks += 1
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def change_counter(self) -> tuple[int, int]:
        """Return numbers that change when another process writes, or a transaction of this one is rolled back."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0]), self._rollbacks

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Hold a reading connection for one consistent view of the file. Raise LedgerError."""
        with _translate_errors(self.path, self._damage_marker), ExitStack() as stack:
            if self.sharing_error:
                stack.enter_context(self._write_lock)
            if self.sharing_error:  # still: all share one connection
                yield self._connection
                return
            connection = self._acquire_reader()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                self._release_reader(connection)

    def free_memory(self) -> None:
        """Free what connections at rest keep of the file: 8 MB each, and the system has it in its own cache."""
        with self._write_lock, suppress(sqlite3.Error):
            for connection in (self._connection, *self._readers):
                connection.execute("PRAGMA shrink_memory")

    def lock_folder(self) -> None:
        """Lock the folder for one `serve`; raise LedgerError if another one has it."""
        self._lock_file = os.open(self.path.parent / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LedgerError(f"{self.path.parent} is in use by another `utility-exporter serve`") from None

    def close(self) -> None:
        """Close all connections; the last one checkpoints the write-ahead log."""
        with self._write_lock:
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            self._connection.close()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _open(self) -> sqlite3.Connection:
        with _lock_startup(self.path.parent) as startup_lock:
            _create_file(self.path)
            try:
                return self._connect_checked(startup_lock)
            except sqlite3.DatabaseError as error:
                if not _is_damage_error(error):
                    raise
            fcntl.flock(startup_lock, fcntl.LOCK_EX)
            try:  # another process may have created a new one meanwhile
                return self._connect_checked()
            except sqlite3.DatabaseError as error:
                if not _is_damage_error(error):
                    raise
            if self._is_served():  # it would continue to write to the renamed file
                raise LedgerError(f"{self.path} is damaged; the next start of `serve` moves it aside and creates a new one")
            aside = self._move_aside()
            log.error("the ledger %s was damaged: moved to %s, created a new one", self.path, aside)
            _create_file(self.path)
            return self._connect_checked()

    def _open_serving(self) -> None:
        """Open the file; on a full disk for this process alone, since only shared access needs free space."""
        try:
            self._connection, self.sharing_error = self._open(), ""
        except sqlite3.OperationalError as error:
            if not _is_disk_error(error):
                raise
            self._connection = _connect_exclusively(self.path)
            if read_schema_version(self._connection) != SCHEMA_VERSION:  # older or empty: not readable
                self._connection.close()
                raise
            self.sharing_error = _describe_error(self.path, error)

    def _connect_checked(self, startup_lock: int | None = None) -> sqlite3.Connection:
        connection = _connect(self.path)
        try:
            found = read_schema_version(connection)
            _check_not_newer(self.path, found)
            if found == SCHEMA_VERSION and startup_lock is not None:
                fcntl.flock(startup_lock, fcntl.LOCK_UN)  # others need not wait for the check
            if found and (self.path.stat().st_size <= MAX_CHECKED_BYTES or self._damage_marker.exists()):
                _check_integrity(connection)
            migrate(connection)
            _enable_vacuum(connection)
            self._damage_marker.unlink(missing_ok=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_served(self) -> bool:
        """Return whether a `serve` has the folder locked."""
        try:
            lock = os.open(self.path.parent / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _move_aside(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        for end in ("-wal", "-shm", ""):
            part = self.path.with_name(LEDGER_FILE + end)
            if part.exists():
                part.rename(self.path.with_name(f"{LEDGER_FILE}.damaged-{stamp}{end}"))
        self._damage_marker.unlink(missing_ok=True)
        return self.path.with_name(f"{LEDGER_FILE}.damaged-{stamp}")

    def _acquire_reader(self) -> sqlite3.Connection:
        with self._write_lock:
            if self._closed:
                raise LedgerError("the ledger is closed")
            if self._readers:
                return self._readers.pop()
        self._files.check()  # otherwise one file would be written and another read
        return self._connect_reader()

    def _connect_reader(self) -> sqlite3.Connection:
        connection = _connect(self.path)
        connection.execute("PRAGMA cache_size = -4096")
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _release_reader(self, connection: sqlite3.Connection) -> None:
        with self._write_lock:
            if self._closed or len(self._readers) >= 4:
                connection.close()
            else:
                self._readers.append(connection)


@contextmanager
def _lock_startup(folder: Path) -> Iterator[int]:
    """Hold the lock under which one process or thread at a time creates or migrates the file; return its descriptor.

    SQLite fails when several processes switch a file to WAL mode at once. The lock is on the folder, so it leaves no file.
    """
    startup_lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(startup_lock, fcntl.LOCK_EX)
        yield startup_lock
    finally:
        os.close(startup_lock)


def _create_file(path: Path) -> None:
    """Create the file, readable by its owner only; an existing one may have connections, and is not touched."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _connect(path: Path) -> sqlite3.Connection:
    """Connect to an existing file: a removed one is not created anew beside connections to the old one."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        if not path.stat().st_size:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect only while a file is empty
        # NORMAL in WAL mode: a killed process loses nothing, a power cut at most the last visits, never the file.
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "cache_size = -8192",
            "temp_store = MEMORY",
            f"journal_size_limit = {MAX_LOG_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_exclusively(path: Path) -> sqlite3.Connection:
    """Connect to a file that no other process has open."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False)
    for pragma in ("locking_mode = EXCLUSIVE", "synchronous = NORMAL", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _enable_vacuum(connection: sqlite3.Connection) -> None:
    """Rewrite a file of an older version once, so that it can be vacuumed incrementally; if it is in use, at a later start."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0]:
        return
    with suppress(sqlite3.OperationalError), _temp_store_on_disk(connection):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _temp_store_on_disk(connection: sqlite3.Connection) -> Iterator[None]:
    """Put SQLite's temporary files beside the ledger: they are as large as the file, too large for memory and many a /tmp."""
    folder = str(Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent).replace("'", "''")
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute(f"PRAGMA temp_store_directory = '{folder}'")
    try:
        yield
    finally:
        connection.execute("PRAGMA temp_store_directory = ''")
        connection.execute("PRAGMA temp_store = MEMORY")


def _check_not_newer(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"{path} was written by a newer version (schema {version}, this program supports {SCHEMA_VERSION}):"
            " upgrade the program, or use another --storage.path"
        )


def _check_integrity(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError("malformed: " + str(found).splitlines()[0])


def _create_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LedgerError(f"{folder} is not writable")


def _is_damage_error(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("malformed", "not a database", "file is encrypted"))


def _is_disk_error(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("is full", "disk I/O error"))


def _describe_error(path: Path, error: sqlite3.Error) -> str:
    """Return an error's text; SQLite reports a disk too full for the shared index as an I/O error."""
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        if "disk I/O error" in str(error) and disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
            return "the disk is full"
    return str(error)


@contextmanager
def _translate_errors(path: Path, damage_marker: Path | None = None) -> Iterator[None]:
    """Raise errors of SQLite and the system as LedgerError; if the file seems damaged, mark it for the next start."""
    try:
        yield
    except sqlite3.Error as error:
        if damage_marker and _is_damage_error(error):
            with suppress(OSError):
                damage_marker.touch()
            raise LedgerError(f"{path} is damaged; the next start moves it aside and creates a new one") from None
        raise LedgerError(f"{path}: {_describe_error(path, error)}") from None
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror or error}") from None


class OpenFiles:
    """The database file, its write-ahead log and the log's index, as they were when they were opened.

    They are checked by name and never opened: closing any descriptor of a file ends all locks of the process on it.
    """

    def __init__(self, path: Path) -> None:
        """Record the files' identities; a connection to the ledger must be open."""
        self._path = path
        self._opened = {file: _get_identity(file) for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm"))}

    def check(self) -> None:
        """Raise LedgerError if a file was removed or replaced: what is written now would be lost."""
        for file, opened in self._opened.items():
            if opened and _get_identity(file) != opened:
                raise LedgerError(
                    f"{file} was removed or replaced while it was in use, and nothing can be stored:"
                    " restart the exporter, or restore the same file"
                )


def _get_identity(file: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        found = file.stat()
        return found.st_dev, found.st_ino
    return None
