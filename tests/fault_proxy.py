"""Simulated portals with somebody in between, and an account's life with them: for hostile answers, secrets and faults."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from exporter.commands.demo import build_simulations
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.metrics.exposition import OPENMETRICS, TEXT
from exporter.poller import AccountPoller
from exporter.portals.base import Portal
from exporter.portals.enedis.client import ConsoClient
from exporter.simulators.base import Handler, Simulation, run_simulation
from exporter.visit import BacklogSettings
from tests.conftest import NOW, FakeClock, build_portal_of, load_installed_portals

ReadingValues = dict[tuple[str, str, str, str, str, str, datetime], float]
"""Account, usage point, register, direction, unit, resolution and instant: the value."""
Attack = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@cache
def list_simulation_types() -> dict[str, type[Simulation]]:
    """The simulations there are, by the name of their portal."""
    return {simulation.portal: type(simulation) for simulation in build_simulations()}


"""The portals by name, looked for once."""
LOGINS: dict[str, Callable[[Any], int]] = {
    "cem": lambda portal: sum(request.query.get("id") == "4" for request in portal.requests),
    "water-link": lambda portal: portal.login_count,
    "fluvius": lambda portal: sum("SelfAsserted" in request.path for request in portal.requests),
}
"""How often somebody logged in at a simulation; Enedis has tokens only."""
SMALL_ACCOUNTS = {"enedis": ("usage_points", slice(1)), "fluvius": ("meters", slice(None, None, 2))}
"""Which of an account's usage points are enough for a request of every kind, for visits by the thousand."""


def remove_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no portal wait between requests, nor ask for more than a little of the past at each visit."""
    for portal in load_installed_portals().values():
        monkeypatch.setattr(portal.config_model, "min_request_gap", timedelta(0))
    monkeypatch.setattr(ConsoClient, "quota", replace(ConsoClient.quota, calls_per_step=1))


@dataclass
class FaultProxy:
    """Stands between a client and a simulation; strikes at one request of a visit, counted from 0, or at every one."""

    simulation: Simulation
    attack: Attack | None = None
    request_number: int | None = None
    requests: list[str] = field(default_factory=list)
    json_requests: list[int] = field(default_factory=list)
    """The requests that were answered with JSON."""

    def build_app(self) -> web.Application:
        app = self.simulation.build_app()
        app.middlewares.insert(0, self._handle)
        return app

    @web.middleware
    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        number = len(self.requests)
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.attack and (self.request_number in (None, number) or self._is_retry(number)):
            return await self.attack(request, handler)
        answer = await handler(request)
        if isinstance(answer, web.Response) and isinstance(answer.body, bytes) and answer.body[:1] in (b"{", b"["):
            self.json_requests.append(number)
        return answer

    def _is_retry(self, number: int) -> bool:
        """Return whether the client asks once more what was struck: aiohttp does so by itself where a kept connection breaks."""
        return (
            self.request_number is not None
            and number == self.request_number + 1
            and self.requests[number] == self.requests[self.request_number]
        )

    def build_account(self, url: str, **overrides: Any) -> Portal:
        """Return the account as a configuration would."""
        account = self.simulation.build_accounts(url)[0]
        return build_portal_of(account | overrides)

    def build_small_account(self, url: str, **overrides: Any) -> Portal:
        """Return the account with fewer usage points."""
        key, some = SMALL_ACCOUNTS.get(self.simulation.portal, ("", slice(0)))
        return self.build_account(url, **({key: self.simulation.build_accounts(url)[0][key][some]} if key else {}), **overrides)


def select_first_per_kind(requests: list[str]) -> tuple[int, ...]:
    """Return the place of the first request of each kind: what differs in a meter's number, a day or a direction is one kind."""
    kinds_asked = [re.sub(r"\d{4,}.*|consommation|production", "", one) for one in requests]
    return tuple(kinds_asked.index(kind) for kind in dict.fromkeys(kinds_asked))


@asynccontextmanager
async def run_fault_proxy(
    portal_name: str, clock: FakeClock, attack: Attack | None = None, request_number: int | None = None
) -> AsyncIterator[tuple[FaultProxy, str]]:
    """Serve a simulation with somebody in between."""
    between = FaultProxy(list_simulation_types()[portal_name](clock), attack, request_number)
    async with run_simulation(between) as url:  # type: ignore[arg-type]  # all that is asked of it is an app
        yield between, url


@asynccontextmanager
async def serve_app(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on the loopback."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


@dataclass
class AccountSnapshot:
    """What an account holds after a visit: its state, its readings by line and instant, both forms of the page."""

    state: AccountState
    readings: ReadingValues
    text: str
    openmetrics: str


@asynccontextmanager
async def open_account(
    folder: Path, portal: Portal, clock: FakeClock, *, reads_backlog: bool = False
) -> AsyncIterator[tuple[AccountPoller, Callable[[], AccountSnapshot]]]:
    """Open an account as a start of the program does."""
    with Ledger(folder) as ledger:
        page = MetricsPage(ledger, clock, "0")
        # Older days are the engine's matter, and mostly tried with it.
        poller = AccountPoller(portal, ledger, page, clock, lambda: 0.5, BacklogSettings(enabled=reads_backlog))
        await poller.open()
        yield (
            poller,
            lambda: AccountSnapshot(
                replace(poller.state), dict(list_readings(ledger)), page.render(TEXT).decode(), page.render(OPENMETRICS).decode()
            ),
        )


def list_readings(ledger: Ledger) -> Iterator[tuple[Any, float]]:
    """Return every reading kept."""
    early, late = NOW - timedelta(days=36_000), NOW + timedelta(days=36_000)
    with ledger.snapshot() as snapshot:
        for line in snapshot.select_series():
            key = (line.account, line.usage_point, line.register, str(line.direction), str(line.unit), line.resolution)
            for kept in snapshot.select_readings(line.id, early, late):
                yield (*key, kept.at), kept.value


async def run_visit(
    folder: Path, portal_name: str, clock: FakeClock, attack: Attack | None = None, request_number: int | None = None, **keys: Any
) -> tuple[FaultProxy, AccountSnapshot]:
    """Visit once with a small account, from opening the ledger to closing it."""
    async with (
        run_fault_proxy(portal_name, clock, attack, request_number) as (between, url),
        open_account(folder, between.build_small_account(url, **keys), clock) as (poller, read_account),
    ):
        await poller.visit()
        return between, read_account()
