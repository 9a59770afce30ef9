"""Every known form of Fluvius's responses, parsed to exact values."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ResponseError
from exporter.models import Commodity, Direction, Interval, Unit, UsagePoint
from exporter.portals.fluvius import parser
from exporter.portals.fluvius.days import DayRange, day_start, metering_day
from exporter.portals.fluvius.readings import ParsedAmounts, merge_amounts

FIXTURES = Path(__file__).parent.parent / "fixtures" / "fluvius"
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
ELECTRICITY, GAS = Commodity.ELECTRICITY, Commodity.GAS


def answer(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


def list_intervals(parsed: ParsedAmounts, commodity: Commodity, now: datetime = NOW) -> list[tuple[Any, ...]]:
    point = UsagePoint("541448820000000000", commodity)
    return [
        (one.start, one.end, one.register.name, one.register.direction, one.register.unit, one.amount)
        for one in parsed.build_readings(point, now)
    ]


def read(records: Any, commodity: Commodity = ELECTRICITY) -> ParsedAmounts:
    return parser.parse_amounts(records, "the days", commodity)


def entry(**more: Any) -> dict[str, Any]:
    return {"dc": 1, "t": 1, "st": 0, "v": 1.5, "vs": 2, "u": 3, "gcuv": None} | more


def record(*entries: dict[str, Any], d: str = "2026-11-09T23:00:00Z", de: str | None = "2026-11-10T23:00:00Z") -> dict[str, Any]:
    return {"d": d, "v": list(entries)} | ({"de": de} if de else {})


def test_days_of_electricity() -> None:
    """
    Days come in order, by register and direction; registers that the meter does not have, and days without values, do not.
    """
    first, second, third = at("2026-11-09T23:00:00"), at("2026-11-10T23:00:00"), at("2026-11-11T23:00:00")
    consumption, injected = Direction.CONSUMPTION, Direction.INJECTION

    assert list_intervals(read(answer("electricity_days.json")), ELECTRICITY) == [
        (first, second, "day", consumption, Unit.KWH, 9.133),
        (first, second, "night", consumption, Unit.KWH, 2.2),
        (first, second, "day", injected, Unit.KWH, 3.5),
        (first, second, "night", injected, Unit.KWH, 0.0),
        (second, third, "day", consumption, Unit.KWH, 7.25),
        (second, third, "night", consumption, Unit.KWH, 3.125),
        (second, third, "day", injected, Unit.KWH, 0.0),
        (second, third, "night", injected, Unit.KWH, 0.0),
    ]


def test_quarter_hours() -> None:
    """
    A quarter-hour names only the register that was active.
    """
    lines = list_intervals(read(answer("electricity_quarters.json")), ELECTRICITY)

    assert lines == [
        (at("2026-11-09T23:00:00"), at("2026-11-09T23:15:00"), "night", Direction.CONSUMPTION, Unit.KWH, 0.062),
        (at("2026-11-09T23:00:00"), at("2026-11-09T23:15:00"), "night", Direction.INJECTION, Unit.KWH, 0.0),
        (at("2026-11-09T23:15:00"), at("2026-11-09T23:30:00"), "night", Direction.CONSUMPTION, Unit.KWH, 0.058),
        (at("2026-11-09T23:15:00"), at("2026-11-09T23:30:00"), "night", Direction.INJECTION, Unit.KWH, 0.0),
    ]


@pytest.mark.parametrize(
    ("name", "end", "kwh", "m3"),
    [("gas_days.json", "2026-11-11T05:00:00", 57.9398, 5.083), ("gas_hours.json", "2026-11-10T06:00:00", 4.6968, 0.412)],
)
def test_gas_comes_in_two_units(name: str, end: str, kwh: float, m3: float) -> None:
    """
    The same gas comes as energy and as volume: two registers, never one sum.
    """
    span = at("2026-11-10T05:00:00"), at(end)

    assert list_intervals(read(answer(name), GAS), GAS) == [
        (*span, "energy", Direction.CONSUMPTION, Unit.KWH, kwh),
        (*span, "volume", Direction.CONSUMPTION, Unit.M3, m3),
    ]


def test_monthly_peaks() -> None:
    """
    A peak has its month and its quarter-hour; the record of the current month may end now;
    entries without an instant are skipped.
    """
    months = parser.parse_peaks(answer("spikes.json"), "the peaks").months

    assert months == {
        (at("2026-09-30T22:00:00"), at("2026-10-31T23:00:00")): (5.098, at("2026-10-14T16:00:00")),
        (at("2026-10-31T23:00:00"), at("2026-11-30T23:00:00")): (3.32, at("2026-11-02T18:30:00")),
    }


@pytest.mark.parametrize("sst", [None, "0001-01-01T00:00:00Z", "9999-12-30T23:00:00Z", "2026-09-14T16:00:00Z", "onbekend", 3])
def test_a_peak_without_a_usable_instant(sst: Any) -> None:
    """
    The month keeps its power, without an instant; the other months are whole.
    """
    month = {"d": "2026-09-30T22:00:00Z", "de": "2026-10-31T23:00:00Z", "v": [entry(u=4, v=3.4, sst=sst)]}
    other = {"d": "2026-08-31T22:00:00Z", "de": "2026-09-30T22:00:00Z", "v": [entry(u=4, v=2.75, sst="2026-09-02T18:30:00Z")]}
    found = parser.parse_peaks([month, other], "the peaks")

    assert (found.months, dict(found.skipped)) == (
        {
            (at("2026-09-30T22:00:00"), at("2026-10-31T23:00:00")): (3.4, None),
            (at("2026-08-31T22:00:00"), at("2026-09-30T22:00:00")): (2.75, at("2026-09-02T18:30:00")),
        },
        {},
    )


def test_a_peak_without_an_instant_of_2024() -> None:
    """
    The old form's peak keeps its power too.
    """
    body = answer("spikes_2024.json")
    body[0]["val"][0]["tscs"] = None
    power = body[0]["val"][0]["o"]

    assert (power, None) in parser.parse_peaks_2024(body, "the peaks").months.values()


def test_peaks_of_something_else() -> None:
    """
    Injection, another unit, another period and null are no monthly peaks; what is unknown is counted.
    """
    sst = {"sst": "2026-10-14T16:00:00Z"}
    month = {"d": "2026-09-30T22:00:00Z", "de": "2026-10-31T23:00:00Z"}
    values = [entry(u=4, t=2, **sst), entry(u=3, **sst), entry(u=4, v=None, **sst), entry(u=4, v=0, vs=0, **sst)]
    year = {"d": "2025-12-31T23:00:00Z", "de": "2026-12-31T23:00:00Z", "v": [entry(u=4, **sst)]}
    found = parser.parse_peaks([month | {"v": values}, year], "the peaks")

    assert (found.months, dict(found.skipped)) == (
        {},
        {"peaks in the unknown unit 3": 1, "peaks of something else than a month": 1},
    )


def test_days_of_2024() -> None:
    """
    The old form: both meters of a replacement are read, and their halves of the day between them are added, once.
    """
    parsed = parser.parse_amounts_2024(answer("days_2024.json"), "the days", ELECTRICITY)
    nights = [(line[0], line[3], line[5]) for line in list_intervals(parsed, ELECTRICITY) if line[2] == "night"]
    days = [(line[0], line[3], line[5]) for line in list_intervals(parsed, ELECTRICITY) if line[2] == "day" and line[5]]

    assert nights == [
        (at("2023-06-30T22:00:00"), Direction.CONSUMPTION, 13.077),
        (at("2023-06-30T22:00:00"), Direction.INJECTION, 4.5),
        (at("2023-07-01T22:00:00"), Direction.CONSUMPTION, 5.5),
        (at("2023-07-01T22:00:00"), Direction.INJECTION, 1.75),
        (at("2023-07-02T22:00:00"), Direction.CONSUMPTION, 2.0),
        (at("2023-07-02T22:00:00"), Direction.INJECTION, 0.0),
    ]
    assert days == [
        (at("2023-07-02T22:00:00"), Direction.CONSUMPTION, 6.25),
        (at("2023-07-02T22:00:00"), Direction.INJECTION, 1.0),
    ]


def test_gas_and_peaks_of_2024() -> None:
    """
    The old form tells gas in kWh and m³ too, and monthly peaks.
    """
    gas = list_intervals(parser.parse_amounts_2024(answer("gas_days_2024.json"), "the days", GAS), GAS)
    peaks = parser.parse_peaks_2024(answer("spikes_2024.json"), "the peaks").months

    assert [(line[2], line[5]) for line in gas] == [("energy", 8.4), ("volume", 0.75)]
    assert peaks == {(at("2023-05-31T22:00:00"), at("2023-06-30T22:00:00")): (5.098, at("2023-06-14T16:00:00"))}


LATER = {"d": "2026-11-10T23:00:00Z", "de": "2026-11-11T23:00:00Z"}


@pytest.mark.parametrize(
    ("odd", "amounts", "skipped"),
    [
        ([entry(v="NaN"), entry(dc=2, v=2.5)], {"night": 2.5}, {"v.v": 1}),
        ([entry(v=-0.25), entry(dc=2, v=2.5)], {"night": 2.5}, {"v.v": 1}),
        ([entry(v="veel"), entry(dc=2, v=2.5)], {"night": 2.5}, {"v.v": 1}),
        ([entry(dc=None), entry(dc=2, v=2.5)], {"night": 2.5}, {"v.dc": 1}),
        ([entry(u="kWh"), None, entry(dc=2, v=2.5)], {"night": 2.5}, {"v.u": 1, "v": 1}),
        ([entry(v="NaN")], {}, {"v.v": 1}),
        ([entry(vs="EST"), entry(dc=2, v=2.5)], {"day": 1.5, "night": 2.5}, {}),
        ([entry(vs="?"), entry(dc=2, v=2.5, vs=[])], {"day": 1.5, "night": 2.5}, {}),
    ],
)
def test_one_odd_value_costs_one_value(odd: list[Any], amounts: dict[str, float], skipped: dict[str, int]) -> None:
    """
    A value that cannot be understood is left out and counted by its field; the day keeps its others, and so do all days.
    """
    parsed = read([record(*odd), record(entry(v=4.5), **LATER)])
    lines = list_intervals(parsed, ELECTRICITY)

    assert {line[2]: line[5] for line in lines if line[0] == at("2026-11-09T23:00:00")} == amounts
    assert [line[5] for line in lines if line[0] == at("2026-11-10T23:00:00")] == [4.5]
    assert parsed.skipped == skipped


def test_one_odd_value_of_2024() -> None:
    """
    In the old form an odd value costs its day, and the days around it stay.
    """
    body = answer("days_2024.json")
    body[0]["val"][0]["ol"] = "NaN"
    parsed = parser.parse_amounts_2024(body, "the days", ELECTRICITY)

    assert dict(parsed.skipped) == {"val.ol": 1}
    assert {line[0] for line in list_intervals(parsed, ELECTRICITY)} == {at("2023-07-01T22:00:00"), at("2023-07-02T22:00:00")}


@pytest.mark.parametrize(
    ("values", "estimated"),
    [
        ([entry(vs=1)], [True]),
        ([entry(vs="EST")], [True]),
        ([entry(vs=2), entry(dc=2, vs=1)], [False, True]),
        ([entry(vs=2)], [False]),
        ([entry(vs=None)], [False]),
        ([entry(gcuv="P")], [True]),
        ([entry(gcuv="D")], [False]),
    ],
)
def test_estimates_are_marked(values: list[Any], estimated: list[bool]) -> None:
    """
    A value that the portal calls estimated, or whose gas factor it calls provisional, says so.
    """
    readings = read([record(*values)]).build_readings(UsagePoint("541448820000000000", ELECTRICITY), NOW)

    assert [one.is_estimated for one in readings] == estimated


def test_a_provisional_factor_makes_no_volume_provisional() -> None:
    """
    Of gas only the energy depends on the factor; a day of two meters is an estimate when one half is.
    """
    gas = {"d": "2026-11-10T05:00:00Z", "de": "2026-11-11T05:00:00Z"}
    first = read([record(entry(dc=0, gcuv="P"), entry(dc=0, u=5, gcuv="P"), **gas)], GAS)
    second = read([record(entry(dc=0, v=1.0), entry(dc=0, u=5, v=1.0), **gas)], GAS)
    readings = merge_amounts([first, second]).build_readings(UsagePoint("541448820000000000", GAS), NOW)

    assert [(one.register.name, one.amount, one.is_estimated) for one in readings] == [
        ("energy", 2.5, True),
        ("volume", 2.5, False),
    ]


@pytest.mark.parametrize(("state", "days"), [(0, []), (2, [0.0]), (None, [0.0])])
def test_zero_is_no_blank(state: int | None, days: list[float]) -> None:
    """
    In the old form a value 0 with state 0 is a blank; with state 2 it is a true zero.
    """
    names = dict.fromkeys(("ol", "ih", "il"))
    day = {"d": "2023-06-30T22:00:00Z", "de": "2023-07-01T22:00:00Z", "oh": 0.0, "ohvs": state, **names}
    parsed = parser.parse_amounts_2024([{"val": [day]}], "the days", ELECTRICITY)

    assert [line[5] for line in list_intervals(parsed, ELECTRICITY)] == days


def test_unknown_codes_are_counted_and_kept_out() -> None:
    """
    A register, direction or unit that nobody has seen is neither summed nor fatal.
    """
    parsed = read([record(entry(), entry(dc=7), entry(t=5), entry(u=9), entry(u=5))])

    assert [line[5] for line in list_intervals(parsed, ELECTRICITY)] == [1.5]
    assert dict(parsed.skipped) == {
        "values with the codes t 1, dc 7, u 3": 1,
        "values with the codes t 5, dc 1, u 3": 1,
        "values with the codes t 1, dc 1, u 9": 1,
        "values with the codes t 1, dc 1, u 5": 1,
    }


@pytest.mark.parametrize(
    ("entries", "amounts"),
    [
        ([entry(v=0.0, vs=0)], {}),
        ([entry(v=0.0, vs=2)], {"day": 0.0}),
        ([entry(v=0.0, vs=None)], {"day": 0.0}),
        ([entry(v=4.5, vs=0)], {"day": 4.5}),
        ([entry(v=4.5, vs=7)], {"day": 4.5}),
        ([entry(v=4.5), entry(dc=2, v=0.0, vs=0)], {"day": 4.5}),
        ([entry(v=4.5), entry(dc=2, v=None)], {"day": 4.5}),
        ([entry(v=4.5), entry(dc=0, v=4.5)], {"day": 4.5}),
        ([entry(v=4.5), entry(v=4.5)], {"day": 4.5}),
        ([entry(dc=0, v=4.5), entry(v=0.0, vs=0)], {"total": 4.5}),
        ([{"dc": 1, "u": 3, "v": 4.5}], {"day": 4.5}),
    ],
)
def test_which_registers_exist(entries: list[dict[str, Any]], amounts: dict[str, float]) -> None:
    """
    Zero with state 0 is a register that the meter does not have; null is no value; no total stands beside its parts.
    """
    assert {line[2]: line[5] for line in list_intervals(read([record(*entries)]), ELECTRICITY)} == amounts


def test_a_register_that_exists_may_be_zero() -> None:
    """
    A zero with state 0 is a blank, also where the register has other values; a zero with state 2 is a zero.
    """
    later = {"d": "2026-11-10T23:00:00Z", "de": "2026-11-11T23:00:00Z"}
    last = {"d": "2026-11-11T23:00:00Z", "de": "2026-11-12T23:00:00Z"}
    parsed = read(
        [
            record(entry(v=4.5), entry(dc=2, v=1.0)),
            record(entry(v=3.5), entry(dc=2, v=0.0, vs=0), **later),
            record(entry(v=0.0, vs=0), entry(dc=2, v=0.0, vs=2), **last),
        ]
    )

    assert [(line[2], line[5]) for line in list_intervals(parsed, ELECTRICITY)] == [
        ("day", 4.5),
        ("night", 1.0),
        ("day", 3.5),
        ("night", 0.0),
    ]


@pytest.mark.parametrize(
    ("d", "de", "count"),
    [
        ("2026-11-09T23:00:00Z", "2026-11-10T23:00:00Z", 1),
        ("2026-11-09T23:00:00Z", None, 1),
        ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 1),
        ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 1),
        ("2026-11-10T08:00:00Z", "2026-11-10T08:30:00Z", 1),
        ("2026-11-10T00:00:00Z", "2026-11-11T00:00:00Z", 0),
        ("2026-11-09T23:00:00Z", "2026-11-16T23:00:00Z", 0),
        ("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z", 0),
        ("2026-11-10T08:05:00Z", "2026-11-10T08:20:00Z", 0),
        ("2026-11-10T08:00:00Z", None, 0),
        ("2026-11-10T08:00:00Z", "2026-11-10T08:00:00Z", 0),
        ("2026-11-10T08:00:00Z", "2026-11-10T08:07:00Z", 0),
        ("2026-11-19T23:00:00Z", "2026-11-20T23:00:00Z", 0),
        ("0001-01-01T00:00:00Z", "9999-12-30T23:00:00Z", 0),
        ("9999-12-31T23:00:00Z", None, 0),
    ],
)
def test_the_length_of_a_record_is_measured(d: str, de: str | None, count: int) -> None:
    """
    A day between its edges and a part of an hour on the clock's marks are parsed; today, weeks and shifted days are skipped.
    """
    assert len(list_intervals(read([record(entry(), d=d, de=de)]), ELECTRICITY)) == count


def test_gas_days_begin_at_six() -> None:
    """
    A calendar day is no gas day: it would count against two.
    """
    parsed = read([record(entry(dc=0))], GAS)

    assert (list_intervals(parsed, GAS), dict(parsed.skipped)) == ([], {"electricity, where `commodity` is gas": 1})


@pytest.mark.parametrize(
    ("records", "place"),
    [
        ({}, "itself"),
        ([{"from": "2026-11-09T23:00:00Z", "v": []}], "0.d"),
        ([{"d": "2026-11-09T23:00:00", "v": []}], "0.d"),
        ([record({"dc": 1, "u": 3, "value": 3.0})], "0.v.0.v"),
        ([record({"register": 1, "u": 3, "v": 3.0})], "0.v.0.dc"),
        ([record({"dc": 1, "v": 3.0})], "0.v.0.u"),
        ([record(entry(v="veel"))], "0.v.0.v"),
        ([{"d": "2026-11-09T23:00:00Z"}, {"d": "2026-11-10T23:00:00Z"}], "0.v"),
    ],
)
def test_a_changed_form_names_its_field(records: Any, place: str) -> None:
    """
    A changed field is an error that names it, without its value.
    """
    with pytest.raises(ResponseError, match=rf"the days has changed: {place}: ") as caught:
        parser.parse_amounts(records, "the days", ELECTRICITY)

    assert "veel" not in str(caught.value)


def test_the_same_data_twice_is_not_added() -> None:
    """
    A portal that ignores the serial gives both meters the same; only different halves are added.
    """
    whole, other = [record(entry(v=4.5), entry(dc=2, v=1.0))], [record(entry(v=0.1), entry(dc=2, v=1.0))]

    assert [line[5] for line in list_intervals(merge_amounts([read(whole), read(whole)]), ELECTRICITY)] == [4.5, 1.0]
    assert [line[5] for line in list_intervals(merge_amounts([read(whole), read(other)]), ELECTRICITY)] == [4.6, 2.0]


def test_windows_across_the_clock_change() -> None:
    """
    Each end of a window has the offset of its own moment, and the last millisecond is included; gas days begin at six.
    """
    days = date(2026, 10, 24), date(2026, 10, 25)

    assert DayRange(*days, ELECTRICITY).format_local_query() == {
        "historyFrom": "2026-10-24T00:00:00.000+02:00",
        "historyUntil": "2026-10-25T23:59:59.999+01:00",
    }
    assert DayRange(*days, GAS).format_local_query() == {
        "historyFrom": "2026-10-24T06:00:00.000+02:00",
        "historyUntil": "2026-10-26T05:59:59.999+01:00",
    }
    assert DayRange(*days, ELECTRICITY).format_utc_query() == {
        "historyFrom": "2026-10-23T22:00:00Z",
        "historyUntil": "2026-10-25T23:00:00Z",
    }


@given(st.integers(0, 15 * 365 * 86400), st.sampled_from([ELECTRICITY, GAS]))
def test_every_instant_has_its_metering_day(seconds: int, commodity: Commodity) -> None:
    """
    An instant lies between the edges of its metering day, which are 23 to 25 hours apart.
    """
    instant = at("2020-01-01T00:00:00") + timedelta(seconds=seconds)
    day = metering_day(instant, commodity)
    start, end = day_start(day, commodity), day_start(day + timedelta(days=1), commodity)

    assert start <= instant < end
    assert end - start in (timedelta(hours=23), timedelta(hours=24), timedelta(hours=25))


@given(
    st.lists(
        st.builds(
            entry,
            dc=st.integers(-1, 3),
            t=st.none() | st.integers(-1, 3),
            u=st.integers(1, 6),
            v=st.none() | st.floats(0, 100),
            vs=st.none() | st.integers(0, 4),
        ),
        max_size=8,
    )
)
def test_whatever_the_codes(entries: list[dict[str, Any]]) -> None:
    """
    No value is counted twice and none is made up, whatever codes come.
    """
    amounts = [reading.amount for reading in read([record(*entries)]).build_readings(UsagePoint("1", ELECTRICITY), NOW)]

    assert len(amounts) <= len(entries)
    assert set(amounts) <= {one["v"] for one in entries}
    assert all(isinstance(one, Interval) for one in read([record(*entries)]).build_readings(UsagePoint("1", ELECTRICITY), NOW))
