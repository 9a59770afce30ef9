"""The ledger beside other processes: SQLite's locks are kept, and what one writes the others see."""

import builtins
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import LedgerError
from exporter.ledger.database import LEDGER_FILE, MAX_LOG_BYTES
from exporter.ledger.ledger import Ledger
from exporter.ledger.migrations import MIGRATIONS, SCHEMA_VERSION

HEAD = """
    import pathlib, sys
    from contextlib import ExitStack
    from exporter.ledger.ledger import Ledger
    from tests.test_ledger import AT, day, list_readings, record
    folder = pathlib.Path(sys.argv[1])
"""
RUNNING = """
    ledger = Ledger(folder)
    ledger.lock_folder()
    ledger.open_account("home", portal="brook", zone="UTC", login="")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(ledger.snapshot()).select_zones()
    for number, _ in enumerate(sys.stdin, 1):
        record(ledger, day(number, float(number)))
        print(len(list_readings(ledger)), flush=True)
    ledger.close()
"""
COMMANDS = {
    "a command": "with Ledger(folder) as ledger: print(len(list(list_readings(ledger))))",
    "a read-only one": "with Ledger(folder, read_only=True) as ledger: print(len(list(list_readings(ledger))))",
}


def source(body: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(HEAD) + textwrap.dedent(body)]


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the ledger as `serve` does, and writes one more day for each line of input."""
    command = [*source(RUNNING), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def write_one(process: subprocess.Popen[str]) -> int:
    """Have the running process write a day; return how many it sees itself."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def list_locks(file: Path, pid: int) -> list[str]:
    """Return the locks that a process has on a file."""
    return [
        line
        for line in Path("/proc/locks").read_text().splitlines()
        if line.split()[4] == str(pid) and line.split()[5].endswith(f":{file.stat().st_ino}")
    ]


