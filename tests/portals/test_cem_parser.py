"""CEM: the responses, parsed value by value."""

import json
import math
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ResponseError
from exporter.models import Commodity, Direction, Nature, Unit
from exporter.portals.cem import lists
from exporter.portals.cem.catalog import ObjectTree, format_numbers
from exporter.portals.cem.counter_types import build_type_info
from exporter.portals.cem.lists import METERS, OBJECTS, CounterTypeRow, ObjectRow
from exporter.portals.cem.parser import (
    build_value_notes,
    parse_all_values,
    parse_integer,
    parse_last_values,
    parse_milliseconds,
    parse_number,
    require_list,
    unwrap_list,
    unwrap_object,
)

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
AT = 1768428045000

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["value", "timestamp", "var_id", "values", "data", "x"]), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("stated", "meant"),
    [
        (412.008, 412.008),
        (0, 0.0),
        (-3, -3.0),
        ("412.008", 412.008),
        (" 7 ", 7.0),
        ("1e3", 1000.0),
        (None, None),
        ("", None),
        ("NaN", None),
        ("Infinity", None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ("1_000", None),
        ("412,008", 412.008),
        ("1,5", 1.5),
        ("1,234,567", None),
        ("1.234,5", None),
        (True, None),
        ([1], None),
        ({}, None),
    ],
)
def test_number(stated: object, meant: float | None) -> None:
    """
    Numbers and digits are read; null, NaN and whatever else is no reading, and never zero.
    """
    assert parse_number(stated) == meant


@pytest.mark.parametrize(
    ("stated", "meant"),
    [(80001, 80001), ("80001", 80001), (80001.0, 80001), (1.5, None), ("x", None), (None, None), (True, None), (1 << 70, None)],
)
def test_whole(stated: object, meant: int | None) -> None:
    """
    Numbers of things come as numbers or as digits.
    """
    assert parse_integer(stated) == meant


def test_instant() -> None:
    """
    A time is milliseconds since 1970 in UTC; what is outside the calendar is no time.
    """
    assert parse_milliseconds(AT) == datetime(2026, 1, 14, 22, 0, 45, tzinfo=UTC)
    assert parse_milliseconds(AT + 7) == datetime(2026, 1, 14, 22, 0, 45, 7000, tzinfo=UTC)
    assert parse_milliseconds(None) is None
    assert parse_milliseconds(10**17) is None
    assert parse_milliseconds(-(10**17)) is None


def test_bare_and_wrapped() -> None:
    """
    Lists and objects come bare or wrapped.
    """
    assert unwrap_list([1]) == unwrap_list({"data": [1], "action": "get"}) == [1]
    assert unwrap_list({"message": "no"}) is None
    assert unwrap_object({"a": 1}) == unwrap_object({"data": {"a": 1}, "action": "get"}) == {"a": 1}


def test_no_list_is_a_changed_portal() -> None:
    """
    An object where a list is due names the call.
    """
    with pytest.raises(ResponseError, match="id=23 has changed: expected a list"):
        require_list({"message": "no"}, "id=23")


def test_a_renamed_field_is_named() -> None:
    """
    A missing field of a list is named with its row, and no value with it.
    """
    with pytest.raises(ResponseError, match=r"^id=108 \(meters\) has changed: data\.0\.me_id: field required$"):
        METERS.parse('[{"meter": 70001, "me_serial": "SECRET"}]', "id=108 (meters)")


@pytest.mark.parametrize(
    "row",
    [
        {"value": None, "timestamp": AT, "var_id": 1},
        {"value": 1.0, "timestamp": None, "var_id": 1},
        {"timestamp": AT, "var_id": 1},
        {"value": 1.0, "var_id": 1},
    ],
)
def test_an_incomplete_reading_is_none(row: dict[str, Any]) -> None:
    """
    A row without value or time is no reading, and its neighbour is read.
    """
    values = parse_last_values([row, {"value": 2.0, "timestamp": AT, "var_id": 2}], NOW)

    assert values.by_counter_and_time == {(2, AT): 2.0}
    assert not values.skipped
    assert not parse_last_values([row], NOW).by_counter_and_time


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"value": 1.0, "timestamp": AT}, "var_id"),
        ({"value": 1.0, "timestamp": AT, "var_id": None}, "var_id"),
        ({"value": "NaN", "timestamp": AT, "var_id": 1}, "value"),
        ({"value": "12 m3", "timestamp": AT, "var_id": 1}, "value"),
        (None, "an entry"),
        ("x", "an entry"),
    ],
)
def test_an_odd_row_is_counted(row: Any, field: str) -> None:
    """
    A row that cannot be understood costs itself and is counted by its field; alone it is an error that names the field.
    """
    found = parse_last_values([row, {"value": "412,008", "timestamp": AT, "var_id": 2}], NOW)

    assert found.by_counter_and_time == {(2, AT): 412.008}
    assert found.skipped == {field: 1}
    assert build_value_notes(found.skipped, "id=8") == [f"id=8: skipped invalid fields: {field}"]
    with pytest.raises(ResponseError, match=f"id=8 has changed: .*({field}|expected objects)"):
        parse_last_values([row], NOW)


