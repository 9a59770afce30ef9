"""A scrape over HTTP: ours, the same bytes from a bare aiohttp server and from nginx, and what the two client libraries need."""

import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Report
from benchmarks.peers import build_go, find, nginx, saying_port, server

PLAIN, GZIP = "plain", "gzip"
LIBRARIES = ("prometheus_client", "Go client")
BUDGET, LEAST, MOST = 4.0, 3, 40
"""Seconds for each server, form and size; a scrape is repeated within these bounds."""


def measure(sizes: Sequence[int]) -> Report:
    """Scrape all of them in turn, size by size."""
    report = Report("Scrape", "ms, the median of many; every scrape in a second of its own: none finds the ages of another")
    with tempfile.TemporaryDirectory() as work:
        go = build_go(Path(work))
        if isinstance(go, str):
            report.notes.append(go)
        if not find("nginx"):
            report.notes.append("nginx is not installed")
        for series in sizes:
            with tempfile.TemporaryDirectory() as folder:
                report.figures += _at(series, Path(folder), go if isinstance(go, Path) else None)
    _judge(report)
    return report


def _at(series: int, folder: Path, go: Path | None) -> list[Figure]:
    with ExitStack() as stack:
        ports = {"exporter": stack.enter_context(server("ours", folder, series))}
        ports["bare aiohttp"] = stack.enter_context(server("bare", folder, series))
        if find("nginx"):
            ports["nginx"] = stack.enter_context(nginx(folder))
        ports["prometheus_client"] = stack.enter_context(server("library", folder, series))
        if go:
            ports["Go client"] = stack.enter_context(saying_port(go, folder / "page.txt"))
        return [Figure(f"{who}, {form}", series, took * 1000) for form in (PLAIN, GZIP) for who, took in _scraped(ports, form)]


def _scraped(ports: dict[str, int], form: str) -> list[tuple[str, float]]:
    """Scrape the quick ones turn by turn, then the libraries; gives the median seconds of each."""
    with ExitStack() as stack:
        doors = {who: stack.enter_context(_Door(port, form)) for who, port in ports.items()}
        quick = [who for who in doors if who not in LIBRARIES]
        taken: dict[str, list[float]] = {who: [] for who in doors}
        for door in doors.values():
            door.scrape()
        ends = time.monotonic() + BUDGET * len(quick)
        while len(taken["exporter"]) < LEAST or (time.monotonic() < ends and len(taken["exporter"]) < MOST):
            _next_second()
            for who in quick:
                taken[who].append(doors[who].scrape())
            quick.append(quick.pop(0))  # the first after a pause finds a sleeping machine, whoever it is
        for who in doors.keys() - quick:
            ends = time.monotonic() + BUDGET
            while len(taken[who]) < LEAST or (time.monotonic() < ends and len(taken[who]) < MOST):
                _next_second()
                taken[who].append(doors[who].scrape())
    return [(who, median(seconds)) for who, seconds in taken.items()]


def _next_second() -> None:
    time.sleep(1.02 - time.time() % 1)


class _Door:
    """A connection that is kept, as Prometheus keeps its own."""

    def __init__(self, port: int, form: str) -> None:
        encoding = "gzip" if form == GZIP else "identity"
        self._asked = f"GET /metrics HTTP/1.1\r\nHost: here\r\nAccept-Encoding: {encoding}\r\n\r\n".encode()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._room = bytearray(1 << 20)

    def __enter__(self) -> "_Door":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def scrape(self) -> float:
        """Ask, read it all, and give the seconds."""
        started = time.perf_counter()
        self._socket.sendall(self._asked)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._socket.recv(65536)
        head, _, begun = head.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if b"content-length" in fields:
            self._read(int(fields[b"content-length"]) - len(begun))
        else:
            self._read_chunks(begun)
        assert head.startswith(b"HTTP/1.1 200")
        return time.perf_counter() - started

    def _read(self, length: int) -> None:
        while length > 0:
            length -= self._socket.recv_into(self._room, min(length, len(self._room)))

    def _read_chunks(self, tail: bytes) -> None:
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            got = self._socket.recv_into(self._room)
            tail = (tail + bytes(self._room[max(0, got - 8) : got]))[-16:]


def _judge(report: Report) -> None:
    for form in (PLAIN, GZIP):
        report.goals += [
            report.ratio(
                f"scrape of 100,000 series, {form}: to a bare aiohttp server's",
                f"exporter, {form}",
                f"bare aiohttp, {form}",
                most=2,
            ),
            report.ratio(
                f"prometheus_client's scrape to ours, {form}", f"prometheus_client, {form}", f"exporter, {form}", least=100
            ),
            report.ratio(f"Go's client's scrape to ours, {form}", f"Go client, {form}", f"exporter, {form}", least=50),
        ]
