"""A leak from the pipe to the phone: simulated portal, exporter, Prometheus, Alertmanager, receiver, all real but the portal."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from exporter.app import Exporter, ServeOptions
from exporter.clock import WallClock
from exporter.simulators.base import run_simulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation
from exporter.web.listen import ListenAddress
from tests.boards import servers
from tests.history.programs import free_port

BEFORE, LEAKING, AFTER = (datetime(2026, 3, day, 13, tzinfo=UTC) for day in (4, 8, 16))
"""In the simulated street pipes leak from the 5th to the 9th of March; the portal knows a day at noon of the next, or later."""
ALERT = "UtilityDivergentConsumption"
METERS = {"204417", "204418"}


class Shifted(WallClock):
    """The time of another day: it runs as ours does, until it is set."""

    def __init__(self, at: datetime) -> None:
        self.set(at)

    def set(self, at: datetime) -> None:
        self._shift = at - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift

    async def sleep(self, length: timedelta) -> None:
        """Look up often: the day may be another."""
        await asyncio.sleep(min(length.total_seconds(), 0.2))


class Receiver:
    """Whoever is told: all notices that came."""

    def __init__(self) -> None:
        self.notices: list[dict[str, Any]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/", self._receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        self.notices += (await request.json())["alerts"]
        return web.Response()

    def select_notices(self, status: str) -> dict[str, dict[str, Any]]:
        """Return the newest notice of each meter about the leak, in this status."""
        found = [one for one in self.notices if one["status"] == status and one["labels"]["alertname"] == ALERT]
        return {one["labels"]["usage_point"]: one for one in found}

    async def wait(self, status: str) -> dict[str, dict[str, Any]]:
        async with asyncio.timeout(servers.TIMEOUT):
            while self.select_notices(status).keys() != METERS:  # noqa: ASYNC110  # what is waited for happens in other processes
                await asyncio.sleep(0.1)
        return self.select_notices(status)


@asynccontextmanager
async def exporter(folder: Path, clock: Shifted) -> AsyncIterator[str]:
    """Serve a simulated Water-Link, both at the time of `clock`."""
    await asyncio.to_thread(folder.mkdir)
    async with run_simulation(WaterLinkSimulation(clock.now)) as portal:
        accounts = WaterLinkSimulation(clock.now).build_accounts(portal)
        (folder / "config.yaml").write_text(json.dumps({"accounts": accounts}))
        (folder / "config.yaml").chmod(0o600)
        options = ServeOptions(folder / "config.yaml", folder / "data", (ListenAddress("127.0.0.1", 0),))
        program, place = Exporter(options, clock), asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(program.run(lambda ready: place.set_result(f"http://{ready.addresses[0]}")))
        try:
            yield await place
        finally:
            program.stop()
            await serving


async def test_the_leak_is_told_and_its_end_too(tmp_path: Path):
    """
    No word before; when the portal states divergent consumption whoever is on call is told, of both meters, with what to do; and
    told again when it is over. Rules are evaluated every second, all else is as it is shipped.
    """
    clock, receiver = Shifted(BEFORE), Receiver()
    async with receiver.open() as address, exporter(tmp_path / "exporter", clock) as page:
        stack = ExitStack()
        enter = partial(asyncio.to_thread, stack.enter_context)
        try:
            alertmanager = await enter(servers.run_alertmanager(tmp_path / "alertmanager", address))
            prometheus = await enter(servers.run_prometheus(tmp_path / "prometheus", page, alertmanager=alertmanager.url))
            flags = partial(prometheus.query_value, "count(utility_divergent_consumption == 0) == 2")
            await asyncio.to_thread(servers.wait_until, flags, "both meters are seen without a leak")
            before = receiver.select_notices("firing")
            clock.set(LEAKING)
            firing = await receiver.wait("firing")
            clock.set(AFTER)
            resolved = await receiver.wait("resolved")
        finally:
            # Off the loop, for Prometheus leaves when its last questions to the exporter are answered.
            await asyncio.to_thread(stack.close)

    assert before == {}
    for meter, notice in firing.items():
        assert notice["labels"]["severity"] == "critical"
        assert meter in notice["annotations"]["description"]
        assert notice["annotations"]["runbook_url"].endswith("#utilitydivergentconsumption")
        assert resolved[meter]["endsAt"] > notice["startsAt"]
