"""The page: sums out of days, holes that are record_visit, peaks, loads, facts, and no number that nobody stated."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.account_status import AccountHealth, AccountView, HistoryStatus
from exporter.client.session import Session
from exporter.client.token_cache import Token, TokenCache
from exporter.ledger.account_state import AccountState
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerChanges
from exporter.metrics.cache import MetricsPage
from exporter.metrics.exposition import OPENMETRICS, TEXT
from exporter.metrics.families import FAMILIES, MetricType
from exporter.models import (
    Commodity,
    Direction,
    Fact,
    Facts,
    Holder,
    Index,
    Interval,
    Inventory,
    Nature,
    Peak,
    Register,
    Unit,
    UsagePoint,
)
from exporter.sync.feeds import Days, Feed, Form
from tests.conftest import NOW, FakeClock
from tests.scripted_portal import POINT, REGISTER, ZONE, build_day, build_index
from tests.visit_parts import VisitPart, build_result

POWER = UsagePoint("E-1", Commodity.ELECTRICITY, meter="1SAG1")
CONSUMPTION = {name: Register(POWER, Unit.KWH, name=name) for name in ("day", "night")}
INJECTION = Register(POWER, Unit.KWH, Direction.INJECTION, name="day")
GAS = UsagePoint("G-1", Commodity.GAS)
Values = dict[str, float]
DAYS_ARE_COUNTED = 'utility_history_missing_days use base unit "seconds" instead of "days"'
"""The one complaint of promtool: this family counts days, it is no duration."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as made:
        made.open_account("home", portal="brook", zone="Europe/Brussels", login="")
        yield made


@pytest.fixture
def page(ledger: Ledger, clock: FakeClock) -> MetricsPage:
    made = MetricsPage(ledger, clock, "1.2.3")
    made.add_account(AccountView("home", "brook", ZONE), AccountHealth(timedelta(hours=1)))
    return made


@pytest.fixture
def record_visit(ledger: Ledger, page: MetricsPage) -> Callable[..., Values]:
    """Return a function that records a visit and returns the page: `family{the labels after account}` -> value."""

    def record(*parts: VisitPart, at: datetime = NOW) -> Values:
        part = page.accounts["home"]
        health = AccountState(last_visit=at, last_success=at, up=True)
        part.health.state = ledger.record_visit(
            "home", build_result(parts), health, at=at, keep_personal=part.view.show_personal
        )[1]
        page.refresh("home")
        return values(page)

    return record


def values(page: MetricsPage) -> Values:
    found = {}
    for family in parse_text(page.render().decode()):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key not in ("account", "portal")}
            name = sample.name.removeprefix("utility_")
            found[name + "".join(f" {labels[key]}" for key in ("usage_point", "register", "unit", "reason") if key in labels)] = (
                sample.value
            )
    return found


def days(first: str, last: str, amount: float, register: Register = REGISTER, but: tuple[str, ...] = ()) -> list[Interval]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    texts = [str(start + timedelta(days=n)) for n in range((end - start).days + 1)]
    return [build_day(text, amount, register) for text in texts if text not in but]


def of(found: Values, start: str) -> Values:
    return {key: value for key, value in found.items() if key.startswith(start)}


def test_sums_of_days(record_visit):
    """
    From the days come the latest day, its month and year up to it, and the month and year before.
    """
    found = record_visit(*days("2025-01-01", "2026-11-18", 0.5))

    assert found["daily_consumption_m3 B-1 total"] == 0.5
    assert found["monthly_consumption_m3 B-1 total"] == 9.0
    assert found["yearly_consumption_m3 B-1 total"] == (365 - 31 - 12) * 0.5
    assert found["previous_month_consumption_m3 B-1 total"] == 15.5
    assert found["previous_year_consumption_m3 B-1 total"] == 182.5
    assert found["latest_day_timestamp_seconds B-1"] == datetime(2026, 11, 17, 23, tzinfo=UTC).timestamp()
    assert found["reading_timestamp_seconds B-1"] == datetime(2026, 11, 18, 23, tzinfo=UTC).timestamp()
    assert found["reading_age_seconds B-1"] == NOW.timestamp() - found["reading_timestamp_seconds B-1"]
    assert [found[f"{period}day_gaps B-1"] for period in ("", "monthly_", "yearly_")] == [0, 0, 0]


