"""Water-Link: the configuration keys, and every response of the portal parsed to its exact value."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.errors import ResponseError
from exporter.models import Commodity, Fact, Facts, Index, Interval, Register, Unit, UsagePoint, VisitResult
from exporter.portals.water_link.config import WaterLinkConfig
from exporter.portals.water_link.parser import (
    ZONE,
    build_usage_point,
    day_start,
    format_address,
    parse_instant,
    parse_meter,
    parse_month,
    parse_number,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "water_link"
NOW = datetime(2026, 1, 14, 12, tzinfo=UTC)
POINT = UsagePoint("204417", Commodity.WATER, address="Teststraat 12, 2000 Antwerpen")
KEYS = {"name": "home", "portal": "water-link", "username": "me@example.com", "password": "secret", "meters": ["204417"]}
WHERE = "meters[0]"


def fixture(name: str):
    return json.loads((FIXTURES / name).read_text())


def meter(**changed):
    """Return facts, notes and the index of a meter's state with fields changed, and how many values were skipped."""
    result = parse_meter("204417", fixture("meter.json") | changed, WHERE, NOW)
    return result.facts[0], list(result.notes), result.readings[0] if result.readings else None, result.skipped


def month(*bars, of=date(2026, 1, 1), today=date(2026, 2, 1)):
    whole = [
        {"day": 1, "total": 1, "isActualConsumption": True, "isZeroConsumption": False} | bar if isinstance(bar, dict) else bar
        for bar in bars
    ]
    return parse_month(POINT, of, {"actualConsumption": whole}, WHERE, today)


# Configuration keys


def test_an_account_needs_five_keys_and_knows_the_portal_itself():
    """
    The addresses, the client and the rhythm have the real defaults.
    """
    account = WaterLinkConfig(**KEYS)

    assert account.every == timedelta(hours=2)
    assert account.history_days == 365
    assert account.portal_url == account.redirect_uri == "https://portaaldigitalemeters.water-link.be"
    assert account.identity_url == "https://a5xhcq3r8.accounts.ondemand.com"
    assert account.client_id == "07967700-64cf-4f26-825c-b13042574400"
    assert account.scope == "openid"
    assert "secret" not in repr(account)


def test_six_digits_without_quotes_are_text():
    """
    YAML reads them as a number.
    """
    assert WaterLinkConfig(**KEYS | {"meters": [204417, "012345"]}).meters == ("204417", "012345")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("meters", [], "at least 1 item"),
        ("meters", ["204417", 204417], "a meter is named twice"),
        ("meters", ["20441"], "a meter's number is six digits"),
        ("meters", [12345], "a meter's number is six digits"),
        ("meters", ["20441x"], "a meter's number is six digits"),
        ("meters", ["204417\n"], "a meter's number is six digits"),
        ("meters", ["٢٠٤٤١٧"], "a meter's number is six digits"),
        ("meters", [True], "a meter's number is six digits"),
        ("every", "14m", "must be 15m to 1d"),
        ("portal_url", "portal.example", "must be an address like https://host"),
        ("identity_url", "https://user@host", "must be an address like https://host"),
        ("password", "", "at least 1"),
        ("username", "", "at least 1"),
        ("history_days", 0, "greater than or equal to 1"),
        ("meter", "204417", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_key_says_what_it_should_be(key, value, message):
    """
    And never what it was.
    """
    with pytest.raises(ValidationError) as caught:
        WaterLinkConfig(**KEYS | {key: value})

    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_address_may_end_in_a_slash():
    """
    It is the same one; redirect_uri is not touched, for it is compared letter by letter.
    """
    account = WaterLinkConfig(**KEYS | {"portal_url": "https://portal.example/", "redirect_uri": "https://portal.example/"})

    assert account.portal_url == "https://portal.example"
    assert account.redirect_uri == "https://portal.example/"


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        *[(key, "https://other.example", False) for key in ("username", "password", "portal_url", "identity_url", "client_id")],
        ("redirect_uri", "https://other.example", False),
        ("meters", ["204418"], True),
        ("every", "1h", True),
    ],
)
def test_what_belongs_to_the_login(key, value, same):
    """
    A change of any login key makes another login, a change of any other does not.
    """
    assert (WaterLinkConfig(**KEYS | {key: value}).build_login_digest() == WaterLinkConfig(**KEYS).build_login_digest()) is same


