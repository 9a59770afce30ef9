"""The ledger of a living `serve`: commands beside it, kill -9 at random moments, and files taken away under it."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.beside import PROGRAM, run_trial
from exporter.errors import LedgerError
from exporter.ledger.ledger import Ledger
from tests.test_process import Home, environment, home, launched  # noqa: F401  # a fixture

UP = 'utility_up{account="block-of-flats",portal="cem"} '
BY_LEDGER = 'utility_visit_failures_total{account="block-of-flats",portal="cem",reason="ledger"} '
MAX_SECONDS = 120.0


def replaced(file: Path) -> None:
    """Put a copy in a file's place, as somebody does who restores a backup."""
    shutil.copy(file, f"{file}.copy")
    os.replace(f"{file}.copy", file)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="looks at locks where the system lists them")
async def test_nothing_is_lost_beside_commands(tmp_path):
    """
    Visits every second, all commands, the backup, remote reads and reloads beside them, remote write, and kill -9 at random
    moments: no file of the ledger is taken from under `serve`, it holds its lock throughout, the ledger is whole after every
    kill, and nothing is missing that was ever on the page, acknowledged by the receiver, or imported.
    """
    async with asyncio.timeout(MAX_SECONDS):
        done = await run_trial(tmp_path, kills=3, seed=14)

    assert done.failed == []
    assert (done.deleted, done.unlocked) == (0, 0)
    assert (done.integrity_failures, done.set_aside, done.bad_backups) == (0, 0, 0)
    assert (done.shown_missing, done.acknowledged_missing, done.imported_missing) == (0, 0, 0)
    assert done.kills >= 3
    assert min(done.checks, done.shown, done.acknowledged, done.imported) > 10


async def test_a_ledger_removed_under_serve(home: Home):  # noqa: F811  # the fixture
    """
    The next visit fails by that name, says once what to do, and asks no portal; with the same files back all goes on.
    """
    home.write(every="1s")
    data, away = home.folder / "data", home.folder / "away"
    async with launched("serve", env=environment(), folder=home.folder, program=PROGRAM) as program:
        await program.until(f"{UP}1.0")
        data.rename(away)
        page = await program.until(f"{UP}0.0")
        assert f"{BY_LEDGER}1.0" in page
        assert "utility_consumption_index_m3{" in page
        asked = len(home.portal.requests)
        await program.until(f"{BY_LEDGER}3.0")
        assert len(home.portal.requests) == asked
        away.rename(data)
        await program.until(f"{UP}1.0")
        shutil.rmtree(data)
        await program.until(f"{UP}0.0")
        assert await program.stop() < 5
        assert program.process.returncode == 0

    lines = [line for line in program.lines if "visit failed (ledger)" in line]
    assert 1 <= len(lines) <= 2  # the same line is logged once a minute
    assert all("ledger.sqlite was removed or replaced" in line and "restart the exporter" in line for line in lines)


@pytest.mark.parametrize("change", [Path.unlink, replaced], ids=["removed", "replaced"])
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_each_file_is_missed(tmp_path: Path, end: str, change: Callable[[Path], None]):
    """
    Nothing is written any more once the file, its log or the log's index is another or none; nor is a reader opened.
    """
    with Ledger(tmp_path) as ledger:
        state = ledger.open_account("home", portal="brook", zone="Europe/Brussels", login="a")
        with ledger.database.read():  # the one reader there is
            change(tmp_path / f"ledger.sqlite{end}")
            with pytest.raises(LedgerError, match=f"ledger.sqlite{end} was removed or replaced .* restart"):
                ledger.get_state("home")
        with pytest.raises(LedgerError, match=f"ledger.sqlite{end} was removed or replaced .* restart"):
            ledger.save_state("home", state)
