"""The calls of the command `raw` at CEM, and what a recording shows as it is."""

from collections.abc import Mapping
from typing import Any

from exporter.errors import ResponseError
from exporter.portals.base import RawCall
from exporter.portals.cem.client import FUNCTIONS, CemApiClient, RefusedCallError
from exporter.recording.rules import RedactionRules

_CODES = """
id cis pot_id pot_type me_pot_id mit_id met_id jed_id ptv_id cik_fk cik_cislo poc_typode poc_perioda var_type mis_sort me_alarm
"""
_INSTANTS = "timestamp var_lasttime valid_to log_od log_do me_od me_do me_over mis_od mis_do from_ms to_ms"
_UNITS = "kWh MWh Wh GJ MJ kW W m³ m3 l °C KPD° % kPa HCA ppm ppb dBm V cm díl. bar jedn. kVArh"

REDACTION = RedactionRules(
    package=__package__,
    amounts=frozenset({"value", "var_lastvar"}),
    codes=frozenset(_CODES.split()),
    instants=frozenset(_INSTANTS.split()),
    code_patterns=(r"LB_[A-Z]{2,8}_[A-Z0-9_]{1,20}",),
    words=frozenset({*_UNITS.split(), "cemapi"}),
)

VALUE_TYPES_LIST = "50"
"""The code list of the kinds of value (`pot_type`)."""

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

_FUNCTION_NAMES = {"user_info": "account"}
_NUMBERED = {"mis_id": "Object", "me_id": "Meter", "var_id": "Counter"}


async def fetch_raw(client: CemApiClient, call: str, parameters: Mapping[str, str]) -> Any:
    """Return the portal's own JSON; parameters that the call does not know are not sent."""
    known = {name: value for name, value in parameters.items() if name in RAW_CALLS[call].parameters}
    if call == "value_types":
        known = {"cis": VALUE_TYPES_LIST} | known
    try:
        return await client.get_json(FUNCTIONS[_FUNCTION_NAMES.get(call, call)], known)
    except RefusedCallError as error:
        name = next((name for name in known if name in _NUMBERED), None)
        if error.status != 404 or name is None:
            raise
        raise ResponseError(f"{_NUMBERED[name]} {known[name]} is not in this account (404): check the number") from None