# A meter's state


def test_a_meter_tells_its_nine_facts():
    """
    The index on the instant the portal states, local midnight, and every flag.
    """
    assert meter() == (
        Facts(
            POINT,
            {
                Fact.METER_ACTIVE: 1,
                Fact.FLOW_LIMITATION: 0,
                Fact.UP_TO_DATE: 1,
                Fact.DIVERGENT_CONSUMPTION: 0,
                Fact.NO_DATA_PERMISSION: 0,
                Fact.DAY_OFFSET: 1,
            },
        ),
        [],
        Index(Register(POINT, Unit.M3), 412.385, datetime(2026, 1, 13, 23, tzinfo=UTC)),
        0,
    )


def test_what_is_null_or_missing_is_no_value():
    """
    It is never 0, and the missing index is a note.
    """
    result = parse_meter("204417", fixture("meter_sparse.json"), WHERE, NOW)

    assert result == VisitResult(
        readings=[],
        facts=[Facts(build_usage_point("204417"), {Fact.FLOW_LIMITATION: 1})],
        notes=["meters[0]: the portal states no meterReading, so there is no index"],
    )


def test_a_reading_without_its_instant_is_left_out_with_a_note():
    """
    The present instant would look like a measurement.
    """
    facts, notes, index, skipped = meter(latestMeterReading=None)

    assert len(facts.values) == 6
    assert notes == ["meters[0]: the portal states no latestMeterReading, so there is no index"]
    assert (index, skipped) == (None, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("meterReading", "412,38x"),
        ("meterReading", "1.2.3"),
        ("meterReading", "12,345.6"),
        ("meterReading", True),
        ("meterReading", {}),
        ("meterReading", "-1,5"),
        ("meterReading", "geen"),
        ("meterReading", "9" * 400),
        ("meterReading", 10**400),
        ("latestMeterReading", "14/01/2026"),
        ("latestMeterReading", "0001-01-01T00:00:00"),
        ("latestMeterReading", "9999-12-31T23:59:59-12:00"),
        ("latestMeterReading", "1971-01-14T00:00:00"),
        ("latestMeterReading", 1768345200),
    ],
)
def test_a_malformed_reading_is_named_and_the_flags_are_kept(field, value):
    """
    It is counted and noted by its field, without its value; there is no index.
    """
    facts, (note,), index, skipped = meter(**{field: value})

    assert len(facts.values) == 6
    assert note == f"meters[0]: skipped invalid fields: {field}"
    assert (index, skipped) == (None, 1)


@pytest.mark.parametrize("ahead", [timedelta(seconds=1), timedelta(hours=1)])
def test_a_reading_of_the_future_is_noted_and_counted(ahead):
    """
    A stamp ahead of our clock at every visit must not stop the index in silence.
    """
    facts, (note,), index, skipped = meter(latestMeterReading=(NOW + ahead).isoformat())

    assert len(facts.values) == 6
    assert note == "meters[0]: skipped invalid fields: latestMeterReading (in the future)"
    assert (index, skipped) == (None, 1)


def test_a_meter_without_permission_says_what_to_do():
    """
    A private customer first consents to the processing of readings.
    """
    _, (note,), index, skipped = meter(noDataPermission=True, meterReading=None)

    assert note == "meters[0]: the portal may show no readings: sign in with a browser and consent to their processing"
    assert (index, skipped) == (None, 0)


