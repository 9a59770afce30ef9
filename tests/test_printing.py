"""What commands print for people."""

from datetime import UTC, datetime, timedelta

from exporter.commands.demo import summarize_page
from exporter.commands.printing import format_discovery, format_visit
from exporter.models import Commodity, Direction, Discovery, Finding, Index, Interval, Peak, Register, Unit, UsagePoint

POINT = UsagePoint("204417", Commodity.WATER)
REGISTER = Register(POINT, Unit.M3)
DAY = datetime(2026, 11, 19, tzinfo=UTC)
PAGE = """# TYPE utility_daily_consumption_kwh gauge
utility_daily_consumption_kwh{account="flats",usage_point="lift 10",register="day"} 0.0
utility_daily_consumption_kwh{account="flats",usage_point="lift 10",register="night"} 7.1000000000000005
utility_daily_injection_kwh{account="flats",usage_point="lift 10",register="night"} 2.5
utility_latest_day_timestamp_seconds{account="flats",usage_point="lift 10"} 1.7958204e+09
utility_consumption_index_kwh{account="flats",usage_point="lift 9",register="heat"} 41716.94444
utility_temperature_celsius{account="flats",usage_point="lift 9"} 7.0
utility_temperature_celsius{account="flats",usage_point="attic"} 7.0
utility_consumption_index_m3{account="home",usage_point="bath \\"big\\"",meter="1"} 12.5
utility_visits_total{account="new"} 0.0
"""


def test_a_visit_is_a_table_of_the_newest_values():
    """
    A row for each register and length, the newest of each; names instead of numbers, local times.
    """
    parts = [
        Index(REGISTER, 104.25, DAY + timedelta(hours=11)),
        Interval(REGISTER, DAY - timedelta(days=1), DAY, 0.1),
        Interval(REGISTER, DAY, DAY + timedelta(days=1), 0.3),
        Interval(Register(POINT, Unit.KWH, Direction.INJECTION), DAY, DAY + timedelta(days=1), 3),
        Peak(POINT, Unit.KW, DAY, DAY + timedelta(days=30), 2.5, None),
    ]
    table = format_visit(parts, {"204417": "garden"}, UTC)

    assert [" ".join(line.split()) for line in table.splitlines()] == [
        "usage point register what value when",
        "garden peak of the month 2.5 kW 2026-11",
        "garden total reading 104.25 m³ 2026-11-19 11:00",
        "garden total amount of the day 0.3 m³ 2026-11-19",
        "garden total amount of the day, injection 3 kWh 2026-11-19",
    ]


def test_a_visit_to_a_city_is_not_a_long_table():
    """
    Forty rows, and how many there are besides.
    """
    points = [UsagePoint(str(number), Commodity.WATER) for number in range(100)]
    lines = format_visit([Index(Register(point, Unit.M3), 1.0, DAY) for point in points], {}, UTC).splitlines()

    assert (len(lines), lines[-1]) == (42, "... and 60 more; --page shows all")
    assert format_visit([], {}, UTC) == "the portal has no reading"


def test_a_discovery_says_each_thing_once():
    """
    What the text says is not said again beside it, and no value is shown as Python writes it.
    """
    finding = Finding(
        "meter 7",
        {
            "number": 7,
            "name": None,
            "objects": [1, 2],
            "removed": False,
            "power_kva": 6.0,
            "shown": True,
            "read": "2026-11-20T00:00:00+01:00",
        },
        (Finding("counter 8", {"var_id": 8}, printed=()),),
    )

    assert format_discovery(Discovery((finding,), "")).splitlines() == [
        "meter 7  (objects: 1, 2, power kva: 6, shown: yes, read: 2026-11-20 00:00)",
        "  counter 8",
    ]
    assert format_discovery(Discovery((), "")) == "nothing was found"


def test_the_summary_of_the_demo():
    """
    The day of each usage point, all its registers together, without noise; what is not known yet is told as such.
    """

    assert [" ".join(line.split()) for line in summarize_page(PAGE)] == [
        "flats lift 9 shows 41716.944 kWh; no whole day is known yet",
        "flats lift 10 7.1 kWh on Saturday, 28 November; injection 2.5 kWh",
        'home bath "big" shows 12.5 m³; no whole day is known yet',
        "new nothing is known yet",
    ]
    assert summarize_page("") == ["nothing is known yet"]
    assert len(summarize_page("\n".join(PAGE.replace("lift", str(n)) for n in range(40)))) == 10
