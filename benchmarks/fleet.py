"""A fleet of invented counters, for the benchmarks: its readings, its ledger and its page."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from exporter.ledger import AccountState, Ledger, Recorded
from exporter.metrics import Page, Shown
from exporter.model import Commodity, Index, Inventory, Register, Told, Unit, UsagePoint

EACH = 5
"""Series of a usage point: its counter, what the register is, what the point is, when it was read, how long ago that is."""
ACCOUNT, PRAGUE = "town", ZoneInfo("Europe/Prague")


class Fleet:
    """Water meters of one account, each with one counter, in a ledger and on a page."""

    def __init__(self, folder: Path, series: int) -> None:
        self.chance, self.started = random.Random(1), datetime.now(UTC)  # invented counters
        points = [
            UsagePoint(str(70000 + at), Commodity.WATER, f"SIM{70000 + at}", f"Flat {at // 4}") for at in range(series // EACH)
        ]
        self.registers = [Register(point, Unit.M3, name=str(700000 + at), kind="SV") for at, point in enumerate(points)]
        self.inventory = Inventory(tuple(points), tuple(self.registers))
        self.shown = [self.chance.uniform(100, 1000) for _ in points]
        self.ledger = Ledger(folder)
        self.ledger.open_account(ACCOUNT, portal="cem", zone=PRAGUE.key, login="")
        self.page = Page(self.ledger, lambda: datetime.now(UTC), "0")
        self.page.add(Shown(ACCOUNT, "cem", PRAGUE), timedelta(minutes=30))

    def fill(self) -> None:
        """Read all counters once, in the hour before, and show them."""
        ago = [timedelta(milliseconds=self.chance.randrange(3_600_000)) for _ in self.registers]
        told = [self._read(at, self.started - since) for at, since in enumerate(ago)]
        self.page.refresh(ACCOUNT, self.record([*told, self.inventory]))

    def changed(self, share: float) -> Recorded:
        """Read some counters again, and keep it; the page does not know it yet."""
        some = self.chance.sample(range(len(self.registers)), max(1, round(share * len(self.registers))))
        return self.record(self.read(some))

    def read(self, which: Iterable[int]) -> list[Told]:
        """Give what these counters show now."""
        now = datetime.now(UTC)
        return [self._read(at, now) for at in which]

    def record(self, told: Sequence[Told]) -> Recorded:
        """Keep what a visit told."""
        now = datetime.now(UTC)
        done, state = self.ledger.record_visit(ACCOUNT, told, AccountState(up=True, last_visit=now, last_success=now), at=now)
        self.page.accounts[ACCOUNT].health.state = state
        return done

    def _read(self, at: int, instant: datetime) -> Index:
        self.shown[at] = round(self.shown[at] + 0.001 + self.chance.random(), 3)
        return Index(self.registers[at], self.shown[at], instant)
