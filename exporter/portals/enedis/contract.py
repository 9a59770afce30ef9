"""The contract: subscribed power and last activation; the customer's data is never parsed."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.errors import NoDataError
from exporter.models import Commodity, Fact, Facts, Note, UsagePoint
from exporter.portals.base import FailFastList, ResponseModel, parse_response
from exporter.portals.enedis.client import ConfiguredPoint, EnedisApiClient
from exporter.portals.enedis.refusals import ConsentError, RetryNextWeekError

_POWER_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k?VA)\s*", re.ASCII | re.IGNORECASE)
_DAY_PATTERN = re.compile(r"(\d{4}-\d{2}-\d{2})([T+ Z-].*)?", re.ASCII)


def _split_power(text: Any) -> Any:
    """Parse "9 kVA" as {"value": "9", "unit": "kVA"}."""
    found = _POWER_PATTERN.fullmatch(text) if isinstance(text, str) else None
    return {"value": found[1], "unit": found[2]} if found else text


def _extract_day(text: Any) -> Any:
    """Parse the day of "2019-03-04+01:00" and "2019-03-04T00:00:00+0100"; it is a local day."""
    found = _DAY_PATTERN.fullmatch(text) if isinstance(text, str) else None
    return found[1] if found else text or None


ContractDay = Annotated[date | None, BeforeValidator(_extract_day)]


class SubscribedPowerResponse(ResponseModel):
    """A subscribed power with its unit."""

    value: float
    unit: Annotated[str, Field(pattern="^(?i:k?va)$")]


class ContractResponse(ResponseModel):
    """The parsed part of a contract; v5 has other names for the days."""

    contract_type: Annotated[str, Field(alias="contract_type")] = ""
    subscribed_power: Annotated[
        SubscribedPowerResponse | None, BeforeValidator(_split_power), Field(alias="subscribed_power")
    ] = None
    contract_start: ContractDay = None
    last_activation_date: ContractDay = None

    @property
    def power_kva(self) -> float | None:
        """Subscribed power in kVA."""
        if self.subscribed_power is None:
            return None
        return self.subscribed_power.value / (1 if self.subscribed_power.unit.lower() == "kva" else 1000)

    @property
    def activation_day(self) -> date | None:
        """The day from which the meter measures for this contract."""
        return self.last_activation_date or self.contract_start


class _ContractList2026(ResponseModel):
    contracts: FailFastList[ContractResponse]


class _UsagePointV5(ResponseModel):
    contracts: ContractResponse


class _CustomerV5(ResponseModel):
    usage_points: FailFastList[_UsagePointV5]


class _ContractResponseV5(ResponseModel):
    customer: _CustomerV5


def parse_contract(body: Any) -> ContractResponse:
    """Return the consumption contract of a response of 2026 (a list) or v5 (`customer`).

    Raise NoDataError without a subscribed power, ResponseError when the response has changed.
    """
    if isinstance(body, dict) and "customer" in body:
        found = [point.contracts for point in parse_response(_ContractResponseV5, body, "the contract").customer.usage_points]
    else:
        found = parse_response(_ContractList2026, {"contracts": body}, "the contract").contracts
    powered = [each for each in found if each.power_kva is not None]
    # "Contrat GRD-A" is the contract of a producer.
    consuming = [each for each in powered if not each.contract_type.endswith("GRD-A")]
    if not consuming:
        raise NoDataError("the contract states no subscribed power")
    return consuming[0]


CONTRACT_KEPT_FOR = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class ContractTerms:
    """A contract's subscribed power (kVA) and first day, or why they are unavailable."""

    power_kva: float | None = None
    activation_day: date | None = None
    unavailable_reason: str = ""

    def build_results(self, prm: str) -> list[Facts | Note]:
        """Return the terms as parts of a visit."""
        if self.unavailable_reason:
            return [Note(self.unavailable_reason)]
        point = UsagePoint(prm, Commodity.ELECTRICITY)
        return [Facts(point, {Fact.SUBSCRIBED_POWER: self.power_kva})] if self.power_kva is not None else []


async def load_terms(client: EnedisApiClient, point: ConfiguredPoint) -> ContractTerms:
    """Return the contract's terms, stored or fetched; empty ones where the access has no contracts.

    A refused contract is no failure. Raise PortalErrors other than LoginError and NoDataError.
    """
    if client.build_contract_request(point) is None:
        return ContractTerms()
    key, now = f"contract:{point.prm}", client.session.now
    if (stored := await client.session.store.get(key, now)) is None:
        stored = await _fetch_terms(client, point)
        await client.session.store.put(key, stored, now + CONTRACT_KEPT_FOR)
    activation = stored.get("activation")
    return ContractTerms(stored.get("power"), date.fromisoformat(activation) if activation else None, stored.get("why_not", ""))


async def _fetch_terms(client: EnedisApiClient, point: ConfiguredPoint) -> dict[str, Any]:
    try:
        found = parse_contract(await client.fetch_contract(point))
    except (RetryNextWeekError, ConsentError) as refused:
        return {"why_not": str(refused)}
    except NoDataError:
        return {}
    return {"power": found.power_kva, "activation": found.activation_day.isoformat() if found.activation_day else None}