def test_a_sum_with_gaps_states_them(record_visit):
    """
    A missing day is a gap of its month, its year and the last 60 days; a whole period before is whole or absent.
    """
    holes = ("2026-11-03", "2026-10-30", "2026-02-01")
    found = record_visit(*days("2026-01-20", "2026-11-18", 1.0, but=holes))

    assert found["monthly_consumption_m3 B-1 total"] == 17.0
    assert [found[f"{period}day_gaps B-1"] for period in ("", "monthly_", "yearly_")] == [2, 1, 3 + 19]
    assert of(found, "previous_") == {}


def test_days_that_were_never_asked_are_missing_in_a_sum(record_visit):
    """
    A month whose first nine days are not known says so; so does the year. The last 60 days count from the first known one.
    """
    found = record_visit(*days("2026-11-10", "2026-11-18", 1.0))

    assert [found[f"{period}day_gaps B-1"] for period in ("", "monthly_", "yearly_")] == [0, 9, 365 - 31 - 12 - 9]
    assert of(found, "previous_") == {}


def gaps(found: Values, point: str) -> list[float]:
    return [found[f"{period}_day_gaps {point}"] for period in ("monthly", "yearly")]


def begin_history(page: MetricsPage, day: date, *usage_points: str, direction: Direction | None = None) -> None:
    """Let it be established that the history of usage points begins on a day; without any: that of all."""
    form, resolution = (Form.INTERVAL, "P1D") if usage_points else (Form.VISIT, None)
    feed = Feed(
        key="a", zone=ZONE, chunk=Days(7), usage_points=usage_points, form=form, resolution=resolution, direction=direction
    )
    page.accounts["home"].health.history = HistoryStatus(history_starts={feed: day})


@pytest.mark.parametrize("whose", [("B-1",), ()])
def test_days_before_the_established_start_of_the_history_are_not_missing(record_visit, page, whose):
    """
    Once all before the tenth was asked for and is empty, no sum waits for it; a whole month it is not.
    """
    record_visit(*days("2026-11-10", "2026-11-18", 1.0, but=("2026-11-12",)))
    begin_history(page, date(2026, 11, 10), *whose)
    page.refresh("home", LedgerChanges())
    found = values(page)

    assert gaps(found, "B-1") == [1, 1]
    assert of(found, "previous_") == {}


def test_each_direction_has_its_own_start(record_visit, page):
    """
    Panels mounted on the fifteenth lack nothing before, though consumption is known for longer, and lacks a day.
    """
    begin_history(page, date(2026, 11, 15), "E-1", direction=Direction.INJECTION)
    found = record_visit(
        *days("2026-01-02", "2026-11-18", 3.0, CONSUMPTION["day"]), *days("2026-11-15", "2026-11-18", 2.0, INJECTION)
    )

    assert gaps(found, "E-1") == [0, 1]
    assert found["monthly_injection_kwh E-1 day"] == 8.0


def test_the_whole_history_and_its_holes(record_visit):
    """
    The oldest day of any direction, and all days since then that one lacks from its own first day on.
    """
    found = record_visit(
        *days("2019-03-01", "2026-11-18", 3.0, CONSUMPTION["day"], but=("2019-03-02", "2021-05-05", "2026-11-01")),
        *days("2020-03-01", "2026-11-18", 2.0, INJECTION, but=("2021-05-05", "2021-05-06")),
    )

    assert found["history_start_timestamp_seconds E-1"] == datetime(2019, 2, 28, 23, tzinfo=UTC).timestamp()
    assert found["history_missing_days E-1"] == 4


def test_sums_have_no_noise(record_visit):
    """
    Amounts with three decimals make sums with three.
    """
    amounts = [0.127, 0.1, 0.2, 11.441, 0.027, 22.897]
    found = record_visit(*(build_day(f"2026-11-{number + 1:02}", amount) for number, amount in enumerate(amounts)))

    assert repr(found["monthly_consumption_m3 B-1 total"]) == "34.792"


