"""The calls of the command `raw` at Enedis, the same for every access, and what a recording shows as it is."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from exporter.errors import NoDataError, ResponseError
from exporter.portals.base import RawCall
from exporter.portals.enedis.client import ApiRequest, EnedisApiClient, MyElectricalDataV1Client
from exporter.portals.enedis.measures import MEASURES, ConfiguredPoint
from exporter.portals.enedis.timestamps import local_day
from exporter.recording.rules import RedactionRules

_WORDS = """
BRUT BEST GLOBALE DIFF.INDEX INTEG.COURBE MESURE CONS PROD EA PA PMA COL Wh kWh W kW VA kVA C5 P4 AMM SERVC
BASE HC HP HCB HPB HCH HPH HCBC HPBC HCJB HPJB HCJW HPJW HCJR HPJR HCBHC HN PM GRD-F GRD-A
"""

REDACTION = RedactionRules(
    package=__package__,
    amounts=frozenset({"v", "value", "subscribed_power"}),
    code_patterns=(
        r"ADAM[-_][A-Z]{2,3}[-_]?\d{4}",
        r"STM-ERR-\d{7}",
        r"\b900[89]\d\d\b",
        r"\bPT\d{1,2}[HM]\b",
        r"\bP1[DMY]\b",
        r"Contrat GRD-[AF]",
    ),
    words=frozenset(_WORDS.split()),
)

POINT_PARAMETER = {"usage_point": "its position in usage_points (from 0), its alias or its PRM; the first when left out"}
DAY_PARAMETERS = {
    "from": "first local day, YYYY-MM-DD; seven days ago when left out",
    "to": "last local day; yesterday when left out",
}
MEASURE_DESCRIPTIONS = {
    "days": "energy of each day",
    "max": "highest power of each day",
    "index": "registers of each tariff class",
    "curve": "mean power of each interval",
}
RAW_CALLS: Mapping[str, RawCall] = {
    **{
        measure.key: RawCall(f"{measure.direction}: {MEASURE_DESCRIPTIONS[measure.kind]}", POINT_PARAMETER | DAY_PARAMETERS)
        for measure in MEASURES
    },
    "contract": RawCall("the contract, its customer included", POINT_PARAMETER),
    "valid_access": RawCall("myelectricaldata v1: state of token and consent", POINT_PARAMETER),
}


async def fetch_raw(client: EnedisApiClient, points: Sequence[ConfiguredPoint], call: str, parameters: Mapping[str, str]) -> Any:
    """Return the response to one call.

    Raise ResponseError for an invalid parameter, NoDataError where the access does not offer the call.
    """
    request = _build_request(client, _find_point(points, parameters.get("usage_point", "0")), call, parameters)
    if request is None:
        raise NoDataError(f"this access does not offer {call}")
    return await client.fetch_json(request)


def _build_request(
    client: EnedisApiClient, point: ConfiguredPoint, call: str, parameters: Mapping[str, str]
) -> ApiRequest | None:
    if call == "contract":
        return client.build_contract_request(point)
    if call == "valid_access":
        return client.build_access_request(point) if isinstance(client, MyElectricalDataV1Client) else None
    found = [measure for measure in MEASURES if measure.key == call and (point.registers or measure.kind != "index")]
    today = local_day(client.session.now)
    first = _parse_day(parameters, "from", today - timedelta(days=7))
    last = _parse_day(parameters, "to", today - timedelta(days=1))
    return client.build_measure_request(point, found[0], first, last + timedelta(days=1)) if found else None


def _find_point(points: Sequence[ConfiguredPoint], text: str) -> ConfiguredPoint:
    for position, point in enumerate(points):
        if text in (str(position), point.display_name, point.prm):
            return point
    raise ResponseError(f"usage_point: not found; use 0 to {len(points) - 1}, or an alias")


def _parse_day(parameters: Mapping[str, str], key: str, default: date) -> date:
    try:
        return date.fromisoformat(parameters[key]) if key in parameters else default
    except ValueError:
        raise ResponseError(f"{key}: is not a day; write it like 2026-11-01") from None
