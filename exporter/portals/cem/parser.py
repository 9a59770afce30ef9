"""The responses of CEM: the account's holder, and values, which a plain loop parses because they are many."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.errors import ResponseError
from exporter.models import Index, Register, is_possible_value
from exporter.portals.base import ResponseModel, build_skip_notes

_NUMBER_PATTERN = re.compile(r"\s*[+-]?[0-9]{1,30}([.,][0-9]{1,30})?([eE][+-]?[0-9]{1,3})?\s*", re.ASCII)
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""How far the portal's clock may be ahead of ours; a later reading would stay the newest one for ever."""
FIRST_YEAR = datetime(2000, 1, 1, tzinfo=UTC)
"""Radio modules whose clock was never set state times of 1970."""
IMPOSSIBLE_TIME_NOTE = "Some readings carry an impossible time and were left out."


def parse_number(value: object) -> float | None:
    """Return a number, or digits as text (412,008 too), as a float; None for everything else: absent is never zero."""
    if isinstance(value, str):
        value = float(value.replace(",", ".")) if _NUMBER_PATTERN.fullmatch(value) else None
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
    """id=9: who holds the account; `log_od` and `log_do` are start and end of access in milliseconds, or null."""

    name: CleanText = Field("", alias="show_name")
    person: CleanText = Field("", alias="osoba")
    company: CleanText = Field("", alias="firma")
    person_id: CleanText = Field("", alias="oso_id")
    company_id: CleanText = Field("", alias="fir_id")
    customer_id: CleanText = Field("", alias="zak_id")
    access_start: OptionalInteger = Field(None, alias="log_od")
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
        raise ResponseError(f"{where} has changed: expected a list")
    return rows


@dataclass(slots=True)
class CounterValues:
    """The values of a response: (counter, milliseconds) to the portal's number.

    A repeated time counts once: the portal repeats some. `skipped` counts what could not be understood, by field; absent
    values and times are no such thing.
    """

    max_milliseconds: float
    by_counter_and_time: dict[tuple[int, int], float] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    @classmethod
    def empty(cls, now: datetime) -> "CounterValues":
        """Return no values yet; later ones may not lie after `now`."""
        return cls((now + MAX_CLOCK_SKEW).timestamp() * 1000)

    def add(self, counter: int, row: Any) -> None:
        """Add one {"value": 412.008, "timestamp": 1768428045000}; without value or time it is no reading."""
        if not isinstance(row, dict):
            self.skipped["an entry"] += 1
            return
        value, time = row.get("value"), row.get("timestamp")
        if value is None or time is None:
            return
        if (type(value) is not float or not math.isfinite(value)) and (value := parse_number(value)) is None:
            self.skipped["value"] += 1
            return
        if (
            milliseconds := time if type(time) is int else parse_integer(time)
        ) is not None and _MIN_MILLISECONDS < milliseconds <= self.max_milliseconds:
            self.by_counter_and_time[counter, milliseconds] = value
        else:
            self.skipped["timestamp"] += 1

    def update(self, other: "CounterValues") -> None:
        """Add the values of another response."""
        self.by_counter_and_time.update(other.by_counter_and_time)
        self.skipped += other.skipped


def build_value_notes(skipped: Counter[str], where: str) -> list[str]:
    """Return notes on the values that were left out."""
    times = [IMPOSSIBLE_TIME_NOTE] if skipped["timestamp"] else []
    return [*times, *build_skip_notes(where, skipped.keys() - {"timestamp"})]


_MIN_MILLISECONDS = FIRST_YEAR.timestamp() * 1000


def parse_last_values(body: Any, now: datetime, requested_counter: int | None = None, where: str = "id=8") -> CounterValues:
    """Parse [{"value": 412.008, "timestamp": 1768428045000, "var_id": 80001}], in any order, with any left out.

    With `requested_counter`, `var_id` may be absent (id=8 by GET, id=3). Raise ResponseError.
    """
    values, rows = CounterValues.empty(now), require_list(body, where)
    for row in rows:
        if not isinstance(row, dict):
            values.skipped["an entry"] += 1
            continue
        counter = parse_integer(row.get("var_id")) if requested_counter is None else requested_counter
        if counter is not None:
            values.add(counter, row)
        else:
            values.skipped["var_id"] += 1
    if not values.by_counter_and_time:
        optional = {"var_id"} if requested_counter is not None else set[str]()
        _check_field_names(rows, where, {"value", "timestamp", "var_id"}, optional)
        _require_any_value(values, where)
    return values


def parse_all_values(body: Any, now: datetime, where: str = "id=20") -> CounterValues:
    """Parse [{"var_id": "80001", "values": [{"timestamp": 1768424445000, "value": 411.9}]}]; raise ResponseError."""
    values, rows = CounterValues.empty(now), require_list(body, where)
    all_readings: list[Any] = []
    for row in rows:
        if not isinstance(row, dict):
            values.skipped["an entry"] += 1
            continue
        counter, readings = parse_integer(row.get("var_id")), row.get("values")
        if counter is None:
            values.skipped["var_id"] += 1
        elif isinstance(readings, list):
            all_readings += readings
            for reading in readings:
                values.add(counter, reading)
        elif readings is not None:
            values.skipped["values"] += 1
    if not values.by_counter_and_time:
        _check_field_names(rows, where, {"var_id", "values"})
        _check_field_names(all_readings, f"{where}: values", {"value", "timestamp"})
        _require_any_value(values, where)
    return values


def _require_any_value(values: CounterValues, where: str) -> None:
    """Raise ResponseError for a response of which nothing could be understood; an impossible time is understood."""
    if fields := [name for name in values.skipped if name != "timestamp"]:
        raise ResponseError(f"{where} has changed: cannot parse {fields[0]}")


def _check_field_names(rows: list[Any], where: str, known: Set[str], optional: Set[str] = frozenset()) -> None:
    """Raise ResponseError for a renamed field: no row has it, and there is an unknown one.

    Rows without a value or a time are usual; only together with an unknown name they show a change.
    """
    present = set().union(*(row for row in rows if isinstance(row, dict))) if rows else set()
    if rows and not present:
        raise ResponseError(f"{where} has changed: expected objects")
    if present - known and (missing := sorted(known - optional - present)):
        raise ResponseError(f"{where} has changed: {missing[0]}: field required")


def convert_indexes(
    values: CounterValues, registers: Mapping[int, Register], scales: Mapping[str, Callable[[float], float]]
) -> Iterator[Index]:
    """Yield what registers showed; counters that are not shown are left out."""
    for (counter, milliseconds), value in values.by_counter_and_time.items():
        register, at = registers.get(counter), parse_milliseconds(milliseconds)
        if register and at and is_possible_value(scaled := scales[register.type_id](value)):
            yield Index(register, scaled, at)
