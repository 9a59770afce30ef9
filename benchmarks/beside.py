"""The ledger beside other processes, and killed: `python -m benchmarks.beside [--kills N] [--seed N] [--program FOLDER]`.

`serve` visits a simulated portal every second. Beside it, in random order and without rest, run the commands that share its
ledger, the documented backup, remote reads, reloads, and remote write to a receiver that remembers what it has taken; and
`serve` is killed at random moments, now and then while it starts, and so is a command now and then. `--program` names another
copy of this repository, whose exporter is tried instead.
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

from exporter.demo.base import running
from exporter.demo.cem import CemSimulation
from tests.history.asking import FIRST, LAST, post, request
from tests.history.receiver import StrictReceiver
from tests.test_process import Program, launched

ROOT = Path(__file__).parent.parent
ACCOUNT = "block-of-flats"
HURRIED = """
import sys
from datetime import timedelta
from exporter import poller
from exporter.history import send
from exporter.portals.base import Portal
poller.SOONEST = poller.BEGUN = Portal.least_every = timedelta(seconds=1)
send.LOOK = send.SETTLE = timedelta(seconds=1)
from exporter.__main__ import main
sys.exit(main())
"""
"""The program, which may visit every second and looks as often for what is to be sent."""
PROGRAM = sys.executable, "-c", HURRIED
LIFE = 0.3, 4.0
"""How many seconds `serve` lives once it is ready."""
EARLY, CUT_SHORT = 0.2, 0.1
"""How many of the kills come before it is ready, and how many of the commands are killed."""
START = 0.2, 1.5
"""How many seconds those live."""
FASTER = 1800
"""How many times as fast as ours the portal's clock goes, so that there is something new at every visit."""
LATE = timedelta(days=20)
"""How far behind ours the portal's clock is at first."""
PAST = 60, 30
"""Days ago between which imports bring home the past."""
IMPORTED = 2
"""How many days an import brings home."""
INDEX = re.compile(r'^utility_\w*index_\w+\{[^}]*register="(\d+)"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass
class Figures:
    """What was done, and what went wrong."""

    kills: int = 0
    cut_short: int = 0
    """Commands that were killed."""
    commands: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """Commands and starts that failed, with what they said last, and what the receiver found wrong with a request."""
    looks: int = 0
    """How often open files and locks of the living `serve` were looked at."""
    deleted: int = 0
    """Looks at which it had a file of its ledger open that no name led to."""
    unlocked: int = 0
    """Looks at which it had no lock on its ledger."""
    broken: int = 0
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
    """Samples that the receiver has taken, and those that are not in the ledger in the end."""
    imported: int = 0
    imported_missing: int = 0
    """Readings that imports said they have brought home, and those that are not in the ledger in the end."""

    def table(self) -> str:
        """Write them down."""
        rows = {
            "kills": self.kills,
            "commands killed": self.cut_short,
            "commands beside": sum(self.commands.values()),
            "commands, starts and requests that failed": len(self.failed),
            "looks at open files and locks": self.looks,
            "looks with a deleted file open": self.deleted,
            "looks without a lock on the ledger": self.unlocked,
            "integrity checks that failed": self.broken,
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
        self.figures = Figures()
        self._folder, self._ledger = folder, folder / "data" / "ledger.sqlite"
        self._chance, self._fate = random.Random(seed), random.Random(seed + 1)
        """What is done beside, and how long `serve` lives: each the same whenever it is tried, however fast the other goes."""
        self._env = os.environ | {"PYTHONPATH": str(program), "PYTHONWARNINGS": "error"}
        self._portal, self._receiver = portal, receiver
        self._serving: Program | None = None
        self._shown: set[tuple[str, float]] = set()
        self._brought: set[tuple[date, date]] = set()
        self._entry: dict[str, Any] = {}
        self._write_url = ""
        self._steps: dict[str, Callable[[], Awaitable[None]]] = {
            "history export": self._export,
            "two imports at once": self._import_twice,
            "visit": lambda: self._command("visit", ACCOUNT),
            "discover": lambda: self._command("discover", ACCOUNT),
            "raw": lambda: self._command("raw", ACCOUNT, "meters"),
            "history resend": lambda: self._command("history", "resend", *self._chance.choice([(), ("--from", str(_ago(10)))])),
            "reload": self._reload,
            "backup": self._back_up,
            "remote read": self._read,
        }

    async def run(self, urls: tuple[str, str], kills: int) -> Figures:
        """Kill `serve` so many times, and do each thing beside it once at least; then let it stop, and count."""
        self._entry, self._write_url = self._portal.accounts(urls[0])[0], urls[1]
        self._configure()
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            beside = tasks.create_task(self._beside(over))
            while self.figures.kills < kills or len(self.figures.commands) < len(self._steps):
                await self._live(signal.SIGKILL)
                self.figures.kills += 1
            over.set()
            await self._live(signal.SIGTERM)
            await beside
            watching.cancel()
        await asyncio.to_thread(self._count)
        return self.figures

    async def _live(self, end: signal.Signals) -> None:
        """Let `serve` live for a while; check what it leaves."""
        try:
            if end is signal.SIGKILL and self._fate.random() < EARLY:
                life = self._fate.uniform(*START)
                await self._execute(*PROGRAM, "serve", "--web.listen-address=127.0.0.1:0", said=("serve",), life=life)
            else:
                await self._live_long(end)
        except AssertionError as error:
            self.figures.failed.append(f"serve: {error}")
        if wrong := await asyncio.to_thread(_wrong, self._ledger):
            self.figures.broken += 1
            self.figures.failed.append(f"integrity: {wrong}")

    async def _live_long(self, end: signal.Signals) -> None:
        async with self._served() as program:
            await asyncio.sleep(self._fate.uniform(*LIFE))
            await self._look_at_page(program)
            self._serving = None
            await program.stop(end)

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[Program]:
        async with launched("serve", env=self._env, folder=self._folder, program=PROGRAM) as program:
            try:
                self._serving = program
                yield program
            finally:
                self._serving = None

    async def _look_at_page(self, program: Program) -> set[tuple[str, float]]:
        """Remember each value of the page with its register."""
        found = {(register, float(value)) for register, value in INDEX.findall(await program.page())}
        self._shown |= found
        return found

    async def _watch(self) -> None:
        """Look at the open files and the locks of the `serve` that lives, again and again."""
        while True:
            await asyncio.sleep(0.1)
            if self._serving and self._serving.process.returncode is None:
                pid = self._serving.process.pid
                self.figures.looks += 1
                self.figures.deleted += any(map(_has_deleted, [pid, *_children(pid)]))
                self.figures.unlocked += not _has_lock(pid, self._ledger)

    async def _beside(self, over: asyncio.Event) -> None:
        """Do everything in random order, again and again."""
        while not over.is_set():
            for name in self._chance.sample(list(self._steps), len(self._steps)):
                if not over.is_set():
                    await self._steps[name]()
                    self.figures.commands[name] = self.figures.commands.get(name, 0) + 1

    async def _command(self, *words: str) -> bool:
        """Run a command of the program, now and then not to its end; tells whether it has done all."""
        life = self._chance.uniform(*START) if self._chance.random() < CUT_SHORT else None
        self.figures.cut_short += life is not None
        return await self._execute(*PROGRAM, *words, said=words, life=life)

    async def _execute(self, *command: str, said: tuple[str, ...], life: float | None = None) -> bool:
        """Run a program, and kill it after its `life`; tells whether it ended well."""
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self._folder, env=self._env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        error = b""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(life):
                    _, error = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode not in (0, -signal.SIGKILL):
            self.figures.failed.append(f"{' '.join(said)}: {(error.decode().splitlines() or [''])[-1]}")
        return not process.returncode

    async def _export(self) -> None:
        await self._command("history", "export", "-o", "history.om")

    async def _import_twice(self) -> None:
        spans = []
        for _ in range(2):
            first = _ago(self._chance.randint(PAST[1] + IMPORTED, PAST[0]))
            spans.append((first, first + timedelta(days=IMPORTED - 1)))
        asked = [self._command("history", "import", ACCOUNT, f"--from={first}", f"--to={last}") for first, last in spans]
        for span, good in zip(spans, await asyncio.gather(*asked), strict=True):
            if good:
                self._brought.add(span)

    async def _reload(self) -> None:
        self._configure()
        if program := self._serving:
            with suppress(ProcessLookupError):
                program.process.send_signal(signal.SIGHUP)

    async def _back_up(self) -> None:
        before = set[tuple[str, float]]()
        with suppress(aiohttp.ClientError):
            before = await self._look_at_page(self._serving) if self._serving else before
        copy = self._folder / "backup.sqlite"
        copy.unlink(missing_ok=True)
        command = shlex.split(backup_command())
        given = {"python3": sys.executable, "data/ledger.sqlite": str(self._ledger), "backup.sqlite": str(copy)}
        if await self._execute(*(given.get(word, word) for word in command), said=("backup",)):
            kept = await asyncio.to_thread(_readings, copy)
            wrong = await asyncio.to_thread(_wrong, copy)
            self.figures.bad_backups += bool(wrong) or not before <= {one[::2] for one in kept}

    async def _read(self) -> None:
        if program := self._serving:
            everything = request((FIRST, LAST, [(2, "__name__", "utility_measured_.+")]))
            with suppress(aiohttp.ClientError):  # it may be killed meanwhile
                async with aiohttp.ClientSession() as client:
                    status, body = await post(client, program.url, everything)
                if status != 200:
                    self.figures.failed.append(f"remote read: {status} {body.decode(errors='replace')}")

    def _configure(self) -> None:
        """Write a configuration with another alias and another bound of remote read, in one step."""
        number = self._chance.randint(1, 9)
        account = self._entry | {"every": "1s", "aliases": {"70001": f"Tap {number}"}}
        history = {"max_samples": 1_000_000 + number, "remote_write": [{"url": self._write_url, "name": "store"}]}
        new = self._folder / "config.yaml.new"
        new.write_text(yaml.safe_dump({"accounts": [account], "history": history}))
        new.chmod(0o600)
        new.replace(self._folder / "config.yaml")

    def _count(self) -> None:
        """Compare what the ledger has with what was shown, acknowledged and imported."""
        figures, kept = self.figures, _readings(self._ledger)
        by_instant = {one[:2] for one in kept}
        taken = {
            (dict(labels)["register"], at, value)
            for labels, samples in self._receiver.kept.items()
            for at, value in samples.items()
        }
        brought = {
            (register, round(at.timestamp() * 1000))
            for register in {one[0] for one in kept}
            for first, last in self._brought
            for at, _ in self._portal.readings(int(register), _noon(first), _noon(last))
        }
        figures.shown, figures.shown_missing = len(self._shown), len(self._shown - {one[::2] for one in kept})
        figures.acknowledged, figures.acknowledged_missing = len(taken), len(taken - kept)
        figures.imported, figures.imported_missing = len(brought), len(brought - by_instant)
        figures.set_aside = len(list(self._ledger.parent.glob("ledger.sqlite.damaged-*[0-9]")))


def backup_command() -> str:
    """Give the line of docs/install.md that makes a backup."""
    (line,) = re.findall(r"^python3 -c .*VACUUM INTO.*$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    return str(line)


def _ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days)


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def _wrong(file: Path) -> str:
    """Say what is wrong with a ledger; nothing is with one that nobody has begun."""
    if not file.exists():
        return ""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=30)) as db:
            found = str(db.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else found


def _readings(file: Path) -> set[tuple[str, int, float]]:
    """Give register, instant and value of all registers' readings, those that were corrected too."""
    query = "SELECT register, at, value FROM {} AS one JOIN series ON series.id = one.series WHERE form = 'index'"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=30)) as db:
        return {row for table in ("reading", "correction") for row in db.execute(query.format(table))}
    return set()


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
    return []


