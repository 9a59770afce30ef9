"""What every simulated portal is: a web application with a truth of its own, a log of requests, and switches for faults."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def utc_now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in: `query` as sent, so that a test can count and compare."""

    method: str
    path: str
    query: dict[str, str]
    at: datetime


@dataclass(slots=True)
class Faults:
    """What goes wrong, by path (and query text): the first fault whose `where` stands in the request's path and query.

    `what` is `status:503`, `retry:120` (429 with Retry-After), `html`, `empty`, `garbage`, `hang`, `reset`, `cut`
    (half a body), or a word that only the portal itself knows. A fault ends after `times` requests (None: never).
    """

    switches: list[list[Any]] = field(default_factory=list)

    def set(self, where: str, what: str, times: int | None = None) -> None:
        """Switch a fault on."""
        self.switches.append([where, what, times])

    def clear(self) -> None:
        """Switch all faults off."""
        self.switches.clear()

    def at(self, place: str) -> str | None:
        """Say what goes wrong at a place, counting it."""
        for switch in self.switches:
            if switch[0] in place and (switch[2] is None or switch[2] > 0):
                switch[2] = switch[2] if switch[2] is None else switch[2] - 1
                return str(switch[1])
        return None


class Simulation(ABC):
    """One portal, simulated from its protocol alone: it shares no code with the client."""

    portal: ClassVar[str]
    """The name of the portal in the configuration."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self.clock = clock
        self.faults = Faults()
        self.seen: list[Seen] = []

    @abstractmethod
    def routes(self, app: web.Application) -> None:
        """Add the portal's addresses."""

    @abstractmethod
    def accounts(self, url: str) -> list[dict[str, Any]]:
        """Give the `accounts` entries of a configuration that visits this simulation at `url`."""

    def aliases(self) -> dict[str, str]:
        """Return the names that a person would give to the usage points."""
        return {}

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the one account that the demo shows, with a name for every usage point."""
        return self.accounts(url)[0] | {"aliases": self.aliases()}

    def app(self) -> web.Application:
        """Make the portal's web application."""
        app = web.Application(middlewares=[self._watch])
        self.routes(app)
        return app

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append(Seen(request.method, request.path, dict(request.query), self.clock()))
        fault = self.faults.at(request.path_qs)
        if fault is None:
            return await handler(request)
        return await self.fail(fault, request, handler)

    async def fail(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer wrongly, in the way the fault says; a simulation adds its own words to these."""
        kind, _, number = fault.partition(":")
        answers: dict[str, Callable[[], web.StreamResponse]] = {
            "status": lambda: web.Response(status=int(number), text="something went wrong"),
            "retry": lambda: web.Response(status=429, headers={"Retry-After": number}),
            "html": lambda: web.Response(text="<!DOCTYPE html><title>Maintenance</title>", content_type="text/html"),
            "empty": lambda: web.Response(text=""),
            "garbage": lambda: web.Response(text='{"half": [', content_type="application/json"),
        }
        if kind in answers:
            return answers[kind]()
        if kind == "cut":
            return await self._cut(request, handler)
        if kind == "hang":
            await asyncio.sleep(3600)
        elif kind == "reset" and request.transport is not None:
            request.transport.abort()
        return web.Response(status=500, text=f"no such fault: {fault}")

    async def _cut(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        whole = await handler(request)
        assert isinstance(whole, web.Response)
        assert request.transport is not None
        body = whole.body if isinstance(whole.body, bytes) else b"nothing, as in a redirect"
        half = web.StreamResponse(status=whole.status, headers={"Content-Length": str(len(body))})
        await half.prepare(request)
        await half.write(body[: len(body) // 2])
        request.transport.close()
        return half


@asynccontextmanager
async def running(simulation: Simulation, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve a simulation on the loopback; gives its address without a final slash."""
    runner = web.AppRunner(simulation.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        assert site._server is not None
        host, taken = site._server.sockets[0].getsockname()[:2]  # type: ignore[attr-defined]  # a socket server on TCP
        yield f"{'https' if tls else 'http'}://{host}:{taken}"
    finally:
        await runner.cleanup()