@pytest.mark.parametrize(("field", "value"), [("isActive", "perhaps"), ("daysOffset", "soon"), ("divergentConsumption", [1])])
def test_a_malformed_flag_is_named_and_all_else_is_kept(field, value):
    """
    One flag that changed does not take the index along.
    """
    facts, (note,), index, skipped = meter(**{field: value})

    assert len(facts.values) == 5
    assert note == f"meters[0]: skipped invalid fields: {field}"
    assert (index.value, skipped) == (412.385, 1)


def test_a_state_of_which_nothing_is_understood_is_an_error():
    """
    It names the first field.
    """
    with pytest.raises(ResponseError, match=r"^meters\[0\] has changed: meterReading: "):
        parse_meter("204417", {"meterReading": "geen", "isActive": "perhaps"}, WHERE, NOW)


@pytest.mark.parametrize("body", [{}, [], None, "text", 7, {"reading": "412,385"}])
def test_a_response_without_any_known_field_is_an_error(body):
    """
    It is not a meter of which nothing is known.
    """
    with pytest.raises(ResponseError, match=r"^meters\[0\] has changed: it has none of meterReading, "):
        parse_meter("204417", body, WHERE, NOW)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("412,385", 412.385),
        ("0,000", 0),
        (" 7 ", 7),
        ("412.385", 412.385),
        ("1.412,385", 1412.385),
        ("1412,385", 1412.385),
        ("-1,5", -1.5),
        (412, 412),
        (412.385, 412.385),
        ("", None),
        (None, None),
    ],
)
def test_numbers_in_their_forms(value, number):
    """
    The portal's decimal comma, and what it might write instead.
    """
    assert parse_number(value) == number


@given(st.integers(0, 10**9), st.booleans())
def test_every_litre_is_read_exactly(litres, dotted):
    """
    412 385 litres are "412,385", and the number nearest to that.
    """
    text = f"{litres // 1000}{'.' if dotted else ','}{litres % 1000:03}"

    assert parse_number(text) == litres / 1000


@given(st.one_of(st.text(max_size=12), st.text(alphabet="0123456789.,-+e ", max_size=8)))
def test_no_text_is_a_number_by_accident(text):
    """
    A text is a number of digits with one comma or dot, nothing, or a ValueError that does not repeat it.
    """
    grouped = re.fullmatch(r"-?\d{1,3}(\.\d{3})+,\d+", text.strip())
    plain = re.fullmatch(r"-?\d+([.,]\d+)?", text.strip())
    if grouped or plain or not text.strip():
        digits = text.strip().replace(".", "") if grouped else text.strip()

        assert parse_number(text) == (float(digits.replace(",", ".")) if digits else None)
    else:
        with pytest.raises(ValueError, match=r"^not a number with a decimal comma$"):
            parse_number(text)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-14", "2026-01-13T23:00+00:00"),
        ("2026-01-14T00:00:00", "2026-01-13T23:00+00:00"),
        ("2026-07-14T00:00", "2026-07-13T22:00+00:00"),
        ("2026-01-14 06:30:15.123", "2026-01-14T05:30:15.123+00:00"),
        ("2026-01-14T00:00:00Z", "2026-01-14T00:00+00:00"),
        ("2026-01-14T00:00:00.0000000+01:00", "2026-01-13T23:00+00:00"),
        ("2026-03-29T00:00:00", "2026-03-28T23:00+00:00"),
        ("2026-10-25T00:00:00", "2026-10-24T22:00+00:00"),
        ("2026-10-26", "2026-10-25T23:00+00:00"),
    ],
)
def test_instants_in_their_forms(text, instant):
    """
    With and without time and offset; without an offset it is Brussels that counts.
    """
    assert parse_instant(text) == datetime.fromisoformat(instant)
    assert parse_instant(text).tzinfo is UTC


