"""The ledger beside other processes, and killed: `python -m benchmarks.beside [--kills N] [--seed N] [--program FOLDER]`.

`serve` visits a simulated portal every second. Beside it, in random order and without pause, run the commands that share its
ledger, the documented backup, remote reads, reloads, and remote write to a receiver that records what it accepted; `serve` is
killed at random moments, sometimes while it starts, and so are some of the commands. `--program` names another copy of this
repository, whose exporter is tried instead.
"""

import argparse
import asyncio
import os
import random
import re
import shlex
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from tests.history.remote_read_client import MAX_TIME, MIN_TIME, build_request, post_request
from tests.history.remote_write_receiver import StrictReceiver
from tests.test_process import Program, launched

ROOT = Path(__file__).parent.parent
ACCOUNT = "block-of-flats"
FAST_PROGRAM = """
import sys
from datetime import timedelta
from exporter import poller
from exporter.history import remote_write_sender
from exporter.portals.base import AccountConfig
poller.MIN_VISIT_GAP = poller.CRASH_RETRY_DELAY = AccountConfig.min_every = timedelta(seconds=1)
remote_write_sender.POLL_INTERVAL = remote_write_sender.SETTLE_INTERVAL = timedelta(seconds=1)
from exporter.cli import main
sys.exit(main())
"""
"""The program, with intervals of a second for visits and remote write."""
PROGRAM = sys.executable, "-c", FAST_PROGRAM
SERVE_SECONDS = 0.3, 4.0
"""How many seconds `serve` runs once it is ready."""
STARTUP_KILL_RATIO, COMMAND_KILL_RATIO = 0.2, 0.1
"""The share of kills that come before `serve` is ready, and of commands that are killed."""
KILL_SECONDS = 0.2, 1.5
"""How many seconds those run."""
CLOCK_SPEED = 1800
"""Speed of the portal's clock relative to ours, so that every visit finds new readings."""
CLOCK_LAG = timedelta(days=20)
"""How far the portal's clock is behind ours at the start."""
IMPORT_DAYS_AGO = 60, 30
"""The range of days ago that is imported."""
IMPORT_DAYS = 2
"""How many days one import covers."""
INDEX = re.compile(r'^utility_\w*index_\w+\{[^}]*register="(\d+)"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass
class TrialResult:
    """What was done, and what went wrong."""

    kills: int = 0
    killed_commands: int = 0
    """Commands that were killed."""
    commands: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """Failed commands and starts, with the last line of their output, and violations found by the receiver."""
    checks: int = 0
    """How often the open files and locks of the running `serve` were checked."""
    deleted: int = 0
    """Checks at which it had a deleted file of its ledger open."""
    unlocked: int = 0
    """Checks at which it had no lock on its ledger."""
    integrity_failures: int = 0
    """Failed checks of the ledger's integrity, one after each kill and after the stop."""
    set_aside: int = 0
    """Ledgers that a start has found damaged."""
    bad_backups: int = 0
    """Backups that are damaged, or lack what was on the page before they were begun."""
    shown: int = 0
    shown_missing: int = 0
    """Values that were ever on the page, and those that are not in the ledger in the end."""
    acknowledged: int = 0
    acknowledged_missing: int = 0
    """Samples that the receiver has accepted, and those that are not in the ledger in the end."""
    imported: int = 0
    imported_missing: int = 0
    """Readings that imports reported, and those that are not in the ledger in the end."""

    def format_table(self) -> str:
        """Return the result as a table."""
        rows = {
            "kills": self.kills,
            "commands killed": self.killed_commands,
            "commands beside": sum(self.commands.values()),
            "commands, starts and requests that failed": len(self.failed),
            "checks of open files and locks": self.checks,
            "checks with a deleted file open": self.deleted,
            "checks without a lock on the ledger": self.unlocked,
            "integrity checks that failed": self.integrity_failures,
            "ledgers set aside as damaged": self.set_aside,
            "backups that are not whole": self.bad_backups,
            "values that were on the page": self.shown,
            "of these missing": self.shown_missing,
            "samples acknowledged by the receiver": self.acknowledged,
            "of these missing ": self.acknowledged_missing,
            "readings imported": self.imported,
            "of these missing  ": self.imported_missing,
        }
        return "".join(f"{name.rstrip()} | {count:,}\n" for name, count in rows.items())


class Trial:
    """One run, in a folder of its own."""

    def __init__(self, folder: Path, seed: int, program: Path, portal: CemSimulation, receiver: StrictReceiver) -> None:
        self.result = TrialResult()
        self._folder, self._ledger = folder, folder / "data" / "ledger.sqlite"
        self._command_rng, self._serve_rng = random.Random(seed), random.Random(seed + 1)
        """For the commands, and for how long `serve` runs: each sequence is reproducible, however fast the other one proceeds."""
        self._env = os.environ | {"PYTHONPATH": str(program), "PYTHONWARNINGS": "error"}
        self._portal, self._receiver = portal, receiver
        self._serving: Program | None = None
        self._shown: set[tuple[str, float]] = set()
        self._imported_spans: set[tuple[date, date]] = set()
        self._entry: dict[str, Any] = {}
        self._write_url = ""
        self._steps: dict[str, Callable[[], Awaitable[object]]] = {
            "history export": self._export,
            "two imports at once": self._import_twice,
            "visit": lambda: self._run_command("visit", ACCOUNT),
            "discover": lambda: self._run_command("discover", ACCOUNT),
            "raw": lambda: self._run_command("raw", ACCOUNT, "meters"),
            "history resend": lambda: self._run_command(
                "history", "resend", *self._command_rng.choice([(), ("--from", str(_days_ago(10)))])
            ),
            "reload": self._reload,
            "backup": self._back_up,
            "remote read": self._read,
        }

    async def run(self, urls: tuple[str, str], kills: int) -> TrialResult:
        """Kill `serve` `kills` times, run each command beside it at least once; then stop it, and count."""
        self._entry, self._write_url = self._portal.build_accounts(urls[0])[0], urls[1]
        self._configure()
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            beside = tasks.create_task(self._run_commands(over))
            while self.result.kills < kills or len(self.result.commands) < len(self._steps):
                await self._run_serve(signal.SIGKILL)
                self.result.kills += 1
            over.set()
            await self._run_serve(signal.SIGTERM)
            await beside
            watching.cancel()
        await asyncio.to_thread(self._count)
        return self.result

    async def _run_serve(self, end: signal.Signals) -> None:
        """Let `serve` live for a while; check what it leaves."""
        try:
            if end is signal.SIGKILL and self._serve_rng.random() < STARTUP_KILL_RATIO:
                seconds = self._serve_rng.uniform(*KILL_SECONDS)
                command = (*PROGRAM, "serve", "--web.listen-address=127.0.0.1:0")
                await self._execute(*command, label=("serve",), kill_after=seconds)
            else:
                await self._run_until_ready(end)
        except AssertionError as error:
            self.result.failed.append(f"serve: {error}")
        if fault := await asyncio.to_thread(_find_fault, self._ledger):
            self.result.integrity_failures += 1
            self.result.failed.append(f"integrity: {fault}")

    async def _run_until_ready(self, end: signal.Signals) -> None:
        async with self._start_serve() as program:
            await asyncio.sleep(self._serve_rng.uniform(*SERVE_SECONDS))
            await self._record_page(program)
            self._serving = None
            await program.stop(end)

    @asynccontextmanager
    async def _start_serve(self) -> AsyncIterator[Program]:
        async with launched("serve", env=self._env, folder=self._folder, program=PROGRAM) as program:
            try:
                self._serving = program
                yield program
            finally:
                self._serving = None

    async def _record_page(self, program: Program) -> set[tuple[str, float]]:
        """Record each value of the page with its register."""
        found = {(register, float(value)) for register, value in INDEX.findall(await program.page())}
        self._shown |= found
        return found

    async def _watch(self) -> None:
        """Check the open files and locks of the running `serve` repeatedly."""
        while True:
            await asyncio.sleep(0.1)
            if self._serving and self._serving.process.returncode is None:
                pid = self._serving.process.pid
                self.result.checks += 1
                self.result.deleted += any(map(_has_deleted, [pid, *_list_children(pid)]))
                self.result.unlocked += not _has_lock(pid, self._ledger)

    async def _run_commands(self, over: asyncio.Event) -> None:
        """Do everything in random order, again and again."""
        while not over.is_set():
            for name in self._command_rng.sample(list(self._steps), len(self._steps)):
                if not over.is_set():
                    await self._steps[name]()
                    self.result.commands[name] = self.result.commands.get(name, 0) + 1

    async def _run_command(self, *words: str) -> bool:
        """Run a command of the program, sometimes killed; return whether it finished."""
        seconds = self._command_rng.uniform(*KILL_SECONDS) if self._command_rng.random() < COMMAND_KILL_RATIO else None
        self.result.killed_commands += seconds is not None
        return await self._execute(*PROGRAM, *words, label=words, kill_after=seconds)

    async def _execute(self, *command: str, label: tuple[str, ...], kill_after: float | None = None) -> bool:
        """Run a program, killed after so many seconds; return whether it succeeded."""
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self._folder, env=self._env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        error = b""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(kill_after):
                    _, error = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode not in (0, -signal.SIGKILL):
            self.result.failed.append(f"{' '.join(label)}: {(error.decode().splitlines() or [''])[-1]}")
        return not process.returncode

    async def _export(self) -> None:
        await self._run_command("history", "export", "-o", "history.om")

    async def _import_twice(self) -> None:
        spans = []
        for _ in range(2):
            first = _days_ago(self._command_rng.randint(IMPORT_DAYS_AGO[1] + IMPORT_DAYS, IMPORT_DAYS_AGO[0]))
            spans.append((first, first + timedelta(days=IMPORT_DAYS - 1)))
        asked = [self._run_command("history", "import", ACCOUNT, f"--from={first}", f"--to={last}") for first, last in spans]
        for span, good in zip(spans, await asyncio.gather(*asked), strict=True):
            if good:
                self._imported_spans.add(span)

    async def _reload(self) -> None:
        self._configure()
        if program := self._serving:
            with suppress(ProcessLookupError):
                program.process.send_signal(signal.SIGHUP)

    async def _back_up(self) -> None:
        before = set[tuple[str, float]]()
        with suppress(aiohttp.ClientError):
            before = await self._record_page(self._serving) if self._serving else before
        copy = self._folder / "backup.sqlite"
        copy.unlink(missing_ok=True)
        command = shlex.split(read_backup_command())
        arguments = {"python3": sys.executable, "data/ledger.sqlite": str(self._ledger), "backup.sqlite": str(copy)}
        if await self._execute(*(arguments.get(word, word) for word in command), label=("backup",)):
            stored = await asyncio.to_thread(_select_readings, copy)
            fault = await asyncio.to_thread(_find_fault, copy)
            self.result.bad_backups += bool(fault) or not before <= {one[::2] for one in stored}

    async def _read(self) -> None:
        if program := self._serving:
            everything = build_request((MIN_TIME, MAX_TIME, [(2, "__name__", "utility_measured_.+")]))
            with suppress(aiohttp.ClientError):  # it may be killed meanwhile
                async with aiohttp.ClientSession() as client:
                    status, body = await post_request(client, program.url, everything)
                if status != 200:
                    self.result.failed.append(f"remote read: {status} {body.decode(errors='replace')}")

    def _configure(self) -> None:
        """Write a configuration with another alias and another bound of remote read, in one step."""
        number = self._command_rng.randint(1, 9)
        account = self._entry | {"every": "1s", "aliases": {"70001": f"Tap {number}"}}
        history = {"max_samples": 1_000_000 + number, "remote_write": [{"url": self._write_url, "name": "store"}]}
        new = self._folder / "config.yaml.new"
        new.write_text(yaml.safe_dump({"accounts": [account], "history": history}))
        new.chmod(0o600)
        new.replace(self._folder / "config.yaml")

    def _count(self) -> None:
        """Compare what the ledger has with what was shown, acknowledged and imported."""
        result, kept = self.result, _select_readings(self._ledger)
        by_instant = {one[:2] for one in kept}
        accepted = {
            (dict(labels)["register"], at, value)
            for labels, samples in self._receiver.samples.items()
            for at, value in samples.items()
        }
        imported = {
            (register, round(at.timestamp() * 1000))
            for register in {one[0] for one in kept}
            for first, last in self._imported_spans
            for at, _ in self._portal.list_readings(int(register), _noon(first), _noon(last))
        }
        result.shown, result.shown_missing = len(self._shown), len(self._shown - {one[::2] for one in kept})
        result.acknowledged, result.acknowledged_missing = len(accepted), len(accepted - kept)
        result.imported, result.imported_missing = len(imported), len(imported - by_instant)
        result.set_aside = len(list(self._ledger.parent.glob("ledger.sqlite.damaged-*[0-9]")))


def read_backup_command() -> str:
    """Return the backup command of docs/install.md."""
    (line,) = re.findall(r"^python3 -c .*VACUUM INTO.*$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    return str(line)


def _days_ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days)


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def _find_fault(file: Path) -> str:
    """Return what is wrong with a ledger; nothing with one that nobody has created."""
    if not file.exists():
        return ""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=30)) as db:
            found = str(db.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else found


def _select_readings(file: Path) -> set[tuple[str, int, float]]:
    """Return register, timestamp in the history and value of all readings, those calculated from them and corrected ones too."""
    timestamp = "CASE form WHEN 'index' THEN at ELSE at + one.span * 1000 - 1 END"
    query = f"SELECT register, {timestamp}, value FROM {{}} AS one JOIN series ON series.id = one.series"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=30)) as db:
        return {row for table in ("reading", "correction") for row in db.execute(query.format(table))}
    return set()


