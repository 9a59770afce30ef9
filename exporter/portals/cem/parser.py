"""The responses of CEM: the account's holder, and values, which a plain loop parses because they are many."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.errors import ResponseError
from exporter.models import Index, Register, is_possible_value
from exporter.portals.base import ResponseModel

_NUMBER_PATTERN = re.compile(r"\s*[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?\s*", re.ASCII)
MAX_CLOCK_SKEW = timedelta(days=1)
"""How far the portal's clock may be ahead of ours; a later reading would stay the newest one for ever."""


def parse_number(value: object) -> float | None:
    """Return a number, or digits as text, as a float; None for null, NaN and everything else (absent is never zero)."""
    if isinstance(value, str):
        value = float(value) if _NUMBER_PATTERN.fullmatch(value) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def parse_integer(value: object) -> int | None:
    """Return a whole number, or digits as text, as an integer; None for everything else."""
    if type(value) is int:
        return value if abs(value) < 1 << 63 else None
    number = parse_number(value)
    return int(number) if number is not None and number == int(number) and abs(number) < 1 << 63 else None


def parse_milliseconds(milliseconds: int | None) -> datetime | None:
    """Return the instant of milliseconds since 1970 UTC; None for None and outside the calendar."""
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _parse_text(value: object) -> str:
    return str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _parse_flag(value: object) -> bool:
    return value.strip().lower() in ("1", "true") if isinstance(value, str) else value is True or value == 1


RowId = Annotated[int, BeforeValidator(parse_integer)]
OptionalInteger = Annotated[int | None, BeforeValidator(parse_integer)]
OptionalNumber = Annotated[float | None, BeforeValidator(parse_number)]
CleanText = Annotated[str, BeforeValidator(_parse_text)]
Flag = Annotated[bool, BeforeValidator(_parse_flag)]


class AccountResponse(ResponseModel):
    """id=9: who holds the account; `log_do` is the end of access in milliseconds, or null."""

    name: CleanText = Field("", alias="show_name")
    person: CleanText = Field("", alias="osoba")
    company: CleanText = Field("", alias="firma")
    person_id: CleanText = Field("", alias="oso_id")
    company_id: CleanText = Field("", alias="fir_id")
    customer_id: CleanText = Field("", alias="zak_id")
    access_end: OptionalInteger = Field(None, alias="log_do")


def unwrap_object(body: Any) -> Any:
    """Return an object that comes bare or as {"data": {...}, "action": "get"}."""
    data = body.get("data") if isinstance(body, dict) else None
    return data if isinstance(data, dict) else body


def unwrap_list(body: Any) -> list[Any] | None:
    """Return a list that comes bare or as {"data": [...], "action": "get"}; None when it is neither."""
    data = body.get("data") if isinstance(body, dict) else body
    return data if isinstance(data, list) else None


def require_list(body: Any, where: str) -> list[Any]:
    """Return the unwrapped list; raise ResponseError if there is none."""
    if (rows := unwrap_list(body)) is None:
        raise ResponseError(f"{where} has changed: it is no list")
    return rows


@dataclass(slots=True)
class CounterValues:
    """The values of a response: (counter, milliseconds) to the portal's number.

    A repeated time counts once: the portal repeats some.
    """

    max_milliseconds: float
    by_counter_and_time: dict[tuple[int, int], float] = field(default_factory=dict)
    has_impossible_times: bool = False

    def add(self, counter: int, row: Mapping[str, Any]) -> None:
        """Add one {"value": 412.008, "timestamp": 1768428045000}; without value or time it is no reading."""
        value, time = row.get("value"), row.get("timestamp")
        if (type(value) is not float or not math.isfinite(value)) and (value := parse_number(value)) is None:
            return
        if time is None:
            return
        if (
            milliseconds := time if type(time) is int else parse_integer(time)
        ) is not None and 0 < milliseconds <= self.max_milliseconds:
            self.by_counter_and_time[counter, milliseconds] = value
        else:
            self.has_impossible_times = True


def _build_counter_values(now: datetime) -> CounterValues:
    return CounterValues((now + MAX_CLOCK_SKEW).timestamp() * 1000)


def parse_last_values(body: Any, now: datetime, requested_counter: int | None = None, where: str = "id=8") -> CounterValues:
    """Parse [{"value": 412.008, "timestamp": 1768428045000, "var_id": 80001}], in any order, with any left out.

    With `requested_counter`, `var_id` may be absent (id=8 by GET, id=3). Raise ResponseError.
    """
    values, rows = _build_counter_values(now), require_list(body, where)
    for row in _select_objects(rows):
        counter = parse_integer(row.get("var_id")) if requested_counter is None else requested_counter
        if counter is not None:
            values.add(counter, row)
    if not values.by_counter_and_time:
        optional = {"var_id"} if requested_counter is not None else set[str]()
        _check_field_names(rows, where, {"value", "timestamp", "var_id"}, optional)
    return values


def parse_all_values(body: Any, now: datetime, where: str = "id=20") -> CounterValues:
    """Parse [{"var_id": "80001", "values": [{"timestamp": 1768424445000, "value": 411.9}]}]; raise ResponseError."""
    values, rows = _build_counter_values(now), require_list(body, where)
    all_readings: list[Any] = []
    for row in _select_objects(rows):
        counter, readings = parse_integer(row.get("var_id")), row.get("values")
        if counter is not None and isinstance(readings, list):
            for reading in _select_objects(readings):
                all_readings.append(reading)
                values.add(counter, reading)
    if not values.by_counter_and_time:
        _check_field_names(rows, where, {"var_id", "values"})
        _check_field_names(all_readings, f"{where}: values", {"value", "timestamp"})
    return values


def _select_objects(rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    return (row for row in rows if isinstance(row, dict))


def _check_field_names(rows: list[Any], where: str, known: Set[str], optional: Set[str] = frozenset()) -> None:
    """Raise ResponseError for a renamed field: no row has it, and there is an unknown one.

    Rows without a value or a time are usual; only together with an unknown name they show a change.
    """
    present = set().union(*_select_objects(rows)) if rows else set()
    if rows and not present:
        raise ResponseError(f"{where} has changed: it holds no objects")
    if present - known and (missing := sorted(known - optional - present)):
        raise ResponseError(f"{where} has changed: {missing[0]}: field required")


def convert_indexes(values: CounterValues, registers: Mapping[int, tuple[Register, Callable[[float], float]]]) -> Iterator[Index]:
    """Yield what registers showed; counters that are not shown are left out."""
    for (counter, milliseconds), value in values.by_counter_and_time.items():
        register, at = registers.get(counter), parse_milliseconds(milliseconds)
        if register and at and is_possible_value(scaled := register[1](value)):
            yield Index(register[0], scaled, at)