def test_one_counter_needs_no_number() -> None:
    """
    The response for a single counter may leave its number out; a text number is parsed.
    """
    assert parse_last_values([{"value": "412.008", "timestamp": str(AT)}], NOW, requested_counter=80001).by_counter_and_time == {
        (80001, AT): 412.008
    }
    assert parse_last_values({"data": [{"value": 1, "timestamp": AT}]}, NOW, requested_counter=80001).by_counter_and_time == {
        (80001, AT): 1.0
    }
    assert parse_last_values([], NOW, requested_counter=80001).by_counter_and_time == {}


@pytest.mark.parametrize(
    "time",
    [0, -1, 10**15, 10**30, "soon", [], 1e300, 40 * 10**9, *((NOW + timedelta(hours=h)).timestamp() * 1000 for h in (1, 48))],
)
def test_an_impossible_time_is_skipped(time: object) -> None:
    """
    A time that is none, before 2000, or an hour ahead, is skipped and noted; a portal's clock may run some minutes ahead.
    """
    ahead = int((NOW + timedelta(minutes=4)).timestamp() * 1000)
    values = parse_last_values(
        [{"value": 1.0, "timestamp": time, "var_id": 1}, {"value": 2.0, "timestamp": ahead, "var_id": 2}], NOW
    )

    assert values.by_counter_and_time == {(2, ahead): 2.0}
    assert values.skipped == {"timestamp": 1}
    assert build_value_notes(values.skipped, "id=8") == ["Some readings carry an impossible time and were left out."]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ([{"val": 1.0, "timestamp": AT, "var_id": 1}], "value"),
        ([{"value": 1.0, "time": AT, "var_id": 1}], "timestamp"),
        ([{"value": 1.0, "timestamp": AT, "id": 1}], "var_id"),
        ([{"id": 1, "val": 1.0}], "timestamp"),
    ],
)
def test_a_renamed_key_of_a_reading_is_named(body: list[Any], key: str) -> None:
    """
    A key that no row has, beside an unknown one, was renamed: that is no empty response.
    """
    with pytest.raises(ResponseError, match=f"id=8 has changed: {key}: field required"):
        parse_last_values(body, NOW)


def test_all_readings() -> None:
    """
    id=20: the counter is text, values may be empty or null, a doubled time counts once.
    """
    values = parse_all_values(
        [
            {"var_id": "80001", "values": [{"timestamp": AT, "value": 411.9}, {"timestamp": AT, "value": 411.9}]},
            {"var_id": "80021", "values": []},
            {"var_id": 80022, "values": None},
            {"var_id": None, "values": [{"timestamp": AT, "value": 1}]},
        ],
        NOW,
    )

    assert values.by_counter_and_time == {(80001, AT): 411.9}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([{"var_id": "1", "points": []}], "id=20 has changed: values"),
        ([{"var_id": "1", "values": [{"timestamp": AT, "val": 2}]}], "id=20: values has changed: value"),
        ({"message": "x"}, "id=20 has changed: expected a list"),
        (["x"], "id=20 has changed: expected objects"),
    ],
)
def test_changed_history(body: Any, message: str) -> None:
    """
    What has changed in id=20 is named.
    """
    with pytest.raises(ResponseError, match=message):
        parse_all_values(body, NOW)


@given(ANYTHING)
def test_any_body_is_parsed_or_refused(body: Any) -> None:
    """
    Whatever comes, it is read or it is a ResponseError; what is read is finite and in a calendar, and not tomorrow's.
    """
    for read in (parse_last_values, parse_all_values):
        try:
            found = read(body, NOW).by_counter_and_time
        except ResponseError:
            continue

        assert all(math.isfinite(value) for value in found.values())
        assert all(parse_milliseconds(time) <= NOW + timedelta(days=1) for _, time in found)  # type: ignore[operator]