def _list_children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
    return []


def _has_deleted(pid: int) -> bool:
    """Return whether a process has a deleted file of the ledger open."""
    found = []
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return any("ledger.sqlite" in name and name.endswith("(deleted)") for name in found)


def _has_lock(pid: int, file: Path) -> bool:
    """Return whether a process has a lock on a file, by /proc/locks."""
    with suppress(FileNotFoundError):
        inode = file.stat().st_ino
        lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
        return any((f"{pid}", f"{inode}") == (words[-4], words[-3].rpartition(":")[2]) for words in lines)
    return False


async def run_trial(folder: Path, kills: int, seed: int, program: Path = ROOT) -> TrialResult:
    """Run one trial."""
    begun, started = datetime.now(UTC) - CLOCK_LAG, time.monotonic()

    def clock() -> datetime:
        return min(begun + timedelta(seconds=(time.monotonic() - started) * CLOCK_SPEED), datetime.now(UTC))

    portal, receiver = CemSimulation(clock), StrictReceiver(lambda: datetime.now(UTC))
    portal.token_lifetime = timedelta(days=400)
    async with run_simulation(portal) as url, run_simulation(receiver) as store:  # type: ignore[arg-type]  # only its app is needed
        result = await Trial(folder, seed, program, portal, receiver).run((url, f"{store}/api/v1/write"), kills)
    result.failed += [f"remote write: {fault}" for fault in receiver.violations]
    return result


def main() -> None:
    """Print the result."""
    flags = argparse.ArgumentParser(prog="benchmarks.beside", description=__doc__)
    flags.add_argument("--kills", type=int, default=50)
    flags.add_argument("--seed", type=int, default=14)
    flags.add_argument("--program", type=Path, default=ROOT)
    asked = flags.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(run_trial(Path(folder), asked.kills, asked.seed, asked.program.absolute()))
    sys.stdout.write(f"what | count\n--- | ---\n{result.format_table()}\n{time.monotonic() - started:.0f} s\n")
    sys.stdout.write("".join(f"{line}\n" for line in result.failed))


if __name__ == "__main__":
    main()
