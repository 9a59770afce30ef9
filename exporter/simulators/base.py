"""The base class of simulated portals: a web application with known data, a log of requests, and faults to inject."""

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
    """Return the present instant."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A received request, with `query` as sent."""

    method: str
    path: str
    query: dict[str, str]
    received_at: datetime


@dataclass(slots=True)
class FaultRules:
    """The faults to inject: the first rule whose `pattern` is a part of the request's path and query applies.

    A fault is `status:503`, `retry:120` (429 with Retry-After), `html`, `empty`, `garbage`, `hang`, `reset`, `cut`
    (half a body), or a fault of one portal. A rule ends after `times` requests (None: never).
    """

    rules: list[list[Any]] = field(default_factory=list)

    def add(self, pattern: str, fault: str, times: int | None = None) -> None:
        """Add a rule."""
        self.rules.append([pattern, fault, times])

    def clear(self) -> None:
        """Remove all rules."""
        self.rules.clear()

    def match(self, target: str) -> str | None:
        """Return the fault of a path and query, if any, and count it."""
        for rule in self.rules:
            pattern, fault, times = rule
            if pattern in target and (times is None or times > 0):
                rule[2] = times if times is None else times - 1
                return str(fault)
        return None


class Simulation(ABC):
    """A portal simulated from its protocol alone: it shares no code with the client."""

    portal: ClassVar[str]
    """The name of the portal in the configuration."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self.clock = clock
        self.faults = FaultRules()
        self.requests: list[ReceivedRequest] = []

    @abstractmethod
    def add_routes(self, app: web.Application) -> None:
        """Add the portal's routes."""

    @abstractmethod
    def build_accounts(self, url: str) -> list[dict[str, Any]]:
        """Return the `accounts` entries of a configuration that visits this simulation at `url`."""

    def aliases(self) -> dict[str, str]:
        """Return the names that a person would give to the usage points."""
        return {}

    def demo_account(self, url: str) -> dict[str, Any]:
        """Return the one account that the demo shows, with a name for every usage point."""
        return self.build_accounts(url)[0] | {"aliases": self.aliases()}

    def build_app(self) -> web.Application:
        """Return the portal's web application."""
        app = web.Application(middlewares=[self._record_request])
        self.add_routes(app)
        return app

    @web.middleware
    async def _record_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(ReceivedRequest(request.method, request.path, dict(request.query), self.clock()))
        fault = self.faults.match(request.path_qs)
        if fault is None:
            return await handler(request)
        return await self.inject_fault(fault, request, handler)

    async def inject_fault(self, fault: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Respond with a fault; a simulation adds its own faults to these."""
        kind, _, number = fault.partition(":")
        responses: dict[str, Callable[[], web.StreamResponse]] = {
            "status": lambda: web.Response(status=int(number), text="something went wrong"),
            "retry": lambda: web.Response(status=429, headers={"Retry-After": number}),
            "html": lambda: web.Response(text="<!DOCTYPE html><title>Maintenance</title>", content_type="text/html"),
            "empty": lambda: web.Response(text=""),
            "garbage": lambda: web.Response(text='{"half": [', content_type="application/json"),
        }
        if kind in responses:
            return responses[kind]()
        if kind == "cut":
            return await self._send_half(request, handler)
        if kind == "hang":
            await asyncio.sleep(3600)
        elif kind == "reset" and request.transport is not None:
            request.transport.abort()
        return web.Response(status=500, text=f"no such fault: {fault}")

    async def _send_half(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        assert isinstance(response, web.Response)
        assert request.transport is not None
        body = response.body if isinstance(response.body, bytes) else b"nothing, as in a redirect"
        half = web.StreamResponse(status=response.status, headers={"Content-Length": str(len(body))})
        await half.prepare(request)
        await half.write(body[: len(body) // 2])
        request.transport.close()
        return half


@asynccontextmanager
async def run_simulation(simulation: Simulation, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve a simulation on the loopback, and yield its address without a final slash."""
    runner = web.AppRunner(simulation.build_app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        assert site._server is not None
        host, bound_port = site._server.sockets[0].getsockname()[:2]  # type: ignore[attr-defined]  # a socket server on TCP
        yield f"{'https' if tls else 'http'}://{host}:{bound_port}"
    finally:
        await runner.cleanup()
