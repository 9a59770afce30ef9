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

from exporter.config import portals
from exporter.demo.base import Handler, Simulation, running
from exporter.demo.runner import simulations
from exporter.ledger import AccountState, Ledger
from exporter.metrics import OPENMETRICS, TEXT, Page
from exporter.poller import AccountPoller
from exporter.portals.base import Portal
from exporter.portals.enedis.conso import Conso
from tests.conftest import NOW, Clock

Readings = dict[tuple[str, str, str, str, str, str, datetime], float]
"""Account, usage point, register, direction, unit, resolution and instant: the value."""
Attack = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@cache
def kinds() -> dict[str, type[Simulation]]:
    """The simulations there are, by the name of their portal."""
    return {simulation.portal: type(simulation) for simulation in simulations()}


installed = cache(portals)
"""The portals by name, looked for once."""
LOGINS: dict[str, Callable[[Any], int]] = {
    "cem": lambda portal: sum(seen.query.get("id") == "4" for seen in portal.seen),
    "water-link": lambda portal: portal.logins,
    "fluvius": lambda portal: sum("SelfAsserted" in seen.path for seen in portal.seen),
}
"""How often somebody logged in at a simulation; Enedis has tokens only."""
FEWER = {"enedis": ("usage_points", slice(1)), "fluvius": ("meters", slice(None, None, 2))}
"""Which of an account's usage points are enough for a request of every kind, for visits by the thousand."""


def hurried(patch: pytest.MonkeyPatch) -> None:
    """Have no portal wait between requests, nor ask for more than a little of the past at each visit."""
    for portal in installed().values():
        patch.setattr(portal, "pace", timedelta(0))
    patch.setattr(Conso, "budget", replace(Conso.budget, trickle=1))


@dataclass
class Between:
    """Stands between a client and a simulation; strikes at one request of a visit, counted from 0, or at every one."""

    simulation: Simulation
    attack: Attack | None = None
    at: int | None = None
    asked: list[str] = field(default_factory=list)
    json: list[int] = field(default_factory=list)
    """The requests that were answered with JSON."""

    def app(self) -> web.Application:
        app = self.simulation.app()
        app.middlewares.insert(0, self._strike)
        return app

    @web.middleware
    async def _strike(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        number = len(self.asked)
        self.asked.append(f"{request.method} {request.path_qs}")
        if self.attack and (self.at in (None, number) or self._asked_again(number)):
            return await self.attack(request, handler)
        answer = await handler(request)
        if isinstance(answer, web.Response) and isinstance(answer.body, bytes) and answer.body[:1] in (b"{", b"["):
            self.json.append(number)
        return answer

    def _asked_again(self, number: int) -> bool:
        """Tell whether the client asks once more what was struck: aiohttp does so by itself where a kept connection breaks."""
        return self.at is not None and number == self.at + 1 and self.asked[number] == self.asked[self.at]

    def portal(self, url: str, **keys: Any) -> Portal:
        """Give the account as a configuration would."""
        account = self.simulation.accounts(url)[0]
        return installed()[account["portal"]](**account | keys)

    def small(self, url: str, **keys: Any) -> Portal:
        """Give the account with fewer usage points."""
        key, some = FEWER.get(self.simulation.portal, ("", slice(0)))
        return self.portal(url, **({key: self.simulation.accounts(url)[0][key][some]} if key else {}), **keys)


def of_each_kind(asked: list[str]) -> tuple[int, ...]:
    """Give the place of the first request of each kind: what differs in a meter's number, a day or a direction is one kind."""
    kinds_asked = [re.sub(r"\d{4,}.*|consommation|production", "", one) for one in asked]
    return tuple(kinds_asked.index(kind) for kind in dict.fromkeys(kinds_asked))


@asynccontextmanager
async def standing(
    kind: str, clock: Clock, attack: Attack | None = None, at: int | None = None
) -> AsyncIterator[tuple[Between, str]]:
    """Serve a simulation with somebody in between."""
    between = Between(kinds()[kind](clock), attack, at)
    async with running(between) as url:  # type: ignore[arg-type]  # all that is asked of it is an app
        yield between, url


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on the loopback."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


class Stillness:
    """The poller's clock: it moves only when told to."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock

    async def sleep(self, length: timedelta) -> None:
        self.now.at += length


@dataclass
class Seen:
    """What an account holds after a visit: its state, its readings by line and instant, both forms of the page."""

    state: AccountState
    readings: Readings
    text: str
    openmetrics: str


@asynccontextmanager
async def living(folder: Path, portal: Portal, clock: Clock) -> AsyncIterator[tuple[AccountPoller, Callable[[], Seen]]]:
    """Open an account as a start of the program does."""
    with Ledger(folder) as ledger:
        page = Page(ledger, clock, "0")
        poller = AccountPoller(portal, ledger, page, Stillness(clock), lambda: 0.5)
        await poller.open()
        yield (
            poller,
            lambda: Seen(
                replace(poller.state), dict(readings(ledger)), page.render(TEXT).decode(), page.render(OPENMETRICS).decode()
            ),
        )


def readings(ledger: Ledger) -> Iterator[tuple[Any, float]]:
    """Give every reading kept."""
    early, late = NOW - timedelta(days=36_000), NOW + timedelta(days=36_000)
    with ledger.look() as look:
        for line in look.series():
            key = (line.account, line.usage_point, line.register, str(line.direction), str(line.unit), line.resolution)
            for kept in look.readings(line.id, early, late):
                yield (*key, kept.at), kept.value


async def one_visit(
    folder: Path, kind: str, clock: Clock, attack: Attack | None = None, at: int | None = None, **keys: Any
) -> tuple[Between, Seen]:
    """Visit once with a small account, from opening the ledger to closing it."""
    async with (
        standing(kind, clock, attack, at) as (between, url),
        living(folder, between.small(url, **keys), clock) as (poller, look),
    ):
        await poller.visit()
        return between, look()
