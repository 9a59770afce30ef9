"""What a recording shows of CEM as it is."""

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
