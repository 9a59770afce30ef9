"""A scrape over HTTP: ours, the same bytes from a bare aiohttp server and from nginx, and what the two client libraries need."""

import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.comparison_servers import build_go, find_program, run_benchmark_server, run_nginx, run_server
from benchmarks.results import Figure, Report

PLAIN, GZIP = "plain", "gzip"
LIBRARIES = ("prometheus_client", "Go client")
SECONDS_PER_SERVER, MIN_SCRAPES, MAX_SCRAPES = 4.0, 3, 40
"""Seconds for each server, form and size; a scrape is repeated within these bounds."""


def measure(sizes: Sequence[int]) -> Report:
    """Scrape all of them in turn, size by size."""
    report = Report("Scrape", "ms, the median of many; every scrape in a second of its own: none finds the ages of another")
    with tempfile.TemporaryDirectory() as work:
        go = build_go(Path(work))
        if isinstance(go, str):
            report.notes.append(go)
        if not find_program("nginx"):
            report.notes.append("nginx is not installed")
        for series in sizes:
            with tempfile.TemporaryDirectory() as folder:
                report.figures += _measure_size(series, Path(folder), go if isinstance(go, Path) else None)
    _check_goals(report)
    return report


def _measure_size(series: int, folder: Path, go: Path | None) -> list[Figure]:
    with ExitStack() as stack:
        ports = {"exporter": stack.enter_context(run_benchmark_server("ours", folder, series))}
        ports["bare aiohttp"] = stack.enter_context(run_benchmark_server("bare", folder, series))
        if find_program("nginx"):
            ports["nginx"] = stack.enter_context(run_nginx(folder))
        ports["prometheus_client"] = stack.enter_context(run_benchmark_server("library", folder, series))
        if go:
            ports["Go client"] = stack.enter_context(run_server(go, folder / "page.txt"))
        return [
            Figure(f"{who}, {form}", series, duration * 1000)
            for form in (PLAIN, GZIP)
            for who, duration in _time_scrapes(ports, form)
        ]


def _time_scrapes(ports: dict[str, int], form: str) -> list[tuple[str, float]]:
    """Scrape the quick ones turn by turn, then the libraries; return the median seconds of each."""
    with ExitStack() as stack:
        connections = {who: stack.enter_context(_Connection(port, form)) for who, port in ports.items()}
        quick = [who for who in connections if who not in LIBRARIES]
        durations: dict[str, list[float]] = {who: [] for who in connections}
        for connection in connections.values():
            connection.scrape()
        ends = time.monotonic() + SECONDS_PER_SERVER * len(quick)
        while len(durations["exporter"]) < MIN_SCRAPES or (time.monotonic() < ends and len(durations["exporter"]) < MAX_SCRAPES):
            _wait_for_next_second()
            for who in quick:
                durations[who].append(connections[who].scrape())
            quick.append(quick.pop(0))  # the first after a pause is slower, whichever it is
        for who in connections.keys() - quick:
            ends = time.monotonic() + SECONDS_PER_SERVER
            while len(durations[who]) < MIN_SCRAPES or (time.monotonic() < ends and len(durations[who]) < MAX_SCRAPES):
                _wait_for_next_second()
                durations[who].append(connections[who].scrape())
    return [(who, median(seconds)) for who, seconds in durations.items()]


def _wait_for_next_second() -> None:
    time.sleep(1.02 - time.time() % 1)


class _Connection:
    """A connection that is kept, as Prometheus keeps its own."""

    def __init__(self, port: int, form: str) -> None:
        encoding = "gzip" if form == GZIP else "identity"
        self._request = f"GET /metrics HTTP/1.1\r\nHost: here\r\nAccept-Encoding: {encoding}\r\n\r\n".encode()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def scrape(self) -> float:
        """Request the page, read it, and return the seconds."""
        started = time.perf_counter()
        self._socket.sendall(self._request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._socket.recv(65536)
        head, _, begun = head.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if b"content-length" in fields:
            self._read_body(int(fields[b"content-length"]) - len(begun))
        else:
            self._read_chunks(begun)
        assert head.startswith(b"HTTP/1.1 200")
        return time.perf_counter() - started

    def _read_body(self, length: int) -> None:
        while length > 0:
            length -= self._socket.recv_into(self._buffer, min(length, len(self._buffer)))

    def _read_chunks(self, tail: bytes) -> None:
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            got = self._socket.recv_into(self._buffer)
            tail = (tail + bytes(self._buffer[max(0, got - 8) : got]))[-16:]


def _check_goals(report: Report) -> None:
    for form in (PLAIN, GZIP):
        report.goals += [
            report.check_ratio(
                f"scrape of 100,000 series, {form}: to a bare aiohttp server's",
                f"exporter, {form}",
                f"bare aiohttp, {form}",
                maximum=2,
            ),
            report.check_ratio(
                f"prometheus_client's scrape to ours, {form}", f"prometheus_client, {form}", f"exporter, {form}", minimum=100
            ),
            report.check_ratio(f"Go's client's scrape to ours, {form}", f"Go client, {form}", f"exporter, {form}", minimum=50),
        ]
