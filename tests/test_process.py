"""The program as a process: start, stop, kill, restart, a damaged ledger, and the commands a person types."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation

PATIENCE = 30.0
WATCHFUL = """
import sys
from datetime import timedelta
from exporter import poller
poller.MAX_SLEEP = timedelta(seconds=0.2)
from exporter.cli import main
sys.exit(main())
"""
WATCHFUL_PROGRAM = sys.executable, "-c", WATCHFUL
"""The program, whose `serve` looks often for what other processes do."""


@dataclass
class Program:
    """A running `utility-exporter`."""

    process: asyncio.subprocess.Process
    url: str
    lines: list[str]

    async def page(self, path: str = "/metrics") -> str:
        async with aiohttp.ClientSession() as client, client.get(self.url + path) as answer:
            return await answer.text()

    async def until(self, text: str) -> str:
        async with asyncio.timeout(PATIENCE):
            while text not in (page := await self.page()):  # noqa: ASYNC110  # what is waited for happens in another process
                await asyncio.sleep(0.05)
        return page

    async def stop(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; gives how many seconds it took to leave."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()
        return loop.time() - started


@dataclass
class Home:
    """A folder with a configuration for a simulated portal."""

    folder: Path
    portal: CemSimulation
    url: str

    def write(self, **keys: object) -> None:
        entry = self.portal.build_accounts(self.url)[0] | keys
        # The history of a block of flats would fill small disks, and is tried elsewhere.
        config = {"accounts": [entry], "history": {"backfill": False}}
        (self.folder / "config.yaml").write_text(json.dumps(config))
        (self.folder / "config.yaml").chmod(0o600)

    async def command(self, *words: str) -> tuple[int, str, str]:
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "exporter", *words),
            cwd=self.folder,
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await done.communicate()
        return done.returncode or 0, out.decode(), err.decode()

    @asynccontextmanager
    async def serve(self, *flags: str, command: str = "serve") -> AsyncIterator[Program]:
        async with launched(command, *flags, folder=self.folder, env=environment()) as program:
            yield program


@asynccontextmanager
async def launched(
    *words: str,
    env: Mapping[str, str],
    folder: Path | None = None,
    program: Sequence[str] = (sys.executable, "-m", "exporter"),
) -> AsyncIterator[Program]:
    """Run a command that serves, on a port that is free; it is killed in the end if it has not left."""
    process = await asyncio.create_subprocess_exec(
        *(*program, *words, "--web.listen-address=127.0.0.1:0"),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    lines: list[str] = []
    reading = asyncio.ensure_future(read(process, lines))
    try:
        yield Program(process, await address(lines, process), lines)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONWARNINGS": "error"}


async def read(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        lines.append(line.decode())  # noqa: PERF401  # read by others meanwhile


async def address(lines: list[str], process: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(PATIENCE):
        while not (found := re.search(r"account\(s\) at (\S+:\d+)", "".join(lines))):
            assert process.returncode is None, "".join(lines)
            await asyncio.sleep(0.02)
    return f"http://{found[1].rstrip(chr(34))}"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    simulation = CemSimulation()
    async with run_simulation(simulation) as url:
        made = Home(tmp_path, simulation, url)
        made.write()
        yield made


def logins(home: Home) -> int:
    return sum(seen.query.get("id") == "4" for seen in home.portal.requests)


def cold_water(home: Home) -> str:
    register = home.portal.named_counters["replacement"]
    point = home.portal.building.counters[register].meters[0]
    return f'utility_consumption_index_m3{{account="block-of-flats",register="{register}",usage_point="{point}"}} '


async def test_a_life(home):
    """
    First start: the page is full and true. SIGTERM ends it at once. Second start: full from the ledger, nothing asked.
    """
    async with home.serve() as program:
        page = await program.until('utility_up{account="block-of-flats",portal="cem"} 1.0')
        _, value = home.portal.latest_reading(home.portal.named_counters["replacement"])
        assert f"{cold_water(home)}{value}\n" in page
        assert await program.stop() < 5
        assert program.process.returncode == 0
    asked = len(home.portal.requests)
    async with home.serve() as program:
        again = await program.page()
        assert f"{cold_water(home)}{value}\n" in again
        assert 'utility_up{account="block-of-flats",portal="cem"} 1.0' in again

    assert len(home.portal.requests) == asked


async def test_killed_in_a_visit_and_started_again(home):
    """
    kill -9 while the portal hangs: ten restarts cost no second login, and the page has what was known before.
    """
    async with home.serve() as program:
        await program.until("utility_up{")
    home.portal.faults.add("id=8", "hang")
    make_due(home)
    before = len(home.portal.requests)
    async with home.serve() as program:
        await until(lambda: len(home.portal.requests) > before)
        await program.stop(signal.SIGKILL)
    asked = len(home.portal.requests)
    for _ in range(3):
        async with home.serve() as program:
            assert cold_water(home) in await program.page()
            await program.stop(signal.SIGKILL)

    assert len(home.portal.requests) == asked
    assert logins(home) == 1


async def test_sigterm_in_a_visit(home):
    """
    SIGTERM while the portal hangs leaves within five seconds; the next start knows all, asks nothing yet and logs in no more.
    """
    async with home.serve() as program:
        await program.until("utility_up{")
    home.portal.faults.add("id=8", "hang")
    make_due(home)
    before = len(home.portal.requests)
    async with home.serve() as program:
        await until(lambda: len(home.portal.requests) > before)
        assert await program.stop() < 5
        assert program.process.returncode == 0
        assert "stopping" in program.lines[-1]
    asked = len(home.portal.requests)
    async with home.serve() as program:
        assert cold_water(home) in await program.page()

    assert len(home.portal.requests) == asked
    assert logins(home) == 1


async def test_a_wrong_password_costs_one_login_over_restarts(home):
    """
    One attempt, however often the program is started; with the right password it goes on at once.
    """
    home.write(password="wrong")
    for _ in range(3):
        async with home.serve() as program:
            page = await program.until("utility_up{")
            assert 'utility_login_suspended{account="block-of-flats",portal="cem"} 1.0' in page
    assert logins(home) == 1
    for command in (["visit", "block-of-flats"], ["discover", "block-of-flats"], ["raw", "block-of-flats", "meters"]):
        code, _, err = await home.command(*command)
        assert (code, err.startswith("login: "), "--force" in err) == (1, True, True)
    assert logins(home) == 1
    home.write()
    async with home.serve() as program:
        await program.until('utility_up{account="block-of-flats",portal="cem"} 1.0')


async def test_a_login_refused_to_a_command_and_given_again(home):
    """
    A running `serve` stops at once when a command is refused its login, and goes on when a command is given it again.
    """
    up, suspended = (f'utility_{name}{{account="block-of-flats",portal="cem"}} ' for name in ("up", "login_suspended"))
    async with launched("serve", folder=home.folder, env=environment(), program=WATCHFUL_PROGRAM) as program:
        await program.until(f"{up}1.0")
        right, home.portal.password = home.portal.password, "changed at the portal"
        refused = await home.command("report")
        await program.until(f"{suspended}1.0")
        tried, home.portal.password = logins(home), right
        edit_ledger(home, "DELETE FROM memory WHERE key = 'token'")
        accepted = await home.command("visit", "--force")
        await program.until(f"{suspended}0.0")
        await program.until(f"{up}1.0")

    assert refused[0] == 0
    assert "outcome    login: " in refused[1]
    assert accepted[0] == 0
    assert logins(home) == tried + 1


async def test_a_damaged_ledger_at_start(home):
    """
    One loud line naming both files, and the exporter goes on afresh.
    """
    (home.folder / "data").mkdir()
    (home.folder / "data/ledger.sqlite").write_bytes(b"not a ledger" * 999)
    async with home.serve() as program:
        await program.until('utility_up{account="block-of-flats",portal="cem"} 1.0')
        (line,) = [line for line in program.lines if "level=error" in line]

    assert "data/ledger.sqlite" in line
    assert "ledger.sqlite.damaged-" in line


async def test_reload_by_signal(home):
    """
    SIGHUP takes up a changed file; a broken one changes nothing and says so on the page and in the log.
    """
    async with home.serve() as program:
        await program.until("utility_up{")
        (home.folder / "config.yaml").write_text("accounts: [")
        program.process.send_signal(signal.SIGHUP)
        await program.until("utility_exporter_config_last_reload_successful 0.0")
        home.write(name="tower")
        program.process.send_signal(signal.SIGHUP)
        page = await program.until('utility_up{account="tower"')

    assert "utility_exporter_config_last_reload_successful 1.0" in page
    assert "block-of-flats" not in page
    assert any("config.yaml:1" in line for line in program.lines)


async def test_visit_prints_the_page_and_writes_nothing(home):
    """
    `visit` prints the account's page; the ledger has neither reading nor health of it, but the token.
    """
    code, out, err = await home.command("visit", "block-of-flats", "--page")
    assert (code, err) == (0, "")
    assert cold_water(home) in out
    code, table, _ = await home.command("visit")
    assert (code, table.splitlines()[0].split()[:2]) == (0, ["usage", "point"])
    assert " m³ " in table
    assert "utility_" not in table
    with contextlib.closing(sqlite3.connect(home.folder / "data/ledger.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM reading").fetchone() == (0,)
        assert db.execute("SELECT last_visit FROM account").fetchone() == (None,)
    assert logins(home) == 1


async def test_discover_and_raw(home):
    """
    `discover` prints site, meter and counter and lines that `check` takes; `raw` the portal's own answer.
    """
    code, tree, _ = await home.command("discover", "block-of-flats")
    assert code == 0
    assert "Byt 3" in tree
    assert not [word for word in ("None", "True", "['", "var_id") if word in tree]
    assert str(home.portal.named_counters["replacement"]) in tree
    code, text, _ = await home.command("discover", "block-of-flats", "--json")
    assert (code, set(json.loads(text))) == (0, {"tree", "notes", "config"})
    code, calls, _ = await home.command("raw")
    assert "counter_history var_id=... from=... to=..." in calls
    code, answer, _ = await home.command("raw", "block-of-flats", "counter_last", f"var_id={home.portal.named_counters['leak']}")
    assert code == 0
    assert json.loads(answer)[0]["value"] > 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "COMMAND"),
        (("serve", "--config=x"), 2, "unrecognized arguments"),
        (("serve", "--web.listen-address=10230"), 2, "HOST:PORT"),
        (("serve", "--web.telemetry-path=x"), 2, "not a path"),
        (("visit", "nobody"), 1, "has no account 'nobody'; it has block-of-flats"),
        (("raw", "block-of-flats", "everything"), 1, "has no call 'everything'"),
        (("raw", "block-of-flats", "counter_last"), 1, "needs var_id=..."),
        (("raw", "block-of-flats", "counter_last", "var_id"), 1, "KEY=VALUE"),
        (("raw", "block-of-flats", "counter_last", "x=1"), 1, "takes no 'x'"),
        (("serve", "--config.file=missing.yaml"), 1, "missing.yaml"),
        (("check", "--config.file=."), 1, "folder"),
    ],
)
async def test_wrong_use_is_reported(home, words, code, message):
    """
    Wrong usage is 2, what cannot be done is 1; both say why in a line, without a traceback.
    """
    found, out, err = await home.command(*words)

    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


async def test_version_and_check(home):
    """
    `--version` says it; `check` of a good file says so.
    """
    assert (await home.command("--version"))[1].startswith("utility-exporter ")
    code, out, _ = await home.command("check")
    assert (code, out) == (0, "config.yaml: 1 account(s), no faults\n")


async def test_a_folder_that_is_in_use(home):
    """
    A second `serve` on the same storage is refused in one line.
    """
    async with home.serve():
        code, _, err = await home.command("serve", "--web.listen-address=127.0.0.1:0")

    assert code == 1
    assert "in use by another" in err


async def test_logs_as_json(home):
    """
    With --log.format=json each line is an object with time, level, component and message.
    """
    async with home.serve("--log.format=json") as program:
        await program.until("utility_up{")
        await program.stop()
    assert {key for line in program.lines for key in json.loads(line)} == {"ts", "level", "component", "msg"}


async def until(true) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.02)


def make_due(home: Home) -> None:
    """Let the next visit be due now, as if its time had come."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    edit_ledger(home, f"UPDATE account SET next_visit = {int(past.timestamp() * 1000)}")


