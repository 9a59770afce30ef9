"""The calls of the command `raw` at Mijn Fluvius, and what a recording shows as it is."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from exporter.client.html_forms import PAGE_PHRASES
from exporter.client.session import Session
from exporter.errors import ConfigError
from exporter.portals.base import RawCall
from exporter.portals.fluvius.auth import METADATA_PATH
from exporter.portals.fluvius.client import FluviusApiClient
from exporter.portals.fluvius.config import FluviusConfig, MeterConfig
from exporter.portals.fluvius.days import DayRange, last_complete_day
from exporter.portals.fluvius.login_page import SECOND_FACTOR, TERMS
from exporter.portals.fluvius.refusals import TEXT_MESSAGES
from exporter.recording.rules import RedactionRules

REDACTION = RedactionRules(
    package=__package__,
    amounts=frozenset({"v", "oh", "ol", "ih", "il", "ok", "om", "o", "i"}),
    codes=frozenset(
        {"dc", "t", "st", "u", "vs", "ohvs", "olvs", "ihvs", "ilvs", "okvs", "omvs", "ovs", "ivs", "granularity", "status"}
    ),
    code_patterns=(r"AADB2C\d{5}",),
    phrases=(*TEXT_MESSAGES, SECOND_FACTOR, TERMS, *PAGE_PHRASES),
)

_METER_PARAMETERS = {
    "meter": "its place among the configured ones, from 0, its EAN or its name; the only one when left out",
    "serial": "one of its serials; default: the last",
}
_DAY_PARAMETERS = {"from": "first day, like 2031-03-09; default: ten days", "to": "last day; default: yesterday"}
RAW_CALLS: Mapping[str, RawCall] = {
    "config": RawCall("The OAuth metadata of the portal."),
    "days": RawCall("Amounts by the day.", _METER_PARAMETERS | _DAY_PARAMETERS),
    "intervals": RawCall("Quarter-hours, or hours of gas, of one day.", _METER_PARAMETERS | {"day": "default: yesterday"}),
    "peaks": RawCall("Monthly peaks.", _METER_PARAMETERS | _DAY_PARAMETERS),
}


async def fetch_raw(config: FluviusConfig, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
    """Make one of RAW_CALLS. Raise ConfigError for a missing, unknown or invalid parameter."""
    _check_parameters(call, parameters)
    if call == "config":
        return (await session.get(f"{config.portal_url}{METADATA_PATH}", headers=config.build_headers())).json()
    client, meter = FluviusApiClient(config, session), _find_meter(config, parameters.get("meter"))
    serial = parameters.get("serial", meter.serial[-1])
    if serial not in meter.serial:
        raise ConfigError("serial: is not one of this meter's in the configuration")
    last = _parse_day(parameters, "day" if call == "intervals" else "to") or last_complete_day(session.now, meter.commodity)
    if call == "intervals":
        return await client.fetch_history(
            meter, serial, DayRange(last, last, meter.commodity), config.get_interval_granularity(meter)
        )
    days = DayRange(_parse_day(parameters, "from") or last - timedelta(days=9), last, meter.commodity)
    if call == "peaks":
        return await client.fetch_peaks(meter, serial, days)
    return await client.fetch_history(meter, serial, days, config.get_day_granularity())


def _check_parameters(call: str, parameters: Mapping[str, str]) -> None:
    if call not in RAW_CALLS:
        raise ConfigError(f"there is no such call; there are {', '.join(RAW_CALLS)}")
    if unknown := sorted(parameters.keys() - RAW_CALLS[call].parameters.keys()):
        raise ConfigError(f"{call} has no key {unknown[0]}")


def _find_meter(config: FluviusConfig, text: str | None) -> MeterConfig:
    if text is None and len(config.meters) == 1:
        return config.meters[0]
    for number, meter in enumerate(config.meters):
        if text in (str(number), meter.ean, config.aliases.get(meter.ean, meter.ean)):
            return meter
    raise ConfigError(f"meter: must be 0 to {len(config.meters) - 1}, an EAN or an alias")


def _parse_day(parameters: Mapping[str, str], key: str) -> date | None:
    try:
        return date.fromisoformat(parameters[key]) if key in parameters else None
    except ValueError:
        raise ConfigError(f"{key}: is not a day like 2031-03-09") from None
