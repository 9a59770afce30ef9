"""What CEM answers: declared shapes for the lists of an account, a plain loop for the many readings."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from exporter.errors import ResponseError
from exporter.portals.base import AnswerShape, Listed, understand

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?\s*", re.ASCII)
AHEAD = timedelta(days=1)
"""How far a portal's clock may run ahead of ours; a reading later than that would stay the newest one for ever."""


def number(value: object) -> float | None:
    """Read a number, or digits as text; None for null, NaN and whatever else is no number (absent is never zero)."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def whole(value: object) -> int | None:
    """Read a whole number, or digits as text; None for everything else."""
    if type(value) is int:
        return value if abs(value) < 1 << 63 else None
    read = number(value)
    return int(read) if read is not None and read == int(read) and abs(read) < 1 << 63 else None


def instant(milliseconds: int | None) -> datetime | None:
    """Read a time in milliseconds since 1970 UTC; None where it is none or lies outside what a calendar can say."""
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _yes(value: object) -> bool:
    return value.strip().lower() in ("1", "true") if isinstance(value, str) else value is True or value == 1


Id = Annotated[int, BeforeValidator(whole)]
Whole = Annotated[int | None, BeforeValidator(whole)]
Value = Annotated[float | None, BeforeValidator(number)]
Text = Annotated[str, BeforeValidator(_text)]
Yes = Annotated[bool, BeforeValidator(_yes)]


class AccountAnswer(AnswerShape):
    """id=9: who holds the account; `log_do` is the end of access in milliseconds, or null."""

    name: Text = Field("", alias="show_name")
    person: Text = Field("", alias="osoba")
    company: Text = Field("", alias="firma")
    person_id: Text = Field("", alias="oso_id")
    company_id: Text = Field("", alias="fir_id")
    customer_id: Text = Field("", alias="zak_id")
    ends: Whole = Field(None, alias="log_do")


class Place(AnswerShape):
    """id=23: an object; its name is often empty, its parent may be missing from the answer."""

    id: Id = Field(alias="mis_id")
    parent: Whole = Field(None, alias="mis_idp")
    name: Text = Field("", alias="mis_nazev")


class Meter(AnswerShape):
    """id=108: a meter; `removed` (milliseconds) is not null once it was taken away, and it stays listed for ever."""

    id: Id = Field(alias="me_id")
    place: Whole = Field(None, alias="mis_id")
    serial: Text = Field("", alias="me_serial")
    name: Text = Field("", alias="me_desc")
    main_type: Whole = Field(None, alias="me_pot_id")
    removed: Whole = Field(None, alias="me_do")


class Counter(AnswerShape):
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


class CounterType(AnswerShape):
    """id=222: a counter type with its translation key, its unit (`"ppm "` has a blank at its end) and its `pot_type`."""

    id: Id = Field(alias="pot_id")
    key: Text = Field("", alias="lt_key")
    unit: Text = Field("", alias="jed_zkr")
    nature: Whole = Field(alias="pot_type")


class ValueType(AnswerShape):
    """id=11, cis=50: the maker's name of a `pot_type`."""

    id: Id = Field(alias="cik_fk")
    name: Text = Field("", alias="cik_nazev")


class Places(AnswerShape):
    """All objects."""

    data: Listed[Place]


class Meters(AnswerShape):
    """All meters."""

    data: Listed[Meter]


class Counters(AnswerShape):
    """All counters."""

    data: Listed[Counter]


class Types(AnswerShape):
    """All counter types."""

    data: Listed[CounterType]


class ValueTypes(AnswerShape):
    """All kinds of value."""

    data: Listed[ValueType]


Rows = TypeVar("Rows", bound=AnswerShape)


def one(answer: Any) -> Any:
    """Unwrap an object: it comes bare or as {"data": {...}, "action": "get"}."""
    inner = answer.get("data") if isinstance(answer, dict) else None
    return inner if isinstance(inner, dict) else answer


def many(answer: Any) -> list[Any] | None:
    """Unwrap a list: it comes bare or as {"data": [...], "action": "get"}; None when it is neither."""
    inner = answer.get("data") if isinstance(answer, dict) else answer
    return inner if isinstance(inner, list) else None


def rows(answer: Any, where: str) -> list[Any]:
    """Unwrap a list, or raise ResponseError."""
    if (found := many(answer)) is None:
        raise ResponseError(f"{where} has changed: it is no list")
    return found


def table(shape: type[Rows], answer: Any, where: str) -> Rows:
    """Read a list by its declared shape, bare or wrapped."""
    return understand(shape, {"data": rows(answer, where)}, where)


@dataclass(slots=True)
class Values:
    """Values read out of an answer: (counter, milliseconds) to the portal's number; `odd` says a time was impossible.

    A doubled time counts once: the portal repeats some.
    """

    latest: float
    found: dict[tuple[int, int], float] = field(default_factory=dict)
    odd: bool = False

    def add(self, counter: int, row: Mapping[str, Any]) -> None:
        """Take one {"value": 412.008, "timestamp": 1768428045000}; one without value or time is no reading."""
        value, time = row.get("value"), row.get("timestamp")
        if (type(value) is not float or not math.isfinite(value)) and (value := number(value)) is None:
            return
        if time is None:
            return
        if (milliseconds := time if type(time) is int else whole(time)) is not None and 0 < milliseconds <= self.latest:
            self.found[counter, milliseconds] = value
        else:
            self.odd = True


def _values(now: datetime) -> Values:
    return Values((now + AHEAD).timestamp() * 1000)


def last_values(answer: Any, now: datetime, asked: int | None = None, where: str = "id=8") -> Values:
    """Understand [{"value": 412.008, "timestamp": 1768428045000, "var_id": 80001}], in any order, with any left out.

    Where one counter was `asked`, `var_id` may be absent (id=8 by GET, id=3). Raises ResponseError.
    """
    values, listed = _values(now), rows(answer, where)
    for row in _objects(listed):
        counter = whole(row.get("var_id")) if asked is None else asked
        if counter is not None:
            values.add(counter, row)
    if not values.found:
        _unchanged(listed, where, {"value", "timestamp", "var_id"}, {"var_id"} if asked is not None else set())
    return values


def all_values(answer: Any, now: datetime, where: str = "id=20") -> Values:
    """Understand [{"var_id": "80001", "values": [{"timestamp": 1768424445000, "value": 411.9}]}]; raises ResponseError."""
    values, listed = _values(now), rows(answer, where)
    every: list[Any] = []
    for row in _objects(listed):
        counter, readings = whole(row.get("var_id")), row.get("values")
        if counter is not None and isinstance(readings, list):
            for reading in _objects(readings):
                every.append(reading)
                values.add(counter, reading)
    if not values.found:
        _unchanged(listed, where, {"var_id", "values"})
        _unchanged(every, f"{where}: values", {"value", "timestamp"})
    return values


def _objects(found: Iterable[Any]) -> Iterator[dict[str, Any]]:
    return (row for row in found if isinstance(row, dict))


def _unchanged(found: list[Any], where: str, keys: set[str], free: Set[str] = frozenset()) -> None:
    """Tell a renamed field from one left out: no row has it, and there is another that we do not know.

    Entries without a value or a time are the portal's habit; only a new name beside the hole says that it changed.
    """
    seen = set().union(*_objects(found)) if found else set()
    if found and not seen:
        raise ResponseError(f"{where} has changed: it holds no objects")
    if seen - keys and (gone := sorted(keys - free - seen)):
        raise ResponseError(f"{where} has changed: {gone[0]}: field required")
