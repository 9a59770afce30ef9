"""The portal's own answers, for `raw`."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from exporter.errors import ConfigError
from exporter.portals.base import Call
from exporter.portals.fluvius.client import METADATA
from exporter.portals.fluvius.days import Window, last_whole_day
from exporter.portals.fluvius.desk import Desk
from exporter.portals.fluvius.keys import Keys, Meter
from exporter.session import Session

_METER = {
    "meter": "its place among the configured ones, from 0, or its EAN",
    "serial": "one of its serials; the last unless told",
}
_SPAN = {"from": "first day, like 2031-03-09; ten days unless told", "to": "last day; yesterday unless told"}
CALLS: Mapping[str, Call] = {
    "config": Call("The sign-in metadata of the portal."),
    "days": Call("Amounts by the day.", _METER | _SPAN, frozenset({"meter"})),
    "intervals": Call(
        "Quarter-hours, or hours of gas, of one day.", _METER | {"day": "yesterday unless told"}, frozenset({"meter"})
    ),
    "peaks": Call("Monthly peaks.", _METER | _SPAN, frozenset({"meter"})),
}


async def raw(keys: Keys, session: Session, call: str, told: Mapping[str, str]) -> Any:
    """Make one of CALLS; raises ConfigError for a key that is missing, unknown or not understood."""
    _checked(call, told)
    if call == "config":
        return (await session.get(f"{keys.portal_url}{METADATA}", headers=keys.headers())).json()
    desk, meter = Desk(keys, session), _meter(keys, told["meter"])
    serial = told.get("serial", meter.serial[-1])
    if serial not in meter.serial:
        raise ConfigError("serial: is not one of this meter's in the configuration")
    last = _day(told, "day" if call == "intervals" else "to") or last_whole_day(session.now, meter.commodity)
    if call == "intervals":
        return await desk.history(meter, serial, Window(last, last, meter.commodity), keys.interval_code(meter))
    window = Window(_day(told, "from") or last - timedelta(days=9), last, meter.commodity)
    if call == "peaks":
        return await desk.spikes(meter, serial, window)
    return await desk.history(meter, serial, window, keys.day_code())


def _checked(call: str, told: Mapping[str, str]) -> None:
    if call not in CALLS:
        raise ConfigError(f"there is no such call; there are {', '.join(CALLS)}")
    if unknown := sorted(told.keys() - CALLS[call].keys.keys()):
        raise ConfigError(f"{call} has no key {unknown[0]}")
    if missing := sorted(CALLS[call].required - told.keys()):
        raise ConfigError(f"{call} needs the key {missing[0]}")


def _meter(keys: Keys, told: str) -> Meter:
    for index, meter in enumerate(keys.meters):
        if told in (str(index), meter.ean):
            return meter
    raise ConfigError(f"meter: is 0 to {len(keys.meters) - 1}, or the EAN of one of them")


def _day(told: Mapping[str, str], key: str) -> date | None:
    try:
        return date.fromisoformat(told[key]) if key in told else None
    except ValueError:
        raise ConfigError(f"{key}: is not a day like 2031-03-09") from None
