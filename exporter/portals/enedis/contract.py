"""The contract: subscribed power and last activation; the customer's data is never parsed."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.errors import FeedRefusedError, NoDataError, ResponseError, UnreachableError
from exporter.models import Direction
from exporter.portals.base import ResponseModel, TolerantList, build_skip_notes, parse_tolerantly
from exporter.portals.enedis.client import EnedisApiClient, describe_call
from exporter.portals.enedis.measures import ConfiguredPoint, Measure
from exporter.portals.enedis.refusals import ConsentError

_POWER_PATTERN = re.compile(r"\s*(\d+(?:[.,]\d+)?)\s*(k?VA|k?W)?\s*", re.ASCII | re.IGNORECASE)
_DAY_PATTERN = re.compile(r"(\d{4}-\d{2}-\d{2})([T+ Z-].*)?", re.ASCII)


def _parse_power(power: Any) -> float | None:
    """Return the kVA of "9 kVA" or {"value": "9", "unit": "kVA"}; examples of Enedis call the unit kW, too.

    Raise ValueError for a power that cannot be understood.
    """
    if isinstance(power, dict) and "value" in power:
        power = "" if power["value"] in ("", None) else f"{power['value']} {power.get('unit') or ''}"
    if power in ("", None):
        return None
    if not isinstance(power, str | int | float) or not (found := _POWER_PATTERN.fullmatch(str(power))):
        raise ValueError("not a power")
    return float(found[1].replace(",", ".")) / (1000 if (found[2] or "k").lower() in {"va", "w"} else 1)


def _extract_day(text: Any) -> date | None:
    """Parse the day of "2019-03-04+01:00" and "2019-03-04T00:00:00+0100"; it is a local day, and no more than a hint."""
    found = _DAY_PATTERN.fullmatch(text) if isinstance(text, str) else None
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


ContractDay = Annotated[date | None, BeforeValidator(_extract_day)]


class ContractResponse(ResponseModel):
    """The parsed part of a contract; v5 has other names for the days."""

    contract_type: str | None = None
    segment: str | None = None
    subscribed_power: Annotated[float | None, BeforeValidator(_parse_power)] = None
    contract_start: ContractDay = None
    last_activation_date: ContractDay = None

    @property
    def is_production(self) -> bool:
        """Whether it is the contract of a producer: `Contrat GRD-A`, segment `P4`."""
        return (self.contract_type or "").endswith("GRD-A") or (self.segment or "").startswith("P")


class _ContractList2026(ResponseModel):
    contracts: TolerantList[ContractResponse]


class _ActivationResponse(ResponseModel):
    consumption_last_activation_date: ContractDay = None
    generation_last_activation_date: ContractDay = None


class _ContractObject2026(ResponseModel):
    contracts: Annotated[TolerantList[ContractResponse] | None, Field(alias="situation_contrat")] = None
    activation: Annotated[_ActivationResponse | None, Field(alias="synthese_contrat")] = None


class _UsagePointV5(ResponseModel):
    contracts: ContractResponse


class _CustomerV5(ResponseModel):
    usage_points: TolerantList[_UsagePointV5]


class _ContractResponseV5(ResponseModel):
    customer: _CustomerV5


@dataclass(frozen=True, slots=True)
class ContractTerms:
    """The terms of a contract: subscribed power (kVA), and since when each direction is measured; or why they are unavailable."""

    power_kva: float | None = None
    activation_day: date | None = None
    production_day: date | None = None
    unavailable_reason: str = ""

    def get_start(self, measure: Measure) -> date | None:
        """Return since when a series is measured by this contract; it may have been before by another one."""
        return self.activation_day if measure.direction is Direction.CONSUMPTION else self.production_day


def parse_contract(body: Any) -> tuple[ContractTerms, Counter[str]]:
    """Return the terms of a response and what was left out, by field.

    It is a list (2026), an object around it (MyElectricalData v2), or `customer` (v5).
    Raise NoDataError when it states nothing of them, ResponseError when nothing of it can be understood.
    """
    activation: _ActivationResponse | None = None
    if isinstance(body, dict) and "customer" in body:
        found, skipped = parse_tolerantly(_ContractResponseV5, body, "the contract")
        contracts = [point.contracts for point in found.customer.usage_points]
    elif isinstance(body, dict) and body.keys() & {"situation_contrat", "synthese_contrat"}:
        whole, skipped = parse_tolerantly(_ContractObject2026, body, "the contract")
        contracts, activation = whole.contracts or [], whole.activation
    else:
        listed, skipped = parse_tolerantly(_ContractList2026, {"contracts": body}, "the contract")
        contracts = listed.contracts
    terms = _build_terms(contracts, activation or _ActivationResponse())
    if terms == ContractTerms():
        raise NoDataError("the contract states no subscribed power")
    return terms, skipped


def _build_terms(contracts: Sequence[ContractResponse], activation: _ActivationResponse) -> ContractTerms:
    consuming = [each for each in contracts if not each.is_production]
    producing = [each for each in contracts if each.is_production]
    return ContractTerms(
        next((each.subscribed_power for each in consuming if each.subscribed_power is not None), None),
        activation.consumption_last_activation_date or _find_start(consuming),
        activation.generation_last_activation_date or _find_start(producing),
    )


def _find_start(contracts: Sequence[ContractResponse]) -> date | None:
    return min((day for each in contracts if (day := each.last_activation_date or each.contract_start)), default=None)


CONTRACT_KEPT_FOR = timedelta(days=7)
OUTAGE_KEPT_FOR = timedelta(hours=6)


async def load_terms(client: EnedisApiClient, point: ConfiguredPoint) -> ContractTerms:
    """Return the contract's terms, stored or fetched; empty ones where the access has no contracts.

    The measures do without it: one that is refused, missing or strange is a reason that is kept for a week. Raise
    LoginError and RateLimitError.
    """
    if client.build_contract_request(point) is None:
        return ContractTerms()
    key, now = f"contract:{point.prm}", client.session.now
    if (stored := await client.session.store.get(key, now)) is None:
        stored, kept_for = await _fetch_terms(client, point)
        await client.session.store.put(key, stored, now + kept_for)
    return ContractTerms(
        stored.get("power"),
        _extract_day(stored.get("activation")),
        _extract_day(stored.get("production")),
        stored.get("why_not", ""),
    )


async def _fetch_terms(client: EnedisApiClient, point: ConfiguredPoint) -> tuple[dict[str, Any], timedelta]:
    where = describe_call(point, "contract")
    try:
        found, skipped = parse_contract(await client.fetch_contract(point))
    except UnreachableError as outage:
        return {"why_not": str(outage)}, OUTAGE_KEPT_FOR
    except (FeedRefusedError, ConsentError) as refusal:
        return {"why_not": str(refusal)}, CONTRACT_KEPT_FOR
    except ResponseError as change:
        return {"why_not": f"{where}: {str(change).removeprefix(f'{where}: ')}"}, CONTRACT_KEPT_FOR
    except NoDataError:
        return {}, CONTRACT_KEPT_FOR
    days = {"activation": found.activation_day, "production": found.production_day}
    terms: dict[str, Any] = {"power": found.power_kva} | {name: str(day) for name, day in days.items() if day}
    notes = build_skip_notes(where, skipped)
    return terms | ({"why_not": notes[0]} if notes else {}), CONTRACT_KEPT_FOR
