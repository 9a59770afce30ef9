"""Faults of the machine: disk, lock, clock, network, and two days without pause; what is kept, and what recovers by itself."""

import asyncio
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import run_soak
from exporter.ledger.writer import MAX_CLOCK_AHEAD
from exporter.poller import AccountPoller
from tests import malicious_responses
from tests.conftest import FakeClock
from tests.fault_proxy import LOGINS, Attack, FaultProxy, list_simulation_types, open_account, remove_waits, run_fault_proxy

PORTALS = sorted(list_simulation_types())
HOUR, YEAR = timedelta(hours=1), timedelta(days=366)
HOLD = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""
"""A program that locks a ledger until its input is closed."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    remove_waits(monkeypatch)


@contextmanager
def full(poller: AccountPoller) -> Iterator[None]:
    """Fill the disk: the ledger cannot have another page."""
    db = poller._ledger.database._connection
    before = db.execute("PRAGMA max_page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    yield
    db.execute(f"PRAGMA max_page_count = {before}")


@contextmanager
def at_its_limit(poller: AccountPoller) -> Iterator[None]:
    """Limit files of this process to the size of the ledger's log, as a quota does; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = Path(f"{poller._ledger.database.path}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(poller: AccountPoller) -> Iterator[None]:
    """Remount the disk read-only, as a system does when a disk fails."""
    db = poller._ledger.database._connection
    db.execute("PRAGMA query_only = ON")
    yield
    db.execute("PRAGMA query_only = OFF")


