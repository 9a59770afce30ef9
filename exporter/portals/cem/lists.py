"""The long lists of an account, parsed from their JSON straight into small rows: a city's counters are 35 MB of it."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, AnyStr, Generic, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass

from exporter.client.response import Response
from exporter.client.session import compress_text, decompress_text
from exporter.errors import ResponseError
from exporter.portals.base import FailFastList, describe_field
from exporter.portals.cem.parser import CleanText, Flag, OptionalInteger, OptionalNumber, RowId, parse_number
from exporter.recording.shape import observe_rows

MAX_INVALID_ROWS = 100
"""A list in which more rows than this, and more than the good ones, cannot be understood has changed as a whole."""

PIECE_LENGTH = 250_000
"""Longer lists are parsed in pieces of about this length."""
ROWS_PER_DUMP = 2000
_BORDER, _BORDER_OF_BYTES = re.compile(r"\}\s*,\s*\{"), re.compile(rb"\}\s*,\s*\{")


def _parse_multiplier(value: object) -> float | None:
    """Return a multiplier; None for 1, which nearly all of a million counters have, and for what is none."""
    number = parse_number(value)
    return None if number == 1 else number


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
    It is None when it is 1.
    """

    id: RowId = Field(alias="var_id")
    meter: RowId = Field(alias="me_id")
    type: RowId = Field(alias="pot_id")
    value: OptionalNumber = Field(None, alias="var_lastvar")
    time: OptionalInteger = Field(None, alias="var_lasttime")
    primary: Flag = Field(False, alias="poc_primary")
    service: Flag = Field(False, alias="poc_serv")
    name: CleanText = Field("", alias="poc_desc")
    multiplier: Annotated[float | None, BeforeValidator(_parse_multiplier)] = Field(None, alias="var_nasob")


@list_row
class CounterTypeRow:
    """id=222: a counter type with its translation key, its unit (`"ppm "` has a blank at its end) and its `pot_type`."""

    id: RowId = Field(alias="pot_id")
    key: CleanText = Field("", alias="lt_key")
    unit: CleanText = Field("", alias="jed_zkr")
    value_type: OptionalInteger = Field(alias="pot_type")


RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore", hide_input_in_errors=True))
class WrappedList(Generic[RowT]):
    """A list as {"data": [...], "action": "get"}."""

    data: FailFastList[RowT]


@dataclasses.dataclass(slots=True)
class _RowTally:
    """How many rows of a list were understood, and the fields of those that were not."""

    skipped: Counter[str] = dataclasses.field(default_factory=Counter)
    kept: int = 0


