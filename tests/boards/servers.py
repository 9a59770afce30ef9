"""Prometheus, Alertmanager and the demo as processes on the loopback, with the project's own files, only quicker."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from exporter.history.remote_write_sender import DeliveryStats
from tests.boards.grafana_queries import ROOT
from tests.history.programs import free_port

TIMEOUT = 60.0
FOLDER = ROOT / "prometheus"
PROGRAM_NAMES = {"prometheus": ("prometheus",), "alertmanager": ("alertmanager", "prometheus-alertmanager")}


def find_program(name: str) -> str:
    """Find a program under any of its names; a test that needs one it cannot find fails and says what to install."""
    found = next((path for known in PROGRAM_NAMES[name] if (path := shutil.which(known))), None)
    assert found, f"{name} is not installed: it is in Debian's package {PROGRAM_NAMES[name][-1]}"
    return found


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A program that answers at `url`."""

    url: str

    def get(self, path: str, **query: str | float) -> Any:
        """Ask Prometheus's API; the answer's data, which must be a success."""
        data = urllib.parse.urlencode(query, doseq=True)
        address = f"{self.url}{path}?{data}" if len(data) < 4000 else self.url + path
        with urllib.request.urlopen(address, None if "?" in address else data.encode(), timeout=TIMEOUT) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query_value(self, expr: str) -> float | None:
        """Return the value of an expression that has at most one series."""
        found = self.get("/api/v1/query", query=expr)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def reload(self) -> None:
        """Let Prometheus read its configuration and rules anew."""
        with urllib.request.urlopen(f"{self.url}/-/reload", b"", timeout=TIMEOUT) as answer:
            assert answer.status == 200

    def get_page(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=TIMEOUT) as answer:
            return str(answer.read().decode())


def wait_until(condition: Any, description: str, timeout: float = TIMEOUT) -> Any:
    """Wait until something in another process has happened; gives what it gave."""
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {timeout:g} s: {description}"
        time.sleep(0.1)
    return found


@contextmanager
def run_server(
    ready: str, url: str, *command: str, env: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[RunningServer]:
    """Run a program in a folder until the block ends; it has begun when `ready` answers."""
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed when the program has ended
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=env, cwd=folder)
    server = RunningServer(url)

    def answers() -> bool:
        assert process.poll() is None, f"{command[0]} ended: {errors.seek(0) or errors.read()}"
        try:
            return bool(server.get_page(ready))
        except (urllib.error.URLError, ConnectionError):
            return False

    try:
        wait_until(answers, f"{command[0]} is ready")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        finally:
            process.kill()
            errors.close()


@contextmanager
def run_sender_page() -> Iterator[RunningServer]:
    """Serve the page of an exporter that delivers to a receiver, which the demo does not do."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(build_delivery(time.time()).encode())

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield RunningServer(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def build_delivery(now: float) -> str:
    """Say how a delivery fares that never ends."""
    moment = int(now * 1000)
    fares = DeliveryStats(
        "cluster",
        up=True,
        pending=1200,
        sent=moment // 10,
        refused=3,
        corrections=7,
        last_success_ms=moment,
        pending_since_ms=moment,
    )
    samples = fares.to_samples(datetime.fromtimestamp(now, UTC))
    return "".join(
        f'{name}{{target="{target}"}} {value!r}\n' for name, one in samples.items() for (target,), value in one.items()
    )


@contextmanager
def run_demo(storage: Path) -> Iterator[RunningServer]:
    """Run `utility-exporter demo` on a storage folder."""
    url = f"http://127.0.0.1:{free_port()}"
    command = (sys.executable, "-m", "exporter", "demo", f"--storage.path={storage}", "--log.level=error")
    with run_server(
        "/-/ready", url, *command, f"--web.listen-address={url[7:]}", env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as server:
        yield server


@contextmanager
def run_prometheus(
    folder: Path, exporter: str, *, history: bool = True, alertmanager: str = "", beside: str = ""
) -> Iterator[RunningServer]:
    """Run Prometheus with the project's configuration and rules: `exporter` is scraped, and read as history if wanted.

    `beside` is scraped too.
    """
    folder.mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{free_port()}"
    config = copy_rules_with_short_intervals(folder, exporter[7:], url[7:], alertmanager[7:])
    if beside:
        config["scrape_configs"][0]["static_configs"][0]["targets"].append(beside[7:])
    if not history:
        del config["remote_read"]
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    command = (f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={url[7:]}")
    # Blocks are filled with a year and more: they must not be thrown away.
    command += ("--storage.tsdb.retention.time=1500d", "--rules.alert.resend-delay=1s", "--web.enable-lifecycle")
    with run_server("/-/ready", url, find_program("prometheus"), *command) as server:
        yield server


@contextmanager
def run_alertmanager(folder: Path, receiver: str) -> Iterator[RunningServer]:
    """Run Alertmanager with the project's configuration, its receiver filled in with a webhook, grouping within a second."""
    folder.mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{free_port()}"
    config = yaml.safe_load((FOLDER / "alertmanager.yaml").read_text())
    config["receivers"][0]["webhook_configs"] = [{"url": receiver}]
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    file = folder / "alertmanager.yaml"
    file.write_text(yaml.safe_dump(config))
    command = (f"--config.file={file}", f"--storage.path={folder / 'alerts'}", f"--web.listen-address={url[7:]}")
    binary = find_program("alertmanager")
    # Unpacked beside the project, it finds its templates from the folder that stands for /.
    root = Path(binary).parent.parent.parent
    with run_server("/-/ready", url, binary, *command, "--cluster.listen-address=", folder=root) as server:
        yield server


def copy_rules_with_short_intervals(folder: Path, exporter: str, itself: str, alertmanager: str) -> dict[str, Any]:
    """Copy the rules into `folder`, evaluated every second and firing at once, and give the configuration for them.

    That is all that is changed: expressions, labels and texts are the project's.
    """
    for name in ("rules.yaml", "settings.yaml"):
        rules = yaml.safe_load((FOLDER / name).read_text())
        for group in rules["groups"]:
            # What reads a year of history is not read every second.
            if group.pop("interval", None) and group["name"] == "utility-expected":
                group["interval"] = "20s"
            for rule in group["rules"]:
                rule.pop("for", None)
        (folder / name).write_text(yaml.safe_dump(rules))
    hosts = {"exporter:10230": exporter, "localhost:9090": itself, "alertmanager:9093": alertmanager or "127.0.0.1:9"}
    text = (FOLDER / "prometheus.yaml").read_text()
    for host, address in hosts.items():
        assert host in text
        text = text.replace(host, address)
    config: dict[str, Any] = yaml.safe_load(re.sub(r"(scrape|evaluation)_interval: 1m", r"\1_interval: 1s", text))
    assert config["global"] == {"scrape_interval": "1s", "evaluation_interval": "1s"}
    return config


def evaluate_rules_seldom(folder: Path, prometheus: RunningServer) -> None:
    """Let Prometheus evaluate its rules once a minute from now on, as shipped: every second costs as much as the tests."""
    for name in ("rules.yaml", "settings.yaml"):
        rules = yaml.safe_load((folder / name).read_text())
        for group in rules["groups"]:
            group["interval"] = "1m"
        (folder / name).write_text(yaml.safe_dump(rules))
    prometheus.reload()