@contextmanager
def locked(poller: AccountPoller) -> Iterator[None]:
    """Let another process hold the ledger's lock for longer than our timeout, which is shortened."""
    poller._ledger.database._connection.execute("PRAGMA busy_timeout = 50")
    command = [sys.executable, "-c", HOLD, str(poller._ledger.database.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        yield
        other.communicate()


DISKS: dict[str, tuple[Callable[[AccountPoller], AbstractContextManager[None]], str]] = {
    "disk full": (full, "full"),
    "quota or file size limit reached": (at_its_limit, "disk I/O error"),
    "disk turned read-only": (read_only, "readonly"),
    "ledger locked by another program": (locked, "locked"),
}
JUMPS = {
    "our clock an hour ahead": (HOUR, timedelta(0)),
    "our clock an hour back": (-HOUR, timedelta(0)),
    "our clock a year ahead": (YEAR, timedelta(0)),
    "our clock a year back": (-YEAR, timedelta(0)),
    "the portal's clock a year ahead": (timedelta(0), YEAR),
    "the portal's clock a year back": (timedelta(0), -YEAR),
}
"""How far our clock and the portal's are wrong."""


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("name", DISKS)
async def test_a_disk_that_takes_nothing(tmp_path, caplog, kind, name):
    """
    Whatever prevents writing to the ledger: the visit fails with that reason, the page still has what is stored, nobody logs
    in more than once, and all readings are stored later.
    """
    clock, (fault, message) = FakeClock(), DISKS[name]
    async with (
        run_fault_proxy(kind, clock) as (between, url),
        open_account(tmp_path, between.build_small_account(url), clock) as (poller, read_account),
    ):
        await poller.visit()
        with fault(poller):
            for _ in range(20):  # what little fits into pages begun already may still be kept
                before, logins = read_account(), logged_in(between)
                clock.advance(days=3)
                await poller.visit()
                if (broken := read_account()).state.reason == "ledger":
                    break
            again = logged_in(between)
        asked = len(between.requests)
        clock.advance(minutes=10)
        await poller.visit()
        after = read_account()

    assert (broken.state.reason, message in broken.state.message) == ("ledger", True)
    assert broken.state.next_visit - clock() < timedelta(minutes=2)
    assert [record for record in caplog.messages if message in record] == [
        f"account {poller.portal.name}: visit failed (ledger): {broken.state.message}"
    ]
    assert before.readings.items() <= broken.readings.items()  # a response is stored whole or not at all
    assert broken.text.count("\nutility_") >= before.text.count("\nutility_")
    assert (sample(broken.text, "utility_up"), sample(broken.text, "utility_visit_failures_total", "ledger")) == (0, 1)
    assert again - logins <= 1
    assert (after.state.up, len(after.readings) > len(before.readings)) == (True, True)
    assert len(between.requests) > asked


@pytest.mark.parametrize("kind", PORTALS)
async def test_a_ledger_that_cannot_be_written_asks_no_portal(tmp_path, kind):
    """
    If the start of a visit cannot be stored, the portal gets no request: no login is made without a record.
    """
    clock = FakeClock()
    async with (
        run_fault_proxy(kind, clock) as (between, url),
        open_account(tmp_path, between.build_small_account(url), clock) as (poller, _),
    ):
        with read_only(poller):
            await poller.visit()

    assert poller.state.reason == "ledger"
    assert between.requests == []


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("name", JUMPS)
async def test_a_clock_jumps(tmp_path, kind, name):
    """
    Our clock jumps by an hour or a year, either way, or the portal's does: nothing stored is lost, no visit is a bug, nothing
    is in the future, and once the clock is right again so is everything.
    """
    theirs, ours, (we, they) = FakeClock(), FakeClock(), JUMPS[name]
    async with run_fault_proxy(kind, theirs) as (between, url):
        async with open_account(tmp_path, between.build_small_account(url), ours) as (poller, read_account):
            await poller.visit()
            before = read_account()
            ours.at += HOUR + we
            theirs.at += HOUR + they
            for _ in range(3):
                await poller.visit()
                away = read_account()
                assert away.state.reason in {"", "response", "rate_limit"}, away.state.message
                assert before.readings.keys() <= away.readings.keys()
                assert all(key[-1] <= ours() + MAX_CLOCK_AHEAD for key in away.readings.keys() - before.readings.keys())
            ours.at += timedelta(days=2) - we
            theirs.at += timedelta(days=2) - they
        async with open_account(tmp_path, between.build_small_account(url), ours) as (poller, read_account):
            await poller.visit()
            after = read_account()

    assert after.state.up, after.state.message
    assert before.readings.keys() <= after.readings.keys()
    assert after.state.next_visit - ours() <= timedelta(days=1)
    assert all(key[-1] <= ours() for key in after.readings)


@contextmanager
def names(answer: Callable[[], Any], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Resolve every name to what `answer` gives or raises."""

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return answer()

    with patch.context() as during:
        during.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        yield


def unknown() -> Any:
    """Fail as an unavailable resolver does."""
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def nobody() -> Any:
    """Return an address at which nothing listens."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))]


@contextmanager
def struck(between: FaultProxy, attack: Attack) -> Iterator[None]:
    """Attack every request."""
    between.attack = attack
    yield
    between.attack = None


NETWORKS: dict[str, tuple[Callable[[FaultProxy, pytest.MonkeyPatch], AbstractContextManager[None]], str]] = {
    "names not resolved": (lambda _, patch: names(unknown, patch), "the host name is not known"),
    "no connection": (lambda _, patch: names(nobody, patch), "could not connect"),
    "no answer": (lambda between, _: struck(between, malicious_responses.never_respond), "timed out after"),
    "connection reset in the middle of an answer": (
        lambda between, _: struck(between, malicious_responses.reset_connection),
        "was cut off|was reset|was closed",
    ),
}


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("name", NETWORKS)
async def test_a_network_that_fails(tmp_path, monkeypatch, caplog, kind, name):
    """
    Visits fail as unreachable, with the cause once in the log; nothing stored is lost, all calls are counted, no visit tries to
    log in twice, and the next one after the fault, minutes later, is good. A password that was sent is not sent again sooner than
    a quarter of an hour later: it is the first request to CEM.
    """
    clock, (fault, message) = FakeClock(), NETWORKS[name]
    async with run_fault_proxy(kind, clock) as (between, url):
        account = between.build_small_account(
            url.replace("127.0.0.1", "localhost"), **({"timeout": "1s"} if name == "no answer" else {})
        )
        async with open_account(tmp_path, account, clock) as (poller, read_account):
            await poller.visit()
            before, logins = read_account(), logged_in(between)
            clock.advance(days=1)
            caplog.clear()
            with fault(between, monkeypatch):
                for wait in (2, 4):
                    await poller.visit()
                    assert poller.state.next_visit - clock() < timedelta(minutes=wait)
                broken = read_account()
            is_password_sent = kind == "cem" and name in ("no answer", "connection reset in the middle of an answer")
            clock.advance(minutes=15 if is_password_sent else 5)
            await poller.visit()
            after, spent = (
                read_account(),
                poller._ledger.get_account_store(account.name).count_calls_blocking("calls", clock() - timedelta(days=2)),
            )

    assert (broken.state.reason, bool(re.search(message, broken.state.message))) == ("unreachable", True)
    assert len([record for record in caplog.messages if "visit failed" in record]) == 1
    assert broken.readings == before.readings
    assert (sample(broken.text, "utility_up"), sample(broken.text, "utility_visit_failures_total", "unreachable")) == (0, 2)
    assert after.state.up, after.state.message
    assert before.readings.keys() <= after.readings.keys()
    assert logged_in(between) - logins <= 3
    assert kind != "enedis" or spent >= len(between.requests)


def logged_in(between: FaultProxy) -> int:
    """Return the number of logins."""
    return LOGINS.get(between.simulation.portal, lambda _: 0)(between.simulation)


def sample(page: str, family: str, label: str = "") -> float:
    """Return the one value of a family whose labels contain a text."""
    (value,) = re.findall(rf"^{family}{{[^}}]*{label}[^}}]*}} (\S+)$", page, re.MULTILINE)
    return float(value)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where the system lists them")
async def test_two_days_without_rest(tmp_path):
    """
    48 hours of all portals, with faults and scrapes: no task, file, socket or thread is left, and memory does not grow.
    """
    async with asyncio.timeout(240):
        done = await run_soak(tmp_path)
    early, late = done.usage[-2:]  # by then the simulations, too, have made up all that they keep in mind

    assert min(done.visits.values()) >= 4
    assert (done.failures > 8, done.bugs) == (True, 0)
    assert (late.tasks, late.threads) <= (early.tasks + 4, early.threads + 4)
    assert (late.files, late.sockets) <= (early.files + 8, early.sockets + 8)
    assert late.objects < early.objects * 1.05


ROWS = (
    dict.fromkeys(DISKS, "test_faults.py::test_a_disk_that_takes_nothing")
    | dict.fromkeys(NETWORKS, "test_faults.py::test_a_network_that_fails")
    | dict.fromkeys(JUMPS, "test_faults.py::test_a_clock_jumps")
    | {
        "our clock a year ahead, and readings grow old": "test_thinning.py::test_a_clock_a_year_ahead_destroys_nothing",
        "the ledger's files removed or replaced under `serve`": "test_beside.py::test_a_ledger_removed_under_serve",
        "killed again and again, with commands beside it": "test_beside.py::test_nothing_is_lost_beside_commands",
        "the start of a visit cannot be stored": "test_faults.py::test_a_ledger_that_cannot_be_written_asks_no_portal",
        "storage not writable at the start": "test_ledger.py::test_a_read_only_folder_is_a_clear_error",
        "ledger damaged": "test_process.py::test_a_damaged_ledger_at_start",
        "ledger damaged, found by a command beside `serve`": "test_ledger.py::test_a_damaged_file_stays_where_serve_has_it",
        "disk full at the start": "test_full_disk.py::test_serve_starts_on_a_full_disk",
        "several commands open a fresh ledger, or one of an older version, at once": (
            "test_ledger_processes.py::test_four_processes_begin_at_once"
        ),
        "a remote read whose reader stands still": "history/test_remote_read.py::test_a_reader_that_stands_still",
        "a second `serve` on the same storage": "test_process.py::test_a_folder_that_is_in_use",
        "SIGTERM in a visit": "test_process.py::test_sigterm_in_a_visit",
        "killed in a visit": "test_process.py::test_killed_in_a_visit_and_started_again",
        "login refused to a command (`visit`, `discover`, `raw`, `report`)": (
            "test_process.py::test_a_login_refused_to_a_command_and_given_again"
        ),
        "login refused, and restarts": "test_process.py::test_a_wrong_password_costs_one_login_over_restarts",
        "a broken configuration at a reload": "test_process.py::test_reload_by_signal",
        "a secret's file that is missing, empty or unreadable at a reload": (
            "test_reload.py::test_a_file_that_is_named_and_wrong_is_followed"
        ),
        "two days without rest": "test_faults.py::test_two_days_without_rest",
    }
)
"""The rows of the table in docs/faults.md, and the test of each."""
ROOT = Path(__file__).parent


def table(heading: str) -> list[list[str]]:
    """Return the rows of the tables in a chapter of docs/faults.md, as cells."""
    text = (ROOT.parent / "docs" / "faults.md").read_text()
    chapter = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in chapter.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0] not in {"what", "the portal sends"}]


def test_each_fault_has_its_row_and_its_test():
    """
    The table of faults has a row for each tested fault, the tests exist, and each test of this file has a row.
    """
    rows = {row[0]: row[-1].strip("`") for row in table("When something goes wrong")}
    tests = {f"{file}::{name}" for file in {row.partition("::")[0] for row in ROWS.values()} for name in defined(file)}

    assert rows == ROWS
    assert set(ROWS.values()) <= tests
    assert {f"test_faults.py::{name}" for name in defined("test_faults.py")} - set(ROWS.values()) == {
        "test_faults.py::test_each_fault_has_its_row_and_its_test",
        "test_faults.py::test_each_hostile_answer_has_its_row",
    }


def test_each_hostile_answer_has_its_row():
    """
    The table of invalid responses has a row for each tested response, with its expected reason.
    """
    rows = {row[0]: row[1].strip("`") for row in table("When a portal answers nonsense")}
    answers = {
        name: reason
        for name, (_, reason) in (
            malicious_responses.CONNECTION_ATTACKS | malicious_responses.REDIRECT_ATTACKS | malicious_responses.BODY_ATTACKS
        ).items()
    }
    values = dict.fromkeys(
        [*malicious_responses.VALUE_ATTACKS, *(f"a single value {name}" for name in malicious_responses.SINGLE_VALUES)],
        "only what can be is kept",
    )

    assert rows == answers | values | {"the way to another host": "nobody goes there"}


def defined(file: str) -> list[str]:
    """Return the tests of a file."""
    return re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE)