def test_the_month_begins_at_local_midnight_with_or_without_a_visit(record_visit, page, clock):
    """
    Every usage point says when the running month began; the page moves on by itself.
    """
    november, december = (datetime(2026, number, 1, tzinfo=ZONE).timestamp() for number in (11, 12))
    found = record_visit(build_index(1.0, NOW), *days("2026-11-17", "2026-11-18", 1.0, CONSUMPTION["day"]))
    assert of(found, "month_start") == dict.fromkeys(
        ("month_start_timestamp_seconds B-1", "month_start_timestamp_seconds E-1"), november
    )
    clock.at = datetime(2026, 11, 30, 22, 59, tzinfo=UTC)
    assert values(page)["month_start_timestamp_seconds B-1"] == november
    clock.at = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert of(values(page), "month_start") == dict.fromkeys(of(found, "month_start"), december)
    page.refresh("home", LedgerChanges(usage_points=frozenset({"B-1"})))
    assert of(values(page), "month_start") == dict.fromkeys(of(found, "month_start"), december)


def test_configured_usage_points_are_shown_without_readings(page):
    """
    What the configuration names is on the page before anything is known of it, by its alias.
    """
    view = AccountView("home", "brook", ZONE, {"B-1": "kitchen"}, configured=frozenset({"B-1", "B-2"}))
    page.add_account(view, AccountHealth(timedelta(hours=1)))

    assert of(values(page), "usage_point_configured") == {"usage_point_configured kitchen": 1, "usage_point_configured B-2": 1}


def test_the_turn_of_the_year(record_visit):
    """
    On 1 January month and year begin anew, and the month and year before are the old ones.
    """
    found = record_visit(*days("2025-01-01", "2026-01-01", 1.0), at=datetime(2026, 1, 2, 9, tzinfo=UTC))

    assert (found["monthly_consumption_m3 B-1 total"], found["yearly_consumption_m3 B-1 total"]) == (1, 1)
    assert (found["previous_month_consumption_m3 B-1 total"], found["previous_year_consumption_m3 B-1 total"]) == (31, 365)


def test_the_days_of_a_clock_change_are_days(record_visit):
    """
    Days of 23 and 25 hours count as one day each.
    """
    found = record_visit(*days("2026-03-01", "2026-03-31", 1.0), at=datetime(2026, 4, 2, tzinfo=UTC))
    assert (found["monthly_consumption_m3 B-1 total"], found["monthly_day_gaps B-1"]) == (31, 0)
    found = record_visit(*days("2026-10-01", "2026-10-31", 1.0))
    assert found["monthly_consumption_m3 B-1 total"] == 31


def test_the_latest_day_is_complete(record_visit):
    """
    While the injection of a day is missing, the day before is the latest; registers and directions stay apart.
    """
    consumption = [
        *days("2026-11-01", "2026-11-18", 3.0, CONSUMPTION["day"]),
        *days("2026-11-01", "2026-11-18", 1.0, CONSUMPTION["night"]),
    ]
    found = record_visit(*consumption, *days("2026-11-01", "2026-11-17", 2.0, INJECTION))

    assert of(found, "daily_") == {
        "daily_consumption_kwh E-1 day": 3.0,
        "daily_consumption_kwh E-1 night": 1.0,
        "daily_injection_kwh E-1 day": 2.0,
    }
    assert found["monthly_consumption_kwh E-1 day"] == 51.0
    assert found["latest_day_timestamp_seconds E-1"] == datetime(2026, 11, 16, 23, tzinfo=UTC).timestamp()
    assert found["reading_timestamp_seconds E-1"] == datetime(2026, 11, 18, 23, tzinfo=UTC).timestamp()


