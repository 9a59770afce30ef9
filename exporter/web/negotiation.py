"""Content negotiation: the headers of a request decide the format of the metrics page, its version and escaping, and gzip."""

import re
from dataclasses import dataclass

from exporter.metrics.exposition import OPENMETRICS, TEXT

TEXT_VERSIONS, OPENMETRICS_VERSIONS = ("0.0.4", "1.0.0"), ("1.0.0", "0.0.1")
"""The versions we write, the default one first. Their bodies are equal for us: all our names are valid in every version."""
ESCAPINGS = frozenset(("allow-utf-8", "underscores", "dots", "values"))


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The format of a body, and the Content-Type it is sent with."""

    format: str
    """TEXT or OPENMETRICS of `exporter.metrics.exposition`."""
    content_type: str


DEFAULT = Negotiated(TEXT, TEXT)


def negotiate(accept: str | None) -> Negotiated:
    """Return the format that a client prefers; text 0.0.4 for a header that is absent, unknown or invalid."""
    best, best_quality = DEFAULT, 0.0
    for part in (accept or "").split(","):
        kind, *rest = (piece.strip().lower() for piece in part.split(";"))
        parameters = dict(_split_parameter(piece) for piece in rest)
        offer, quality = _find_offer(kind, parameters), _parse_quality(parameters.get("q", "1"))
        if offer and quality > best_quality:  # of equal qualities the first one named wins
            best, best_quality = offer, quality
    return best


def accepts_gzip(accept: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip."""
    for part in accept.lower().split(","):
        coding, *parameters = (piece.strip().replace(" ", "") for piece in part.split(";"))
        if coding in ("gzip", "*"):
            return not any(parameter in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters)
    return False


def _find_offer(kind: str, parameters: dict[str, str]) -> Negotiated | None:
    version, escaping = parameters.get("version", ""), parameters.get("escaping", "")
    suffix = f"; escaping={escaping}" if escaping in ESCAPINGS else ""
    match kind:
        case "application/openmetrics-text" if version in ("", *OPENMETRICS_VERSIONS):
            version = version or OPENMETRICS_VERSIONS[0]
            return Negotiated(OPENMETRICS, f"application/openmetrics-text; version={version}; charset=utf-8{suffix}")
        case "text/plain" if version in ("", *TEXT_VERSIONS):
            version = version or TEXT_VERSIONS[0]
            return Negotiated(TEXT, f"text/plain; version={version}; charset=utf-8{suffix}")
        case "text/*" | "*/*":
            return DEFAULT
    return None


def _split_parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip().strip('"')


def _parse_quality(text: str) -> float:
    """Return a quality from 0 to 1; 0, not acceptable, where it is invalid."""
    return min(float(text), 1.0) if re.fullmatch(r"[01](?:\.[0-9]{0,3})?", text) else 0.0
