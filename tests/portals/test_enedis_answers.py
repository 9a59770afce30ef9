"""Answers of Enedis, understood to the last digit."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from exporter.errors import NoDataError, ResponseError
from exporter.model import Commodity, Direction, Index, Interval, Peak, Register, Unit, UsagePoint
from exporter.portals.enedis.answers import readings
from exporter.portals.enedis.contract import contract
from exporter.portals.enedis.measures import CURVE, DAYS, FED_DAYS, FED_INDEX, INDEX, MAX
from tests.portals.enedis_house import PRM, fixture

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
    found = readings(fixture("2026_days"), PRM, DAYS)

    assert found == [
        Interval(USED, at(2026, 10, 31, 23), at(2026, 11, 1, 23), 9.12),
        Interval(USED, at(2026, 11, 1, 23), at(2026, 11, 2, 23), 8.455),
    ]


def test_days_of_production_are_chosen_among_series_and_zero_is_a_value() -> None:
    """
    The series is chosen by what it measures, its unit is read, and nothing fed in is 0 kWh.
    """
    found = readings(fixture("2026_days_production"), PRM, FED_DAYS)

    assert found == [
        Interval(FED_IN, at(2026, 10, 31, 23), at(2026, 11, 1, 23), 0),
        Interval(FED_IN, at(2026, 11, 1, 23), at(2026, 11, 2, 23), 3.25),
    ]


def test_curve_of_2026_has_intervals_of_every_length() -> None:
    """
    Stamps are ends, energy is power times the interval's own length, and 0 W is a value.
    """
    found = readings(fixture("2026_curve"), PRM, CURVE)

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
    found = readings(fixture("2026_max"), PRM, MAX)

    assert found == [
        Peak(POINT, Unit.KVA, at(2026, 10, 31, 23), at(2026, 11, 1, 23), 5.31, at(2026, 11, 1, 18, 42, 11)),
        Peak(POINT, Unit.KVA, at(2026, 11, 1, 23), at(2026, 11, 2, 23), 4.98, at(2026, 11, 2, 6, 5, 36)),
    ]


def test_registers_of_2026() -> None:
    """
    Each tariff class of the first calendar is a register; the total and a second calendar would count the same twice.
    """
    found = readings(fixture("2026_index"), PRM, INDEX)

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
    found = readings(fixture("2026_index_production"), PRM, FED_INDEX)

    assert found == [Index(FED_IN, 5120.3, at(2026, 10, 31, 23))]


def test_a_single_class_is_the_total() -> None:
    """
    One tariff class alone is called `total`, like everywhere.
    """
    answer = fixture("2026_index")
    quantity = answer["contexte"][0]["grandeur"][0]
    quantity["calendrier"] = quantity["calendrier"][:1]
    del quantity["calendrier"][0]["classeTemporelle"][1]

    found = readings(answer, PRM, INDEX)

    assert [(index.register.name, index.value) for index in found] == [("total", 7340.112), ("total", 7343.0)]  # type: ignore[union-attr]


def test_classes_that_change_keep_each_day_whole() -> None:
    """
    Where the first calendar begins later than the second, each day is told by the first that knows it.
    """
    answer = fixture("2026_index")
    for each in answer["contexte"][0]["grandeur"][0]["calendrier"][0]["classeTemporelle"]:
        del each["valeur"][0]

    found = readings(answer, PRM, INDEX)

    assert [index.register.name for index in found] == ["HCH", "HPH", "HC", "HP"]  # type: ignore[union-attr]


@pytest.mark.parametrize("outer", [True, False])
def test_v5(outer: bool) -> None:
    """
    The old form says the same, with its outer `meter_reading` or, by the Conso API, without.
    """
    days, curve, largest = (
        fixture(name) if outer else fixture(name)["meter_reading"] for name in ("v5_days", "v5_curve", "v5_max")
    )

    assert readings(days, PRM, DAYS) == [
        Interval(USED, at(2026, 4, 30, 22), at(2026, 5, 1, 22), 9.12),
        Interval(USED, at(2026, 5, 1, 22), at(2026, 5, 2, 22), 8.455),
    ]
    assert readings(curve, PRM, CURVE) == [
        Interval(USED, at(2026, 4, 30, 22), at(2026, 4, 30, 22, 30), 0.206),
        Interval(USED, at(2026, 5, 1, 21, 30), at(2026, 5, 1, 22), 0.12),
    ]
    assert readings(largest, PRM, MAX) == [
        Peak(POINT, Unit.KVA, at(2026, 4, 30, 22), at(2026, 5, 1, 22), 5.31, at(2026, 5, 1, 17, 42, 11))
    ]


def test_stamps_at_starts() -> None:
    """
    Where a gateway has moved the stamps to the starts of the intervals, they are the starts.
    """
    found = readings(fixture("v5_curve"), PRM, CURVE, starts=True)

    assert [(each.start, each.end) for each in found] == [  # type: ignore[union-attr]
        (at(2026, 4, 30, 22, 30), at(2026, 4, 30, 23)),
        (at(2026, 5, 1, 22), at(2026, 5, 1, 22, 30)),
    ]


@pytest.mark.parametrize("nothing", ["empty", "absent", "no points", "null points", "null values"])
def test_nothing_is_no_reading(nothing: str) -> None:
    """
    An empty or absent series, one without points and one of nulls are good answers that hold nothing.
    """
    answer = fixture("2026_days")
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
        readings(answer, PRM, DAYS)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("2026_days", '"v"', '"valeur"', "grandeur.0.points.0.v"),
        ("2026_days", '"d"', '"date"', "grandeur.0.points.0.d"),
        ("2026_days", '"unite"', '"unit"', "grandeur.0.unite"),
        ("2026_days", '"idPrm"', '"prm"', "idPrm"),
        ("2026_days", '"Wh"', '"MWh"', "unit"),
        ("2026_days", '"EA"', '"EX"', "grandeurPhysique"),
        ("2026_days", '"2026-11-01", "v"', "", "stamp"),
        ("2026_curve", '"p"', '"pas"', "length"),
        ("2026_curve", '"PT10M"', '"PT7M"', "length"),
        ("v5_days", '"interval_reading"', '"readings"', "interval_reading"),
        ("v5_days", '"unit"', '"unite"', "reading_type.unit"),
        ("2026_index", '"idClasseTemporelle"', '"id"', "idClasseTemporelle"),
    ],
)
def test_a_changed_answer_is_named(name: str, old: str, new: str, says: str) -> None:
    """
    A field that is called otherwise is an error that names the field, and never the usage point.
    """
    answer = _changed(fixture(name), old.strip('"'), new.strip('"')) if says != "stamp" else _unstamped(fixture(name))

    with pytest.raises(ResponseError, match=says) as error:
        readings(answer, PRM, {"curve": CURVE, "index": INDEX}.get(name.split("_")[1], DAYS))
    assert PRM not in str(error.value)


def test_an_answer_about_somebody_else_is_refused() -> None:
    """
    An answer that names another usage point is not taken for ours.
    """
    with pytest.raises(ResponseError, match="another usage point"):
        readings(fixture("2026_days"), "98765432109876", DAYS)


@pytest.mark.parametrize("name", ["2026_contract", "v5_contract"])
def test_contracts(name: str) -> None:
    """
    Of a contract are kept the subscribed power of consumption and its first day, and nothing of its customer.
    """
    found = contract(fixture(name))

    assert (found.power, found.activation) == (9.0, date(2019, 3, 4))
    assert "Invented" not in repr(found)


@pytest.mark.parametrize("answer", [[], [{"contract_type": "Contrat GRD-A", "subscribed_power": {"unit": "kVA", "value": "3"}}]])
def test_no_contract_of_consumption_is_no_data(answer: Any) -> None:
    """
    A producer's contract alone states no subscribed power.
    """
    with pytest.raises(NoDataError):
        contract(answer)


def test_a_changed_contract_is_named() -> None:
    """
    A contract that is not what it was names the field.
    """
    with pytest.raises(ResponseError, match="subscribed_power"):
        contract([{"subscribed_power": {"amount": "9"}}])


def _changed(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {new if name == old else name: _changed(value, old, new) for name, value in node.items()}
    if isinstance(node, list):
        return [_changed(each, old, new) for each in node]
    return new if node == old else node


def _unstamped(answer: Any) -> Any:
    answer["grandeur"][0]["points"][0]["d"] = "the first of November"
    return answer
