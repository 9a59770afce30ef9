"""What `raw` offers: every resource of a usage point, by the same names in all three ways."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from exporter.errors import NoDataError, ResponseError
from exporter.portals.base import Call
from exporter.portals.enedis.measures import MEASURES
from exporter.portals.enedis.myelectricaldata import MyElectricalDataV1
from exporter.portals.enedis.stamps import local_day
from exporter.portals.enedis.way import Ask, Point, Way

WHO = {"usage_point": "its place in usage_points (from 0), its alias or its PRM; the first when left out"}
WHEN = {"from": "first local day, YYYY-MM-DD; seven days ago when left out", "to": "last local day; yesterday when left out"}
HELP = {
    "days": "energy of each day",
    "max": "largest power of each day",
    "index": "register readings of each tariff class",
    "curve": "mean power of each interval",
}
CALLS: Mapping[str, Call] = {
    **{measure.key: Call(f"{measure.direction}: {HELP[measure.kind]}", WHO | WHEN) for measure in MEASURES},
    "contract": Call("the contract, its customer included", WHO),
    "valid_access": Call("myelectricaldata v1: state of token and consent", WHO),
}


async def ask(way: Way, points: Sequence[Point], call: str, keys: Mapping[str, str]) -> Any:
    """Make one call. Raises ResponseError for a key that cannot be used, NoDataError for what this access does not give."""
    question = _question(way, _chosen(points, keys.get("usage_point", "0")), call, keys)
    if question is None:
        raise NoDataError(f"this access does not give {call}")
    return await way.json(question)


def _question(way: Way, point: Point, call: str, keys: Mapping[str, str]) -> Ask | None:
    if call == "contract":
        return way.contract(point)
    if call == "valid_access":
        return way.access(point) if isinstance(way, MyElectricalDataV1) else None
    found = [measure for measure in MEASURES if measure.key == call and way.offers(measure)]
    today = local_day(way.session.now)
    first = _day(keys, "from", today - timedelta(days=7))
    last = _day(keys, "to", today - timedelta(days=1))
    return way.measure(point, found[0], first, last + timedelta(days=1)) if found else None


def _chosen(points: Sequence[Point], who: str) -> Point:
    for place, point in enumerate(points):
        if who in (str(place), point.called, point.prm):
            return point
    raise ResponseError(f"usage_point: no such one; give 0 to {len(points) - 1}, or an alias")


def _day(keys: Mapping[str, str], key: str, otherwise: date) -> date:
    try:
        return date.fromisoformat(keys[key]) if key in keys else otherwise
    except ValueError:
        raise ResponseError(f"{key}: is not a day; write it like 2026-11-01") from None
