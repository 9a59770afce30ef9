"""A receiver of remote write 1.0, strict about its protocol, that answers as a test wants."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import cramjam
from aiohttp import web

from exporter.demo.base import running
from exporter.history.messages import MESSAGES

Labels = frozenset[tuple[str, str]]
Sample = tuple[Labels, int, float]
TAKEN = (204, "")
Answer = tuple[int, str] | tuple[int, str, dict[str, str]]


@dataclass
class StrictReceiver:
    """Keeps what it takes; `rule` says what it answers to the samples of a request."""

    now: Callable[[], datetime]
    rule: Callable[[list[Sample]], Answer] = lambda _: TAKEN
    kept: dict[Labels, dict[int, float]] = field(default_factory=dict)
    requests: list[list[Sample]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """How many samples it has."""
        return sum(map(len, self.kept.values()))

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/api/v1/write", self._write)
        return app

    async def _write(self, request: web.Request) -> web.Response:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            samples = list(self._understood(await request.read(), request))
            self.requests.append(samples)
            self.headers.append(dict(request.headers))
            status, text, *more = self.rule(samples)
        finally:
            self.under_way -= 1
        if status < 300:
            for labels, stamp, value in samples:
                self.kept.setdefault(labels, {})[stamp] = value
        return web.Response(status=status, text=text or None, headers=more[0] if more else None)  # type: ignore[arg-type]

    def _understood(self, body: bytes, request: web.Request) -> Iterator[Sample]:
        expected = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        self._want(all(request.headers.get(name) == value for name, value in expected.items()), "headers")
        self._want(request.headers.get("User-Agent", "").startswith("utility-exporter"), "user agent")
        message = MESSAGES["WriteRequest"].FromString(bytes(cramjam.snappy.decompress_raw(body)))
        seen = set()
        for series in message.timeseries:
            pairs = [(label.name, label.value) for label in series.labels]
            self._want(pairs == sorted(pairs) and len({name for name, _ in pairs}) == len(pairs), "label order")
            self._want(all(name and value for name, value in pairs) and "__name__" in dict(pairs), "empty label")
            labels, stamps = frozenset(pairs), [sample.timestamp for sample in series.samples]
            self._want(bool(stamps) and stamps == sorted(set(stamps)), "time order")
            self._want(stamps[-1] <= self.now().timestamp() * 1000, "the future")
            self._want(labels not in seen, "a series twice")
            seen.add(labels)
            yield from ((labels, sample.timestamp, sample.value) for sample in series.samples)

    def _want(self, good: bool, what: str) -> None:
        if not good:
            self.faults.append(what)


@asynccontextmanager
async def receiving(receiver: StrictReceiver) -> AsyncIterator[str]:
    """Run it on the loopback; gives its address, and wants no fault of the protocol at the end."""
    async with running(receiver) as url:  # type: ignore[arg-type]  # of a simulation, only its app is needed
        yield f"{url}/api/v1/write"
    assert receiver.faults == []
