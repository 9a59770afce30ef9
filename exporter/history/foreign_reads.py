"""Remote reads of metrics that have no history here: Prometheus asks for each selector of each query, whatever its name.

They are answered where they arrive, at a tenth of what the way to the worker and back costs.
"""

from google.protobuf.message import DecodeError

from exporter.history import encoding
from exporter.history.config import MAX_MATCHERS, MAX_QUERIES
from exporter.history.remote_pb2 import LabelMatcher, Query, QueryResult, ReadRequest, ReadResponse
from exporter.history.series import HISTORY_FAMILIES

MAX_BYTES = 4096
"""Larger requests go to the worker, unseen."""
_NAMES = frozenset(family.name for family in HISTORY_FAMILIES.values())


def build_empty_response(body: bytes) -> bytes | None:
    """Return the response to a request all of whose queries name other metrics; None for any other, and for one to be refused."""
    if len(body) > MAX_BYTES:
        return None
    try:
        message = ReadRequest.FromString(encoding.decompress(body, MAX_BYTES))
    except (ValueError, DecodeError):
        return None
    accepts_samples = not message.accepted_response_types or ReadRequest.SAMPLES in message.accepted_response_types
    if not (accepts_samples and 0 < len(message.queries) <= MAX_QUERIES and all(map(_is_foreign, message.queries))):
        return None
    return encoding.compress(ReadResponse(results=[QueryResult()] * len(message.queries)).SerializeToString())


def _is_foreign(query: Query) -> bool:
    """Return whether a query names a metric that has no history series; its other expressions are not tried."""
    matchers = query.matchers
    if len(matchers) > MAX_MATCHERS or any(matcher.type not in LabelMatcher.Type.values() for matcher in matchers):
        return False
    return any(
        (matcher.type, matcher.name) == (LabelMatcher.EQ, "__name__") and matcher.value not in _NAMES for matcher in matchers
    )
