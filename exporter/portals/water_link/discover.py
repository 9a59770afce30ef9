"""What `discover` shows of a Water-Link account: its configured meters, for the portal has no list of meters."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from exporter.models import Discovery, Facts, Finding, Index, Interval, PartialFailure, Unit, VisitPart
from exporter.portals.water_link.client import RefusedMeterError, WaterLinkApiClient
from exporter.portals.water_link.days import ZONE
from exporter.portals.water_link.feeds import fetch_meter


async def discover_meters(
    client: WaterLinkApiClient, numbers: Sequence[str], portal_url: str, now: datetime, *, show_personal_data: bool
) -> Discovery:
    """Return what the portal states of each configured meter."""
    findings, found = list[Finding](), list[str]()
    for index, number in enumerate(numbers):
        try:
            parts = [part async for part in fetch_meter(client, number, f"meters[{index}]", now)]
        except RefusedMeterError as error:
            findings.append(build_meter_finding(number, [PartialFailure(error)], show_personal_data))
        else:
            findings.append(build_meter_finding(number, parts, show_personal_data))
            found.append(number)
    selected = ", ".join(f'"{number}"' for number in found or numbers)
    note = f"The portal lists no meters: a meter's number is in its address there, {portal_url}/water-meter/XXXXXX."
    return Discovery(tuple(findings), f"meters: [{selected}]", (note,))


def build_meter_finding(number: str, parts: Iterable[VisitPart], show_personal_data: bool) -> Finding:
    """Return what the portal states of a meter, its last reading, and how many days of two months it has."""
    facts: dict[str, object] = {}
    days = 0
    for part in parts:
        match part:
            case Facts(point, values):
                facts |= {"address": point.address} if show_personal_data and point.address else {}
                facts |= {str(fact): value for fact, value in values.items()}
            case Index(_, value, at):
                facts |= {"index": f"{value:.3f} {Unit.M3}", "read": at.astimezone(ZONE).isoformat()}
            case Interval():
                days += 1
            case PartialFailure(error):
                facts["error"] = str(error)
    register = Finding(f"register total, {Unit.M3}", {"days of this and the previous month": days})
    return Finding(f"water meter {number}", facts, (register,))
