"""The file under the ledger: opened safely, moved aside when damaged, written by one, read by many.

SQLite keeps processes apart by POSIX locks, and a process loses all of those it has on a file when it closes any descriptor
of that file. So nothing here opens the ledger's files but SQLite, save `_make_file`, which opens none that is there already;
and they are renamed only while no process of ours may have them open.
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
from exporter.ledger.files import Files
from exporter.ledger.migrations import SCHEMA_VERSION, migrate, read_schema_version

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def to_ms(at: datetime) -> int:
    """Give an aware instant in milliseconds."""
    return (at - EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """Give the instant, aware, in UTC."""
    return EPOCH + ms * _MS


def optional_to_ms(at: datetime | None) -> int | None:
    """Convert an instant that may be missing."""
    return None if at is None else to_ms(at)


def optional_from_ms(ms: int | None) -> datetime | None:
    """Convert an instant that may be missing."""
    return None if ms is None else from_ms(ms)


LEDGER_FILE, LOCK_FILE = "ledger.sqlite", "serve.lock"
MAX_CHECKED_BYTES = 256 * 1024 * 1024
"""A file up to this size is checked page by page at the start, a larger one only after it was found damaged."""
LOG_KEPT = 16 * 1024 * 1024
"""The write-ahead log is cut to this size once all of it is in the file; a long transaction makes it larger for a while."""
SHARED = 64 * 1024
"""Less room than this is none: SQLite needs 32 KB beside a file that several use."""
log = logging.getLogger(__name__)


class Database:
    """One SQLite file in WAL mode: one connection that writes, a few that read.

    All methods may be called from any thread; none may be called on the event loop.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, serving: bool = False) -> None:
        """Open the file; `serving` opens it on a full disk too, where its newest state can be read and little else."""
        self.path = folder / LEDGER_FILE
        self._damage_marker = folder / f"{LEDGER_FILE}.suspect"
        self._write_lock = threading.RLock()
        self._readers: list[sqlite3.Connection] = []
        self._lock_file: int | None = None
        self._closed = False
        self._rollbacks = 0
        self.cramped = ""
        """What keeps this process from sharing the file with others; empty in all but bad times."""
        with _translate_errors(self.path):
            _create_folder(folder)
            if serving:
                self._open_even_cramped()
            else:
                self._connection = self._connect_reader() if read_only else self._open()
            self._files = Files(self.path)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Hold the one writing connection for a transaction: kept whole, or not at all.

        Raises LedgerError when the disk is full, the file locked, read-only, damaged, removed or replaced.
        """
        with self._write_lock, _translate_errors(self.path, self._damage_marker):
            self._files.check()
            if self.cramped:
                self._connection.close()
                self._open_even_cramped()
                self._files = Files(self.path)
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
        """Give numbers that change when another process has written, or a transaction of this one was undone."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0]), self._rollbacks

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Hold a reading connection for one consistent look at the file. Raises LedgerError."""
        with _translate_errors(self.path, self._damage_marker), ExitStack() as stack:
            if self.cramped:
                stack.enter_context(self._write_lock)
            if self.cramped:  # still: there is one connection for all
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

    def lock_folder(self) -> None:
        """Take the folder for one `serve`; raises LedgerError when another one has it."""
        self._lock_file = os.open(self.path.parent / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LedgerError(f"{self.path.parent} is in use by another `utility-exporter serve`") from None

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the file."""
        with self._write_lock:
            self._closed = True
            while self._readers:
                self._readers.pop().close()
            self._connection.close()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _open(self) -> sqlite3.Connection:
        with _turn(self.path.parent) as turn:
            _create_file(self.path)
            try:
                return self._connect_checked(turn)
            except sqlite3.DatabaseError as error:
                if not _is_damage_error(error):
                    raise
            fcntl.flock(turn, fcntl.LOCK_EX)
            try:  # another process may have begun a new one meanwhile
                return self._connect_checked()
            except sqlite3.DatabaseError as error:
                if not _is_damage_error(error):
                    raise
            if self._is_served():  # it would go on writing into the file under its new name
                raise LedgerError(f"{self.path} is damaged; the next start of `serve` keeps it aside and begins a new one")
            aside = self._move_aside()
            log.error("the ledger %s was damaged: it is kept as %s, and a new one is begun", self.path, aside)
            _create_file(self.path)
            return self._connect_checked()

    def _open_even_cramped(self) -> None:
        """Open the file, where the disk is full for this process alone: what processes share takes room, a reader alone none."""
        try:
            self._connection, self.cramped = self._open(), ""
        except sqlite3.OperationalError as error:
            if not _is_cramped(error):
                raise
            self._connection = _connect_alone(self.path)
            if read_schema_version(self._connection) != SCHEMA_VERSION:  # an older one, or none: neither can be read
                self._connection.close()
                raise
            self.cramped = _words(self.path, error)

    def _connect_checked(self, turn: int | None = None) -> sqlite3.Connection:
        connection = _connect(self.path)
        try:
            found = read_schema_version(connection)
            _refuse_newer(self.path, found)
            if found == SCHEMA_VERSION and turn is not None:
                fcntl.flock(turn, fcntl.LOCK_UN)  # nobody need wait for the check
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
        """Tell whether a `serve` has the folder."""
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
        self._files.check()  # another file would be read beside the one that is written
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
def _turn(folder: Path) -> Iterator[int]:
    """Wait until no other process, nor thread, makes the file or brings it up to the present form; give the lock's descriptor.

    SQLite cannot have a file switched to its write-ahead log by several at once. The lock is the folder's, so it leaves no file.
    """
    turn = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield turn
    finally:
        os.close(turn)


