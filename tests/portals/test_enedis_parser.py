"""Responses of Enedis, parsed to exact values."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exporter.errors import NoDataError, ResponseError
from exporter.models import Commodity, Direction, Index, Interval, Peak, Register, Unit, UsagePoint
from exporter.portals.enedis.contract import ContractTerms, parse_contract
from exporter.portals.enedis.measures import (
    CONSUMPTION_CURVE,
    CONSUMPTION_DAYS,
    CONSUMPTION_INDEX,
    CONSUMPTION_MAX,
    INJECTION_DAYS,
    INJECTION_INDEX,
)
from exporter.portals.enedis.parser import parse_readings
from tests.portals.enedis_account import PRM, load_fixture

POINT = UsagePoint(PRM, Commodity.ELECTRICITY)
USED = Register(POINT, Unit.KWH)
FED_IN = Register(POINT, Unit.KWH, Direction.INJECTION)
HALF = timedelta(minutes=30)


def at(*of: int) -> datetime:
    return datetime(*of, tzinfo=UTC)  # type: ignore[misc]


def test_days_of_2026() -> None:
    """
    A day is its local day, in kWh; a null is no reading.
    """
    found = parse_readings(load_fixture("2026_days"), PRM, CONSUMPTION_DAYS).readings

    assert found == [
        Interval(USED, at(2026, 10, 31, 23), at(2026, 11, 1, 23), 9.12),
        Interval(USED, at(2026, 11, 1, 23), at(2026, 11, 2, 23), 8.455),
    ]


def test_days_of_production_are_chosen_among_series_and_zero_is_a_value() -> None:
    """
    The series is chosen by what it measures, its unit is read, and nothing fed in is 0 kWh.
    """
    found = parse_readings(load_fixture("2026_days_production"), PRM, INJECTION_DAYS).readings

    assert found == [
        Interval(FED_IN, at(2026, 10, 31, 23), at(2026, 11, 1, 23), 0),
        Interval(FED_IN, at(2026, 11, 1, 23), at(2026, 11, 2, 23), 3.25),
    ]


def test_curve_of_2026_has_intervals_of_every_length() -> None:
    """
    Stamps are ends, energy is power times the interval's own length, and 0 W is a value.
    """
    found = parse_readings(load_fixture("2026_curve"), PRM, CONSUMPTION_CURVE).readings

    assert found == [
        Interval(USED, at(2026, 10, 31, 23), at(2026, 10, 31, 23, 30), 0.206),
        Interval(USED, at(2026, 10, 31, 23, 30), at(2026, 11, 1, 0), 0),
        Interval(USED, at(2026, 11, 1, 0, 30), at(2026, 11, 1, 0, 45), 0.15),
        Interval(USED, at(2026, 11, 1, 0, 45), at(2026, 11, 1, 0, 55), 0.06),
        Interval(USED, at(2026, 11, 1, 0, 55), at(2026, 11, 1, 1), 0.1),
        Interval(USED, at(2026, 11, 1, 1), at(2026, 11, 1, 2), 0.5),
        Interval(USED, at(2026, 11, 1, 22, 30), at(2026, 11, 1, 23), 0.12),
    ]


def test_largest_power_of_2026() -> None:
    """
    A day's largest power is in kVA, at the local time it happened.
    """
    found = parse_readings(load_fixture("2026_max"), PRM, CONSUMPTION_MAX).readings

    assert found == [
        Peak(POINT, Unit.KVA, at(2026, 10, 31, 23), at(2026, 11, 1, 23), 5.31, at(2026, 11, 1, 18, 42, 11)),
        Peak(POINT, Unit.KVA, at(2026, 11, 1, 23), at(2026, 11, 2, 23), 4.98, at(2026, 11, 2, 6, 5, 36)),
    ]


def test_registers_of_2026() -> None:
    """
    Each tariff class of the first calendar is a register; the total and a second calendar would count the same twice.
    """
    found = parse_readings(load_fixture("2026_index"), PRM, CONSUMPTION_INDEX).readings

    low = Register(POINT, Unit.KWH, name="HC", description="Heures Creuses")
    high = Register(POINT, Unit.KWH, name="HP", description="Heures Pleines")
    assert found == [
        Index(low, 7340.112, at(2026, 10, 31, 23)),
        Index(high, 11250.87, at(2026, 10, 31, 23)),
        Index(low, 7343.0, at(2026, 11, 1, 23)),
        Index(high, 11256.0, at(2026, 11, 1, 23)),
    ]


def test_a_register_without_classes_is_the_total() -> None:
    """
    Only where there are no classes, the summing dial is the register.
    """
    found = parse_readings(load_fixture("2026_index_production"), PRM, INJECTION_INDEX).readings

    assert found == [Index(FED_IN, 5120.3, at(2026, 10, 31, 23))]


def test_a_single_class_is_the_total() -> None:
    """
    One tariff class alone is called `total`, like everywhere.
    """
    answer = load_fixture("2026_index")
    quantity = answer["contexte"][0]["grandeur"][0]
    quantity["calendrier"] = quantity["calendrier"][:1]
    del quantity["calendrier"][0]["classeTemporelle"][1]

    found = parse_readings(answer, PRM, CONSUMPTION_INDEX).readings

    assert [(index.register.name, index.value) for index in found] == [("total", 7340.112), ("total", 7343.0)]  # type: ignore[union-attr]


def test_classes_that_change_keep_each_day_whole() -> None:
    """
    Where the first calendar begins later than the second, each day comes from the first that has it.
    """
    answer = load_fixture("2026_index")
    for each in answer["contexte"][0]["grandeur"][0]["calendrier"][0]["classeTemporelle"]:
        del each["valeur"][0]

    found = parse_readings(answer, PRM, CONSUMPTION_INDEX).readings

    assert [index.register.name for index in found] == ["HCH", "HPH", "HC", "HP"]  # type: ignore[union-attr]


@pytest.mark.parametrize("of_the_other", [None, 0])
def test_a_class_beside_one_without_values_keeps_its_name(of_the_other: int | None) -> None:
    """
    Off-peak hours beside a null of peak hours are not the total.
    """
    answer = load_fixture("2026_index")
    low, high = answer["contexte"][0]["grandeur"][0]["calendrier"][0]["classeTemporelle"]
    low["valeur"] = [{"d": "2026-11-01 00:00:00", "v": 7000000, "iv": 0}]
    high["valeur"] = [{"d": "2026-11-01 00:00:00", "v": of_the_other, "iv": 0}]
    del answer["contexte"][0]["grandeur"][0]["calendrier"][1]

    found = parse_readings(answer, PRM, CONSUMPTION_INDEX).readings

    assert [(index.register.name, index.value) for index in found] == [("HC", 7000), ("HP", 0)][
        : 1 if of_the_other is None else 2
    ]  # type: ignore[union-attr]


def test_of_two_calendars_the_suppliers_is_chosen_in_any_order() -> None:
    """
    The registers are those by which the customer pays, not those that happen to come first.
    """
    answer = load_fixture("2026_index")
    answer["contexte"][0]["grandeur"][0]["calendrier"].reverse()

    assert (
        parse_readings(answer, PRM, CONSUMPTION_INDEX).readings
        == parse_readings(load_fixture("2026_index"), PRM, CONSUMPTION_INDEX).readings
    )


@pytest.mark.parametrize("place", [0, 1])
def test_a_context_of_another_quantity_is_left_aside(place: int) -> None:
    """
    A context that holds only reactive energy (ER) costs nothing of the one beside it.
    """
    answer = load_fixture("2026_index")
    other = load_fixture("2026_index")["contexte"][0]
    other["grandeur"][0]["grandeurPhysique"] = "ER"
    answer["contexte"].insert(place, other)

    assert (
        parse_readings(answer, PRM, CONSUMPTION_INDEX).readings
        == parse_readings(load_fixture("2026_index"), PRM, CONSUMPTION_INDEX).readings
    )


@pytest.mark.parametrize(
    ("name", "change", "kept", "skipped"),
    [
        ("2026_days", {"v": "NaN"}, [8.455], "points.v"),
        ("2026_days", {"v": "-250"}, [8.455], "value"),
        ("2026_days", {"v": "1e300"}, [8.455], "value"),
        ("2026_days", {"d": "soon"}, [8.455], "stamp"),
        ("2026_days", {"d": "1971-01-01"}, [8.455], "stamp"),
        ("2026_days", {"d": None}, [8.455], "points.d"),
        ("v5_days", {"value": "many"}, [8.455], "values.value"),
        ("2026_curve", {"p": "PT7M"}, [0, 0.15, 0.06, 0.1, 0.5, 0.12], "length"),
        ("2026_curve", {"p": None}, [0, 0.15, 0.06, 0.1, 0.5, 0.12], "length"),
    ],
)
def test_one_odd_row_costs_one_row(name: str, change: dict[str, Any], kept: list[float], skipped: str) -> None:
    """
    What cannot be understood is left out and counted by its field; the other rows are kept.
    """
    answer = load_fixture(name)
    rows = answer["meter_reading"]["interval_reading"] if name.startswith("v5") else answer["grandeur"][0]["points"]
    rows[0] |= change

    parsed = parse_readings(answer, PRM, CONSUMPTION_CURVE if "curve" in name else CONSUMPTION_DAYS)

    assert [each.amount for each in parsed.readings] == kept  # type: ignore[union-attr]
    assert parsed.skipped == {skipped: 1}


@pytest.mark.parametrize("odd", [{"v": "many"}, {"v": -1}, {"v": True, "d": None}, {"d": "2026-11-01"}])
def test_one_odd_reading_of_a_register_costs_one_reading(odd: dict[str, Any]) -> None:
    """
    A register whose reading is odd does not take the others with it, and does not rename them.
    """
    answer = load_fixture("2026_index")
    answer["contexte"] = answer["contexte"][:1]
    (calendar, *_) = answer["contexte"][0]["grandeur"][0]["calendrier"]
    answer["contexte"][0]["grandeur"][0]["calendrier"] = [calendar]
    calendar["classeTemporelle"][1]["valeur"] = [odd]

    parsed = parse_readings(answer, PRM, CONSUMPTION_INDEX)

    indexes = [(index.register.name, index.value) for index in parsed.readings]  # type: ignore[union-attr]
    assert indexes == [("HC", 7340.112), ("HC", 7343.0)]
    assert parsed.skipped.total() == 1


@pytest.mark.parametrize("outer", [True, False])
def test_v5(outer: bool) -> None:
    """
    v5 has the same values, with its outer `meter_reading` or, by the Conso API, without.
    """
    days, curve, largest = (
        load_fixture(name) if outer else load_fixture(name)["meter_reading"] for name in ("v5_days", "v5_curve", "v5_max")
    )

    assert parse_readings(days, PRM, CONSUMPTION_DAYS).readings == [
        Interval(USED, at(2026, 4, 30, 22), at(2026, 5, 1, 22), 9.12),
        Interval(USED, at(2026, 5, 1, 22), at(2026, 5, 2, 22), 8.455),
    ]
    assert parse_readings(curve, PRM, CONSUMPTION_CURVE).readings == [
        Interval(USED, at(2026, 4, 30, 22), at(2026, 4, 30, 22, 30), 0.206),
        Interval(USED, at(2026, 5, 1, 21, 30), at(2026, 5, 1, 22), 0.12),
    ]
    assert parse_readings(largest, PRM, CONSUMPTION_MAX).readings == [
        Peak(POINT, Unit.KVA, at(2026, 4, 30, 22), at(2026, 5, 1, 22), 5.31, at(2026, 5, 1, 17, 42, 11))
    ]


def test_stamps_at_starts() -> None:
    """
    Where a gateway has moved the stamps to the starts of the intervals, they are the starts.
    """
    found = parse_readings(load_fixture("v5_curve"), PRM, CONSUMPTION_CURVE, stamps_are_starts=True).readings

    assert [(each.start, each.end) for each in found] == [  # type: ignore[union-attr]
        (at(2026, 4, 30, 22, 30), at(2026, 4, 30, 23)),
        (at(2026, 5, 1, 22), at(2026, 5, 1, 22, 30)),
    ]


@pytest.mark.parametrize(("points", "kept", "energy"), [(50, 50, 8.625), (48, 46, 7.935)])
def test_a_night_in_october_by_the_wall_clock(points: int, kept: int, energy: float) -> None:
    """
    MyElectricalData stamps half-hours at their start by the wall clock, sorted as text; its store may keep one of each pair.
    """
    stamps = sorted(
        f"{end.astimezone(ZoneInfo('Europe/Paris')).replace(tzinfo=None) - HALF:%Y-%m-%d %H:%M:%S}"
        for end in (at(2026, 10, 24, 22, 30) + n * HALF for n in range(50))
    )
    kept_stamps = stamps if points == 50 else list(dict.fromkeys(stamps))
    body = load_fixture("2026_curve")
    body["grandeur"][0]["points"] = [{"v": "345", "d": stamp, "p": "PT30M"} for stamp in kept_stamps]

    found = parse_readings(body, PRM, CONSUMPTION_CURVE, stamps_are_starts=True).readings

    assert len(kept_stamps) == points
    assert len({each.start for each in found}) == kept  # type: ignore[union-attr]
    assert round(sum(each.amount for each in found), 9) == energy  # type: ignore[union-attr]


@pytest.mark.parametrize("nothing", ["empty", "absent", "no points", "null points", "null values"])
def test_nothing_is_no_reading(nothing: str) -> None:
    """
    An empty or absent series, one without points and one of nulls are valid responses without data.
    """
    answer = load_fixture("2026_days")
    if nothing == "absent":
        del answer["grandeur"]
    elif nothing == "empty":
        answer["grandeur"] = []
    elif nothing == "no points":
        del answer["grandeur"][0]["points"]
    elif nothing == "null points":
        answer["grandeur"][0]["points"] = None
    else:
        answer["grandeur"][0]["points"] = [{"v": None, "d": "2026-11-01"}]

    with pytest.raises(NoDataError):
        parse_readings(answer, PRM, CONSUMPTION_DAYS)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("2026_days", '"v"', '"valeur"', "grandeur.0.points.0.v"),
        ("2026_days", '"d"', '"date"', "grandeur.0.points.0.d"),
        ("2026_days", '"unite"', '"unit"', "grandeur.0.unite"),
        ("2026_days", '"idPrm"', '"prm"', "idPrm"),
        ("2026_days", '"Wh"', '"MWh"', "unit"),
        ("2026_days", '"EA"', '"EX"', "grandeurPhysique"),
        ("2026_days", '"2026-11-01", "v"', "", "stamp"),
        ("2026_curve", '"p"', '"pas"', "length"),
        ("v5_days", '"interval_reading"', '"readings"', "interval_reading"),
        ("v5_days", '"unit"', '"unite"', "reading_type.unit"),
        ("2026_index", '"idClasseTemporelle"', '"id"', "idClasseTemporelle"),
    ],
)
def test_a_changed_response_is_named(name: str, old: str, new: str, message: str) -> None:
    """
    A renamed field is an error that names the field, and never the usage point.
    """
    answer = (
        _changed(load_fixture(name), old.strip('"'), new.strip('"')) if message != "stamp" else _unstamped(load_fixture(name))
    )

    with pytest.raises(ResponseError, match=message) as error:
        parse_readings(
            answer, PRM, {"curve": CONSUMPTION_CURVE, "index": CONSUMPTION_INDEX}.get(name.split("_")[1], CONSUMPTION_DAYS)
        )
    assert PRM not in str(error.value)


def test_a_response_about_another_usage_point_is_rejected() -> None:
    """
    A response that names another usage point is rejected.
    """
    with pytest.raises(ResponseError, match="another usage point"):
        parse_readings(load_fixture("2026_days"), "98765432109876", CONSUMPTION_DAYS)


@pytest.mark.parametrize("name", ["2026_contract", "v5_contract"])
def test_contracts(name: str) -> None:
    """
    Of a contract are kept the subscribed power of consumption and its first day, and nothing of its customer.
    """
    found, _ = parse_contract(load_fixture(name))

    assert (found.power_kva, found.activation_day) == (9.0, date(2019, 3, 4))
    assert "Invented" not in repr(found)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"situation_contrat": None, "synthese_contrat": None},
        [{"contract_type": "Contrat GRD-A", "subscribed_power": {"unit": "kVA", "value": "3"}}],
    ],
)
def test_no_contract_of_consumption_is_no_data(answer: Any) -> None:
    """
    A producer's contract alone states no subscribed power.
    """
    with pytest.raises(NoDataError):
        parse_contract(answer)


CONSUMER = {"contract_type": "Contrat GRD-F", "segment": "C5", "contract_start": "2026-09-20T00:00:00+0200"}
PRODUCER = {"contract_type": "Contrat GRD-A", "segment": "P4", "contract_start": "2026-09-01", "subscribed_power": None}
POWER = {"unit": "kVA", "value": "9"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([CONSUMER | {"subscribed_power": POWER}], ContractTerms(9, date(2026, 9, 20))),
        ([CONSUMER | {"subscribed_power": {"unit": "kW", "value": "9"}}], ContractTerms(9, date(2026, 9, 20))),
        ([CONSUMER | {"subscribed_power": {"unit": "VA", "value": 9000}}], ContractTerms(9, date(2026, 9, 20))),
        ([CONSUMER | {"subscribed_power": "9,5 kVA"}], ContractTerms(9.5, date(2026, 9, 20))),
        ([CONSUMER | {"subscribed_power": POWER, "contract_type": None}], ContractTerms(9, date(2026, 9, 20))),
        ([CONSUMER | {"subscribed_power": ""}], ContractTerms(None, date(2026, 9, 20))),
        ([CONSUMER | {"subscribed_power": {"unit": "kVA", "value": ""}}], ContractTerms(None, date(2026, 9, 20))),
        ([CONSUMER | {"subscribed_power": POWER, "contract_start": "soon"}], ContractTerms(9)),
        ([PRODUCER, CONSUMER | {"subscribed_power": POWER}], ContractTerms(9, date(2026, 9, 20), date(2026, 9, 1))),
        ([{"subscribed_power": {"amount": "9"}}, CONSUMER | {"subscribed_power": POWER}], ContractTerms(9, date(2026, 9, 20))),
        ([None, CONSUMER | {"subscribed_power": POWER}], ContractTerms(9, date(2026, 9, 20))),
        (
            {
                "situation_contrat": [CONSUMER | {"subscribed_power": POWER}, PRODUCER],
                "synthese_contrat": {
                    "consumption_last_activation_date": "2026-05-13T00:00:00+0200",
                    "generation_last_activation_date": "2026-08-01T00:00:00+0200",
                },
                "comptage": None,
            },
            ContractTerms(9, date(2026, 5, 13), date(2026, 8, 1)),
        ),
        (
            {"situation_contrat": None, "synthese_contrat": {"consumption_last_activation_date": "2026-05-13"}, "comptage": None},
            ContractTerms(None, date(2026, 5, 13)),
        ),
        (
            {"situation_contrat": [CONSUMER | {"subscribed_power": POWER}], "synthese_contrat": None, "comptage": {}},
            ContractTerms(9, date(2026, 9, 20)),
        ),
    ],
)
def test_contracts_of_every_form(answer: Any, expected: ContractTerms) -> None:
    """
    What a contract states is taken whatever else of it is missing, null or strange.
    """
    assert parse_contract(answer)[0] == expected


def test_a_changed_contract_is_named() -> None:
    """
    A contract that is not what it was names the field.
    """
    with pytest.raises(ResponseError, match="subscribed_power"):
        parse_contract([{"subscribed_power": {"amount": "9"}}])


def _changed(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {new if name == old else name: _changed(value, old, new) for name, value in node.items()}
    if isinstance(node, list):
        return [_changed(each, old, new) for each in node]
    return new if node == old else node


def _unstamped(answer: Any) -> Any:
    for point in answer["grandeur"][0]["points"]:
        point["d"] = "the first of November"
    return answer