def test_a_silent_direction_holds_nothing_back(record_visit):
    """
    Solar panels taken down two weeks ago no longer hold back the consumption.
    """
    found = record_visit(
        *days("2026-10-01", "2026-11-18", 3.0, CONSUMPTION["day"]), *days("2026-10-01", "2026-11-01", 2.0, INJECTION)
    )

    assert of(found, "daily_") == {"daily_consumption_kwh E-1 day": 3.0}
    assert found["day_gaps E-1"] == 0


def test_gas_is_energy_and_volume_of_its_own_day(record_visit):
    """
    The same gas in kWh and m³ stays apart; its day starts at six.
    """
    registers = [Register(GAS, Unit.KWH, name="energy"), Register(GAS, Unit.M3, name="volume")]
    start = datetime(2026, 11, 16, 5, tzinfo=UTC)
    found = record_visit(
        *(Interval(one, start, start + timedelta(days=1), n) for one, n in zip(registers, (57.9, 5.1), strict=True))
    )

    assert found["daily_consumption_kwh G-1 energy"] == 57.9
    assert found["daily_consumption_m3 G-1 volume"] == 5.1
    assert found["latest_day_timestamp_seconds G-1"] == start.timestamp()


def quarter(at: datetime, amount: float, register: Register, minutes: int = 15) -> Interval:
    return Interval(register, at, at + timedelta(minutes=minutes), amount)


def test_load_is_the_mean_power_of_the_newest_interval(record_visit):
    """
    All registers of the newest interval together, each direction for itself, register `total`.
    """
    at = datetime(2026, 11, 18, 22, 30, tzinfo=UTC)
    later = at + timedelta(minutes=15)
    found = record_visit(
        quarter(at, 9.0, CONSUMPTION["day"]), quarter(later, 0.1, CONSUMPTION["night"]), quarter(later, 0.05, INJECTION)
    )

    assert found["consumption_load_kw E-1 total"] == pytest.approx(0.4)
    assert found["injection_load_kw E-1 total"] == pytest.approx(0.2)
    assert found["load_timestamp_seconds E-1"] == datetime(2026, 11, 18, 23, tzinfo=UTC).timestamp()
    assert found["reading_timestamp_seconds E-1"] == found["load_timestamp_seconds E-1"]


def test_load_of_two_registers_is_one(record_visit):
    """
    Two registers that ran in the same interval are added.
    """
    at = datetime(2026, 11, 18, 22, 30, tzinfo=UTC)

    assert record_visit(quarter(at, 0.1, CONSUMPTION["day"]), quarter(at, 0.2, CONSUMPTION["night"]))[
        "consumption_load_kw E-1 total"
    ] == pytest.approx(1.2)


def test_the_shortest_interval_that_ends_last_counts_once(record_visit):
    """
    Where half-hours and quarter-hours overlap they are not added up.
    """
    at = datetime(2026, 11, 18, 22, 30, tzinfo=UTC)
    half = quarter(at, 0.5, CONSUMPTION["day"], 30)

    assert record_visit(half, quarter(at + timedelta(minutes=15), 0.1, CONSUMPTION["day"]))[
        "consumption_load_kw E-1 total"
    ] == pytest.approx(0.4)


def test_a_zero_is_a_value_and_nothing_is_no_series(record_visit):
    """
    A day of zero is shown; what was never stated is not.
    """
    found = record_visit(build_day("2026-11-18", 0.0))

    assert found["daily_consumption_m3 B-1 total"] == 0.0
    assert of(found, "consumption_index") == of(found, "consumption_load") == of(found, "monthly_peak") == {}


def month(year: int, number: int, power: float) -> Peak:
    start = datetime(year, number, 1, tzinfo=ZONE)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=ZONE)
    return Peak(
        POWER, Unit.KW, start.astimezone(UTC), end.astimezone(UTC), power, (start + timedelta(days=12, hours=18)).astimezone(UTC)
    )


