"""The code lists of CEM: counter types, units and kinds of value, the same in every account."""

from typing import Any

UNITS = {
    1: "kWh", 2: "GJ", 3: "m³", 4: "°C", 5: "KPD°", 6: "%", 7: "kPa", 8: "HCA", 9: "ppm ", 10: "dBm", 11: "V", 13: "cm",
    15: "díl.", 16: "l", 17: "bar", 23: "kW", 26: "ppb", 100: "jedn.", 102: " ", 103: "kVArh",
}  # fmt: skip
TYPES = (
    (1, "ELVT", 1, 1), (2, "ELNT", 1, 1), (3, "SV", 3, 1), (4, "EL", 1, 1), (5, "TV", 3, 1), (6, "PLY", 3, 1),
    (7, "INTEP", 4, 0), (8, "TEP", 5, 3), (9, "OUTTEP", 4, 0), (10, "PROTEP", 4, 0), (11, "TEPPRUM", 5, 1),
    (12, "VLH", 6, 0), (13, "KALKWH", 1, 1), (14, "KALGJ", 2, 1), (15, "TLAKKPA", 7, 0), (16, "TEPDIL", 15, 1),
    (17, "CO2", 9, 0), (18, "KLAPK", 100, 2), (19, "VSTUPTEPL", 4, 0), (20, "VYSTUPTEPL", 4, 0), (21, "SVVEL", 3, 1),
    (22, "TVVEL", 3, 1), (23, "VZDA", 13, 0), (24, "TEPHCA", 8, 1), (25, "TLAK", 17, 0), (26, "KAP", 16, 0),
    (27, "ELDOD", 1, 1), (28, "KONT", 102, 2), (29, "CITAC", 102, 1), (30, "U", 11, 0), (31, "ELQI", 103, 1),
    (32, "ELQC", 103, 1), (33, "STRCINVYK", 23, 0), (34, "STRJALVYK", 23, 0), (35, "TGFI", 100, 0), (36, "ELSO", 1, 3),
    (37, "ELQCS", 103, 3), (38, "CO2MAX", 9, 0), (39, "TVOC", 26, 0), (40, "TVOCMAX", 26, 0), (41, "KALCHGJ", 2, 1),
    (42, "KALCHKWH", 1, 1), (43, "KALTGJ", 2, 1), (44, "KALTKWH", 1, 1), (45, "DVERE", 102, 2), (46, "ZAPLA", 102, 2),
    (47, "SECURE", 102, 2), (48, "CH4", 6, 0), (101, "RSSI", 10, 0), (1000, "OBPR", 100, 1), (1001, "OBAB", 100, 0),
    (1002, "OBSO", 100, 3),
)  # fmt: skip
"""Number, key, unit, kind of value."""
CODE_LISTS = {
    "50": {0: "Absolutní", 1: "Přírustková", 2: "Výčtová", 3: "Absolutní součtová"},
    "135": {1: "Vodoměr", 2: "Elektroměr", 3: "Plynoměr", 4: "Teploměr", 5: "Měřič tepla", 6: "Tlakoměr", 10: "Čidlo"},
}


def build_counter_types() -> list[dict[str, Any]]:
    """Return the response of id=222."""
    return [
        {
            "pot_id": number,
            "lt_key": f"LB_POCTYP_{key}",
            "jed_id": unit,
            "jed_nazev": UNITS[unit],
            "jed_zkr": UNITS[unit],
            "pot_type": kind,
            "ptv_id": None,
            "pot_defcolor": "#0000C0",
        }
        for number, key, unit, kind in TYPES
    ]


def build_code_list(number: str) -> list[dict[str, Any]]:
    """Return the response of id=11; its order is arbitrary, as the portal's."""
    return [
        {"cik_fk": key, "cik_nazev": name, "lt_key": f"LB_CIS_{number}_{key}", "cik_cislo": 0, "cik_pzn": "", "cik_akt": True}
        for key, name in reversed(CODE_LISTS[number].items())
    ]
