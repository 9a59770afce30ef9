"""Invented meters: what portals report of them, visit by visit, and the samples to expect."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.models import Commodity, Direction, Index, Interval, Nature, Peak, Reading, Register, Unit, UsagePoint
from tests.visit_parts import build_result

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
PARIS, BRUSSELS = ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Brussels")
SPRING, AUTUMN = date(2026, 3, 29), date(2025, 10, 26)
"""Days of 23 and 25 hours."""
EXPECTED_NAMES = {
    "utility_interval_consumption_kwh",
    "utility_interval_consumption_m3",
    "utility_interval_injection_kwh",
    "utility_measured_index_kwh",
    "utility_measured_index_m3",
    "utility_measured_injection_index_kwh",
    "utility_measured_peak_kw",
    "utility_measured_peak_kva",
}

LINKY = UsagePoint("01234567890123", Commodity.ELECTRICITY)
POWER = UsagePoint("541448820000000000", Commodity.ELECTRICITY)
GAS = UsagePoint("541448820000000001", Commodity.GAS)
WATER = UsagePoint('B"17\\', Commodity.WATER)
HEAT = UsagePoint("80001", Commodity.HEAT)

ZONES = {"maison": PARIS, "home": BRUSSELS, "flats": BRUSSELS}
MONTH_NAMES = {"utility_month_to_date_consumption_kwh"}
"""Of the other amounts, and of years, the samples have no first day."""
ExpectedSamples = dict[frozenset[tuple[str, str]], dict[int, float]]
"""Labels -> stamp in milliseconds -> value."""


@dataclass
class SampleHistory:
    """Records readings in a ledger, and knows the samples to expect."""

    ledger: Ledger
    reading_samples: ExpectedSamples = field(default_factory=dict)
    """Those of the readings themselves."""
    pending_readings: dict[str, list[Reading]] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(20261120))

    def __post_init__(self) -> None:
        for account, zone in (("maison", PARIS), ("home", BRUSSELS), ("flats", BRUSSELS)):
            self.ledger.open_account(account, portal="brook", zone=zone.key, login="a")

    def add_interval(self, account: str, name: str, register: Register, start: datetime, end: datetime, resolution: str) -> None:
        """Add an amount of [start, end), and expect it a millisecond before its end."""
        amount = round(self.rng.uniform(0, 3), 3)
        self.pending_readings.setdefault(account, []).append(Interval(register, start, end, amount))
        labels = {"register": register.name, "resolution": resolution, "usage_point": register.usage_point.id}
        self.expect_sample(name, account, labels, end - timedelta(milliseconds=1), amount)

    def add_index(self, account: str, name: str, register: Register, at: datetime, value: float) -> None:
        """Add an index, and expect it at its instant."""
        self.pending_readings.setdefault(account, []).append(Index(register, value, at))
        self.expect_sample(name, account, {"register": register.name, "usage_point": register.usage_point.id}, at, value)

    def add_peak(self, account: str, name: str, peak: Peak, resolution: str) -> None:
        """Add a peak, and expect it at its own instant."""
        self.pending_readings.setdefault(account, []).append(peak)
        self.expect_sample(name, account, {"resolution": resolution, "usage_point": peak.usage_point.id}, peak.at, peak.power)

    def expect_sample(self, name: str, account: str, labels: dict[str, str], at: datetime, value: float) -> None:
        whole = frozenset((labels | {"__name__": name, "account": account}).items())
        self.reading_samples.setdefault(whole, {})[round(at.timestamp() * 1000)] = value

    @property
    def all_samples(self) -> ExpectedSamples:
        """All that is read and exported: also the sums since the first of months and years."""
        return self.reading_samples | expect_calendar(self.reading_samples)

    @property
    def expected_samples(self) -> ExpectedSamples:
        """All that is sent: also whole months."""
        months = expect_calendar(self.reading_samples)
        return self.reading_samples | {labels: at for labels, at in months.items() if ("resolution", "P1M") in labels}

    def record_visit(self, at: datetime = NOW) -> None:
        """Record all readings added since the last visit."""
        for account, readings in self.pending_readings.items():
            self.ledger.record_visit(account, build_result(readings), AccountState(last_visit=at), at=at)
        self.pending_readings.clear()


def expect_calendar(stated: ExpectedSamples) -> ExpectedSamples:
    """Return the whole months, and the sums since the first of the month and year, of the days among samples."""
    found: ExpectedSamples = {}
    for labels, samples in stated.items():
        texts = dict(labels)
        name = texts.pop("__name__")
        if "interval" not in name or texts.pop("resolution", "") != "P1D":
            continue
        zone = ZONES[texts["account"]]
        days = {(datetime.fromtimestamp(at / 1000, zone) - timedelta(hours=7)).date(): at for at in samples}
        for day, at in days.items():
            for period, first in (("month", day.replace(day=1)), ("year", day.replace(month=1, day=1))):
                passed = [first + timedelta(days=number) for number in range((day - first).days + 1)]
                if not all(one in days for one in passed):
                    continue
                total = round(math.fsum(samples[days[one]] for one in passed), 6)
                rows = [(name.replace("interval", f"{period}_to_date"), {})]
                if period == "month" and (day + timedelta(days=1)).day == 1:
                    rows.append((name, {"resolution": "P1M"}))
                for family, more in rows:
                    key = frozenset((texts | more | {"__name__": family}).items())
                    found.setdefault(key, {})[at] = total
    return found


def split_into_intervals(
    zone: ZoneInfo, first: date, days: int, step: timedelta, hour: int = 0
) -> Iterator[tuple[datetime, datetime]]:
    """Cut local days into steps of real time, in UTC: a day of 23 hours has 46 half-hours."""
    at, end = local_instant(zone, first, hour), local_instant(zone, first + timedelta(days=days), hour)
    while at < end:
        yield at, at + step
        at += step


def local_instant(zone: ZoneInfo, day: date, hour: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(UTC)


def split_into_days(zone: ZoneInfo, first: date, days: int, hour: int = 0) -> Iterator[tuple[datetime, datetime]]:
    for number in range(days):
        day = first + timedelta(days=number)
        yield local_instant(zone, day, hour), local_instant(zone, day + timedelta(days=1), hour)


def build_sample_history(ledger: Ledger) -> SampleHistory:
    """Add everything: half-hours, quarter-hours, gas hours, days, indexes and peaks, over both clock changes, with holes."""
    sample_history = SampleHistory(ledger)
    for middle in (AUTUMN, SPRING):
        _add_maison(sample_history, middle - timedelta(days=1))
        _add_home(sample_history, middle - timedelta(days=1))
        _add_flats(sample_history, middle)
    sample_history.record_visit(NOW - timedelta(days=3))
    return sample_history


def add_late_and_corrected(sample: SampleHistory) -> None:
    """A visit that brings a day that was missing, and new amounts for some that were there."""
    total = Register(LINKY, Unit.KWH)
    for start, end in split_into_intervals(PARIS, SPRING - timedelta(days=20), 1, timedelta(minutes=30)):
        sample.add_interval("maison", "utility_interval_consumption_kwh", total, start, end, "PT30M")
    for start, end in split_into_days(PARIS, SPRING, 2):
        sample.add_interval("maison", "utility_interval_consumption_kwh", total, start, end, "P1D")
    for start, end in list(split_into_intervals(BRUSSELS, AUTUMN, 1, timedelta(minutes=15)))[40:60]:
        sample.add_interval(
            "home", "utility_interval_consumption_kwh", Register(POWER, Unit.KWH, name="day"), start, end, "PT15M"
        )
    sample.record_visit(NOW - timedelta(days=2))


def _add_maison(sample: SampleHistory, first: date) -> None:
    total, fed = Register(LINKY, Unit.KWH), Register(LINKY, Unit.KWH, Direction.INJECTION)
    for number, (start, end) in enumerate(split_into_intervals(PARIS, first, 3, timedelta(minutes=30))):
        if number % 50 != 17:  # a hole
            sample.add_interval("maison", "utility_interval_consumption_kwh", total, start, end, "PT30M")
        sample.add_interval("maison", "utility_interval_injection_kwh", fed, start, end, "PT30M")
    for number, (start, end) in enumerate(split_into_days(PARIS, first - timedelta(days=30), 60)):
        if number % 20 != 7:
            sample.add_interval("maison", "utility_interval_consumption_kwh", total, start, end, "P1D")
        at = start + timedelta(hours=7, minutes=number, seconds=number)
        sample.add_peak("maison", "utility_measured_peak_kva", Peak(LINKY, Unit.KVA, start, end, 3.25 + number / 8, at), "P1D")
        sample.add_index("maison", "utility_measured_index_kwh", Register(LINKY, Unit.KWH, name="HC"), start, 1000 + number / 4)
        sample.add_index("maison", "utility_measured_injection_index_kwh", fed, start, 5 + number / 4)


def _add_home(sample: SampleHistory, first: date) -> None:
    for name in ("day", "night"):
        for start, end in split_into_intervals(BRUSSELS, first, 3, timedelta(minutes=15)):
            register = Register(POWER, Unit.KWH, name=name)
            sample.add_interval("home", "utility_interval_consumption_kwh", register, start, end, "PT15M")
    energy, volume = Register(GAS, Unit.KWH, name="energy"), Register(GAS, Unit.M3, name="volume")
    for start, end in split_into_intervals(BRUSSELS, first, 3, timedelta(hours=1), hour=6):
        sample.add_interval("home", "utility_interval_consumption_kwh", energy, start, end, "PT1H")
        sample.add_interval("home", "utility_interval_consumption_m3", volume, start, end, "PT1H")
    for start, end in split_into_days(BRUSSELS, first, 3, hour=6):
        sample.add_interval("home", "utility_interval_consumption_m3", volume, start, end, "P1D")
    start, after = (
        local_instant(BRUSSELS, first.replace(day=1)),
        local_instant(BRUSSELS, (first.replace(day=1) + timedelta(days=32)).replace(day=1)),
    )
    peak = Peak(POWER, Unit.KW, start, after, 4.125, start + timedelta(days=6, hours=18, minutes=15))
    sample.add_peak("home", "utility_measured_peak_kw", peak, "P1M")


def _add_flats(sample: SampleHistory, first: date) -> None:
    for number in range(200):
        at = local_instant(BRUSSELS, first) + timedelta(minutes=7 * number, milliseconds=number)
        sample.add_index("flats", "utility_measured_index_m3", Register(WATER, Unit.M3), at, 104.25 + number / 1000)
        sample.pending_readings["flats"] += [
            Index(Register(HEAT, Unit.CELSIUS, name="t", nature=Nature.MOMENTARY), 20.5, at),
            Index(Register(HEAT, Unit.KWH, name="s", nature=Nature.STATE), 1, at),
            Index(Register(HEAT, Unit.M3, name="a", nature=Nature.AMOUNT), 1.5, at),
            Index(Register(HEAT, "pulses", name="p"), 12, at),
        ]
