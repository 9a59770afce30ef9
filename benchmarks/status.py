"""The status page of a `serve` process of its own: what a request costs, and what memory stays grown; sizes are usage points."""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as midnight
from pathlib import Path

from benchmarks.counter_fleet import ACCOUNT, SERIES_PER_POINT, ZONE, Fleet
from benchmarks.measuring import read_memory_mb
from benchmarks.results import Figure, Report
from benchmarks.start import LOGIN, read_cpu_seconds
from exporter.portals.cem.config import CemConfig
from tests.history.programs import free_port

DAYS = 3
"""Days before today of which the amount is known."""
REQUESTS = {
    "first page": "/",
    "first page again": "/",
    "an account's page": f"/?account={ACCOUNT}&sheet=50",
    "search": "/?search=flat+12",
    "all days as CSV": f"/usage-point.csv?account={ACCOUNT}",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs: seconds of CPU, seconds until it was answered, MB by which the memory has grown."""

    cpu: float
    duration: float
    memory: float


def measure(sizes: Sequence[int]) -> Report:
    """Ask for the page at these numbers of usage points."""
    report = Report("Status page", "the exporter as a process of its own; a town of counters, each with its days")
    for size in sizes:
        report.figures += _measure_size(size)
    report.goals += [
        report.check_goal("CPU of the first page, 100,000 usage points", report.find_value("first page: CPU, s"), maximum=0.3),
        report.check_goal("memory of it, MB", report.find_value("all of them: memory, MB"), maximum=20),
    ]
    return report


def _measure_size(size: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as work:
        folder, config = Path(work) / "data", Path(work) / "config.yaml"
        _make_ledger(folder, size)
        keys = "".join(f", {key}: {value!r}" for key, value in LOGIN.items())
        config.write_text(f"accounts:\n  - {{name: {ACCOUNT}, portal: cem{keys}}}\n")
        config.chmod(0o600)
        with _run_exporter(folder, config) as (process, port):
            before = read_memory_mb("VmRSS", process)
            costs = {name: _measure_request(process, port, path) for name, path in REQUESTS.items()}
            grown = read_memory_mb("VmRSS", process) - before
    figures = [
        Figure(f"{name}: {what}", size, value)
        for name, cost in costs.items()
        for what, value in (("CPU, s", cost.cpu), ("duration, s", cost.duration), ("memory, MB", cost.memory))
    ]
    return [*figures, Figure("all of them: memory, MB", size, grown)]


def _make_ledger(folder: Path, size: int) -> None:
    """Make a ledger of counters that were read at the last midnights and just now."""
    fleet = Fleet(folder, size * SERIES_PER_POINT)
    login = CemConfig(name=ACCOUNT, portal="cem", **LOGIN).build_login_digest()  # type: ignore[arg-type]  # a secret as text
    fleet.ledger.open_account(ACCOUNT, portal="cem", zone=ZONE.key, login=login, derives_days=True)
    today = datetime.now(ZONE).date()
    for days in range(DAYS, -1, -1):
        at = datetime.combine(today - timedelta(days=days), midnight(), ZONE)
        readings = [fleet.read_counter(number, at) for number in range(len(fleet.registers))]
        fleet.record(readings, fleet.inventory)
    state = fleet.ledger.get_state(ACCOUNT)
    fleet.ledger.save_state(ACCOUNT, replace(state, next_visit=datetime.now(UTC) + timedelta(hours=1)))
    fleet.ledger.close()


@contextmanager
def _run_exporter(folder: Path, config: Path) -> Iterator[tuple[int, int]]:
    """Start it, wait until it is ready and at rest; yield process and port."""
    port = free_port()
    command = [sys.executable, "-m", "exporter", "serve", f"--config.file={config}", f"--storage.path={folder}"]
    flags = [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen([*command, *flags], env=dict(os.environ)) as process:
        try:
            while not _fetch(port, "/metrics").count(b"\nutility_usage_point_info{"):
                assert process.poll() is None
                time.sleep(0.1)
            _fetch(port, "/metrics")
            time.sleep(3)
            yield process.pid, port
        finally:
            process.terminate()


def _measure_request(process: int, port: int, path: str) -> Cost:
    memory, spent, started = read_memory_mb("VmRSS", process), read_cpu_seconds(process), time.perf_counter()
    body = _fetch(port, path)
    duration = time.perf_counter() - started
    assert body.endswith((b"</html>", b"</html>\n", b"\r\n"))
    return Cost(read_cpu_seconds(process) - spent, duration, read_memory_mb("VmRSS", process) - memory)


def _fetch(port: int, path: str) -> bytes:
    with suppress(OSError):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path)
        return b"\n" + connection.getresponse().read()
    return b""
