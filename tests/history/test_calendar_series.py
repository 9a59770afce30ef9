"""Months and sums since the first of a month or year, out of days: holes, gas days, tariffs, corrections, estimates."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exporter.history.export import ExportSelection, export_series
from exporter.history.series import list_series
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.models import Commodity, Direction, Index, Interval, Reading, Register, Unit, UsagePoint
from tests.history.sample_history import BRUSSELS, NOW, local_instant, split_into_days, split_into_intervals
from tests.visit_parts import build_result

POWER = UsagePoint("E-1", Commodity.ELECTRICITY)
TOTAL, DAY, NIGHT = (Register(POWER, Unit.KWH, name=name) for name in ("total", "day", "night"))
GAS = Register(UsagePoint("G-1", Commodity.GAS), Unit.M3, name="volume")
ALL_TIME = (0, 1 << 42)


@pytest.fixture
def home(ledger: Ledger) -> Ledger:
    ledger.open_account("home", portal="brook", zone=BRUSSELS.key, login="")
    return ledger


def record(ledger: Ledger, *readings: Reading) -> None:
    ledger.record_visit("home", build_result(readings), AccountState(), at=NOW)


def days(register: Register, first: str, count: int, amount: float, hour: int = 0, but: tuple[str, ...] = ()) -> list[Interval]:
    spans = split_into_days(BRUSSELS, date.fromisoformat(first), count, hour)
    return [Interval(register, start, end, amount) for start, end in spans if str(start.astimezone(BRUSSELS).date()) not in but]


def samples(ledger: Ledger, name: str, **labels: str) -> dict[str, float]:
    """Return the samples of one series: local time of the millisecond after the stamp -> value."""
    with ledger.snapshot() as snapshot:
        found = [
            series for series in list_series(snapshot, {}) if {"__name__": name, **labels}.items() <= dict(series.labels).items()
        ]
        assert len(found) < 2
        rows = [
            row
            for series in found
            for part in snapshot.iterate_samples(series.series_id, series.timestamp_rule, *ALL_TIME)
            for row in part
        ]
        assert len(rows) == sum(snapshot.count_samples(one.series_id, one.timestamp_rule, *ALL_TIME) for one in found)
    ends = [datetime.fromtimestamp((at + 1) / 1000, UTC).astimezone(BRUSSELS) for at, _ in rows]
    return {f"{end:%Y-%m-%d %H:%M}": value for end, (_, value) in zip(ends, rows, strict=True)}


def test_months_and_running_sums(home):
    """
    A whole month is a sample at its end; every day has the sums since the first of its month and year; without noise.
    """
    record(home, *days(TOTAL, "2025-12-31", 90, 0.1))
    months = samples(home, "utility_interval_consumption_kwh", resolution="P1M")
    month = samples(home, "utility_month_to_date_consumption_kwh", register="total")
    year = samples(home, "utility_year_to_date_consumption_kwh")

    assert months == {"2026-02-01 00:00": 3.1, "2026-03-01 00:00": 2.8}
    assert (len(month), month["2026-01-02 00:00"], month["2026-02-01 00:00"], month["2026-02-02 00:00"]) == (89, 0.1, 3.1, 0.1)
    assert (len(year), year["2026-01-02 00:00"], year["2026-02-02 00:00"], year["2026-03-31 00:00"]) == (89, 0.1, 3.2, 8.9)


def test_a_missing_day_ends_the_period(home):
    """
    From the first missing day on there is no sum of that month or year; the next month begins anew.
    """
    record(home, *days(TOTAL, "2026-01-01", 90, 1.0, but=("2026-02-10",)))

    assert list(samples(home, "utility_interval_consumption_kwh", resolution="P1M")) == ["2026-02-01 00:00", "2026-04-01 00:00"]
    month = samples(home, "utility_month_to_date_consumption_kwh")
    assert month["2026-02-10 00:00"] == 9.0
    assert "2026-02-11 00:00" not in month
    assert "2026-03-01 00:00" not in month
    assert month["2026-03-02 00:00"] == 1.0
    assert max(samples(home, "utility_year_to_date_consumption_kwh")) == "2026-02-10 00:00"


def test_a_late_day_and_a_correction_change_all_that_follows(home):
    """
    Nothing is kept: what was missing or wrong is right at the next read.
    """
    record(home, *days(TOTAL, "2026-01-01", 90, 1.0, but=("2026-02-10",)))
    record(home, *days(TOTAL, "2026-02-10", 1, 3.0), *days(TOTAL, "2026-02-01", 1, 2.0))

    assert samples(home, "utility_interval_consumption_kwh", resolution="P1M")["2026-03-01 00:00"] == 31.0
    assert samples(home, "utility_year_to_date_consumption_kwh")["2026-04-01 00:00"] == 93.0


def test_a_month_that_loses_a_day_is_gone(ledger):
    """
    A reading that makes a register run backwards takes the day away, and the month with it; put right, both are back.
    """
    ledger.open_account("home", portal="cem", zone=BRUSSELS.key, login="", derives_days=True)
    start = local_instant(BRUSSELS, date(2026, 8, 31), 12)
    record(ledger, *(Index(TOTAL, 100.0 + number, start + timedelta(hours=number)) for number in range(24 * 32)))
    september = {"2026-10-01 00:00": 720.0}
    assert samples(ledger, "utility_interval_consumption_kwh", resolution="P1M") == september
    wrong = start + timedelta(hours=300)
    record(ledger, Index(TOTAL, 5.0, wrong))
    assert samples(ledger, "utility_interval_consumption_kwh", resolution="P1M") == {}
    record(ledger, Index(TOTAL, 400.0, wrong))
    assert samples(ledger, "utility_interval_consumption_kwh", resolution="P1M") == september


def test_an_older_ledger_gets_its_months(home):
    """
    Months of days that were stored before months were are there once the account is opened.
    """
    record(home, *days(TOTAL, "2026-01-01", 40, 0.1))
    with home.database.write() as db:
        months = db.execute("SELECT id FROM series WHERE resolution = 'P1M'").fetchall()
        db.executemany("DELETE FROM reading WHERE series = ?", months)
        db.execute("UPDATE account SET derives_months = 0")
    assert samples(home, "utility_interval_consumption_kwh", resolution="P1M") == {}
    home.open_account("home", portal="brook", zone=BRUSSELS.key, login="")

    assert samples(home, "utility_interval_consumption_kwh", resolution="P1M") == {"2026-02-01 00:00": 3.1}


def test_gas_days_end_at_six(home):
    """
    The gas month ends at six on the first, over both clock changes.
    """
    record(home, *days(GAS, "2026-01-01", 310, 0.5, hour=6))
    months = samples(home, "utility_interval_consumption_m3", resolution="P1M")

    assert list(months) == [f"2026-{number:02}-01 06:00" for number in range(2, 12)]
    assert (months["2026-04-01 06:00"], months["2026-11-01 06:00"]) == (15.5, 15.5)


def test_two_tariffs_know_their_days_together(home):
    """
    A day on which only one tariff ran is known of both, as on the page; each adds up its own.
    """
    record(home, *days(DAY, "2026-01-01", 31, 2.0, but=("2026-01-03", "2026-01-04")), *days(NIGHT, "2026-01-01", 31, 1.0))

    assert samples(home, "utility_interval_consumption_kwh", resolution="P1M", register="day") == {"2026-02-01 00:00": 58.0}
    assert samples(home, "utility_interval_consumption_kwh", resolution="P1M", register="night") == {"2026-02-01 00:00": 31.0}


def test_directions_are_apart(home):
    """
    A day of injection alone makes no day of consumption known.
    """
    sun = Register(POWER, Unit.KWH, Direction.INJECTION)
    record(home, *days(sun, "2026-01-01", 31, 2.0), *days(TOTAL, "2026-01-02", 30, 1.0))

    assert samples(home, "utility_interval_injection_kwh", resolution="P1M") == {"2026-02-01 00:00": 62.0}
    assert samples(home, "utility_interval_consumption_kwh", resolution="P1M") == {}
    assert max(samples(home, "utility_year_to_date_injection_kwh").values()) == 62.0


def test_half_hours_alone_make_no_months(home):
    """
    Months are made of days.
    """
    spans = split_into_intervals(BRUSSELS, date(2026, 1, 1), 31, timedelta(minutes=30))
    record(home, *(Interval(TOTAL, start, end, 1.0) for start, end in spans))

    assert samples(home, "utility_interval_consumption_kwh", resolution="P1M") == {}
    assert samples(home, "utility_month_to_date_consumption_kwh") == {}


def test_days_derived_from_a_register_count_like_stated_ones(ledger):
    """
    A counter that is read by the hour has days and months in the history.
    """
    ledger.open_account("home", portal="cem", zone=BRUSSELS.key, login="", derives_days=True)
    start, end = local_instant(BRUSSELS, date(2026, 9, 1), 0), local_instant(BRUSSELS, date(2026, 11, 2), 3)
    hours = [start + timedelta(hours=number) for number in range(int((end - start) / timedelta(hours=1)))]
    record(ledger, *(Index(TOTAL, 0.5 * number, at) for number, at in enumerate(hours)))

    assert samples(ledger, "utility_interval_consumption_kwh", resolution="P1D")["2026-10-26 00:00"] == 12.5
    assert samples(ledger, "utility_interval_consumption_kwh", resolution="P1M") == {
        "2026-10-01 00:00": 360.0,
        "2026-11-01 00:00": 372.5,
    }


def test_nothing_of_a_span_depends_on_the_span(home):
    """
    Whatever is asked for, the samples are those of the whole.
    """
    record(home, *days(TOTAL, "2025-01-01", 650, 0.25, but=("2025-08-09",)))
    with home.snapshot() as snapshot:
        for series in list_series(snapshot, {}):
            whole = [row for part in snapshot.iterate_samples(series.series_id, series.timestamp_rule, *ALL_TIME) for row in part]
            for first, last in ((3, 9), (0, 0), (200, 300), (350, 420)):
                if last < len(whole):
                    bounds = whole[first][0], whole[last][0]
                    parts = snapshot.iterate_samples(series.series_id, series.timestamp_rule, *bounds)
                    assert [row for part in parts for row in part] == whole[first : last + 1]


def test_estimates_are_marked_until_they_are_stated_for_good(home, tmp_path: Path):
    """
    A quarter-hour or a day that the portal calls estimated is a sample of 1 at the same millisecond; once it is final, none.
    """
    quarter = local_instant(BRUSSELS, date(2026, 11, 17), 18)
    estimated = [
        Interval(TOTAL, quarter, quarter + timedelta(minutes=15), 0.2, is_estimated=True),
        Interval(TOTAL, quarter + timedelta(minutes=15), quarter + timedelta(minutes=30), 0.3),
        *(Interval(one.register, one.start, one.end, one.amount, is_estimated=True) for one in days(TOTAL, "2026-11-16", 2, 5.0)),
    ]
    record(home, *estimated)
    assert samples(home, "utility_interval_estimated", resolution="PT15M") == {"2026-11-17 18:15": 1.0}
    assert list(samples(home, "utility_interval_estimated", resolution="P1D")) == ["2026-11-17 00:00", "2026-11-18 00:00"]
    with_day = ExportSelection(None, date(2026, 11, 17), date(2026, 11, 17))
    export_series(home, {}, with_day, NOW, tmp_path / "out.txt")
    lines = [line for line in (tmp_path / "out.txt").read_text().splitlines() if line.startswith("utility_interval_estimated")]
    assert len(lines) == 2

    record(home, *days(TOTAL, "2026-11-16", 1, 5.0))
    assert list(samples(home, "utility_interval_estimated", resolution="P1D")) == ["2026-11-18 00:00"]


def test_a_zone_is_the_accounts(ledger):
    """
    Months are those of the portal's time zone.
    """
    tokyo = ZoneInfo("Asia/Tokyo")
    ledger.open_account("home", portal="brook", zone=tokyo.key, login="")
    spans = list(split_into_days(tokyo, date(2026, 1, 1), 31))
    record(ledger, *(Interval(TOTAL, start, end, 1.0) for start, end in spans))

    assert list(samples(ledger, "utility_interval_consumption_kwh", resolution="P1M")) == ["2026-01-31 16:00"]