def _skip_invalid_row(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    tally: _RowTally = info.context  # type: ignore[assignment]  # given by `_parse_valid_rows`
    try:
        row = validate(value)
    except ValidationError as error:
        tally.skipped[describe_field(error, None)] += 1
        if tally.skipped.total() > max(MAX_INVALID_ROWS, tally.kept):
            raise
        return None
    tally.kept += 1
    return row


class ListParser(Generic[RowT]):
    """One of the lists: how its rows are parsed and written.

    Rows are parsed at once; only where one cannot be understood they are parsed one by one. Both take rows straight from
    the JSON: a million of them as objects of Python would fill the memory.
    """

    def __init__(self, row_type: type[RowT]) -> None:
        self._row_type = row_type
        valid_row: Any = Annotated[row_type, WrapValidator(_skip_invalid_row)]
        self._bare_adapter: TypeAdapter[list[RowT]] = TypeAdapter(FailFastList[row_type])  # type: ignore[valid-type]
        self._wrapped_adapter: TypeAdapter[WrappedList[RowT]] = TypeAdapter(WrappedList[row_type])  # type: ignore[valid-type]
        self._valid_bare_adapter: TypeAdapter[list[RowT | None]] = TypeAdapter(FailFastList[valid_row])
        self._valid_wrapped_adapter: TypeAdapter[WrappedList[RowT | None]] = TypeAdapter(WrappedList[valid_row])

    def parse(self, text: str | bytes, where: str) -> list[RowT]:
        """Return the rows of a list, bare or wrapped.

        Raise ResponseError that names the field when a row cannot be understood, and ValueError for no JSON.
        """
        rows = self._parse_whole(text, where)
        if isinstance(rows, Exception):
            raise rows
        return rows

    def parse_tolerantly(self, text: str | bytes, where: str) -> tuple[list[RowT], Counter[str]]:
        """Return the rows of a list that can be understood, and what was left out, counted by field.

        Raise ResponseError when no row can be understood, or too many cannot, and ValueError for no JSON.
        """
        whole = self._parse_whole(text, where)
        if not isinstance(whole, Exception):
            return whole, Counter()
        if not isinstance(whole, ResponseError):
            raise whole
        tally = _RowTally()
        try:
            rows = (
                self._valid_bare_adapter.validate_json(text, context=tally)
                if _is_bare(text)
                else self._valid_wrapped_adapter.validate_json(text, context=tally).data
            )
        except ValidationError:
            raise whole from None
        if not tally.kept:
            raise whole
        return [row for row in rows if row is not None], tally.skipped

    def _parse_whole(self, text: str | bytes, where: str) -> list[RowT] | ValueError | ResponseError:
        """Return the rows of a list, or why they cannot be understood; an error that is raised would keep the text in memory."""
        if len(text) > PIECE_LENGTH and (pieces := self._parse_pieces(text)) is not None:
            return pieces
        try:
            return self._bare_adapter.validate_json(text) if _is_bare(text) else self._wrapped_adapter.validate_json(text).data
        except ValidationError as error:
            return _build_validation_error(error, where)

    def _parse_pieces(self, text: str | bytes) -> list[RowT] | None:
        """Return the rows of a long list, some at a time: its JSON as a whole takes several times as much memory.

        It is cut between two rows; None where a piece is no list of rows, because their border was guessed wrong.
        """
        rows = list[RowT]()
        try:
            around, *pieces = _split_wrapper(text)
            if around and self._wrapped_adapter.validate_json(around).data:
                return None
            for piece in _cut(text, *pieces):
                rows += self._bare_adapter.validate_json(piece)
        except (ValidationError, ValueError):
            return None
        return rows

    def parse_response(self, response: Response, where: str) -> tuple[list[RowT], Counter[str]]:
        """Return the rows of a response that can be understood, and what was left out, by field; raise ResponseError."""
        if not 200 <= response.status < 300:
            response.json()
        observe_rows(self._row_type, response.body)
        try:
            return self.parse_tolerantly(response.body, where)
        except ValueError:
            body = response.json()  # repairs half a character, and raises its own error for what is no JSON
        try:
            return self.parse_tolerantly(json.dumps(body), where)
        except (ValueError, RecursionError):
            raise ResponseError(f"{where} cannot be read") from None

    def dump(self, rows: list[RowT]) -> str:
        """Return rows as text to be stored: JSON with the portal's own names, without defaults, compressed some at a time."""
        return compress_text(self._dump_parts(rows))

    def _dump_parts(self, rows: list[RowT]) -> Iterator[bytes]:
        for start in range(0, len(rows), ROWS_PER_DUMP):
            some = self._bare_adapter.dump_json(rows[start : start + ROWS_PER_DUMP], by_alias=True, exclude_defaults=True)
            yield (b"," if start else b"[") + some[1:-1]
        yield b"]" if rows else b"[]"

    def load(self, text: str, where: str) -> list[RowT]:
        """Return the rows of a stored text, in plain JSON too: earlier versions stored that."""
        return self.parse(decompress_text(text), where)


OBJECTS, METERS, COUNTERS = ListParser(ObjectRow), ListParser(MeterRow), ListParser(CounterRow)
TYPES = ListParser(CounterTypeRow)


def _is_bare(text: str | bytes) -> bool:
    return text[:64].lstrip()[:1] in ("[", b"[")


def _split_wrapper(text: str | bytes) -> tuple[str | bytes, int, int]:
    """Return what is around the list, which is empty in it, and where the list begins and ends; ValueError without one."""
    if isinstance(text, str):
        start, end = text.index("["), text.rindex("]") + 1
        return (text[:start] + "[]" + text[end:]).strip().removesuffix("[]"), start, end
    start, end = text.index(b"["), text.rindex(b"]") + 1
    return (text[:start] + b"[]" + text[end:]).strip().removesuffix(b"[]"), start, end


def _cut(text: str | bytes, start: int, end: int) -> Iterator[str | bytes]:
    """Cut a list in JSON where the border of two rows seems to be; each piece is a list."""
    if isinstance(text, str):
        yield from _cut_at(_BORDER, text, start, end, "[", "}]")
    else:
        yield from _cut_at(_BORDER_OF_BYTES, text, start, end, b"[", b"}]")


def _cut_at(border: re.Pattern[AnyStr], text: AnyStr, start: int, end: int, opening: AnyStr, closing: AnyStr) -> Iterator[AnyStr]:
    start += 1
    while found := border.search(text, start + PIECE_LENGTH, end):
        yield opening + text[start : found.start()] + closing
        start = found.end() - 1
    yield opening + text[start:end]


def _build_validation_error(error: ValidationError, where: str) -> ValueError | ResponseError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return ValueError("no JSON")
    path = [part for part in first["loc"] if part != "data"]
    if len(path) < 2:
        return ResponseError(f"{where} has changed: " + ("expected a list" if not path else f"data.{path[0]}: no object"))
    return ResponseError(f"{where} has changed: data.{'.'.join(map(str, path))}: {first['msg'].lower()}")