@given(
    st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2100-01-01")), st.sampled_from(["", "Z", "+02:00"])
)
def test_every_instant_is_read_exactly(at, offset):
    """
    What ISO 8601 writes is what is read.
    """
    zone = {"": ZONE, "Z": UTC, "+02:00": datetime.fromisoformat("2026-01-01T00+02:00").tzinfo}[offset]

    assert parse_instant(f"{at.isoformat()}{offset}") == at.replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("Teststraat 12,\n 2000  Antwerpen", "Teststraat 12, 2000 Antwerpen"),
        ({"street": "Teststraat", "number": 12, "bus": None, "main": True, "city": {"zip": "2000"}}, "Teststraat, 12, 2000"),
        (["Teststraat 12", "", "Antwerpen"], "Teststraat 12, Antwerpen"),
        (None, ""),
    ],
)
def test_an_address_is_one_line(address, line):
    """
    Be it a text, or an object of texts.
    """
    assert format_address(address) == line
    assert meter(address=address)[0].usage_point.address == line


# A month's days


def test_a_month_tells_its_measured_days():
    """
    Litres become m³; a filler is zero; what is not measured, or a plain 0, is no reading; estimates are passed over.
    """
    intervals, _ = parse_month(POINT, date(2026, 1, 1), fixture("month.json"), WHERE, date(2026, 1, 6))

    register = Register(POINT, Unit.M3)
    assert intervals == [
        Interval(register, datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 1, 23, tzinfo=UTC), 0.22),
        Interval(register, datetime(2026, 1, 1, 23, tzinfo=UTC), datetime(2026, 1, 2, 23, tzinfo=UTC), 0),
        Interval(register, datetime(2026, 1, 4, 23, tzinfo=UTC), datetime(2026, 1, 5, 23, tzinfo=UTC), 1.2105),
    ]


@pytest.mark.parametrize(
    ("of", "day", "start", "hours"),
    [
        (date(2026, 3, 1), 28, "2026-03-27T23:00+00:00", 24),
        (date(2026, 3, 1), 29, "2026-03-28T23:00+00:00", 23),
        (date(2026, 10, 1), 25, "2026-10-24T22:00+00:00", 25),
        (date(2026, 12, 1), 31, "2026-12-30T23:00+00:00", 24),
        (date(2028, 2, 1), 29, "2028-02-28T23:00+00:00", 24),
    ],
)
def test_a_day_is_as_long_as_it_is_in_brussels(of, day, start, hours):
    """
    23 hours when the clocks go forward, 25 when they go back.
    """
    ((interval,), _) = month({"day": day}, of=of, today=date(2029, 1, 1))

    assert interval.start == datetime.fromisoformat(start)
    assert interval.end - interval.start == timedelta(hours=hours)


def test_the_present_day_and_those_to_come_are_no_readings():
    """
    The present day's value still grows, whatever the portal calls it.
    """
    intervals, _ = month({"day": 13}, {"day": 14}, {"day": 15}, today=date(2026, 1, 14))

    assert [interval.start for interval in intervals] == [day_start(date(2026, 1, 13))]


def test_a_zero_day_is_zero_even_without_a_filler():
    """
    In a month without any use, two per cent of the average is 0: the flag says that it was measured.
    """
    assert [interval.amount for interval in month({"total": 0, "isZeroConsumption": True})[0]] == [0]


@pytest.mark.parametrize("zero", [True, False])
def test_a_day_that_is_not_measured_is_no_reading_whatever_its_bar(zero):
    """
    The portal may draw what it expects, or nothing; neither was measured.
    """
    assert month({"total": 210, "isActualConsumption": False, "isZeroConsumption": zero}) == ([], {})


def test_days_that_are_no_days_are_drawing_unless_they_are_measured():
    """
    A chart may have 31 columns in each month.
    """
    february = {"of": date(2026, 2, 1), "today": date(2026, 4, 1)}

    assert month({"day": 30, "isActualConsumption": False, "total": 0}, **february) == ([], {})
    with pytest.raises(ResponseError, match="actualConsumption: more days than the month has"):
        month({"day": 30}, **february)


