"""What `discover` shows of a Water-Link account: its configured meters, for the portal has no list of meters."""

from datetime import datetime

from exporter.errors import ResponseError
from exporter.models import Discovery, Finding, Index, Unit
from exporter.portals.water_link.client import RefusedMeterError, WaterLinkApiClient
from exporter.portals.water_link.config import WaterLinkConfig
from exporter.portals.water_link.feeds import read_month
from exporter.portals.water_link.parser import ZONE, build_usage_point, local_day, parse_meter, previous_month


async def discover_meters(client: WaterLinkApiClient, config: WaterLinkConfig, now: datetime) -> Discovery:
    """Return what the portal states of each configured meter."""
    findings, found = list[Finding](), list[str]()
    for index, number in enumerate(config.meters):
        try:
            findings.append(await _discover_meter(client, number, f"meters[{index}]", now, config.personal_data))
        except RefusedMeterError as error:
            findings.append(Finding(f"water meter {number}", {"error": str(error)}, is_missing=True))
        else:
            found.append(number)
    selected = ", ".join(f'"{number}"' for number in found or config.meters)
    note = f"The portal lists no meters: a meter's number is in its address there, {config.portal_url}/water-meter/XXXXXX."
    return Discovery(tuple(findings), f"meters: [{selected}]", (note,))


async def _discover_meter(client: WaterLinkApiClient, number: str, where: str, now: datetime, keep_personal: bool) -> Finding:
    """Return what the portal states of a meter, its last reading, and how many days of two months it has."""
    facts, notes = await _describe_state(client, number, where, now, keep_personal)
    days, today = 0, local_day(now)
    for month in (previous_month(today), today):
        try:
            result = await read_month(client, build_usage_point(number), month, where, now)
        except RefusedMeterError:
            raise
        except ResponseError as error:
            notes.append(str(error))
        else:
            days += len(result.readings)
            notes += result.notes
    if is_missing := not days and "index" not in facts:
        notes.append("the portal has no reading of this meter: is its number right?")
    if notes:
        facts["error"] = "; ".join(dict.fromkeys(notes))
    register = Finding(f"register total, {Unit.M3}", {"days of this and the previous month": days})
    return Finding(f"water meter {number}", facts, (register,), is_missing=is_missing)


async def _describe_state(
    client: WaterLinkApiClient, number: str, where: str, now: datetime, keep_personal: bool
) -> tuple[dict[str, object], list[str]]:
    """Return the facts of a meter's state, and notes on what is missing."""
    response = await client.get_meter(number, where)
    try:
        state = parse_meter(number, response.json(), where, now)
    except ResponseError as error:
        return {}, [str(error)]
    (stated,) = state.facts
    facts: dict[str, object] = {"address": stated.usage_point.address} if keep_personal and stated.usage_point.address else {}
    facts |= {str(fact): value for fact, value in stated.values.items()}
    for reading in state.readings:
        if isinstance(reading, Index):
            facts |= {"index": f"{reading.value:.3f} {Unit.M3}", "read": reading.at.astimezone(ZONE).isoformat()}
    return facts, list(state.notes)
