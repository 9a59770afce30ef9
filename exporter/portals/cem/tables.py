"""The long lists of an account, read from their JSON straight into small rows: a city's counters are 35 MB of it."""

import json
from typing import Generic, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from exporter.answer import Answer
from exporter.errors import ResponseError
from exporter.portals.base import Listed
from exporter.portals.cem.answers import Id, Text, Value, Whole, Yes

row = dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore", hide_input_in_errors=True))


@row
class Place:
    """id=23: an object; its name is often empty, its parent may be missing from the answer."""

    id: Id = Field(alias="mis_id")
    parent: Whole = Field(None, alias="mis_idp")
    name: Text = Field("", alias="mis_nazev")


@row
class Meter:
    """id=108: a meter; `removed` (milliseconds) is not null once it was taken away, and it stays listed for ever."""

    id: Id = Field(alias="me_id")
    place: Whole = Field(None, alias="mis_id")
    serial: Text = Field("", alias="me_serial")
    name: Text = Field("", alias="me_desc")
    main_type: Whole = Field(None, alias="me_pot_id")
    removed: Whole = Field(None, alias="me_do")


@row
class Counter:
    """id=107: a counter of a meter, with its last value and time (milliseconds), null when it was never read.

    The multiplier `var_nasob` is not applied: whether values contain it already is not known, it is 1.0 wherever it was
    seen, and no client multiplies.
    """

    id: Id = Field(alias="var_id")
    meter: Id = Field(alias="me_id")
    type: Id = Field(alias="pot_id")
    value: Value = Field(None, alias="var_lastvar")
    time: Whole = Field(None, alias="var_lasttime")
    primary: Yes = Field(False, alias="poc_primary")
    service: Yes = Field(False, alias="poc_serv")
    name: Text = Field("", alias="poc_desc")


@row
class CounterType:
    """id=222: a counter type with its translation key, its unit (`"ppm "` has a blank at its end) and its `pot_type`."""

    id: Id = Field(alias="pot_id")
    key: Text = Field("", alias="lt_key")
    unit: Text = Field("", alias="jed_zkr")
    nature: Whole = Field(alias="pot_type")


@row
class ValueType:
    """id=11, cis=50: the maker's name of a `pot_type`."""

    id: Id = Field(alias="cik_fk")
    name: Text = Field("", alias="cik_nazev")


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore", hide_input_in_errors=True))
class Wrapped(Generic[Row]):
    """A list as {"data": [...], "action": "get"}."""

    data: Listed[Row]


class Table(Generic[Row]):
    """One of the lists: how its rows are read and written."""

    def __init__(self, row: type[Row]) -> None:
        self._bare: TypeAdapter[list[Row]] = TypeAdapter(Listed[row])  # type: ignore[valid-type]  # known when it is made
        self._wrapped: TypeAdapter[Wrapped[Row]] = TypeAdapter(Wrapped[row])  # type: ignore[valid-type]

    def read(self, text: str | bytes, where: str) -> list[Row]:
        """Read a list, bare or wrapped; raises ResponseError that names the field, and ValueError for what is no JSON."""
        try:
            if text[:64].lstrip()[:1] in ("[", b"["):
                return self._bare.validate_json(text)
            return self._wrapped.validate_json(text).data
        except ValidationError as error:
            raise _said(error, where) from None

    def answered(self, answer: Answer, where: str) -> list[Row]:
        """Read an answer; raises ResponseError."""
        if not 200 <= answer.status < 300:
            answer.json()
        try:
            return self.read(answer.body, where)
        except ValueError:
            told = answer.json()  # mends half a character, and says in its own words when this is no JSON
        try:
            return self.read(json.dumps(told), where)
        except (ValueError, RecursionError):
            raise ResponseError(f"{where} cannot be read") from None

    def said(self, rows: list[Row]) -> str:
        """Write rows as JSON with the portal's own names, what is usual left out."""
        return self._bare.dump_json(rows, by_alias=True, exclude_defaults=True).decode()


PLACES, METERS, COUNTERS = Table(Place), Table(Meter), Table(Counter)
TYPES, VALUE_TYPES = Table(CounterType), Table(ValueType)


def _said(error: ValidationError, where: str) -> ValueError | ResponseError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return ValueError("no JSON")
    place = [part for part in first["loc"] if part != "data"]
    if len(place) < 2:
        return ResponseError(f"{where} has changed: " + ("it is no list" if not place else f"data.{place[0]}: no object"))
    return ResponseError(f"{where} has changed: data.{'.'.join(map(str, place))}: {first['msg'].lower()}")
