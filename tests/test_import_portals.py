"""The past of every simulated portal, imported with the real clients into a real ledger, equals the simulation's truth."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exporter.config import load
from exporter.demo.base import Simulation, running
from exporter.demo.cem import CemSimulation
from exporter.demo.enedis import EnedisSimulation
from exporter.demo.fluvius import FluviusSimulation
from exporter.demo.runner import simulations
from exporter.demo.water_link import WaterLinkSimulation
from exporter.errors import RateLimitError
from exporter.ledger import Ledger
from exporter.past import Import
from exporter.poller import session_for
from exporter.portals.base import Piece
from tests.conftest import Clock

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


def water_truth(portal: WaterLinkSimulation, now: datetime) -> Truth:
    return {
        (number, "total", "consumption", "P1D", midnight(day, BRUSSELS)): litres / 1000
        for number, household in portal.households.items()
        for day in DAYS
        if (litres := household.shown(day, now)) is not None
    }


def fluvius_truth(portal: FluviusSimulation, now: datetime) -> Truth:
    found: Truth = {}
    for ean, place in portal.data.places.items():
        hours = "PT1H" if place.commodity == "gas" else "PT15M"
        amounts = [("P1D", one) for one in portal.true_days(ean, FIRST, LAST)]
        amounts += [(hours, one) for day in DAYS for one in portal.true_intervals(ean, day)]
        for length, one in amounts:
            found[ean, f"{one.register} {one.unit}", one.direction, length, one.start] = one.value
    return found


def enedis_truth(portal: EnedisSimulation, now: datetime) -> Truth:
    """The source never has energy of a 23rd, nor a curve of a 17th, nor a morning of a 9th."""
    found: Truth = {}
    for home in portal.homes.values():
        for day in DAYS:
            for producing in (False, True)[: 1 + home.producing]:
                direction = "injection" if producing else "consumption"
                for block in portal.true_curve(home, day, producing=producing):
                    if day.day == 17 or (day.day == 9 and 10 <= block.start.astimezone(PARIS).hour < 14):
                        continue
                    length = f"PT{(block.end - block.start) // timedelta(minutes=1)}M".replace("PT60M", "PT1H")
                    found[home.prm, "total", direction, length, block.start.astimezone(UTC)] = block.kwh
                if day.day != 23:
                    true_day = portal.true_day(home, day, producing=producing)
                    found[home.prm, "total", direction, "P1D", midnight(day, PARIS)] = true_day
    return found


def cem_truth(portal: CemSimulation, now: datetime) -> Truth:
    start, end = midnight(FIRST, PRAGUE), midnight(LAST + DAY, PRAGUE)
    chosen = [portal.special[word] for word in CEM_COUNTERS]
    return {
        (str(portal.building.counters[number].meters[0]), str(number), "consumption", "", at): value
        for number in chosen
        for at, value in portal.readings(number, start, end)
    }


CEM_COUNTERS = ("leak", "replacement")
TRUTHS: dict[str, Callable[[Any, datetime], Truth]] = {
    "water-link": water_truth,
    "fluvius": fluvius_truth,
    "enedis": enedis_truth,
    "cem": cem_truth,
}


class Broken(Import):
    """Breaks off after some pieces, as a kill does."""

    left = 10**6

    async def _piece(self, piece: Piece) -> bool:
        if self.left == 0:
            raise asyncio.CancelledError
        self.left -= 1
        return await super()._piece(piece)


class House:
    """One account at one simulation, and imports into its ledger, each as a process of its own."""

    def __init__(self, folder: Path, portal: Simulation, url: str, clock: Clock) -> None:
        self.folder, self.portal, self.clock = folder, portal, clock
        entry = portal.accounts(url)[0]
        if isinstance(portal, CemSimulation):
            entry["counters"] = {"include": [portal.special[word] for word in CEM_COUNTERS]}
            entry |= {"history_by": "counter", "history_days": 5}
        (folder / "config.yaml").write_text(json.dumps({"accounts": [entry | {"name": "home"}]}))
        self.wrong: list[str] = []

    async def run(self, stop: int = 10**6) -> bool:
        """Import until it ends (True), is broken off, or has spent its budget; then some hours pass."""
        (account,) = load(self.folder / "config.yaml").accounts
        with Ledger(self.folder / "data") as ledger:
            ledger.open_account("home", portal=account.portal, zone=account.zone.key, login=account.login_digest())
            async with session_for(account, ledger, self.clock) as session:
                one = Broken(account, ledger, session, self.sleep, quiet=True)
                one.left = stop
                try:
                    await one.run(FIRST, LAST)
                except (asyncio.CancelledError, RateLimitError) as error:
                    self.wrong.append(type(error).__name__)
                    return False
        assert (one.brought.done, one.brought.strange) == (one.brought.pieces, [])
        return True

    async def sleep(self, length: timedelta) -> None:
        self.clock.move(seconds=length.total_seconds())

    def kept(self) -> Truth:
        far = midnight(FIRST, PARIS), midnight(LAST + DAY, PARIS) + timedelta(hours=5)
        with Ledger(self.folder / "data") as ledger, ledger.look() as look:
            return {
                (line.usage_point, self.named(line.register, line.unit), line.direction, line.resolution, kept.at): kept.value
                for line in look.series("home")
                if line.form == "interval" or line.kind or self.portal.portal == "cem"
                for kept in look.readings(line.id, *far)
            }

    def named(self, register: str, unit: str) -> str:
        return f"{register} {unit}" if self.portal.portal == "fluvius" else register

    def truth(self) -> Truth:
        return TRUTHS[self.portal.portal](self.portal, self.clock())

    def asked(self) -> Counter[str]:
        """Count the calls into the past, whatever the session they were made in."""
        asking = ("verbruik", "measurements/day", "courbe", "quotidienne", "index_")
        found = [f"{seen.path} {sorted(seen.query.items())}" for seen in self.portal.seen]
        return Counter(call for call in found if any(word in call for word in asking) or "('id', '3')" in call)


@pytest.fixture(params=TRUTHS)
async def house(request, tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    (portal,) = [one for one in simulations(clock) if one.portal == request.param]
    async with running(portal) as url:
        yield House(tmp_path, portal, url, clock)


async def import_all(house: House, stop: int = 10**6) -> None:
    for _ in range(200):
        if await house.run(stop):
            return
        # What spent a budget waits; within a day all days are as they were.
        if house.wrong[-1] == "RateLimitError":
            house.clock.move(hours=1)
    raise AssertionError("the import does not end")


def same(found: Truth, true: Truth) -> None:
    assert len(true) > 60
    missing, strange = true.keys() - found.keys(), found.keys() - true.keys()
    assert (sorted(missing)[:3], sorted(strange)[:3]) == ([], [])
    assert found == pytest.approx(true, abs=1e-9)


async def test_an_import_brings_the_truth(house: House):
    """
    Every day, quarter-hour, half-hour, hour and index of forty days, over the end of summer time, and nothing else.
    """
    await import_all(house)

    same(house.kept(), house.truth())


async def test_broken_off_after_every_few_pieces(house: House):
    """
    Broken off after every second piece and begun anew it brings the same, and no call into the past is made twice.
    """
    await import_all(house, stop=2)

    assert house.wrong.count("CancelledError") >= 1
    same(house.kept(), house.truth())
    assert [call for call, times in house.asked().items() if times > 1] == []