@given(st.dictionaries(st.integers(1, 9), st.floats(-1e6, 1e6), min_size=1), st.booleans(), st.booleans(), st.randoms())
def test_readings_go_by_number(stated: dict[int, float], as_text: bool, wrapped: bool, chance: Any) -> None:
    """
    In whatever order, form and spelling values come, each goes to its own counter.
    """
    text: type = str if as_text else int
    body: Any = [{"var_id": text(key), "value": value, "timestamp": text(AT + key)} for key, value in stated.items()]
    chance.shuffle(body)
    body = {"data": body, "action": "get"} if wrapped else body

    assert parse_last_values(body, NOW).by_counter_and_time == {(key, AT + key): value for key, value in stated.items()}


def stated_type(key: str, unit: str, nature: int | None) -> CounterTypeRow:
    return CounterTypeRow(pot_id=1, lt_key=f"LB_POCTYP_{key}", jed_zkr=unit, pot_type=nature)


@pytest.mark.parametrize(
    ("number", "key", "unit", "nature", "commodity", "meant", "value", "scaled"),
    [
        (3, "SV", "m³", 1, Commodity.WATER, Unit.M3, 412.008, 412.008),
        (6, "PLY", "m³", 1, Commodity.GAS, Unit.M3, 2.5, 2.5),
        (4, "EL", "kWh", 1, Commodity.ELECTRICITY, Unit.KWH, 2.5, 2.5),
        (14, "KALGJ", "GJ", 1, Commodity.HEAT, Unit.KWH, 3.6, 1000.0),
        (41, "KALCHGJ", "GJ", 1, Commodity.COLD, Unit.KWH, 1.8, 500.0),
        (900, "NEW", "MWh", 1, Commodity.OTHER, Unit.KWH, 1.5, 1500.0),
        (900, "NEW", "MWh", 1, Commodity.OTHER, Unit.KWH, 1.001, 1001.0),
        (900, "NEW", "l", 1, Commodity.OTHER, Unit.M3, 1500.0, 1.5),
        (26, "KAP", "l", 0, Commodity.OTHER, "l", 1500.0, 1500.0),
        (12, "VLH", "%", 0, Commodity.OTHER, Unit.RELATIVE_HUMIDITY, 45.0, 0.45),
        (48, "CH4", "%", 0, Commodity.OTHER, "%", 45.0, 45.0),
        (7, "INTEP", "°C", 0, Commodity.OTHER, Unit.CELSIUS, 21.4, 21.4),
        (33, "STRCINVYK", "kW", 0, Commodity.ELECTRICITY, Unit.KW, 3.0, 3.0),
        (17, "CO2", "ppm ", 0, Commodity.OTHER, "ppm", 612.0, 612.0),
        (29, "CITAC", " ", 1, Commodity.OTHER, "", 7.0, 7.0),
        (36, "ELSO", "kWh", 3, Commodity.ELECTRICITY, Unit.KWH, 0.75, 0.75),
        (8, "TEP", "KPD°", 3, Commodity.HEAT, "KPD°", 2.0, 2.0),
        (45, "DVERE", " ", 2, Commodity.OTHER, "", 1.0, 1.0),
    ],
)
def test_kinds(number: int, key: str, unit: str, nature: int, commodity: str, meant: str, value: float, scaled: float) -> None:
    """
    The type decides what is delivered and what a number means; energy leaves in kWh, volume in m³, the rest as it is.
    """
    kind = build_type_info(number, stated_type(key, unit, nature))
    natures = [Nature.MOMENTARY, Nature.COUNTER, Nature.STATE, Nature.AMOUNT]

    assert (kind.commodity, kind.nature, kind.scale.unit) == (commodity, natures[nature], meant)
    assert (kind.key, kind.portal_unit, kind.direction) == (f"LB_POCTYP_{key}", unit.strip(), Direction.CONSUMPTION)
    assert kind.scale(value) == scaled
    assert kind.is_known


def test_fed_in() -> None:
    """
    Type 27 is what the roof gave to the grid.
    """
    assert build_type_info(27, stated_type("ELDOD", "kWh", 1)).direction is Direction.INJECTION


@pytest.mark.parametrize("nature", [None, 9])
def test_an_unknown_kind_is_no_register(nature: int | None) -> None:
    """
    What we do not know is shown as a momentary value in the portal's own unit.
    """
    kind = build_type_info(900, stated_type("NEW", " GJ", nature))

    assert (kind.nature, kind.scale.unit, kind.scale(2.0), kind.is_known) == (Nature.MOMENTARY, "GJ", 2.0, False)


