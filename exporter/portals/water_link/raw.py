"""The calls of the command `raw` at Water-Link, and what a recording shows as it is."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from exporter.errors import PortalError
from exporter.portals.base import RawCall
from exporter.portals.water_link.auth import LOCKED, MAINTENANCE
from exporter.portals.water_link.client import WaterLinkApiClient
from exporter.portals.water_link.config import check_meter_number
from exporter.portals.water_link.parser import local_day, parse_month_key
from exporter.recording.rules import RedactionRules

REDACTION = RedactionRules(
    package=__package__,
    amounts=frozenset({"meterReading", "total"}),
    codes=frozenset({"day", "daysOffset", "index", "size"}),
    phrases=(MAINTENANCE, LOCKED),
)

RAW_CALLS: Mapping[str, RawCall] = {
    "meter": RawCall("The state of a meter.", {"meter": "six digits; the first configured one"}),
    "days": RawCall("The volumes of a month.", {"meter": "six digits; the first configured one", "month": "YYYY-MM; this one"}),
    "alarms": RawCall("The ten newest alarms.", {"meter": "six digits; the first configured one"}),
}


async def fetch_raw(
    client: WaterLinkApiClient, call: str, parameters: Mapping[str, str], *, default_meter: str, now: datetime
) -> Any:
    """Return the portal's own JSON about one meter, configured or not; raise PortalError for wrong parameters."""
    try:
        number = str(check_meter_number(parameters.get("meter", default_meter)))
        month = parse_month_key(parameters["month"]) if "month" in parameters else local_day(now)
    except ValueError as error:
        raise PortalError(str(error)) from None
    where = f"Meter {number}"
    match call:
        case "meter":
            response = await client.get_meter(number, where)
        case "days":
            response = await client.get_month(number, month, where)
        case "alarms":
            response = await client.get_alarms(number, where)
        case _:
            raise PortalError(f"there is no such call; there are {', '.join(RAW_CALLS)}")
    return response.json()
