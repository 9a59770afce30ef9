"""Accounts with invented meters: every kind of tile and every state of health, for tests of the status page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.account_status import AccountHealth, AccountView
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.models import (
    Commodity,
    Direction,
    Fact,
    Facts,
    Holder,
    Index,
    Interval,
    Inventory,
    Peak,
    Register,
    Unit,
    UsagePoint,
)
from tests.visit_parts import Note, VisitPart, build_result

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
BRUSSELS, PARIS, PRAGUE = ZoneInfo("Europe/Brussels"), ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Prague")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
HEALTHY = AccountState(
    last_visit=NOW - timedelta(minutes=20), last_success=NOW - timedelta(minutes=20), next_visit=NOW + timedelta(minutes=100),
    up=True,
)  # fmt: skip
LOGIN_REFUSED = replace(
    HEALTHY, up=False, failures=1, reason="login", message="second factor", next_visit=NOW + timedelta(hours=23, minutes=40),
    suspended_until=NOW + timedelta(hours=23, minutes=40), last_success=NOW - 3 * DAY,
)  # fmt: skip
UNREACHABLE = replace(
    HEALTHY,
    up=False,
    failures=4,
    reason="unreachable",
    message="GET /mydata timed out after 30 s",
    last_success=NOW - 9 * HOUR,
)
MALICIOUS_TEXT = '<script>document.title="taken"</script><img src=x onerror=alert(1)> \u202eevil\u0000" onmouseover="x'


class SampleAccounts:
    """A ledger and a metrics page, and accounts to add to them."""

    def __init__(self, ledger: Ledger, now: datetime = NOW) -> None:
        self.ledger, self.now = ledger, now
        self.page = MetricsPage(ledger, lambda: self.now, "1.2.3")

    def add_account(
        self, name: str, results: Sequence[VisitPart], state: AccountState = HEALTHY, *, portal: str = "brook",
        zone: ZoneInfo = BRUSSELS, aliases: Mapping[str, str] | None = None, personal_data: bool = False,
        stale_after: Mapping[Commodity, timedelta] | None = None,
    ) -> None:  # fmt: skip
        self.ledger.open_account(name, portal=portal, zone=zone.key, login="x")
        _, stored_state = self.ledger.record_visit(name, build_result(results), state, at=self.now, keep_personal=personal_data)
        part = self.page.add_account(
            AccountView(name, portal, zone, aliases or {}, personal_data, stale_after or {}), AccountHealth(timedelta(hours=2))
        )
        part.health.state = stored_state
        self.page.refresh(name)


def parse_local(text: str, zone: ZoneInfo = BRUSSELS) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def build_days(register: Register, *amounts: float, until: str = "2026-11-19", zone: ZoneInfo = BRUSSELS) -> list[Interval]:
    """Return whole local days up to and including `until`."""
    last = datetime.fromisoformat(until)
    spans = [(last - (len(amounts) - 1 - at) * DAY, amount) for at, amount in enumerate(amounts)]
    return [Interval(register, parse_local(str(at), zone), parse_local(str(at + DAY), zone), amount) for at, amount in spans]


def build_water_meter(number: int = 123456, name: str = "Kitchen", site: str = "Mill Lane 3") -> list[VisitPart]:
    point = UsagePoint(str(number), Commodity.WATER, f"W{number}", site, name, "Mill Lane 3, 2000 Antwerp")
    register = Register(point, Unit.M3)
    flags = {Fact.DIVERGENT_CONSUMPTION: 0, Fact.METER_ACTIVE: 1, Fact.UP_TO_DATE: 1}
    return [
        Index(register, 104.25, parse_local("2026-11-20T05:00")),
        *build_days(register, *(0.22, 0.18, 0.31) * 6, 0.219),
        Facts(point, flags),
    ]


def build_leaking_meter() -> list[VisitPart]:
    point = UsagePoint("123457", Commodity.WATER, "W123457", "Mill Lane 3", "Garden")
    register = Register(point, Unit.M3)
    return [
        Index(register, 88.013, parse_local("2026-11-15T05:00")),
        *build_days(register, 0.4, 0.9, 1.8, until="2026-11-14"),
        Facts(point, {Fact.DIVERGENT_CONSUMPTION: 1, Fact.METER_ACTIVE: 1, Fact.FLOW_LIMITATION: 1, Fact.UP_TO_DATE: 0}),
    ]


def build_fluvius_meters() -> list[VisitPart]:
    power = UsagePoint("541448820000000042", Commodity.ELECTRICITY, "1SAG1100000042")
    gas = UsagePoint("541448820000000043", Commodity.GAS, "7FLO2100000043")
    results: list[VisitPart] = []
    for name, amounts in (("day", (4.1, 5.2, 3.9)), ("night", (2.0, 2.2, 2.6))):
        results += build_days(Register(power, Unit.KWH, name=name), *amounts * 6)
        results += build_days(Register(power, Unit.KWH, Direction.INJECTION, name), *(amount / 3 for amount in amounts * 6))
    quarter = parse_local("2026-11-20T09:00")
    results += [
        Interval(Register(power, Unit.KWH, name="day"), quarter, quarter + HOUR / 4, 0.113),
        Interval(Register(power, Unit.KWH, Direction.INJECTION, "day"), quarter, quarter + HOUR / 4, 0.0),
    ]
    for month, kw in (("2026-09", 2.1), ("2026-10", 4.3), ("2026-11", 3.72)):
        start, end = parse_local(f"{month}-01"), parse_local(f"{month[:5]}{int(month[5:]) + 1:02}-01")
        results.append(Peak(power, Unit.KW, start, end, kw, start + 10 * DAY + 18 * HOUR))
    results += build_days(Register(gas, Unit.KWH, name="energy"), 31.2, 28.77) + build_days(
        Register(gas, Unit.M3, name="volume"), 2.71, 2.502
    )
    return results


def build_linky_meter() -> list[VisitPart]:
    point = UsagePoint("01234567890123", Commodity.ELECTRICITY, "", "", "")
    results: list[VisitPart] = [
        Index(Register(point, Unit.KWH, name="HCB", description="Heures creuses"), 18034.208, parse_local("2026-11-20", PARIS)),
        Index(Register(point, Unit.KWH, name="HPB", description="Heures pleines"), 40210.911, parse_local("2026-11-20", PARIS)),
    ]
    results += build_days(Register(point, Unit.KWH, name="total"), *(9.91, 12.4, 14.02) * 6, zone=PARIS)
    start = parse_local("2026-11-19", PARIS)
    results += [
        Peak(point, Unit.KVA, start, start + DAY, 5.42, start + 19.2 * HOUR),
        Facts(point, {Fact.SUBSCRIBED_POWER: 9}),
        Holder("Ada Example", "", access_expires=NOW + 12 * DAY),
        Note("the load curve is switched off: it must be allowed in the customer area"),
    ]
    return results


def build_flats(count: int, each: int = 5) -> list[VisitPart]:
    """Return `count` meters in flats of `each`."""
    results: list[VisitPart] = []
    points = []
    for number in range(count):
        commodity = (Commodity.WATER, Commodity.WATER, Commodity.HEAT, Commodity.ELECTRICITY, Commodity.OTHER)[number % 5]
        point = UsagePoint(str(70000 + number), commodity, f"SIM{70000 + number}", f"Flat {number // each + 1}")
        points.append(point)
        at = NOW - timedelta(minutes=number % 60)
        if commodity == Commodity.OTHER:
            results += [
                Index(Register(point, Unit.CELSIUS, name=f"{number}1", nature="momentary"), 20.5, at),
                Index(Register(point, Unit.RELATIVE_HUMIDITY, name=f"{number}2", nature="momentary"), 0.447, at),
            ]
        else:
            unit = Unit.M3 if commodity == Commodity.WATER else Unit.KWH
            results.append(Index(Register(point, unit, name=f"{number}1"), 100.5 + number * 7.3, at))
    return [*results, Inventory(tuple(points))]


def add_all_accounts(accounts: SampleAccounts) -> None:
    """Add an account of each kind."""
    accounts.add_account(
        "home-water", [*build_water_meter(), *build_leaking_meter()], portal="water-link", aliases={"123457": "Garden tap"}
    )
    accounts.add_account(
        "home-power", build_fluvius_meters(), LOGIN_REFUSED, portal="fluvius", aliases={"541448820000000042": "House"}
    )
    accounts.add_account("maison", build_linky_meter(), portal="enedis", zone=PARIS)
    accounts.add_account("block-of-flats", build_flats(10), UNREACHABLE, portal="cem", zone=PRAGUE)
    accounts.add_account("cabin", [], AccountState(), portal="fluvius")
