"""What a recording shows of Mijn Fluvius as it is."""

from exporter.client.html_forms import PAGE_PHRASES
from exporter.portals.fluvius.login_errors import TEXT_MESSAGES
from exporter.portals.fluvius.login_page import SECOND_FACTOR, TERMS
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
