"""A receiver of remote write 1.0, strict about its protocol, that answers as a test wants."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import cramjam
from aiohttp import web

from exporter.history.remote_pb2 import WriteRequest
from exporter.simulators.base import run_simulation

LabelSet = frozenset[tuple[str, str]]
Sample = tuple[LabelSet, int, float]
ACCEPTED = (204, "")
ReceiverResponse = tuple[int, str] | tuple[int, str, dict[str, str]]


@dataclass
class StrictReceiver:
    """Keeps accepted samples; `respond` decides the response to the samples of a request."""

    now: Callable[[], datetime]
    respond: Callable[[list[Sample]], ReceiverResponse] = lambda _: ACCEPTED
    samples: dict[LabelSet, dict[int, float]] = field(default_factory=dict)
    requests: list[list[Sample]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests_in_progress: int = 0
    max_requests_in_progress: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def count_samples(self) -> int:
        """How many samples it has."""
        return sum(map(len, self.samples.values()))

    def build_app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/api/v1/write", self._write)
        return app

    async def _write(self, request: web.Request) -> web.Response:
        self.requests_in_progress += 1
        self.max_requests_in_progress = max(self.max_requests_in_progress, self.requests_in_progress)
        try:
            samples = list(self._parse_request(await request.read(), request))
            self.requests.append(samples)
            self.headers.append(dict(request.headers))
            status, text, *more = self.respond(samples)
        finally:
            self.requests_in_progress -= 1
        if status < 300:
            for labels, stamp, value in samples:
                self.samples.setdefault(labels, {})[stamp] = value
        return web.Response(status=status, text=text or None, headers=more[0] if more else None)  # type: ignore[arg-type]

    def _parse_request(self, body: bytes, request: web.Request) -> Iterator[Sample]:
        expected = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        self._check(all(request.headers.get(name) == value for name, value in expected.items()), "headers")
        self._check(request.headers.get("User-Agent", "").startswith("utility-exporter"), "user agent")
        message = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
        seen = set()
        for series in message.timeseries:
            pairs = [(label.name, label.value) for label in series.labels]
            self._check(pairs == sorted(pairs) and len({name for name, _ in pairs}) == len(pairs), "label order")
            self._check(all(name and value for name, value in pairs) and "__name__" in dict(pairs), "empty label")
            labels, stamps = frozenset(pairs), [sample.timestamp for sample in series.samples]
            self._check(bool(stamps) and stamps == sorted(set(stamps)), "time order")
            self._check(stamps[-1] <= self.now().timestamp() * 1000, "the future")
            self._check(labels not in seen, "a series twice")
            seen.add(labels)
            yield from ((labels, sample.timestamp, sample.value) for sample in series.samples)

    def _check(self, condition: bool, rule: str) -> None:
        if not condition:
            self.violations.append(rule)


@asynccontextmanager
async def run_receiver(receiver: StrictReceiver) -> AsyncIterator[str]:
    """Run it on the loopback; yield its URL, and fail on violations of the protocol."""
    async with run_simulation(receiver) as url:  # type: ignore[arg-type]  # of a simulation, only its app is needed
        yield f"{url}/api/v1/write"
    assert receiver.violations == []