GOOD_BARS = {"day": 1}, {"day": 3, "total": "1210,5"}
ODD_BARS = {
    "flag null": ({"isZeroConsumption": None}, "actualConsumption.isZeroConsumption"),
    "flag a text": ({"isZeroConsumption": "perhaps"}, "actualConsumption.isZeroConsumption"),
    "measured null": ({"isActualConsumption": None}, "actualConsumption.isActualConsumption"),
    "no day": ({"day": None}, "actualConsumption.day"),
    "day 32": ({"day": 32}, "actualConsumption.day"),
    "total a text": ({"total": "veel"}, "actualConsumption.total"),
    "total negative": ({"total": -5}, "actualConsumption.total"),
    "null": (None, "actualConsumption"),
    "a number": (3, "actualConsumption"),
}


@pytest.mark.parametrize("name", ODD_BARS)
def test_an_odd_bar_costs_one_day(name):
    """
    It is left out and counted by its field; the other days are kept.
    """
    bar, field = ODD_BARS[name]
    intervals, skipped = month(GOOD_BARS[0], {"day": 2} | bar if isinstance(bar, dict) else bar, GOOD_BARS[1])

    assert [(interval.start, interval.amount) for interval in intervals] == [
        (day_start(date(2026, 1, 1)), 0.001),
        (day_start(date(2026, 1, 3)), 1.2105),
    ]
    assert skipped == {field: 1}


@pytest.mark.parametrize("field", ["day", "total", "isActualConsumption", "isZeroConsumption"])
def test_a_field_that_one_day_lacks_is_named(field):
    """
    Without one of these four a measured day cannot be understood rightly; the others can.
    """
    body = fixture("month.json")
    body["actualConsumption"][1]["other"] = body["actualConsumption"][1].pop(field)
    intervals, skipped = parse_month(POINT, date(2026, 1, 1), body, WHERE, date(2026, 2, 1))

    assert [interval.amount for interval in intervals] == [0.22, 1.2105, 0.03]
    assert skipped == {f"actualConsumption.{field}": 1}


@pytest.mark.parametrize("field", ["day", "total", "isActualConsumption", "isZeroConsumption"])
def test_a_field_that_all_days_lack_is_an_error(field):
    """
    The chart has changed then.
    """
    body = fixture("month.json")
    body["actualConsumption"] = [{**bar, field: "?"} for bar in body["actualConsumption"] if bar["isActualConsumption"]]

    with pytest.raises(ResponseError, match=rf"^meters\[0\] has changed: actualConsumption.0.{field}: "):
        parse_month(POINT, date(2026, 1, 1), body, WHERE, date(2026, 2, 1))


@pytest.mark.parametrize("lacking", ["total", "isZeroConsumption"])
def test_a_day_that_is_not_measured_needs_no_value(lacking):
    """
    Its total and its flag say nothing; nothing is skipped.
    """
    bar = {"day": 2, "total": 1, "isActualConsumption": False, "isZeroConsumption": False}
    body = {"actualConsumption": [{key: value for key, value in bar.items() if key != lacking}, {**bar, lacking: "?"}]}

    assert parse_month(POINT, date(2026, 1, 1), body, WHERE, date(2026, 2, 1)) == ([], {})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "actualConsumption"),
        ({"actual": []}, "actualConsumption"),
        ([], "itself"),
        (None, "itself"),
        ({"actualConsumption": [3]}, "actualConsumption.0"),
        ({"actualConsumption": "none"}, "actualConsumption"),
    ],
)
def test_a_chart_that_is_none_is_an_error(body, field):
    """
    An empty body is not an empty month.
    """
    with pytest.raises(ResponseError, match=rf"^meters\[0\] has changed: {field}: "):
        parse_month(POINT, date(2026, 1, 1), body, WHERE, date(2026, 2, 1))


@pytest.mark.parametrize("days", [[], None])
def test_a_month_may_be_empty(days):
    """
    Before the meter was mounted there is nothing to draw.
    """
    assert parse_month(POINT, date(2026, 1, 1), {"actualConsumption": days}, WHERE, date(2026, 2, 1)) == ([], {})
