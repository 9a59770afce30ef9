"""Remote reads of metrics that have no history here: Prometheus asks for each selector of each query, whatever its name.

They are answered where they arrive, at a tenth of what the way to the worker and back costs.
"""

from google.protobuf.message import DecodeError

from exporter.history import encoding
from exporter.history.remote_pb2 import LabelMatcher, Query, QueryResult, ReadRequest, ReadResponse
from exporter.history.series import HISTORY_FAMILIES

MAX_BYTES = 4096
"""Larger requests go to the worker, unseen."""
_NAMES = frozenset(family.name for family in HISTORY_FAMILIES.values())


def build_empty_response(body: bytes) -> bytes | None:
    """Return the response to a request all of whose queries name other metrics; None for any other request."""
    try:
        message = ReadRequest.FromString(encoding.decompress(body, MAX_BYTES)) if len(body) <= MAX_BYTES else None
    except (ValueError, DecodeError):
        return None  # the worker says what is wrong with it
    if message is None or not message.queries or not all(map(_is_foreign, message.queries)):
        return None
    if message.accepted_response_types and ReadRequest.SAMPLES not in message.accepted_response_types:
        return None
    return encoding.compress(ReadResponse(results=[QueryResult()] * len(message.queries)).SerializeToString())


def _is_foreign(query: Query) -> bool:
    """Return whether a query names a metric that has no history series."""
    return any(
        (matcher.type, matcher.name) == (LabelMatcher.EQ, "__name__") and matcher.value not in _NAMES
        for matcher in query.matchers
    )
