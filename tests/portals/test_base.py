"""What all portals' parsers share."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import RootModel

from exporter.errors import ResponseError
from exporter.portals.base import ResponseModel, TolerantList, build_skip_notes, parse_response, parse_tolerantly


class Value(ResponseModel):
    v: float
    state: int = 0


class Day(ResponseModel):
    day: str
    values: TolerantList[Value]


class Days(RootModel[TolerantList[Day]]):
    pass


def day(*values: Any) -> dict[str, Any]:
    return {"day": "2026-11-09", "values": list(values)}


GOOD, STRANGE = {"v": 1.5}, {"v": "veel"}


@pytest.mark.parametrize(
    ("body", "kept", "skipped"),
    [
        ([day(GOOD, GOOD)], [2], {}),
        ([day(GOOD, STRANGE), day(GOOD)], [1, 1], {"values.v": 1}),
        ([day(GOOD, {"v": 1, "state": "EST"}, STRANGE), day(GOOD)], [1, 1], {"values.state": 1, "values.v": 1}),
        ([day(GOOD, None), day(STRANGE, STRANGE), None], [1], {"values": 1, "values.v": 1, "an entry": 1}),
        ([day(), {"values": [GOOD]}], [0], {"day": 1}),
        ([], [], {}),
    ],
)
def test_one_odd_item_costs_one_item(body: Any, kept: list[int], skipped: dict[str, int]) -> None:
    """
    What cannot be understood is left out of its list and counted by its field; an item of which nothing is left counts once.
    """
    found, counter = parse_tolerantly(Days, body, "the days")

    assert [len(one.values) for one in found.root] == kept
    assert counter == skipped


@pytest.mark.parametrize("parse", [parse_tolerantly, parse_response])
def test_a_list_of_which_nothing_is_understood(parse: Callable[..., object]) -> None:
    """
    When no item can be understood the response has changed: the error names the field of the first.
    """
    with pytest.raises(ResponseError, match=r"^the days has changed: 0\.values\.0\.v: input should be a valid number"):
        parse(Days, [day(STRANGE), day(STRANGE)], "the days")


def test_a_strict_parser_leaves_nothing_out() -> None:
    """
    Nothing is left out in silence.
    """
    with pytest.raises(ResponseError, match=r"0\.values\.1\.v"):
        parse_response(Days, [day(GOOD, STRANGE)], "the days")


def test_the_note_stays_the_same() -> None:
    """
    The note names the fields and not how many, so that it is logged once.
    """
    assert build_skip_notes("meters[0], days", Counter({"v.vs": 3, "v.dc": 1})) == (
        "meters[0], days: skipped invalid fields: v.dc, v.vs",
    )
    assert build_skip_notes("meters[0], days", Counter()) == ()
