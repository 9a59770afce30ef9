"""A start on a full disk: what is stored is served, and all recovers by itself once there is space."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.errors import LedgerError
from exporter.ledger.account_state import AccountState
from exporter.ledger.database import LEDGER_FILE
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from tests.conftest import FakeClock
from tests.fault_proxy import list_simulation_types, remove_waits, run_fault_proxy
from tests.test_ledger import AT, day, list_readings, record
from tests.test_process import Home, cold_water, logins


@contextmanager
def limit_file_size() -> Iterator[None]:
    """Limit files of this process to less than SQLite's shared index, as a quota does; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only an administrator may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Use up all free space; return the file that has it."""
    file = folder / "filling"
    with file.open("wb", buffering=0) as filling:
        try:
            while True:
                filling.write(bytes(4096))
        except OSError:
            return file


async def test_serve_starts_on_a_full_disk(small_disk):
    """
    The page has what is stored, the account says why it is down, the log says full, no portal is queried, and it stops cleanly.
    """
    simulation = CemSimulation()
    async with run_simulation(simulation) as url:
        home = Home(small_disk, simulation, url)
        home.write()
        async with home.serve() as program:
            await program.until('utility_up{account="block-of-flats",portal="cem"} 1.0')
            await program.stop()
        filling, asked = fill(small_disk), len(simulation.requests)
        async with home.serve() as program:
            page = await program.until('utility_visit_failures_total{account="block-of-flats",portal="cem",reason="ledger"} 1')
            assert cold_water(home) in page
            assert 'utility_up{account="block-of-flats",portal="cem"} 0.0' in page
            assert "full; serving stored readings only" in "".join(program.lines)
            assert "Traceback" not in "".join(program.lines)
            code, _, error = await home.command("history", "export")
            assert (code, "the disk is full" in error or "locked" in error) == (1, True)
            await program.stop()
            assert program.process.returncode == 0
        assert len(simulation.requests) == asked
        filling.unlink()
        async with home.serve() as program:
            await program.until('utility_up{account="block-of-flats",portal="cem"} 1.0')

    assert logins(home) == 1


async def test_recovery_once_there_is_space(tmp_path, monkeypatch):
    """
    What could not be stored at startup is tried again, and stored once there is space; then others share the file again.
    """
    remove_waits(monkeypatch)
    clock, kind = FakeClock(), next(iter(list_simulation_types()))
    async with run_fault_proxy(kind, clock) as (between, url):
        portal = between.build_small_account(url)

        def build_poller(ledger: Ledger) -> AccountPoller:
            return AccountPoller(portal, ledger, MetricsPage(ledger, clock, "0"), clock, lambda: 0.5)

        with Ledger(tmp_path) as ledger:
            first = build_poller(ledger)
            await first.open()
            await first.visit()
        asked = len(between.requests)
        with limit_file_size():
            ledger = Ledger(tmp_path, serving=True)
            second = build_poller(ledger)
            await second.open()
            assert (second.state.up, second.state.reason, second.state.next_visit) == (False, "ledger", None)
            assert second.state.readings == first.state.readings > 0
            clock.advance(days=1)
            await second.visit()
            assert (second.state.reason, len(between.requests)) == ("ledger", asked)
            assert ledger.get_state(portal.name).readings == first.state.readings
        clock.advance(minutes=2)
        await second.visit()

        assert (second.state.up, second.state.reason, ledger.database.sharing_error) == (True, "", "")
        with Ledger(tmp_path) as beside:
            assert beside.get_state(portal.name).readings == second.state.readings
        ledger.close()


def test_nothing_to_show(tmp_path):
    """
    Without a ledger a full disk is an error.
    """
    with limit_file_size(), pytest.raises(LedgerError, match="disk I/O error"):
        Ledger(tmp_path, serving=True)


def test_killed_before_the_disk_was_full(tmp_path):
    """
    What is only in the log of a killed process is served too, and survives the next stop.
    """
    program = f"""if True:
        import os, pathlib
        from tests.test_ledger import Ledger, day, record
        ledger = Ledger(pathlib.Path({str(tmp_path)!r}))
        ledger.open_account("home", portal="brook", zone="UTC", login="")
        record(ledger, day(1, 1.0))
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", program], check=False)
    assert (tmp_path / f"{LEDGER_FILE}-wal").stat().st_size
    os.truncate(tmp_path / f"{LEDGER_FILE}-shm", 0)
    with limit_file_size(), Ledger(tmp_path, serving=True) as ledger:
        assert ledger.database.sharing_error
        assert len(list_readings(ledger)) == 1
        with pytest.raises(LedgerError):
            record(ledger, *(day(n, 1.0) for n in range(2, 29)), at=AT)
        assert len(list_readings(ledger)) == 1
    with Ledger(tmp_path) as ledger:
        assert ledger.get_state("home") != AccountState()
        assert len(list_readings(ledger)) == 1
