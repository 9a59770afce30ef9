"""What a portal's key of a kind of register means, in words for people."""

from collections.abc import Mapping

CEM_PREFIX = "LB_POCTYP_"
_CEM_KINDS: Mapping[str, str] = {
    "ELVT": "high tariff",
    "ELNT": "low tariff",
    "SV": "cold water",
    "EL": "electricity",
    "TV": "hot water",
    "PLY": "gas",
    "INTEP": "indoor temperature",
    "TEP": "degree-days",
    "OUTTEP": "outdoor temperature",
    "PROTEP": "temperature",
    "TEPPRUM": "mean degree-days",
    "VLH": "humidity",
    "KALKWH": "heat",
    "KALGJ": "heat",
    "TLAKKPA": "pressure",
    "TEPDIL": "heat cost units",
    "CO2": "CO2",
    "KLAPK": "flap",
    "VSTUPTEPL": "flow temperature",
    "VYSTUPTEPL": "return temperature",
    "SVVEL": "cold water, large meter",
    "TVVEL": "hot water, large meter",
    "VZDA": "distance",
    "TEPHCA": "heat cost allocator",
    "TLAK": "pressure",
    "KAP": "volume of a tank",
    "ELDOD": "injection",
    "KONT": "contact",
    "CITAC": "counter",
    "U": "voltage",
    "ELQI": "reactive energy, inductive",
    "ELQC": "reactive energy, capacitive",
    "STRCINVYK": "active power",
    "STRJALVYK": "reactive power",
    "TGFI": "tan phi",
    "ELSO": "electricity of an interval",
    "ELQCS": "reactive energy of an interval",
    "CO2MAX": "highest CO2",
    "TVOC": "TVOC",
    "TVOCMAX": "highest TVOC",
    "KALCHGJ": "cold",
    "KALCHKWH": "cold",
    "KALTGJ": "heat",
    "KALTKWH": "heat",
    "DVERE": "door",
    "ZAPLA": "flooding",
    "SECURE": "tamper contact",
    "CH4": "methane",
    "RSSI": "radio signal",
}


def find_kind(key: str) -> str:
    """Return the kind in words, or an empty text where it is not known."""
    return _CEM_KINDS.get(key.removeprefix(CEM_PREFIX), "")


def name_kind(key: str) -> str:
    """Return the kind in words, the portal's own key where it is not known, or an empty text without one."""
    return find_kind(key) or key
