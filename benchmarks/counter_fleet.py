"""Invented counters for the benchmarks, in a ledger and on a metrics page."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from exporter.account_status import AccountHealth, AccountView
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.cache import MetricsPage
from exporter.models import Commodity, Index, Inventory, Register, Unit, UsagePoint, VisitResult

SERIES_PER_POINT = 5
"""Series of a usage point: the counter, information on register and usage point, time and age of the reading."""
ACCOUNT, ZONE = "town", ZoneInfo("Europe/Prague")


class Fleet:
    """Water meters of one account, each with one counter, in a ledger and on a page."""

    def __init__(self, folder: Path, series: int) -> None:
        self.random, self.started_at = random.Random(1), datetime.now(UTC)  # invented counters
        points = [
            UsagePoint(str(70000 + number), Commodity.WATER, f"SIM{70000 + number}", f"Flat {number // 4}")
            for number in range(series // SERIES_PER_POINT)
        ]
        self.registers = [Register(point, Unit.M3, name=str(700000 + number), kind="SV") for number, point in enumerate(points)]
        self.inventory = Inventory(tuple(points), tuple(self.registers))
        self.current_values = [self.random.uniform(100, 1000) for _ in points]
        self.ledger = Ledger(folder)
        self.ledger.open_account(ACCOUNT, portal="cem", zone=ZONE.key, login="")
        self.page = MetricsPage(self.ledger, lambda: datetime.now(UTC), "0")
        self.page.add_account(AccountView(ACCOUNT, "cem", ZONE), AccountHealth(timedelta(minutes=30)))

    def record_first_visit(self) -> None:
        """Record a reading of every counter, in the hour before, and show them."""
        ages = [timedelta(milliseconds=self.random.randrange(3_600_000)) for _ in self.registers]
        readings = [self.read_counter(number, self.started_at - age) for number, age in enumerate(ages)]
        self.page.refresh(ACCOUNT, self.record(readings, self.inventory))

    def record_changes(self, share: float) -> LedgerChanges:
        """Record a new reading of some counters, which the page does not show yet."""
        numbers = self.random.sample(range(len(self.registers)), max(1, round(share * len(self.registers))))
        return self.record(self.read_counters(numbers))

    def read_counters(self, numbers: Iterable[int]) -> list[Index]:
        """Return what these counters show now."""
        now = datetime.now(UTC)
        return [self.read_counter(number, now) for number in numbers]

    def record(self, readings: Sequence[Index], inventory: Inventory | None = None) -> LedgerChanges:
        """Record the readings of a visit."""
        now = datetime.now(UTC)
        changes, state = self.ledger.record_visit(
            ACCOUNT,
            VisitResult(readings, inventory=inventory),
            AccountState(up=True, last_visit=now, last_success=now),
            at=now,
        )
        self.page.accounts[ACCOUNT].health.state = state
        return changes

    def read_counter(self, number: int, instant: datetime) -> Index:
        """Return what a counter shows at an instant, a little more than before."""
        self.current_values[number] = round(self.current_values[number] + 0.001 + self.random.random(), 3)
        return Index(self.registers[number], self.current_values[number], instant)