def _has_deleted(pid: int) -> bool:
    """Tell whether a process has a file of the ledger open that has no name any more."""
    found = []
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return any("ledger.sqlite" in name and name.endswith("(deleted)") for name in found)


def _has_lock(pid: int, file: Path) -> bool:
    """Tell whether a process has a lock on a file, as the system lists it."""
    with suppress(FileNotFoundError):
        inode = file.stat().st_ino
        lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
        return any((f"{pid}", f"{inode}") == (words[-4], words[-3].rpartition(":")[2]) for words in lines)
    return False


async def trial(folder: Path, kills: int, seed: int, program: Path = ROOT) -> Figures:
    """Run one trial."""
    begun, started = datetime.now(UTC) - LATE, time.monotonic()

    def clock() -> datetime:
        return min(begun + timedelta(seconds=(time.monotonic() - started) * FASTER), datetime.now(UTC))

    portal, receiver = CemSimulation(clock), StrictReceiver(lambda: datetime.now(UTC))
    portal.life = timedelta(days=400)
    async with running(portal) as url, running(receiver) as store:  # type: ignore[arg-type]  # only its app is needed
        done = await Trial(folder, seed, program, portal, receiver).run((url, f"{store}/api/v1/write"), kills)
    done.failed += [f"remote write: {fault}" for fault in receiver.faults]
    return done


def main() -> None:
    """Print the figures."""
    flags = argparse.ArgumentParser(prog="benchmarks.beside", description=__doc__)
    flags.add_argument("--kills", type=int, default=50)
    flags.add_argument("--seed", type=int, default=14)
    flags.add_argument("--program", type=Path, default=ROOT)
    asked = flags.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = asyncio.run(trial(Path(folder), asked.kills, asked.seed, asked.program.absolute()))
    sys.stdout.write(f"what | count\n--- | ---\n{done.table()}\n{time.monotonic() - started:.0f} s\n")
    sys.stdout.write("".join(f"{line}\n" for line in done.failed))


if __name__ == "__main__":
    main()
