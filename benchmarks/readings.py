"""The ledger's table of readings beside the least that SQLite can do: half-hours of many meters in, and asked again."""

import gc
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Report
from exporter.ledger import Ledger
from exporter.ledger.sorting import write

HALF_HOUR, DAY = 1_800_000, 86_400_000
FIRST = 1_700_000_000_000 // DAY * DAY
ROWS = 2_000_000
"""About so many are written at each size; of few meters three years."""
LONGEST = 3 * 365
BARE = "CREATE TABLE reading (series INTEGER, at INTEGER, value REAL, PRIMARY KEY (series, at)) WITHOUT ROWID"
UPSERT = "INSERT INTO reading VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value WHERE value != excluded.value"
DAY_OF_ONE = "SELECT at, value FROM reading WHERE series = ? AND at >= ? AND at < ?"
NEWEST = "SELECT at, value FROM reading WHERE series = ? ORDER BY at DESC LIMIT 1"
RATIOS = {
    "in, rows a second": "rows in, bare to ours",
    "bytes a row": "room, ours to bare",
    "a meter's day, ms": "a meter's day, ours to bare",
    "the newest of all, ms": "the newest of all, ours to bare",
    "two days of all told again, ms": "two days of all told again, ours to bare",
}


def measure(sizes: Sequence[int]) -> Report:
    """Fill tables of so many meters."""
    report = Report("Ledger", "half-hours of so many meters, by CPU time; a bare table has series, instant and value")
    for meters in sizes:
        days = max(4, min(LONGEST, ROWS // meters // 48))
        for who, made in (("ours", _ours), ("bare", _bare)):
            with tempfile.TemporaryDirectory() as folder:
                report.figures += [Figure(f"{who}: {what}", meters, value) for what, value in made(Path(folder), meters, days)]
    for what, said in RATIOS.items():
        above, below = ("bare", "ours") if what.startswith("in") else ("ours", "bare")
        report.goals.append(report.ratio(f"{said}, 1,000 meters", f"{above}: {what}", f"{below}: {what}", most=1.5, size=1000))
    return report


def rows(meters: int, first: int, days: int) -> Iterator[tuple[int, int, float]]:
    """Series, instant and value, day by day as portals tell them."""
    chance = random.Random(1)  # the same values whenever a day is told
    values = [round(chance.uniform(0, 3), 3) for _ in range(997)]
    for day in range(first, first + days):
        for meter in range(1, meters + 1):
            for step in range(48):
                yield meter, FIRST + day * DAY + step * HALF_HOUR, values[(meter * 31 + step + day) % 997]


def _ours(folder: Path, meters: int, days: int) -> Iterator[tuple[str, float]]:
    with Ledger(folder) as ledger, ledger.store.write() as db:
        db.execute("INSERT INTO account (name, portal, zone, login) VALUES ('a', 'brook', 'UTC', '')")
        db.execute("INSERT INTO visit (account, at) VALUES (1, 0)")
    with Ledger(folder) as ledger:
        statement = "INSERT INTO reading VALUES (?, ?, ?, 1800, 1)"

        def fill() -> None:
            with ledger.store.write() as db:
                db.executemany(statement, rows(meters, 0, days))

        def again() -> None:
            with ledger.store.write() as db:
                done = write(db, ((*row, 1800) for row in rows(meters, days - 2, 2)), lambda: 1, past=False)
            assert (done.new, done.corrected) == (0, 0)

        yield from _filled(folder / "ledger.sqlite", fill, meters, days)
        with ledger.store.read() as db:
            yield from _asked(db, meters, days)
        yield "two days of all told again, ms", _took(again) * 1000


def _bare(folder: Path, meters: int, days: int) -> Iterator[tuple[str, float]]:
    db = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -8192"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(BARE)

    def put(statement: str, first: int, count: int) -> None:
        db.execute("BEGIN")
        db.executemany(statement, rows(meters, first, count))
        db.execute("COMMIT")

    yield from _filled(folder / "bare.sqlite", lambda: put("INSERT INTO reading VALUES (?, ?, ?)", 0, days), meters, days)
    yield from _asked(db, meters, days)
    yield "two days of all told again, ms", _took(lambda: put(UPSERT, days - 2, 2)) * 1000
    db.close()


def _filled(file: Path, fill: Callable[[], None], meters: int, days: int) -> Iterator[tuple[str, float]]:
    count = meters * days * 48
    making = _took(lambda: sum(1 for _ in rows(meters, 0, days)))
    yield "in, rows a second", count / (_took(fill) - making)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    yield "bytes a row", file.stat().st_size / count


def _asked(db: sqlite3.Connection, meters: int, days: int) -> Iterator[tuple[str, float]]:
    chance, taken = random.Random(1), []
    for _ in range(200):
        meter, day = chance.randint(1, meters), FIRST + chance.randrange(days) * DAY
        taken.append(_took(lambda at=day, of=meter: db.execute(DAY_OF_ONE, (of, at, at + DAY)).fetchall()))  # type: ignore[misc]
    yield "a meter's day, ms", median(taken) * 1000
    every = median(_took(lambda: [db.execute(NEWEST, (meter,)).fetchone() for meter in range(1, meters + 1)]) for _ in range(3))
    yield "the newest of all, ms", every * 1000


def _took(work: Callable[[], object]) -> float:
    """Give the seconds of CPU: the disk and other programs are left out."""
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started