def _create_file(path: Path) -> None:
    """Make the file for its owner alone, where there is none: one that is there may have a connection, and is not touched."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there: one that was removed is not begun anew beside connections to the one before."""
    where = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(where, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        if not path.stat().st_size:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only while a file is empty
        # NORMAL in WAL mode: a killed process loses nothing, a power cut at most the last visits; never the file.
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "cache_size = -8192",
            "temp_store = MEMORY",
            f"journal_size_limit = {LOG_KEPT}",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_alone(path: Path) -> sqlite3.Connection:
    """Open a file with no other process beside us."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False)
    for pragma in ("locking_mode = EXCLUSIVE", "synchronous = NORMAL", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _enable_vacuum(connection: sqlite3.Connection) -> None:
    """Write a file of an older version anew, once, so that it can become shorter; at another start when it is in use."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0]:
        return
    with suppress(sqlite3.OperationalError), _room_on_disk(connection):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _room_on_disk(connection: sqlite3.Connection) -> Iterator[None]:
    """Have what SQLite works with beside the ledger: in memory it would be as large as the file, and so in many a /tmp."""
    where = str(Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent).replace("'", "''")
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute(f"PRAGMA temp_store_directory = '{where}'")
    try:
        yield
    finally:
        connection.execute("PRAGMA temp_store_directory = ''")
        connection.execute("PRAGMA temp_store = MEMORY")


def _refuse_newer(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"{path} was written by a newer version (schema {version}, this program knows {SCHEMA_VERSION}):"
            " upgrade the program, or name another --storage.path"
        )


def _check_integrity(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError("malformed: " + str(found).splitlines()[0])


def _create_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LedgerError(f"{folder} cannot be written to")


def _is_damage_error(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("malformed", "not a database", "file is encrypted"))


def _is_cramped(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("is full", "disk I/O error"))


def _words(path: Path, error: sqlite3.Error) -> str:
    """Say what is wrong; SQLite calls it an I/O error when there is no room for what processes share."""
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        if "disk I/O error" in str(error) and disk.f_bavail * disk.f_frsize < SHARED:
            return "the disk is full"
    return str(error)


@contextmanager
def _translate_errors(path: Path, damage_marker: Path | None = None) -> Iterator[None]:
    """Say SQLite's and the system's errors as ours; leave a mark when the file looks damaged, for the next start."""
    try:
        yield
    except sqlite3.Error as error:
        if damage_marker and _is_damage_error(error):
            with suppress(OSError):
                damage_marker.touch()
            raise LedgerError(f"{path} is damaged; the next start keeps it aside and begins a new one") from None
        raise LedgerError(f"{path}: {_words(path, error)}") from None
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror or error}") from None