def test_an_unlisted_type_goes_by_its_number() -> None:
    """
    The numbers are the same in every account, so the commodity is known without the list; the kind of value is not.
    """
    kind = build_type_info(6, None)

    assert (kind.commodity, kind.nature, kind.scale.unit, kind.is_known) == (Commodity.GAS, Nature.MOMENTARY, "", False)


def build_row(number: int, parent: int | None, name: str = "") -> ObjectRow:
    return ObjectRow(mis_id=number, mis_idp=parent, mis_nazev=name)


@pytest.mark.parametrize(
    ("places", "site"),
    [
        ([(1, 2, ""), (2, 3, " "), (3, None, " Dům ")], "Dům"),
        ([(1, None, "Byt 4")], "Byt 4"),
        ([(1, 2, ""), (2, 1, "")], "1"),
        ([(1, 1, "")], "1"),
        ([(1, 99, "")], "1"),
        ([], "1"),
    ],
)
def test_the_site_is_found_by_climbing(places: list[tuple[int, int | None, str]], site: str) -> None:
    """
    The nearest name counts; loops, missing parents and nameless objects end in the object's number.
    """
    assert ObjectTree([build_row(*one) for one in places]).find_site_name(1) == site


def test_a_parent_that_is_no_number_is_none() -> None:
    """
    A parent of another kind ends the climb.
    """
    assert ObjectRow(mis_id="1", mis_idp="root", mis_nazev=None).parent is None


@given(st.dictionaries(st.integers(1, 12), st.none() | st.integers(1, 14), max_size=12), st.integers(1, 14))
def test_climbing_always_ends(parents: dict[int, int | None], start: int) -> None:
    """
    In any forest, tangle or loop of parents, climbing ends and meets no object twice.
    """
    climbed = [
        one.id for one in ObjectTree([build_row(number, parent) for number, parent in parents.items()]).list_ancestors(start)
    ]

    assert len(climbed) == len(set(climbed)) <= len(parents)


def test_many_numbers_are_cut() -> None:
    """
    A note names the first twenty.
    """
    assert format_numbers([3, 1]) == "1, 3"
    assert format_numbers(range(1, 24)).endswith("19, 20 and 3 more")


@pytest.mark.parametrize(("before", "after"), [(b"[", b"]"), (b'{"data": [', b"]}")])
def test_a_million_bad_rows_stop_at_the_first(before, after):
    """
    Of a list of rows that are none the first is named; the others cost no memory.
    """
    body = before + b"{}," * 1_000_000 + b"{}" + after
    tracemalloc.start()
    with pytest.raises(ResponseError, match=r"data\.0\.me_id"):
        METERS.parse(body, "the list of meters")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1 << 20


@given(
    names=st.lists(st.sampled_from(["a},{b", '"}, {"', "x}]", "[{", "Byt 1", ""]), min_size=1, max_size=30),
    piece=st.integers(1, 200),
    is_wrapped=st.booleans(),
)
def test_a_long_list_is_parsed_in_pieces(names: list[str], piece: int, is_wrapped: bool) -> None:
    """
    Wherever it is cut, and whatever looks like the border of two rows, the rows are those of the whole.
    """
    rows = [{"mis_id": number, "mis_nazev": name, "more": [{"a": 1}, {"b": 2}]} for number, name in enumerate(names, 1)]
    for layout in ({"indent": 1}, {"separators": (",", ":")}, {}):
        text = json.dumps({"data": rows, "action": "get"} if is_wrapped else rows, **layout)
        whole = OBJECTS.parse(text, "id=23")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(lists, "PIECE_LENGTH", piece)
            assert OBJECTS.parse(text, "id=23") == OBJECTS.parse(text.encode(), "id=23") == whole
        assert [row.id for row in whole] == [*range(1, len(rows) + 1)]


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_a_stored_list_is_read_again(count, monkeypatch):
    """
    However many pieces it is written in, and as plain JSON too: earlier versions stored that.
    """
    monkeypatch.setattr(lists, "ROWS_PER_DUMP", 3)
    stated = [{"mis_id": number, "mis_idp": 3, "mis_nazev": f"Byt č. {number}"} for number in range(1, count + 1)]
    rows = OBJECTS.parse(json.dumps(stated), "id=23")

    assert [row.id for row in rows] == [*range(1, count + 1)]
    assert OBJECTS.load(OBJECTS.dump(rows), "id=23") == OBJECTS.load(json.dumps(stated), "id=23") == rows
