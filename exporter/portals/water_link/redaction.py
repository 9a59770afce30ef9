"""What a recording shows of Water-Link as it is."""

from exporter.portals.water_link.auth import LOCKED, MAINTENANCE
from exporter.recording.rules import RedactionRules

REDACTION = RedactionRules(
    package=__package__,
    amounts=frozenset({"meterReading", "total"}),
    codes=frozenset({"day", "daysOffset", "index", "size"}),
    phrases=(MAINTENANCE, LOCKED),
)
