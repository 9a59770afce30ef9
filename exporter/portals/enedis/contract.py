"""The contract: subscribed power and last activation; whatever names the customer is never read."""

import re
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.errors import NoDataError
from exporter.portals.base import AnswerShape, Listed, understand

_POWER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k?VA)\s*", re.ASCII | re.IGNORECASE)
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})([T+ Z-].*)?", re.ASCII)


def _power(text: Any) -> Any:
    """Read "9 kVA" as {"value": "9", "unit": "kVA"}."""
    found = _POWER.fullmatch(text) if isinstance(text, str) else None
    return {"value": found[1], "unit": found[2]} if found else text


def _day(text: Any) -> Any:
    """Read the day of "2019-03-04+01:00" and "2019-03-04T00:00:00+0100"; it is local as it stands."""
    found = _DAY.fullmatch(text) if isinstance(text, str) else None
    return found[1] if found else text or None


Day = Annotated[date | None, BeforeValidator(_day)]


class Power(AnswerShape):
    """A subscribed power with its unit."""

    value: float
    unit: Annotated[str, Field(pattern="^(?i:k?va)$")]


class Contract(AnswerShape):
    """What is kept of a contract; v5 calls the days otherwise."""

    kind: Annotated[str, Field(alias="contract_type")] = ""
    subscribed: Annotated[Power | None, BeforeValidator(_power), Field(alias="subscribed_power")] = None
    contract_start: Day = None
    last_activation_date: Day = None

    @property
    def power(self) -> float | None:
        """Subscribed power in kVA."""
        if self.subscribed is None:
            return None
        return self.subscribed.value / (1 if self.subscribed.unit.lower() == "kva" else 1000)

    @property
    def activation(self) -> date | None:
        """The day from which the meter measures for this contract."""
        return self.last_activation_date or self.contract_start


class _Contracts(AnswerShape):
    contracts: Listed[Contract]


class _OldPoint(AnswerShape):
    contracts: Contract


class _OldCustomer(AnswerShape):
    usage_points: Listed[_OldPoint]


class _Old(AnswerShape):
    customer: _OldCustomer


def contract(answer: Any) -> Contract:
    """Find the consumption contract in an answer of 2026 (a list) or v5 (`customer`).

    Raises NoDataError when there is none with a subscribed power, ResponseError when the answer is not what it was.
    """
    if isinstance(answer, dict) and "customer" in answer:
        found = [point.contracts for point in understand(_Old, answer, "the contract").customer.usage_points]
    else:
        found = understand(_Contracts, {"contracts": answer}, "the contract").contracts
    powered = [each for each in found if each.power is not None]
    # "Contrat GRD-A" is the contract of a producer.
    consuming = [each for each in powered if not each.kind.endswith("GRD-A")]
    if not consuming:
        raise NoDataError("the contract states no subscribed power")
    return consuming[0]
