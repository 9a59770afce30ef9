"""The long lists of an account, parsed from their JSON straight into small rows: a city's counters are 35 MB of it."""

import json
from typing import Generic, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from exporter.client.response import Response
from exporter.errors import ResponseError
from exporter.portals.base import FailFastList
from exporter.portals.cem.parser import CleanText, Flag, OptionalInteger, OptionalNumber, RowId
from exporter.recording.shape import observe_rows

list_row = dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore", hide_input_in_errors=True))


@list_row
class ObjectRow:
    """id=23: an object; its name is often empty, its parent may be missing from the response."""

    id: RowId = Field(alias="mis_id")
    parent: OptionalInteger = Field(None, alias="mis_idp")
    name: CleanText = Field("", alias="mis_nazev")


@list_row
class MeterRow:
    """id=108: a meter; `removed` (milliseconds) is not null once it was removed, and it stays listed for ever."""

    id: RowId = Field(alias="me_id")
    object_id: OptionalInteger = Field(None, alias="mis_id")
    serial: CleanText = Field("", alias="me_serial")
    name: CleanText = Field("", alias="me_desc")
    main_type: OptionalInteger = Field(None, alias="me_pot_id")
    removed: OptionalInteger = Field(None, alias="me_do")


@list_row
class CounterRow:
    """id=107: a counter of a meter, with its last value and time (milliseconds), null when it was never read.

    The multiplier `var_nasob` is not applied: it is 1.0 wherever it was seen, and whether values include it is not known.
    """

    id: RowId = Field(alias="var_id")
    meter: RowId = Field(alias="me_id")
    type: RowId = Field(alias="pot_id")
    value: OptionalNumber = Field(None, alias="var_lastvar")
    time: OptionalInteger = Field(None, alias="var_lasttime")
    primary: Flag = Field(False, alias="poc_primary")
    service: Flag = Field(False, alias="poc_serv")
    name: CleanText = Field("", alias="poc_desc")


@list_row
class CounterTypeRow:
    """id=222: a counter type with its translation key, its unit (`"ppm "` has a blank at its end) and its `pot_type`."""

    id: RowId = Field(alias="pot_id")
    key: CleanText = Field("", alias="lt_key")
    unit: CleanText = Field("", alias="jed_zkr")
    value_type: OptionalInteger = Field(alias="pot_type")


@list_row
class ValueTypeRow:
    """id=11, cis=50: the maker's name of a `pot_type`."""

    id: RowId = Field(alias="cik_fk")
    name: CleanText = Field("", alias="cik_nazev")


RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore", hide_input_in_errors=True))
class WrappedList(Generic[RowT]):
    """A list as {"data": [...], "action": "get"}."""

    data: FailFastList[RowT]


class ListParser(Generic[RowT]):
    """One of the lists: how its rows are parsed and written."""

    def __init__(self, row_type: type[RowT]) -> None:
        self._row_type = row_type
        self._bare_adapter: TypeAdapter[list[RowT]] = TypeAdapter(FailFastList[row_type])  # type: ignore[valid-type]  # known at run time
        self._wrapped_adapter: TypeAdapter[WrappedList[RowT]] = TypeAdapter(WrappedList[row_type])  # type: ignore[valid-type]

    def parse(self, text: str | bytes, where: str) -> list[RowT]:
        """Return the rows of a list, bare or wrapped; raise ResponseError that names the field, and ValueError for no JSON."""
        try:
            if text[:64].lstrip()[:1] in ("[", b"["):
                return self._bare_adapter.validate_json(text)
            return self._wrapped_adapter.validate_json(text).data
        except ValidationError as error:
            raise _build_validation_error(error, where) from None

    def parse_response(self, response: Response, where: str) -> list[RowT]:
        """Return the rows of a response; raise ResponseError."""
        if not 200 <= response.status < 300:
            response.json()
        observe_rows(self._row_type, response.body)
        try:
            return self.parse(response.body, where)
        except ValueError:
            body = response.json()  # repairs half a character, and raises its own error for what is no JSON
        try:
            return self.parse(json.dumps(body), where)
        except (ValueError, RecursionError):
            raise ResponseError(f"{where} cannot be read") from None

    def dump(self, rows: list[RowT]) -> str:
        """Return rows as JSON with the portal's own names, without defaults."""
        return self._bare_adapter.dump_json(rows, by_alias=True, exclude_defaults=True).decode()


OBJECTS, METERS, COUNTERS = ListParser(ObjectRow), ListParser(MeterRow), ListParser(CounterRow)
TYPES, VALUE_TYPES = ListParser(CounterTypeRow), ListParser(ValueTypeRow)


def _build_validation_error(error: ValidationError, where: str) -> ValueError | ResponseError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return ValueError("no JSON")
    path = [part for part in first["loc"] if part != "data"]
    if len(path) < 2:
        return ResponseError(f"{where} has changed: " + ("it is no list" if not path else f"data.{path[0]}: no object"))
    return ResponseError(f"{where} has changed: data.{'.'.join(map(str, path))}: {first['msg'].lower()}")
