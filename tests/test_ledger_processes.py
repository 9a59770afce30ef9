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
    from tests.test_ledger import AT, day, kept, record
    folder = pathlib.Path(sys.argv[1])
"""
LIVING = """
    ledger = Ledger(folder)
    ledger.lock_folder()
    ledger.open_account("home", portal="brook", zone="UTC", login="")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(ledger.snapshot()).select_zones()
    for number, _ in enumerate(sys.stdin, 1):
        record(ledger, day(number, float(number)))
        print(len(kept(ledger)), flush=True)
    ledger.close()
"""
PASSING = {
    "a command": "with Ledger(folder) as ledger: print(len(list(kept(ledger))))",
    "a read-only one": "with Ledger(folder, read_only=True) as ledger: print(len(list(kept(ledger))))",
}


def source(body: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(HEAD) + textwrap.dedent(body)]


@contextmanager
def living(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the ledger as `serve` does, and writes one more day for each line it is given."""
    command = [*source(LIVING), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def write_one(process: subprocess.Popen[str]) -> int:
    """Have the living process write a day; gives how many it sees itself."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def locks(file: Path, pid: int) -> list[str]:
    """Give the locks a process has on a file."""
    return [
        line
        for line in Path("/proc/locks").read_text().splitlines()
        if line.split()[4] == str(pid) and line.split()[5].endswith(f":{file.stat().st_ino}")
    ]


def deleted(folder: Path, pid: int) -> list[str]:
    """Give the files of a folder that a process has open and that are no longer there."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.startswith(str(folder)) and link.endswith("(deleted)")]


@pytest.mark.parametrize("other", PASSING)
def test_the_ledger_of_a_living_process(tmp_path, other):
    """
    While one process has the ledger open with several connections, others come and go: it keeps its lock, no file goes from
    under it, and what it writes afterwards is seen by the next.
    """
    with living(tmp_path) as process:
        write_one(process)
        for number in range(1, 4):
            done = subprocess.run([*source(PASSING[other]), str(tmp_path)], capture_output=True, text=True, check=False)
            assert (done.stdout, done.stderr) == (f"{number}\n", "")
            assert locks(tmp_path / LEDGER_FILE, process.pid)
            assert deleted(tmp_path, process.pid) == []
            assert write_one(process) == number + 1
        process.kill()
        process.wait()
    with Ledger(tmp_path) as ledger, ledger.database.read() as db:
        assert db.execute("SELECT count(*) FROM reading").fetchone() == (4,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_but_sqlite_opens_the_ledger(tmp_path, monkeypatch):
    """
    Of all that Python opens, renames or removes, the ledger's files are none once the file is made: closing one would drop
    SQLite's locks.
    """
    touched = list[tuple[str, str]]()

    def watch(place: Any, name: str) -> None:
        plain = getattr(place, name)

        def watched(*arguments: Any, **keys: Any) -> Any:
            touched.extend((name, Path(os.fsdecode(one)).name) for one in arguments[:2] if isinstance(one, str | bytes | Path))
            return plain(*arguments, **keys)

        monkeypatch.setattr(place, name, watched)

    for name in ("open", "rename", "replace", "remove", "unlink", "link", "truncate"):
        watch(os, name)
    watch(builtins, "open")

    def ours() -> list[tuple[str, str]]:
        found = [one for one in touched if one[1] in {LEDGER_FILE, f"{LEDGER_FILE}-wal", f"{LEDGER_FILE}-shm"}]
        touched.clear()
        return found

    with Ledger(tmp_path) as ledger:
        assert ours() == [("open", LEDGER_FILE)]
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
        assert locks(tmp_path / LEDGER_FILE, os.getpid())
        with Ledger(tmp_path), Ledger(tmp_path, read_only=True):
            pass
        assert locks(tmp_path / LEDGER_FILE, os.getpid())
    # What tries to make the file makes nothing, and has no descriptor of it to close.
    assert set(ours()) <= {("open", LEDGER_FILE)}
    assert (tmp_path / LEDGER_FILE).stat().st_ino == inode


def test_a_ledger_that_is_gone_is_not_begun_anew_by_a_reader(tmp_path):
    """
    A process that only reads makes no file.
    """
    with pytest.raises(LedgerError, match="unable to open"):
        Ledger(tmp_path, read_only=True)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found", ["nothing", "an empty file", "an old ledger"])
def test_four_processes_begin_at_once(tmp_path, found):
    """
    Whatever is there, each of four processes that open the ledger in one moment has it, brought up to the present form once.
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
        begun = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(4)
        ]
        assert [process.stdout.readline() for process in begun if process.stdout] == ["ready\n"] * 4
        for process in begun:
            assert process.stdin
            process.stdin.close()
        said = [process.stdout.read() for process in begun if process.stdout]

    assert said == ["0\n"] * 4
    with closing(sqlite3.connect(tmp_path / LEDGER_FILE)) as made:
        found_now = [made.execute(f"PRAGMA {what}").fetchone()[0] for what in ("user_version", "journal_mode", "auto_vacuum")]
        assert found_now == [SCHEMA_VERSION, "wal", 2]


LARGE = (
    "WITH RECURSIVE n(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM n WHERE n < 40000) SELECT 1, n, zeroblob(1000), 0, 1 FROM n"
)
"""Rows of a reading table that make 40 MB."""


def test_a_large_old_file_is_written_anew_in_little_memory(tmp_path):
    """
    Bringing a file of the oldest form up to the present one takes no memory of the file's size, and leaves a short log and
    nothing beside it.
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
    with closing(sqlite3.connect(tmp_path / LEDGER_FILE)) as made:
        assert made.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_the_log_becomes_short_again(tmp_path):
    """
    After a transaction larger than most the log is cut at the next one.
    """
    log = tmp_path / f"{LEDGER_FILE}-wal"
    with Ledger(tmp_path) as ledger:
        with ledger.database.write() as db:
            db.execute(f"INSERT INTO reading {LARGE}")
        assert log.stat().st_size > 2 * MAX_LOG_BYTES
        ledger.open_account("home", portal="brook", zone="UTC", login="")

        assert log.stat().st_size <= MAX_LOG_BYTES
