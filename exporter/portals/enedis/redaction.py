"""What a recording shows of Enedis and the gateways to it as it is."""

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
