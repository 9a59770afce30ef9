"""The read-only calls of CEM that the command `raw` offers."""

from collections.abc import Mapping
from typing import Any

from exporter.portals.base import RawCall
from exporter.portals.cem.client import FUNCTIONS, VALUE_TYPES_LIST, CemApiClient

RAW_CALLS: Mapping[str, RawCall] = {
    "user_info": RawCall("who holds the account (id=9)"),
    "objects": RawCall("objects: houses, flats, installation points (id=23)"),
    "meters": RawCall("meters (id=108)", {"mis_id": "number of an object"}),
    "counters": RawCall("counters with their last values (id=107)", {"me_id": "number of a meter"}),
    "counter_last": RawCall("last reading of a counter (id=8)", {"var_id": "number of a counter"}, frozenset({"var_id"})),
    "counter_history": RawCall(
        "readings of a counter (id=3)",
        {"var_id": "number of a counter", "from": "first day, like 2031-03-09", "to": "last day"},
        frozenset({"var_id", "from", "to"}),
    ),
    "types": RawCall("counter types and their units (id=222)"),
    "value_types": RawCall("a code list (id=11)", {"cis": "number of the list: 50 kinds of value (default), 135 devices"}),
}


async def fetch_raw(client: CemApiClient, call: str, parameters: Mapping[str, str]) -> Any:
    """Return the portal's own JSON; parameters that the call does not know are not sent."""
    known = {name: value for name, value in parameters.items() if name in RAW_CALLS[call].parameters}
    if call == "value_types":
        known = {"cis": VALUE_TYPES_LIST} | known
    return await client.get_json(FUNCTIONS[call], known)
