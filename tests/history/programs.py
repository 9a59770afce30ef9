"""Prometheus, promtool and VictoriaMetrics as they are installed, started on the loopback and stopped by their process id."""

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PACKAGES = {"curl": "curl", "prometheus": "prometheus", "promtool": "prometheus", "victoria-metrics": "victoria-metrics"}
TIMEOUT = 60


def find_program(name: str) -> str:
    """Find a program; a test that needs one it cannot find fails and says what to install."""
    found = shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/local/bin")
    assert found, f"{name} is not installed: it is in Debian's package {PACKAGES[name]}"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_promtool(*arguments: str | Path, timeout: float = TIMEOUT) -> str:
    done = subprocess.run(
        [find_program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class SeriesStore:
    """A store of series that answers Prometheus's queries."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url, self._client = url, client

    async def get(self, path: str, **params: Any) -> Any:
        async with self._client.post(f"{self.url}{path}", data=params) as answer:
            found = json.loads(await answer.text())
        assert found["status"] == "success", found
        return found["data"]

    async def query(self, query: str, at: float, **more: Any) -> Any:
        return (await self.get("/api/v1/query", query=query, time=at, **more))["result"]

    async def query_samples(
        self, selector: str, until: float, reach: str = "500d"
    ) -> dict[frozenset[tuple[str, str]], dict[int, float]]:
        """Every sample of the series, by labels and by milliseconds."""
        return {
            frozenset(series["metric"].items()): {round(at * 1000): float(value) for at, value in series["values"]}
            for series in await self.query(f"{selector}[{reach}]", until)
        }

    async def export_samples(self, selector: str) -> dict[frozenset[tuple[str, str]], dict[int, float]]:
        """Every sample as VictoriaMetrics holds it, as soon as it is visible."""
        async with self._client.get(f"{self.url}/internal/force_flush") as flushed:
            assert flushed.status == 200
        async with self._client.get(f"{self.url}/api/v1/export", params={"match[]": selector}) as answer:
            lines = (await answer.text()).splitlines()
        found: dict[frozenset[tuple[str, str]], dict[int, float]] = {}
        for series in map(json.loads, lines):
            samples = found.setdefault(frozenset(series["metric"].items()), {})
            samples.update(zip(series["timestamps"], series["values"], strict=True))
        return found


@asynccontextmanager
async def run_program(client: aiohttp.ClientSession, url: str, ready: str, *command: str) -> AsyncIterator[SeriesStore]:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(TIMEOUT):
            while not await _ready(client, url + ready):
                assert process.returncode is None, f"{command[0]} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        yield SeriesStore(url, client)
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(TIMEOUT):
            await process.wait()


async def _ready(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def write_file(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


@asynccontextmanager
async def run_prometheus(
    client: aiohttp.ClientSession, folder: Path, config: str = "", *flags: str
) -> AsyncIterator[SeriesStore]:
    """Run Prometheus on a folder; `config` is its prometheus.yml."""
    file = write_file(folder / "prometheus.yml", config)
    port = free_port()
    command = [
        find_program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    async with run_program(client, f"http://127.0.0.1:{port}", "/-/ready", *command) as store:
        yield store


@asynccontextmanager
async def run_victoria_metrics(client: aiohttp.ClientSession, folder: Path, *flags: str) -> AsyncIterator[SeriesStore]:
    """Run VictoriaMetrics on a folder, keeping a hundred years, and what was just written visible at once."""
    port = free_port()
    command = [
        find_program("victoria-metrics"),
        f"-storageDataPath={folder}",
        "-retentionPeriod=100y",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.disableCache",
        "-search.latencyOffset=0s",
        "-search.maxStalenessInterval=1m",
        *flags,
    ]
    async with run_program(client, f"http://127.0.0.1:{port}", "/health", *command) as store:
        yield store
