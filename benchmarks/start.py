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

from benchmarks.counter_fleet import ACCOUNT, Fleet
from benchmarks.measuring import read_memory_mb
from benchmarks.results import Figure, Report
from exporter.portals.cem.config import CemConfig
from tests.history.programs import free_port

HOME_SERIES, TOWN_SERIES = 100, 100_000
STARTS = 3
IDLE_SECONDS = 30.0
"""Seconds of rest that are watched, with a scrape at the beginning and the end."""
LOGIN = {"username": "a", "password": "b", "base_url": "http://127.0.0.1:9/api"}


def measure(sizes: Sequence[int]) -> Report:
    """Start on ledgers of these sizes."""
    report = Report("Start and rest", "the exporter as a process of its own; at rest it is scraped every 30 s")
    for series in sizes:
        report.figures += _measure_size(series)
    seconds = "{:.2f} s".format
    report.goals += [
        report.check_goal(
            "start to full page, 100,000 series",
            report.find_value("to full page, s", TOWN_SERIES),
            maximum=3,
            format_value=seconds,
        ),
        report.check_goal(
            "start to full page at home", report.find_value("to full page, s", HOME_SERIES), maximum=0.5, format_value=seconds
        ),
        report.check_goal(
            "CPU at rest at home",
            report.find_value("CPU at rest, % of a core", HOME_SERIES),
            maximum=0.05,
            format_value="{:.2f} %".format,
        ),
        report.check_goal(
            "memory at home", report.find_value("memory, MB", HOME_SERIES), maximum=60, format_value="{:.0f} MB".format
        ),
    ]
    return report


def _measure_size(series: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "data"
        lines = _make_ledger(folder, series)
        config = Path(work) / "config.yaml"
        keys = "".join(f", {key}: {value!r}" for key, value in LOGIN.items())
        config.write_text(f"accounts:\n  - {{name: {ACCOUNT}, portal: cem{keys}}}\n")
        config.chmod(0o600)
        _run_exporter(folder, config, lines)  # Python writes down what it has compiled
        durations = [_run_exporter(folder, config, lines)[0] for _ in range(STARTS - 1)]
        last, spent, memory = _run_exporter(folder, config, lines, IDLE_SECONDS)
    return [
        Figure("to full page, s", series, median([*durations, last])),
        Figure("CPU at rest, % of a core", series, spent / IDLE_SECONDS * 100),
        Figure("memory, MB", series, memory),
    ]


def _make_ledger(folder: Path, series: int) -> int:
    """Make a ledger that was just visited; return how many lines its page has of each counter's index."""
    fleet = Fleet(folder, series)
    login = CemConfig(name=ACCOUNT, portal="cem", **LOGIN).build_login_digest()  # type: ignore[arg-type]  # a secret as text
    fleet.ledger.open_account(ACCOUNT, portal="cem", zone="Europe/Prague", login=login)
    fleet.record_first_visit()
    state = fleet.ledger.get_state(ACCOUNT)
    fleet.ledger.save_state(ACCOUNT, replace(state, next_visit=datetime.now(UTC) + timedelta(hours=1)))
    fleet.ledger.close()
    return len(fleet.registers)


def _run_exporter(folder: Path, config: Path, lines: int, rest: float = 0) -> tuple[float, float, float]:
    """Start, wait for the full page, rest; return seconds to the page, seconds of CPU at rest, and memory in MB."""
    port = free_port()
    command = [sys.executable, "-m", "exporter", "serve", f"--config.file={config}", f"--storage.path={folder}"]
    started = time.perf_counter()
    flags = [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    own = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder.parent / "compiled")}
    with subprocess.Popen([*command, *flags], env=own) as process:
        try:
            while _fetch_page(port).count(b"\nutility_consumption_index_m3{") != lines:
                assert process.poll() is None
                time.sleep(0.005)
            duration = time.perf_counter() - started
            time.sleep(min(rest, 1))
            before = read_cpu_seconds(process.pid)
            time.sleep(rest)
            spent = read_cpu_seconds(process.pid) - before if rest and _fetch_page(port) else 0
            return duration, spent, read_memory_mb("VmRSS", process.pid)
        finally:
            process.terminate()


def _fetch_page(port: int) -> bytes:
    with suppress(OSError):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        return b"\n" + connection.getresponse().read()
    return b""


def read_cpu_seconds(process: int) -> float:
    """Return the seconds of CPU that a process's threads have used."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