def test_the_capacity_tariff(record_visit, clock):
    """
    The mean is over the twelve months before the running one, each at least 2.5 kW; the running month is shown, not counted.
    """
    powers = [9.0, 4.0, 0.6, 3.0, 2.5, 5.0, 6.0, 1.0, 2.0, 3.5, 4.5, 5.5, 4.2]
    months = [month(2025 + (9 + n) // 12, (9 + n) % 12 + 1, power) for n, power in enumerate(powers)]
    found = record_visit(*months, month(2026, 11, 7.7))

    floored = [max(2.5, power) for power in powers[1:]]
    assert found["monthly_peak_kw E-1"] == 7.7
    assert found["monthly_peak_timestamp_seconds E-1"] == datetime(2026, 11, 13, 17, tzinfo=UTC).timestamp()
    assert found["average_monthly_peak_kw E-1"] == pytest.approx(sum(floored) / 12)
    assert found["average_monthly_peak_months E-1"] == 12


def test_older_months_do_not_stand_in_for_missing_ones(record_visit):
    """
    Of the twelve months before the running one those that are known count, however many older ones are known.
    """
    known = [month(2025, number, 9.0) for number in range(1, 12)] + [month(2026, number, 4.0) for number in (3, 9)]
    found = record_visit(*known)

    assert found["average_monthly_peak_kw E-1"] == pytest.approx((9.0 + 4.0 + 4.0) / 3)
    assert found["average_monthly_peak_months E-1"] == 3


def test_a_peak_whose_instant_is_not_known(record_visit):
    """
    The month's power is shown, and counts for the capacity tariff; its instant is absent.
    """
    october, november = (replace(month(2026, number, 3.4), at=None) for number in (10, 11))
    found = record_visit(october, november)

    assert (found["monthly_peak_kw E-1"], found["average_monthly_peak_kw E-1"]) == (3.4, 3.4)
    assert of(found, "monthly_peak_timestamp") == {}


def test_a_month_closes_by_the_clock_of_its_point(record_visit, page, clock):
    """
    The running month counts from local midnight on, though no visit has happened since.
    """
    assert of(record_visit(month(2026, 11, 4.0)), "average") == {}
    clock.at = datetime(2026, 11, 30, 22, 59, tzinfo=UTC)
    assert of(values(page), "average") == {}
    clock.at = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert of(values(page), "average_monthly_peak_kw") == {"average_monthly_peak_kw E-1": 4.0}


def test_daily_peak(record_visit):
    """
    The newest daily maximum power, in kVA, with its instant.
    """
    start = datetime(2026, 11, 17, 23, tzinfo=UTC)
    at = start + timedelta(hours=19, seconds=11)
    found = record_visit(Peak(POWER, Unit.KVA, start, start + timedelta(days=1), 5.31, at))

    assert (found["daily_peak_kva E-1"], found["daily_peak_timestamp_seconds E-1"]) == (5.31, at.timestamp())


@pytest.mark.parametrize(
    ("register", "name"),
    [
        (Register(POINT, Unit.KWH), "consumption_index_kwh B-1 total"),
        (Register(POINT, Unit.M3), "consumption_index_m3 B-1 total"),
        (Register(POINT, Unit.KWH, Direction.INJECTION), "injection_index_kwh B-1 total"),
        (Register(POINT, Unit.CELSIUS, nature=Nature.MOMENTARY), "temperature_celsius B-1 total"),
        (Register(POINT, Unit.RELATIVE_HUMIDITY, nature=Nature.MOMENTARY), "humidity_ratio B-1 total"),
        (Register(POINT, Unit.KW, nature=Nature.MOMENTARY), "power_kw B-1 total"),
        (Register(POINT, "KPD°", nature=Nature.AMOUNT), "register_value B-1 total KPD°"),
        (Register(POINT, "kVArh"), "register_value B-1 total kVArh"),
        (Register(POINT, Unit.KWH, nature=Nature.AMOUNT), "register_value B-1 total kWh"),
        (Register(POINT, "", nature=Nature.STATE), "register_value B-1 total "),
        (Register(POINT, "%", nature=Nature.MOMENTARY), "register_value B-1 total %"),
    ],
)
def test_each_register_has_its_family(record_visit, register, name):
    """
    Unit, direction and nature choose the family; what fits none keeps its unit as a label.
    """
    found = record_visit(Index(register, 42.5, NOW))

    assert {key: value for key, value in found.items() if value == 42.5} == {name: 42.5}


def test_the_newest_index_is_shown_though_older_ones_come_later(record_visit):
    """
    A late index does not replace a newer one.
    """
    record_visit(build_index(12.0, NOW - timedelta(hours=1)))

    assert record_visit(build_index(11.0, NOW - timedelta(days=1)))["consumption_index_m3 B-1 total"] == 12.0


def test_flags_and_contract_power(record_visit):
    """
    A stated flag is 0 or 1; one no longer stated is no series.
    """
    found = record_visit(
        Facts(POINT, {Fact.DIVERGENT_CONSUMPTION: 1, Fact.METER_ACTIVE: 0, Fact.SUBSCRIBED_POWER: 9, Fact.DAY_OFFSET: 3})
    )
    assert (found["divergent_consumption B-1"], found["meter_active B-1"]) == (1, 0)
    assert (found["subscribed_power_kva B-1"], found["day_offset B-1"]) == (9, 3)
    assert of(record_visit(Facts(POINT, {})), "divergent") == {}


def test_one_register_info_for_a_register_that_counts_both_ways(record_visit, page):
    """
    Joins on (account, usage_point, register) must find one series.
    """
    record_visit(*days("2026-11-17", "2026-11-18", 1.0, CONSUMPTION["day"]), *days("2026-11-17", "2026-11-18", 1.0, INJECTION))

    assert page.render().decode().count("utility_register_info{") == 1


def test_labels_are_clean_and_aliased(ledger, page, record_visit):
    """
    Control characters and length are cut; an alias stands for the identifier everywhere, and two alike give no double.
    """
    page.add_account(AccountView("home", "brook", ZONE, {"B-1": "kitchen", "B-2": "kitchen"}), AccountHealth(timedelta(hours=1)))
    other = UsagePoint("B-2", Commodity.WATER, name="x\n\x1b[31m" + "y" * 500)
    text_before = record_visit(build_index(1.0, NOW), build_index(2.0, NOW, Register(other, Unit.M3)))
    text = page.render().decode()

    assert text_before["consumption_index_m3 kitchen total"] == 1.0
    assert "B-1" not in text
    assert "B-2" not in text
    assert text.count("utility_consumption_index_m3{") == 1
    assert "\x1b" not in text


@pytest.mark.parametrize("personal", [True, False])
def test_personal_data_only_where_allowed(page, record_visit, personal):
    """
    Address and holder are empty unless the account allows them.
    """
    page.add_account(AccountView("home", "brook", ZONE, show_personal=personal), AccountHealth(timedelta(hours=1)))
    record_visit(
        Facts(UsagePoint("B-1", Commodity.WATER, address="Beekstraat 1"), {}), Holder(name="N. Invented", customer_id="C-99")
    )
    text = page.render().decode()

    assert ("Beekstraat 1" in text, "N. Invented" in text, "C-99" in text) == (personal,) * 3


def test_health(page, record_visit, clock):
    """
    Every reason and status is there from the start as 0; instants never known are no series.
    """
    text = page.render().decode()
    assert text.count("utility_visit_failures_total{") == 6
    assert text.count("utility_portal_requests_total{") == 5
    assert "utility_up{" not in text
    assert "utility_last_visit_timestamp_seconds{" not in text
    holder = Holder(access_expires=NOW + timedelta(days=9), login_valid_from=NOW - timedelta(days=99))
    found = record_visit(holder, build_index(1.0, NOW))
    assert found["access_expires_timestamp_seconds"] == (NOW + timedelta(days=9)).timestamp()
    assert found["login_valid_from_timestamp_seconds"] == (NOW - timedelta(days=99)).timestamp()
    assert (found["up"], found["ledger_readings"], found["last_new_data_timestamp_seconds"]) == (1, 1, NOW.timestamp())


async def test_the_end_of_the_access_token(ledger, page, record_visit, clock):
    """
    The end of the token that a login has stored; none where there is no token.
    """
    assert of(record_visit(build_index(1.0, NOW)), "token_expires") == {}

    async def log_in(_: Token | None) -> Token:
        return Token("invented", NOW + timedelta(hours=1))

    async with Session(store=ledger.get_account_store("home"), clock=clock) as session:
        await TokenCache(session, log_in).get_token()

    assert record_visit(build_index(2.0, NOW))["token_expires_timestamp_seconds"] == (NOW + timedelta(hours=1)).timestamp()


def test_one_bad_account_does_not_empty_the_page(page, record_visit, caplog):
    """
    When one account's part cannot be made, the others' are there.
    """
    record_visit(build_index(1.0, NOW))
    page.add_account(AccountView("bad", "brook", ZONE), AccountHealth(timedelta(hours=1))).health = None  # type: ignore[assignment]  # a bug of ours

    assert "utility_consumption_index_m3{" in page.render().decode()
    assert "bad" in caplog.text


def test_what_left_the_account_leaves_the_page(record_visit):
    """
    A point outside the inventory has no series any more, its flags included.
    """
    record_visit(build_index(1.0, NOW), Facts(POINT, {Fact.METER_ACTIVE: 1}))
    found = record_visit(Inventory(()))

    assert {key for key in found if "B-1" in key} == set()


def test_no_series_stands_twice(page, record_visit):
    """
    Name and labels are unique over a page with everything on it.
    """
    record_visit(*EVERYTHING)
    lines = [line.rpartition(" ")[0] for line in page.render().decode().splitlines() if not line.startswith("#")]

    assert len(lines) == len(set(lines))


def test_promtool_finds_no_fault(page, record_visit):
    """
    `promtool check metrics` has no complaint about a page with everything on it, but for a family that counts days.
    """
    record_visit(*EVERYTHING)
    done = subprocess.run(["promtool", "check", "metrics"], input=page.render(), capture_output=True, check=False)

    assert (done.stdout, done.stderr.decode().splitlines()) == (b"", [DAYS_ARE_COUNTED])


def test_openmetrics_says_the_same(page, record_visit):
    """
    The OpenMetrics page is read by its own parser, ends with EOF, and holds the same series.
    """
    record_visit(*EVERYTHING)
    text = page.render(OPENMETRICS).decode()
    plain = {(s.name, tuple(sorted(s.labels.items()))) for f in parse_text(page.render(TEXT).decode()) for s in f.samples}
    rich = {(s.name, tuple(sorted(s.labels.items()))) for f in parse_openmetrics(text) for s in f.samples}

    assert text.endswith("# EOF\n")
    assert {one for one in plain if one[0].startswith("utility")} == {one for one in rich if one[0].startswith("utility")}


def test_help_says_cached_where_it_is():
    """
    Every family that comes out of the ledger says that it is cached, and every help is one sentence.
    """
    of_readings = [family for family in FAMILIES if "usage_point" in family.labels]

    assert all("cached" in family.help for family in of_readings)
    assert all(family.help.endswith(".") and ". " not in family.help for family in FAMILIES)
    assert all(family.name.endswith("_total") == (family.type is MetricType.COUNTER) for family in FAMILIES)


EVERYTHING: list[VisitPart] = [
    build_index(104.25, NOW),
    Index(Register(POINT, "KPD°", name="heat", nature=Nature.AMOUNT, kind="LB_POCTYP_TEP"), 3.0, NOW),
    Index(Register(POINT, Unit.CELSIUS, name="t", nature=Nature.MOMENTARY), 21.5, NOW),
    *days("2025-01-01", "2026-11-18", 0.25),
    *days("2025-01-01", "2026-11-18", 4.0, CONSUMPTION["day"]),
    *days("2025-01-01", "2026-11-18", 1.0, INJECTION),
    quarter(NOW - timedelta(hours=20), 0.1, CONSUMPTION["day"]),
    month(2026, 10, 4.0),
    Peak(POWER, Unit.KVA, NOW - timedelta(days=1), NOW, 5.31, NOW - timedelta(hours=3)),
    Facts(POINT, dict.fromkeys(Fact, 1.0)),
    Holder(access_expires=NOW + timedelta(days=9), login_valid_from=NOW),
]  # fmt: skip
