"""`serve` from the start of its process to a full page, and what it needs when nothing happens."""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Report
from benchmarks.fleet import ACCOUNT, Fleet
from benchmarks.visit import memory_of
from exporter.portals.cem import Cem
from tests.history.programs import free_port

HOME, TOWN = 100, 100_000
STARTS = 3
IDLE = 30.0
"""Seconds of rest that are watched, with a scrape at the beginning and the end."""
LOGIN = {"username": "a", "password": "b", "base_url": "http://127.0.0.1:9/api"}


def measure(sizes: Sequence[int]) -> Report:
    """Start on ledgers of these sizes."""
    report = Report("Start and rest", "the exporter as a process of its own; at rest it is scraped every 30 s")
    for series in sizes:
        report.figures += _at(series)
    seconds = "{:.2f} s".format
    report.goals += [
        report.goal("start to full page, 100,000 series", report.at("to full page, s", TOWN), most=3, say=seconds),
        report.goal("start to full page at home", report.at("to full page, s", HOME), most=0.5, say=seconds),
        report.goal("CPU at rest at home", report.at("CPU at rest, % of a core", HOME), most=0.2, say="{:.2f} %".format),
        report.goal("memory at home", report.at("memory, MB", HOME), most=60, say="{:.0f} MB".format),
    ]
    return report


def _at(series: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "data"
        lines = _made(folder, series)
        config = Path(work) / "config.yaml"
        keys = "".join(f", {key}: {value!r}" for key, value in LOGIN.items())
        config.write_text(f"accounts:\n  - {{name: {ACCOUNT}, portal: cem{keys}}}\n")
        config.chmod(0o600)
        _started(folder, config, lines)  # Python writes down what it has compiled
        taken = [_started(folder, config, lines)[0] for _ in range(STARTS - 1)]
        last, spent, memory = _started(folder, config, lines, IDLE)
    return [
        Figure("to full page, s", series, median([*taken, last])),
        Figure("CPU at rest, % of a core", series, spent / IDLE * 100),
        Figure("memory, MB", series, memory),
    ]


def _made(folder: Path, series: int) -> int:
    """Make a ledger that was just visited; gives how many lines its page has of each counter's index."""
    fleet = Fleet(folder, series)
    login = Cem(name=ACCOUNT, portal="cem", **LOGIN).login_digest()  # type: ignore[arg-type]  # a secret as text
    fleet.ledger.open_account(ACCOUNT, portal="cem", zone="Europe/Prague", login=login)
    fleet.fill()
    state = fleet.ledger.state(ACCOUNT)
    fleet.ledger.save_health(ACCOUNT, replace(state, next_visit=datetime.now(UTC) + timedelta(hours=1)))
    fleet.ledger.close()
    return len(fleet.registers)


def _started(folder: Path, config: Path, lines: int, rest: float = 0) -> tuple[float, float, float]:
    """Start, wait for the full page, rest; gives seconds to the page, seconds of CPU at rest, and memory in MB."""
    port = free_port()
    command = [sys.executable, "-m", "exporter", "serve", f"--config.file={config}", f"--storage.path={folder}"]
    started = time.perf_counter()
    flags = [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    own = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder.parent / "compiled")}
    with subprocess.Popen([*command, *flags], env=own) as process:
        try:
            while _page(port).count(b"\nutility_consumption_index_m3{") != lines:
                assert process.poll() is None
                time.sleep(0.005)
            taken = time.perf_counter() - started
            time.sleep(min(rest, 1))
            before = _cpu(process.pid)
            time.sleep(rest)
            spent = _cpu(process.pid) - before if rest and _page(port) else 0
            return taken, spent, memory_of("VmRSS", process.pid)
        finally:
            process.terminate()


def _page(port: int) -> bytes:
    with suppress(OSError):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        return b"\n" + connection.getresponse().read()
    return b""


def _cpu(process: int) -> float:
    """Give the seconds of CPU that a process's threads have had."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