def edit_ledger(home: Home, statement: str) -> None:
    """Change the ledger as nobody but a test does."""
    with contextlib.closing(sqlite3.connect(home.folder / "data/ledger.sqlite")) as db:
        db.execute(statement)
        db.commit()


async def test_a_signal_in_the_first_moments(home):
    """
    A SIGHUP that comes while the program is still loading ends nothing: it is obeyed when it can be.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exporter", "serve", "--web.listen-address=127.0.0.1:0"),
        cwd=home.folder,
        env=environment(),
        stderr=asyncio.subprocess.PIPE,
    )
    lines: list[str] = []
    reading = asyncio.ensure_future(read(process, lines))
    try:
        async with asyncio.timeout(PATIENCE):
            while not is_blocked(process.pid, signal.SIGHUP):
                assert process.returncode is None, "".join(lines)
                await asyncio.sleep(0.002)
            process.send_signal(signal.SIGHUP)
            assert lines == []
            while not any("configuration reloaded" in line for line in lines):
                assert process.returncode is None, "".join(lines)
                await asyncio.sleep(0.02)
        assert "serving 1 account(s)" in "".join(lines).partition("configuration reloaded")[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


def is_blocked(process: int, number: int) -> bool:
    """Return whether a process blocks a signal (proc_pid_status(5))."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = re.search(r"^SigBlk:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)


async def test_each_scrape_of_a_start_has_all_accounts_or_none(home):
    """
    From the first moment that the port answers, a scrape gets every account or 503: no series ends at a restart.
    """
    names = {f"block-{number}" for number in range(60)}
    entry = home.portal.build_accounts(home.url)[0]
    (home.folder / "config.yaml").write_text(json.dumps({"accounts": [entry | {"name": name} for name in names]}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exporter", "serve", f"--web.listen-address=127.0.0.1:{port}"),
        cwd=home.folder,
        env=environment(),
        stderr=asyncio.subprocess.DEVNULL,
    )
    answers: list[tuple[int, set[str]]] = []
    try:
        async with aiohttp.ClientSession() as client, asyncio.timeout(PATIENCE):
            while not answers or answers[-1][0] != 200:
                assert process.returncode is None
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
                        answers.append((answer.status, {*re.findall(r'account="(block-\d+)"', await answer.text())}))
                await asyncio.sleep(0.002)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    assert {status for status, _ in answers} == {200, 503}
    assert [found for status, found in answers if status == 200] == [names]