def list_deleted(folder: Path, pid: int) -> list[str]:
    """Return the files of a folder that a process has open and that no longer exist."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.startswith(str(folder)) and link.endswith("(deleted)")]


@pytest.mark.parametrize("other", COMMANDS)
def test_the_ledger_of_a_running_process(tmp_path, other):
    """
    While one process has the ledger open with several connections, others open and close it: the first keeps its lock, none of
    its files is deleted, and what it writes afterwards is visible to the next.
    """
    with running(tmp_path) as process:
        write_one(process)
        for number in range(1, 4):
            done = subprocess.run([*source(COMMANDS[other]), str(tmp_path)], capture_output=True, text=True, check=False)
            assert (done.stdout, done.stderr) == (f"{number}\n", "")
            assert list_locks(tmp_path / LEDGER_FILE, process.pid)
            assert list_deleted(tmp_path, process.pid) == []
            assert write_one(process) == number + 1
        process.kill()
        process.wait()
    with Ledger(tmp_path) as ledger, ledger.database.read() as db:
        assert db.execute("SELECT count(*) FROM reading").fetchone() == (4,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_but_sqlite_opens_the_ledger(tmp_path, monkeypatch):
    """
    Once the ledger's file is created, Python opens, renames or removes none of its files: closing one would release SQLite's
    locks.
    """
    touched = list[tuple[str, str]]()

    def watch(module: Any, name: str) -> None:
        original = getattr(module, name)

        def watched(*arguments: Any, **keys: Any) -> Any:
            touched.extend((name, Path(os.fsdecode(one)).name) for one in arguments[:2] if isinstance(one, str | bytes | Path))
            return original(*arguments, **keys)

        monkeypatch.setattr(module, name, watched)

    for name in ("open", "rename", "replace", "remove", "unlink", "link", "truncate"):
        watch(os, name)
    watch(builtins, "open")

    def list_touched() -> list[tuple[str, str]]:
        found = [one for one in touched if one[1] in {LEDGER_FILE, f"{LEDGER_FILE}-wal", f"{LEDGER_FILE}-shm"}]
        touched.clear()
        return found

    with Ledger(tmp_path) as ledger:
        assert list_touched() == [("open", LEDGER_FILE)]
        ledger.lock_folder()
        ledger.open_account("home", portal="brook", zone="UTC", login="")
        threads = [threading.Thread(target=lambda: ledger.get_state("home")) for _ in range(4)]
        with ExitStack() as stack:
            for _ in range(6):
                stack.enter_context(ledger.snapshot())
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()
        ledger.vacuum()
        inode = (tmp_path / LEDGER_FILE).stat().st_ino
        assert list_locks(tmp_path / LEDGER_FILE, os.getpid())
        with Ledger(tmp_path), Ledger(tmp_path, read_only=True):
            pass
        assert list_locks(tmp_path / LEDGER_FILE, os.getpid())
    # An attempt to create the existing file fails, and leaves no descriptor to close.
    assert set(list_touched()) <= {("open", LEDGER_FILE)}
    assert (tmp_path / LEDGER_FILE).stat().st_ino == inode


def test_a_reader_does_not_create_a_ledger(tmp_path):
    """
    A process that only reads creates no file.
    """
    with pytest.raises(LedgerError, match="unable to open"):
        Ledger(tmp_path, read_only=True)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found", ["nothing", "an empty file", "an old ledger"])
def test_four_processes_begin_at_once(tmp_path, found):
    """
    Whatever exists, each of four processes that open the ledger at the same time succeeds, and it is migrated once.
    """
    if found == "an empty file":
        (tmp_path / LEDGER_FILE).touch(0o600)
    elif found == "an old ledger":
        with closing(sqlite3.connect(tmp_path / LEDGER_FILE, isolation_level=None)) as old:
            old.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
            old.execute("INSERT INTO account (name, portal, zone, login) VALUES ('home', 'brook', 'UTC', '')")
    body = """
        print("ready", flush=True)
        sys.stdin.readline()
        with Ledger(folder) as ledger: print(ledger.open_account("home", portal="brook", zone="UTC", login="").readings)
    """
    command = [*source(body), str(tmp_path)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(4)
        ]
        assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * 4
        for process in processes:
            assert process.stdin
            process.stdin.close()
        outputs = [process.stdout.read() for process in processes if process.stdout]

    assert outputs == ["0\n"] * 4
    with closing(sqlite3.connect(tmp_path / LEDGER_FILE)) as connection:
        pragmas = [connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("user_version", "journal_mode", "auto_vacuum")]
        assert pragmas == [SCHEMA_VERSION, "wal", 2]


LARGE = (
    "WITH RECURSIVE n(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM n WHERE n < 40000) SELECT 1, n, zeroblob(1000), 0, 1 FROM n"
)
"""Rows of a reading table that make 40 MB."""


def test_a_large_old_file_is_rewritten_in_little_memory(tmp_path):
    """
    Migrating a file of the first version needs much less memory than the file's size, and leaves a short log and no other
    file.
    """
    with closing(sqlite3.connect(tmp_path / LEDGER_FILE, isolation_level=None)) as old:
        old.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1; INSERT INTO reading {LARGE};")
    body = """
        from resource import RUSAGE_SELF, getrusage
        before = getrusage(RUSAGE_SELF).ru_maxrss
        with Ledger(folder):
            print(getrusage(RUSAGE_SELF).ru_maxrss - before, *sorted(one.name for one in folder.iterdir()))
    """
    done = subprocess.run([*source(body), str(tmp_path)], capture_output=True, text=True, check=True)
    kilobytes, *files = done.stdout.split()

    assert int(kilobytes) < 20_000
    assert files == [LEDGER_FILE, f"{LEDGER_FILE}-shm", f"{LEDGER_FILE}-wal"]
    with closing(sqlite3.connect(tmp_path / LEDGER_FILE)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_the_log_becomes_short_again(tmp_path):
    """
    After a large transaction the log is truncated at the next one.
    """
    log = tmp_path / f"{LEDGER_FILE}-wal"
    with Ledger(tmp_path) as ledger:
        with ledger.database.write() as db:
            db.execute(f"INSERT INTO reading {LARGE}")
        assert log.stat().st_size > 2 * MAX_LOG_BYTES
        ledger.open_account("home", portal="brook", zone="UTC", login="")

        assert log.stat().st_size <= MAX_LOG_BYTES
