"""Days that are calculated from what a register showed: at midnights, over clock changes, late, corrected, thinned, backwards."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.account_status import AccountHealth, AccountView, HistoryStatus
from exporter.ledger.account_state import AccountState
from exporter.ledger.derived_days import derive_days
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.metrics.days import DayStatistics
from exporter.models import Commodity, Direction, Index, Inventory, Nature, Register, Unit, UsagePoint
from exporter.sync.feeds import Days, Feed
from tests.conftest import NOW, FakeClock
from tests.test_metrics import Values, of, values
from tests.visit_parts import VisitPart, build_result

PRAGUE = ZoneInfo("Europe/Prague")
HOUR = timedelta(hours=1)
HEAT = UsagePoint("70001", Commodity.HEAT)
COUNTER = Register(HEAT, Unit.KWH, name="80001")
Record = Callable[..., Values]


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PRAGUE).astimezone(UTC)


def hourly(first: str, last: str, per_hour: float = 1.0, register: Register = COUNTER, start: float = 100.0) -> list[VisitPart]:
    """A reading at each half past, local times included; what is shown grows evenly."""
    at, end, found = local(first), local(last), list[VisitPart]()
    begin = at
    while at <= end:
        found.append(Index(register, round(start + per_hour * ((at - begin) / HOUR), 6), at))
        at += HOUR
    return found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as made:
        made.open_account("flats", portal="cem", zone=PRAGUE.key, login="", derives_days=True)
        yield made


@pytest.fixture
def page(ledger: Ledger, clock: FakeClock) -> MetricsPage:
    made = MetricsPage(ledger, clock, "1")
    made.add_account(AccountView("flats", "cem", PRAGUE), AccountHealth(timedelta(hours=1)))
    made.refresh("flats")
    return made


@pytest.fixture
def record(ledger: Ledger, page: MetricsPage) -> Record:
    """Return a function that records a visit and returns the page, which is the same as one made anew."""

    def visit(*parts: VisitPart, at: datetime = NOW) -> Values:
        changes, page.accounts["flats"].health.state = ledger.record_visit("flats", build_result(parts), AccountState(), at=at)
        page.refresh("flats", changes)
        updated = shown(page)
        page.refresh("flats")
        assert shown(page) == updated
        return updated

    return visit


def shown(page: MetricsPage) -> Values:
    return {name: value for name, value in values(page).items() if not name.startswith(("process_", "python_"))}


def known_days(ledger: Ledger, register: Register = COUNTER) -> dict[str, float]:
    """Return the days of a register: local day -> amount."""
    with ledger.snapshot() as snapshot:
        rows = [row for row in snapshot.select_series("flats") if row.is_derived and row.register == register.name]
        assert len(rows) < 2
        found = [day for row in rows for day in snapshot.select_readings(row.id, datetime(1990, 1, 1, tzinfo=UTC), NOW)]
        for day in found:
            assert day.at.astimezone(PRAGUE).hour == day.end.astimezone(PRAGUE).hour == 0
        return {str(day.at.astimezone(PRAGUE).date()): day.value for day in found}


def test_a_register_has_amounts_of_days(record, ledger):
    """
    The difference between two local midnights, linear between the readings around each; the first and running days have none.
    """
    found = record(*hourly("2026-10-30 10:30", "2026-11-19 09:30", 1.5))

    assert known_days(ledger) == {str(date(2026, 10, 31) + timedelta(days=n)): 36.0 for n in range(19)}
    assert found["daily_consumption_kwh 70001 80001"] == 36.0
    assert found["monthly_consumption_kwh 70001 80001"] == 18 * 36.0
    assert found["latest_day_timestamp_seconds 70001"] == local("2026-11-18 00:00").timestamp()
    assert (found["monthly_day_gaps 70001"], found["day_gaps 70001"], found["history_missing_days 70001"]) == (0, 0, 0)
    assert found["history_start_timestamp_seconds 70001"] == local("2026-10-31 00:00").timestamp()
    assert of(found, "previous_month") == {}


def test_the_days_of_clock_changes(record, ledger):
    """
    A day of 25 hours has the amount of 25 hours, one of 23 that of 23.
    """
    record(*hourly("2026-10-24 12:30", "2026-10-26 12:30"))
    record(*hourly("2026-03-28 12:30", "2026-03-30 12:30"))

    assert known_days(ledger) == {"2026-10-25": 25.0, "2026-03-29": 23.0}


def test_a_day_appears_with_the_first_reading_after_midnight(record, ledger):
    """
    Visit by visit: nothing until the day is over, then its amount; later visits of the new day change nothing.
    """
    parts = hourly("2026-11-16 22:30", "2026-11-18 03:30")
    for part in parts:
        found = record(part, at=part.at)
        days = known_days(ledger)
        assert days == ({"2026-11-17": 24.0} if part.at >= local("2026-11-18 00:00") else {})
        assert ("daily_consumption_kwh 70001 80001" in found) == bool(days)
        assert found["consumption_index_kwh 70001 80001"] == part.value


def test_a_midnight_between_distant_readings_is_not_known(record, ledger):
    """
    Six hours apart is near enough, more is not; both days beside such a midnight are gaps.
    """
    parts = hourly("2026-11-14 12:30", "2026-11-19 09:30")
    silent = [part for part in parts if not local("2026-11-15 21:00") < part.at < local("2026-11-16 03:00")]
    assert known_after(record, ledger, silent) == {"2026-11-17", "2026-11-18"}
    late = [part for part in parts if part.at == local("2026-11-15 22:30")]
    assert known_after(record, ledger, late) == {"2026-11-15", "2026-11-16", "2026-11-17", "2026-11-18"}
    assert set(known_days(ledger).values()) == {24.0}


def known_after(record: Record, ledger: Ledger, parts: list[VisitPart]) -> set[str]:
    record(*parts)
    return set(known_days(ledger))


def test_a_register_that_runs_backwards_makes_no_amount(record, ledger):
    """
    A replaced meter begins at zero: its day is a gap, though the new one may already show more.
    """
    before = hourly("2026-11-14 12:30", "2026-11-16 11:30", start=5.0)
    after = hourly("2026-11-16 12:30", "2026-11-19 09:30", per_hour=40.0, start=0.0)
    record(*before, *after)

    assert known_days(ledger) == {"2026-11-15": 24.0, "2026-11-17": 960.0, "2026-11-18": 960.0}


def test_a_drop_at_midnight_spoils_both_days(record, ledger):
    """
    Between a high and a low reading nobody knows what the register showed at midnight.
    """
    record(*hourly("2026-11-14 12:30", "2026-11-16 23:30", start=500.0), *hourly("2026-11-17 00:30", "2026-11-19 09:30"))

    assert known_days(ledger) == {"2026-11-15": 24.0, "2026-11-18": 24.0}


def test_a_correction_replaces_the_days_it_concerns(record, ledger, page):
    """
    A corrected reading beside midnight moves both days; one that makes the register run backwards takes a day away.
    """
    record(*hourly("2026-11-14 12:30", "2026-11-19 09:30"))
    (before,) = [part for part in hourly("2026-11-14 12:30", "2026-11-19 09:30") if part.at == local("2026-11-16 23:30")]
    record(Index(COUNTER, before.value + 0.5, before.at))
    assert known_days(ledger) == {"2026-11-15": 24.0, "2026-11-16": 24.25, "2026-11-17": 23.75, "2026-11-18": 24.0}

    found = record(Index(COUNTER, 1.0, local("2026-11-17 12:30")))
    assert known_days(ledger) == {"2026-11-15": 24.0, "2026-11-16": 24.25, "2026-11-18": 24.0}
    assert found["history_missing_days 70001"] == 1


def test_history_that_comes_later_is_derived_too(record, ledger):
    """
    Older readings fill the days before the known ones, the day between included.
    """
    record(*hourly("2026-11-10 09:30", "2026-11-19 09:30", start=1000.0))
    record(*hourly("2026-11-01 09:30", "2026-11-10 08:30", start=1000.0 - 216.0))

    assert known_days(ledger) == {f"2026-11-{number:02}": 24.0 for number in range(2, 19)}


@pytest.mark.parametrize(
    "register",
    [
        Register(HEAT, Unit.CELSIUS, name="80001", nature=Nature.MOMENTARY),
        Register(HEAT, Unit.KWH, name="80001", nature=Nature.AMOUNT),
        Register(HEAT, "kVArh", name="80001"),
        Register(HEAT, "", name="80001", nature=Nature.STATE),
    ],
)
def test_only_counters_of_energy_and_volume_have_days(record, ledger, register):
    """
    Not of temperatures, amounts, states, or units that are not ours.
    """
    record(*hourly("2026-11-16 12:30", "2026-11-19 09:30", register=register))

    assert known_days(ledger) == {}


def test_both_directions_and_volumes(record):
    """
    Injection is injection, a volume a volume.
    """
    sun = Register(UsagePoint("70002", Commodity.ELECTRICITY), Unit.KWH, Direction.INJECTION, name="80002")
    water = Register(UsagePoint("70003", Commodity.WATER), Unit.M3, name="80003")
    found = record(*(part for one in (sun, water) for part in hourly("2026-11-16 12:30", "2026-11-19 09:30", 0.5, one)))

    assert found["daily_injection_kwh 70002 80002"] == found["daily_consumption_m3 70003 80003"] == 12.0


@pytest.mark.parametrize("seed", range(6))
def test_counting_in_sql_says_what_reading_every_day_does(record, page, monkeypatch, seed):
    """
    Of registers with and without holes, one or several of a usage point, in both directions: the same page either way.
    """
    chosen = random.Random(seed)
    points = [UsagePoint(str(number), Commodity.ELECTRICITY) for number in range(6)]
    registers = [
        Register(point, Unit.KWH, direction, name=str(name))
        for point in points
        for name, direction in enumerate([Direction.CONSUMPTION, Direction.CONSUMPTION, Direction.INJECTION])
        if name == 0 or chosen.random() < 0.5
    ]
    for register in registers:
        begin = chosen.choice(["2024-12-20 00:00", "2025-06-01 00:00", "2026-10-01 00:00", "2026-11-12 00:00"])
        end = local(chosen.choice(["2026-11-19 00:00"] * 4 + ["2026-10-30 00:00"]))
        is_holey, at, parts = chosen.random() < 0.5, local(begin), list[VisitPart]()
        while at <= end:
            if not is_holey or chosen.random() < 0.97:
                parts.append(Index(register, round((at - local(begin)) / HOUR * 0.137, 3), at))
            at = local(f"{at.astimezone(PRAGUE).date() + timedelta(days=1)} 00:00")
        record(*parts)
    page.accounts["flats"].health.history = HistoryStatus(
        history_starts={Feed(key="a", zone=PRAGUE, chunk=Days(1), usage_points=("1", "2"), resolution="P1D"): date(2026, 3, 1)}
    )
    page.refresh("flats")
    counted = shown(page)
    monkeypatch.setattr(DayStatistics, "summarize", lambda *_: None)
    page.refresh("flats")

    assert counted == shown(page)
    assert len([name for name in counted if name.startswith("yearly_consumption")]) >= 6


def test_derived_days_are_no_readings_of_the_account(record, ledger):
    """
    The ledger counts what the portal stated.
    """
    parts = hourly("2026-11-14 12:30", "2026-11-19 09:30")

    assert record(*parts)["ledger_readings"] == len(parts)
    assert record(Index(COUNTER, 108.0, local("2026-11-15 00:30")))["corrections_total"] == 1


def test_an_older_ledger_gets_its_days(tmp_path):
    """
    What was stored before days were derived is derived when the account is opened, once.
    """
    with Ledger(tmp_path) as ledger:
        ledger.open_account("flats", portal="cem", zone=PRAGUE.key, login="")
        ledger.record_visit("flats", build_result(hourly("2026-11-14 12:30", "2026-11-19 09:30")), AccountState(), at=NOW)
        assert known_days(ledger) == {}
        for _ in range(2):
            ledger.open_account("flats", portal="cem", zone=PRAGUE.key, login="", derives_days=True)
            assert known_days(ledger) == {f"2026-11-{number}": 24.0 for number in range(15, 19)}


def test_days_outlive_the_readings_they_came_from(record, ledger):
    """
    Thinned to one reading a day, a register keeps its days, also when one of the old readings is stated again.
    """
    for number in range(10, 20):
        record(
            *hourly(f"2026-11-{number} 00:30", f"2026-11-{number} 23:30", start=24.0 * number),
            at=local(f"2026-11-{number} 23:45"),
        )
    days = known_days(ledger)
    assert days == {f"2026-11-{number}": 24.0 for number in range(11, 19)}
    assert ledger.thin_readings(ledger.select_reference_times(NOW), 1, 0) is None
    assert ledger.get_state("flats").thinned > 40
    record(*hourly("2026-11-11 10:30", "2026-11-11 12:30", start=24.0 * 11 + 10))

    assert known_days(ledger) == days


def test_what_leaves_the_inventory_takes_its_days_along(record):
    """
    A register that is not in the inventory is not on the page, nor are its days.
    """
    other = Register(HEAT, Unit.M3, name="80009")
    parts = [part for one in (COUNTER, other) for part in hourly("2026-11-16 12:30", "2026-11-19 09:30", register=one)]
    found = record(*parts, Inventory((HEAT,), (COUNTER, other)))
    assert "daily_consumption_m3 70001 80009" in found
    found = record(Inventory((HEAT,), (COUNTER,)))

    assert "daily_consumption_kwh 70001 80001" in found
    assert of(found, "daily_consumption_m3") == {}


def test_register_info_says_what_a_register_is_part_of(record, page):
    """
    Sums leave out the registers of which another one counts all too.
    """
    tariff = Register(HEAT, Unit.KWH, name="80003", part_of="80005", value_type="night tariff")
    record(*hourly("2026-11-18 12:30", "2026-11-18 13:30", register=tariff))
    (line,) = [line for line in page.render().decode().splitlines() if line.startswith("utility_register_info{")]

    assert 'part_of="80005"' in line
    assert 'value_type="night tariff"' in line


MIDNIGHTS = [0, 86_400_000, 2 * 86_400_000]


@given(st.lists(st.tuples(st.integers(-(10**7), 3 * 86_400_000), st.floats(0, 1e6)), unique_by=lambda row: row[0], max_size=40))
@settings(max_examples=200)
def test_an_amount_is_never_negative_and_never_from_afar(rows):
    """
    Whatever is read when: an amount needs readings within six hours on each side of both midnights.
    """
    rows.sort()
    amounts = derive_days([at for at, _ in rows], [value for _, value in rows], MIDNIGHTS)

    assert len(amounts) == 2
    for number, amount in enumerate(amounts):
        if amount is not None:
            assert amount >= 0
            for midnight in MIDNIGHTS[number : number + 2]:
                assert any(midnight - 21_600_000 <= at <= midnight for at, _ in rows)
                assert any(midnight <= at <= midnight + 21_600_000 for at, _ in rows)
