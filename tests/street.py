"""A street of invented meters: every kind of tile, and accounts in every health, for tests of the status page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.ledger import AccountState, Ledger
from exporter.metrics import Page, Shown
from exporter.model import (
    Commodity,
    Direction,
    Fact,
    Facts,
    Holder,
    Index,
    Interval,
    Inventory,
    Note,
    Peak,
    Register,
    Told,
    Unit,
    UsagePoint,
)

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
BRUSSELS, PARIS, PRAGUE = ZoneInfo("Europe/Brussels"), ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Prague")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WELL = AccountState(
    last_visit=NOW - timedelta(minutes=20), last_success=NOW - timedelta(minutes=20), next_visit=NOW + timedelta(minutes=100),
    up=True,
)  # fmt: skip
REFUSED = replace(
    WELL, up=False, failures=1, reason="login", message="second factor", next_visit=NOW + timedelta(hours=23, minutes=40),
    suspended_until=NOW + timedelta(hours=23, minutes=40), last_success=NOW - 3 * DAY,
)  # fmt: skip
SILENT = replace(
    WELL,
    up=False,
    failures=4,
    reason="unreachable",
    message="GET /mydata did not answer within 30 s",
    last_success=NOW - 9 * HOUR,
)
HOSTILE = '<script>document.title="taken"</script><img src=x onerror=alert(1)> \u202eevil\u0000" onmouseover="x'


class Street:
    """A ledger and a page, and a way to put accounts on them."""

    def __init__(self, ledger: Ledger, now: datetime = NOW) -> None:
        self.ledger, self.now = ledger, now
        self.page = Page(ledger, lambda: self.now, "1.2.3")

    def account(
        self, name: str, told: Sequence[Told], state: AccountState = WELL, *, portal: str = "brook", zone: ZoneInfo = BRUSSELS,
        aliases: Mapping[str, str] | None = None, personal: bool = False,
        patience: Mapping[Commodity, timedelta] | None = None,
    ) -> None:  # fmt: skip
        self.ledger.open_account(name, portal=portal, zone=zone.key, login="x")
        _, kept = self.ledger.record_visit(name, told, state, at=self.now, personal=personal)
        part = self.page.add(Shown(name, portal, zone, aliases or {}, personal, patience or {}), timedelta(hours=2))
        part.health.state = kept
        self.page.refresh(name)


def local(text: str, zone: ZoneInfo = BRUSSELS) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def days(register: Register, *amounts: float, until: str = "2026-11-19", zone: ZoneInfo = BRUSSELS) -> list[Interval]:
    """Give whole local days up to and with `until`."""
    last = datetime.fromisoformat(until)
    spans = [(last - (len(amounts) - 1 - at) * DAY, amount) for at, amount in enumerate(amounts)]
    return [Interval(register, local(str(at), zone), local(str(at + DAY), zone), amount) for at, amount in spans]


def water(number: int = 123456, name: str = "Kitchen", site: str = "Mill Lane 3") -> list[Told]:
    point = UsagePoint(str(number), Commodity.WATER, f"W{number}", site, name, "Mill Lane 3, 2000 Antwerp")
    register = Register(point, Unit.M3)
    flags = {Fact.DIVERGENT_CONSUMPTION: 0, Fact.METER_ACTIVE: 1, Fact.UP_TO_DATE: 1}
    return [
        Index(register, 104.25, local("2026-11-20T05:00")),
        *days(register, *(0.22, 0.18, 0.31) * 6, 0.219),
        Facts(point, flags),
    ]


def leak() -> list[Told]:
    point = UsagePoint("123457", Commodity.WATER, "W123457", "Mill Lane 3", "Garden")
    register = Register(point, Unit.M3)
    return [
        Index(register, 88.013, local("2026-11-15T05:00")),
        *days(register, 0.4, 0.9, 1.8, until="2026-11-14"),
        Facts(point, {Fact.DIVERGENT_CONSUMPTION: 1, Fact.METER_ACTIVE: 1, Fact.FLOW_LIMITATION: 1, Fact.UP_TO_DATE: 0}),
    ]


def flemish() -> list[Told]:
    power = UsagePoint("541448820000000042", Commodity.ELECTRICITY, "1SAG1100000042")
    gas = UsagePoint("541448820000000043", Commodity.GAS, "7FLO2100000043")
    told: list[Told] = []
    for name, amounts in (("day", (4.1, 5.2, 3.9)), ("night", (2.0, 2.2, 2.6))):
        told += days(Register(power, Unit.KWH, name=name), *amounts * 6)
        told += days(Register(power, Unit.KWH, Direction.INJECTION, name), *(amount / 3 for amount in amounts * 6))
    quarter = local("2026-11-20T09:00")
    told += [
        Interval(Register(power, Unit.KWH, name="day"), quarter, quarter + HOUR / 4, 0.113),
        Interval(Register(power, Unit.KWH, Direction.INJECTION, "day"), quarter, quarter + HOUR / 4, 0.0),
    ]
    for month, kw in (("2026-09", 2.1), ("2026-10", 4.3), ("2026-11", 3.72)):
        start, end = local(f"{month}-01"), local(f"{month[:5]}{int(month[5:]) + 1:02}-01")
        told.append(Peak(power, Unit.KW, start, end, kw, start + 10 * DAY + 18 * HOUR))
    told += days(Register(gas, Unit.KWH, name="energy"), 31.2, 28.77) + days(Register(gas, Unit.M3, name="volume"), 2.71, 2.502)
    return told


def linky() -> list[Told]:
    point = UsagePoint("01234567890123", Commodity.ELECTRICITY, "", "", "")
    told: list[Told] = [
        Index(Register(point, Unit.KWH, name="HCB", description="Heures creuses"), 18034.208, local("2026-11-20", PARIS)),
        Index(Register(point, Unit.KWH, name="HPB", description="Heures pleines"), 40210.911, local("2026-11-20", PARIS)),
    ]
    told += days(Register(point, Unit.KWH, name="total"), *(9.91, 12.4, 14.02) * 6, zone=PARIS)
    start = local("2026-11-19", PARIS)
    told += [
        Peak(point, Unit.KVA, start, start + DAY, 5.42, start + 19.2 * HOUR),
        Facts(point, {Fact.SUBSCRIBED_POWER: 9}),
        Holder("Ada Example", "", access_expires=NOW + 12 * DAY),
        Note("the load curve is switched off: it must be allowed in the customer area"),
    ]
    return told


def flats(count: int, each: int = 5) -> list[Told]:
    """Give `count` meters in flats of `each`."""
    told: list[Told] = []
    points = []
    for number in range(count):
        commodity = (Commodity.WATER, Commodity.WATER, Commodity.HEAT, Commodity.ELECTRICITY, Commodity.OTHER)[number % 5]
        point = UsagePoint(str(70000 + number), commodity, f"SIM{70000 + number}", f"Flat {number // each + 1}")
        points.append(point)
        at = NOW - timedelta(minutes=number % 60)
        if commodity == Commodity.OTHER:
            told += [
                Index(Register(point, Unit.CELSIUS, name=f"{number}1", nature="momentary"), 20.5, at),
                Index(Register(point, Unit.RELATIVE_HUMIDITY, name=f"{number}2", nature="momentary"), 0.447, at),
            ]
        else:
            unit = Unit.M3 if commodity == Commodity.WATER else Unit.KWH
            told.append(Index(Register(point, unit, name=f"{number}1"), 100.5 + number * 7.3, at))
    return [*told, Inventory(tuple(points))]


def whole(street: Street) -> None:
    """Put an account of each kind on the street."""
    street.account("home-water", [*water(), *leak()], portal="water-link", aliases={"123457": "Garden tap"})
    street.account("home-power", flemish(), REFUSED, portal="fluvius", aliases={"541448820000000042": "House"})
    street.account("maison", linky(), portal="enedis", zone=PARIS)
    street.account("block-of-flats", flats(10), SILENT, portal="cem", zone=PRAGUE)
    street.account("cabin", [], AccountState(), portal="fluvius")
