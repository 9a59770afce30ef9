"""The ledger's table of readings compared with a bare SQLite table: half-hours of many meters in, and asked again."""

import gc
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.results import Figure, Report
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import write_readings

HALF_HOUR, DAY = 1_800_000, 86_400_000
FIRST = 1_700_000_000_000 // DAY * DAY
ROWS = 2_000_000
"""About so many are written at each size; of few meters three years."""
MAX_DAYS = 3 * 365
BARE_TABLE = "CREATE TABLE reading (series INTEGER, at INTEGER, value REAL, PRIMARY KEY (series, at)) WITHOUT ROWID"
UPSERT = "INSERT INTO reading VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value WHERE value != excluded.value"
SELECT_DAY = "SELECT at, value FROM reading WHERE series = ? AND at >= ? AND at < ?"
SELECT_NEWEST = "SELECT at, value FROM reading WHERE series = ? ORDER BY at DESC LIMIT 1"
RATIO_NAMES = {
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
        days = max(4, min(MAX_DAYS, ROWS // meters // 48))
        for who, measure_table in (("ours", _measure_ledger), ("bare", _measure_bare_table)):
            with tempfile.TemporaryDirectory() as folder:
                report.figures += [
                    Figure(f"{who}: {what}", meters, value) for what, value in measure_table(Path(folder), meters, days)
                ]
    for what, title in RATIO_NAMES.items():
        above, below = ("bare", "ours") if what.startswith("in") else ("ours", "bare")
        report.goals.append(
            report.check_ratio(f"{title}, 1,000 meters", f"{above}: {what}", f"{below}: {what}", maximum=1.5, size=1000)
        )
    return report


def generate_rows(meters: int, first: int, days: int) -> Iterator[tuple[int, int, float]]:
    """Series, instant and value, day by day as portals report them."""
    rng = random.Random(1)  # the same values whenever a day is generated
    values = [round(rng.uniform(0, 3), 3) for _ in range(997)]
    for day in range(first, first + days):
        for meter in range(1, meters + 1):
            for step in range(48):
                yield meter, FIRST + day * DAY + step * HALF_HOUR, values[(meter * 31 + step + day) % 997]


def _measure_ledger(folder: Path, meters: int, days: int) -> Iterator[tuple[str, float]]:
    with Ledger(folder) as ledger, ledger.database.write() as db:
        db.execute("INSERT INTO account (name, portal, zone, login) VALUES ('a', 'brook', 'UTC', '')")
        db.execute("INSERT INTO visit (account, at) VALUES (1, 0)")
    with Ledger(folder) as ledger:
        statement = "INSERT INTO reading VALUES (?, ?, ?, 1800, 1)"

        def fill() -> None:
            with ledger.database.write() as db:
                db.executemany(statement, generate_rows(meters, 0, days))

        def again() -> None:
            with ledger.database.write() as db:
                done = write_readings(
                    db, ((*row, 1800) for row in generate_rows(meters, days - 2, 2)), lambda: 1, is_import=False
                )
            assert (done.new, done.corrected) == (0, 0)

        yield from _measure_fill(folder / "ledger.sqlite", fill, meters, days)
        with ledger.database.read() as db:
            yield from _measure_queries(db, meters, days)
        yield "two days of all told again, ms", _time_cpu(again) * 1000


def _measure_bare_table(folder: Path, meters: int, days: int) -> Iterator[tuple[str, float]]:
    db = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -8192"):
        db.execute(f"PRAGMA {pragma}")
    db.execute(BARE_TABLE)

    def put(statement: str, first: int, count: int) -> None:
        db.execute("BEGIN")
        db.executemany(statement, generate_rows(meters, first, count))
        db.execute("COMMIT")

    yield from _measure_fill(folder / "bare.sqlite", lambda: put("INSERT INTO reading VALUES (?, ?, ?)", 0, days), meters, days)
    yield from _measure_queries(db, meters, days)
    yield "two days of all told again, ms", _time_cpu(lambda: put(UPSERT, days - 2, 2)) * 1000
    db.close()


def _measure_fill(file: Path, fill: Callable[[], None], meters: int, days: int) -> Iterator[tuple[str, float]]:
    count = meters * days * 48
    making = _time_cpu(lambda: sum(1 for _ in generate_rows(meters, 0, days)))
    yield "in, rows a second", count / (_time_cpu(fill) - making)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    yield "bytes a row", file.stat().st_size / count


def _measure_queries(db: sqlite3.Connection, meters: int, days: int) -> Iterator[tuple[str, float]]:
    rng, durations = random.Random(1), []
    for _ in range(200):
        meter, day = rng.randint(1, meters), FIRST + rng.randrange(days) * DAY
        durations.append(_time_cpu(lambda at=day, of=meter: db.execute(SELECT_DAY, (of, at, at + DAY)).fetchall()))  # type: ignore[misc]
    yield "a meter's day, ms", median(durations) * 1000
    every = median(
        _time_cpu(lambda: [db.execute(SELECT_NEWEST, (meter,)).fetchone() for meter in range(1, meters + 1)]) for _ in range(3)
    )
    yield "the newest of all, ms", every * 1000


def _time_cpu(work: Callable[[], object]) -> float:
    """Return the seconds of CPU, without waiting for the disk and other programs."""
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started
