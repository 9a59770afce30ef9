"""The history of every simulated portal, imported with the real clients into a real ledger, equals the simulation's truth."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exporter.client.session import Session
from exporter.commands.demo import build_simulations
from exporter.config.loader import load_config
from exporter.ledger.ledger import Ledger
from exporter.portals.base import Portal
from exporter.simulators.base import Simulation, run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from exporter.simulators.enedis.simulation import EnedisSimulation
from exporter.simulators.fluvius.simulation import GAS_EAN, FluviusSimulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation
from exporter.sync.engine import Engine
from exporter.sync.importer import Importer, Progress
from exporter.visit import open_session
from tests.conftest import FakeClock

FIRST, LAST = date(2026, 10, 10), date(2026, 11, 19)
"""Over the end of summer time."""
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
DAY = timedelta(days=1)
BRUSSELS, PARIS, PRAGUE = ZoneInfo("Europe/Brussels"), ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Prague")

Key = tuple[str, str, str, str, datetime]
"""Usage point, register, direction, ISO 8601 resolution (empty for an index), start or instant."""
Truth = dict[Key, float]


def midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def build_water_truth(portal: WaterLinkSimulation, now: datetime) -> Truth:
    return {
        (number, "total", "consumption", "P1D", midnight(day, BRUSSELS)): litres / 1000
        for number, meter in portal.meters.items()
        for day in DAYS
        if (litres := meter.get_shown_litres(day, now)) is not None
    }


def build_fluvius_truth(portal: FluviusSimulation, now: datetime) -> Truth:
    found: Truth = {}
    for ean, usage_point in portal.data_api.usage_points.items():
        interval = "PT1H" if usage_point.commodity == "gas" else "PT15M"
        amounts = [("P1D", amount) for amount in portal.list_true_days(ean, FIRST, LAST)]
        amounts += [(interval, amount) for day in DAYS for amount in portal.list_true_intervals(ean, day)]
        for length, amount in amounts:
            found[ean, f"{amount.register} {amount.unit}", amount.direction, length, amount.start] = amount.value
    return found


def build_enedis_truth(portal: EnedisSimulation, now: datetime) -> Truth:
    """The source never has energy of a 23rd, nor a curve of a 17th, nor a morning of a 9th."""
    found: Truth = {}
    for home in portal.homes.values():
        for day in DAYS:
            for producing in (False, True)[: 1 + home.is_producer]:
                direction = "injection" if producing else "consumption"
                for block in portal.get_true_curve(home, day, producing=producing):
                    if day.day == 17 or (day.day == 9 and 10 <= block.start.astimezone(PARIS).hour < 14):
                        continue
                    length = f"PT{(block.end - block.start) // timedelta(minutes=1)}M".replace("PT60M", "PT1H")
                    found[home.prm, "total", direction, length, block.start.astimezone(UTC)] = block.energy_kwh
                if day.day != 23:
                    true_day = portal.get_true_day(home, day, producing=producing)
                    found[home.prm, "total", direction, "P1D", midnight(day, PARIS)] = true_day
    return found


def build_cem_truth(portal: CemSimulation, now: datetime) -> Truth:
    start, end = midnight(FIRST, PRAGUE), midnight(LAST + DAY, PRAGUE)
    chosen = [portal.named_counters[word] for word in CEM_COUNTERS]
    return {
        (str(portal.building.counters[number].meters[0]), str(number), "consumption", "", at): value
        for number in chosen
        for at, value in portal.list_readings(number, start, end)
    }


CEM_COUNTERS = ("leak", "replacement")
TRUTHS: dict[str, Callable[[Any, datetime], Truth]] = {
    "water-link": build_water_truth,
    "fluvius": build_fluvius_truth,
    "enedis": build_enedis_truth,
    "cem": build_cem_truth,
}


class SimulatedAccount:
    """An account on one simulation, and imports into its ledger, each as in a process of its own."""

    def __init__(self, folder: Path, simulation: Simulation, url: str, clock: FakeClock) -> None:
        self.folder, self.simulation, self.clock = folder, simulation, clock
        entry = simulation.build_accounts(url)[0]
        if isinstance(simulation, CemSimulation):
            entry["counters"] = {"include": [simulation.named_counters[word] for word in CEM_COUNTERS]}
            entry |= {"history_by": "counter", "history_days": 5}
        (folder / "config.yaml").write_text(json.dumps({"accounts": [entry | {"name": "home"}]}))
        self.errors: list[str] = []

    async def run(self, stop: int = 10**6) -> bool:
        """Import until it ends (True), is interrupted, or has used up its quota."""
        (account,) = load_config(self.folder / "config.yaml").accounts
        with Ledger(self.folder / "data") as ledger:
            ledger.open_account(
                "home", portal=account.config.portal, zone=account.zone.key, login=account.config.build_login_digest()
            )
            async with open_session(account, ledger, self.clock) as session:
                return await self.import_feeds(account, ledger, session, stop)

    async def import_feeds(self, account: Portal, ledger: Ledger, session: Session, stop: int) -> bool:
        engine = Engine[Session](account, ledger.get_feed_store("home"), every=account.config.every, pace=account.pace)
        left = stop

        def report(progress: Progress) -> None:
            nonlocal left
            left -= progress.done > 0
            if left < 0:
                raise asyncio.CancelledError

        run = Importer[Session](engine, now=self.clock, sleep=self.sleep, first=FIRST, last=LAST, report=report)
        try:
            progress = await run.run(session)
        except asyncio.CancelledError:
            self.errors.append("CancelledError")
            return False
        assert progress.failures == {}
        if progress.paused:
            self.errors.append("RateLimitError")
        return not progress.paused

    async def sleep(self, length: timedelta) -> None:
        self.clock.advance(seconds=length.total_seconds())

    def load_readings(self) -> Truth:
        far = midnight(FIRST, PARIS), midnight(LAST + DAY, PARIS) + timedelta(hours=5)
        with Ledger(self.folder / "data") as ledger, ledger.snapshot() as snapshot:
            return {
                (
                    line.usage_point,
                    self.describe_register(line.register, line.unit),
                    line.direction,
                    line.resolution,
                    kept.at,
                ): kept.value
                for line in snapshot.select_series("home")
                if line.form == "interval" or line.kind or self.simulation.portal == "cem"
                for kept in snapshot.select_readings(line.id, *far)
            }

    def describe_register(self, register: str, unit: str) -> str:
        return f"{register} {unit}" if self.simulation.portal == "fluvius" else register

    def build_truth(self) -> Truth:
        return TRUTHS[self.simulation.portal](self.simulation, self.clock())

    def count_requests(self) -> Counter[str]:
        """Return how often each request for history was made, over all sessions."""
        paths = ("verbruik", "measurements/day", "courbe", "quotidienne", "index_")
        found = [f"{seen.path} {sorted(seen.query.items())}" for seen in self.simulation.requests]
        return Counter(call for call in found if any(word in call for word in paths) or "('id', '3')" in call)


@pytest.fixture(params=TRUTHS)
async def account(request, tmp_path: Path, clock: FakeClock) -> AsyncIterator[SimulatedAccount]:
    (simulation,) = [each for each in build_simulations(clock) if each.portal == request.param]
    async with run_simulation(simulation) as url:
        yield SimulatedAccount(tmp_path, simulation, url, clock)


async def import_all(account: SimulatedAccount, stop: int = 10**6) -> None:
    for _ in range(200):
        if await account.run(stop):
            return
        # A used-up quota waits; within a day the published days stay the same.
        if account.errors[-1] == "RateLimitError":
            account.clock.advance(hours=1)
    raise AssertionError("the import does not end")


def check_equal(found: Truth, true: Truth) -> None:
    assert len(true) > 60
    missing, strange = true.keys() - found.keys(), found.keys() - true.keys()
    assert (sorted(missing)[:3], sorted(strange)[:3]) == ([], [])
    assert found == pytest.approx(true, abs=1e-9)


async def test_an_import_brings_the_truth(account: SimulatedAccount):
    """
    Every day, quarter-hour, half-hour, hour and index of forty days, over the end of summer time, and nothing else.
    """
    await import_all(account)

    check_equal(account.load_readings(), account.build_truth())


async def test_broken_off_after_every_few_pieces(account: SimulatedAccount):
    """
    Broken off after every second piece and begun anew it brings the same, and no call into the past is made twice, but for
    days that may still change.
    """
    # What is not there is asked at each start: at Fluvius three days of gas, their hours, and the running month's peaks; at
    # Enedis the days of each series that are lost.
    await import_all(account, stop=20 if account.simulation.portal in {"fluvius", "enedis"} else 2)

    assert account.errors.count("CancelledError") >= 1
    check_equal(account.load_readings(), account.build_truth())
    repeated = [call for call, times in account.count_requests().items() if times > 1 and "2026-11" not in call]
    assert [call for call in repeated if GAS_EAN not in call] == []  # gas may change for a hundred days
